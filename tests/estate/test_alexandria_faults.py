"""The bundled Alexandria profiles on real parts: each fault gives its reason within two intervals, and nothing else fails
that is not explained by it.

One daemon runs the profile of the cluster and that of the pod. Its rights are those that ``tocsin rbac`` prints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alexandria_estate import POD, AlexandriaEstate
from tests.daemon import Daemon
from tests.kubernetes_pods import INSTANCE, create_alexandria, ended, running, stamp, waiting, warn
from tocsin_sandbox.alexandria_audit import DATABASE, SEPARATOR, SIGNED, TABLE
from tocsin_sandbox.alexandria_license import KID, License, LicenseFile
from tocsin_sandbox.serving import Mood

pytestmark = [pytest.mark.estate, pytest.mark.timeout(1200)]

EVERY = 4.0
WITHIN = 2 * EVERY
"""Two intervals."""
WINDOW = "6s"
"""How long a line of a log, an event, a restart counts: short, so that a fault can be seen to be over."""
CHAIN = "alexandria-audit-chain"
DEPLOYMENTS = "/apis/apps/v1/namespaces/alexandria/deployments"
RELEASE = "sh.helm.release.v1.alexandria-ee.v1"


@dataclass
class Platform:
    """Alexandria's parts and the daemon that watches them."""

    parts: AlexandriaEstate
    daemon: Daemon
    license_file: LicenseFile
    backup: Path

    def states(self) -> dict[str, tuple[str, str | None, str | None]]:
        """By probe the confirmed status and reason, and the probe that explains it."""
        return {
            name: (found["state"]["status"], found["state"]["reason"], found["state"]["caused_by"])
            for name, found in self.daemon.probes().items()
        }

    def bad(self) -> dict[str, Any]:
        return {
            name: (found["state"]["status"], found["reason"], found["detail"])
            for name, found in self.daemon.probes().items()
            if found["state"]["status"] != "ok"
        }

    def all_ok(self, seconds: float = 60) -> None:
        try:
            self.daemon.until(lambda: not self.bad(), "to find everything well", seconds)
        except AssertionError as error:
            raise AssertionError(f"{self.bad()}\n{error}") from None

    def install(self, license: License) -> None:
        """Put a licence into its Secret."""
        self.license_file.install(license)
        self.parts.secret("alexandria-ee-license", {"license.key": self.license_file.path.read_text()})


def overlay(parts: AlexandriaEstate, env_file: Path, folder: Path) -> dict[str, Any]:
    """The profiles at a quick pace, with short windows, and with the chain's form, which the platform does not publish."""
    pace = {"every": f"{EVERY:g}s", "timeout": "2s", "retry_every": "500ms", "successes_to_recover": 1}
    profiles = Path(__file__).parents[2] / "profiles"
    names = [
        name
        for file in ("alexandria", "alexandria-pod")
        for name in yaml.safe_load((profiles / f"{file}.yaml").read_text())["probes"]
    ]
    own: dict[str, dict[str, Any]] = {name: dict(pace) for name in names}
    for name in ("alexandria-pods", "alexandria-rollout", "alexandria-release"):
        own[name] |= {"window": WINDOW, "starting": "1s", "release_patience": "1s"}
    for name in ("alexandria-logs", "alexandria-license-log", "alexandria-audit-logs"):
        own[name] |= {"window": WINDOW}
    # One daemon has both views; what is seen from outside waits for what is seen inside.
    own["alexandria-ready-pod"]["depends_on"] = [
        "alexandria-ready-inside",
        "alexandria-orchestrator-socket",
        "alexandria-pods",
    ]
    own[CHAIN] |= {
        "mode": "hmac",
        "payload": {"fields": list(SIGNED), "separator": SEPARATOR},
        "keys": [{"id": "k1", "secret": parts.audit_log.key}],
        "mark": {"file": str(folder / f"{CHAIN}.mark"), "key_file": str(folder / "key")},
        "evidence": {"folder": str(folder / "evidence")},
        "full_walk": {"every": "1s"},
        "settle": "100ms",
    }
    return {
        "version": 1,
        "profiles": ["alexandria", "alexandria-pod"],
        "env_file": str(env_file),
        "caps": {"default": {"requests_per_minute": 6000}},
        "probes": own,
    }


