"""References in values: what they become, and what they say of themselves."""

import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.config.interpolation import UnreadableFile, UnsetVariable, Variables, interpolate
from tocsin.model import Reference, Secret

VALUES = {"HOST": "db", "PORT": "5432", "EMPTY": "", "DOLLAR": "a$b${HOST}"}


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ("plain", "plain"),
        ("${HOST}", "db"),
        ("tcp://${HOST}:${PORT}/", "tcp://db:5432/"),
        ("${NOPE:-x}", "x"),
        ("${HOST:-x}", "db"),
        ("${EMPTY:-x}", "x"),
        ("${NOPE:-}", ""),
        ("${NOPE:-${HOST}}", "db"),
        ("${NOPE:-${EMPTY:-z}}!", "z!"),
        ("${NOPE:-a:-b}", "a:-b"),
        ("$${HOST}", "${HOST}"),
        ("$$", "$"),
        ("cost $5, ^a$, $1 $", "cost $5, ^a$, $1 $"),
        ("{x} }", "{x} }"),
        ("${DOLLAR}", "a$b${HOST}"),
    ],
)
def test_a_reference_becomes_the_value(written: str, becomes: str):
    assert interpolate(written, Variables(VALUES)) == becomes


def test_text_without_references_is_a_plain_string():
    assert type(interpolate("a$$b", Variables(VALUES))) is str


@pytest.mark.parametrize(("written", "name"), [("${NOPE}", "NOPE"), ("${EMPTY}", "EMPTY"), ("${A:-${B}}", "A")])
def test_a_variable_that_is_unset_or_empty_is_told_by_the_first_name(written: str, name: str):
    with pytest.raises(UnsetVariable) as caught:
        interpolate(written, Variables(VALUES))
    assert caught.value.name == name


@pytest.mark.parametrize("written", ["${", "${}", "${a b}", "${HOST", "${HOST:x}", "${1A}", "${HOST:-", "${file:/x"])
def test_a_malformed_reference_is_an_error_that_shows_the_forms(written: str):
    with pytest.raises(ValueError, match=r"write \$\{NAME\}, \$\{NAME:-default\}, \$\{file:/path\}, or \$\$"):
        interpolate(written, Variables(VALUES))


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("${HOST}", "${HOST}"),
        ("x${HOST}${PORT}${HOST}", "${HOST}, ${PORT}"),
        ("${NOPE:-hunter2}", "${NOPE} unset, its default"),
    ],
)
def test_the_source_names_the_variables_and_no_value(written: str, source: str):
    text = interpolate(written, Variables(VALUES))
    assert isinstance(text, Reference)
    assert text.source == source


def test_a_secret_file_is_read_again_for_each_use(tmp_path: Path):
    path = tmp_path / "password"
    path.write_text("first\n")
    text = interpolate(f"user:${{file:{path}}}@${{HOST}}", Variables(VALUES))
    secret = Secret(text)
    assert secret.reveal() == "user:first@db"
    path.write_text("second\r\n")
    assert secret.reveal() == "user:second@db"
    assert secret.source == f"${{file:{path}}}, ${{HOST}}"
    assert secret.identity() == f"user:${{file:{path}}}@db"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        secret.reveal()


def test_a_path_may_come_from_a_variable(tmp_path: Path):
    (tmp_path / "key").write_text("k")
    variables = Variables({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert interpolate("${file:${CREDENTIALS_DIRECTORY}/key}", variables) == "k"
    assert set(variables.files) == {tmp_path / "key"}


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "the file is empty"), (b"\n", "the file is empty"), (b"\xff", "not UTF-8 text")],
)
def test_a_secret_file_without_a_usable_text_is_unreadable(content: bytes, why: str, tmp_path: Path):
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile) as caught:
        interpolate(f"${{file:{path}}}", Variables({}))
    assert str(caught.value) == f"cannot read {path}: {why}"


def test_a_secret_file_larger_than_any_secret_is_unreadable(tmp_path: Path):
    path = tmp_path / "key"
    path.write_bytes(b"x" * 70_000)
    with pytest.raises(UnreadableFile, match="larger than 64 KiB"):
        interpolate(f"${{file:{path}}}", Variables({}))


@given(st.text())
def test_a_text_with_every_dollar_doubled_is_itself(text: str):
    assert interpolate(text.replace("$", "$$"), Variables({})) == text


@pytest.mark.parametrize(
    "text", ["$ " * 500_000, "}" * 500_000, "${A:-" * 100_000, "${" * 500_000], ids=lambda text: text[:5]
)
def test_a_megabyte_of_marks_takes_no_time_to_speak_of(text: str):
    started = time.monotonic()
    with suppress(ValueError):
        assert interpolate(text, Variables({})) == text
    assert time.monotonic() - started < 10


def test_references_nest_ten_deep_and_no_deeper():
    def nested(depth: int) -> str:
        return "${A:-" * depth + "x" + "}" * depth

    assert interpolate(nested(10), Variables({})) == "x"
    with pytest.raises(ValueError, match="references inside one another, more than 10 deep"):
        interpolate(nested(11), Variables({}))
