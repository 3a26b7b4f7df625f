"""From files and environment to specs: layers, references, contracts, dependencies."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.config.fake_kinds import Web
from tocsin.config import Cap, ConfigError, Configuration, Registry, Sources, load
from tocsin.model import MaintenanceWindow, MissingContract, ProbeSpec, Severity
from tocsin.sdk import ProbeSettings

Load = Callable[..., Configuration]

SHOP = "  shop: {kind: web, system: shop, incident: shop-down, url: https://shop.test"

PROFILE = """
defaults: {every: 1m, labels: {from: profile}}
probes:
  page:
    kind: web
    system: shop
    incident: shop-down
    url: ${SHOP_URL}
    password: ${SHOP_PASSWORD:-}
    limits: {slowest: 2s, smallest: 10}
    depends_on: [database]
  database:
    kind: log
    system: shop
    incident: database-down
    path: /var/log/db
    every: 5m
    table: {name: "${SHOP_TABLE}", column: at}
"""


@pytest.fixture
def shop(bundled: Path) -> Path:
    path = bundled / "shop.yaml"
    path.write_text(PROFILE)
    return path


def message(load_text: Load, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(text, **environ)
    return "\n".join(line.partition("tocsin.yaml:")[2] or line for line in str(caught.value).splitlines())


def test_a_probe_gets_every_common_setting(load_text: Load):
    spec = load_text(
        """
        probes:
          shop:
            kind: web
            system: shop
            incident: shop-down
            url: https://shop.test
            every: 1m30s
            timeout: 250ms
            retry_every: 2s
            jitter: 1s
            failures_to_fail: 3
            successes_to_recover: 1
            severity: ticket
            severities: {too_slow: page, timeout: ticket}
            depends_on: [other, other]
            labels: {team: shop}
            vantage: office
            writes: true
            costly: true
            maintenance:
              - {start: 2026-12-01T22:00:00+01:00, end: 2026-12-01T22:00:00Z, comment: move}
              - {weekdays: [sat, sun], start: 22:00, end: 01:30, timezone: Europe/Paris}
          other: {kind: web, system: shop, incident: shop-down, url: https://other.test}
        """
    ).probes["shop"]
    assert (spec.every, spec.timeout, spec.retry_every, spec.jitter) == (90.0, 0.25, 2.0, 1.0)
    assert (spec.failures_to_fail, spec.successes_to_recover) == (3, 1)
    assert spec.severity is Severity.TICKET
    assert spec.severities == {"too_slow": Severity.PAGE, "timeout": Severity.TICKET}
    assert spec.depends_on == ("other",)
    assert (spec.labels, spec.vantage, spec.writes, spec.costly) == ({"team": "shop"}, "office", True, True)
    assert spec.maintenance == (
        MaintenanceWindow(1796158800.0, 1796162400.0, comment="move"),
        MaintenanceWindow(79200.0, 5400.0, frozenset((5, 6)), "Europe/Paris"),
    )
    assert spec.settings.targets() == ("https://shop.test",)
    assert spec.source.endswith("tocsin.yaml:3")


def test_a_probe_that_says_nothing_has_the_documented_defaults(load_text: Load):
    spec = load_text(f"probes:\n{SHOP}}}").probes["shop"]
    bare = ProbeSpec("shop", "web", "shop", "shop-down", spec.settings, source=spec.source)
    assert spec == bare


def test_writes_and_costly_are_as_the_kind_says_unless_said_otherwise(load_text: Load):
    probes = load_text(
        """
        probes:
          a: {kind: log, system: s, incident: i, path: /x}
          b: {kind: log, system: s, incident: i, path: /x, writes: false, costly: "${OFF}"}
        """,
        OFF="false",
    ).probes
    assert (probes["a"].writes, probes["a"].costly) == (True, True)
    assert (probes["b"].writes, probes["b"].costly) == (False, False)


def test_a_short_interval_shortens_the_retry_that_nobody_set(load_text: Load):
    assert load_text(f"probes:\n{SHOP}, every: 2s, timeout: 1s}}").probes["shop"].retry_every == 2.0


def test_the_users_file_changes_single_settings_of_a_profile(shop: Path, load_text: Load):
    configuration = load_text(
        """
        profiles: [shop]
        defaults: {every: 2m, timeout: 7s}
        probes:
          page:
            url: https://mine.test
            limits: {slowest: 9s}
          database: {enabled: false}
        """
    )
    page = configuration.probes["page"]
    assert list(configuration.probes) == ["page"]
    assert (page.settings.url, page.settings.limits.slowest, page.settings.limits.smallest) == (
        "https://mine.test",
        9,
        10,
    )
    assert (page.every, page.timeout) == (120.0, 7.0)
    assert page.labels == {"from": "profile"}
    assert page.source == "profiles/shop.yaml:4"
    assert page.depends_on == ()


def test_what_a_profile_says_of_one_probe_wins_over_the_users_defaults(shop: Path, load_text: Load):
    configuration = load_text("profiles: [shop]\ndefaults: {every: 2m}", SHOP_URL="https://x", SHOP_TABLE="t")
    assert configuration.probes["database"].every == 300.0
    assert configuration.probes["page"].every == 120.0


def test_the_defaults_of_one_profile_do_not_reach_the_probes_of_another(shop: Path, bundled: Path, load_text: Load):
    (bundled / "bank.yaml").write_text("defaults: {every: 3m}\nprobes:\n" + SHOP.replace("shop:", "till:") + "}")
    probes = load_text("profiles: [shop, bank]", SHOP_URL="https://x").probes
    assert (probes["page"].every, probes["till"].every) == (60.0, 180.0)


def test_null_takes_a_setting_of_the_profile_back(shop: Path, load_text: Load):
    page = load_text("profiles: [shop]\nprobes: {page: {limits: null, depends_on: null}}", SHOP_URL="u").probes["page"]
    assert page.settings.limits.slowest == 1.0
    assert page.depends_on == ()


def test_another_kind_starts_afresh(shop: Path, load_text: Load):
    page = load_text("profiles: [shop]\nprobes: {page: {kind: log, system: s, incident: i, path: /x}}").probes["page"]
    assert (page.kind, page.system, page.depends_on) == ("log", "s", ())


def test_lists_are_replaced(load_text: Load, tmp_path: Path):
    (tmp_path / "base.yaml").write_text(f"probes:\n{SHOP}, statuses: [200, 201]}}")
    probes = load_text("profiles: [./base.yaml]\nprobes: {shop: {statuses: [204]}}").probes
    assert probes["shop"].settings.statuses == (204,)


def test_an_unset_variable_of_a_bundled_profile_is_a_missing_contract(shop: Path, registry: Registry):
    configuration = load(Sources(profiles=("shop",), environ={"SHOP_URL": ""}), registry)
    page, database = configuration.probes["page"], configuration.probes["database"]
    assert (page.settings, page.missing) == (None, (MissingContract("SHOP_URL", "url"),))
    assert (database.settings, database.missing) == (None, (MissingContract("SHOP_TABLE", "table.name"),))
    assert configuration.missing == (("database", database.missing[0]), ("page", page.missing[0]))
    assert page.depends_on == ("database",)


PLATFORM = """
probes:
  page: {kind: web, system: s, incident: i, url: u, limits: {slowest: "${SLOWEST:-2s}"}, every: "${EVERY:-1m}"}
  other: {kind: web, system: s, incident: i, url: u, statuses: "${STATUSES:-200}"}
  chain: {kind: web, system: s, incident: i, url: u, policy: {applies: "${CHAIN:-true}", because: off by choice}}
"""
DURATION = "is not a duration; write a number and a unit: 500ms, 30s, 5m, 1h30m, 7d"


@pytest.mark.parametrize(
    ("environ", "lacking"),
    [
        ({}, {}),
        (
            {"SLOWEST": "hunter2"},
            {"page": [MissingContract("SLOWEST", "limits.slowest", why=f"${{SLOWEST}} {DURATION}")]},
        ),
        ({"EVERY": "300"}, {"page": [MissingContract("EVERY", "every", why=f"${{EVERY}} {DURATION}")]}),
        (
            {"SLOWEST": "soon", "EVERY": "300"},
            {
                "page": [
                    MissingContract("EVERY", "every", why=f"${{EVERY}} {DURATION}"),
                    MissingContract("SLOWEST", "limits.slowest", why=f"${{SLOWEST}} {DURATION}"),
                ]
            },
        ),
        (
            {"CHAIN": "enabled"},
            {"chain": [MissingContract("CHAIN", "policy.applies", why="${CHAIN} is neither true nor false")]},
        ),
        (
            {"STATUSES": "200,ok,fine"},
            {"other": [MissingContract("STATUSES", "statuses", why="${STATUSES} is not a whole number")]},
        ),
    ],
)
def test_a_variable_of_the_platform_in_another_format_makes_only_its_probe_unknown(
    environ: dict[str, str], lacking: dict[str, list[MissingContract]], bundled: Path, registry: Registry
):
    (bundled / "shop.yaml").write_text(PLATFORM)
    probes = load(Sources(profiles=("shop",), environ=environ), registry).probes
    assert {name: list(spec.missing) for name, spec in probes.items() if spec.missing} == lacking
    assert [name for name, spec in probes.items() if spec.settings is None] == list(lacking)
    assert "hunter2" not in repr(probes)


def test_a_value_of_the_users_own_stays_a_mistake_over_a_bundled_profile(bundled: Path, load_text: Load):
    (bundled / "shop.yaml").write_text(PLATFORM)
    text = "profiles: [shop]\nprobes: {page: {every: '${EVERY}'}, chain: {policy: {applies: perhaps}}}"
    assert message(load_text, text, EVERY="300") == (
        f"2: probes.page.every: ${{EVERY}} {DURATION}\n"
        "2: probes.chain.policy.applies: 'perhaps' is neither true nor false"
    )


def test_the_same_profile_given_by_path_is_the_users_own(shop: Path, registry: Registry):
    with pytest.raises(ConfigError) as caught:
        load(Sources(profiles=(str(shop),), environ={"SHOP_TABLE": "t"}), registry)
    assert str(caught.value) == (
        f"{shop}:8: probes.page.url: ${{SHOP_URL}} is not set; "
        "set it in the environment or the env_file, or write ${SHOP_URL:-default}"
    )


def test_what_is_given_beside_a_missing_contract_can_be_shown_and_counts_for_nothing(shop: Path, registry: Registry):
    found = load(Sources(profiles=("shop",), environ={"SHOP_TABLE": "t"}), registry)
    page = found.probes["page"]
    assert page.settings is None
    assert page.given.limits.slowest == 2.0
    assert not hasattr(page.given, "url")
    assert found.probes["database"].given == found.probes["database"].settings
    assert found.content_hash == load(Sources(profiles=("shop",), environ={"SHOP_TABLE": "t"}), registry).content_hash


def test_a_missing_contract_does_not_hide_mistakes_elsewhere_in_the_probe(shop: Path, load_text: Load):
    text = "profiles: [shop]\nprobes: {page: {statuses: [ok], foolow: true}}"
    assert message(load_text, text) == (
        "2: probes.page.statuses[0]: 'ok' is not a whole number\n2: probes.page.foolow: unknown key; did you mean `follow`?"
    )


def test_a_secret_file_of_a_bundled_profile_is_a_contract_until_a_variable_points_at_it(
    bundled: Path, registry: Registry
):
    (bundled / "shop.yaml").write_text(
        f"probes:\n{SHOP}, password: '${{file:/nonexistent/x}}'}}\n"
        f"{SHOP.replace('shop:', 'till:')}, password: '${{file:${{KEY_FILE}}}}'}}\n"
    )
    probes = load(Sources(profiles=("shop",), environ={}), registry).probes
    assert probes["shop"].missing == (MissingContract("file:/nonexistent/x", "password"),)
    assert probes["till"].missing == (MissingContract("KEY_FILE", "password"),)
    with pytest.raises(ConfigError) as caught:
        load(Sources(profiles=("shop",), environ={"KEY_FILE": "/nonexistent/y"}), registry)
    assert str(caught.value) == (
        "profiles/shop.yaml:3: probes.till.password: cannot read /nonexistent/y: No such file or directory"
    )


def test_a_probe_that_is_switched_off_needs_no_variables(shop: Path, load_text: Load):
    off = "profiles: [shop]\nprobes:\n  page: {enabled: '${PAGE:-no}', url: '${NOPE}'}\n"
    assert list(load_text(off, SHOP_TABLE="t").probes) == ["database"]


def test_a_value_that_comes_out_empty_is_as_if_not_written(load_text: Load):
    text = f"probes:\n{SHOP}, password: '${{P:-}}', follow: '${{F:-}}', statuses: ['${{S:-}}', 204]}}"
    settings = load_text(text).probes["shop"].settings
    assert (settings.password, settings.follow, settings.statuses) == (None, False, (204,))


def test_a_variable_fills_numbers_switches_and_lists_and_stays_text_for_text(load_text: Load):
    text = (
        f"probes:\n{SHOP}, statuses: '${{CODES}}', follow: '${{YES}}', failures_to_fail: '${{N}}', checked: '${{N}}'}}"
    )
    spec = load_text(text, CODES="200, 204,", YES="true", N="3").probes["shop"]
    assert (spec.settings.statuses, spec.settings.follow, spec.failures_to_fail) == ((200, 204), True, 3)
    assert spec.settings.checked == "3"


def test_variables_come_from_the_process_then_the_command_line_then_the_files_env_file(
    tmp_path: Path, registry: Registry
):
    path = tmp_path / "tocsin.yaml"
    path.write_text(f"env_file: own.env\nprobes:\n{SHOP}, checked: '${{A}}${{B}}${{C}}'}}")
    (tmp_path / "own.env").write_text("A=1\nB=1\nC=1\n")
    (tmp_path / "cli.env").write_text("A=2\nB=2\n")
    before = dict(os.environ)
    configuration = load(Sources(path, env_file=tmp_path / "cli.env", environ={"A": "3"}), registry)
    assert configuration.probes["shop"].settings.checked == "321"
    assert dict(os.environ) == before
    assert set(configuration.files) == {path, tmp_path / "own.env", tmp_path / "cli.env"}


def test_mistakes_in_the_env_file_and_in_the_file_are_told_together(load_text: Load, tmp_path: Path):
    (tmp_path / "own.env").write_text("nonsense\n")
    text = "env_file: own.env\nprofiles: [nowhere.yaml]\n"
    assert message(load_text, text).replace(f"{tmp_path}/", "") == (
        "own.env:1: not of the form KEY=VALUE\nnowhere.yaml: cannot be read: No such file or directory"
    )


def test_a_profile_has_no_env_file(bundled: Path, registry: Registry):
    (bundled / "shop.yaml").write_text(f"env_file: x\nprobes:\n{SHOP}}}")
    with pytest.raises(ConfigError) as caught:
        load(Sources(profiles=("shop",), environ={}), registry)
    assert str(caught.value) == (
        "profiles/shop.yaml:1: env_file: not for a profile; it belongs in your own configuration file"
    )


def test_a_profile_lays_its_own_over_the_bundled_ones_that_it_names(bundled: Path, registry: Registry):
    (bundled / "base.yaml").write_text(f"profiles: [shop]\ndefaults: {{every: 50s}}\nprobes:\n{SHOP}, checked: base}}")
    (bundled / "shop.yaml").write_text("profiles: [base]\nprobes:\n  shop: {checked: own, every: 20s}\n")
    configuration = load(Sources(profiles=("shop", "base"), environ={}), registry)
    assert configuration.probes["shop"].settings.checked == "own"
    assert configuration.probes["shop"].every == 20
    (bundled / "shop.yaml").write_text("profiles: [./base.yaml]\nprobes: {}\n")
    with pytest.raises(ConfigError, match=r"profiles/shop.yaml:1: profiles: there is no bundled profile `./base.yaml`"):
        load(Sources(profiles=("shop",), environ={}), registry)


def test_a_profile_named_twice_is_read_once(shop: Path, tmp_path: Path, registry: Registry):
    path = tmp_path / "tocsin.yaml"
    path.write_text("profiles: [shop, shop]\n")
    configuration = load(Sources(path, profiles=("shop",), environ={"SHOP_URL": "u"}), registry)
    assert sorted(configuration.probes) == ["database", "page"]


def test_controls_caps_and_vantage_come_from_the_last_document_that_gives_them(bundled: Path, load_text: Load):
    (bundled / "shop.yaml").write_text(
        f"controls: [tcp://gateway.test:53]\nvantage: profile\ncaps: {{default: {{concurrency: 2}}}}\nprobes:\n{SHOP}}}"
    )
    configuration = load_text(
        """
        profiles: [shop]
        controls: ["tcp://${DNS}:53", https://proxy.test/health]
        caps:
          runs: 50
          default: {concurrency: 3}
          dependencies:
            "https://*.shop.test:443": {requests_per_minute: 6}
            "https://api.shop.test:443": {concurrency: 1}
        """,
        DNS="10.0.0.1",
    )
    assert tuple(target.url for target in configuration.controls) == ("tcp://10.0.0.1:53", "https://proxy.test/health")
    assert configuration.vantage == configuration.probes["shop"].vantage == "profile"
    caps = configuration.caps
    assert caps.runs == 50
    assert caps.of("postgres://db:5432") == Cap(3, 300)
    assert caps.of("https://www.shop.test:443") == Cap(3, 6)
    assert caps.of("https://api.shop.test:443") == Cap(1, 300)


def test_the_vantage_of_the_process_wins_over_the_documents_and_a_probes_own_over_both(
    tmp_path: Path, registry: Registry
):
    path = tmp_path / "tocsin.yaml"
    path.write_text(f"vantage: a\nprobes:\n{SHOP}}}\n{SHOP.replace('shop:', 'till:')}, vantage: c}}")
    configuration = load(Sources(path, environ={}, vantage="b"), registry)
    assert [spec.vantage for spec in configuration.probes.values()] == ["b", "c"]


def test_severities_may_name_reasons_that_the_settings_declare(load_text: Load):
    text = """
    probes:
      log:
        kind: log
        system: s
        incident: i
        path: /x
        patterns: {out_of_disk: No space left}
        severities: {out_of_disk: ticket, disk: page}
    """
    assert message(load_text, text) == (
        "9: probes.log.severities.disk: not a reason of the kind `log`; `tocsin kinds log` lists them"
    )


def test_a_broken_plugin_is_told_where_it_is_used(tmp_path: Path):
    path = tmp_path / "tocsin.yaml"
    path.write_text(f"probes:\n{SHOP}}}")
    with pytest.raises(ConfigError) as caught:
        load(Sources(path, environ={}), Registry({"web": int}))  # type: ignore[dict-item]
    assert str(caught.value) == (
        f"{path}:2: probes.shop.kind: the kind `web` (from builtins) is not a subclass of tocsin.sdk.Probe"
    )


POLICY = "policy: {applies: '${CHAIN_ENABLED:-true}', because: anchoring is off}"


def test_a_policy_that_does_not_apply_switches_the_probe_off_and_needs_no_contract(bundled: Path, registry: Registry):
    (bundled / "shop.yaml").write_text(
        f"probes:\n  shop: {{kind: web, system: s, incident: i, url: '${{SHOP_URL}}', {POLICY}}}\n"
    )

    def shop(**environ: str) -> ProbeSpec:
        return load(Sources(profiles=("shop",), environ=environ), registry).probes["shop"]

    assert (shop().off_because, shop().missing) == ("", (MissingContract("SHOP_URL", "url"),))
    off = shop(CHAIN_ENABLED="false")
    assert (off.off_because, off.missing, off.settings) == ("anchoring is off", (), None)
    assert shop(CHAIN_ENABLED="true", SHOP_URL="https://shop.test").off_because == ""


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("policy: {applies: false}", "policy.because"),
        ("policy: {applies: maybe, because: why}", "policy.applies"),
        ("policy: {applies: false, because: why, reason: x}", "policy.reason"),
    ],
)
def test_a_policy_says_whether_and_why(load_text: Load, policy: str, said: str):
    assert said in message(load_text, f"probes:\n{SHOP}, {policy}}}\n")


def test_the_settings_of_a_probe_that_is_off_are_checked_all_the_same(load_text: Load):
    text = f"probes:\n{SHOP}, folow: true, policy: {{applies: false, because: why}}}}\n"
    assert "probes.shop.folow" in message(load_text, text)


def test_a_kind_may_call_a_setting_of_its_own_policy(tmp_path: Path):
    class Stamp(Web):
        """A stamp."""

        kind = "stamp"

        class Settings(ProbeSettings):
            policy: str

    path = tmp_path / "tocsin.yaml"
    path.write_text("probes:\n  stamp: {kind: stamp, system: s, incident: i, policy: 1.2.3.4}\n")
    spec = load(Sources(path, environ={}), Registry({"stamp": Stamp})).probes["stamp"]
    assert (spec.settings.policy, spec.off_because) == ("1.2.3.4", "")
