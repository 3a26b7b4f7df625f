"""The catalogue of faults, and what the sandbox hands to the daemon, as data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tocsin.config import Registry
from tocsin.config.envfile import parse_env_file
from tocsin.data import data
from tocsin.paging.drills.catalogue import read_catalogue
from tocsin_sandbox.environment import PROFILES, bundled_probes, configuration, render_configuration, render_env_file
from tocsin_sandbox.fault import Fault
from tocsin_sandbox.faults import BY_NAME, FAULTS
from tocsin_sandbox.storage import policy

PROBES = {
    name: (profile, probe)
    for profile in PROFILES
    for name, probe in yaml.safe_load(data("profiles").joinpath(f"{profile}.yaml").read_text("utf-8"))["probes"].items()
    if "kind" in probe
}
"""As their first profile declares them; another may lay its own over it."""
KINDS = Registry.discover()


def test_no_two_faults_share_a_name() -> None:
    assert len(BY_NAME) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_names_a_probe_of_a_bundled_profile_and_a_reason_that_its_kind_can_give(fault: Fault) -> None:
    _, probe = PROBES[fault.expected_probe]
    assert (fault.system, fault.incident) == (probe["system"], probe["incident"])
    expected = probe.get("expect", {})
    named = {*expected.get("absent", {}), *expected.get("status_reasons", {}).values(), *probe.get("patterns", {})}
    assert fault.expected_reason in {info.code for info in KINDS[probe["kind"]].all_reasons()} | named


def test_names_are_words_joined_by_hyphens() -> None:
    assert [fault.name for fault in FAULTS if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", fault.name)] == []


def test_every_incident_of_the_bundled_profiles_has_a_fault() -> None:
    assert {probe["incident"] for _, probe in PROBES.values()} <= {fault.incident for fault in FAULTS}


def test_the_configuration_quickens_every_probe_of_the_profiles() -> None:
    content = yaml.safe_load(render_configuration(configuration(bundled_probes(), Path("wipe.env"))))
    assert set(content["probes"]) == set(PROBES)
    assert {probe["every"] for probe in content["probes"].values()} == {"5s"}


def test_no_probe_of_the_profiles_is_switched_off() -> None:
    content = configuration(bundled_probes(), Path("wipe.env"))
    assert [name for name, probe in content["probes"].items() if "enabled" in probe] == []


def test_every_drill_of_alexandria_has_a_switch() -> None:
    drills = read_catalogue([Path(str(data("drills"))) / "alexandria.yaml"])
    assert [name for name, drill in drills.items() if drill.sandbox != name] == []


def test_the_env_file_is_read_back_as_it_was_written() -> None:
    values = {"A": "plain", "B": "postgresql://u:p@127.0.0.1:1/db", "C": "with $dollar and #hash", "D": ""}
    assert parse_env_file(render_env_file(values).encode(), "wipe.env", {}) == values


def test_a_write_only_bucket_is_denied_everything_but_writing() -> None:
    assert policy(["a", "b"], frozenset({"b"}), {}) == [
        {
            "Effect": "Allow",
            "Action": "s3:*",
            "Resource": ["arn:aws:s3:::a", "arn:aws:s3:::a/*", "arn:aws:s3:::b", "arn:aws:s3:::b/*"],
        },
        {
            "Effect": "Deny",
            "NotAction": ["s3:PutObject", "s3:AbortMultipartUpload"],
            "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"],
        },
    ]


def test_a_denied_action_is_denied_on_its_bucket_only() -> None:
    assert policy(["a"], frozenset(), {"a": frozenset({"s3:PutObject"})})[-1] == {
        "Effect": "Deny",
        "Action": ["s3:PutObject"],
        "Resource": ["arn:aws:s3:::a", "arn:aws:s3:::a/*"],
    }
