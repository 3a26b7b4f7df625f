"""The record of what was accepted and why: append-only, each line chained to the one before and authenticated."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tocsin_chain.vault import OwnKey

PURPOSE = "chain accept log"
START = "0" * 64


class LogBroken(ValueError):
    """The accept log was edited or cut. The text says in which line."""


@dataclass(frozen=True, slots=True)
class LogState:
    """``records``: how many there are. ``head``: the MAC of the last one."""

    records: int = 0
    head: str = START


def append(path: Path, key: OwnKey, record: Mapping[str, Any]) -> LogState:
    """Adds a record and forces it to disk. Raises `LogBroken` when what is there does not verify, and `OSError`."""
    state = verify(path, key)
    body = {**record, "number": state.records + 1, "previous": state.head}
    tag = _tag(key, body)
    line = json.dumps({**body, "mac": tag}, sort_keys=True, ensure_ascii=False)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return LogState(state.records + 1, tag)


def verify(path: Path, key: OwnKey) -> LogState:
    """The length and head of the log; an absent file is an empty log. Raises `LogBroken`."""
    state = LogState()
    for record in read(path):
        body = {name: value for name, value in record.items() if name != "mac"}
        intact = (
            record.get("number") == state.records + 1
            and record.get("previous") == state.head
            and hmac.compare_digest(str(record.get("mac")), _tag(key, body))
        )
        if not intact:
            raise LogBroken(f"{path.name}, line {state.records + 1}: does not follow from the line before")
        state = LogState(state.records + 1, str(record["mac"]))
    return state


def read(path: Path) -> list[dict[str, Any]]:
    """The records as they stand there, unverified. Raises `LogBroken` for a line that is not a record."""
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise LogBroken(f"{path.name}, line {number}: not a record ({error})") from error
        if not isinstance(record, dict):
            raise LogBroken(f"{path.name}, line {number}: not a record")
        records.append(record)
    return records


def _tag(key: OwnKey, body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    return hmac.new(key.derive(PURPOSE), text, hashlib.sha256).hexdigest()
