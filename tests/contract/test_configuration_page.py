"""docs/configuration.md: what it shows can be loaded, and it shows everything that can be said."""

from __future__ import annotations

import re
from pathlib import Path

from tocsin.config import Registry, Sources, load
from tocsin.config.caps import CapSettings, CapsSettings
from tocsin.config.declaration import Declaration, Defaults, DocumentSettings, Policy
from tocsin.config.maintenance import WindowSettings

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
EXAMPLE = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]


def test_the_example_can_be_loaded_as_it_stands_but_for_its_env_file(tmp_path: Path) -> None:
    variables = tmp_path / ".env"
    variables.write_text("SHOP_DB_PASSWORD=secret\n")
    token = tmp_path / "shop-token"
    token.write_text("token")
    text = EXAMPLE.replace("/etc/wipe/.env", str(variables)).replace("/run/secrets/shop-token", str(token))
    path = tmp_path / "tocsin.yaml"
    path.write_text(text)
    configuration = load(Sources(path, environ={}), Registry.discover())
    assert configuration.vantage == "api-network"
    assert len(configuration.controls) == 3
    assert configuration.caps.of("postgresql://db.example.org:5432").concurrency == 2
    shop = configuration.probes["shop-checkout"]
    assert (shop.every, shop.timeout, shop.retry_every, shop.failures_to_fail) == (30.0, 5.0, 5.0, 2)
    assert (len(shop.maintenance), shop.depends_on, dict(shop.labels)) == (2, ("shop-db",), {"team": "platform"})
    assert configuration.probes["wipe-chain"].every == 300.0


def test_every_key_is_in_the_example() -> None:
    models = (DocumentSettings, Defaults, Declaration, Policy, CapsSettings, CapSettings, WindowSettings)
    keys = {name for model in models for name in model.model_fields}
    assert {key for key in keys if not re.search(rf"\b{key}:", EXAMPLE)} == set()