def tocsin(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tocsin.cli", *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def furnish(parts: AlexandriaEstate) -> None:
    """What the opt-in probes look at: a Deployment and a Helm release."""
    template = {"metadata": {"labels": INSTANCE}, "spec": {"containers": [{"name": "api", "image": "none"}]}}
    spec = {"selector": {"matchLabels": INSTANCE}, "template": template}
    parts.kubernetes.call("POST", DEPLOYMENTS, {"metadata": {"name": "alexandria-ee"}, "spec": spec}).expect(201)
    labels = {
        "owner": "helm",
        "name": "alexandria-ee",
        "status": "deployed",
        "version": "1",
        "modifiedAt": "1700000000",
    }
    body = {"metadata": {"name": RELEASE, "labels": labels}, "type": "helm.sh/release.v1"}
    parts.kubernetes.call("POST", "/api/v1/namespaces/alexandria/secrets", body).expect(201)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("alexandria")
    with AlexandriaEstate() as parts:
        furnish(parts)
        license_file = LicenseFile(folder / "license.key")
        backup = folder / "backup.dump"
        backup.touch()
        env_file = folder / "alexandria.env"
        config = folder / "tocsin.yaml"
        kubeconfig = folder / "kubeconfig"
        config.write_text(yaml.safe_dump(overlay(parts, env_file, folder)))
        environment = {
            "TOCSIN_ALEXANDRIA_KUBECONFIG": str(kubeconfig),
            "TOCSIN_ALEXANDRIA_ROLLOUT_ENABLED": "true",
            "TOCSIN_ALEXANDRIA_RELEASE_ENABLED": "true",
            "TOCSIN_ALEXANDRIA_URL": parts.ingress.url,
            "TOCSIN_ALEXANDRIA_SERVICE_URL": parts.service.url,
            "TOCSIN_ALEXANDRIA_POD_URL": parts.site.url,
            "TOCSIN_ALEXANDRIA_INSIDE_URL": parts.site.url,
            "TOCSIN_ALEXANDRIA_SOCKETS": str(parts.orchestrator.socket),
            "TOCSIN_ALEXANDRIA_ADMIN_TOKEN": parts.api.admin_token,
            "TOCSIN_ALEXANDRIA_ENTITLEMENTS": "audit_export",
            "TOCSIN_ALEXANDRIA_LICENSE_ENCODING": "jwt",
            "ALEXANDRIA_PROD_TRUSTED_KID": KID,
            "ALEXANDRIA_PROD_TRUSTED_KEY_PEM": license_file.public_key(),
            "TOCSIN_ALEXANDRIA_DATABASE_DSN": parts.database.dsn(DATABASE),
            "TOCSIN_ALEXANDRIA_AUDIT_TABLE": TABLE,
            "TOCSIN_ALEXANDRIA_AUDIT_ORDER": "seq",
            "TOCSIN_ALEXANDRIA_AUDIT_PARTITION": "tenant_id",
            "TOCSIN_ALEXANDRIA_AUDIT_ENCODING": "hex",
            "TOCSIN_ALEXANDRIA_AUDIT_MAX_AGE": "1h",
            "TOCSIN_ALEXANDRIA_BACKUP_FILE": str(backup),
        }
        env_file.write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))
        kubeconfig.write_text(parts.kubernetes.kubeconfig(namespace=parts.namespace).read_text())
        rules = next(
            each for each in yaml.safe_load_all(tocsin("rbac", "--config", str(config))) if each["kind"] == "Role"
        )["rules"]
        token = parts.kubernetes.service_account_token(parts.namespace, "tocsin", rules)
        kubeconfig.write_text(parts.kubernetes.kubeconfig(token, namespace=parts.namespace).read_text())
        daemon = Daemon(folder, ["--config", str(config)])
        found = Platform(parts, daemon, license_file, backup)
        found.install(parts.api.license)
        tocsin("chain", "bootstrap", CHAIN, "--config", str(config))
        with daemon:
            found.all_ok()
            yield found


Act = Callable[[Platform], object]


@dataclass(frozen=True)
class Fault:
    """``also``: probes that see the same fault by themselves, with their reasons. ``effects``: those that fail because of
    it, and say so."""

    cause: Act
    undo: Act
    probe: str
    reason: str
    also: tuple[tuple[str, str], ...] = ()
    effects: tuple[tuple[str, str], ...] = ()


def pod(**containers: Any) -> Act:
    return lambda p: p.parts.pod(**containers)


WELL = pod()


def whole(written: dict[str, Any]) -> Act:
    return lambda p: p.parts.kubernetes.set_pod_status(p.parts.namespace, POD, written)


