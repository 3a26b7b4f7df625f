"""Evidence of breaks, and what an operator does with them: capture, accept, and a chain that is whole again."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from estate.servers.postgresql import PostgreSQL
from tests.estate.chain_platform import KEY, NAME, Platform, emptied, mac_of, own_database, without_processes
from tocsin.cli.chain import chain
from tocsin.sdk import HttpClient
from tocsin_chain import acceptlog, operations
from tocsin_chain.breaks import BreakKind
from tocsin_chain.capture import verify_bundle
from tocsin_chain.memory import Memory
from tocsin_chain.operations import Refused, SignOff

pytestmark = pytest.mark.estate

SIGNED = SignOff("operator", "retired after review", "SEC-42", "CMP-7", "base-backup-20261123")


@pytest.fixture(scope="module")
def audited(postgresql: PostgreSQL) -> Iterator[str]:
    with own_database(postgresql) as name:
        yield name


@pytest.fixture
async def platform(
    postgresql: PostgreSQL, audited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    without_processes(monkeypatch)
    made = Platform(postgresql, emptied(postgresql, audited), tmp_path)
    made.settings["key_id_column"] = "key_id"
    made.probe = made._probe()
    made.execute("ALTER SEQUENCE audit_logs_seq_seq INCREMENT BY 3")
    await made.write(30, "t1", "t2")
    await made.bootstrap()
    yield made
    await made.close()


def test_there_is_a_way_to_each_kind_of_break() -> None:
    assert set(KINDS) == set(BreakKind)


def bundles(platform: Platform) -> list[Path]:
    return sorted((platform.state / "chain" / "evidence" / NAME).glob("2*"))


def rows_of(bundle: Path, name: str) -> list[dict[str, str]]:
    with (bundle / name).open(newline="") as file:
        return list(csv.DictReader(file))


def tool(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


# One way to each kind of break; the platform appends two rows to what is left for `rolled_back`.
KINDS = {
    "modified": "UPDATE audit_logs SET action = 'x' WHERE seq = {7}",
    "gap": "DELETE FROM audit_logs WHERE seq = {7}",
    "reordered": "UPDATE audit_logs SET seq = -1 WHERE seq = {7}; UPDATE audit_logs SET seq = {7} WHERE seq = {9};"
    "UPDATE audit_logs SET seq = {9} WHERE seq = -1",
    "duplicated": "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) SELECT seq + 1, tenant_id,"
    " principal, action, prev_hmac, hmac FROM audit_logs WHERE seq = {7}",
    "head_truncated": "DELETE FROM audit_logs WHERE tenant_id = 't1' AND seq <= {2}",
    "tail_truncated": "DELETE FROM audit_logs WHERE tenant_id = 't1' AND seq >= {12}",
    "rolled_back": "DELETE FROM audit_logs WHERE tenant_id = 't1' AND seq >= {12}",
    "key_unknown": "UPDATE audit_logs SET key_id = 'k9' WHERE seq = {7}",
    "forked": "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) SELECT seq + 1, tenant_id, "
    "'second', 'writer', hmac, '{mac}' FROM audit_logs WHERE seq = {7}",
}


async def broken(platform: Platform, kind: str) -> None:
    seqs = [int(row[0]) for row in platform.execute("SELECT seq FROM audit_logs WHERE tenant_id = 't1' ORDER BY seq")]
    (at,) = platform.execute(f"SELECT hmac FROM audit_logs WHERE seq = {seqs[7]}")
    platform.execute(KINDS[kind].format(*seqs, mac=mac_of(at[0], "t1", "second", "writer")))
    if kind == "rolled_back":
        await platform.write(2, "t1")
    await platform.full_walk()
    probed = await platform.run()
    assert probed.outcome.reason == kind


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_the_evidence_of_each_kind_opens_with_standard_tools_and_holds_no_secret(
    platform: Platform, kind: str
) -> None:
    await broken(platform, kind)
    (bundle,) = bundles(platform)
    assert kind in bundle.name
    assert verify_bundle(bundle) == []
    assert tool("sha256sum", "-c", "--strict", "SHA256SUMS", folder=bundle).returncode == 0
    signature = ("-inkey", "public-key.pem", "-rawin", "-in", "manifest.json", "-sigfile", "manifest.sig")
    assert tool("openssl", "pkeyutl", "-verify", "-pubin", *signature, folder=bundle).returncode == 0
    context, macs = rows_of(bundle, "context.csv"), rows_of(bundle, "macs.csv")
    assert {row["tenant_id"] for row in context} == {"t1"}
    assert len(context) == len(macs) > 0
    told = json.loads((bundle / "break.json").read_text())
    assert (told["kind"], told["chain"]) == (kind, "t1")
    assert json.loads((bundle / "mark.json").read_text())["head"]
    database = json.loads((bundle / "database.json").read_text())
    (system,) = platform.execute("SELECT system_identifier FROM pg_control_system()")
    assert database["system_identifier"] == system[0]
    assert database["server_version"].startswith("15")
    own = (platform.state / "chain" / "key").read_text().strip()
    for file in bundle.iterdir():
        content = file.read_bytes()
        for secret in (KEY, platform.server.password, own, platform.dsn):
            assert secret.encode() not in content, file
    assert {oct(file.stat().st_mode & 0o777) for file in bundle.iterdir()} == {"0o600"}


async def test_the_recomputed_mac_stands_beside_the_stored_one(platform: Platform) -> None:
    await broken(platform, "modified")
    (bundle,) = bundles(platform)
    bad = [row for row in rows_of(bundle, "macs.csv") if row["verdict"] == "bad"]
    assert len(bad) == 1
    assert bad[0]["stored_mac"] != bad[0]["expected_mac"]
    (affected,) = rows_of(bundle, "affected.csv")
    told = json.loads((bundle / "break.json").read_text())
    assert (told["first"], told["last"], told["rows"]) == ([int(affected["seq"])], [int(affected["seq"])], 1)
    written = datetime.fromisoformat(affected["created_at"]).timestamp()
    assert told["first_time"] == told["last_time"] == pytest.approx(written, abs=1e-3)
    assert len(rows_of(bundle, "context.csv")) == 11


async def test_evidence_is_bounded_in_rows_and_says_so(platform: Platform) -> None:
    platform.settings["evidence"] = {"max_rows": 4, "neighbours": 2}
    platform.probe = platform._probe()
    platform.execute("UPDATE audit_logs SET action = 'x' WHERE tenant_id = 't1'")
    await platform.full_walk()
    bundle = bundles(platform)[0]
    assert len(rows_of(bundle, "affected.csv")) <= 5
    assert json.loads((bundle / "break.json").read_text())["cut_for_size"] is True


async def test_one_break_is_captured_once(platform: Platform) -> None:
    await broken(platform, "modified")
    for _ in range(3):
        await platform.run()
    assert len(bundles(platform)) == 1


async def test_a_folder_that_takes_no_evidence_is_told_and_the_capture_made_up_for(platform: Platform) -> None:
    folder = platform.state / "chain" / "evidence"
    folder.write_text("in the way")
    platform.execute("UPDATE audit_logs SET action = 'x' WHERE seq = (SELECT max(seq) FROM audit_logs)")
    reasons = {one.reason for one in (await platform.run()).outcome.findings}
    assert reasons == {"modified", "evidence_failed"}
    folder.unlink()
    assert {one.reason for one in (await platform.run()).outcome.findings} == {"modified"}
    assert len(bundles(platform)) == 1


async def accept(platform: Platform, signed: SignOff = SIGNED, chains: tuple[str, ...] = ()) -> None:
    http = HttpClient.open()
    try:
        await operations.accept(platform.context(http), platform.configured(), signed, chains=chains, workers=1)
    finally:
        await http.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_after_an_accepted_reset_the_chain_is_whole_again_and_still_watched(
    platform: Platform, kind: str
) -> None:
    await broken(platform, kind)
    await accept(platform)
    assert (await platform.run()).verdict == ("ok", None)
    await platform.write(4, "t1", "t2")
    assert (await platform.full_walk()).verdict == ("ok", None)
    platform.execute("UPDATE audit_logs SET action = 'again' WHERE seq = (SELECT max(seq) FROM audit_logs)")
    assert (await platform.run()).verdict == ("failed", "modified")


async def test_one_chain_is_accepted_and_the_others_stay_told(platform: Platform) -> None:
    platform.execute(
        "UPDATE audit_logs SET action = 'x' WHERE seq IN (SELECT max(seq) FROM audit_logs GROUP BY tenant_id)"
    )
    told = {(one.reason, one.component) for one in (await platform.run()).outcome.findings}
    assert told == {("modified", "t1"), ("modified", "t2")}
    await accept(platform, chains=("t1",))
    told = {(one.reason, one.component) for one in (await platform.full_walk()).outcome.findings}
    assert told == {("modified", "t2")}


async def test_a_chain_that_is_broken_already_is_begun_only_with_a_reason_that_is_recorded(platform: Platform) -> None:
    platform.execute("DELETE FROM audit_logs WHERE seq = (SELECT min(seq) FROM audit_logs) + 30")
    memory = Memory(platform.configured(), NAME)
    memory.places.mark.unlink()
    with pytest.raises(Refused, match="the chain is broken already: gap at t1"):
        await platform.bootstrap()
    assert not memory.places.mark.exists()
    http = HttpClient.open()
    signed = SignOff("operator", "rows lost in 2024", "SEC-7")
    await operations.bootstrap(platform.context(http), platform.configured(), workers=1, known_broken=signed)
    await http.close()
    record = acceptlog.read(memory.places.accepted)[-1]
    assert (record["action"], record["ticket"], record["breaks"][0]["kind"]) == ("bootstrap", "SEC-7", "gap")
    assert (await platform.full_walk()).verdict == ("ok", None)
    platform.execute("UPDATE audit_logs SET action = 'x' WHERE seq = (SELECT min(seq) FROM audit_logs)")
    assert (await platform.full_walk()).verdict == ("failed", "modified")


async def test_retired_rows_are_a_new_break_until_accepted(platform: Platform) -> None:
    """RetireUnverifiableAuditRows removes the unverifiable rows; the chain then goes on behind a hole."""
    await broken(platform, "modified")
    platform.execute("DELETE FROM audit_logs WHERE action = 'x'")
    assert (await platform.full_walk()).outcome.reason == "gap"
    await platform.run()
    await accept(platform)
    assert (await platform.full_walk()).verdict == ("ok", None)


async def test_nothing_is_accepted_without_capture_sign_off_and_backup(platform: Platform) -> None:
    await broken(platform, "gap")
    for missing in ("reason", "ticket", "approval", "backup"):
        from dataclasses import replace

        with pytest.raises(Refused, match="is missing: nothing is accepted without"):
            await accept(platform, replace(SIGNED, **{missing: " "}))
    (bundle,) = bundles(platform)
    affected = bundle / "affected.csv"
    kept = affected.read_bytes()
    affected.write_bytes(kept + b"another row\n")
    with pytest.raises(Refused, match=r"affected\.csv was changed"):
        await accept(platform)
    affected.write_bytes(kept)
    await accept(platform)
    memory = Memory(platform.configured(), NAME)
    assert acceptlog.verify(memory.places.accepted, memory.key()).records == 2
    record = acceptlog.read(memory.places.accepted)[1]
    assert (record["operator"], record["ticket"], record["backup"]) == ("operator", "SEC-42", "base-backup-20261123")


async def test_the_accept_log_shows_any_edit(platform: Platform) -> None:
    await broken(platform, "gap")
    await accept(platform)
    log = Memory(platform.configured(), NAME).places.accepted
    log.write_text(log.read_text().replace("SEC-42", "SEC-43"))
    assert (await platform.run()).verdict == ("unknown", "mark_missing")


def in_a_process(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", "from tocsin.cli.chain import chain; chain()", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def in_this_process(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(chain, arguments)
    return done.exit_code, done.output


async def test_an_operators_whole_way_by_command(platform: Platform, tmp_path: Path) -> None:
    config = tmp_path / "tocsin.yaml"
    options = platform.configured().model_dump(
        mode="json", include={"table", "partition_by", "mac_column", "previous_column", "mode", "mac_encoding"}
    )
    probe = {
        **options,
        "kind": "hash_chain",
        "system": "alexandria",
        "incident": "audit-chain-verification",
        "dsn": platform.dsn,
        "payload": {"fields": ["prev_hmac", "tenant_id", "principal", "action"]},
        "keys": [{"id": "k1", "secret": KEY}],
        "every": "5m",
        "timeout": "30s",
    }
    config.write_text(json.dumps({"version": 1, "probes": {"audit": probe}}))

    async def said(*arguments: str, code: int, run: Callable[..., tuple[int, str]] = in_this_process) -> str:
        ended, text = await asyncio.to_thread(run, *arguments, "-c", str(config))
        assert ended == code, text
        return text

    assert "there is no high-water mark" in await said("status", code=3, run=in_a_process)
    assert "30 rows in 2 chains verified" in await said("bootstrap", code=0)
    assert "verified to" in await said("status", code=0)
    assert "was bootstrapped already" in await said("bootstrap", code=2)
    assert "30 rows in 2 chains" in await said("walk", code=0)
    inferred = await said("infer", "--column", "tenant_id", "--column", "principal", "--column", "action", code=0)
    assert "previous: first_text" in inferred or "prev_hmac" in inferred
    platform.execute("DELETE FROM audit_logs WHERE seq = (SELECT min(seq) FROM audit_logs) + 30")
    assert "gap in" in await said("walk", code=1)
    assert "does not stand (there is none)" in await said(
        "accept", "--reason", "r", "--ticket", "t", "--sign-off", "s", "--backup", "b", code=2
    )
    document = json.loads(await said("status", "--json", code=1))
    assert [item["kind"] for item in document["breaks"]] == ["gap"]
    assert "signature and hashes are valid" in await said("export", code=0)
    assert "accepted: gap" in await said(
        "accept", "--reason", "r", "--ticket", "t", "--sign-off", "s", "--backup", "b", code=0
    )
    assert json.loads(await said("status", "--json", code=0))["breaks"] == []
