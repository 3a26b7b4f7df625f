"""How probes share an administrator's session, and when they leave the platform alone."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.probing import Probed, RealClock, probe_once
from tocsin.sdk.login import filled
from tocsin_probes.chain_verify_api import ChainVerifyApi
from tocsin_probes.http import Http
from tocsin_sandbox import alexandria_accounts
from tocsin_sandbox.alexandria_accounts import FAILURES_TO_LOCK, Account
from tocsin_sandbox.alexandria_api import AlexandriaApi
from tocsin_sandbox.alexandria_environment import login_variables
from tocsin_sandbox.serving import Mood, Site, free_port

PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    return tmp_path / "logins"


class Platform:
    """The simulator, which lives on while the daemon is restarted, and what the daemon was told of it."""

    def __init__(self) -> None:
        self.api = AlexandriaApi(Path("/nowhere"), None)  # type: ignore[arg-type]
        self.site = Site(PORT, self.api.build)
        self.password = self.account.password
        self.clock = RealClock()
        self.changes: dict[str, Any] = {}

    @property
    def account(self) -> Account:
        return self.api.admin

    def login(self) -> dict[str, Any]:
        told = login_variables(URL, self.account)
        login = {name.removeprefix("TOCSIN_ALEXANDRIA_").lower(): value for name, value in told.items()}
        return {
            "url": login["login_url"],
            "body": login["login_body"],
            "username": login["admin_username"],
            "password": self.password,
            "token": login["login_token"],
            "expires_in": login["login_expires_in"],
            "refresh": {name: login[f"refresh_{name}"] for name in ("url", "body", "token")},
            **self.changes,
        }

    async def ask(self, path: str = "/admin/llm", timeout: float = 5.0) -> Probed:
        probe = Http(Http.Settings.model_validate({"url": f"{URL}{path}", "login": self.login()}))
        return await probe_once(probe, timeout, clock=self.clock)

    async def verify(self) -> Probed:
        settings = {"url": f"{URL}/admin/audit/verify", "login": self.login()}
        return await probe_once(ChainVerifyApi(ChainVerifyApi.Settings.model_validate(settings)), clock=self.clock)

    def pass_time(self, seconds: float) -> None:
        """For the daemon and for the platform."""
        self.clock.offset += seconds
        self.account.later += seconds

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        await self.site.start()
        try:
            yield
        finally:
            await self.site.stop()

    def daemon(self, work: Callable[[], Awaitable[None]]) -> None:
        """A daemon's life: a loop of its own, and nothing in memory of the one before."""

        async def live() -> None:
            async with self.served():
                await work()

        asyncio.run(live())


async def test_a_session_is_reused_then_refreshed_and_the_password_is_sent_once() -> None:
    platform = Platform()
    async with platform.served():
        for _ in range(60):
            assert (await platform.ask()).verdict == ("ok", None)
            platform.pass_time(60)
    assert platform.account.asked == ["login", *["refresh"] * 4], "an hour of 15-minute tokens, each used for 12"


async def test_four_probes_that_need_a_token_at_once_log_in_once() -> None:
    platform = Platform()
    async with platform.served():
        probed = await asyncio.gather(*(platform.ask(path) for path in ("/admin/llm", "/v1/backends") * 2))
    assert {each.verdict for each in probed} == {("ok", None)}
    assert platform.account.asked == ["login"]


def test_a_wrong_password_is_sent_once_whatever_runs_and_restarts_follow() -> None:
    platform = Platform()
    platform.password = "wrong"

    async def many_runs() -> None:
        for _ in range(10):
            probed = await platform.ask()
            assert probed.verdict == ("unknown", "credentials_rejected"), probed.detail
            platform.pass_time(3600)

    for _ in range(10):
        platform.daemon(many_runs)
    assert platform.account.asked == ["login"]
    assert FAILURES_TO_LOCK > 1
    assert not platform.account.locked

    async def with_another() -> None:
        platform.password = platform.account.password
        assert (await platform.ask()).verdict == ("ok", None)

    platform.daemon(with_another)


async def test_a_refused_password_is_sent_again_when_the_file_is_removed(folder: Path) -> None:
    """An account that was disabled is 401 too: who has enabled it again can say so."""
    platform = Platform()
    right, platform.account.password = platform.account.password, "changed"
    async with platform.served():
        assert (await platform.ask()).verdict == ("unknown", "credentials_rejected")
        platform.account.password = right
        probed = await platform.ask()
        assert probed.verdict == ("unknown", "credentials_rejected")
        file = next(folder.glob("*.json"))
        assert str(file) in probed.detail
        file.unlink()
        assert (await platform.ask()).verdict == ("ok", None)


def test_a_restart_goes_on_with_the_same_session(folder: Path) -> None:
    platform = Platform()

    async def once() -> None:
        assert (await platform.ask()).verdict == ("ok", None)
        platform.pass_time(300)

    for _ in range(10):
        platform.daemon(once)
    assert platform.account.asked == ["login", *["refresh"] * 3]
    file = next(folder.glob("*.json"))
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(folder.stat().st_mode)) == (0o600, 0o700)
    assert platform.account.password not in file.read_text()


def test_a_limited_login_is_left_alone_across_a_restart() -> None:
    platform = Platform()
    platform.account.locked = True

    async def asks() -> None:
        for _ in range(3):
            probed = await platform.ask()
            assert probed.verdict == ("unknown", "dependency_unknown")
            assert "HTTP 429" in probed.detail
            assert "account_locked" in probed.detail

    platform.daemon(asks)
    platform.daemon(asks)
    assert platform.account.asked == ["login"]
    platform.clock.offset += 3
    platform.daemon(asks)
    assert platform.account.asked == ["login"] * 2, "it said Retry-After: 2"


