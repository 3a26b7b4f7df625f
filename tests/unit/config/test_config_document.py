"""Reading YAML: what values mean, and where they stand."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.config.document import Located, Origin, parse
from tocsin.config.errors import ConfigError

ORIGIN = Origin("a.yaml")


def plain(located: Located) -> object:
    match located.value:
        case dict() as entries:
            return {key: plain(entry) for key, entry in entries.items()}
        case list() as items:
            return [plain(item) for item in items]
    return located.value


def read(text: str) -> object:
    return plain(parse(text.encode(), ORIGIN))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("22:30", "22:30"),
        ("no", "no"),
        ("on", "on"),
        ("0x52908400098527886E0F7030069857D2E4169EE7", "0x52908400098527886E0F7030069857D2E4169EE7"),
        ("010", "010"),
        ("1e10", "1e10"),
        (".inf", ".inf"),
        ("2026-12-01", "2026-12-01"),
        ("1_000", "1_000"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("42", 42),
        ("-1", -1),
        ("0.5", 0.5),
        ("'42'", "42"),
        ('"true"', "true"),
        ("9" * 101, "9" * 101),
    ],
)
def test_a_plain_scalar_means_what_it_looks_like(written: str, meant: object):
    assert read(f"a: {written}\n") == {"a": meant}


def test_keys_are_text_whatever_they_look_like():
    assert read("1: a\ntrue: b\nno: c\n") == {"1": "a", "true": "b", "no": "c"}


def test_places_count_from_one_and_point_at_the_key():
    root = parse(b"# first\na:\n  b: 1\n  c:\n    - x\n    - y\n", ORIGIN)
    b, c = root.mapping["a"].mapping["b"], root.mapping["a"].mapping["c"]
    assert b.key is not None
    assert (b.key.line, b.key.column, b.at.line, b.at.column) == (3, 3, 3, 6)
    assert (c.place.line, c.at.line) == (4, 5)
    assert isinstance(c.value, list)
    assert [str(item.place) for item in c.value] == ["a.yaml:5", "a.yaml:6"]


def test_an_alias_repeats_the_value_of_its_anchor():
    assert read("a: &x [1, 2]\nb: *x\nc: {d: *x}\n") == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}


def test_a_byte_order_mark_and_windows_line_ends_are_no_content():
    assert plain(parse(b"\xef\xbb\xbfa: 1\r\nb: x\r\n", ORIGIN)) == {"a": 1, "b": "x"}


def test_tabs_inside_a_block_of_text_are_text():
    assert read("q: |\n  SELECT\n  \t1\n") == {"q": "SELECT\n\t1\n"}


@given(st.text(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \t\n", max_size=60))
def test_any_text_is_a_mapping_or_a_configuration_error(text: str):
    with suppress(ConfigError):
        assert isinstance(parse(text.encode(errors="surrogatepass"), ORIGIN).value, dict)
