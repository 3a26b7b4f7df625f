"""Runbook pages: front matter, reasons as headings, shared sections, and names that cannot leave the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.runbooks import PageError, find_page, folders, list_pages, read_page

PAGE = """---
title: Realm outage
kinds: [oidc_realm, http]
source: https://docs.example.com/incident
---

# Realm outage

### `oidc_realm.issuer_mismatch`

Compare.

### `http.timeout` `http.connection_refused`

It is down.

```
### `http.not_found` is only code
```
"""
SHARED = """# Shared

### `timeout`

It hangs.

### `dns_failure` `tls_error`

Name or TLS.
"""


def test_a_heading_may_serve_several_reasons_and_says_its_line() -> None:
    page = read_page("wipe", "realm", PAGE)
    assert [(heading.reasons, heading.line) for heading in page.headings if heading.reasons] == [
        (("oidc_realm.issuer_mismatch",), 9),
        (("http.timeout", "http.connection_refused"), 13),
    ]
    assert (page.title, page.kinds, page.source) == (
        "Realm outage",
        ("oidc_realm", "http"),
        "https://docs.example.com/incident",
    )


def test_a_heading_inside_fenced_code_is_no_section() -> None:
    assert "http.not_found" not in read_page("wipe", "realm", PAGE).anchors


def test_a_page_is_completed_with_what_it_does_not_say_itself() -> None:
    page = read_page("wipe", "realm", PAGE, SHARED)
    assert page.shared == (
        "oidc_realm.timeout",
        "oidc_realm.dns_failure",
        "oidc_realm.tls_error",
        "http.dns_failure",
        "http.tls_error",
    )
    assert "### `http.dns_failure` `http.tls_error`\n\nName or TLS." in page.text
    assert page.text.count("`http.timeout`") == 1


def test_a_link_opens_at_the_reason() -> None:
    page = read_page("wipe", "realm", PAGE)
    assert page.link("oidc_realm", "issuer_mismatch") == "wipe/realm#oidc_realm.issuer_mismatch"
    assert page.link("oidc_realm", None) == "wipe/realm"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("# No front matter\n", "runbooks/s/i.md:1: a page begins with front matter between two lines of ---"),
        ("---\nkinds: [http]\n---\n", "runbooks/s/i.md:1: the front matter needs a title"),
        ("---\ntitle: x\nkinds: http\n---\n", "runbooks/s/i.md:1: kinds is a list of probe kinds"),
    ],
)
def test_a_malformed_page_says_where_and_what(source: str, message: str) -> None:
    with pytest.raises(PageError) as caught:
        read_page("s", "i", source)
    assert str(caught.value) == message


def test_a_shared_section_must_be_a_common_reason() -> None:
    with pytest.raises(PageError, match=r"reasons.md:3: `nonsense` is not a common reason"):
        read_page("wipe", "realm", PAGE, "# Shared\n\n### `nonsense`\n\nx\n")


def test_names_with_a_path_in_them_find_nothing(tmp_path: Path) -> None:
    (tmp_path / "wipe").mkdir()
    (tmp_path / "secret.md").write_text(PAGE)
    assert find_page("..", "secret", tmp_path) is None
    assert find_page("wipe", "../../secret", tmp_path) is None
    assert find_page("wipe", "absent", tmp_path) is None


def test_the_readers_own_page_comes_before_the_bundled_one_which_comes_before_none(tmp_path: Path) -> None:
    write(tmp_path, "shop/checkout-down", PAGE)
    write(tmp_path, "wipe/keycloak-outage", PAGE)
    roots = folders(tmp_path)
    mine, over = find_page("shop", "checkout-down", *roots), find_page("wipe", "keycloak-outage", *roots)
    assert mine is not None
    assert over is not None
    assert (mine.title, over.title) == ("Realm outage", "Realm outage")
    assert "oidc_realm.timeout" in mine.anchors, "completed with the bundled sections"
    assert find_page("wipe", "storage-outage", *roots) == find_page("wipe", "storage-outage")
    assert {("shop", "checkout-down"), ("wipe", "storage-outage")} <= set(list_pages(*roots))


def test_shared_sections_of_the_readers_own_take_the_place_of_the_bundled_ones(tmp_path: Path) -> None:
    write(tmp_path, "shop/checkout-down", PAGE)
    (tmp_path / "reasons.md").write_text(SHARED)
    page = find_page("shop", "checkout-down", *folders(tmp_path))
    assert page is not None
    assert page.shared == read_page("shop", "checkout-down", PAGE, SHARED).shared


def test_no_name_leads_out_of_the_readers_folder(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret", PAGE)
    (tmp_path / "own").mkdir()
    for system, incident in (("..", "secret"), ("../outside", "secret"), ("x", "../../outside/secret")):
        assert find_page(system, incident, *folders(tmp_path / "own")) is None


def test_a_page_of_the_readers_own_that_cannot_be_read_is_told_by_its_path(tmp_path: Path) -> None:
    write(tmp_path, "shop/a", "# no front matter\n")
    (tmp_path / "shop" / "b.md").write_bytes(b"\xff\xfe")
    for incident, message in (
        ("a", f"{tmp_path}/shop/a.md:1: a page begins with front matter between two lines of ---"),
        ("b", f"{tmp_path}/shop/b.md: is not UTF-8"),
    ):
        with pytest.raises(PageError) as caught:
            find_page("shop", incident, *folders(tmp_path))
        assert str(caught.value) == message
    with pytest.raises(PageError, match="/none: cannot be read: No such file or directory"):
        list_pages(tmp_path / "none")


def test_what_a_mounted_configmap_keeps_beside_the_pages_is_no_page(tmp_path: Path) -> None:
    write(tmp_path, "..data/reasons", SHARED)
    assert list_pages(tmp_path) == []


def write(root: Path, name: str, text: str) -> None:
    file = root / f"{name}.md"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def test_every_shipped_page_reads() -> None:
    pages = list_pages()
    assert ("wipe", "keycloak-outage") in pages
    for system, incident in pages:
        page = find_page(system, incident)
        assert page is not None
        assert page.title
