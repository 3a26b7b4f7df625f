"""What the bundled profile of Wipe makes of an operator's variables."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tocsin.config import Configuration, Registry, Sources, load
from tocsin.model import ProbeSpec
from tocsin_probes.http import Http
from tocsin_probes.signer import lint
from tocsin_sandbox.observability import ALERTS

SMOKE = {"TOCSIN_WIPE_SMOKE_ENABLED": "true", "TOCSIN_WIPE_SMOKE_TENANT": "t", "TOCSIN_WIPE_API_URL": "http://api"}


def loaded(**variables: str) -> Configuration:
    return load(Sources(profiles=("wipe",), environ=variables), Registry.discover())


def probe(name: str, **variables: str) -> ProbeSpec:
    return loaded(**variables).probes[name]


def test_a_binary_proof_is_no_reason_to_refuse_the_profile(tmp_path: Path) -> None:
    """A proof is a ``.der`` file, as published."""
    proof = tmp_path / "proof.der"
    proof.write_bytes(b"\x30\x04\x04\x02\xff\xfe")
    variables = {**SMOKE, "TOCSIN_WIPE_SMOKE_PROOF_FILE": str(proof), "TOCSIN_WIPE_SMOKE_AUTHORIZATION": "Bearer a"}
    smoke = probe("wipe-smoke-upload", **variables)
    assert (smoke.missing, smoke.settings.body_file) == ((), str(proof))


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("wipe-api", "TOCSIN_WIPE_API_URL"),
        ("wipe-api-ready", "TOCSIN_WIPE_API_URL"),
        ("wipe-telemetry", "TOCSIN_WIPE_OTEL_EXPORTER_URL"),
        ("wipe-signer", "TOCSIN_WIPE_SIGNER_HEALTH_URL"),
        ("wipe-storage-health", "TOCSIN_WIPE_S3_HEALTH_URL"),
    ],
)
def test_a_login_page_is_not_health(name: str, variable: str) -> None:
    settings = probe(name, **{variable: "http://there"}).settings
    assert isinstance(settings, Http.Settings)
    assert settings.expect.not_html


def test_silence_of_the_platforms_prometheus_needs_a_presence_to_mean_something() -> None:
    asking = [spec for spec in loaded().probes.values() if spec.kind in ("alert_state", "promql")]
    assert len(asking) >= 6
    for spec in asking:
        assert "TOCSIN_WIPE_TELEMETRY_PRESENCE" in {missing.variable for missing in spec.missing}, spec.name


def test_each_published_alert_of_the_platform_is_read() -> None:
    variables = {
        "TOCSIN_WIPE_PROMETHEUS_URL": "http://prometheus",
        "TOCSIN_WIPE_TELEMETRY_PRESENCE": "up",
    }
    specs = [spec for spec in loaded(**variables).probes.values() if spec.kind == "alert_state"]
    assert sorted(name for spec in specs for name in spec.settings.alerts) == sorted(ALERTS)


BUCKETS = ("proofs", "certificates", "binaries", "exports", "billing-drop")
S3 = {
    "TOCSIN_WIPE_S3_ENDPOINT": "http://storage",
    "TOCSIN_WIPE_S3_ACCESS_KEY_ID": "a",
    "TOCSIN_WIPE_S3_SECRET_ACCESS_KEY": "b",
    **{f"S3_BUCKET_{name.upper().replace('-', '_')}": name for name in BUCKETS},
}


def test_buckets_can_be_declared_as_they_must_be_and_credentials_end() -> None:
    declared = {"TOCSIN_WIPE_BUCKET_VERSIONING": "enabled", "TOCSIN_WIPE_VERSIONING_EXPORTS": "off"}
    more = {"TOCSIN_WIPE_LIFECYCLE_PROOFS": "absent", "TOCSIN_WIPE_S3_SESSION_TOKEN": "token"}
    probes = loaded(**S3, **declared, **more).probes
    found = {name: probes[f"wipe-bucket-{name}"].settings for name in BUCKETS}
    assert [settings.versioning for settings in found.values()] == ["enabled", "enabled", "enabled", "off", ""]
    assert [settings.lifecycle for settings in found.values()] == ["absent", "", "", "", ""]
    assert {settings.session_token.reveal() for settings in found.values()} == {"token"}
    assert loaded(**S3).probes["wipe-bucket-proofs"].settings.versioning == ""


def test_a_platform_without_a_billing_drop_can_say_so() -> None:
    drop = probe("wipe-bucket-billing-drop", TOCSIN_WIPE_BILLING_DROP_ENABLED="false")
    assert "TOCSIN_WIPE_BILLING_DROP_ENABLED=false" in drop.off_because
    assert probe("wipe-bucket-billing-drop").missing


def test_the_platforms_own_signer_settings_are_compared() -> None:
    variables = {
        "TOCSIN_WIPE_SIGNER_URL": "http://signer",
        "TOCSIN_WIPE_SIGNER_KEY_ID": "k",
        "TOCSIN_WIPE_SIGNER_PADES_PATH": "/sign",
        "TOCSIN_WIPE_SIGNER_TRUST_FILE": "roots.pem",
        "TOCSIN_WIPE_SIGNER_TSA_URL": "http://platforms",
        "TOCSIN_WIPE_TSA_URL": "http://probed",
        "TOCSIN_WIPE_SIGNER_PLATFORM_ENDPOINT": "http://elsewhere",
        "SIGNER_MODE": "remote",
        "TOCSIN_WIPE_SIGNER_MODE_PATH": "/mode",
        "TOCSIN_WIPE_SIGNER_DECRYPT_PATH": "/decrypt",
        "TOCSIN_WIPE_SIGNER_CIPHERTEXT": "c",
        "TOCSIN_WIPE_SIGNER_PLAINTEXT": "p",
    }
    probes = loaded(**variables).probes
    found = {name: {finding.component for finding in lint(probes[name].settings)} for name in SIGNERS}
    assert found == {"wipe-signer-decrypt": {"endpoint"}, "wipe-signer-pades": {"tsa"}}


SIGNERS = ("wipe-signer-decrypt", "wipe-signer-pades")


def test_every_probe_of_the_signer_is_given_its_ca_and_our_certificate() -> None:
    names = ("ca_file", "client_cert_file", "client_key_file")
    files = {f"TOCSIN_WIPE_SIGNER_{name.upper()}": f"{name}.pem" for name in names}
    specs = [spec for spec in loaded(**SIGNER, **files).probes.values() if spec.name.startswith("wipe-signer")]
    asking = {spec.name: spec.settings for spec in specs if spec.kind in ("http", "signer")}
    assert len(asking) == 6
    for probe_name, settings in asking.items():
        tls = settings.tls if isinstance(settings, Http.Settings) else settings.auth
        assert [getattr(tls, name) for name in names] == [*files.values()], probe_name


SIGNER = {
    "SIGNER_MODE": "remote",
    "TOCSIN_WIPE_CHAIN_SENDER": "0x" + 40 * "1",
    "TOCSIN_WIPE_SIGNER_CIPHERTEXT": "c",
    "TOCSIN_WIPE_SIGNER_HEALTH_URL": "https://signer/health",
    "TOCSIN_WIPE_SIGNER_KEY_ID": "k",
    "TOCSIN_WIPE_SIGNER_PLAINTEXT": "p",
    "TOCSIN_WIPE_SIGNER_RECEIPT_KEY": base64.b64encode(bytes(32)).decode(),
    "TOCSIN_WIPE_SIGNER_TRANSACTIONS_ENABLED": "true",
    "TOCSIN_WIPE_SIGNER_TRUST_FILE": "roots.pem",
    "TOCSIN_WIPE_SIGNER_URL": "https://signer",
    **{
        f"TOCSIN_WIPE_SIGNER_{operation}_PATH": "/"
        for operation in ("MODE", "DECRYPT", "HMAC", "HMAC_VERIFY", "PADES", "RECEIPT", "TX")
    },
}


def test_the_tenants_own_ids_must_not_be_in_a_public_answer_either() -> None:
    public = {f"TOCSIN_WIPE_VERIFY_{name}_URL": "http://verify" for name in ("ANCHORED", "UNANCHORED", "UNKNOWN")}
    on = {f"TOCSIN_WIPE_VERIFY_{name}ENABLED": "true" for name in ("", "UNANCHORED_", "UNKNOWN_")}
    ids = {"TOCSIN_WIPE_VERIFY_TENANT": "1234-5678", "TOCSIN_WIPE_VERIFY_ORGANIZATION": "9abc-def0"}
    probes = loaded(**public, **on, **ids).probes
    for name in ("wipe-verify-anchored", "wipe-verify-unanchored", "wipe-verify-unknown"):
        absent = probes[name].settings.expect.absent["leaks_internals"]
        assert {"1234-5678", "9abc-def0", "tenant_id", "SQLSTATE"} <= set(absent)
    assert 404 in probes["wipe-verify-unknown"].settings.expect.status


def test_the_form_of_the_logs_is_a_setting_and_presence_counts_what_has_it() -> None:
    patterns = {"TOCSIN_WIPE_LOKI_ERROR_PATTERN": " ERR ", "TOCSIN_WIPE_LOKI_LEVEL_PATTERN": " (ERR|INF) "}
    for given, (error, level) in (
        ({}, (r"(?i)level=error|\"level\":\"error\"", r"(?i)level=|\"level\":")),
        (patterns, tuple(patterns.values())),
    ):
        probes = loaded(TOCSIN_WIPE_LOKI_URL="http://loki", **given).probes
        for worker in ("proof", "anchor", "report"):
            settings = probes[f"wipe-{worker}-worker-errors"].settings
            assert f'|~ "{error}"' in settings.query
            assert f'|~ "{level}"' in settings.presence
