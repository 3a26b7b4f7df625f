"""What is done to Alexandria's real parts by drills, and how a daemon watches them.

One daemon has the view of the cluster and that of the pod. Its rights are those that ``tocsin rbac`` prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.alexandria_estate import AlexandriaEstate
from tests.faulting import ROOT, configure
from tocsin_sandbox.alexandria_audit import DATABASE, SEPARATOR, SIGNED, TABLE
from tocsin_sandbox.alexandria_cluster import ACTS, LICENSE_SECRET, NAMESPACE
from tocsin_sandbox.alexandria_cluster import Act as ClusterAct
from tocsin_sandbox.alexandria_environment import login_variables
from tocsin_sandbox.alexandria_license import KID, License
from tocsin_sandbox.serving import Mood

EVERY = 4.0
"""Seconds between two runs of a probe; the chain's walk has more."""
WINDOW = "6s"
"""For how long a line of a log, an event, a restart counts: short, so that a fault can be seen to be over."""
CHAIN = "alexandria-audit-chain"

OVERLAID: dict[str, list[str]] = {
    "alexandria-ready-pod": ["alexandria-ready-inside", "alexandria-orchestrator-socket", "alexandria-pods"],
}
"""One daemon has both views; what is seen from outside waits for what is seen inside."""


def configuration(estate: AlexandriaEstate, folder: Path) -> dict[str, Any]:
    """The profiles at a quick pace, with the chain's form, which the platform does not publish, and its first mark made."""
    part = {
        "profiles": ["alexandria", "alexandria-pod"],
        "environment": _environment(estate, folder),
        "probes": _probes(estate, folder),
    }
    alone = folder / "alexandria"
    alone.mkdir()
    file = configure(alone, part)
    _grant(estate, file, folder / "kubeconfig")
    _tocsin("chain", "bootstrap", CHAIN, "--config", str(file))
    return part


def _environment(estate: AlexandriaEstate, folder: Path) -> dict[str, str]:
    return {
        "TOCSIN_ALEXANDRIA_KUBECONFIG": str(folder / "kubeconfig"),
        "TOCSIN_ALEXANDRIA_ROLLOUT_ENABLED": "true",
        "TOCSIN_ALEXANDRIA_RELEASE_ENABLED": "true",
        "TOCSIN_ALEXANDRIA_URL": estate.ingress.url,
        "TOCSIN_ALEXANDRIA_SERVICE_URL": estate.service.url,
        "TOCSIN_ALEXANDRIA_POD_URL": estate.site.url,
        "TOCSIN_ALEXANDRIA_INSIDE_URL": estate.site.url,
        "TOCSIN_ALEXANDRIA_SOCKETS": str(estate.orchestrator.socket),
        **login_variables(estate.ingress.url, estate.api.admin),
        "TOCSIN_ALEXANDRIA_ENTITLEMENTS": "audit_export",
        "TOCSIN_ALEXANDRIA_LICENSE_ENCODING": "jwt",
        "ALEXANDRIA_PROD_TRUSTED_KID": KID,
        "ALEXANDRIA_PROD_TRUSTED_KEY_PEM": estate.license_file.public_key(),
        "TOCSIN_ALEXANDRIA_DATABASE_DSN": estate.database.dsn(DATABASE),
        "TOCSIN_ALEXANDRIA_AUDIT_TABLE": TABLE,
        "TOCSIN_ALEXANDRIA_AUDIT_ORDER": "seq",
        "TOCSIN_ALEXANDRIA_AUDIT_PARTITION": "tenant_id",
        "TOCSIN_ALEXANDRIA_AUDIT_ENCODING": "hex",
        "TOCSIN_ALEXANDRIA_AUDIT_MAX_AGE": "1h",
        "TOCSIN_ALEXANDRIA_RESTORE_TABLES": "users:created_at",
        "TOCSIN_ALEXANDRIA_VAULT_ENABLED": "true",
        "VAULT_ADDR": estate.vault.url,
        "TOCSIN_ALEXANDRIA_BACKUP_FILE": str(estate.backup),
        "TOCSIN_ALEXANDRIA_SQLITE_ENABLED": "true",
        "TOCSIN_ALEXANDRIA_SQLITE_FILE": str(estate.sqlite.path),
    }


