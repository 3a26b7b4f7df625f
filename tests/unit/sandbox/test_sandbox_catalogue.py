"""The catalogue of faults, and what the sandbox hands to the daemon, as data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tocsin.config import Registry
from tocsin.config.envfile import parse_env_file
from tocsin.data import data
from tocsin_sandbox.environment import PROFILES, bundled_probes, configuration, render_configuration, render_env_file
from tocsin_sandbox.fault import Fault
from tocsin_sandbox.faults import BY_NAME, FAULTS
from tocsin_sandbox.storage import policy

PROBES = {
    name: (profile, probe)
    for profile in PROFILES
    for name, probe in yaml.safe_load(data("profiles").joinpath(f"{profile}.yaml").read_text("utf-8"))["probes"].items()
}
KINDS = Registry.discover()
WATCHED = [fault for fault in FAULTS if fault.expected_probe]
AHEAD = {"api-not-serving", "quota-exceeded", "audit-chain-failure"}
"""Incidents whose simulators are there before the profiles have probes for all of them."""


def test_no_two_faults_share_a_name() -> None:
    assert len(BY_NAME) == len(FAULTS)


@pytest.mark.parametrize("fault", WATCHED, ids=lambda fault: fault.name)
def test_a_fault_names_a_probe_of_a_bundled_profile_and_a_reason_that_its_kind_can_give(fault: Fault) -> None:
    _, probe = PROBES[fault.expected_probe]
    assert (fault.system, fault.incident) == (probe["system"], probe["incident"])
    named = probe.get("expect", {}).get("absent", {}).keys()
    assert fault.expected_reason in {info.code for info in KINDS[probe["kind"]].all_reasons()} | named


def test_only_incidents_whose_probes_are_to_come_have_faults_without_a_probe() -> None:
    assert {fault.incident for fault in FAULTS if not fault.expected_probe} <= AHEAD


def test_names_are_words_joined_by_hyphens() -> None:
    assert [fault.name for fault in FAULTS if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", fault.name)] == []


def test_every_incident_of_the_bundled_profiles_has_a_fault() -> None:
    assert {probe["incident"] for _, probe in PROBES.values()} <= {fault.incident for fault in FAULTS}


def test_the_configuration_quickens_every_probe_of_the_profiles() -> None:
    content = yaml.safe_load(render_configuration(configuration(bundled_probes(), Path("wipe.env"))))
    assert set(content["probes"]) == set(PROBES)
    assert {probe["every"] for probe in content["probes"].values() if probe != {"enabled": False}} == {"5s"}


def test_only_what_needs_a_cluster_is_switched_off() -> None:
    content = configuration(bundled_probes(), Path("wipe.env"))
    off = {name for name, probe in content["probes"].items() if probe == {"enabled": False}}
    assert off == {name for name, (_, probe) in PROBES.items() if probe["kind"].startswith("kubernetes_")} != set()


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
