"""kill -9 at random moments: the state file opens, with every transition that was acknowledged."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tocsin.board.database import Database, Retention, read_transitions

ROUNDS = 8
PROBES = ("a", "b", "c")
WRITER = """
import asyncio, sys
from pathlib import Path
from tocsin.board import Board, Store
from tocsin.model import CommonReason, Outcome, ProbeSpec, ProbeState, Run, Status

async def flap(board, probe, number):
    while True:
        number += 1
        status = Status.FAILED if number % 2 else Status.OK
        outcome = Outcome.bad(CommonReason.TIMEOUT) if number % 2 else Outcome.ok()
        state = ProbeState(status, 1.0, outcome.findings, str(number), alerting=bool(number % 2))
        await board.record(Run(probe, outcome, float(number), 0.1, str(number), "r"), state, {"number": number})
        print(probe, number, flush=True)

async def main():
    board = Board(Store(Path(sys.argv[1])))
    board.open()
    board.configure(ProbeSpec(name, "http", "s", "i", None) for name in sys.argv[2:])
    await asyncio.gather(*(flap(board, name, int(board.state(name).detail or 0)) for name in sys.argv[2:]))

asyncio.run(main())
"""


@pytest.mark.timeout(120)
def test_every_acknowledged_transition_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    dice = random.Random(20261123)
    acknowledged = dict.fromkeys(PROBES, 0)
    for _ in range(ROUNDS):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), *PROBES], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer, writer.stdout:
            for _ in range(dice.randint(1, 150)):
                probe, number = writer.stdout.readline().split()
                acknowledged[probe] = int(number)
            writer.kill()
            for line in writer.stdout:
                if line.endswith("\n") and len(line.split()) == 2:
                    probe, number = line.split()
                    acknowledged[probe] = int(number)

        database = Database(path, Retention())
        known, complaints = database.restore()
        database.close()
        assert complaints == []
        for probe in PROBES:
            number = int(known[probe, "http"].state.detail) if (probe, "http") in known else 0
            assert acknowledged[probe] <= number <= acknowledged[probe] + 1
            if number:
                latest = read_transitions(path, probe, 1)[0]
                assert (latest.detail, latest.alerting) == (str(number), bool(number % 2))
                assert known[probe, "http"].memory == f'{{"number":{number}}}'
                acknowledged[probe] = number
    assert sum(acknowledged.values()) > ROUNDS
