"""Where one probe's chain memory lives: mark, witness, walk in progress, accept log, own key. One for probe and CLI."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from tocsin.sdk import ProbeContext
from tocsin.sdk.state_files import read_if_there, state_folder, write_atomically
from tocsin_chain import acceptlog
from tocsin_chain.marks import Marks
from tocsin_chain.recall import Doubt, Recalled, WitnessUnreachable, next_generation, recall, sealed
from tocsin_chain.settings import HashChainSettings
from tocsin_chain.vault import KeyMissing, OwnKey, SealBroken, load_key, seal, unseal
from tocsin_chain.walk import Progress, progress_from, progress_json
from tocsin_chain.witness import Witness, witness_of


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one probe."""

    key: Path
    mark: Path
    walk: Path
    accepted: Path
    writer: Path
    evidence: Path


def places_of(settings: HashChainSettings, probe: str) -> Places:
    """Where things are: under the state folder unless the settings say otherwise."""
    folder = state_folder() / "chain"
    mark = settings.mark.file or folder / f"{probe}.mark"
    return Places(
        key=settings.mark.key_file or folder / "key",
        mark=mark,
        walk=mark.with_name(f"{mark.name}.walk"),
        accepted=mark.with_name(f"{mark.name}.accepted"),
        writer=mark.with_name("writer"),
        evidence=settings.evidence.folder or folder / "evidence" / probe,
    )


class Memory:
    """Reads and writes what is remembered of one probe's chains."""

    def __init__(self, settings: HashChainSettings, probe: str) -> None:
        self.probe = probe
        self.places = places_of(settings, probe)
        self.witness: Witness | None = witness_of(settings.witness, probe)

    def key(self) -> OwnKey:
        """Raises `KeyMissing`."""
        return load_key(self.places.key)

    async def recall(self, ctx: ProbeContext) -> Recalled:
        """What is remembered, and whether to trust it. A mark that lacks anything is never taken for a first run."""
        held: bytes | WitnessUnreachable | None = None
        if self.witness is not None:
            try:
                held = await self.witness.read(ctx)
            except WitnessUnreachable as error:
                held = error
        return await asyncio.to_thread(self._recall, held)

    def _recall(self, held: bytes | WitnessUnreachable | None) -> Recalled:
        try:
            key = self.key()
            mark = read_if_there(self.places.mark)
            writer = self.writer()
        except (KeyMissing, OSError) as error:
            return Recalled(None, Doubt.MISSING, f"tocsin's own key or mark cannot be read: {error}")
        result = recall(key, self.probe, mark, held, has_witness=self.witness is not None, writer=writer)
        if result.marks is None or result.doubt is Doubt.MISSING:
            return result
        try:
            log = acceptlog.verify(self.places.accepted, key)
        except (acceptlog.LogBroken, OSError) as error:
            return Recalled(result.marks, Doubt.MISSING, f"the record of what was accepted is damaged: {error}")
        same_length = log.records == result.marks.accept_records
        if log.records < result.marks.accept_records or (
            same_length and log.records and log.head != result.marks.accept_head
        ):
            return Recalled(result.marks, Doubt.MISSING, "the record of what was accepted was cut")
        return result

    async def save(self, ctx: ProbeContext, marks: Marks, now: float) -> tuple[Marks, str]:
        """Writes a new generation: the mark first, then the witness, so that the witness is never ahead. The text
        says why the witness could not be written; empty when it was, or when there is none. Raises `OSError`."""
        key = self.key()
        marks = next_generation(
            replace(marks, witnessed=marks.witnessed or self.witness is not None), self.writer(), now
        )
        text = await asyncio.to_thread(self._write, key, marks)
        return marks, await self.testify(ctx, text)

    async def testify(self, ctx: ProbeContext, text: bytes) -> str:
        """Writes the witness; the answer is as that of `save`."""
        if self.witness is None:
            return ""
        try:
            await self.witness.write(ctx, text)
        except WitnessUnreachable as error:
            return str(error)
        return ""

    def _write(self, key: OwnKey, marks: Marks) -> bytes:
        text = sealed(key, marks)
        self.places.mark.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.places.mark, text)
        return text

    def writer(self) -> str:
        """The name of this state folder, so that two daemons that share a witness can be told apart."""
        there = read_if_there(self.places.writer)
        if there:
            return there.decode().strip()
        name = secrets.token_hex(8)
        self.places.writer.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.places.writer, name.encode() + b"\n")
        return name

    def load_walk(self) -> Progress | None:
        """The walk in progress; None when there is none that can be trusted, so that it starts anew."""
        text = read_if_there(self.places.walk)
        if text is None:
            return None
        try:
            return progress_from(unseal(self.key(), f"chain walk {self.probe}", text))
        except (SealBroken, KeyError, TypeError, ValueError, KeyMissing):
            return None

    def save_walk(self, progress: Progress | None) -> None:
        """Keeps a walk, or forgets it. Raises `OSError`."""
        if progress is None:
            self.places.walk.unlink(missing_ok=True)
            return
        write_atomically(self.places.walk, seal(self.key(), f"chain walk {self.probe}", progress_json(progress)))
