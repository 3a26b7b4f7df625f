"""What an operator of Wipe's real estate would tell the daemon: variables, and what its own file sets over the profile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.wipe_estate import ADMIN_CLIENT, WipeEstate
from tests.wipe_signer import DATA, MAC, MODE, PLAINTEXT, RECEIPT
from tests.wipe_simulators import SMOKE_KEY, SMOKE_TENANT, UNAUTHORIZED
from tocsin_sandbox.chain import CHAIN_ID, REGISTRY, SENDER
from tocsin_sandbox.identity import AUDIENCE, CLIENT_ID, USERNAME
from tocsin_sandbox.wipe import BUCKETS, DATABASE, ORGANIZATION, TENANT

ROOT = Path(__file__).parents[1]
PACE = {"every": "4s", "timeout": "3s", "retry_every": "500ms", "failures_to_fail": 2, "successes_to_recover": 1}
LOGINS = ("wipe-token-master", "wipe-token-exawipe", "wipe-provisioning", "wipe-download-pdf", "wipe-download-json")
SLOW = {"every": "5s", "timeout": "4s"}
"""For what hashes a password, signs a document or submits one."""

RECEIPTS = "wipe-receipt-chain"
MISSING: dict[str, str] = {}
"""Probes that cannot tell on this estate, and why."""

_TRANSIT_ERRORS = {
    "key_unknown": ["encryption key not found"],
    "key_disabled": ["is disallowed by policy"],
    "wrong_key": ["message authentication failed"],
    "sealed": ["Vault is sealed"],
}
_TRANSIT_TEXT = r"vault:v\d+:(.+)"


def configuration(estate: WipeEstate, folder: Path) -> dict[str, Any]:
    """As `tests.faulting.configure` takes it. ``folder``: where the receipt chain's mark is kept."""
    bundled = yaml.safe_load((ROOT / "profiles/wipe.yaml").read_text())["probes"]
    probes: dict[str, dict[str, Any]] = {name: dict(PACE) for name in bundled}
    for name, settings in _own(estate, folder).items():
        probes[name] |= settings
    variables = _variables(estate)
    _bootstrap(folder, variables, probes[RECEIPTS])
    return {"profiles": ["wipe"], "environment": variables, "probes": probes}


