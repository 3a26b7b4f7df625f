"""One run: what ends it, and what is made of what it did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import structlog

from tests.unit.running.virtual import LoopClock, kind, runner, spec
from tocsin.config import ControlTarget
from tocsin.config.caps import Cap, Caps
from tocsin.model import MASK, CommonReason, Finding, Gauge, MissingContract, Outcome, Run, Severity, Status
from tocsin.running.active import ActiveProbe
from tocsin.running.controls import Controls
from tocsin.running.runner import CANCEL_GRACE_SECONDS, Finished
from tocsin.sdk import ProbeContext, ProbeFault

pytestmark = [pytest.mark.looptime, pytest.mark.filterwarnings("error")]

Action = Callable[[ProbeContext], Awaitable[object]]


async def finish(
    action: Action, controls: Controls | None = None, caps: Caps | None = None, **changes: Any
) -> Finished:
    made = kind()
    made.script["p"] = action
    running = runner(LoopClock(), caps or Caps(), controls)
    return await running.run(ActiveProbe.install(spec(**changes), {"scripted": made}), {})


async def run(action: Action, **changes: Any) -> Run:
    return (await finish(action, **changes)).run


def verdict(run: Run) -> tuple[str, str | None]:
    return (run.outcome.status.value, run.outcome.reason)


async def test_a_run_reports_its_outcome_times_and_identifiers() -> None:
    seen: list[str] = []

    async def action(ctx: ProbeContext) -> Outcome:
        seen.append(ctx.traceparent)
        seen.append(ctx.request_id)
        await asyncio.sleep(2)
        return Outcome.ok("all well")

    made = await run(action)
    assert verdict(made) == ("ok", None)
    assert made.outcome.detail == "all well"
    assert made.duration_seconds == 2.0
    assert seen == [f"00-{made.trace_id}-{made.trace_id[16:]}-01", made.request_id]


async def test_a_run_ends_at_its_deadline() -> None:
    made = await run(lambda ctx: asyncio.sleep(3600))
    assert verdict(made) == ("failed", "timeout")
    assert made.outcome.detail == "no complete answer within 5s"
    assert made.duration_seconds == 5.0


class Standing(LoopClock):
    """A clock on which the loop stands still when the test says so: time passes, and nothing is done meanwhile."""

    stood = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.stood


@pytest.mark.parametrize(
    ("stands_still_at", "answers_at", "expected"),
    [
        ([0.5], 1.5, ("ok", None)),
        ([0.5], 2.5, ("failed", "timeout")),
        ([0.5, 1.5], 2.5, ("unknown", "probe_error")),
        ([], 1.5, ("failed", "timeout")),
    ],
)
async def test_a_loop_that_stood_still_is_not_the_failure_of_the_target(
    stands_still_at: list[float], answers_at: float, expected: tuple[str, str | None]
) -> None:
    clock = Standing()

    def stand() -> None:
        clock.stood += 2.0

    async def action(ctx: ProbeContext) -> Outcome:
        await asyncio.sleep(answers_at)
        return Outcome.ok()

    made = kind()
    made.script["p"] = action
    for at in stands_still_at:
        asyncio.get_running_loop().call_later(at, stand)
    running = runner(clock, Caps())
    finished = await running.run(ActiveProbe.install(spec(timeout=1.0), {"scripted": made}), {})
    assert verdict(finished.run) == expected


async def test_what_a_run_returns_after_its_deadline_is_too_late() -> None:
    async def action(ctx: ProbeContext) -> Outcome:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.1)
        return Outcome.ok()

    async def swallowing(ctx: ProbeContext) -> Outcome:
        try:
            await action(ctx)
        except asyncio.CancelledError:
            return Outcome.ok()
        return Outcome.ok()

    made = await finish(swallowing)
    assert verdict(made.run) == ("failed", "timeout")
    assert made.leaked is None


async def test_a_run_that_ignores_cancellation_is_abandoned_after_a_short_grace() -> None:
    release = asyncio.Event()

    async def stubborn(ctx: ProbeContext) -> Outcome:
        ctx.memory["progress"] = 1
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        ctx.memory["progress"] = 2
        return Outcome.ok()

    made = await finish(stubborn)
    assert verdict(made.run) == ("failed", "timeout")
    assert made.run.duration_seconds == 5.0 + CANCEL_GRACE_SECONDS
    assert made.leaked is not None
    release.set()
    await made.leaked
    assert made.memory == {"progress": 1}


class Oddity(BaseException):
    pass


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("it has no words")


class SpeechlessRefusal(Speechless, ConnectionRefusedError):
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("oops"), ("unknown", "probe_error")),
        (SystemExit(3), ("unknown", "probe_error")),
        (KeyboardInterrupt(), ("unknown", "probe_error")),
        (GeneratorExit(), ("unknown", "probe_error")),
        (asyncio.CancelledError(), ("unknown", "probe_error")),
        (Oddity("odd"), ("unknown", "probe_error")),
        (RecursionError(), ("unknown", "probe_error")),
        (TimeoutError(), ("failed", "timeout")),
        (ConnectionRefusedError(111, "refused"), ("failed", "connection_refused")),
        (ExceptionGroup("tasks", [ConnectionRefusedError(111, "refused")]), ("failed", "connection_refused")),
        (ProbeFault(CommonReason.CREDENTIALS_REJECTED, "401"), ("unknown", "credentials_rejected")),
        (Speechless(), ("unknown", "probe_error")),
        (SpeechlessRefusal(111, "refused"), ("failed", "connection_refused")),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_whatever_a_run_raises_becomes_an_outcome(error: BaseException, expected: tuple[str, str]) -> None:
    async def action(ctx: ProbeContext) -> Outcome:
        raise error

    assert verdict(await run(action)) == expected


async def test_a_bug_in_a_kind_is_logged_with_its_traceback_once_and_without_secrets() -> None:
    async def action(ctx: ProbeContext) -> Outcome:
        raise RuntimeError("cannot log in with hunter2-the-password")

    made = kind()
    made.script["p"] = action
    active = ActiveProbe.install(spec(password="hunter2-the-password"), {"scripted": made})
    running = runner(LoopClock())
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            finished = await running.run(active, {})
    assert "hunter2" not in str(logs) + str(finished)
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert f"RuntimeError: cannot log in with {MASK}" in logs[0]["exception"]


@pytest.mark.parametrize(
    ("returned", "detail"),
    [
        (None, "run() returned NoneType, not an Outcome"),
        (
            Outcome.of([Finding("invented", Status.FAILED, Severity.PAGE)]),
            "gave the reason 'invented', which its kind does not declare",
        ),
        (Outcome.of([Finding("broken", Status.OK, Severity.PAGE)]), "gave the reason 'broken' with the status ok"),
        (Outcome.ok(5), "gave int as a detail, not text"),  # type: ignore[arg-type]
        (Outcome.ok(None), "gave NoneType as a detail, not text"),  # type: ignore[arg-type]
        (
            Outcome.bad(CommonReason.NOT_FOUND, ValueError("x")),  # type: ignore[arg-type]
            "gave ValueError as a detail, not text",
        ),
        (Outcome.bad(CommonReason.NOT_FOUND, "", b"x"), "gave bytes as a detail, not text"),  # type: ignore[arg-type]
        (Outcome(("broken",)), "what the run left cannot be read: AttributeError"),  # type: ignore[arg-type]
        (
            Outcome((Finding("broken", "failed", "page"),)),  # type: ignore[arg-type]
            "what the run left cannot be read: AttributeError",
        ),
        (Outcome((Finding([], Status.FAILED, Severity.PAGE),)), "what the run left cannot be read: TypeError"),  # type: ignore[arg-type]
    ],
)
async def test_an_outcome_that_breaks_the_contract_is_a_probe_error(returned: object, detail: str) -> None:
    async def action(ctx: ProbeContext) -> object:
        return returned

    made = await run(action)
    assert verdict(made) == ("unknown", "probe_error")
    assert made.outcome.detail == detail


@pytest.mark.parametrize("left", ["memory", "measurements", "attachments"])
async def test_what_a_run_leaves_and_cannot_be_read_is_a_probe_error_and_its_memory_stays(left: str) -> None:
    async def action(ctx: ProbeContext) -> Outcome:
        setattr(ctx, left, 5)
        return Outcome.ok()

    made = kind()
    made.script["p"] = action
    with structlog.testing.capture_logs() as logs:
        finished = await runner(LoopClock()).run(ActiveProbe.install(spec(), {"scripted": made}), {"cursor": 1})
    assert verdict(finished.run) == ("unknown", "probe_error")
    assert finished.memory == {"cursor": 1}
    assert [(entry["trace_id"], entry["request_id"]) for entry in logs] == [
        (finished.run.trace_id, finished.run.request_id)
    ]


async def test_a_missing_contract_is_told_without_running() -> None:
    made = kind()
    missing = (
        MissingContract("TOCSIN_WIPE_DLQ", "dead_letters.table"),
        MissingContract("TTL", "cache", why="${TTL} is not a duration"),
    )
    finished = await runner(LoopClock()).run(ActiveProbe.install(spec(missing=missing), {"scripted": made}), {"a": 1})
    assert verdict(finished.run) == ("unknown", "contract_missing")
    assert (
        finished.run.outcome.detail
        == "not configured: TOCSIN_WIPE_DLQ (dead_letters.table), TTL (cache): ${TTL} is not a duration"
    )
    assert finished.memory == {"a": 1}


async def test_what_is_off_by_choice_is_ok_without_running_and_says_why() -> None:
    off = spec(off_because="anchoring is off (BLOCKCHAIN_ENABLED=false)")
    finished = await runner(LoopClock()).run(ActiveProbe.install(off, {"scripted": kind()}), {"a": 1})
    assert verdict(finished.run) == ("ok", None)
    assert finished.run.outcome.detail == "anchoring is off (BLOCKCHAIN_ENABLED=false)"
    assert finished.memory == {"a": 1}


def test_a_probe_that_is_switched_on_again_is_made_anew() -> None:
    active = ActiveProbe.install(spec(off_because="off by choice"), {"scripted": kind()})
    assert not active.runs_alike(spec())


async def test_a_kind_that_cannot_make_an_instance_is_a_probe_error_of_that_probe() -> None:
    class Exploding(kind()):  # type: ignore[misc]
        def __init__(self, settings: object) -> None:
            raise ValueError("no")

    finished = await runner(LoopClock()).run(ActiveProbe.install(spec(), {"scripted": Exploding}), {})
    assert verdict(finished.run) == ("unknown", "probe_error")
    assert finished.run.outcome.detail == "ValueError: no"


async def test_severities_are_those_of_the_probe() -> None:
    async def action(ctx: ProbeContext) -> Outcome:
        return Outcome.bad(ctx_reason)

    ctx_reason = kind().Reason.BROKEN
    assert (await run(action)).outcome.severity is Severity.PAGE
    assert (await run(action, severity=Severity.TICKET)).outcome.severity is Severity.TICKET
    override = {"broken": Severity.PAGE}
    assert (await run(action, severity=Severity.TICKET, severities=override)).outcome.severity is Severity.PAGE


async def test_secrets_are_masked_wherever_a_run_shows_text() -> None:
    secret = "p4ss w0rd"

    async def action(ctx: ProbeContext) -> Outcome:
        ctx.attach(f"answer to {secret}", f"<b>{secret}</b>")
        ctx.measure(kind().gauges[0], 1, thing=secret)
        ctx.log.warning("using %s", secret, dsn=f"x://u:{secret}@h")
        return Outcome.bad(kind().Reason.BROKEN, f"said p4ss%20w0rd\nand {secret}", component=secret)

    with structlog.testing.capture_logs() as logs:
        made = await run(action, password=secret)
    assert "w0rd" not in str(made) + str(logs)
    assert made.outcome.detail == f"said {MASK} and {MASK}"
    assert made.attachments[0].content == f"<b>{MASK}</b>".encode()
    assert logs[0]["event"] == f"using {MASK}"
    assert (logs[0]["trace_id"], logs[0]["request_id"]) == (made.trace_id, made.request_id)


async def test_a_detail_is_one_bounded_line() -> None:
    async def action(ctx: ProbeContext) -> Outcome:
        return Outcome.ok("a\nb\x00" + "x" * 10_000)

    detail = (await run(action)).outcome.detail
    assert detail.startswith("a b x")
    assert len(detail) == 500


async def test_measurements_that_cannot_be_exported_are_dropped_and_noted() -> None:
    things = kind().gauges[0]

    async def action(ctx: ProbeContext) -> Outcome:
        ctx.measure(things, float("nan"), thing="a")
        ctx.measure(things, float("inf"), thing="b")
        ctx.measure(things, 1, thing="c")
        ctx.measure(things, 2, thing="c")
        ctx.measure(Gauge("tocsin_other", "Other."), 3)
        for number in range(2000):
            ctx.measure(things, number, thing=f"n{number}")
        return Outcome.ok()

    with structlog.testing.capture_logs() as logs:
        made = await run(action)
    assert len(made.measurements) == 1000
    assert (made.measurements[0].labels, made.measurements[0].value) == (("c",), 2.0)
    assert {entry["because"] for entry in logs} == {
        "nan is not a measurement",
        "inf is not a measurement",
        "its kind does not declare this gauge",
        "more than 1000 measurements in one run",
    }


async def test_waiting_for_a_permit_does_not_count_against_the_deadline() -> None:
    caps = Caps(10, Cap(concurrency=1, requests_per_minute=600))
    remaining: list[float] = []

    async def action(ctx: ProbeContext) -> Outcome:
        async def ask(seconds: float) -> None:
            async with ctx.permits.request("tcp://db:1"):
                await asyncio.sleep(seconds)

        await asyncio.gather(ask(3), ask(3))
        remaining.append(ctx.remaining())
        return Outcome.ok()

    made = await run(action, caps=caps, target="tcp://db:1")
    assert verdict(made) == ("ok", None)
    assert made.duration_seconds == 6.0
    assert remaining == [pytest.approx(2.0)]


async def test_a_run_that_gets_no_permit_for_a_further_request_is_throttled() -> None:
    caps = Caps(10, Cap(concurrency=10, requests_per_minute=1))

    async def action(ctx: ProbeContext) -> Outcome:
        for _ in range(2):
            async with ctx.permits.request("tcp://db:1"):
                pass
        return Outcome.ok()

    made = await run(action, caps=caps, target="tcp://db:1")
    assert verdict(made) == ("unknown", "throttled")
    assert made.outcome.detail == "no permit for tcp://db:1 in time: the cap on its rate is reached"
    assert made.duration_seconds == 25.0


async def controls(
    *unreachable: str, quorum: int | None = None, asked: list[str] | None = None, never: bool = False
) -> Controls:
    """Control targets that answered once, or ``never`` did, and of which some do not any more."""
    proven = never

    async def reach(target: ControlTarget) -> None:
        if proven and asked is not None:
            asked.append(target.host)
        if proven and target.host in unreachable:
            await asyncio.sleep(3600)

    targets = [ControlTarget.parse(text) for text in ("tcp://gateway:53", "dns://name", "http://own/")]
    made = Controls(targets, None, LoopClock(), quorum=quorum, reach=reach)  # type: ignore[arg-type]
    assert never or await made.unreachable() == ()
    proven = True
    await asyncio.sleep(10)
    return made


async def refused(ctx: ProbeContext) -> Outcome:
    raise ConnectionRefusedError(111, "refused")


@pytest.mark.parametrize(
    ("unreachable", "quorum", "expected"),
    [
        ((), None, ("failed", "connection_refused")),
        (("gateway", "name"), None, ("failed", "connection_refused")),
        (("gateway", "name", "own"), None, ("unknown", "local_network")),
        (("gateway", "name"), 2, ("unknown", "local_network")),
    ],
)
async def test_a_network_failure_is_our_own_when_the_control_targets_fail_as_well(
    unreachable: tuple[str, ...], quorum: int | None, expected: tuple[str, str]
) -> None:
    made = await run(refused, controls=await controls(*unreachable, quorum=quorum))
    assert verdict(made) == expected


async def test_control_targets_that_have_never_answered_excuse_nothing() -> None:
    made = await run(refused, controls=await controls("gateway", "name", "own", never=True))
    assert verdict(made) == ("failed", "connection_refused")


async def test_our_network_is_not_out_of_order_while_targets_elsewhere_answer() -> None:
    async def fine(ctx: ProbeContext) -> Outcome:
        return Outcome.ok()

    judge = await controls("gateway", "name", "own")
    for target, expected in (("http://127.0.0.1:1/", "unknown"), ("unix:///s", "unknown"), ("tcp://db:1", "failed")):
        await run(fine, controls=judge, target=target)
        assert verdict(await run(refused, controls=judge, target="tcp://db:1"))[0] == expected
    await asyncio.sleep(10)
    assert verdict(await run(refused, controls=judge)) == ("unknown", "local_network")


async def test_a_failure_that_is_not_the_networks_asks_no_control_target() -> None:
    asked: list[str] = []

    async def action(ctx: ProbeContext) -> Outcome:
        return Outcome.bad(kind().Reason.BROKEN)

    made = await run(action, controls=await controls("gateway", "name", "own", asked=asked))
    assert verdict(made) == ("failed", "broken")
    assert asked == []


async def test_runs_that_fail_together_share_one_look_at_the_control_targets() -> None:
    asked: list[str] = []
    judge = await controls("gateway", "name", "own", asked=asked)
    await asyncio.gather(*(run(refused, controls=judge) for _ in range(10)))
    assert sorted(asked) == ["gateway", "name", "own"]
    await asyncio.sleep(1.5)
    await run(refused, controls=judge)
    assert len(asked) == 6


async def test_a_run_with_silent_control_targets_is_over_within_half_a_second_of_its_deadline() -> None:
    async def stubborn(ctx: ProbeContext) -> Outcome:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(2)
        return Outcome.ok()

    silent = await controls("gateway", "name", "own")
    began = asyncio.get_running_loop().time()
    finished = await finish(stubborn, silent)
    assert asyncio.get_running_loop().time() - began < 5.5
    assert verdict(finished.run) == ("unknown", "local_network")
    assert finished.leaked is not None
    await finished.leaked
