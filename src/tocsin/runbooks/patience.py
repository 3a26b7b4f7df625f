"""Pages of the user's own may be on a file system that hangs, in the very incident that they are about."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from tocsin.runbooks.pages import PageError

_T = TypeVar("_T")


class Patience:
    """Looks into one folder, one look at a time, and waits for none longer than ``seconds``. For any thread.

    A look that hangs keeps its own thread, and no other one, until the file system is back.
    """

    def __init__(self, folder: Path, seconds: float = 2.0) -> None:
        self._folder = folder
        self._seconds = seconds
        self._turn = threading.Lock()
        self._hangs = False

    def look(self, find: Callable[[], _T]) -> _T:
        """What ``find`` gives, or raises. Raises `PageError` when it does not return in time, and at once while one
        before it has not."""
        if not self._turn.acquire(timeout=0.0 if self._hangs else self._seconds):
            raise self._error()
        answer: Future[_T] = Future()

        def work() -> None:
            try:
                answer.set_result(find())
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                answer.set_exception(error)
            finally:
                self._hangs = False
                self._turn.release()

        # Nobody waits for a thread like this at the end of the process.
        try:
            threading.Thread(target=work, name="tocsin-pages", daemon=True).start()
        except RuntimeError:  # there is no thread to be had
            self._turn.release()
            raise self._error() from None
        try:
            return answer.result(self._seconds)
        except TimeoutError:
            self._hangs = not answer.done()
            raise self._error() from None

    def _error(self) -> PageError:
        return PageError(f"{self._folder}: cannot be read: it has not answered within {self._seconds:g} s")
