"""What a line of the log may hold."""

from __future__ import annotations

import errno
import io
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from tocsin.logs import VEIL, configure_logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    VEIL.cover(())
    VEIL.cover(())
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_secret_is_masked_in_values_events_and_exceptions_of_any_logger(
    style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("debug", style)
    VEIL.cover(["hunter2-of-old"])
    VEIL.cover(["correct-horse"])
    for secret in ("correct-horse", "hunter2-of-old"):
        try:
            raise ValueError(f"cannot log in with {secret}")
        except ValueError:
            structlog.get_logger("tocsin.test").exception(f"event {secret}", value=f"value {secret}")
            logging.getLogger("other").exception("standard %s", secret)
    written = capsys.readouterr().err
    assert written.count("ValueError: cannot log in with ********") == 4
    assert "correct-horse" not in written
    assert "hunter2" not in written


def test_nothing_is_logged_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "auto")
    structlog.get_logger("tocsin.test").warning("careful")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "careful" in captured.err


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_log_that_cannot_be_written_is_nobodys_failure(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    monkeypatch.setattr(logging.Handler, "handleError", lambda *_: pytest.fail("the handler met an error"))
    configure_logs("info", style)
    structlog.get_logger("tocsin.test").error("a line")
    logging.getLogger("other").error("a line")
