"""Canonical forms: RFC 8785, encodings, framing, and finding the form from a key and some rows."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest

from tocsin_chain import jcs
from tocsin_chain.forms import (
    TRIMMED,
    Encoding,
    Field,
    Form,
    FormError,
    Framing,
    LengthPrefix,
    PreviousPlace,
    encode,
    frame,
    render,
    rfc3339,
    to_sql,
    with_previous,
)
from tocsin_chain.infer import Guess, Sample, infer, settings_of
from tocsin_chain.macs import ChainKey, KeyRing, MacKey, recompute, verify
from tocsin_chain.settings import HashChainSettings, PayloadSettings, decoded

pytestmark = pytest.mark.thorough

NUMBERS = [
    # RFC 8785 appendix B: IEEE 754 sample values.
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_numbers_are_written_as_the_rfc_says(bits: str, text: str) -> None:
    import struct

    assert jcs.number(struct.unpack(">d", bytes.fromhex(bits))[0]) == text


def test_members_are_sorted_by_utf16_and_strings_escaped_as_the_rfc_says() -> None:
    # RFC 8785 section 3.2.3, and the example of section 3.2.2.
    names = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert list(json.loads(jcs.canonical(names))) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    text = '{"string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/", "literals": [null, true, false]}'
    expected = '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert jcs.canonicalise(text).decode() == expected


@pytest.mark.parametrize("text", ['{"a": NaN}', "1e999", "{", '"\\ud800"'])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json and codecs word it themselves
        jcs.canonicalise(text)


@pytest.mark.parametrize(
    ("precision", "text"),
    [(0, "05Z"), (3, "05.120Z"), (6, "05.120000Z"), (9, "05.120000000Z"), (TRIMMED, "05.12Z")],
)
def test_a_time_is_cut_to_its_precision(precision: int, text: str) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 120000, UTC)
    assert rfc3339(moment, precision) == f"2026-01-02T03:04:{text}"
    assert rfc3339(moment.replace(microsecond=0), TRIMMED) == "2026-01-02T03:04:05Z"


def test_fields_are_framed_with_separators_or_lengths() -> None:
    fields = (Field("a"), Field("b"))
    parts = [b"x", b"yy"]
    assert frame(Form(fields), parts) == b"x|yy"
    assert frame(Form(fields, terminated=True, separator=b"\n"), parts) == b"x\nyy\n"
    assert frame(Form(fields, Framing.LENGTH_PREFIXED), parts) == b"\0\0\0\1x\0\0\0\2yy"
    assert frame(Form(fields, Framing.LENGTH_PREFIXED, prefix=LengthPrefix.DECIMAL), parts) == b"1:x2:yy"
    row = {"a": 7, "b": '{"z": 1, "y": [1.0]}'}
    nested = (Field("a", name="n"), Field("b", Encoding.JCS))
    assert render(Form(nested, Framing.JCS_OBJECT), row) == b'{"b":{"y":[1],"z":1},"n":7}'
    assert render(Form(nested, Framing.OBJECT), row) == b'{"n":7,"b":{"z":1,"y":[1.0]}}'


@pytest.mark.parametrize(
    ("place", "message"),
    [("first_raw", b"\xaaP"), ("last_raw", b"P\xaa"), ("first_text", b"aaP"), ("last_text", b"Paa"), ("none", b"P")],
)
def test_the_previous_mac_stands_where_it_is_configured(place: str, message: bytes) -> None:
    assert with_previous(Form(previous=PreviousPlace(place)), b"P", b"\xaa", b"aa") == message


def test_an_encoding_that_does_not_fit_says_which_column_and_what_would() -> None:
    with pytest.raises(FormError, match="column at: datetime has no text form here; use rfc3339, hex or raw"):
        encode(Field("at"), datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(FormError, match="column a: hex needs bytea, not str"):
        encode(Field("a", Encoding.HEX), "x")


def test_a_column_name_cannot_leave_its_quotes() -> None:
    assert '"a""; DROP TABLE x; --"::text' in to_sql(Form((Field('a"; DROP TABLE x; --'),)))


def test_the_two_states_give_what_hmac_gives() -> None:
    for length in (0, 1, 31, 32, 63, 64, 65, 200):
        key = MacKey(bytes(range(length)))
        for message in (b"", b"x" * 300):
            assert key.mac(message) == hmac.digest(bytes(range(length)), message, "sha256")
    assert recompute(MacKey(b"k"), [b"a", b"b"]) == b"".join(hmac.digest(b"k", m, hashlib.sha256) for m in (b"a", b"b"))
    assert "k" not in repr(MacKey(b"k"))[7:]


def test_keys_count_by_id_and_by_validity() -> None:
    old = ChainKey("old", MacKey(b"1"), None, 100.0)
    new = ChainKey("new", MacKey(b"2"), 100.0, None)
    message, mac = b"m", hmac.digest(b"1", b"m", "sha256")
    assert verify(KeyRing((old, new)), None, 99.0, message, mac).good is True
    assert verify(KeyRing((old, new)), None, 100.0, message, mac).good is False
    assert verify(KeyRing((old, new), by_id=True), "old", 50.0, message, mac).good is True
    assert verify(KeyRing((old, new), by_id=True), "old", 150.0, message, mac).good is None
    assert verify(KeyRing((old, new), by_id=True), "other", 50.0, message, mac).good is None


def test_the_previous_column_is_not_added_where_the_form_names_it() -> None:
    assert PayloadSettings(fields=["a"]).form("prev").previous is PreviousPlace.FIRST_RAW
    assert PayloadSettings(fields=["prev", "a"]).form("prev").previous is PreviousPlace.NONE
    assert PayloadSettings(sql="prev || a").form("prev").previous is PreviousPlace.NONE
    assert PayloadSettings(sql="convert_to(a, 'UTF8')").form("prev").previous is PreviousPlace.FIRST_RAW


def test_what_is_no_mac_stays_visible_as_what_it_is() -> None:
    assert decoded("00FF", "hex") == b"\x00\xff"
    assert decoded("genesis", "hex") == b"genesis"
    assert decoded("AP8", "base64") == decoded("AP8=", "base64") == b"\x00\xff"
    assert decoded(None, "raw") == b""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "hmac", "keys": [{"secret": "k"}]}, "`mode: hmac` needs `payload`"),
        ({"mode": "hmac", "payload": {"fields": ["a"]}}, "`mode: hmac` needs at least one of `keys`"),
        ({"keys": [{"secret": "k"}]}, "`keys` are only used in `mode: hmac`"),
        ({"mode": "hmac", "keys": [{"secret": "k"}], "payload": {}}, "give either `fields` or `sql`"),
        (
            {"mode": "hmac", "keys": [{"secret": "k"}], "payload": {"fields": ["a"]}, "key_id_column": "k"},
            "every key needs its `id`",
        ),
        ({"witness": {}}, "give one of `file`, `s3` and `config_map`"),
    ],
)
def test_settings_that_cannot_work_say_what_would(settings: dict[str, object], message: str) -> None:
    usual = {"dsn": "postgresql://h/d", "table": "t", "mac_column": "m", "previous_column": "p"}
    with pytest.raises(ValueError, match=message):
        HashChainSettings.model_validate({**usual, **settings})


SAMPLES = [
    {
        "id": number,
        "actor": f"user {number}",
        "metadata": json.dumps({"b": number, "a": [1.5, None]}),
        "created_at": datetime(2026, 1, 2, 3, 4, number, 120_000 * number, UTC),
    }
    for number in range(1, 5)
]
PLATFORMS = {
    "separated": Form((Field("id"), Field("actor")), separator=b":", previous=PreviousPlace.FIRST_TEXT),
    "go time": Form((Field("actor"), Field("created_at", Encoding.RFC3339, TRIMMED)), previous=PreviousPlace.LAST_RAW),
    "millis": Form((Field("id"), Field("created_at", Encoding.UNIX_MS)), separator=b"\n"),
    "jcs": Form((Field("id"), Field("metadata", Encoding.JCS)), Framing.LENGTH_PREFIXED),
    "jcs object": Form((Field("id"), Field("actor"), Field("created_at", Encoding.RFC3339, 3)), Framing.JCS_OBJECT),
    "carried": Form((Field("prev"), Field("id"), Field("actor")), separator=b"|", previous=PreviousPlace.NONE),
    "another order": Form((Field("actor"), Field("id")), separator=b"-"),
}


@pytest.mark.parametrize("name", sorted(PLATFORMS))
def test_the_form_is_found_from_a_key_and_some_rows(name: str) -> None:
    form, key = PLATFORMS[name], MacKey(b"secret")
    samples = []
    previous = b"\x11" * 32
    for row in SAMPLES:
        text = previous.hex().encode()
        payload = render(form, {**row, "prev": text.decode()})
        mac = key.mac(with_previous(form, payload, previous, text))
        samples.append(Sample(row, previous, text, mac))
        previous = mac
    *_, answer = infer(key, samples, previous_column="prev")
    assert isinstance(answer, Guess)
    restored = PayloadSettings.model_validate(settings_of(answer.form)).form("prev")
    for sample in samples:
        payload = render(restored, {**sample.columns, "prev": sample.previous_text.decode()})
        assert key.mac(with_previous(restored, payload, sample.previous, sample.previous_text)) == sample.mac


def test_a_wrong_key_finds_nothing_and_ends() -> None:
    row = {name: SAMPLES[0][name] for name in ("id", "actor")}
    *_, answer = infer(MacKey(b"wrong"), [Sample(row, b"p" * 32, b"p", b"m" * 32)], previous_column="prev")
    assert isinstance(answer, int)
    assert answer > 100
