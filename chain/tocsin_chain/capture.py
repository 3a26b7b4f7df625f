"""Evidence of a break, kept before anyone acts: rows, MACs, mark, database, a signed manifest. Bounded; no secrets."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tocsin.sdk.state_files import write_atomically
from tocsin_chain.fragments import Key
from tocsin_chain.marks import ChainMark, Identity, OpenBreak, break_json, key_text, point_json
from tocsin_chain.settings import HashChainSettings, decoded
from tocsin_chain.source import Source, Stored
from tocsin_chain.vault import OwnKey

_README = """Evidence of a break in a hash chain, captured by tocsin before anyone acted.

affected.csv   the affected rows, as COPY (...) TO STDOUT CSV HEADER gave them
context.csv    the same with the rows before and behind
macs.csv       stored previous value, stored MAC and recomputed MAC of each of these rows
break.json     what was found, where, when; what was cut for size
mark.json      what was remembered of the chain
database.json  system identifier, timeline, position in the write-ahead log, version
manifest.json  SHA-256 of each file; SHA256SUMS says the same for sha256sum

Check the files:      sha256sum -c SHA256SUMS
Check the signature:  openssl pkeyutl -verify -pubin -inkey public-key.pem -rawin \\
                        -in manifest.json -sigfile manifest.sig
"""

_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


class CaptureFailed(Exception):
    """The evidence could not be kept. The text says why."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """One capture: the folder's name, and whether something was left out for size."""

    name: str
    cut: bool


