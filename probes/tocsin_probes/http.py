"""Kind ``http``: one request, and what its answer must be."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, Self

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError
from jmespath.parser import ParsedResult
from jmespath.visitor import TreeInterpreter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tocsin.model import CommonReason, Finding, Outcome, ReasonEnum, ReasonInfo, Secret, Status
from tocsin.sdk import ByteCount, HttpResponse, Probe, ProbeContext, ProbeFault, ProbeSettings, TlsSettings, Words
from tocsin.sdk.documents import is_html
from tocsin.sdk.faults import explain, quoted, status_finding
from tocsin.sdk.files import look_at
from tocsin.sdk.http import CERTIFICATE_EXPIRY, HttpUrl, certificate_finding, origin, shown_url
from tocsin.sdk.login import Login, fetch
from tocsin.sdk.patterns import Patterns, ReasonCode

_NO_CREDENTIALS = frozenset(
    {"accept", "accept-language", "cache-control", "content-type", "host", "origin", "referer", "user-agent"}
)
"""Headers that carry no credential; with any other one, a 401 may be the probe's own fault."""

END_GRACE = 0.25
"""Seconds before the end of a run at which waiting for an answer ends, where that is no failure."""

MAX_SENT_BYTES = 8 << 20
"""The largest file that is sent as a body."""


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> ParsedResult:
    return jmespath.compile(expression)


def _must_compile(expression: str) -> str:
    try:
        _compiled(expression).search(None)
    except JMESPathTypeError:
        pass  # right for a document of another shape
    except JMESPathError as error:
        raise ValueError(f"{expression!r} is not a JMESPath expression: {str(error).splitlines()[0]}") from None
    return expression


class Members(BaseModel):
    """Members of a JSON object that must all have one value: a map of parts, each ``up``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    names: Annotated[Words, Field(min_length=1)]
    """``orchestrator, api``. What the others are is shown, and not judged."""
    are: str
    """The value."""


class Expect(BaseModel):
    """What the answer must be."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    status: Annotated[tuple[int, ...], Field(min_length=1)] = (200,)
    """The statuses that are right."""
    content_type: str | None = None
    """The media type, without parameters: ``application/json``."""
    assertions: tuple[Annotated[str, AfterValidator(_must_compile)], ...] = Field((), alias="json")
    """JMESPath expressions over the JSON body. Each must give something that is true: not false, null or empty."""
    members: Members | None = None
    """What members of the JSON body must be."""
    header: Mapping[str, str] = {}
    """By header name, the text that its value must contain; an empty text asks only that the header is there."""
    not_html: bool = False
    """HTML is wrong, whatever else is not known of the body: a web server's own page came, not the target's answer."""
    html_hint: str = ""
    """What a page of HTML in place of the answer means here: it is told with it."""
    status_reasons: Mapping[int, ReasonCode] = {}
    """What a wrong status means for this target, as a reason of its own: ``{503: orchestrator_down}``. With
    ``not_html`` a proxy's own page of that status does not count."""

    absent: Patterns = {}
    """By reason, texts that the body must not hold, whatever its status: ``{leaks_internals: [tenant_id, SQLSTATE]}``.
    Capitals count. An encoded body, which is not asked for, is ``unexpected_body``."""

    @model_validator(mode="after")
    def _not_both_right_and_wrong(self) -> Self:
        if both := self.status_reasons.keys() & set(self.status):
            raise ValueError(f"{min(both)} is an expected status and has a reason in status_reasons")
        return self

    @property
    def wants_json(self) -> bool:
        return (
            bool(self.assertions)
            or self.members is not None
            or (self.content_type or "").lower().endswith(("/json", "+json"))
        )


