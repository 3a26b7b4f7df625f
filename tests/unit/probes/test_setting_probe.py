"""What is said about settings, and that their values are not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.probing import probe_once
from tocsin_probes.setting import Setting


async def ask(**rule: Any) -> tuple[str, str | None, str]:
    probed = await probe_once(Setting(Setting.Settings.model_validate({"settings": {"NAME": rule}})))
    return (*probed.verdict, probed.outcome.detail)


OFF = ["false", "0", "off"]


@pytest.mark.parametrize(
    ("rule", "reason", "detail"),
    [
        ({"allowed": OFF}, None, "NAME: as they must be"),
        ({"allowed": OFF, "value": "FALSE "}, None, "NAME: as they must be"),
        ({"allowed": OFF, "value": "true"}, "setting_forbidden", "NAME is not one of false, 0, off"),
        ({"required": True}, "setting_missing", "NAME is not set"),
        ({"required": True, "value": "  "}, "setting_missing", "NAME is not set"),
        ({"forbidden": ["1x00AA"], "value": "1X00aa"}, "setting_forbidden", "NAME has a value that everybody knows"),
        ({"forbidden": ["1x00AA"], "value": "another"}, None, "NAME: as they must be"),
        ({"at_least": 1, "value": "60"}, None, "NAME: as they must be"),
        ({"at_least": 1, "value": "0"}, "setting_out_of_range", "NAME is less than 1"),
        ({"at_least": 1, "value": "nan"}, "setting_out_of_range", "NAME is less than 1"),
        ({"at_most": 600, "value": "100000"}, "setting_out_of_range", "NAME is more than 600"),
        ({"at_most": 600, "value": "many"}, "setting_out_of_range", "NAME is not a number"),
    ],
)
async def test_a_setting_is_as_it_must_be_or_says_what_is_wrong_without_its_value(
    rule: dict[str, Any], reason: str | None, detail: str
) -> None:
    assert await ask(**rule) == ("failed" if reason else "ok", reason, detail)


async def test_each_setting_is_a_component_and_the_worst_comes_first() -> None:
    settings = {"A": {"required": True}, "B": {"value": "on", "allowed": ["off"]}}
    probed = await probe_once(Setting(Setting.Settings.model_validate({"settings": settings})))
    assert [(finding.component, finding.reason) for finding in probed.outcome.findings] == [
        ("B", "setting_forbidden"),
        ("A", "setting_missing"),
    ]


@pytest.mark.parametrize("settings", [{}, {"A": {}}, {"A": {"value": "x"}}])
def test_a_rule_that_demands_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Setting.Settings.model_validate({"settings": settings})
