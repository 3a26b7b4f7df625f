"""A platform's API as a person who has logged in sees it: the settings of the login, and a request that carries its
token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from tocsin.model import CommonReason, Secret
from tocsin.sdk.faults import ProbeFault
from tocsin.sdk.http import HttpResponse, OptionalUrl, TlsSettings, origin
from tocsin.sdk.json_paths import JsonPath
from tocsin.sdk.login_session import LoginSession
from tocsin.sdk.quantities import Seconds

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext


def _must_be_object(text: str) -> str:
    if text and not isinstance(_read(text), dict):
        raise ValueError('not a JSON object; write {"name": "{username}", "password": "{password}"}')
    return text


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


Template = Annotated[str, AfterValidator(_must_be_object)]
"""A setting that is a JSON object whose texts hold names in braces to be filled in; may be empty."""


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template as JSON with ``{name}`` in its texts replaced. No value can change its shape."""

    def fill(part: Any) -> Any:
        match part:
            case str():
                # Once over the template, so that a value that looks like a name stays what it is.
                pieces = part.split("{")
                return pieces[0] + "".join(_piece(piece, values) for piece in pieces[1:])
            case dict():
                return {name: fill(inner) for name, inner in part.items()}
            case list():
                return [fill(inner) for inner in part]
        return part

    return json.dumps(fill(_read(template)))


def _piece(piece: str, values: Mapping[str, str]) -> str:
    name, brace, rest = piece.partition("}")
    return values[name] + rest if brace and name in values else "{" + piece


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True)


class Refresh(_Part):
    """How a token is renewed without the password. Without it the probe logs in again."""

    url: OptionalUrl = None
    """Where a POST of ``body`` renews the token."""
    body: Template = ""
    """``{"refresh_token": "{refresh_token}"}``."""
    token: JsonPath = "refresh_token"
    """Where the refresh token is in the answers to a login and to a refresh."""


class Login(_Part):
    """An account, and how one logs in with it. All probes with the same account share one session, which a restart
    keeps: a token is reused until most of its life is over, then refreshed. A password that was refused is not sent
    again until it is changed, so that no probe locks an account."""

    static: Secret | None = None
    """A token that something else renews; with it, nothing is logged in."""
    url: OptionalUrl = None
    """Where a POST of ``body`` logs in."""
    body: Template = ""
    """``{"email": "{username}", "password": "{password}"}``."""
    username: str = ""
    """The account's name, for ``body``."""
    password: Secret | None = None
    """The account's password, for ``body``."""
    token: JsonPath = ""
    """Where the access token is in the answer: ``access_token``."""
    expires_in: JsonPath = ""
    """Where its seconds of life are; empty, or not there: ``lifetime``."""
    lifetime: Seconds = 900.0
    """Of a token whose answer does not tell it."""
    refresh: Refresh = Refresh()
    tls: TlsSettings = TlsSettings()

    def targets(self) -> tuple[str, ...]:
        """What is talked to in order to log in."""
        return tuple(origin(url) for url in (self.url, self.refresh.url) if url)

    def material(self) -> str:
        """What is sent to log in. Raises `OSError` when the password's file cannot be read."""
        return filled(self.body, {"username": self.username, "password": _text(self.password)})

    def refreshing(self, token: str) -> str:
        """What is sent to refresh."""
        return filled(self.refresh.body, {"refresh_token": token})

    def can_refresh(self) -> bool:
        return bool(self.refresh.url and self.refresh.body and self.refresh.token)

    def missing(self) -> tuple[str, ...]:
        """The settings without which one cannot log in, and that are not set."""
        needed = {name: getattr(self, name) for name in ("url", "body", "username", "token")}
        return tuple(name for name, value in {**needed, "password": _text(self.password)}.items() if not value)

    def identity(self) -> tuple[str, ...]:
        """What makes two logins the same one."""
        return (self.model_dump_json(), self.password.identity() if self.password is not None else "")


def _text(secret: Secret | None) -> str:
    return secret.reveal().strip() if secret is not None else ""


async def fetch(
    ctx: ProbeContext,
    login: Login | None,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> HttpResponse:
    """`HttpClient.fetch`, with the token of ``login`` if there is one.

    A token that the target refuses (401) is renewed, and a GET is asked once more; a fresh one that is refused too
    leaves the target alone for a while, and so does a 429: `ProbeFault`, unknown, until then. Also raises `ProbeFault`
    (contract_missing) while the login is not configured.
    """
    if login is None:
        return await ctx.http.fetch(method, url, headers=headers, **options)

    async def ask(token: str) -> HttpResponse:
        bearer = {**(headers or {}), "Authorization": f"Bearer {token}"}
        return await ctx.http.fetch(method, url, headers=bearer, **options)

    if static := _text(login.static):
        answer = await ask(static)
        if answer.status == 429:
            raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, LoginSession.refusal(answer))
        return answer
    if missing := login.missing():
        unset = ", ".join(f"login.{name}" for name in missing)
        raise ProbeFault(CommonReason.CONTRACT_MISSING, f"nobody to log in as: set {unset}; or a token in login.static")
    session = LoginSession.shared(login)
    token = await session.token(ctx)
    answer = await ask(token)
    if answer.status == 401:
        session.invalidate(token)
        if method == "GET":
            answer = await ask(await session.token(ctx))
            if answer.status == 401:
                raise await session.refused_fresh(ctx, answer)
    if answer.status == 429:
        raise await session.limited(ctx, answer)
    if answer.status != 401:
        await session.accepted(ctx)
    return answer