def _probes(estate: AlexandriaEstate, folder: Path) -> dict[str, dict[str, Any]]:
    pace = {"every": f"{EVERY:g}s", "timeout": "2s", "retry_every": "500ms", "successes_to_recover": 1}
    probes: dict[str, dict[str, Any]] = {
        name: dict(pace)
        for file in ("alexandria-platform", "alexandria", "alexandria-pod")
        for name in yaml.safe_load((ROOT / f"profiles/{file}.yaml").read_text())["probes"]
    }
    for name in ("alexandria-pods", "alexandria-rollout", "alexandria-release"):
        probes[name] |= {"window": WINDOW, "starting": "1s", "release_patience": "1s"}
    for name in ("alexandria-logs", "alexandria-license-log", "alexandria-audit-logs"):
        probes[name] |= {"window": WINDOW}
    for name, causes in OVERLAID.items():
        probes[name] |= {"depends_on": causes}
    probes[CHAIN] |= {
        # A full walk at each run, also at one that the platform's own verification asks for. It starts a process.
        "every": "6s",
        "timeout": "5s",
        "full_walk": {"every": "1ms"},
        "mode": "hmac",
        "payload": {"fields": list(SIGNED), "separator": SEPARATOR},
        "keys": [{"id": "k1", "secret": estate.audit_log.key}],
        "mark": {"file": str(folder / f"{CHAIN}.mark"), "key_file": str(folder / "key")},
        "evidence": {"folder": str(folder / "evidence")},
        "settle": "100ms",
    }
    return probes


def _grant(estate: AlexandriaEstate, config: Path, kubeconfig: Path) -> None:
    """Give the daemon a token with the rights that its configuration needs, and no more."""
    kubeconfig.write_text(estate.kubernetes.kubeconfig(namespace=NAMESPACE).read_text())
    documents = yaml.safe_load_all(_tocsin("rbac", "--config", str(config)))
    rules = next(each for each in documents if each["kind"] == "Role")["rules"]
    token = estate.kubernetes.service_account_token(NAMESPACE, "tocsin", rules)
    kubeconfig.write_text(estate.kubernetes.kubeconfig(token, namespace=NAMESPACE).read_text())


def _tocsin(*arguments: str) -> str:
    command = [sys.executable, "-m", "tocsin.cli", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


Act = Callable[[AlexandriaEstate], object]


def _on_cluster(act: ClusterAct) -> Act:
    return lambda e: act(e.cluster)


def _licence(**values: int) -> Act:
    def act(e: AlexandriaEstate) -> None:
        for name, value in values.items():
            setattr(e.api.license, name, value)

    return act


def _api(**values: bool | str) -> Act:
    def act(e: AlexandriaEstate) -> None:
        for name, value in values.items():
            setattr(e.api, name, value)

    return act


def _mood(mood: Mood) -> tuple[Act, Act]:
    def act(mood: Mood) -> Act:
        return lambda e: setattr(e.site, "mood", mood)

    return act(mood), act(Mood.NORMAL)


def _remove_socket(e: AlexandriaEstate) -> None:
    e.orchestrator.kill()
    e.orchestrator.socket.unlink()


def _occupy_socket(e: AlexandriaEstate) -> None:
    _remove_socket(e)
    e.orchestrator.socket.touch()


def _replace_licence(spoil: Act) -> Act:
    """A spoilt licence in its Secret, and an api container that has read it at its start."""

    def act(e: AlexandriaEstate) -> None:
        spoil(e)
        e.cluster.restart_api()  # its start has whole seconds, and is later than the change by then
        e.cluster.install(e.license_file.path.read_text())

    return act


def _reload_licence(e: AlexandriaEstate) -> None:
    """The licence is put back, and the api container is started after that."""
    e.install(e.api.license)
    e.cluster.restart_api()


def _tamper(rows: str, statement: str, table: str = TABLE, key: str = "seq") -> tuple[Act, Act]:
    """Do something to rows of a table, the audit log say, and put them back as they were."""
    kept = f"{table}_kept"
    return (
        lambda e: e.sql(f"CREATE TABLE {kept} AS SELECT * FROM {table} WHERE {rows}; {statement}"),
        lambda e: e.sql(
            f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {kept}); INSERT INTO {table} SELECT * FROM {kept}; "
            f"DROP TABLE {kept}"
        ),
    )