def _bootstrap(folder: Path, variables: dict[str, str], settings: dict[str, Any]) -> None:
    """The first mark of the receipt chain, made as an operator makes it."""
    file = folder / "receipts.yaml"
    rest = yaml.safe_load((ROOT / "profiles/wipe.yaml").read_text())["probes"]
    probes = {name: {"enabled": False} for name in rest} | {RECEIPTS: {**settings, "depends_on": None}}
    file.write_text(yaml.safe_dump({"version": 1, "profiles": ["wipe"], "probes": probes}))
    done = subprocess.run(
        [sys.executable, "-m", "tocsin.cli", "chain", "bootstrap", RECEIPTS, "--config", str(file)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _own(estate: WipeEstate, folder: Path) -> dict[str, dict[str, Any]]:
    signer = estate.signer
    bearer = {
        "bearer": f"${{file:{signer.token_file}}}",
        "check": {"request": {"method": "GET", "path": "/v1/auth/token/lookup-self"}},
        "days": 0.01,
    }
    transit = {"auth": bearer, "errors": _TRANSIT_ERRORS}
    return {
        **{name: {**SLOW, "back_off": "2s"} for name in LOGINS},
        **{
            name: {**SLOW, "back_off": "2s", "admin": _admin(estate)}
            for name in ("wipe-token-exawipe", "wipe-download-pdf", "wipe-download-json")
        },
        "wipe-signer-decrypt": {**transit, "operations": {"decrypt": {"key_id": DATA}}},
        "wipe-signer-hmac": {
            **transit,
            "operations": {
                "hmac": {
                    "key_id": MAC,
                    "request": {"body": {"input": "{message}"}},
                    "response": {"pattern": _TRANSIT_TEXT},
                },
                "hmac_verify": {
                    "key_id": MAC,
                    "request": {"body": {"input": "{message}", "hmac": "{mac_text}"}},
                    "verify": {"wrong_key_id": DATA},
                },
            },
        },
        "wipe-signer-receipts": {
            **transit,
            "operations": {
                "receipt_sign": {
                    "request": {"body": {"input": "{message}"}},
                    "response": {"pattern": _TRANSIT_TEXT},
                }
            },
        },
        "wipe-signer-pades": {
            **SLOW,
            "endpoint": estate.pdf_signer.url,
            "operations": {
                "pades_sign": {
                    "request": {
                        "path": "/sign",
                        "body": "{document:raw}",
                        "headers": {"Content-Type": "application/pdf"},
                    },
                    "response": {"extract": ""},
                }
            },
        },
        "wipe-signer-transactions": {
            "endpoint": estate.signing_node.url,
            "auth": {"bearer": None},
            "operations": {"tx_sign": _TRANSFER},
        },
        **{_probe_of(bucket): _key(estate.bucket_key(name)) for bucket, name in BUCKETS.items()},
        "wipe-chain": {
            "every": "4s",
            "timeout": "3s",
            "providers": [estate.anvil.url, f"${{file:{estate.second_provider}}}"],
        },
        "wipe-verification-limits": {
            "settings": {"VERIFY_RATE_LIMIT_PER_MINUTE": {"value": f"${{file:{estate.rate_limit}}}"}},
        },
        "wipe-production-settings": {
            "settings": {"DATABASE_SEED_DEV": {"value": f"${{file:{estate.seed_dev}}}"}},
        },
        "wipe-wal-archive": {"limits": {"archive_age": "2s"}},
        "wipe-smoke-upload": SLOW,
        # Probes every few seconds leave rows that the drills of abuse must outnumber.
        "wipe-verify-unknown": {"every": "6s"},
        "wipe-verification-events": {"limits": {"per_minute": 200, "share": 0.4}},
        RECEIPTS: {
            "every": "6s",
            "timeout": "5s",
            "mark": {"file": str(folder / "receipts.mark"), "key_file": str(folder / "receipts.key")},
            "evidence": {"folder": str(folder / "evidence")},
            "full_walk": {"every": "1s"},
            "settle": "100ms",
        },
    }


def _probe_of(variable: str) -> str:
    return "wipe-bucket-" + variable.removeprefix("S3_BUCKET_").lower().replace("_", "-")


def _key(folder: Path) -> dict[str, str]:
    names = {"access_key_id": "id", "secret_access_key": "secret", "session_token": "token"}
    return {setting: f"${{file:{folder / name}}}" for setting, name in names.items()}


_TRANSFER = {
    "key_id": None,
    "request": {
        "path": "/",
        "body": {
            "key_id": None,
            "digest": None,
            "jsonrpc": "2.0",
            "id": 1,
            "method": "eth_signTransaction",
            "params": [
                {
                    "from": "{address}",
                    "to": "0x" + "0" * 40,
                    "value": "0x0",
                    "gas": "0x5208",
                    "nonce": "{nonce}",
                    "chainId": "{chain_id}",
                    "gasPrice": "0x0",
                }
            ],
        },
    },
    "response": {"extract": "result", "encoding": "hex"},
    "verify": {"returns": "transaction"},
}
"""Ethereum "Execution API": eth_signTransaction, of nothing, for a chain that cannot be."""


def _admin(estate: WipeEstate) -> dict[str, str]:
    return {
        "url": f"{estate.keycloak.url}/admin/realms/exawipe",
        "client_id": ADMIN_CLIENT,
        "client_secret": estate.client_secret,
    }


def _variables(estate: WipeEstate) -> dict[str, str]:
    """By incident; published names are the platform's."""
    api, certificate = estate.api.url, estate.life.certificate
    return {
        **_keycloak(estate),
        "TOCSIN_WIPE_PROMETHEUS_URL": estate.prometheus.url,
        "TOCSIN_WIPE_LOKI_URL": estate.loki.url,
        "TOCSIN_WIPE_LOKI_ALL": 'service_name="api"',
        "TOCSIN_WIPE_OTEL_EXPORTER_URL": f"{estate.collector.url}/metrics",
        "TOCSIN_WIPE_401_QUERY": f"sum(rate({UNAUTHORIZED}[6s]))",
        "TOCSIN_WIPE_401_LIMIT": "3",
        "TOCSIN_WIPE_TELEMETRY_PRESENCE": 'sum(up{job="wipe"})',
        **_signer(estate),
        **_storage(estate),
        **_database(estate),
        "TOCSIN_WIPE_API_URL": api,
        "DATABASE_SEED_DEV": "false",
        "AGENT_DEV_ENROLLMENT_ENABLED": "false",
        "TOCSIN_WIPE_SMTP_ADDRESS": estate.mail.address,
        "TOCSIN_WIPE_SMTP_SECURITY": "none",
        "BLOCKCHAIN_ENABLED": "true",
        "TOCSIN_WIPE_CHAIN_RPC_URL": estate.anvil.url,
        "TOCSIN_WIPE_CHAIN_ID": str(CHAIN_ID),
        "TOCSIN_WIPE_CHAIN_MAX_HEAD_AGE": "3s",
        "TOCSIN_WIPE_CHAIN_SENDER": SENDER,
        "TOCSIN_WIPE_CHAIN_REGISTRY": REGISTRY,
        "TOCSIN_WIPE_CHAIN_PERMISSION_CALL": "0x8c8b5d3c{sender}",
        "TOCSIN_WIPE_CHAIN_EXPLORER_URL": f"{estate.explorer.url}/explorer",
        "TOCSIN_WIPE_ANCHOR_PAYLOAD_COLUMN": "json_sha256",
        "TOCSIN_WIPE_ANCHOR_SETTLED": "0 seconds",
        "TOCSIN_WIPE_VERIFICATION_LOG_SOURCE_COLUMN": "source_ip",
        "TOCSIN_WIPE_VERIFICATION_LOG_IDENTIFIER_COLUMN": "asked_for",
        "VERIFY_RATE_LIMIT_PER_MINUTE": "60",
        "VERIFY_RATE_LIMIT_PER_HOUR": "600",
        "VERIFY_CAPTCHA_SECRET": estate.elsewhere.captcha_secret,
        "VERIFY_CAPTCHA_VERIFY_URL": f"{estate.captcha.url}/siteverify",
        "TOCSIN_WIPE_VERIFY_ENABLED": "true",
        "TOCSIN_WIPE_VERIFY_ANCHORED_URL": f"{api}/verify/{certificate}",
        "TOCSIN_WIPE_VERIFY_TENANT": TENANT,
        "TOCSIN_WIPE_VERIFY_ORGANIZATION": ORGANIZATION,
        "TOCSIN_WIPE_VERIFY_UNKNOWN_ENABLED": "true",
        "TOCSIN_WIPE_VERIFY_UNKNOWN_URL": f"{api}/verify/{SMOKE_TENANT}",
        "TOCSIN_WIPE_VERIFY_UNANCHORED_ENABLED": "true",
        "TOCSIN_WIPE_VERIFY_UNANCHORED_URL": f"{api}/verify/{estate.unanchored}",
        "TOCSIN_WIPE_BACKUP_FILE": str(estate.backup),
        "TOCSIN_WIPE_SMOKE_ENABLED": "true",
        "TOCSIN_WIPE_SMOKE_TENANT": SMOKE_TENANT,
        "TOCSIN_WIPE_SMOKE_AUTHORIZATION": f"Bearer {SMOKE_KEY}",
        "TOCSIN_WIPE_SMOKE_PROOF_FILE": str(estate.proof),
    }


def _keycloak(estate: WipeEstate) -> dict[str, str]:
    keycloak = estate.keycloak
    made = {
        "KEYCLOAK_JWKS_CACHE_TTL": "8s",
        "TOCSIN_WIPE_KEYCLOAK_HEALTH_URL": f"{keycloak.management_url}/health/ready",
        "TOCSIN_WIPE_KEYCLOAK_DATABASE_DSN": estate.keycloak_database.dsn(
            keycloak.database_name, estate.keycloak_role.name, estate.keycloak_role.password
        ),
        "KEYCLOAK_ADMIN_CLIENT_ID": CLIENT_ID,
        "KEYCLOAK_ADMIN_CLIENT_SECRET": estate.client_secret,
        "TOCSIN_WIPE_MASTER_ACCEPT_URL": f"{estate.api.url}/admin/api/v1/verification-log",
        "TOCSIN_WIPE_EXAWIPE_ACCEPT_URL": f"{estate.api.url}/api/v1/usage",
    }
    for realm in ("master", "exawipe"):
        name = realm.upper()
        made |= {
            f"KEYCLOAK_{name}_ISSUER": keycloak.issuer(realm),
            f"KEYCLOAK_{name}_AUDIENCE": AUDIENCE,
            f"TOCSIN_WIPE_{name}_CLIENT_ID": CLIENT_ID,
            f"TOCSIN_WIPE_{name}_CLIENT_SECRET": estate.client_secret,
            f"TOCSIN_WIPE_{name}_USERNAME": USERNAME,
            f"TOCSIN_WIPE_{name}_PASSWORD": estate.password,
        }
    return made


def _signer(estate: WipeEstate) -> dict[str, str]:
    url, transit = estate.signer.vault.url, "/v1/transit"
    return {
        "SIGNER_MODE": MODE,
        "TOCSIN_WIPE_SIGNER_URL": url,
        "TOCSIN_WIPE_SIGNER_PLATFORM_ENDPOINT": url,
        "TOCSIN_WIPE_SIGNER_HEALTH_URL": f"{url}/v1/sys/health",
        "TOCSIN_WIPE_SIGNER_MODE_PATH": "/v1/kv/signer",
        "TOCSIN_WIPE_SIGNER_MODE_FIELD": "data.mode",
        "TOCSIN_WIPE_SIGNER_KEY_ID": DATA,
        "TOCSIN_WIPE_SIGNER_DECRYPT_PATH": f"{transit}/decrypt/{{key_id}}",
        "TOCSIN_WIPE_SIGNER_DECRYPT_FIELD": "data.plaintext",
        "TOCSIN_WIPE_SIGNER_CIPHERTEXT": estate.signer.ciphertext,
        "TOCSIN_WIPE_SIGNER_PLAINTEXT": PLAINTEXT,
        "TOCSIN_WIPE_SIGNER_HMAC_PATH": f"{transit}/hmac/{{key_id}}",
        "TOCSIN_WIPE_SIGNER_HMAC_FIELD": "data.hmac",
        "TOCSIN_WIPE_SIGNER_HMAC_KEY": estate.signer.hmac_key,
        "TOCSIN_WIPE_SIGNER_HMAC_VERIFY_PATH": f"{transit}/verify/{{key_id}}",
        "TOCSIN_WIPE_SIGNER_HMAC_VERIFY_FIELD": "data.valid",
        "TOCSIN_WIPE_SIGNER_RECEIPT_PATH": f"{transit}/sign/{RECEIPT}",
        "TOCSIN_WIPE_SIGNER_RECEIPT_FIELD": "data.signature",
        "TOCSIN_WIPE_SIGNER_RECEIPT_KEY": estate.signer.receipt_key,
        "TOCSIN_WIPE_SIGNER_PADES_PATH": "/sign",
        "TOCSIN_WIPE_SIGNER_TRUST_FILE": str(estate.pdf_signer.trust_file),
        "TOCSIN_WIPE_SIGNER_TRANSACTIONS_ENABLED": "true",
        "TOCSIN_WIPE_SIGNER_TX_PATH": "/",
        "TOCSIN_WIPE_SIGNER_TSA_URL": estate.tsa.url,
        "TOCSIN_WIPE_TSA_URL": estate.tsa.url,
        "TOCSIN_WIPE_TSA_TRUST_FILE": str(estate.tsa_trust),
    }


def _storage(estate: WipeEstate) -> dict[str, str]:
    downloads = f"{estate.api.url}/api/v1/certificates/{estate.life.certificate}"
    return {
        **BUCKETS,
        "TOCSIN_WIPE_EXPECTED_BUCKET_EXPORTS": BUCKETS["S3_BUCKET_EXPORTS"],
        "TOCSIN_WIPE_BUCKET_VERSIONING": "off",
        "TOCSIN_WIPE_BUCKET_LIFECYCLE": "absent",
        "TOCSIN_WIPE_S3_ENDPOINT": estate.minio.url,
        "TOCSIN_WIPE_S3_HEALTH_URL": f"{estate.minio.url}/minio/health/live",
        "TOCSIN_WIPE_S3_ACCESS_KEY_ID": estate.minio.root.access_key,
        "TOCSIN_WIPE_S3_SECRET_ACCESS_KEY": estate.minio.root.secret_key,
        "TOCSIN_WIPE_CERTIFICATE_PDF_KEY_COLUMN": "pdf_key",
        "TOCSIN_WIPE_CERTIFICATE_PDF_CHECKSUM": "pdf_sha256",
        "TOCSIN_WIPE_CERTIFICATE_JSON_KEY_COLUMN": "json_key",
        "TOCSIN_WIPE_CERTIFICATE_JSON_CHECKSUM": "json_sha256",
        "TOCSIN_WIPE_CERTIFICATE_SETTLED": "0 seconds",
        "TOCSIN_WIPE_DOWNLOAD_PDF_URL": f"{downloads}/pdf",
        "TOCSIN_WIPE_DOWNLOAD_JSON_URL": f"{downloads}/json",
    }


def _database(estate: WipeEstate) -> dict[str, str]:
    return {
        "TOCSIN_WIPE_DATABASE_DSN": estate.database.dsn(DATABASE, estate.role.name, estate.role.password),
        "TOCSIN_WIPE_JOBS_TIME_COLUMN": "created_at",
        "TOCSIN_WIPE_JOBS_WAITING_STATUSES": "queued",
        "TOCSIN_WIPE_DLQ_TABLE": "dead_letter_jobs",
        "TOCSIN_WIPE_REPORTS_TABLE": "monthly_reports",
        "TOCSIN_WIPE_REPORTS_DUE_DAY": "1",
        "TOCSIN_WIPE_MAINTENANCE_QUERY": "SELECT finished_at FROM maintenance_runs",
        "TOCSIN_WIPE_RECEIPTS_TABLE": "receipts",
        "TOCSIN_WIPE_RECEIPTS_ORDER": "seq",
        "TOCSIN_WIPE_RECEIPTS_MAC_COLUMN": "mac",
        "TOCSIN_WIPE_RECEIPTS_PREVIOUS_COLUMN": "previous",
        "TOCSIN_WIPE_RECEIPTS_ENCODING": "hex",
    }
