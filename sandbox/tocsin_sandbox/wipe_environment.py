"""What an operator of Wipe would tell the daemon about what the platform does not publish, and what the sandbox sets
differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin_sandbox.chain import CHAIN_ID, REGISTRY, SENDER
from tocsin_sandbox.estate import Estate
from tocsin_sandbox.identity import CLIENT_ID
from tocsin_sandbox.observability import PRESENCE_QUERY, UNAUTHORIZED_QUERY
from tocsin_sandbox.signing import KEY_ID, PLAINTEXT

STALLED_SECONDS = 10.0
REST_SECONDS = 5.0

_QUICK_REST = {"back_off": f"{REST_SECONDS:g}s"}
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "wipe-queues": {"limits": {"stalled": f"{STALLED_SECONDS:g}s"}},
    **dict.fromkeys(
        ("wipe-token-master", "wipe-token-exawipe", "wipe-provisioning", "wipe-download-pdf", "wipe-download-json"),
        _QUICK_REST,
    ),
    "wipe-chain": {"nonce_patience": f"{STALLED_SECONDS:g}s"},
}
"""By probe. The sandbox's workers take a job within a second, and its Keycloak locks nobody out."""


def variables(estate: Estate) -> dict[str, str]:
    """By incident; published names are the platform's."""
    api, telemetry = estate.wipe.url, estate.telemetry.url
    return {
        "TOCSIN_WIPE_API_URL": api,
        "TOCSIN_WIPE_MASTER_ACCEPT_URL": f"{api}/admin/api/v1/verification-log",
        "TOCSIN_WIPE_EXAWIPE_ACCEPT_URL": f"{api}/api/v1/usage",
        "KEYCLOAK_ADMIN_CLIENT_ID": CLIENT_ID,
        "KEYCLOAK_ADMIN_CLIENT_SECRET": estate.identity.realms["master"].client_secret,
        "TOCSIN_WIPE_PROMETHEUS_URL": telemetry,
        "TOCSIN_WIPE_LOKI_URL": telemetry,
        "TOCSIN_WIPE_OTEL_EXPORTER_URL": f"{telemetry}/metrics",
        "TOCSIN_WIPE_401_QUERY": UNAUTHORIZED_QUERY,
        "TOCSIN_WIPE_401_LIMIT": "0.1",
        "TOCSIN_WIPE_TELEMETRY_PRESENCE": PRESENCE_QUERY,
        **_signer(estate),
        "TOCSIN_WIPE_CERTIFICATE_PDF_KEY_COLUMN": "pdf_key",
        "TOCSIN_WIPE_CERTIFICATE_PDF_CHECKSUM": "pdf_sha256",
        "TOCSIN_WIPE_CERTIFICATE_JSON_KEY_COLUMN": "json_key",
        "TOCSIN_WIPE_CERTIFICATE_JSON_CHECKSUM": "json_sha256",
        "TOCSIN_WIPE_CERTIFICATE_SETTLED": "0 seconds",
        "TOCSIN_WIPE_DOWNLOAD_PDF_URL": f"{api}/api/v1/certificates/{estate.life.certificate}/pdf",
        "TOCSIN_WIPE_DOWNLOAD_JSON_URL": f"{api}/api/v1/certificates/{estate.life.certificate}/json",
        "BLOCKCHAIN_ENABLED": "true",
        "TOCSIN_WIPE_CHAIN_RPC_URL": estate.provider.url,
        "TOCSIN_WIPE_CHAIN_ID": str(CHAIN_ID),
        "TOCSIN_WIPE_CHAIN_SENDER": SENDER,
        "TOCSIN_WIPE_CHAIN_REGISTRY": REGISTRY,
        "TOCSIN_WIPE_CHAIN_PERMISSION_CALL": "0x1",
        "TOCSIN_WIPE_CHAIN_EXPLORER_URL": f"{estate.others.url}/explorer",
        "TOCSIN_WIPE_ANCHOR_PAYLOAD_COLUMN": "json_sha256",
        "TOCSIN_WIPE_ANCHOR_SETTLED": "0 seconds",
        "TOCSIN_WIPE_VERIFICATION_LOG_SOURCE_COLUMN": "source_ip",
        "VERIFY_RATE_LIMIT_PER_MINUTE": "60",
        "VERIFY_RATE_LIMIT_PER_HOUR": "600",
        "VERIFY_CAPTCHA_SECRET": estate.elsewhere.captcha_secret,
        "VERIFY_CAPTCHA_VERIFY_URL": f"{estate.others.url}/siteverify",
        "TOCSIN_WIPE_VERIFY_ENABLED": "true",
        "TOCSIN_WIPE_VERIFY_ANCHORED_URL": f"{api}/verify/{estate.life.certificate}",
        "TOCSIN_WIPE_REPORTS_TABLE": "monthly_reports",
        "TOCSIN_WIPE_REPORTS_DUE_DAY": "1",
        "TOCSIN_WIPE_RECEIPT_CHAIN_ENABLED": "false",
        "TOCSIN_WIPE_LOKI_ALL": 'service_name="api"',
        "TOCSIN_WIPE_MAINTENANCE_QUERY": "SELECT finished_at FROM maintenance_runs",
        "TOCSIN_WIPE_SMTP_ADDRESS": estate.mail.address,
        "TOCSIN_WIPE_SMTP_SECURITY": "none",
        "TOCSIN_WIPE_BACKUP_FILE": str(estate.wipe_backup),
        "DATABASE_SEED_DEV": "false",
        "AGENT_DEV_ENROLLMENT_ENABLED": "false",
    }


def _signer(estate: Estate) -> dict[str, str]:
    operations = {
        name: f"/v1/{path}"
        for name, path in (
            ("DECRYPT", "decrypt"),
            ("HMAC", "hmac"),
            ("HMAC_VERIFY", "hmac_verify"),
            ("PADES", "pades_sign"),
            ("RECEIPT", "receipt_sign"),
        )
    }
    return {
        "SIGNER_MODE": estate.signer.mode,
        "TOCSIN_WIPE_SIGNER_EXPECTED_MODE": estate.signer.mode,
        "TOCSIN_WIPE_SIGNER_URL": estate.signing.url,
        "TOCSIN_WIPE_SIGNER_HEALTH_URL": f"{estate.signing.url}/v1/status",
        "TOCSIN_WIPE_SIGNER_MODE_PATH": "/v1/status",
        **{f"TOCSIN_WIPE_SIGNER_{name}_PATH": path for name, path in operations.items()},
        "TOCSIN_WIPE_SIGNER_KEY_UNKNOWN_TEXTS": "key_unknown",
        "TOCSIN_WIPE_SIGNER_TOKEN": estate.signer.token,
        "TOCSIN_WIPE_SIGNER_KEY_ID": KEY_ID,
        "TOCSIN_WIPE_SIGNER_CIPHERTEXT": estate.signer.ciphertext(),
        "TOCSIN_WIPE_SIGNER_PLAINTEXT": PLAINTEXT.decode(),
        "TOCSIN_WIPE_SIGNER_HMAC_KEY": estate.signer.hmac_key_text(),
        "TOCSIN_WIPE_SIGNER_RECEIPT_KEY": estate.signer.receipt_public_key(),
        "TOCSIN_WIPE_SIGNER_TRUST_FILE": str(estate.trust_file),
        "TOCSIN_WIPE_TSA_URL": f"{estate.stamping.url}/",
        "TOCSIN_WIPE_TSA_TRUST_FILE": str(estate.stamp_trust_file),
    }
