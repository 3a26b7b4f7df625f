"""Each real server starts, answers, freezes, comes back on its port with its data, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from estate import install, process_tree
from estate.ports import LOOPBACK, accepts, is_free
from estate.process import Server, StartError
from estate.servers.alertmanager import Alertmanager
from estate.servers.anvil import Anvil
from estate.servers.blackbox import Blackbox
from estate.servers.keycloak import Keycloak
from estate.servers.kubernetes import CommandError, Kubernetes
from estate.servers.minio import MinIO
from estate.servers.nginx import Nginx
from estate.servers.postgresql import PostgreSQL, SqlError
from estate.servers.prometheus import Prometheus, ScrapeJob
from estate.servers.receiver import Receiver
from estate.servers.tsa import TimestampAuthority
from estate.servers.vault import Vault
from estate.web import request

pytestmark = pytest.mark.estate

ROUTE_TO_NOBODY = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"

MAKERS: dict[str, Callable[[], Server]] = {
    "alertmanager": lambda: Alertmanager(ROUTE_TO_NOBODY),
    "anvil": Anvil,
    "blackbox": Blackbox,
    "keycloak": Keycloak,
    "kubernetes": Kubernetes,
    "minio": MinIO,
    "nginx": Nginx,
    "postgresql": PostgreSQL,
    "prometheus": Prometheus,
    "tsa": TimestampAuthority,
    "vault": Vault,
}


def listening_addresses(server: Server) -> set[str]:
    """The addresses on which the server's processes accept TCP connections, out of /proc (proc(5))."""
    inodes = set()
    for seen in server.processes:
        for link in Path(f"/proc/{seen.pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                raw = bytes.fromhex(fields[1].split(":")[0])
                words = [raw[i : i + 4][::-1] for i in range(0, len(raw), 4)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


@pytest.mark.parametrize(
    "name",
    # Those two take their time to start, and tests of faults freeze, kill and restart them too.
    [pytest.param(name, marks=pytest.mark.long) if name in ("keycloak", "kubernetes") else name for name in MAKERS],
)
def test_a_server_freezes_restarts_on_its_port_and_leaves_nothing_behind(name: str) -> None:
    server = MAKERS[name]()
    port = server.port
    try:
        server.start()
        assert server.ready()
        assert listening_addresses(server) <= {LOOPBACK, "::1", "::ffff:127.0.0.1"}

        server.pause()
        assert {seen.state for seen in server.processes} == {"T"}
        server.resume()
        server.await_ready()

        first = server.pid
        server.restart()
        assert server.pid != first
        assert accepts(port)

        server.kill()
        assert not accepts(port)
        server.start()

        left = server.processes
        server.stop()
        assert not server.running
        assert not [seen for seen in left if process_tree.alive(seen)]
        assert is_free(port)
    finally:
        server.close()
    assert not server.folder.exists()


def test_a_frozen_postgresql_answers_nobody_not_even_on_an_open_connection(postgresql: PostgreSQL) -> None:
    postgresql.pause()
    with socket.create_connection((LOOPBACK, postgresql.port), timeout=1) as connection:
        # SSLRequest (PostgreSQL 15 documentation, 55.7): a living server answers with one byte.
        connection.sendall(bytes.fromhex("0000000804d2162f"))
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_what_one_test_froze_is_awake_for_the_next(postgresql: PostgreSQL) -> None:
    assert not postgresql.paused
    assert postgresql.execute("SELECT 1") == [("1",)]


def test_a_failed_start_shows_the_end_of_the_log_and_leaves_nothing_behind() -> None:
    server = Alertmanager("route: {}\n")
    with pytest.raises(StartError, match="root route must specify a default receiver"), server:
        pass
    assert not server.running
    assert not server.folder.exists()


def test_servers_die_with_the_run_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import os, signal\n"
        "from estate.servers.postgresql import PostgreSQL\n"
        "server = PostgreSQL().start()\n"
        "print(server.pid, server.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, str(script)], cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, folder = done.stdout.split()
    deadline = time.monotonic() + 10
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not process_tree.members(int(pid))
    assert not Path(folder).exists()


def test_postgresql_checks_passwords_and_runs_statements(postgresql: PostgreSQL, database: str) -> None:
    postgresql.create_role("reader-of-jobs", "it's secret")
    try:
        postgresql.execute("CREATE TABLE jobs (id int, state text); INSERT INTO jobs VALUES (1, 'queued')",
                           database=database)  # fmt: skip
        assert postgresql.execute("SELECT * FROM jobs", database=database) == [("1", "queued")]
        assert postgresql.execute(
            "SELECT current_user", database=database, user="reader-of-jobs", password="it's secret"
        ) == [("reader-of-jobs",)]
        with pytest.raises(SqlError, match="permission denied for table jobs"):
            postgresql.execute("SELECT * FROM jobs", database=database, user="reader-of-jobs", password="it's secret")
        with pytest.raises(SqlError, match="password authentication failed"):
            postgresql.execute("SELECT 1", user="reader-of-jobs", password="wrong")
    finally:
        postgresql.execute('DROP ROLE "reader-of-jobs"')


@pytest.mark.parametrize(
    ("allowed", "statuses"),
    [
        (("read",), (200, 403, 403, 403)),
        (("write",), (403, 200, 403, 403)),
        (("list",), (403, 403, 200, 403)),
        (("delete",), (403, 403, 403, 204)),
        (("read", "write", "list", "delete"), (200, 200, 200, 204)),
        ((), (403, 403, 403, 403)),
    ],
)
def test_minio_credentials_may_do_only_what_they_were_made_for(
    minio: MinIO, bucket: str, allowed: tuple[str, ...], statuses: tuple[int, ...]
) -> None:
    minio.put(bucket, "there", b"1")
    credentials = minio.credentials(bucket, *allowed)
    assert (
        minio.call("GET", f"/{bucket}/there", credentials=credentials).status,
        minio.call("PUT", f"/{bucket}/new", body=b"2", credentials=credentials).status,
        minio.call("GET", f"/{bucket}", query={"list-type": "2"}, credentials=credentials).status,
        minio.call("DELETE", f"/{bucket}/there", credentials=credentials).status,
    ) == statuses


def test_minio_keeps_versions_where_told(minio: MinIO, bucket: str) -> None:
    minio.set_versioning(bucket, "Enabled")
    minio.put(bucket, "a b/ü", b"1")
    minio.put(bucket, "a b/ü", b"2")
    assert minio.get(bucket, "a b/ü") == b"2"
    assert [key for key, _ in minio.versions(bucket)] == ["a b/ü", "a b/ü"]


def test_keycloak_issues_tokens_locks_users_and_rotates_keys(keycloak: Keycloak, realm: str) -> None:
    keycloak.create_client(realm, "app", secret="s")
    keycloak.create_user(realm, "alice", "pw")

    def login() -> int:
        return keycloak.token(realm, client_id="app", client_secret="s", username="alice", password="pw").status

    assert login() == 200
    assert keycloak.token(realm, client_id="app", client_secret="s").status == 200
    keycloak.lock_user(realm, "alice", client_id="app", client_secret="s")
    assert login() == 401
    keycloak.unlock_user(realm, "alice")
    assert login() == 200

    old = keycloak.signing_key(realm)
    new = keycloak.rotate_keys(realm)
    assert new != old
    assert {old, new} <= {key["kid"] for key in keycloak.jwks(realm)}
    keycloak.set_key_status(realm, old, "passive")
    assert {key.kid: key.status for key in keycloak.keys(realm)} == {new: "ACTIVE", old: "PASSIVE"}
    keycloak.set_key_status(realm, old, "disabled")
    assert old not in {key["kid"] for key in keycloak.jwks(realm)}


def test_keycloak_changes_a_realms_issuer_and_closes_it(keycloak: Keycloak, realm: str) -> None:
    def issuer() -> str:
        return str(request("GET", keycloak.discovery_url(realm)).expect(200).json()["issuer"])

    assert issuer() == keycloak.issuer(realm)
    keycloak.set_frontend_url(realm, "https://id.example.invalid")
    assert issuer() == f"https://id.example.invalid/realms/{realm}"
    keycloak.set_frontend_url(realm, None)
    assert issuer() == keycloak.issuer(realm)

    keycloak.create_client(realm, "app", secret="s")
    keycloak.set_enabled(realm, False)
    refused = keycloak.token(realm, client_id="app", client_secret="s")
    assert (refused.status, refused.json()["error_description"]) == (403, "Realm not enabled")
    # Discovery alone does not notice.
    assert request("GET", keycloak.discovery_url(realm)).status == 200


@pytest.mark.long
def test_keycloak_is_not_ready_without_its_postgresql(keycloak_on_postgresql: Keycloak, postgresql: PostgreSQL) -> None:
    assert keycloak_on_postgresql.ready()
    postgresql.kill()
    assert request("GET", f"{keycloak_on_postgresql.management_url}/health/ready", timeout=60).status == 503


def test_an_alert_goes_the_whole_way_to_a_receiver_and_is_resolved(
    receiver: Receiver,
    nginx_factory: Callable[..., Nginx],
    alertmanager_factory: Callable[..., Alertmanager],
    prometheus_factory: Callable[..., Prometheus],
    tmp_path: Path,
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(json.dumps({"groups": [{"name": "g", "rules": [{"alert": "DemoDown", "expr": "demo_up == 0"}]}]}))
    target = nginx_factory()
    target.write("metrics", "demo_up 0\n")
    alertmanager = alertmanager_factory(
        "route: {receiver: page, group_wait: 0s, group_interval: 1s}\n"
        f"receivers: [{{name: page, webhook_configs: [{{url: '{receiver.url}/page'}}]}}]\n"
    )
    prometheus = prometheus_factory(
        rules=[rules],
        jobs=[ScrapeJob("demo", (f"{LOOPBACK}:{target.port}",))],
        alertmanager_url=alertmanager.url,
    )
    fired = receiver.wait_for(lambda one: one.status == "firing", path="/page")
    assert fired.names() == {"DemoDown"}
    assert prometheus.firing() == {"DemoDown"}
    assert prometheus.value("demo_up") == 0
    assert [alert["labels"]["alertname"] for alert in alertmanager.alerts()] == ["DemoDown"]

    target.write("metrics", "demo_up 1\n")
    resolved = receiver.wait_for(lambda one: one.status == "resolved", path="/page")
    assert resolved.names("resolved") == {"DemoDown"}
    assert receiver.notifications("/ticket") == []


def test_blackbox_tells_a_good_page_from_a_bad_one(blackbox: Blackbox, nginx_factory: Callable[..., Nginx]) -> None:
    nginx = nginx_factory("location = /good { return 200; } location = /bad { return 503; }")
    assert "\nprobe_success 1\n" in blackbox.probe(f"{nginx.url}/good")
    assert "\nprobe_success 0\n" in blackbox.probe(f"{nginx.url}/bad")
    nginx.locations = "location = /bad { return 200; }"
    nginx.reload()
    assert "\nprobe_success 1\n" in blackbox.probe(f"{nginx.url}/bad")


def test_vault_signs_and_refuses_when_sealed(vault: Vault) -> None:
    vault.create_key("mac")
    vault.create_key("signer", "ecdsa-p256")
    assert vault.decrypt("mac", vault.encrypt("mac", b"m")) == b"m"
    assert vault.verify("mac", b"m", hmac=vault.hmac("mac", b"m"))
    signature = vault.sign("signer", b"m")
    assert vault.verify("signer", b"m", signature=signature)
    assert not vault.verify("signer", b"other", signature=signature)
    only_sign = vault.create_token('path "transit/sign/signer" { capabilities = ["update"] }')
    assert vault.call("POST", "transit/sign/signer", {"input": "bQ=="}, token=only_sign).status == 200
    assert vault.call("POST", "transit/encrypt/mac", {"plaintext": "bQ=="}, token=only_sign).status == 403
    vault.seal()
    assert vault.call("POST", "transit/sign/signer", {"input": "bQ=="}).status == 503
    vault.unseal()
    vault.await_ready()
    assert vault.verify("signer", b"m", signature=signature)


def test_the_timestamp_authority_stamps_a_query(tsa: TimestampAuthority, tmp_path: Path) -> None:
    query = tmp_path / "query"
    subprocess.run(["openssl", "ts", "-query", "-digest", "00" * 32, "-sha256", "-cert", "-out", str(query)],
                   check=True, capture_output=True)  # fmt: skip
    reply = tmp_path / "reply"
    reply.write_bytes(tsa.timestamp(query.read_bytes()))
    shown = subprocess.run(["openssl", "ts", "-reply", "-in", str(reply), "-text"],
                           check=True, capture_output=True, text=True).stdout  # fmt: skip
    assert "Status: Granted." in shown
    assert tsa.certificate_chain().startswith(b"-----BEGIN CERTIFICATE-----")


def test_anvil_mines_when_told(anvil: Anvil) -> None:
    first, second, *_ = anvil.accounts()
    anvil.set_mining()
    before = anvil.block_number()
    transaction = anvil.send(first, second, wei=5)
    assert anvil.block_number() == before
    assert anvil.rpc("eth_getTransactionReceipt", transaction) is None
    anvil.mine(3)
    assert anvil.block_number() == before + 3
    anvil.set_mining(automatic=True)
    anvil.set_balance(second, 7)
    assert anvil.balance(second) == 7


def test_kubernetes_authorises_service_accounts_and_keeps_written_status(
    kubernetes: Kubernetes, namespace: str
) -> None:
    reads_pods = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    token = kubernetes.service_account_token(namespace, "prober", reads_pods)
    kubernetes.create_pod(namespace, "api", labels={"app": "api"})
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    container = {"name": "main", "image": "none", "imageID": "", "ready": False, "restartCount": 3, "state": waiting}
    kubernetes.set_pod_status(namespace, "api", {"phase": "Running", "containerStatuses": [container]})
    assert "CrashLoopBackOff" in kubernetes.kubectl("get", "pods", "-n", namespace, token=token)
    with pytest.raises(CommandError, match="secrets is forbidden"):
        kubernetes.kubectl("get", "secrets", "-n", namespace, token=token)


def test_kubernetes_takes_prometheus_operator_objects_and_charts(kubernetes: Kubernetes, namespace: str) -> None:
    kubernetes.install_crds()
    kubernetes.apply(
        json.dumps(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PrometheusRule",
                "metadata": {"name": "demo", "namespace": namespace},
                "spec": {"groups": [{"name": "g", "rules": [{"alert": "Demo", "expr": "vector(1)"}]}]},
            }
        )
    )
    assert "demo" in kubernetes.kubectl("get", "prometheusrules", "-n", namespace)
    assert kubernetes.helm("list", "-n", namespace, "-q").strip() == ""


def test_a_missing_tool_fails_with_its_name_and_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.main(["minio"]) == 1
    assert "minio: needs `go`, which is not on this machine: install Go" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "cache" / "tocsin" / "estate").iterdir() if path.name.startswith("minio")]


def test_an_unknown_server_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main(["minio", "mino"]) == 1
    assert "no server or group is called 'mino'. Known: core, wipe, alexandria, all," in capsys.readouterr().err


def test_a_second_install_is_quick(estate: object) -> None:
    began = time.monotonic()
    for entry in install.resolve(["core"]):
        install.ensure(entry.name)
    assert time.monotonic() - began < 1
