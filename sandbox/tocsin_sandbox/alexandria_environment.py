"""What an operator of Alexandria would give the daemon, and what the sandbox sets differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin_sandbox.alexandria_audit import SEPARATOR, SIGNED, TABLE
from tocsin_sandbox.alexandria_license import KID
from tocsin_sandbox.estate import Estate

PROFILES = ("alexandria", "alexandria-pod")
"""``alexandria-quadlet`` is about a host's systemd, which the sandbox leaves alone."""

NEEDS_A_CLUSTER = ("kubernetes_workload", "kubernetes_logs", "kubernetes_secret")
"""Kinds whose probes are switched off: the sandbox has no Kubernetes."""

CHAIN = "alexandria-audit-chain"
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "alexandria-ready-inside": {"depends_on": ["alexandria-orchestrator-socket"]},
    "alexandria-ready-pod": {"depends_on": ["alexandria-ready-inside", "alexandria-orchestrator-socket"]},
    "alexandria-license-blob": {"source": {"secret": None, "file": "${SANDBOX_ALEXANDRIA_FOLDER}/license.key"}},
    CHAIN: {
        "mode": "hmac",
        "payload": {"fields": list(SIGNED), "separator": SEPARATOR},
        "keys": [{"id": "k1", "secret": "${SANDBOX_ALEXANDRIA_AUDIT_KEY}"}],
        "mark": {
            "file": f"${{SANDBOX_ALEXANDRIA_FOLDER}}/chain/{CHAIN}.mark",
            "key_file": "${SANDBOX_ALEXANDRIA_FOLDER}/chain/key",
        },
        "evidence": {"folder": "${SANDBOX_ALEXANDRIA_FOLDER}/chain/evidence"},
        "full_walk": {"every": "1ms"},
        "settle": "100ms",
    },
}
"""By probe. One daemon sees what in a cluster two do, so that the outer one's probes wait for the inner one's. The
chain is walked as its owner can, with the key; all of it at each run, since it is short."""


def variables(estate: Estate) -> dict[str, str]:
    """Published names are the platform's; TOCSIN_ALEXANDRIA_* is for what is not published; SANDBOX_* is only ours."""
    return {
        "TOCSIN_ALEXANDRIA_URL": estate.alexandria_service.url,
        "TOCSIN_ALEXANDRIA_SERVICE_URL": estate.alexandria_service.url,
        "TOCSIN_ALEXANDRIA_POD_URL": estate.alexandria.url,
        "TOCSIN_ALEXANDRIA_INSIDE_URL": estate.alexandria.url,
        "TOCSIN_ALEXANDRIA_SOCKETS": str(estate.orchestrator.path),
        "TOCSIN_ALEXANDRIA_ADMIN_TOKEN": estate.alexandria_api.admin_token,
        "TOCSIN_ALEXANDRIA_ENTITLEMENTS": "audit_export, oidc",
        "TOCSIN_ALEXANDRIA_LICENSE_ENCODING": "jwt",
        "ALEXANDRIA_PROD_TRUSTED_KID": KID,
        "ALEXANDRIA_PROD_TRUSTED_KEY_PEM": estate.license_file.public_key(),
        "TOCSIN_ALEXANDRIA_DATABASE_DSN": estate.audit_log.dsn,
        "TOCSIN_ALEXANDRIA_AUDIT_TABLE": TABLE,
        "TOCSIN_ALEXANDRIA_AUDIT_ORDER": "seq",
        "TOCSIN_ALEXANDRIA_AUDIT_PARTITION": "tenant_id",
        "TOCSIN_ALEXANDRIA_AUDIT_ENCODING": "hex",
        "TOCSIN_ALEXANDRIA_AUDIT_MAX_AGE": "10m",
        "TOCSIN_ALEXANDRIA_RESTORE_TABLES": f"{TABLE}:created_at",
        "TOCSIN_ALEXANDRIA_BACKUP_FILE": str(estate.backup),
        "SANDBOX_ALEXANDRIA_FOLDER": str(estate.license_file.path.parent),
        "SANDBOX_ALEXANDRIA_AUDIT_KEY": estate.audit_log.key,
    }