class Http(Probe):
    """One HTTP request: status, media type, headers, JSON assertions and the certificate's end of validity."""

    kind = "http"
    gauges = (CERTIFICATE_EXPIRY,)

    class Settings(ProbeSettings):
        url: HttpUrl
        """The address that is asked."""
        method: Annotated[str, Field(pattern=r"^[A-Z]+$")] = "GET"
        headers: Mapping[str, Secret] = {}
        """Request headers. The values are secrets: they are never shown. ``{request_id}`` is the run's own id, for an
        ``Idempotency-Key``."""
        body: Secret | None = None
        """What is sent; it may hold credentials, so it is never shown."""
        body_file: str = ""
        """A file that is sent as the body, byte for byte; read anew at each run, up to 8 MiB."""
        login: Login | None = None
        """Whose token the request carries."""
        expect: Expect = Expect()
        unanswered: Literal["failed", "unknown"] = "failed"
        """What it means when no answer comes, or another than JSON with an expected status. ``unknown``: only what the
        answer says is judged here, because another probe watches that it comes."""
        follow_redirects: bool = False
        """Follow up to five redirects; another origin gets none of ``headers``, and one that would get the body is
        ``redirected``."""
        max_bytes: ByteCount = 1 << 20
        """An answer that is larger is refused; no more than this is held in memory."""
        tls: TlsSettings = TlsSettings()
        certificate_days: Annotated[float, Field(ge=0)] = 14
        """A certificate with fewer days left is ``certificate_expiring``."""

        @model_validator(mode="after")
        def _one_body(self) -> Self:
            if self.body is not None and self.body_file:
                raise ValueError("set `body` or `body_file`, not both")
            return self

        def targets(self) -> tuple[str, ...]:
            return tuple(dict.fromkeys((origin(self.url), *(self.login.targets() if self.login else ()))))

    class Reason(ReasonEnum):
        HTML_INSTEAD_OF_JSON = (
            "html_instead_of_json",
            "A page of HTML came where JSON was expected: a proxy or a single-page application answered instead.",
        )
        ASSERTION_FAILED = "assertion_failed", "The answer is well-formed, and does not say what it must."
        BODY_TOO_LARGE = "body_too_large", "The answer is larger than `max_bytes`."
        REDIRECTED = "redirected", "The answer is a redirect, and none (or no further one) is to be followed."

    settings: Settings

    @classmethod
    def reasons(cls, settings: ProbeSettings | None = None) -> tuple[ReasonInfo, ...]:
        """Those of the kind, and what `status_reasons` and `absent` name."""
        expect = settings.expect if isinstance(settings, cls.Settings) else Expect()
        given = expect.status_reasons
        own = super().reasons(settings)
        known = {info.code for info in own} | {member.value for member in CommonReason}
        named = {code: ReasonInfo(code, f"The target answered HTTP {status}.") for status, code in given.items()}
        named |= {code: ReasonInfo(code, "The target's answer holds what it must not.") for code in expect.absent}
        return (*own, *(info for code, info in named.items() if code not in known))

    async def run(self, ctx: ProbeContext) -> Outcome:
        if self.settings.unanswered == "failed":
            return await self._look(ctx)
        left = ctx.remaining()
        try:
            # Sooner than the run's own end, which would make it a failure of the target.
            async with asyncio.timeout(left - min(END_GRACE, left / 10)):
                outcome = await self._look(ctx)
        except Exception as error:  # noqa: BLE001 - as the engine does: what nothing explains is probe_error
            outcome = Outcome.of([explain(error, self.unauthorized)])
        return Outcome.of(map(self._untold, outcome.findings), outcome.detail)

    def _untold(self, finding: Finding) -> Finding:
        own = {self.Reason.ASSERTION_FAILED, CommonReason.CERTIFICATE_EXPIRING, *self.settings.expect.absent}
        if finding.status is Status.UNKNOWN or finding.reason in own:
            return finding
        return Finding.of(CommonReason.DEPENDENCY_UNKNOWN, f"{finding.reason}: {finding.detail}", finding.component)

    async def _look(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        given = settings.headers
        body: bytes | str | None = settings.body.reveal() if settings.body else None
        if settings.body_file:
            needed = CommonReason.DEPENDENCY_UNKNOWN
            body = await look_at(ctx, settings.body_file, lambda: _content(settings.body_file), needed)
        answer = await fetch(
            ctx,
            settings.login,
            settings.method,
            settings.url,
            headers={name: value.reveal().replace("{request_id}", ctx.request_id) for name, value in given.items()},
            body=body,
            max_bytes=settings.max_bytes,
            follow_redirects=settings.follow_redirects,
            tls=settings.tls,
        )
        if answer.certificate_expires_at is not None:
            ctx.measure(CERTIFICATE_EXPIRY, answer.certificate_expires_at)
        found = (
            self._judge(answer),
            *self._present(answer),
            certificate_finding(answer.certificate_expires_at, ctx.now(), settings.certificate_days),
        )
        wrong = [finding for finding in found if finding is not None]
        others = "" if wrong else self._others(answer)
        return Outcome.of(wrong, f"HTTP {answer.status}, {len(answer.body)} bytes{others}")

    def _others(self, answer: HttpResponse) -> str:
        """Members that are not as the named ones are, and need not be."""
        members = self.settings.expect.members
        if members is None:
            return ""
        document = answer.json()
        others = {name: document[name] for name in document if name not in members.names}
        shown = [f"{quoted(name)} is {_shown(value)}" for name, value in others.items() if value != members.are]
        return f"; not judged: {', '.join(shown)}" if shown else ""

    def _judge(self, answer: HttpResponse) -> Finding | None:
        """The first thing that is wrong with the answer, the most telling first."""
        reason, expect = self.Reason, self.settings.expect
        if answer.status not in expect.status:
            return self._wrong_status(answer)
        if (expect.wants_json or expect.not_html) and is_html(answer.content_type, answer.body):
            hint = expect.html_hint or "is this the API's port?"
            page = f"{answer.content_type or 'no media type'}; it begins {quoted(answer.body)}; {hint}"
            return Finding.of(reason.HTML_INSTEAD_OF_JSON, page)
        if answer.encoding and (expect.wants_json or expect.not_html or expect.absent):
            shown = f"encoded with {quoted(answer.encoding)}, not asked for: what it holds is not seen"
            return Finding.of(CommonReason.UNEXPECTED_BODY, shown)
        if expect.content_type and answer.content_type != expect.content_type.lower():
            shown = quoted(answer.headers.get("Content-Type", ""))
            return Finding.of(CommonReason.UNEXPECTED_BODY, f"Content-Type is {shown}, not {expect.content_type}")
        if answer.truncated:
            return Finding.of(reason.BODY_TOO_LARGE, f"more than {self.settings.max_bytes} bytes")
        wrong = list(_wrong_headers(expect, answer))
        if expect.wants_json:
            wrong += _failed_assertions(expect.assertions, answer.json())
            wrong += _wrong_members(expect.members, answer.json())
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            return Finding.of(reason.ASSERTION_FAILED, wrong[0] + more)
        return None

    def _present(self, answer: HttpResponse) -> Iterator[Finding]:
        """What must be absent and is there. The text itself is what must not be spread, so only its pattern is told."""
        for code, texts in self.settings.expect.absent.items():
            for text in (texts,) if isinstance(texts, str) else texts:
                if text.encode() in answer.body:
                    yield Finding.of(self._known[code], f"HTTP {answer.status}, and its body holds {text!r}")
                    break

    @cached_property
    def _known(self) -> dict[str, ReasonInfo]:
        """By code, every reason there is, those of the configuration included."""
        return {info.code: info for info in self.all_reasons(self.settings)}

    def _wrong_status(self, answer: HttpResponse) -> Finding:
        said = f"HTTP {answer.status} from {shown_url(answer.url)}"
        if 300 <= answer.status <= 399 and "Location" in answer.headers:
            return Finding.of(self.Reason.REDIRECTED, f"{said}, to {quoted(_place(answer.headers['Location']), 200)}")
        expect = self.settings.expect
        code = expect.status_reasons.get(answer.status)
        if code and not (expect.not_html and is_html(answer.content_type, answer.body)):
            return Finding.of(self._known[code], said)
        own = any(name.lower() not in _NO_CREDENTIALS for name in self.settings.headers)
        own = own or self.settings.login is not None or self.settings.tls.client_cert_file is not None
        return status_finding(answer.status, said, Status.UNKNOWN if own else Status.FAILED)


def _content(file: str) -> bytes:
    """The bytes to send. Raises `ProbeFault` (credentials_missing) when there are none, or too many."""
    try:
        # Not waiting for a writer: a pipe in its place would hold the thread for ever.
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            content = opened.read(MAX_SENT_BYTES + 1) or b""  # None: a pipe without a word yet
    except OSError as error:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"cannot read body_file {file}: {error}") from error
    if not 0 < len(content) <= MAX_SENT_BYTES:
        size = f"larger than {MAX_SENT_BYTES} bytes" if content else "empty"
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"body_file {file} is {size}")
    return content


