"""The rows of the plan."""

from collections.abc import Callable
from pathlib import Path

from tocsin.config import Configuration, Registry, Sources, describe, load


def test_a_row_shows_what_runs_against_what_and_secrets_only_by_source(load_text: Callable[..., Configuration]):
    configuration = load_text(
        """
        probes:
          till: {kind: web, system: shop, incident: till-down, url: https://till.test, depends_on: [shop]}
          shop:
            kind: web
            system: shop
            incident: shop-down
            url: https://shop.test
            every: 90s
            password: ${SHOP_PASSWORD}
            headers: {X-Key: hunter3, X-Token: "Bearer ${TOKEN:-hunter4}"}
        """,
        SHOP_PASSWORD="hunter2",
    )
    shop, till = describe(configuration)
    assert (shop.name, shop.kind, shop.every, shop.timeout, shop.targets) == (
        "shop",
        "web",
        "1m30s",
        "5s",
        ("https://shop.test",),
    )
    assert list(map(str, shop.secrets)) == [
        "password: ******** (${SHOP_PASSWORD})",
        "headers.X-Key: ******** (literal)",
        "headers.X-Token: ******** (${TOKEN} unset, its default)",
    ]
    assert (till.depends_on, till.secrets, till.severity) == (("shop",), (), "page")
    for shown in (repr(shop), repr(configuration), repr(configuration.probes["shop"].settings)):
        assert "hunter" not in shown


def test_a_probe_with_missing_contracts_is_listed_with_them(bundled: Path, registry: Registry):
    (bundled / "shop.yaml").write_text("probes:\n  shop: {kind: web, system: s, incident: i, url: '${SHOP_URL}'}\n")
    (row,) = describe(load(Sources(profiles=("shop",), environ={}), registry))
    assert [(contract.variable, contract.setting) for contract in row.missing] == [("SHOP_URL", "url")]
    assert (row.targets, row.source) == ((), "profiles/shop.yaml:2")


def test_a_probe_that_is_off_by_choice_says_why(load_text: Callable[..., Configuration]):
    off = "policy: {applies: false, because: off by choice}"
    (row,) = describe(load_text(f"probes:\n  x: {{kind: web, system: s, incident: i, url: 'https://x.test', {off}}}\n"))
    assert (row.off_because, row.targets) == ("off by choice", ())
