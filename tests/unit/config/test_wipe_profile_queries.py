"""The Wipe profile keeps to what its incident page says word for word."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

PROFILE = Path(__file__).parents[3] / "profiles/wipe.yaml"
PAGE = """
SELECT id, tenant_id, organization_id, status, anchor_chain_id, anchor_tx_hash, created_at
FROM certificates
WHERE anchor_tx_hash = ''
ORDER BY created_at DESC
LIMIT 50;
"""
"""https://docs.wipe.stack-plane.com/docs/operations/05-incident-response/, "Chain Or Anchor Outage"."""


def normal(sql: str) -> str:
    bare = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", sql)
    return " ".join(bare.split())


def test_unanchored_certificates_are_those_of_the_page_s_query_and_those_without_any_hash() -> None:
    profile = yaml.safe_load(PROFILE.read_text("utf-8"))
    asked = normal(profile["probes"]["wipe-unanchored-certificates"]["query"])
    page = normal(PAGE).removesuffix(" LIMIT 50;")
    chosen, order = page.split(" ORDER BY ")
    assert asked == f"{chosen} OR anchor_tx_hash IS NULL ORDER BY {order}"
