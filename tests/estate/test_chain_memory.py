"""What is remembered of a chain, lost and manipulated in every way: never ok, never taken for a first run."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from estate.servers.minio import MinIO
from estate.servers.postgresql import PostgreSQL
from tests.estate.chain_platform import NAME, Platform, emptied, own_database, without_processes
from tocsin.sdk import HttpClient
from tocsin.sdk.state_files import read_if_there
from tocsin_chain import operations
from tocsin_chain.capture import verify_bundle
from tocsin_chain.operations import Refused, SignOff

pytestmark = pytest.mark.estate

SIGNED = SignOff("op", "test", "T-1", "CMP-1", "backup-1")


@pytest.fixture(scope="module")
def audited(postgresql: PostgreSQL) -> Iterator[str]:
    with own_database(postgresql) as name:
        yield name


@pytest.fixture
async def platform(
    postgresql: PostgreSQL, audited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path / "state"))
    without_processes(monkeypatch)
    made = Platform(postgresql, emptied(postgresql, audited), tmp_path / "state")
    made.settings["partition_by"] = ""
    made.settings["witness"] = {"file": str(tmp_path / "witness")}
    made.settings["full_walk"] = {"every": "365d"}
    made.probe = made._probe()
    await made.write(20)
    await made.bootstrap()
    yield made
    await made.close()


def mark(platform: Platform) -> Path:
    return platform.state / "chain" / f"{NAME}.mark"


def _edited(platform: Platform) -> None:
    text = mark(platform).read_text()
    tag, _, body = text.partition("\n")
    value = json.loads(body)
    value["chains"][""]["head"][2] += 1
    mark(platform).write_text(f"{tag}\n{json.dumps(value)}\n")


def _another_probe(platform: Platform) -> None:
    """A mark that authenticates, but for another probe of the same daemon."""
    from tocsin_chain.recall import sealed, unsealed
    from tocsin_chain.vault import load_key

    key = load_key(platform.state / "chain" / "key")
    marks = unsealed(key, NAME, mark(platform).read_bytes())
    from dataclasses import replace

    mark(platform).write_bytes(sealed(key, replace(marks, probe="another")))


LOST: dict[str, Callable[[Platform], object]] = {
    "deleted": lambda platform: mark(platform).unlink(),
    "emptied": lambda platform: mark(platform).write_bytes(b""),
    "truncated": lambda platform: mark(platform).write_bytes(mark(platform).read_bytes()[:-40]),
    "edited": _edited,
    "of another probe": _another_probe,
    "key deleted": lambda platform: (platform.state / "chain" / "key").unlink(),
    "key replaced": lambda platform: (platform.state / "chain" / "key").write_text("00" * 32 + "\n"),
    "state folder lost": lambda platform: shutil.rmtree(platform.state),
    "witness deleted": lambda platform: Path(platform.settings["witness"]["file"]).unlink(),
    "witness edited": lambda platform: Path(platform.settings["witness"]["file"]).write_bytes(b"0\n{}\n"),
    "accept log cut": lambda platform: mark(platform).with_name(f"{NAME}.mark.accepted").write_bytes(b""),
}


@pytest.mark.parametrize("how", sorted(LOST))
async def test_lost_memory_is_unknown_and_stays_so(platform: Platform, how: str) -> None:
    assert (await platform.run()).verdict == ("ok", None)
    LOST[how](platform)
    files = (mark(platform), Path(platform.settings["witness"]["file"]), platform.state / "chain" / "key")
    left = [read_if_there(file) for file in files]
    for _ in range(2):
        assert (await platform.run()).verdict == ("unknown", "mark_missing")
        await platform.write(2)
    assert [read_if_there(file) for file in files] == left, "nothing is made anew without an order"


async def test_an_older_valid_mark_is_a_rollback_even_when_the_table_was_cut_to_match(platform: Platform) -> None:
    older = mark(platform).read_bytes()
    newer = await platform.write(5)
    assert (await platform.run()).verdict == ("ok", None)
    mark(platform).write_bytes(older)
    probed = await platform.run()
    assert probed.verdict == ("failed", "rolled_back")
    platform.execute(f"DELETE FROM audit_logs WHERE seq >= {newer[0]}")
    probed = await platform.run()
    assert {one.reason for one in probed.outcome.findings} == {"rolled_back"}
    for _ in range(4):
        assert (await platform.run()).verdict == ("failed", "rolled_back")
    (bundle,) = (platform.state / "chain" / "evidence" / NAME).glob("2*")
    assert verify_bundle(bundle) == []


async def test_mark_and_witness_of_the_same_generation_that_differ_are_not_trusted(platform: Platform) -> None:
    witness = Path(platform.settings["witness"]["file"])
    generation = mark(platform).read_bytes()
    await platform.write(3)
    await platform.run()
    other = mark(platform).read_bytes()
    mark(platform).write_bytes(generation)
    witness.write_bytes(generation)
    await platform.write(4)
    await platform.run()
    witness.write_bytes(other)
    assert (await platform.run()).verdict == ("unknown", "mark_missing")


async def test_a_crash_between_mark_and_witness_heals(platform: Platform) -> None:
    witness = Path(platform.settings["witness"]["file"])
    behind = witness.read_bytes()
    await platform.write(3)
    await platform.run()
    witness.write_bytes(behind)
    assert (await platform.run()).verdict == ("ok", None)
    assert witness.read_bytes() == mark(platform).read_bytes()


async def test_a_witness_that_cannot_be_asked_leaves_the_run_undecided(platform: Platform) -> None:
    witness = Path(platform.settings["witness"]["file"])
    witness.unlink()
    witness.mkdir()
    assert (await platform.run()).verdict == ("unknown", "dependency_unknown")
    platform.execute("UPDATE audit_logs SET action = 'x' WHERE seq = (SELECT max(seq) FROM audit_logs)")
    assert (await platform.run()).verdict == ("failed", "modified")


async def test_bootstrap_never_takes_the_place_of_a_mark(platform: Platform) -> None:
    with pytest.raises(Refused, match="was bootstrapped already"):
        await platform.bootstrap()
    mark(platform).unlink()
    with pytest.raises(Refused, match="holds a mark of this chain"):
        await platform.bootstrap()


async def test_a_lost_state_folder_is_restored_from_the_witness_by_command(platform: Platform) -> None:
    key = (platform.state / "chain" / "key").read_bytes()
    log = mark(platform).with_name(f"{NAME}.mark.accepted").read_bytes()
    shutil.rmtree(platform.state)
    (platform.state / "chain").mkdir(parents=True)
    (platform.state / "chain" / "key").write_bytes(key)
    mark(platform).with_name(f"{NAME}.mark.accepted").write_bytes(log)
    assert (await platform.run()).verdict == ("unknown", "mark_missing")
    http = HttpClient.open()
    await operations.bootstrap_from_witness(platform.context(http), platform.configured())
    await http.close()
    assert (await platform.run()).verdict == ("ok", None)


async def test_a_second_daemon_takes_over_from_the_shared_witness(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "second"
    shutil.copytree(platform.state, second)
    (second / "chain" / "writer").unlink()
    await platform.write(5)
    assert (await platform.run()).verdict == ("ok", None)
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(second))
    await platform.write(5)
    probed = await platform.run()
    assert probed.verdict == ("ok", None)
    assert probed.detail == "5 new rows verified"
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(platform.state))
    assert (await platform.run()).verdict == ("ok", None)


async def test_the_witness_may_be_an_object_in_s3(platform: Platform, minio: MinIO, bucket: str) -> None:
    given = minio.session()
    platform.settings["witness"] = {
        "s3": {
            "endpoint_url": minio.url,
            "bucket": bucket,
            "access_key_id": given.access_key,
            "secret_access_key": given.secret_key,
            "session_token": given.session_token,
        }
    }
    platform.probe = platform._probe()
    assert (await platform.run()).verdict == ("unknown", "mark_missing")
    http = HttpClient.open()
    await operations.accept(platform.context(http), platform.configured(), SIGNED, rebaseline=True, workers=1)
    await http.close()
    assert (await platform.run()).verdict == ("ok", None)
    older = mark(platform).read_bytes()
    await platform.write(2)
    assert (await platform.run()).verdict == ("ok", None)
    mark(platform).write_bytes(older)
    assert (await platform.run()).verdict == ("failed", "rolled_back")
