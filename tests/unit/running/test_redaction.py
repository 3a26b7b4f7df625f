"""What is masked, and what stays readable."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.running.virtual import FREE, LoopClock, kind, spec
from tocsin.model import MASK, CommonReason, Outcome
from tocsin.model.redaction import MAX_DETAIL_CHARACTERS, Redactor, one_line
from tocsin.model.secret import Reference
from tocsin.running.active import ActiveProbe
from tocsin.running.conclusion import _without_secrets
from tocsin.running.permits import PermitPool
from tocsin.running.runner import Runner
from tocsin.sdk import HttpClient, ProbeContext, ProbeSettings, Secret

SECRET = 's3cr3t/p@ss "ü'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        quote(SECRET, safe="").lower().replace("ü", "ü"),
        json.dumps(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_a_secret_is_masked_in_every_form_that_tools_print_it_in(form: str) -> None:
    redactor = Redactor.of([SECRET])
    assert redactor.text(f"before {form} after") == f"before {MASK} after"
    assert redactor.data(f"before {form} after".encode()) == f"before {MASK} after".encode()


@pytest.mark.parametrize("user", ["a", "ab", "abc", "abcd"])
def test_a_password_in_a_basic_authorization_header_is_masked_whatever_the_user_name(user: str) -> None:
    header = base64.b64encode(f"{user}:correct-horse".encode()).decode()
    shown = Redactor.of(["correct-horse"]).text(header)
    assert MASK in shown
    assert b"orrect-hors" not in base64.b64decode(shown.replace(MASK, "") + "=" * (-len(shown.replace(MASK, "")) % 4))


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://wipe:p%40ssw0rd@db:5432/wipe", 'password authentication failed with "p@ssw0rd"'),
        ("postgresql://wipe:p%40ssw0rd@db:5432/wipe", "cannot parse p%40ssw0rd"),
        ("host=db user=wipe password='two words'", "near two words"),
        ("Bearer abc.def.ghi", "token abc.def.ghi is expired"),
        ("https://api.example/?key=k3y-of-mine&x=1", "GET /?key=k3y-of-mine"),
    ],
)
def test_the_password_inside_a_secret_is_masked_by_itself(dsn: str, said: str) -> None:
    shown = Redactor.of([dsn]).text(said)
    assert MASK in shown
    for word in ("p@ssw0rd", "p%40ssw0rd", "two words", "abc.def.ghi", "k3y-of-mine"):
        assert word not in shown


def test_a_longer_secret_that_contains_a_shorter_one_leaves_no_rest() -> None:
    assert Redactor.of(["hunter", "hunter2-long"]).text("x hunter2-long y") == f"x {MASK} y"


def test_very_short_values_are_left_alone() -> None:
    assert Redactor.of(["", "a", "no"]).text("a note about nothing") == "a note about nothing"


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=3, max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_no_text_with_a_secret_in_it_keeps_the_secret(secret: str, before: str, after: str) -> None:
    shown = Redactor.of([secret]).text(before + secret + after)
    assert secret not in shown.replace(MASK, "\0")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("plain", "plain"),
        ("two\nlines\r\nand\ta tab", "two lines and a tab"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("lone \ud800 surrogate", "lone   surrogate"),
    ],
)
def test_a_detail_is_one_line_without_control_characters(text: str, line: str) -> None:
    assert one_line(text) == line


def test_a_detail_is_bounded() -> None:
    line = one_line("x" * 100_000)
    assert len(line) == MAX_DETAIL_CHARACTERS
    assert line.endswith("…")


@pytest.mark.parametrize(
    ("cut", "shown"),
    [
        ("it begins 'key=correct-hors'…", f"it begins 'key={MASK}'…"),
        ("it begins 'key=correct-hors'…; and so on", f"it begins 'key={MASK}'…; and so on"),
        ("said correct-h", f"said {MASK}"),
        ("a correct-horse-like thing", f"a {MASK}-like thing"),
        ("a correct-house", "a correct-house"),
        ("this is correct", "this is correct"),
    ],
)
def test_a_secret_of_which_only_the_beginning_was_kept_is_masked_too(cut: str, shown: str) -> None:
    assert Redactor.of(["correct-horse"]).text(cut) == shown


def test_what_a_probe_remembers_holds_no_secret() -> None:
    active = ActiveProbe.install(spec(password="correct-horse"), {"scripted": kind()})
    memory = {"said": "no, correct-horse", "list": [{"deep": "correct-horse"}, 7, None], "count": 1.5}
    assert _without_secrets(memory, active.redactor()) == {
        "said": f"no, {MASK}",
        "list": [{"deep": MASK}, 7, None],
        "count": 1.5,
    }


def test_all_secrets_of_a_probe_are_masked_however_many_and_some_that_they_were_before() -> None:
    class Many(ProbeSettings):
        headers: list[Secret]

    headers = [f"header-number-{number}" for number in range(30)]
    active = ActiveProbe(replace(spec(), settings=Many(headers=[Secret(value) for value in headers])), None)
    active.conceal("token-of-the-day")
    for value in [*headers, "token-of-the-day"]:
        assert active.redactor().text(f"it is {value}.") == f"it is {MASK}."


def test_a_secret_is_masked_for_a_while_after_it_was_changed(tmp_path: Path) -> None:
    class FromFile(ProbeSettings):
        password: Secret

    file = tmp_path / "password"
    active = ActiveProbe(
        replace(spec(), settings=FromFile(password=Secret(Reference("", file.read_text, "file")))), None
    )
    for value in ("first-of-all", "then-another"):
        file.write_text(value)
        assert active.redactor().text(value) == MASK
    assert active.redactor().text("first-of-all then-another") == f"{MASK} {MASK}"


async def test_what_a_run_came_by_is_masked_as_what_it_was_given() -> None:
    """An access token is in no setting, and a target may quote it."""
    scripted = kind()

    async def logged_in(ctx: ProbeContext) -> Outcome:
        ctx.conceal("token-of-the-day")
        ctx.memory["said"] = "seen token-of-the-day"
        ctx.attach("answer", "echo token-of-the-day")
        return Outcome.bad(CommonReason.SERVER_ERROR, "cannot parse token-of-the-day")

    scripted.script["p"] = logged_in
    clock = LoopClock()
    runner = Runner(clock=clock, http=HttpClient.open(), permits=PermitPool(FREE, clock))
    finished = await runner.run(ActiveProbe(spec(), scripted(spec().settings)), {})
    assert finished.run.outcome.detail == f"cannot parse {MASK}"
    assert finished.run.attachments[0].content == f"echo {MASK}".encode()
    assert finished.memory == {"said": f"seen {MASK}"}
