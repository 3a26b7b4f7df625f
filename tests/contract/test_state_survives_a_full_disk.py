"""A disk that takes no more bytes: probing goes on, it is said, and what was learned is written when there is room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

WRITER = """
import asyncio, json, resource, signal, sys, threading
from pathlib import Path
from tocsin.board import Board, Pace, Store
from tocsin.model import CommonReason, Outcome, ProbeSpec, ProbeState, Run, Status

async def record(board, number):
    outcome = Outcome.bad(CommonReason.TIMEOUT, "x" * 1500)
    state = ProbeState(Status.FAILED, 1.0, outcome.findings, str(number), alerting=bool(number % 2))
    await board.record(Run("api", outcome, float(number), 0.1, str(number), "r"), state, {"number": number})

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write past the limit is an error, as on a full disk
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    board = Board(Store(Path(sys.argv[1]), pace=Pace(batch=0.01, first_retry=0.01, last_retry=0.02)))
    board.open()
    board.configure([ProbeSpec("api", "http", "s", "i", None)])
    number = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, most))
    while board.condition().failing is None and number < 2000:
        await record(board, number := number + 1)
    failing = board.condition().failing
    for _ in range(20):
        await record(board, number := number + 1)
    seen = board.state("api").detail
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    board.close()
    print(json.dumps({"failing": failing, "number": number, "seen": seen, "after": board.condition().failing,
                      "failed_writes": board.condition().failed_writes, "aside": str(board.condition().moved_aside)}))

asyncio.run(main())
"""
READER = """
import sys
from pathlib import Path
from tocsin.board import Board, Store
from tocsin.model import ProbeSpec

board = Board(Store(Path(sys.argv[1])))
board.open()
board.configure([ProbeSpec("api", "http", "s", "i", None)])
print(board.state("api").detail, board.memory("api")["number"], board.runs("api", 1)[0].trace_id)
board.close()
"""


def test_a_full_disk_stops_nothing_and_is_caught_up_with(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    told = json.loads(_run(WRITER, path))
    number = told["number"]
    assert told["failing"] is not None
    assert told["seen"] == str(number)
    assert told["failed_writes"] >= 1
    assert told["after"] is None
    assert told["aside"] == "None"
    assert _run(READER, path).split() == [str(number)] * 3


def _run(program: str, path: Path) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    return finished.stdout.splitlines()[-1]