async def capture(
    source: Source,
    settings: HashChainSettings,
    folder: Path,
    key: OwnKey,
    item: OpenBreak,
    mark: ChainMark | None,
    identity: Identity,
    now: float,
) -> Bundle:
    """Writes a bundle. Raises `CaptureFailed`, and `ProbeFault` for what the server does wrong."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    taken = sum(1 for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if taken >= settings.evidence.max_bundles:
        raise CaptureFailed(f"{folder} holds {taken} bundles already; move them to the incident's record")
    only = item.chain if source.layout.partition else None
    async with source.snapshot(settings.snapshot):
        before = await source.stored(
            chain=only, below=item.found.first, descending=True, limit=settings.evidence.neighbours or None
        )
        behind = await source.stored(chain=only, above=item.found.last, limit=settings.evidence.neighbours or None)
        low = before[-1].key if before else item.found.first
        high = behind[-1].key if behind else item.found.last
        affected, cut_affected = await _copy(source, settings, only, item.found.first, item.found.last)
        context, cut_context = await _copy(source, settings, only, low, high)
        rows = await source.stored(chain=only, above=low, upto=high, inclusive=True, limit=settings.evidence.max_rows)
    cut = cut_affected or cut_context
    files: dict[str, bytes] = {
        "README.txt": _README.encode(),
        "affected.csv": affected,
        "context.csv": context,
        "macs.csv": _macs(source, rows),
        "break.json": _json(
            {
                "chain": item.chain,
                "table": settings.table,
                **break_json(item.found),
                "found_at": datetime.fromtimestamp(item.since, UTC).isoformat(),
                "captured_at": datetime.fromtimestamp(now, UTC).isoformat(),
                "mode": settings.mode,
                "cut_for_size": cut,
            }
        ),
        "mark.json": _json(None if mark is None else _mark(mark)),
        "database.json": _json(
            {
                "system_identifier": identity.system,
                "timeline": identity.timeline,
                "wal_position": f"{identity.lsn >> 32:X}/{identity.lsn & 0xFFFFFFFF:X}",
                "server_version": identity.version,
            }
        ),
        "public-key.pem": key.public_pem(),
    }
    name = _NAME.sub(
        "-",
        f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{item.chain or 'chain'}-"
        f"{item.found.kind}-{key_text(item.found.first)}",
    )[:120]
    _write(folder, name, files, key)
    return Bundle(name, cut)


def verify_bundle(folder: Path, key: OwnKey | None = None) -> list[str]:
    """What is wrong with a bundle; nothing when it is as it was captured. ``key``: must have signed it."""
    problems = []
    try:
        manifest = (folder / "manifest.json").read_bytes()
        public = serialization.load_pem_public_key((folder / "public-key.pem").read_bytes())
        if key is not None and key.public_pem() != (folder / "public-key.pem").read_bytes():
            problems.append("it was signed with another key than tocsin's")
        assert isinstance(public, Ed25519PublicKey)
        public.verify((folder / "manifest.sig").read_bytes(), manifest)
        for name, digest in json.loads(manifest)["files"].items():
            content = (folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                problems.append(f"{name} was changed")
    except InvalidSignature:
        problems.append("the manifest's signature is not valid")
    except (OSError, ValueError, KeyError, AssertionError) as error:
        problems.append(f"it cannot be read: {error}")
    return problems


def _write(folder: Path, name: str, files: Mapping[str, bytes], key: OwnKey) -> None:
    """All files or none: a bundle is made under another name and moved when it is whole."""
    making = folder / f".{name}.{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    try:
        making.mkdir(mode=0o700)
        sums = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        manifest = _json({"format": 1, "key": key.fingerprint(), "files": sums})
        listing = "".join(f"{digest}  {file}\n" for file, digest in sums.items())
        for file, content in {
            **files,
            "manifest.json": manifest,
            "manifest.sig": key.signer().sign(manifest),
            "SHA256SUMS": listing.encode(),
        }.items():
            write_atomically(making / file, content)
        target, number = folder / name, 1
        while target.exists():
            number += 1
            target = folder / f"{name}.{number}"
        making.rename(target)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise CaptureFailed(f"cannot write evidence to {folder}: {error}") from error


async def _copy(
    source: Source, settings: HashChainSettings, chain: str | None, first: Key, last: Key
) -> tuple[bytes, bool]:
    """Rows as the platform's runbook asks for them, up to the limits; whether something was left out."""
    limit = settings.evidence.max_bytes // 2
    parts: list[bytes] = []
    size = 0

    async def keep(data: bytes) -> None:
        nonlocal size
        if size <= limit:
            parts.append(data)
        size += len(data)

    query, arguments = source.rows_query(chain, first, last, settings.evidence.max_rows + 1)
    await source.connection.copy_from_query(query, *arguments, output=keep, format="csv", header=True)
    content = b"".join(parts)
    if size > limit:
        content = whole_records(content, limit)
    rows = await source.count(chain, first, last)
    return content, size > limit or rows > settings.evidence.max_rows


def whole_records(content: bytes, limit: int) -> bytes:
    """The records of a CSV file that end within ``limit`` bytes; a line's end inside quotes ends none."""
    end = content.rfind(b"\n", 0, limit)
    while end >= 0 and content.count(b'"', 0, end) % 2:
        end = content.rfind(b"\n", 0, end)
    return content[: end + 1]


def _macs(source: Source, rows: Sequence[Stored]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["key", "stored_previous", "stored_mac", "expected_mac", "verdict", "follows_the_row_before"])
    before: bytes | None = None
    encoding = source.reading.mac_encoding
    for stored in rows:
        row = source.row(stored)
        verdict = (
            "not recomputed"
            if row.good is None and row.known_key
            else ("good" if row.good else "bad" if row.known_key else "no key")
        )
        follows = "" if before is None else "yes" if row.previous == before else "no"
        writer.writerow(
            [
                key_text(row.key),
                decoded(stored.previous, encoding).hex(),
                row.mac.hex(),
                row.expected.hex() if row.expected else "",
                verdict,
                follows,
            ]
        )
        before = row.mac
    return text.getvalue().encode()


def _mark(mark: ChainMark) -> dict[str, Any]:
    return {
        "first": point_json(mark.first),
        "head": point_json(mark.head),
        "checkpoints": [point_json(point) for point in mark.checkpoints],
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
