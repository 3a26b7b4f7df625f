"""The sandbox as the stage of drills: its switches break and heal, its daemon says whether all is well."""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.paging.drills.catalogue import Drill
from tocsin.paging.drills.listening import what_is_bad
from tocsin.paging.drills.rehearsing import StageError
from tocsin_sandbox.switches import FlipError, Switches, UnknownFaultError


class SandboxStage:
    """``url``: the sandbox's daemon."""

    by_hand = False

    def __init__(self, switches: Switches, url: str) -> None:
        self._switches = switches
        self._url = url

    async def well(self, drills: Sequence[Drill]) -> str:
        return await what_is_bad(self._url, {drill.group for drill in drills})

    async def cause(self, drill: Drill) -> None:
        try:
            await self._switches.cause(drill.sandbox)
        except (FlipError, UnknownFaultError) as error:
            raise StageError(str(error)) from None

    async def undo(self, drill: Drill) -> None:
        try:
            await self._switches.undo(drill.sandbox)
        except FlipError as error:
            raise StageError(str(error)) from None