def drop_pod(p: Platform) -> None:
    path = f"/api/v1/namespaces/{p.parts.namespace}/pods/{POD}"
    p.parts.kubernetes.call("DELETE", path, {"gracePeriodSeconds": 0}).expect(200)


def make_pod(p: Platform) -> None:
    create_alexandria(p.parts.kubernetes, p.parts.namespace, POD, nodeName=p.parts.kubelet.name)


def log(line: str) -> Act:
    return lambda p: p.parts.log(line)


def nothing(p: Platform) -> None:
    """It is over by itself, when its window is."""


def licence(**values: int) -> Act:
    def act(p: Platform) -> None:
        for name, value in values.items():
            setattr(p.parts.api.license, name, value)

    return act


def api(**values: bool) -> Act:
    def act(p: Platform) -> None:
        for name, value in values.items():
            setattr(p.parts.api, name, value)

    return act


def mood(mood: Mood) -> Act:
    def act(p: Platform) -> None:
        p.parts.site.mood = mood

    return act


def release(state: str) -> Act:
    path = f"/api/v1/namespaces/alexandria/secrets/{RELEASE}"
    return lambda p: p.parts.kubernetes.call("PATCH", path, {"metadata": {"labels": {"status": state}}}).expect()


def rollout(reason: str) -> Act:
    condition = {"type": "Progressing", "status": "False" if "Exceeded" in reason else "True", "reason": reason}
    body = {"status": {"conditions": [condition | {"message": "has timed out progressing."}]}}
    return lambda p: p.parts.kubernetes.call("PATCH", f"{DEPLOYMENTS}/alexandria-ee/status", body).expect()


def occupy_socket(p: Platform) -> None:
    p.parts.orchestrator.kill()
    p.parts.orchestrator.socket.unlink()
    p.parts.orchestrator.socket.touch()


def remove_socket(p: Platform) -> None:
    p.parts.orchestrator.kill()
    p.parts.orchestrator.socket.unlink()


def renewed_and_restarted(p: Platform) -> None:
    """The licence is put back, and the api container is started after that."""
    p.install(p.parts.api.license)
    time.sleep(EVERY + 1)  # the probe has seen the new value when the container starts
    p.parts.pod(api=running("api", seconds=-1))


def keep_rows(rows: str, tampering: str) -> Act:
    return lambda p: p.parts.sql(f"CREATE TABLE kept AS SELECT * FROM {TABLE} WHERE {rows}; {tampering}")


def put_rows_back(p: Platform) -> None:
    p.parts.sql(
        f"DELETE FROM {TABLE} WHERE seq IN (SELECT seq FROM kept); INSERT INTO {TABLE} SELECT * FROM kept; DROP TABLE kept"
    )


EARLY = f"seq IN (SELECT seq FROM {TABLE} WHERE tenant_id = 'practice' ORDER BY seq LIMIT 3 OFFSET 5)"
LAST = f"seq IN (SELECT seq FROM {TABLE} WHERE tenant_id = 'practice' ORDER BY seq DESC LIMIT 3)"
KEPT = "seq IN (SELECT seq FROM kept)"
VERIFY_TOO = (("alexandria-audit-verify", "chain_broken"),)

