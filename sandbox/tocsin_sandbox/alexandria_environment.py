"""What an operator of Alexandria would give the daemon, and what the sandbox sets differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin_sandbox.alexandria_accounts import Account
from tocsin_sandbox.alexandria_audit import SEPARATOR, SIGNED, TABLE, USERS
from tocsin_sandbox.alexandria_license import KID
from tocsin_sandbox.estate import Estate

PROFILES = ("alexandria-platform", "alexandria", "alexandria-pod")
"""``alexandria-quadlet`` is about a host's systemd, which the sandbox leaves alone."""

WINDOW_SECONDS = 10.0
"""For how long a line of a log, an event, a kill counts: what is flipped back is soon forgotten."""

_QUICK = {"window": f"{WINDOW_SECONDS:g}s"}
_AT_ONCE = _QUICK | {"starting": "1s", "release_patience": "1s"}
_LOGS = ("alexandria-logs", "alexandria-license-log", "alexandria-audit-logs")
_WORKLOADS = ("alexandria-pods", "alexandria-rollout", "alexandria-release")
CHAIN = "alexandria-audit-chain"
_LICENSE_FILE = {"source": {"secret": None, "file": "${SANDBOX_ALEXANDRIA_FOLDER}/license.key"}}
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "alexandria-ready-inside": {"depends_on": ["alexandria-orchestrator-socket"]},
    "alexandria-ready-pod": {
        "depends_on": ["alexandria-ready-inside", "alexandria-orchestrator-socket", "alexandria-pods"]
    },
    **dict.fromkeys(_LOGS, _QUICK),
    **dict.fromkeys(_WORKLOADS, _AT_ONCE),
    "alexandria-license-blob": _LICENSE_FILE,
    "alexandria-license-blob-entitlements": _LICENSE_FILE,
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


def login_variables(url: str, admin: Account) -> dict[str, str]:
    """How the simulator's administrator logs in, which the platform does not publish."""
    return {
        "TOCSIN_ALEXANDRIA_LOGIN_URL": f"{url}/auth/login",
        "TOCSIN_ALEXANDRIA_LOGIN_BODY": '{"email": "{username}", "password": "{password}"}',
        "TOCSIN_ALEXANDRIA_LOGIN_TOKEN": "access_token",
        "TOCSIN_ALEXANDRIA_LOGIN_EXPIRES_IN": "expires_in",
        "TOCSIN_ALEXANDRIA_ADMIN_USERNAME": admin.username,
        "TOCSIN_ALEXANDRIA_ADMIN_PASSWORD": admin.password,
        "TOCSIN_ALEXANDRIA_REFRESH_URL": f"{url}/auth/refresh",
        "TOCSIN_ALEXANDRIA_REFRESH_BODY": '{"refresh_token": "{refresh_token}"}',
        "TOCSIN_ALEXANDRIA_REFRESH_TOKEN": "refresh_token",
    }


def variables(estate: Estate) -> dict[str, str]:
    """Published names are the platform's; TOCSIN_ALEXANDRIA_* is for what is not published; SANDBOX_* is only ours."""
    return {
        "TOCSIN_ALEXANDRIA_KUBECONFIG": str(estate.kubeconfig),
        "TOCSIN_ALEXANDRIA_VAULT_ENABLED": "true",
        "VAULT_ADDR": estate.others.url,
        "TOCSIN_ALEXANDRIA_ROLLOUT_ENABLED": "true",
        "TOCSIN_ALEXANDRIA_RELEASE_ENABLED": "true",
        "TOCSIN_ALEXANDRIA_SQLITE_ENABLED": "true",
        "TOCSIN_ALEXANDRIA_SQLITE_FILE": str(estate.sqlite.path),
        "TOCSIN_ALEXANDRIA_URL": estate.alexandria_ingress.url,
        "TOCSIN_ALEXANDRIA_SERVICE_URL": estate.alexandria_service.url,
        "TOCSIN_ALEXANDRIA_POD_URL": estate.alexandria.url,
        "TOCSIN_ALEXANDRIA_INSIDE_URL": estate.alexandria.url,
        "TOCSIN_ALEXANDRIA_SOCKETS": str(estate.orchestrator.path),
        **login_variables(estate.alexandria_service.url, estate.alexandria_api.admin),
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
        "TOCSIN_ALEXANDRIA_RESTORE_TABLES": f"{USERS}:created_at",
        "TOCSIN_ALEXANDRIA_BACKUP_FILE": str(estate.backup),
        "SANDBOX_ALEXANDRIA_FOLDER": str(estate.license_file.path.parent),
        "SANDBOX_ALEXANDRIA_AUDIT_KEY": estate.audit_log.key,
    }
