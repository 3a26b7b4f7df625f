"""The reader of HTTP/1.1 answers: what it makes of bytes, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.sdk.faults import ProbeFault
from tocsin.sdk.http1 import MAX_HEAD_BYTES, AnswerReader

Read = tuple[int, bytes, bool]

ANSWERS: dict[str, tuple[bytes, Read]] = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", (200, b"hello", False)),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", (200, b"hi", False)),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", (200, b"hi", False)),
    "the same length twice": (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", (200, b"hi", False)),
    "an empty body": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", (404, b"", False)),
    "no body by its status": (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", False)),
    "an interim answer": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        (200, b"hi", False),
    ),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        (200, b"hello", False),
    ),
    "chunks win over a length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        (200, b"hi", False),
    ),
    "trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
        (200, b"hi", False),
    ),
    "exactly the bound": (b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678", (200, b"12345678", False)),
    "more than the bound": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789", (200, b"12345678", True)),
    "chunks beyond the bound": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n6\r\n789012\r\n0\r\n\r\n",
        (200, b"12345678", True),
    ),
}

WRONG = {
    "another version": b"HTTP/2 200\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    "a lone line feed in a header": b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
    "a length in hex": b"HTTP/1.1 200 OK\r\nContent-Length: 0x10\r\n\r\n",
    "an endless length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
    "another transfer encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "a signed chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n",
    "an endless chunk line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 300,
    "a chunk longer than it says": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n",
    "endless trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 2000,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (MAX_HEAD_BYTES // 6) + b"\r\n",
}


def read(pieces: list[bytes], *, bodyless: bool = False) -> AnswerReader:
    reader = AnswerReader(max_bytes=8, bodyless=bodyless)
    for piece in pieces:
        if reader.feed(piece):
            break
    else:
        reader.end()
    return reader


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(name=st.sampled_from(sorted(ANSWERS)), places=st.lists(st.integers(0, 200), max_size=12))
def test_an_answer_reads_the_same_however_it_is_cut(name: str, places: list[int]) -> None:
    data, expected = ANSWERS[name]
    reader = read(cut(data, places))
    assert (reader.status, bytes(reader.body), reader.truncated) == expected


@given(name=st.sampled_from(sorted(WRONG)), places=st.lists(st.integers(0, 40_000), max_size=12))
def test_what_is_no_http_is_refused_however_it_is_cut(name: str, places: list[int]) -> None:
    with pytest.raises(ProbeFault) as caught:
        read(cut(WRONG[name], places))
    assert caught.value.finding.reason == "unexpected_body"
    assert len(caught.value.finding.detail) < 400


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_end_in_an_answer_or_in_one_of_two_errors(data: bytes, looks_like_http: bool) -> None:
    prefix = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if looks_like_http else b""
    try:
        reader = read([prefix + data])
    except (ProbeFault, ConnectionResetError):
        return
    assert reader.done
    assert len(reader.body) <= 8


def test_without_a_length_the_body_lasts_until_the_end() -> None:
    assert bytes(read([b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"]).body) == b"hello"


def test_the_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    assert read([b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"], bodyless=True).done


def test_headers_ignore_case_and_keep_no_broken_text() -> None:
    reader = read([b"HTTP/1.1 204 No\r\nX-Name:  caf\xe9 \r\n\r\n"])
    assert reader.headers["x-name"] == "caf\\xe9"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "closed without an answer"),
        (b"HTTP/1.1 200", "closed in mid-headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "closed in mid-body, after 2 bytes of it"),
    ],
)
def test_an_early_end_says_how_far_it_came(data: bytes, said: str) -> None:
    with pytest.raises(ConnectionResetError, match=f"^{said}$"):
        read([data])
