"""HTTP/1.1 answers out of bytes (RFC 9112): strict, bounded at every point, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable

from multidict import CIMultiDict

from tocsin.model import CommonReason
from tocsin.sdk.faults import ProbeFault, quoted

MAX_HEAD_BYTES = 32 << 10
"""Status line and headers, those of interim answers included."""

MAX_CHUNK_LINE_BYTES = 256
MAX_TRAILER_BYTES = 8 << 10

_STATUS_LINE = re.compile(r"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: .*)?", re.DOTALL)
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class AnswerReader:
    """One answer, fed piece by piece. ``body`` never exceeds ``max_bytes``; ``truncated`` says that there was more.

    ``bodyless``: the answer to a HEAD request. `feed` and `end` raise `ProbeFault` (unexpected_body) when the bytes
    are no HTTP/1.1, and `end` raises `ConnectionResetError` when they stop before the answer is complete.
    """

    __slots__ = ("_bodyless", "_buffer", "_head_room", "_left", "_max_bytes", "_step", "body", "done", "headers",
                 "status", "truncated")  # fmt: skip

    def __init__(self, *, max_bytes: int, bodyless: bool = False) -> None:
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.body = bytearray()
        self.truncated = False
        self.done = False
        self._max_bytes = max_bytes
        self._bodyless = bodyless
        self._buffer = bytearray()
        self._head_room = MAX_HEAD_BYTES
        self._left = 0
        self._step: Callable[[], bool] = self._head

    def feed(self, data: bytes) -> bool:
        """Takes more bytes; True when the answer is complete, after which nothing more is wanted."""
        self._buffer += data
        while not self.done and self._step():
            pass
        return self.done

    def end(self) -> None:
        """The peer closed the connection."""
        if self.done:
            return
        if self._step == self._until_end:
            self.done = True
        elif self.status:
            raise ConnectionResetError(f"closed in mid-body, after {len(self.body)} bytes of it")
        else:
            raise ConnectionResetError("closed in mid-headers" if self._buffer else "closed without an answer")

    def _head(self) -> bool:
        buffer = self._buffer
        if not buffer.startswith(b"HTTP/1."[: len(buffer)]):
            raise _garbage(f"it begins {quoted(bytes(buffer[:80]))}")
        end = buffer.find(b"\r\n\r\n")
        if (end if end >= 0 else len(buffer)) > self._head_room:
            raise _garbage(f"more than {MAX_HEAD_BYTES} bytes of headers")
        if end < 0:
            return False
        status_line, *lines = buffer[:end].decode("utf-8", "backslashreplace").split("\r\n")
        del buffer[: end + 4]
        self._head_room -= end + 4
        matched = _STATUS_LINE.fullmatch(status_line)
        if matched is None:
            raise _garbage(f"its status line is {quoted(status_line)}")
        status = int(matched[1])
        headers = _fields(lines)
        if status >= 200 or status == 101:
            self.status, self.headers = status, headers
            self._frame_body()
        return True

    def _frame_body(self) -> None:
        """How the body's end is known. RFC 9112 section 6.3."""
        encodings = self.headers.getall("Transfer-Encoding", ())
        lengths = {part.strip() for value in self.headers.getall("Content-Length", ()) for part in value.split(",")}
        if self._bodyless or self.status in (101, 204, 304):
            self.done = True
        elif encodings:
            if ",".join(encodings).strip().lower() != "chunked":
                raise _garbage(f"its Transfer-Encoding is {quoted(','.join(encodings))}")
            self._step = self._chunk_line
        elif lengths:
            length = lengths.pop()
            if lengths or not _LENGTH.fullmatch(length):
                raise _garbage(f"its Content-Length is {quoted(self.headers['Content-Length'])}")
            self._left = int(length)
            self._step = self._sized
            self.done = self._left == 0
        else:
            self._step = self._until_end

    def _take(self, size: int) -> None:
        """Moves bytes to the body as far as it may grow; ends the answer when it may not."""
        room = self._max_bytes - len(self.body)
        self.body += self._buffer[: min(size, room)]
        del self._buffer[:size]
        if size > room:
            self.truncated = self.done = True

    def _sized(self) -> bool:
        size = min(self._left, len(self._buffer))
        self._take(size)
        self._left -= size
        self.done = self.done or self._left == 0
        return False

    def _until_end(self) -> bool:
        self._take(len(self._buffer))
        return False

    def _chunk_line(self) -> bool:
        end = self._buffer.find(b"\r\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_CHUNK_LINE_BYTES:
                raise _garbage(f"a chunk begins {quoted(bytes(self._buffer[:80]))}")
            return False
        line = bytes(self._buffer[:end])
        matched = _CHUNK_LINE.fullmatch(line)
        if matched is None:
            raise _garbage(f"a chunk begins {quoted(line)}")
        del self._buffer[: end + 2]
        self._left = int(matched[1], 16)
        self._step = self._chunk if self._left else self._trailers
        return True

    def _chunk(self) -> bool:
        size = min(self._left, len(self._buffer))
        self._take(size)
        self._left -= size
        if self._left or len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise _garbage(f"a chunk is longer than it says: {quoted(bytes(self._buffer[:80]))}")
        del self._buffer[:2]
        self._step = self._chunk_line
        return True

    def _trailers(self) -> bool:
        self.done = self._buffer.startswith(b"\r\n") or b"\r\n\r\n" in self._buffer
        if not self.done and len(self._buffer) > MAX_TRAILER_BYTES:
            raise _garbage(f"more than {MAX_TRAILER_BYTES} bytes of trailers")
        return False


def _fields(lines: list[str]) -> CIMultiDict[str]:
    """Header fields. RFC 9112 section 5: no space before the colon, no folded lines."""
    fields = []
    for line in lines:
        matched = _FIELD.fullmatch(line)
        if matched is None:
            raise _garbage(f"a header line is {quoted(line)}")
        fields.append((matched[1], matched[2].strip(" \t")))
    return CIMultiDict(fields)


def _garbage(what: str) -> ProbeFault:
    return ProbeFault(CommonReason.UNEXPECTED_BODY, f"not an HTTP/1.1 answer: {what}")
