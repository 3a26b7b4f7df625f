"""PDFs that no signer should give back, and no reader should choke on."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest

from tocsin_probes.signer import pades

CONTENT = pades.page_content("nonce")
EXPECTED = pades.Expected(CONTENT, "no-roots.pem")
PLAIN = pades.unsigned_document(CONTENT)


def document(contents: bytes, stream: bytes = b"", filters: bytes = b"") -> bytes:
    """The page with other /Contents, and perhaps another stream."""
    made = PLAIN.replace(b"/Contents 4 0 R", contents)
    if stream:
        old = b"<< /Length %d >>\nstream\n%b" % (len(CONTENT), CONTENT)
        made = made.replace(old, b"<< /Length %d %b >>\nstream\n%b" % (len(stream), filters, stream))
    body, _, _ = made.partition(b"xref\n")
    offsets = [body.index(b"%d 0 obj" % number) for number in range(1, 6)]
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(body)
    return body + b"xref\n0 6\n" + table + trailer


def reasons(made: bytes) -> list[str]:
    return [finding.reason for finding in pades.judge(made, EXPECTED, 0.0).findings]


def test_the_page_as_it_was_sent_can_be_read_and_has_no_signature() -> None:
    assert reasons(document(b"/Contents 4 0 R")) == ["signature_missing"]


@pytest.mark.parametrize("contents", [b"/Contents 5 0 R", b"/Contents 5", b"/Contents [5 0 R]", b"/Other 4 0 R"])
def test_contents_that_are_no_stream_make_it_unreadable(contents: bytes) -> None:
    assert reasons(document(contents)) == ["signature_invalid"]


def test_a_stream_that_would_become_a_gigabyte_is_not_unpacked() -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    made = document(b"/Contents 4 0 R", bomb, b"/Filter /FlateDecode")
    tracemalloc.start()
    try:
        assert reasons(made) == ["signature_invalid"]
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
