"""Kind ``smtp``: a mail server that would take mail from us. It sends none."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from tocsin.model import CommonReason, Outcome, ReasonEnum, Secret
from tocsin.sdk import Probe, ProbeContext, ProbeFault, ProbeSettings, TlsSettings
from tocsin.sdk.dial import Address, open_stream, split_address
from tocsin.sdk.faults import quoted
from tocsin.sdk.http import CERTIFICATE_EXPIRY, certificate_finding, expiry_of

MAX_REPLY_LINES = 100
MAX_LINE_BYTES = 2048
"""RFC 5321 section 4.5.3.1.5 allows 512."""


class Smtp(Probe):
    """A mail server: greeting, EHLO, STARTTLS, AUTH, NOOP. Nothing is sent."""

    kind = "smtp"
    gauges = (CERTIFICATE_EXPIRY,)

    class Settings(ProbeSettings):
        address: Address
        """``host:port``, such as ``mail.example:587``."""
        security: Literal["starttls", "tls", "none"] = "starttls"
        """``tls`` speaks TLS from the first byte (port 465)."""
        username: str = ""
        """The platform's own, so that a refusal is the platform's; empty: nobody logs in."""
        password: Secret | None = None
        """Without a username nobody logs in. They are the platform's own, so that a refusal is the platform's."""
        helo: str = "tocsin.invalid"
        """The name that the probe gives."""
        server_name: str = ""
        """The name that the certificate must be for; by default the address's host."""
        tls: TlsSettings = TlsSettings()
        certificate_days: Annotated[float, Field(ge=0)] = 14

        def targets(self) -> tuple[str, ...]:
            return (f"tcp://{self.address}",)

    class Reason(ReasonEnum):
        STARTTLS_MISSING = "starttls_missing", "The server does not offer STARTTLS, or refuses it when asked."
        AUTH_REFUSED = "auth_refused", "The server refuses the platform's credentials, or offers no way to use them."

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        host, port = split_address(settings.address)
        name = settings.server_name or host
        context = ctx.http.tls_context(settings.tls) if settings.security != "none" else None
        async with ctx.permits.request(settings.targets()[0]):
            first = context if settings.security == "tls" else None
            reader, writer = await open_stream(host, port, tls=first, server_name=name, limit=MAX_LINE_BYTES)
            try:
                talk = Conversation(reader, writer)
                await talk.hear(220)
                offered = await talk.hello(settings.helo)
                if settings.security == "starttls":
                    if "STARTTLS" not in offered:
                        raise ProbeFault(self.Reason.STARTTLS_MISSING, f"it offers {_listed(offered)}")
                    await talk.say("STARTTLS", 220, otherwise=self.Reason.STARTTLS_MISSING)
                    assert context is not None
                    await writer.start_tls(context, server_hostname=name)
                    offered = await talk.hello(settings.helo)
                await self._log_in(talk, offered)
                await talk.say("NOOP", 250)
                expires = expiry_of(writer.get_extra_info("peercert"))
                await talk.say("QUIT", 221)
            finally:
                writer.transport.abort()
        if expires is None:
            return Outcome.ok(f"offers {_listed(offered)}")
        ctx.measure(CERTIFICATE_EXPIRY, expires)
        expiring = certificate_finding(expires, ctx.now(), settings.certificate_days)
        return Outcome.of([expiring] if expiring else [], f"offers {_listed(offered)}")

    async def _log_in(self, talk: Conversation, offered: Mapping[str, str]) -> None:
        """AUTH PLAIN (RFC 4616), or LOGIN where only that is offered."""
        settings, refused = self.settings, self.Reason.AUTH_REFUSED
        if not settings.username:
            return
        password = settings.password.reveal() if settings.password else ""
        mechanisms = offered.get("AUTH", "").upper().split()
        if "PLAIN" in mechanisms:
            response = _base64(f"\0{settings.username}\0{password}")
            await talk.say(f"AUTH PLAIN {response}", 235, otherwise=refused)
        elif "LOGIN" in mechanisms:
            await talk.say("AUTH LOGIN", 334, otherwise=refused)
            await talk.say(_base64(settings.username), 334, otherwise=refused)
            await talk.say(_base64(password), 235, otherwise=refused)
        else:
            raise ProbeFault(refused, f"it offers {_listed(offered)}, and no AUTH that a password is good for")


class Conversation:
    """SMTP's commands and replies. RFC 5321 section 4.2."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, command: str, expected: int, *, otherwise: ReasonEnum | None = None) -> list[str]:
        """Sends a command. What it says is never part of an error: it may hold a password."""
        self._writer.write(f"{command}\r\n".encode())
        await self._writer.drain()
        return await self.hear(expected, otherwise=otherwise)

    async def hear(self, expected: int, *, otherwise: ReasonEnum | None = None) -> list[str]:
        """The lines of a reply with the expected code. Another code is ``otherwise`` when it is a permanent refusal
        (5xx), and else ``server_error``."""
        lines: list[str] = []
        while len(lines) < MAX_REPLY_LINES:
            try:
                line = await self._reader.readline()
            except ValueError as error:
                raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"a line of more than {MAX_LINE_BYTES} bytes") from error
            if not line.endswith(b"\n"):
                raise ConnectionResetError("closed in mid-reply" if line or lines else "closed without a reply")
            code, mark = line[:3], line[3:4]
            if not code.isdigit() or mark not in (b" ", b"-", b"\r", b"\n"):
                raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"not SMTP: {quoted(line)}")
            lines.append(line[4:].decode("utf-8", "backslashreplace").strip())
            if mark != b"-":
                break
        else:
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"a reply of more than {MAX_REPLY_LINES} lines")
        if int(code) != expected:
            reason = otherwise if otherwise is not None and code.startswith(b"5") else CommonReason.SERVER_ERROR
            raise ProbeFault(reason, f"it said {code.decode()} {quoted(lines[0], 120)}")
        return lines

    async def hello(self, name: str) -> dict[str, str]:
        """EHLO: the offered extensions and their parameters."""
        _, *offered = await self.say(f"EHLO {name}", 250)
        pairs = (line.partition(" ") for line in offered)
        return {keyword.upper(): parameters for keyword, _, parameters in pairs}


def _listed(offered: Mapping[str, str]) -> str:
    return quoted(" ".join(sorted(offered)), 200) if offered else "no extension"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
