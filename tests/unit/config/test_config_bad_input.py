"""One file for each way to get a configuration wrong; beside it, the exact words that answer it."""

import os
import time
from pathlib import Path

import pytest

from tocsin.config import ConfigError, Problem, Registry, Sources, load

FIXTURES = Path(__file__).parent / "fixtures"
ENVIRON = {"SHOP_PASSWORD": "hunter2", "EMPTY": ""}


def complaint(path: Path, registry: Registry) -> str:
    with pytest.raises(ConfigError) as caught:
        load(Sources(path, environ=ENVIRON), registry)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.glob("*.yaml")))
def test_a_mistake_is_answered_by_its_place_and_what_would_be_right(name: str, registry: Registry, bundled: Path):
    (bundled / "wipe.yaml").touch()
    answer = complaint(FIXTURES / f"{name}.yaml", registry)
    assert answer == (FIXTURES / f"{name}.txt").read_text().rstrip("\n")
    assert "hunter2" not in answer


def test_every_fixture_has_its_answer_and_every_answer_its_fixture():
    assert {path.stem for path in FIXTURES.glob("*.yaml")} == {path.stem for path in FIXTURES.glob("*.txt")}


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"# " + b"x" * 10_000_000, "big.yaml: cannot be read: larger than 1024 KiB"),
        (b"a: 1\nb: \xff\n", "big.yaml:2: not UTF-8 text; save the file as UTF-8"),
        (b"a: 1\n\nb: \x00\n", "big.yaml:3: the character U+0000 is not allowed in YAML"),
        (b"a: " + b"[" * 1000, "big.yaml:1: nested more than 50 levels deep"),
        (b"a: " + b"{a: " * 1000, "big.yaml:1: nested more than 50 levels deep"),
        (b"a: [" + b"1," * 250_000 + b"]", "big.yaml:1: more than 200,000 values, aliases expanded"),
    ],
    ids=["10 MB", "not UTF-8", "a NUL", "deep lists", "deep mappings", "many values"],
)
def test_a_file_that_would_exhaust_the_reader_is_refused(
    content: bytes, answer: str, tmp_path: Path, registry: Registry
):
    path = tmp_path / "big.yaml"
    path.write_bytes(content)
    started = time.process_time()
    assert complaint(path, registry) == answer
    assert time.process_time() - started < 10


def test_a_megabyte_of_brackets_is_refused_without_reading_them_all(tmp_path: Path, registry: Registry):
    path = tmp_path / "brackets.yaml"
    path.write_bytes(b"a: " + b"[" * 1_000_000)
    started = time.monotonic()
    assert complaint(path, registry) == "brackets.yaml:1: nested more than 50 levels deep"
    assert time.monotonic() - started < 10


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path, registry: Registry):
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    assert complaint(path, registry) == "pipe.yaml: cannot be read: not a regular file"


def test_a_file_that_does_not_exist_is_named(tmp_path: Path, registry: Registry):
    answer = complaint(tmp_path / "nowhere.yaml", registry)
    assert answer == "nowhere.yaml: cannot be read: No such file or directory"


def test_without_any_source_the_answer_says_which_to_give(registry: Registry):
    with pytest.raises(ConfigError) as caught:
        load(Sources(environ={}), registry)
    assert caught.value.problems == (
        Problem("tocsin", 0, "", "nothing is configured", "give --config FILE or --profile NAME"),
    )


def test_an_unknown_profile_of_the_command_line_is_answered_with_those_there_are(registry: Registry, bundled: Path):
    (bundled / "wipe.yaml").touch()
    (bundled / "alexandria.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        load(Sources(profiles=("shop",), environ={}), registry)
    assert str(caught.value) == (
        "--profile: there is no bundled profile `shop`; bundled are: alexandria, wipe; give a path for one of your own"
    )


def test_the_error_hides_the_validators_own_exception_which_quotes_values(tmp_path: Path, registry: Registry):
    with pytest.raises(ConfigError) as caught:
        load(Sources(FIXTURES / "value-of-a-variable-wrong.yaml", environ=ENVIRON), registry)
    error: BaseException | None = caught.value
    assert error is not None
    assert error.__cause__ is None
    assert error.__context__ is None
