"""Env files as platforms write them."""

import time

import pytest

from tocsin.config.envfile import parse_env_file
from tocsin.config.errors import ConfigError


def read(text: str, **environ: str) -> dict[str, str]:
    return parse_env_file(text.encode(), ".env", environ)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("export A=1", "1"),
        ("  A = 1  ", "1"),
        ("A=", ""),
        ("A=x y", "x y"),
        ("A=x # a comment", "x"),
        ("A=x#y", "x#y"),
        ("A= # a comment", ""),
        ("A='x # y' # a comment", "x # y"),
        ("A='$(id) `id` ${B}'", "$(id) `id` ${B}"),
        ("A=$(id)", "$(id)"),
        ('A="a\\nb\\t\\"c\\" \\$ \\q"', 'a\nb\t"c" $ \\q'),
        ("A='-----BEGIN\nabc=\n-----END'", "-----BEGIN\nabc=\n-----END"),
        ('A="one\ntwo"', "one\ntwo"),
        ("A=pa$$word$x", "pa$$word$x"),
        ("A=a=b", "a=b"),
        ("A=1\r", "1"),
        ("A=1\nA=2", "2"),
        ("\ufeffA=1", "1"),
    ],
)
def test_a_line_gives_its_variable(line: str, value: str):
    assert read(line + "\n") == {"A": value}
    assert read(line) == {"A": value}


def test_a_value_may_refer_to_lines_above_and_to_the_process_environment_which_wins():
    text = "HOST=db\nPORT=1\nDSN=pg://${HOST}:${PORT}\nQ=\"${NOPE:-x}${HOST}\"\nR='${HOST}'\n"
    assert read(text, PORT="5432") == {
        "HOST": "db",
        "PORT": "1",
        "DSN": "pg://db:5432",
        "Q": "xdb",
        "R": "${HOST}",
    }


def test_comments_and_blank_lines_count_for_line_numbers():
    with pytest.raises(ConfigError) as caught:
        read("# one\n\nA='x\ny'\nhunter2\nB=${C}\nD=2\n1E=3\nF='x' hunter2\n")
    assert str(caught.value) == (
        ".env:5: not of the form KEY=VALUE\n"
        ".env:6: B: refers to ${C}, which is not set above it\n"
        ".env:8: not of the form KEY=VALUE\n"
        ".env:9: F: something follows the closing quote"
    )


def test_an_open_quote_is_told_once_where_it_starts():
    with pytest.raises(ConfigError) as caught:
        read("A=1\nB='hunter2\nhunter3\n")
    assert str(caught.value) == ".env:2: B: the quote is not closed"


def test_a_file_that_is_not_text_is_refused_with_the_line():
    with pytest.raises(ConfigError) as caught:
        parse_env_file(b"A=1\nB=\xff\n", ".env", {})
    assert str(caught.value) == ".env:2: not UTF-8 text; save the file as UTF-8"


def test_a_large_file_takes_time_in_proportion():
    text = "".join(f"VARIABLE_{number}=value\n" for number in range(40_000))
    started = time.monotonic()
    assert len(read(text)) == 40_000
    assert time.monotonic() - started < 10
