"""What ``smtp`` says to a mail server, and what it makes of the replies."""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import Any

import pytest

from tests.probing import Probed, on_both_loops, probe_once
from tests.unit.probes.lying_servers import Authority, Certified, Handler, serving, silence
from tocsin_probes.smtp import Smtp


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return Authority(tmp_path_factory.mktemp("authority")).issue("mail", days=90)


class MailServer:
    """A mail server that follows RFC 5321, as far as it goes. ``replies`` replaces what it says to a command."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, *, auth: str = "PLAIN LOGIN", greeting: str = "220 mail ESMTP",
        replies: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.tls = tls
        self.auth = auth
        self.greeting = greeting
        self.replies = replies or {}
        self.heard: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secure = False
        writer.write(f"{self.greeting}\r\n".encode())
        while line := (await reader.readline()).decode().strip():
            self.heard.append(line)
            verb = line.split(" ")[0]
            if verb in self.replies:
                writer.write(f"{self.replies[verb]}\r\n".encode())
            elif verb == "EHLO":
                offers = ["mail greets you", "PIPELINING", f"AUTH {self.auth}"]
                offers += ["STARTTLS"] if self.tls and not secure else []
                writer.write(b"".join(f"250-{offer}\r\n".encode() for offer in offers) + b"250 SIZE 1000\r\n")
            elif verb == "STARTTLS" and self.tls:
                writer.write(b"220 go ahead\r\n")
                await writer.drain()
                await writer.start_tls(self.tls)
                secure = True
            elif line == "AUTH LOGIN":
                writer.write(b"334 VXNlcm5hbWU6\r\n")
                user = base64.b64decode(await reader.readline())
                writer.write(b"334 UGFzc3dvcmQ6\r\n")
                password = base64.b64decode(await reader.readline())
                writer.write(self._check(user, password))
            elif verb == "AUTH":
                _, user, password = base64.b64decode(line.split(" ")[2]).split(b"\0")
                writer.write(self._check(user, password))
            elif verb == "QUIT":
                writer.write(b"221 bye\r\n")
                await writer.drain()
                return
            else:
                writer.write(b"250 fine\r\n")

    @staticmethod
    def _check(user: bytes, password: bytes) -> bytes:
        right = (user, password) == (b"wipe", "pässword".encode())
        return b"235 2.7.0 welcome\r\n" if right else b"535 5.7.8 authentication failed: cMOkc3N3b3Jk\r\n"


async def ask(server: Handler, *, listening_with: ssl.SSLContext | None = None, **settings: Any) -> Probed:
    async with serving(server, tls=listening_with) as port:
        settings = {"address": f"127.0.0.1:{port}", "security": "none", **settings}
        return await probe_once(Smtp(Smtp.Settings.model_validate(settings)), 1.0)


LOGIN: dict[str, Any] = {"username": "wipe", "password": "pässword"}


@on_both_loops
async def test_a_mail_server_with_starttls_takes_our_login_and_no_mail(certified: Certified) -> None:
    server = MailServer(certified.server_context())
    probed = await ask(server, security="starttls", tls={"ca_file": str(certified.ca_file)}, **LOGIN)
    assert probed.verdict == ("ok", None), probed.detail
    assert [line.split(" ")[0] for line in server.heard] == ["EHLO", "STARTTLS", "EHLO", "AUTH", "NOOP", "QUIT"]
    assert probed.measured("tocsin_certificate_expiry_timestamp_seconds") > 0


@on_both_loops
async def test_tls_from_the_first_byte_is_spoken_when_asked(certified: Certified) -> None:
    settings: dict[str, Any] = {"security": "tls", "tls": {"ca_file": str(certified.ca_file)}, **LOGIN}
    probed = await ask(MailServer(auth="LOGIN"), listening_with=certified.server_context(), **settings)
    assert probed.verdict == ("ok", None), probed.detail


async def test_without_credentials_nobody_logs_in() -> None:
    server = MailServer()
    assert (await ask(server)).verdict == ("ok", None)
    assert [line.split(" ")[0] for line in server.heard] == ["EHLO", "NOOP", "QUIT"]


@pytest.mark.parametrize(
    ("server", "settings", "reason"),
    [
        (MailServer(), {"security": "starttls"}, "starttls_missing"),
        (MailServer(replies={"EHLO": "250-mail\r\n250 STARTTLS", "STARTTLS": "502 no"}), {"security": "starttls"},
         "starttls_missing"),
        (MailServer(), {**LOGIN, "password": "wrong"}, "auth_refused"),
        (MailServer(auth="LOGIN"), {**LOGIN, "password": "wrong"}, "auth_refused"),
        (MailServer(auth="GSSAPI"), LOGIN, "auth_refused"),
        (MailServer(replies={"AUTH": "454 4.7.0 later"}), LOGIN, "server_error"),
        (MailServer(replies={"NOOP": "421 closing"}), {}, "server_error"),
        (MailServer(greeting="554 no SMTP service here"), {}, "server_error"),
        (MailServer(greeting="SSH-2.0-OpenSSH"), {}, "unexpected_body"),
        (MailServer(greeting="220-" + "x" * 5000), {}, "unexpected_body"),
        (MailServer(greeting="220-more\r\n" * 200 + "220 end"), {}, "unexpected_body"),
        (silence, {}, "timeout"),
    ],
)  # fmt: skip
async def test_each_fault_of_a_mail_server_has_its_reason(
    server: Handler, settings: dict[str, Any], reason: str
) -> None:
    probed = await ask(server, **settings)
    assert probed.verdict == ("failed", reason), probed.detail
    assert "pässword" not in probed.detail


async def test_a_certificate_for_another_name_stops_before_the_password_is_sent(certified: Certified) -> None:
    server = MailServer(certified.server_context())
    settings: dict[str, Any] = {
        "security": "starttls",
        "server_name": "other.example",
        "tls": {"ca_file": str(certified.ca_file)},
    }
    probed = await ask(server, **settings, **LOGIN)
    assert probed.verdict == ("failed", "tls_error")
    assert [line.split(" ")[0] for line in server.heard] == ["EHLO", "STARTTLS"]


async def test_a_server_that_hangs_up_is_a_reset() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        await reader.readline()

    assert (await ask(hang_up)).verdict == ("failed", "connection_reset")
