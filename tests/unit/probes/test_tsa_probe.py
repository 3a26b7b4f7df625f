"""Replies of a timestamp authority that no real one gives."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.probing import probe_once
from tests.unit.probes.lying_servers import Authority, serving
from tocsin_probes.tsa import Tsa


@pytest.mark.parametrize("status", [0, 1], ids=["granted", "granted with changes"])
async def test_granted_without_a_stamp_is_no_reply(status: int, tmp_path: Path) -> None:
    """``SEQUENCE { SEQUENCE { INTEGER status } }``: the stamp is optional there. RFC 3161 section 2.4.2."""
    reply = bytes([0x30, 5, 0x30, 3, 2, 1, status])

    async def grant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(reply), reply))
        await reader.read()

    ca_file = Authority(tmp_path).issue("any").ca_file
    async with serving(grant) as port:
        settings = {"url": f"http://127.0.0.1:{port}/", "ca_file": str(ca_file)}
        probed = await probe_once(Tsa(Tsa.Settings.model_validate(settings)))
    assert probed.verdict == ("failed", "unexpected_body"), probed.detail
