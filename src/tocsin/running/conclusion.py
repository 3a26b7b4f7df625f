"""What is made of what a run did: an outcome that its kind may give, what can be exported, and no secret in either."""

from __future__ import annotations

import copy
import math
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from tocsin.model import Attachment, CommonReason, Finding, Measurement, Outcome, Status
from tocsin.model.redaction import NOTHING_SECRET, Redactor, one_line
from tocsin.running.active import ActiveProbe
from tocsin.sdk import Probe, ProbeContext
from tocsin.sdk.faults import explain

MAX_MEASUREMENTS = 1000

_log = structlog.get_logger("tocsin.runner")


@dataclass(frozen=True, slots=True)
class Conclusion:
    """All text in it is masked; details are short and on one line. ``memory``: what the probe is to find again."""

    outcome: Outcome
    memory: Mapping[str, Any]
    measurements: tuple[Measurement, ...] = ()
    attachments: tuple[Attachment, ...] = ()


def conclude(
    active: ActiveProbe, probe: Probe, ctx: ProbeContext, result: object, before: Mapping[str, Any]
) -> Conclusion:
    """Never raises: whatever the kind left is its own, and what cannot be read becomes unknown/probe_error.

    ``result``: what ``run`` returned or raised. ``before``: the memory that stays then.
    """
    try:
        outcome = _outcome(active, probe, ctx, result)
        redactor = active.redactor()
        return Conclusion(
            outcome=_clean(outcome.graded(active.spec.severity, active.spec.severities), redactor),
            memory=_without_secrets(dict(copy.deepcopy(ctx.memory)), redactor) if ctx.memory else {},
            measurements=tuple(
                _masked(measurement, redactor) for measurement in _measurements(active, ctx, ctx.measurements)
            ),
            attachments=tuple(
                replace(
                    attachment,
                    name=one_line(redactor.text(attachment.name), 200),
                    content=redactor.data(bytes(attachment.content)),
                )
                for attachment in ctx.attachments
            ),
        )
    except BaseException as error:  # noqa: BLE001 - nothing here waits: it is the kind's, a `SystemExit` included
        _tell_bug(active, ctx, error)
        return Conclusion(_bug(f"what the run left cannot be read: {type(error).__name__}"), before)


def _outcome(active: ActiveProbe, probe: Probe, ctx: ProbeContext, result: object) -> Outcome:
    if isinstance(result, BaseException):
        finding = explain(result, probe.unauthorized)
        if finding.reason == CommonReason.PROBE_ERROR:
            _tell_bug(active, ctx, result)
        result = Outcome.of([finding])
    if not isinstance(result, Outcome):
        return _bug(f"run() returned {type(result).__name__}, not an Outcome")
    for finding in result.findings:
        if finding.reason not in active.reasons:
            return _bug(f"gave the reason {finding.reason!r}, which its kind does not declare")
        if finding.status is Status.OK:
            return _bug(f"gave the reason {finding.reason!r} with the status ok")
    texts = [result.detail, *(text for finding in result.findings for text in (finding.detail, finding.component))]
    for text in texts:
        if not isinstance(text, str):
            return _bug(f"gave {type(text).__name__} as a detail, not text")
    return result


def _bug(detail: str) -> Outcome:
    return Outcome.bad(CommonReason.PROBE_ERROR, detail)


def _tell_bug(active: ActiveProbe, ctx: ProbeContext, error: BaseException) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
    if active.first_time(f"{type(error).__name__} at {where}"):
        text = "".join(traceback.format_exception(error))
        _log.error(
            "a probe failed in a way it did not foresee; this is a bug in its kind",
            **_identity(active, ctx),
            kind=active.spec.kind,
            exception=active.redactor().text(text),
        )


def _measurements(active: ActiveProbe, ctx: ProbeContext, measured: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """What can be exported: declared gauges, finite values, the latest of each label set, a bounded number."""
    kept: dict[tuple[str, tuple[str, ...]], Measurement] = {}
    for measurement in measured:
        name = measurement.gauge.name
        if name not in active.gauges:
            _tell_dropped(active, ctx, name, "its kind does not declare this gauge")
        elif not math.isfinite(measurement.value):
            _tell_dropped(active, ctx, name, f"{measurement.value} is not a measurement")
        elif len(kept) >= MAX_MEASUREMENTS:
            _tell_dropped(active, ctx, name, f"more than {MAX_MEASUREMENTS} measurements in one run")
        else:
            kept[name, measurement.labels] = measurement
    return tuple(kept.values())


def _tell_dropped(active: ActiveProbe, ctx: ProbeContext, gauge: str, why: str) -> None:
    if active.first_time(f"dropped {gauge}: {why}"):
        _log.warning("a measurement is dropped", **_identity(active, ctx), gauge=gauge, because=why)


def _identity(active: ActiveProbe, ctx: ProbeContext) -> dict[str, str]:
    return {"probe": active.spec.name, "trace_id": ctx.trace_id, "request_id": ctx.request_id}


def _without_secrets(memory: Mapping[str, Any], redactor: Redactor) -> Mapping[str, Any]:
    """What a probe remembers is written to the disk; what a target said, say, is quoted in there."""

    def masked(value: Any) -> Any:
        match value:
            case str():
                return redactor.text(value)
            case dict():
                return {name: masked(inner) for name, inner in value.items()}
            case list() | tuple():
                return [masked(inner) for inner in value]
        return value

    return {name: masked(value) for name, value in memory.items()} if redactor != NOTHING_SECRET else memory


def _clean(outcome: Outcome, redactor: Redactor) -> Outcome:
    def clean(finding: Finding) -> Finding:
        return replace(
            finding,
            detail=one_line(redactor.text(finding.detail)),
            component=one_line(redactor.text(finding.component), 100),
        )

    return Outcome(tuple(map(clean, outcome.findings)), one_line(redactor.text(outcome.detail)))


def _masked(measurement: Measurement, redactor: Redactor) -> Measurement:
    labels = tuple(one_line(redactor.text(label), 200) for label in measurement.labels)
    return measurement if labels == measurement.labels else replace(measurement, labels=labels)
