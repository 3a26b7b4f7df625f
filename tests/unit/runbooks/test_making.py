"""The page of an incident that nobody has written one for."""

from __future__ import annotations

import re
from pathlib import Path

from tocsin.model import CommonReason, ProbeSpec, ReasonInfo
from tocsin.runbooks import made_page, read_page

COMMON = tuple(reason.info for reason in CommonReason)


def spec(name: str, kind: str, incident: str = "checkout-down", *own: ReasonInfo) -> ProbeSpec:
    return ProbeSpec(name, kind, "shop", incident, settings=None, reasons=(*own, *COMMON))


def test_it_has_a_section_for_each_reason_of_each_probe_that_leads_there() -> None:
    missing = ReasonInfo("header_missing", "A header is not there.")
    slow = ReasonInfo("lag", "The standby is behind.")
    specs = [
        spec("shop-web", "http", "checkout-down", missing),
        spec("shop-api", "http", "checkout-down", missing),
        spec("shop-db", "postgres", "checkout-down", slow),
        spec("shop-mail", "smtp", "mail-down"),
    ]
    page = made_page("shop", "checkout-down", specs)
    assert page is not None
    assert page.anchors == {
        *(f"{kind}.{reason.value}" for kind in ("http", "postgres") for reason in CommonReason),
        "http.header_missing",
        "postgres.lag",
    }
    assert page.text.count("### `http.header_missing`\n\nA header is not there.") == 1
    assert "tocsin probe shop-api shop-db shop-web\n" in page.text
    assert "`shop/checkout-down.md` in the folder that `TOCSIN_RUNBOOKS_DIR` names" in page.text


def test_where_no_probe_leads_there_is_none() -> None:
    assert made_page("shop", "checkout-down", [spec("shop-mail", "smtp", "mail-down")]) is None


def test_the_example_of_the_documentation_is_a_page() -> None:
    text = (Path(__file__).parents[3] / "docs" / "deploying.md").read_text("utf-8")
    (example,) = re.findall(r"````markdown\n(.*?)````", text, re.DOTALL)
    page = read_page("shop", "checkout-down", example)
    assert (page.title, page.anchors) == ("No checkout", {"http.assertion_failed"})
