"""What is done to the platform's own parts when a fault of `tocsin_sandbox.platform_faults` is caused or undone."""

from __future__ import annotations

import os
import time

from tocsin_sandbox.chain import CHAIN_ID
from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act
from tocsin_sandbox.serving import Mood, Site
from tocsin_sandbox.wipe import DATABASE, ORGANIZATION, TENANT

_DAY = 86400.0


def sql(*statements: str) -> Act:
    async def act(estate: Estate) -> None:
        await estate.database.execute_each(statements, database=DATABASE)

    return act


def assign(part: str, name: str, value: object) -> Act:
    async def act(estate: Estate) -> None:
        setattr(getattr(estate, part), name, value)

    return act


def stop(part: str) -> Act:
    async def act(estate: Estate) -> None:
        await getattr(estate, part).stop()

    return act


def start(part: str) -> Act:
    async def act(estate: Estate) -> None:
        await getattr(estate, part).start()

    return act


def mood(part: str, mood: Mood) -> Act:
    async def act(estate: Estate) -> None:
        site: Site = getattr(estate, part)
        site.mood = mood

    return act


def lines(service: str, text: str, count: int, source: str = "") -> Act:
    async def act(estate: Estate) -> None:
        for _ in range(count):
            estate.observability.log(service, text, source=source, planted=True)

    return act


async def forget_lines(estate: Estate) -> None:
    estate.observability.forget()


def fire(alert: str, **labels: str) -> Act:
    async def act(estate: Estate) -> None:
        estate.observability.firing[alert] = labels

    return act


def quiet(alert: str) -> Act:
    async def act(estate: Estate) -> None:
        estate.observability.firing.pop(alert, None)

    return act


async def stop_maintenance(estate: Estate) -> None:
    estate.life.maintained = False
    await estate.database.execute(
        "UPDATE maintenance_runs SET finished_at = now() - interval '2 days'", database=DATABASE
    )


async def start_maintenance(estate: Estate) -> None:
    estate.life.maintained = True
    await estate.database.execute("UPDATE maintenance_runs SET finished_at = now()", database=DATABASE)


async def forget_backup(estate: Estate) -> None:
    then = time.time() - 2 * _DAY
    os.utime(estate.wipe_backup, (then, then))


async def back_up(estate: Estate) -> None:
    estate.wipe_backup.touch()


async def lose_files(estate: Estate) -> None:
    await estate.database.execute(
        "INSERT INTO certificates "
        "(tenant_id, organization_id, status, anchor_chain_id, anchor_tx_hash, pdf_key, json_key) "
        f"VALUES ('{TENANT}', '{ORGANIZATION}', 'CERTIFIED', 'lost', 'fault', 'lost.pdf', 'lost.json')",
        database=DATABASE,
    )
    # Last: what cannot be caused, because the database is away, is not undone either.
    estate.life.loses_files = True


async def keep_files(estate: Estate) -> None:
    """The rows whose files were never written go, or they would stay lost for ever."""
    async with estate.life.between_pulses:
        estate.life.loses_files = False
        await estate.database.execute("DELETE FROM certificates WHERE anchor_chain_id = 'lost'", database=DATABASE)
        await estate.database.execute(
            "DELETE FROM certificates WHERE created_at > now() - interval '1 hour' AND id::text <> $1",
            estate.life.certificate,
            database=DATABASE,
        )


async def forget_anchor(estate: Estate) -> None:
    await estate.database.execute(
        "UPDATE certificates SET anchor_chain_id = anchor_tx_hash, anchor_tx_hash = '' WHERE id = $1::text::uuid "
        "AND anchor_tx_hash <> ''",
        estate.life.certificate,
        database=DATABASE,
    )


async def recall_anchor(estate: Estate) -> None:
    await estate.database.execute(
        "UPDATE certificates SET anchor_tx_hash = anchor_chain_id, anchor_chain_id = $2 WHERE id = $1::text::uuid "
        "AND anchor_tx_hash = ''",
        estate.life.certificate,
        str(CHAIN_ID),
        database=DATABASE,
    )


def assign_in_realm(realm: str, name: str, value: object) -> Act:
    async def act(estate: Estate) -> None:
        setattr(estate.identity.realms[realm], name, value)

    return act


def proofs(status: str, age: str, count: int) -> Act:
    return sql(
        "INSERT INTO proofs (tenant_id, organization_id, status, object_key, created_at) "
        f"SELECT '{TENANT}', '{ORGANIZATION}', '{status}', 'fault', now() - interval '{age}' "
        f"FROM generate_series(1, {count})"
    )


NO_PROOFS = sql("DELETE FROM proofs WHERE object_key = 'fault'")
