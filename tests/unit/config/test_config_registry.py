"""Kinds are found by entry point, imported when asked for, and blamed by name."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pydantic import field_validator

from tests.unit.config.fake_kinds import Log, Web
from tocsin.config import BrokenKind, ConfigError, Registry, Sources, UnknownKind, load


def announced(*pairs: tuple[str, str]) -> Registry:
    registry = Registry()
    for name, value in pairs:
        registry.announce(EntryPoint(name, value, "tocsin.probes"))
    return registry


def test_a_kind_is_loaded_through_its_entry_point():
    registry = announced(("web", "tests.unit.config.fake_kinds:Web"), ("log", "tests.unit.config.fake_kinds:Log"))
    assert list(registry) == ["log", "web"]
    assert len(registry) == 2
    assert registry["web"] is Web
    assert registry["log"] is Log


def test_a_kind_that_nobody_asks_for_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "lazy_kind_module.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = announced(("lazy", "lazy_kind_module:Lazy"), ("web", "tests.unit.config.fake_kinds:Web"))
    assert "lazy" in registry
    assert registry["web"] is Web
    assert "lazy_kind_module" not in sys.modules
    with pytest.raises(BrokenKind) as caught:
        registry["lazy"]
    assert str(caught.value) == ("the kind `lazy` (from lazy_kind_module) cannot be imported: RuntimeError: imported")


def test_the_bundled_kinds_are_discovered_under_their_distribution():
    registry = Registry.discover()
    assert {"http", "oidc_realm", "postgres"} <= set(registry)
    assert registry.package("http") == "tocsin"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("nowhere_at_all:Kind", "cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("tests.unit.config.fake_kinds:Nope", "cannot be imported: AttributeError: "),
        ("tests.unit.config.fake_kinds:Limits", "is not a subclass of tocsin.sdk.Probe"),
        ("tests.unit.config.fake_kinds:Web", "calls itself `web`"),
    ],
)
def test_a_kind_that_cannot_be_used_is_blamed_with_its_package(value: str, what: str):
    with pytest.raises(BrokenKind) as caught:
        announced(("shop", value))["shop"]
    assert str(caught.value).startswith(f"the kind `shop` (from {value.partition(':')[0]}) {what}")


def test_a_setting_that_every_probe_has_already_is_refused():
    class Settings(Web.Settings):
        timeout: int = 5

    kind = type("Shop", (Web,), {"kind": "shop", "Settings": Settings})
    with pytest.raises(BrokenKind, match="has a setting `timeout`, which every probe has already"):
        Registry({"shop": kind})["shop"]


def test_two_packages_with_one_name_break_that_kind_only():
    registry = announced(
        ("web", "tests.unit.config.fake_kinds:Web"),
        ("web", "other_package:Web"),
        ("log", "tests.unit.config.fake_kinds:Log"),
    )
    assert registry["log"] is Log
    with pytest.raises(BrokenKind) as caught:
        registry["web"]
    assert str(caught.value) == (
        "the kind `web` (from tests.unit.config.fake_kinds and other_package) cannot be imported: "
        "ImportError: more than one package brings it; uninstall one"
    )


@pytest.mark.parametrize(
    ("name", "hint"), [("wbe", "did you mean `web`?"), ("pigeon", "`tocsin kinds` lists those that are")]
)
def test_an_unknown_kind_is_answered_with_the_nearest_name(name: str, hint: str):
    registry = Registry({"web": Web})
    with pytest.raises(UnknownKind) as caught:
        registry[name]
    assert str(caught.value) == f"the kind `{name}` is not installed; {hint}"
    assert registry.get(name) is None


def test_a_kind_whose_own_checks_break_is_a_problem_of_that_probe_and_quotes_no_value(tmp_path: Path):
    class Fragile(Web):
        class Settings(Web.Settings):
            @field_validator("url")
            @classmethod
            def _check(cls, value: str) -> str:
                raise TypeError(f"not prepared for {value}")

    path = tmp_path / "tocsin.yaml"
    path.write_text("probes:\n  shop: {kind: web, system: s, incident: i, url: https://hunter2.test}\n")
    with pytest.raises(ConfigError) as refused:
        load(Sources(path, environ={}), Registry({"web": Fragile}))
    assert str(refused.value) == (
        f"{path}:2: probes.shop: the settings of the kind `web` cannot be checked: it raised TypeError; "
        "this is a bug in the kind"
    )