_EARLY = f"seq IN (SELECT seq FROM {TABLE} WHERE tenant_id = 'practice' ORDER BY seq LIMIT 3 OFFSET 5)"
_LAST = f"seq IN (SELECT seq FROM {TABLE} WHERE tenant_id = 'practice' ORDER BY seq DESC LIMIT 3)"
_KEPT = f"seq IN (SELECT seq FROM {TABLE}_kept)"
_NEWER = "created_at > now() - interval '50 hours'"

ACTIONS: dict[str, tuple[Act, Act]] = {
    # Pods, rollout and release, what the logs say: through the API server
    **{name: (_on_cluster(act), _on_cluster(undo)) for name, (act, undo) in ACTS.items()},
    # The orchestrator's socket
    "kill-orchestrator": (lambda e: e.orchestrator.kill(), lambda e: e.orchestrator.start()),
    "remove-socket": (_remove_socket, lambda e: e.orchestrator.start()),
    "occupy-socket": (_occupy_socket, lambda e: e.orchestrator.start()),
    "freeze-orchestrator": (lambda e: e.orchestrator.pause(), lambda e: e.orchestrator.resume()),
    "unserve-orchestrator": (lambda e: e.orchestrator.serve(False), lambda e: e.orchestrator.serve(True)),
    # The API and the ways to it
    "stop-api": (lambda e: e.stop_api(), lambda e: e.start_api()),
    "break-api": _mood(Mood.ERROR),
    "silence-api": _mood(Mood.SILENT),
    "serve-dashboard": (lambda e: e.serve_dashboard(), lambda e: e.serve_api()),
    "stop-service": (lambda e: e.service.stop(), lambda e: e.service.start()),
    "stop-ingress": (lambda e: e.ingress.stop(), lambda e: e.ingress.start()),
    "serve-page-for-licence": (lambda e: e.serve_page_at("/license"), lambda e: e.serve_all()),
    "open-setup": (_api(needs_setup=True), _api(needs_setup=False)),
    "stop-a-part": (_api(part_down="api"), _api(part_down="")),
    "break-providers": (_api(providers_broken=True), _api(providers_broken=False)),
    "disable-backend": (_api(backend_enabled=False), _api(backend_enabled=True)),
    # Secrets, the licence, the database
    "renew-licence": (lambda e: e.install(License(days=202)), _reload_licence),
    "damage-licence": (_replace_licence(lambda e: e.license_file.damage()), _reload_licence),
    "sign-licence-elsewhere": (
        _replace_licence(lambda e: e.license_file.install(e.api.license, kid="another-issuer")),
        _reload_licence,
    ),
    "seal-vault": (lambda e: e.vault.seal(), lambda e: e.vault.unseal()),
    "drop-licence-secret": (lambda e: e.cluster.drop_secret(LICENSE_SECRET), _reload_licence),
    "damage-sqlite": (lambda e: e.sqlite.damage(), lambda e: e.sqlite.mend()),
    "stop-alexandria-database": (lambda e: e.database.stop(), lambda e: e.database.start()),
    # Quotas
    "take-all-seats": (_licence(current_seats=100), _licence(current_seats=42)),
    "take-most-seats": (_licence(current_seats=95), _licence(current_seats=42)),
    "take-all-tenants": (_licence(current_tenants=10), _licence(current_tenants=3)),
    "take-most-tenants": (_licence(current_tenants=9), _licence(current_tenants=3)),
    # The audit chain
    "edit-audit-row": _tamper(_EARLY, f"UPDATE {TABLE} SET principal = 'nobody' WHERE {_KEPT}"),
    "delete-audit-rows": _tamper(_EARLY, f"DELETE FROM {TABLE} WHERE {_KEPT}"),
    "cut-audit-log": _tamper(_LAST, f"DELETE FROM {TABLE} WHERE {_KEPT}"),
    "age-audit-rows": _tamper("true", f"UPDATE {TABLE} SET created_at = created_at - interval '2 hours'"),
    "restore-older-rows": _tamper(_NEWER, f"DELETE FROM users WHERE {_NEWER}", "users", "id"),
    "distrust-chain": (_api(chain_trusted=False), _api(chain_trusted=True)),
    "age-backup": (lambda e: os.utime(e.backup, (time.time() - 2 * 86400,) * 2), lambda e: os.utime(e.backup)),
}
"""What a drill's ``estate`` names: how it is caused, how it is undone."""
