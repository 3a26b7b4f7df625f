"""Runbook pages as HTML: anchors, what is current, and nothing but our own markup."""

from __future__ import annotations

import re

import pytest

from tests import exposing_gallery as gallery
from tocsin.exposing.runbooks import current_reasons, render
from tocsin.model import Secret
from tocsin.runbooks import find_page, list_pages
from tocsin.runbooks.checks import replaced
from tocsin.sdk import ProbeSettings


class SettingsOf(ProbeSettings):
    url: str
    token: Secret


def test_a_reason_is_an_anchor_as_code_and_as_text() -> None:
    page = render("### `http.timeout`\n\n### oidc_realm.issuer_mismatch\n")
    assert '<h3><code id="http.timeout">http.timeout</code></h3>' in page.body
    assert '<h3 id="oidc_realm.issuer_mismatch">oidc_realm.issuer_mismatch</h3>' in page.body
    assert page.anchors == {"http.timeout", "oidc_realm.issuer_mismatch"}


def test_a_section_for_several_reasons_has_an_anchor_for_each() -> None:
    page = render("### `http.timeout` `http.connection_refused`\n")
    assert page.anchors == {"http.timeout", "http.connection_refused"}
    assert 'id="http.connection_refused"' in page.body


def test_other_headings_have_their_words_and_no_id_is_there_twice() -> None:
    page = render("# Keycloak: an outage!\n\n## Meaning\n\n## Meaning\n\n## …\n")
    assert [heading.anchor for heading in page.headings] == ["keycloak-an-outage", "meaning", "meaning", "section"]
    assert page.body.count('id="meaning"') == 1


def test_what_is_current_stands_out() -> None:
    page = render("### `a.b` `a.c`\n\n### `a.d`\n", frozenset({"a.c"}))
    assert page.body.count('class="current"') == 1
    assert re.search(r'<h3 class="current"><code id="a.b">', page.body)


@pytest.mark.parametrize(
    "markdown",
    [
        "<script>alert(1)</script>",
        "text <img src=x onerror=alert(1)> text",
        "[x](javascript:alert(1))",
        '### `a.b` <b id="c">',
        "[x](data:text/html;base64,xx)",
    ],
)
def test_no_markup_of_the_page_itself_gets_through(markdown: str) -> None:
    body = render(markdown).body
    assert not re.search(r"<(script|img|b)\b|href=\"(javascript|data):", body)


def test_links_between_files_become_links_between_pages() -> None:
    body = render("[a](storage-outage.md) [b](../tocsin/watchdog.md#meaning) [c](https://example.org/x.md)").body
    assert re.findall('href="([^"]*)"', body) == [
        "storage-outage",
        "../tocsin/watchdog#meaning",
        "https://example.org/x.md",
    ]


def test_current_reasons_are_those_of_the_page_with_their_probes() -> None:
    entries = gallery.entries()
    assert current_reasons(entries, "wipe", "storage-outage") == {
        "s3_bucket.timeout": ["wipe-bucket-proofs"],
        "s3_bucket.credentials_rejected": ["wipe-bucket-drop", "wipe-bucket-certificates"],
    }
    assert current_reasons(entries, "wipe", "database-outage") == {}


def test_every_shipped_page_has_every_anchor_it_promises() -> None:
    pages = list_pages()
    assert pages
    for system, incident in pages:
        page = find_page(system, incident)
        assert page is not None
        rendered = render(page.text)
        assert page.anchors <= rendered.anchors, (system, incident)
        assert all(f'id="{anchor}"' in rendered.body for anchor in page.anchors)


def test_commands_hold_the_values_of_the_configuration_as_text() -> None:
    settings = SettingsOf(url="https://example.org/<b>x</b>", token=Secret("hunter2"))
    specs = {"wipe-web": gallery.spec("wipe-web", settings=settings)}
    body = render("{wipe-web.url}\n\n`curl {wipe-web.url}`\n\n```sh\ncurl -u {wipe-web.token}\n```\n", specs=specs).body
    assert "<p>{wipe-web.url}</p>" in body
    assert "<code>curl https://example.org/%3Cb%3Ex%3C/b%3E</code>" in body
    assert "curl -u &quot;$TOKEN&quot;" in body
    assert "hunter2" not in body


def test_what_to_check_first_takes_the_place_of_the_list_in_the_file() -> None:
    page = replaced("## Check first\n\nBy hand.\n\n## Reasons\n", "as shipped")
    assert "<p>as shipped</p>" in render(page).body
    mine = render(page, first="<table>mine</table>").body
    assert "as shipped" not in mine
    assert (
        mine.index("Check first") < mine.index("<table>mine</table>") < mine.index("By hand.") < mine.index("Reasons")
    )
    assert "mine" not in render("## Meaning\n", first="<table>mine</table>").body