async def test_without_retry_after_each_wait_is_twice_the_one_before_up_to_an_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alexandria_accounts, "RETRY_AFTER", "")
    platform = Platform()
    platform.account.locked = True
    waits = []
    async with platform.served():
        for _ in range(8):
            probed = await platform.ask()
            waits.append(probed.detail.rpartition(" for ")[2])
            platform.clock.offset += 3601
    assert waits == ["1m", "2m", "4m", "8m", "16m", "32m", "1h", "1h"]


async def test_a_platform_that_is_down_is_asked_again_soon_and_the_token_at_hand_is_used_meanwhile() -> None:
    platform = Platform()
    platform.site.mood = Mood.ERROR
    async with platform.served():
        probed = await platform.ask()
        assert probed.verdict == ("unknown", "dependency_unknown")
        assert probed.detail.endswith("not asked again for 5s")
        platform.site.mood = Mood.NORMAL
        platform.clock.offset += 6
        assert (await platform.ask()).verdict == ("ok", None)
        platform.pass_time(800)  # of 900
        platform.account.locked = True
        platform.changes = {"refresh": {}}
        platform.account.asked.clear()
        for _ in range(3):
            assert (await platform.ask()).verdict == ("ok", None)
    assert platform.account.asked == ["login"]


async def test_a_login_that_does_not_answer_is_not_asked_at_each_run() -> None:
    platform = Platform()
    platform.site.mood = Mood.SILENT
    async with platform.served():
        first = await platform.ask(timeout=0.5)
        again = await platform.ask(timeout=0.5)
    assert (first.verdict, again.verdict) == (("unknown", "dependency_unknown"),) * 2
    assert again.duration_seconds < 0.2


async def test_a_token_revoked_in_mid_life_is_renewed_and_the_question_asked_again() -> None:
    platform = Platform()
    async with platform.served():
        assert (await platform.ask()).verdict == ("ok", None)
        platform.account.revoke(refresh=False)
        assert (await platform.ask()).verdict == ("ok", None)
        assert platform.account.asked == ["login", "refresh"]
        platform.account.revoke()
        assert (await platform.ask()).verdict == ("ok", None)
    assert platform.account.asked == ["login", "refresh", "refresh", "login"], "a refused refresh token is dropped"


async def test_a_request_that_is_no_get_is_not_repeated() -> None:
    platform = Platform()
    async with platform.served():
        assert (await platform.ask()).verdict == ("ok", None)
        platform.account.revoke(refresh=False)
        assert (await platform.verify()).verdict == ("unknown", "credentials_rejected")
        assert platform.account.asked == ["login"]


async def test_a_fresh_token_that_is_refused_too_leaves_the_platform_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    platform = Platform()
    monkeypatch.setattr(Account, "knows", lambda self, token: False)
    async with platform.served():
        for _ in range(5):
            probed = await platform.ask()
            assert probed.verdict == ("unknown", "credentials_rejected")
        assert "not asked again for 1m" in probed.detail
        assert platform.account.asked == ["login", "refresh"]
        platform.clock.offset += 61
        assert "not asked again for 2m" in (await platform.ask()).detail


async def test_a_resource_that_limits_us_is_unknown_and_left_alone() -> None:
    """The next run comes after the probe's own interval: only a failure is looked at again sooner."""
    platform = Platform()
    platform.api.limited = True
    async with platform.served():
        probed = await platform.ask()
        assert probed.verdict == ("unknown", "dependency_unknown")
        assert "HTTP 429" in probed.detail
        platform.api.limited = False
        assert (await platform.ask()).verdict == ("unknown", "dependency_unknown")
        platform.clock.offset += 61
        assert (await platform.ask()).verdict == ("ok", None)


async def test_a_token_that_something_else_renews_wins() -> None:
    platform = Platform()
    platform.changes = {"static": platform.account.issue()}
    async with platform.served():
        assert (await platform.ask()).verdict == ("ok", None)
        platform.account.revoke()
        assert (await platform.ask()).verdict == ("unknown", "credentials_rejected")
        platform.api.limited = True
        assert (await platform.ask()).verdict == ("unknown", "dependency_unknown")
    assert platform.account.asked == []


async def test_a_login_that_is_not_configured_is_a_missing_contract() -> None:
    platform = Platform()
    platform.changes = {"body": "", "password": ""}
    probed = await platform.ask()
    assert probed.verdict == ("unknown", "contract_missing")
    assert "login.body, login.password" in probed.detail


async def test_an_answer_without_a_token_where_it_should_be_is_a_missing_contract() -> None:
    platform = Platform()
    platform.changes = {"token": "data.token"}
    async with platform.served():
        for _ in range(3):
            assert (await platform.ask()).verdict == ("unknown", "contract_missing")
    assert platform.account.asked == ["login"]


async def test_without_a_folder_that_can_be_written_the_process_remembers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path / "file"))
    platform = Platform()
    platform.password = "wrong"
    async with platform.served():
        for _ in range(3):
            assert (await platform.ask()).verdict == ("unknown", "credentials_rejected")
    assert platform.account.asked == ["login"]


def test_a_value_cannot_change_the_shape_of_what_is_sent() -> None:
    template = '{"user": {"email": "{username}"}, "password": "x{password}", "scopes": ["{other}", 1]}'
    sent = json.loads(filled(template, {"username": '"}, {password}', "password": "{username}\n"}))
    assert sent == {"user": {"email": '"}, {password}'}, "password": "x{username}\n", "scopes": ["{other}", 1]}


def test_a_body_that_is_no_json_object_is_refused() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        Http.Settings.model_validate({"url": URL, "login": {"body": "email={username}"}})
