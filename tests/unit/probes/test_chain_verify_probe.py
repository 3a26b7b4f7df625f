"""`chain_verify_api`: the platform's word on its own chain, alone and beside tocsin's walk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.probing import Probed, probe_once
from tests.unit.probes.lying_servers import answering, serving
from tocsin.sdk.state_files import write_atomically
from tocsin_chain.breaks import Break, BreakKind
from tocsin_chain.marks import Marks, OpenBreak
from tocsin_chain.recall import sealed
from tocsin_chain.vault import create_key
from tocsin_probes.chain_verify_api import ChainVerifyApi

BROKEN = OpenBreak("t1", Break(BreakKind.GAP, (7,), (7,), 0), 1.0)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    return tmp_path / "chain"


def known(state: Path, marks: Marks) -> None:
    key = create_key(state / "key")
    write_atomically(state / "audit.mark", sealed(key, marks))


async def asked(body: str, status: str = "200 OK", memory: dict[str, Any] | None = None, **settings: str) -> Probed:
    async with serving(answering(body, status=status)) as port:
        url = f"http://127.0.0.1:{port}/admin/audit/verify"
        probe = ChainVerifyApi(ChainVerifyApi.Settings.model_validate({"url": url, **settings}))
        return await probe_once(probe, memory=memory)


async def test_the_platforms_word_alone(state: Path) -> None:
    assert (await asked('{"verified": true}')).verdict == ("ok", None)
    assert (await asked('{"verified": false}')).verdict == ("failed", "chain_broken")
    assert (await asked('{"result": {"intact": false}}', verified="result.intact")).verdict == (
        "failed",
        "chain_broken",
    )


async def test_an_answer_is_compared_with_the_last_one(state: Path) -> None:
    """What broke since then is another matter than what has been broken for long."""
    said, memory = [], dict[str, Any]()
    for verified in ("false", "true", "false", "false"):
        said.append((await asked(f'{{"verified": {verified}}}', memory=memory)).detail)
    broken = "the platform says that the chain is broken"
    assert said == [broken, "verified", f"{broken}; it said verified the last time", broken]
    assert memory == {"verified": False}


@pytest.mark.parametrize("body", ['{"verified": "true"}', '{"verified": 1}', "{}", "[]", "<html>"])
async def test_what_is_not_true_or_false_is_never_ok(state: Path, body: str) -> None:
    assert (await asked(body)).verdict == ("failed", "unexpected_body")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("401", ("unknown", "credentials_rejected")),
        ("404", ("failed", "not_found")),
        ("503", ("failed", "server_error")),
    ],
)
async def test_other_statuses_have_their_reasons(state: Path, status: str, verdict: tuple[str, str]) -> None:
    assert (await asked("{}", status)).verdict == verdict


async def test_a_break_that_the_platform_does_not_see_is_a_disagreement(state: Path) -> None:
    known(state, Marks("audit", "w", open=(BROKEN,), full_walk_at=5.0))
    probed = await asked('{"verified": true}', compare_with="audit")
    assert probed.verdict == ("failed", "verifier_disagrees")
    assert probed.detail == "the platform says verified; tocsin knows gap"
    assert (await asked('{"verified": false}', compare_with="audit")).verdict == ("failed", "chain_broken")


async def test_a_break_that_only_the_platform_sees_is_a_disagreement_after_a_full_walk(state: Path) -> None:
    known(state, Marks("audit", "w", full_walk_at=5.0))
    assert (await asked('{"verified": false}', compare_with="audit")).verdict == ("failed", "verifier_disagrees")
    assert (await asked('{"verified": true}', compare_with="audit")).verdict == ("ok", None)
    known(state, Marks("audit", "w"))
    assert (await asked('{"verified": false}', compare_with="audit")).verdict == ("failed", "chain_broken")


async def test_nothing_to_compare_with_is_unknown(state: Path) -> None:
    assert (await asked('{"verified": true}', compare_with="audit")).verdict == ("unknown", "dependency_unknown")
    known(state, Marks("audit", "w", open=(BROKEN,)))
    (state / "audit.mark").write_bytes((state / "audit.mark").read_bytes() + b" ")
    assert (await asked('{"verified": true}', compare_with="audit")).verdict == ("unknown", "dependency_unknown")