def _place(location: str) -> str:
    """A redirect's target without its query, which may hold a token."""
    return location.partition("?")[0].partition("#")[0]


def _wrong_headers(expect: Expect, answer: HttpResponse) -> Iterator[str]:
    for name, text in expect.header.items():
        value = answer.headers.get(name)
        if value is None:
            yield f"the header {name} is absent"
        elif text not in value:
            yield f"the header {name} is {quoted(value)}, without {text!r}"


def _failed_assertions(expressions: tuple[str, ...], document: Any) -> Iterator[str]:
    for expression in expressions:
        try:
            result = _compiled(expression).search(document)
        except JMESPathError as error:
            yield f"{expression}: {quoted(' '.join(str(error).split()), 200)}"
            continue
        if result is None or result is False or result in ("", [], {}):
            yield f"{expression} gave {_shown(result)}{_left_side(expression, document)}"


def _wrong_members(members: Members | None, document: Any) -> Iterator[str]:
    if members is None:
        return
    if not isinstance(document, dict):
        yield f"not a JSON object: {_shown(document)}"
        return
    for name in members.names:
        if name not in document:
            yield f"there is no {name}"
        elif document[name] != members.are:
            yield f"{name} is {_shown(document[name])}, not {_shown(members.are)}"


def _left_side(expression: str, document: Any) -> str:
    """What stood on the left of a comparison: more telling than that it gave false."""
    tree = _compiled(expression).parsed
    if tree["type"] != "comparator":
        return ""
    return f"; its left side is {_shown(TreeInterpreter().visit(tree['children'][0], document))}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:120] + "…"