FAULTS: dict[str, Fault] = {
    # Pods, through the API server's watches
    "pods-gone": Fault(drop_pod, make_pod, "alexandria-pods", "no_pods"),
    "orchestrator-crash-loop": Fault(
        pod(orchestrator=waiting("orchestrator", "CrashLoopBackOff", restartCount=7)), WELL, "alexandria-pods", "crash_loop"
    ),
    "orchestrator-out-of-memory": Fault(
        lambda p: p.parts.pod(orchestrator=running("orchestrator", restartCount=0, lastState=ended("OOMKilled", 137, 0))),
        WELL, "alexandria-pods", "oom_killed",
    ),
    "pod-evicted": Fault(
        lambda p: p.parts.kubernetes.set_pod_status(
            p.parts.namespace, POD,
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory.",
             "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": stamp()}]},
        ),
        lambda p: (drop_pod(p), make_pod(p)), "alexandria-pods", "evicted",
    ),
    "pod-pending": Fault(
        whole({
            "phase": "Pending", "containerStatuses": [],
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}],
        }),
        WELL, "alexandria-pods", "pending",
    ),
    "image-pull": Fault(pod(api=waiting("api", "ImagePullBackOff")), WELL, "alexandria-pods", "image_pull"),
    "secret-not-mountable": Fault(
        pod(api=waiting("api", "CreateContainerConfigError", 'secret "x" not found')), WELL, "alexandria-pods", "cannot_start"
    ),
    "api-not-ready": Fault(pod(api=running("api", ready=False)), WELL, "alexandria-pods", "not_ready"),
    "mount-fails": Fault(
        lambda p: warn(p.parts.kubernetes, p.parts.namespace, "FailedMount", "MountVolume.SetUp failed", about=POD),
        nothing, "alexandria-pods", "warning_event",
    ),
    "rollout-stuck": Fault(
        rollout("ProgressDeadlineExceeded"), rollout("NewReplicaSetAvailable"), "alexandria-rollout", "rollout_stuck"
    ),
    "release-failed": Fault(release("failed"), release("deployed"), "alexandria-release", "release_failed"),
    "release-pending": Fault(release("pending-upgrade"), release("deployed"), "alexandria-release", "release_pending"),
    # The orchestrator's socket
    "orchestrator-killed": Fault(
        lambda p: p.parts.orchestrator.kill(), lambda p: p.parts.orchestrator.start(),
        "alexandria-orchestrator-socket", "nobody_listening",
        effects=(("alexandria-ready-inside", "orchestrator_down"), ("alexandria-ready-pod", "orchestrator_down")),
    ),
    "socket-gone": Fault(
        remove_socket, lambda p: p.parts.orchestrator.start(), "alexandria-orchestrator-socket", "socket_missing"
    ),
    "socket-is-a-file": Fault(
        occupy_socket, lambda p: p.parts.orchestrator.start(), "alexandria-orchestrator-socket", "not_a_socket"
    ),
    "orchestrator-hangs": Fault(
        lambda p: p.parts.orchestrator.pause(), lambda p: p.parts.orchestrator.resume(),
        "alexandria-orchestrator-socket", "deadline",
    ),
    "orchestrator-not-serving": Fault(
        lambda p: p.parts.orchestrator.serve(False), lambda p: p.parts.orchestrator.serve(True),
        "alexandria-orchestrator-socket", "not_serving",
    ),
    # The API and the ways to it
    "api-stopped": Fault(
        lambda p: p.parts.stop_api(), lambda p: p.parts.start_api(), "alexandria-ready-inside", "connection_refused"
    ),
    "api-errors": Fault(mood(Mood.ERROR), mood(Mood.NORMAL), "alexandria-ready-inside", "server_error"),
    "api-silent": Fault(mood(Mood.SILENT), mood(Mood.NORMAL), "alexandria-ready-inside", "timeout"),
    "dashboard-on-the-service-port": Fault(
        lambda p: p.parts.serve_dashboard(), lambda p: p.parts.serve_api(), "alexandria-ready-service", "html_instead_of_json"
    ),
    "service-down": Fault(
        lambda p: p.parts.service.stop(), lambda p: p.parts.service.start(), "alexandria-ready-service", "connection_refused"
    ),
    "ingress-down": Fault(
        lambda p: p.parts.ingress.stop(), lambda p: p.parts.ingress.start(), "alexandria-ready", "connection_refused"
    ),
    "page-instead-of-licence": Fault(
        lambda p: p.parts.serve_page_at("/license"), lambda p: p.parts.serve_all(),
        "alexandria-license-json", "html_instead_of_json", effects=(("alexandria-license", "html_instead_of_json"),),
    ),
    "setup-open": Fault(api(needs_setup=True), api(needs_setup=False), "alexandria-setup-closed", "assertion_failed"),
    "no-default-backend": Fault(
        api(backend_enabled=False), api(backend_enabled=True), "alexandria-default-backend", "assertion_failed"
    ),
    # Secrets, the licence, the database
    "licence-not-loaded": Fault(
        lambda p: p.install(License(days=202)), renewed_and_restarted, "alexandria-license-secret", "changed_not_loaded",
        (("alexandria-license-blob", "differs_from_running"),),
    ),
    "licence-secret-gone": Fault(
        lambda p: p.parts.drop_secret("alexandria-ee-license"), renewed_and_restarted,
        "alexandria-license-secret", "secret_missing",
    ),
    "dsn-secret-gone": Fault(
        lambda p: p.parts.drop_secret("alexandria-ee"),
        lambda p: p.parts.secret("alexandria-ee", {"database-dsn": "postgresql://alex@db/alexandria"}),
        "alexandria-database-secret", "secret_missing",
    ),
    "database-stopped": Fault(
        lambda p: p.parts.database.stop(), lambda p: p.parts.database.start(), "alexandria-db", "connection_refused"
    ),
    # What the logs say
    **{
        f"logged-{reason}": Fault(log(line), nothing, probe, reason)
        for probe, reason, line in (
            ("alexandria-logs", "orchestrator_socket_missing", "dial unix /run/alexandria/orchestrator.sock: no such file or directory"),
            ("alexandria-logs", "orchestrator_deadline", "rpc error: context deadline exceeded"),
            ("alexandria-logs", "license_blob_invalid", "fatal: license blob invalid"),
            ("alexandria-logs", "license_signature_failed", "license signature verification failed"),
            ("alexandria-license-log", "license_expiring", '{"event_type":"license.expiring"}'),
            ("alexandria-audit-logs", "audit_chain_broken", "audit chain broken at seq 17"),
            ("alexandria-audit-logs", "hmac_mismatch", "HMAC mismatch seq=17"),
            ("alexandria-audit-logs", "anchor_reset", "audit chain anchor reset"),
        )
    },
    # Quotas
    "seats-exhausted": Fault(licence(current_seats=100), licence(current_seats=42), "alexandria-license", "seats_exhausted"),
    "seats-low": Fault(licence(current_seats=95), licence(current_seats=42), "alexandria-license", "seats_low"),
    "tenants-exhausted": Fault(licence(current_tenants=10), licence(current_tenants=3), "alexandria-license", "tenants_exhausted"),
    "tenants-low": Fault(licence(current_tenants=9), licence(current_tenants=3), "alexandria-license", "tenants_low"),
    "licence-in-grace": Fault(
        licence(days=-3), licence(days=200), "alexandria-license-entitlements", "in_grace",
        (("alexandria-license", "expired"), ("alexandria-license-blob", "differs_from_running")),
    ),
    # The audit chain
    "audit-row-edited": Fault(
        keep_rows(EARLY, f"UPDATE {TABLE} SET principal = 'nobody' WHERE {KEPT}"), put_rows_back, CHAIN, "modified", effects=VERIFY_TOO
    ),
    "audit-rows-deleted": Fault(
        keep_rows(EARLY, f"DELETE FROM {TABLE} WHERE {KEPT}"), put_rows_back, CHAIN, "gap", effects=VERIFY_TOO
    ),
    "audit-log-cut": Fault(keep_rows(LAST, f"DELETE FROM {TABLE} WHERE {KEPT}"), put_rows_back, CHAIN, "tail_truncated"),
    "audit-writer-stopped": Fault(
        keep_rows("true", f"UPDATE {TABLE} SET created_at = created_at - interval '2 hours'"), put_rows_back,
        "alexandria-audit-writer", "late",
    ),
    "platform-says-broken": Fault(
        api(chain_trusted=False), api(chain_trusted=True), "alexandria-audit-verify", "chain_broken"
    ),
    "backup-too-old": Fault(
        lambda p: os.utime(p.backup, (time.time() - 2 * 86400,) * 2), lambda p: os.utime(p.backup), "alexandria-backup", "late"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_its_reason_within_two_intervals_and_nothing_else_fails_unexplained(
    platform: Platform, name: str
) -> None:
    fault = FAULTS[name]
    platform.all_ok()
    fault.cause(platform)
    caused_at = time.time()
    try:
        platform.daemon.until(
            lambda: platform.states()[fault.probe][:2] == ("failed", fault.reason), f"to see {name}: {fault.reason}", 30
        )
        took = time.time() - caused_at
        for probe, reason in fault.effects:
            platform.daemon.until(
                lambda probe=probe, reason=reason: (
                    platform.states()[probe][:2] == ("failed", reason) and platform.states()[probe][2]
                ),
                f"to see the effect on {probe}",
                30,
            )
        time.sleep(1)  # what else the same round found is confirmed by now
        expected = {fault.probe: fault.reason, **dict(fault.also)}
        unexplained = {
            probe: reason
            for probe, (found, reason, cause) in platform.states().items()
            if found == "failed" and cause is None and expected.get(probe) != reason
        }
        reasons = {reason for _, reason, _ in platform.states().values()}
    except AssertionError as error:
        raise AssertionError(f"{json.dumps(platform.bad(), indent=1)}\n{error}") from None
    finally:
        fault.undo(platform)
    assert unexplained == {}
    assert "probe_error" not in reasons
    assert took <= WITHIN, f"seen after {took:.1f} s"
    platform.all_ok()
