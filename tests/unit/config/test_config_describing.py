"""The rows of the plan."""

from collections.abc import Callable
from pathlib import Path

from tocsin.config import Configuration, Registry, Sources, describe, load
from tocsin.doctor.questions import questions_of


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


def test_what_an_unset_variable_would_add_is_listed_as_not_checked(bundled: Path, registry: Registry):
    (bundled / "shop.yaml").write_text(
        "probes:\n  shop: {kind: web, system: s, incident: i, url: 'https://x.test', password: '${PASSWORD:-}', "
        "headers: {A: \"a ${WHAT:-''}\", B: '${B:-b}', C: '${C:-NULL::text}'}}\n"
    )

    def unchecked(**environ: str) -> list[tuple[str, str]]:
        (row,) = describe(load(Sources(profiles=("shop",), environ=environ), registry))
        return [(contract.variable, contract.setting) for contract in row.unchecked]

    assert unchecked() == [("PASSWORD", "password"), ("WHAT", "headers.A"), ("C", "headers.C")]
    assert unchecked(PASSWORD="p", C="c") == [("WHAT", "headers.A")]


def test_every_variable_of_the_wipe_profile_says_what_it_is():
    probes = load(
        Sources(profiles=("wipe",), environ={"TOCSIN_WIPE_CERTIFICATE_PDF_KEY_COLUMN": "pdf_key"}), Registry.discover()
    ).probes
    asked = questions_of("wipe")
    assert asked is not None
    open_ones = [contract for spec in probes.values() for contract in (*spec.missing, *spec.unchecked)]
    silent = {each.variable for each in open_ones if not each.meaning and each.variable not in asked.questions}
    assert silent == set()
    assert {each.variable for each in open_ones} > {
        "TOCSIN_WIPE_DLQ_TABLE",
        "TOCSIN_WIPE_EXAWIPE_ACCEPT_URL",
        "KEYCLOAK_EXAWIPE_AUDIENCE",
        "TOCSIN_WIPE_CERTIFICATE_PDF_CHECKSUM",
        "TOCSIN_WIPE_ANCHOR_PAYLOAD_COLUMN",
        "TOCSIN_WIPE_EXPECTED_BUCKET_PROOFS",
        "TOCSIN_WIPE_VERIFICATION_LOG_IDENTIFIER_COLUMN",
        "TOCSIN_WIPE_SIGNER_TSA_URL",
        "TOCSIN_WIPE_RECEIPTS_SUM",
    }
