"""Commands with the reader's own values: quoted for a shell, and never a secret."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from tocsin.model import MissingContract, ProbeSpec, Reference, Secret, Severity
from tocsin.runbooks.filling import fill_tokens, filled, places
from tocsin.sdk import ProbeSettings


class Limits(ProbeSettings):
    lag: float = 30.0
    rows: int = 50


class Settings(ProbeSettings):
    url: str = "https://user:hunter2@example.org/ready?token=hunter2"
    bucket: str = "it's $HOME; rm -rf /"
    nothing: str = ""
    password: Secret | None = None
    names: tuple[str, ...] = ("first one", "second")
    limits: Limits = Limits()
    on: bool = True
    severity: Severity = Severity.PAGE
    headers: Mapping[str, Secret] = {}


def specs(settings: Settings | None = None, *missing: MissingContract) -> dict[str, ProbeSpec]:
    return {"wipe-web": ProbeSpec("wipe-web", "http", "wipe", "web", settings, missing=missing)}


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("url", "https://example.org/ready"),
        ("bucket", shlex.quote("it's $HOME; rm -rf /")),
        ("limits.lag", "30"),
        ("limits.rows", "50"),
        ("names", "'first one,second'"),
        ("names.0", "'first one'"),
        ("on", "true"),
        ("severity", "page"),
        ("nothing", "NOTHING"),
        ("names.7", "NAMES_7"),
        ("limits", "LIMITS"),
        ("no_such", "NO_SUCH"),
    ],
)
def test_a_setting_becomes_its_value_quoted_or_a_name_in_capitals(setting: str, shown: str) -> None:
    assert filled(f"curl {{wipe-web.{setting}}}", specs(Settings())) == f"curl {shown}"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("${WEB_PASSWORD}", '"$WEB_PASSWORD"'),
        ("${file:/run/secrets/it's}", "\"$(cat '/run/secrets/it'\"'\"'s')\""),
        ("${A}, ${B}", '"$PASSWORD"'),
        ("literal", '"$PASSWORD"'),
    ],
)
def test_a_secret_becomes_where_it_comes_from(source: str, shown: str) -> None:
    secret = "hunter2" if source == "literal" else Reference("hunter2", lambda: "hunter2", source)
    settings = Settings(password=secret, headers={"authorization": secret})
    found = filled("{wipe-web.password} {wipe-web.headers.authorization}", specs(settings))
    assert found.startswith(shown)
    assert "hunter2" not in found


def test_a_secret_that_somebody_wrote_into_a_plain_setting_is_masked() -> None:
    settings = Settings(password="hunter2-hunter2", bucket="of-hunter2-hunter2", names=("x", "hunter2-hunter2"))
    assert filled("{wipe-web.bucket} {wipe-web.names}", specs(settings)) == "'of-********' 'x,********'"


def test_what_is_not_set_becomes_the_name_of_its_variable() -> None:
    missing = (
        MissingContract("WIPE_URL", "url"),
        MissingContract("WIPE_LAG", "limits.lag"),
        MissingContract("N", "names[0]"),
    )
    code = "{wipe-web.url} {wipe-web.limits.lag} {wipe-web.bucket}"
    assert filled(code, specs(None, *missing)) == "WIPE_URL WIPE_LAG BUCKET"


def test_what_is_given_is_shown_also_while_the_probe_cannot_run() -> None:
    given = Settings.model_construct(bucket="certificates")
    spec = replace(specs(None, MissingContract("WIPE_URL", "url"))["wipe-web"], given=given)
    code = "{wipe-web.url} {wipe-web.bucket} {wipe-web.limits.lag}"
    assert filled(code, {"wipe-web": spec}) == "WIPE_URL certificates 30"


def test_what_is_no_place_stays_as_it_is_written() -> None:
    for code in (
        "{other-probe.url}",
        "jq '{tier, expires_at}'",
        "{.metadata.name}",
        "{range .spec.ports[*]}",
        "${HOME}",
    ):
        assert filled(code, specs(Settings())) == code
    assert [(place.start, place.probe, place.setting) for place in places("a {b-c.d.e} {x} {f.g}")] == [
        (2, "b-c", "d.e"),
        (16, "f", "g"),
    ]


def test_only_code_is_filled() -> None:
    tokens = MarkdownIt().parse("{wipe-web.on} `{wipe-web.on}`\n\n```sh\n{wipe-web.on}\n```\n\n    {wipe-web.on}\n")
    fill_tokens(tokens, specs(Settings()))
    assert [token.content for token in tokens if token.type in ("fence", "code_block")] == ["true\n", "true\n"]
    inline = next(token for token in tokens if token.type == "inline").children
    assert inline is not None
    assert [child.content for child in inline] == ["{wipe-web.on} ", "true"]
