"""Wipe on real parts: Keycloak on its own PostgreSQL, Vault and a PDF signer, a timestamp authority, MinIO, PostgreSQL, two
EVM nodes, Prometheus. Its own API, Loki, a captcha, an explorer and a mail server are the sandbox's simulators."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import asyncpg

from estate.process import Server
from estate.servers.anvil import Anvil, RpcError
from estate.servers.keycloak import CHEAP_PASSWORDS, Keycloak
from estate.servers.minio import MinIO
from estate.servers.pades_signer import PadesSigner
from estate.servers.postgresql import PostgreSQL
from estate.servers.prometheus import Prometheus, ScrapeJob
from estate.servers.sigv4 import Credentials
from estate.servers.tsa import TimestampAuthority
from estate.web import UnexpectedAnswer
from tests.alexandria_estate import Loop, RealDatabase
from tests.wipe_signer import TransitSigner
from tests.wipe_simulators import Api, Exporter, Life, ObjectStore
from tocsin_probes.signer.ethereum import MAX_CHAIN_ID
from tocsin_sandbox.chain import REGISTRY, SENDER
from tocsin_sandbox.elsewhere import Elsewhere
from tocsin_sandbox.identity import AUDIENCE, CLIENT_ID, USERNAME
from tocsin_sandbox.mail import MailServer
from tocsin_sandbox.observability import Observability
from tocsin_sandbox.serving import Site, free_port
from tocsin_sandbox.wipe import BUCKETS, DATABASE, ORGANIZATION, TENANT, ReadOnlyRole, furnish

REALMS = ("master", "exawipe")
ADMIN_CLIENT = "tocsin-admin"

PROOF = b"\x30\x04\x04\x02\xff\xfe"
"""As published, DER; and no text in any encoding of it."""

_WHO_CONNECTS = {"log_connections": "on", "max_connections": "100"}

_ALLOWED = "0x6004356000541460005260206000f3"
"""Runtime code: whether the first argument is the address in storage slot 0. Yellow Paper, appendix H."""

_RECEIPTS = """
CREATE TABLE receipts (seq bigint PRIMARY KEY, quantity integer NOT NULL, previous text NOT NULL, mac text NOT NULL);
WITH RECURSIVE chained (seq, previous, mac) AS (
  SELECT 1, repeat('0', 64), encode(sha256('receipt 1'), 'hex')
  UNION ALL SELECT seq + 1, mac, encode(sha256(convert_to(mac || seq, 'UTF8')), 'hex') FROM chained WHERE seq < 200)
INSERT INTO receipts SELECT seq, 1, previous, mac FROM chained;
GRANT SELECT ON receipts TO tocsin;
ALTER ROLE tocsin CONNECTION LIMIT 60;
"""

_RULES = """
groups:
  - name: wipe
    rules:
      - {alert: WipeSignerFailures, expr: 'sum by (operation) (increase(wipe_signer_failures_total[6s])) > 0'}
      - {alert: WipeAnchorFailures, expr: 'increase(wipe_anchor_failures_total[6s]) > 0'}
      - {alert: WipeQueueJobFailures, expr: 'increase(wipe_job_failures_total[6s]) > 0'}
      - {alert: WipeQueueBacklogHigh, expr: 'wipe_queue_jobs > 500'}
      - {alert: WipeQueueDeadLetters, expr: 'increase(wipe_dead_letters_total[5m]) > 0'}
      - {alert: WipeQueueDLQNotEmpty, expr: 'wipe_dead_letters > 0'}
      - {alert: WipeHTTP5xxRate, expr: 'increase(wipe_http_errors_total[6s]) > 0'}
      - {alert: WipeAPITelemetryMissing, expr: 'up{job="wipe"} == 0'}
      - {alert: WipeProofsAwaitingLicense, expr: 'increase(wipe_proofs_awaiting_license_total[6s]) > 0'}
      - {alert: WipeProofProcessingStalled, expr: 'wipe_proofs_oldest_seconds > 1800'}
      - {alert: WipeProofsFailed, expr: 'increase(wipe_proofs_failed_total[5m]) > 0'}
      - {alert: WipeDBConnectionsSaturated, expr: 'wipe_db_connections_share > 0.9'}
"""


class ArchivingPostgreSQL(PostgreSQL):
    """Archives its WAL, in segments of 1 MB, which the estate switches every second."""

    def __init__(self) -> None:
        archiving = {"archive_mode": "on", "wal_level": "replica", "max_wal_size": "256MB"}
        super().__init__(settings={**_WHO_CONNECTS, **archiving})
        self.archive_full = self.folder / "archive-is-full"
        """While it exists, no segment can be archived."""
        self.settings["archive_command"] = f"test ! -e {self.archive_full}"

    def prepare(self) -> None:
        fresh = not self.data.exists()
        super().prepare()
        if fresh:
            command = [*self._as_owner, str(self._binaries / "pg_resetwal"), "--wal-segsize=1", str(self.data)]
            subprocess.run(command, cwd="/", check=True, capture_output=True)


class WipeEstate:
    """The platform's parts, well when the context is entered."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.held: list[Any] = []
        self.lost: dict[str, bytes] = {}
        """By key, files of the certificate that is downloaded."""
        self._repeating: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.folder = Path(stack.enter_context(TemporaryDirectory(prefix="tocsin-wipe-")))
            self._start_servers(stack)
            self.loop = stack.enter_context(Loop())
            self._furnish_keycloak()
            self._furnish_chain()
            self._furnish_platform(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    # What is started, and what is put into it

    def _start_servers(self, stack: ExitStack) -> None:
        self.database, self.keycloak_database = ArchivingPostgreSQL(), PostgreSQL(settings=_WHO_CONNECTS)
        self.minio = MinIO(environment={"MINIO_PROMETHEUS_AUTH_TYPE": "public"})
        self.anvil, self.signing_node = Anvil(block_seconds=1), Anvil(chain_id=MAX_CHAIN_ID)
        self.lagging_node, self.forked_node = Anvil(), Anvil()
        self.signer, self.tsa = TransitSigner(), TimestampAuthority()
        self.pdf_signer = PadesSigner(self.tsa.url)
        self.keycloak = Keycloak(
            database=self.keycloak_database,
            options=["--http-access-log-enabled=true", "--http-access-log-pattern=%s %r"],
        )

        def keycloak() -> None:
            stack.enter_context(self.keycloak_database)
            stack.enter_context(self.keycloak)

        others: list[Server] = [self.database, self.minio, self.anvil, self.signing_node, self.signer.vault, self.tsa]
        others += [self.lagging_node, self.forked_node]
        with ThreadPoolExecutor() as pool:
            first = pool.submit(keycloak)
            list(pool.map(stack.enter_context, [*others, self.pdf_signer]))
            first.result()
        self.tsa_trust = self.folder / "tsa.pem"
        self.trust_tsa()
        self.signer.furnish(self.folder)

    def _furnish_keycloak(self) -> None:
        keycloak = self.keycloak
        self.client_secret, self.password = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
        keycloak.update_realm("master", passwordPolicy=CHEAP_PASSWORDS)
        keycloak.create_realm("exawipe")
        for realm in REALMS:
            keycloak.create_client(realm, CLIENT_ID, secret=self.client_secret)
            keycloak.add_audience(realm, CLIENT_ID, AUDIENCE)
            keycloak.create_user(realm, USERNAME, self.password)
        keycloak.create_client("exawipe", ADMIN_CLIENT, secret=self.client_secret, direct_grants=False)
        self._let_view_users(ADMIN_CLIENT)
        self.keycloak_role = ReadOnlyRole()
        for statement in self.keycloak_role.statements(keycloak.database_name, ("public",)):
            self.keycloak_database.execute(statement, database=keycloak.database_name)

    def _let_view_users(self, client_id: str) -> None:
        """So that a locked test user can be told from a wrong password."""
        admin = self.keycloak.admin
        management = self.keycloak.client("exawipe", "realm-management")["id"]
        client = self.keycloak.client("exawipe", client_id)["id"]
        account = admin("GET", f"/exawipe/clients/{client}/service-account-user").json()["id"]
        role = admin("GET", f"/exawipe/clients/{management}/roles/view-users").json()
        admin("POST", f"/exawipe/users/{account}/role-mappings/clients/{management}", [role])

    def _furnish_chain(self) -> None:
        self.anvil.rpc("anvil_setCode", REGISTRY, _ALLOWED)
        self.authorize(SENDER)
        # The blocks until now, and none of what follows.
        self.lagging_node.rpc("anvil_loadState", self.anvil.rpc("anvil_dumpState"))
        self.second_provider = self.folder / "second-provider"
        self.second_provider.write_text(self.anvil.url)

    def _furnish_platform(self, stack: ExitStack) -> None:
        self.cluster = RealDatabase(self.database)
        self.storage = ObjectStore(self.minio)
        stack.callback(self.storage.close)
        self.role, self.observability, self.exporter = ReadOnlyRole(), Observability(), Exporter()
        cluster: Any = self.cluster
        storage: Any = self.storage
        self.loop.call(furnish(cluster, self.role))
        self.database.execute(_RECEIPTS, database=DATABASE)
        for bucket in BUCKETS.values():
            self.minio.create_bucket(bucket)
        for bucket in BUCKETS.values():
            self.bucket_key(bucket).mkdir()
            self.give_key(bucket, self.minio.session())
        issuers = {
            self.keycloak.issuer(realm): f"{self.keycloak.issuer(realm)}/protocol/openid-connect/certs"
            for realm in REALMS
        }
        self.wipe_api = Api(cluster, storage, issuers, self.observability)
        self.wipe_api.exporter = self.exporter
        self.life = Life(cluster, storage, self._anchor, self.observability)
        self.elsewhere = Elsewhere()
        self.api = self._site(stack, self.wipe_api.build, "api")
        self.loki = self._site(stack, self.observability.build, "loki")
        self.collector = self._site(stack, self.exporter.build, "collector")
        self.captcha = self._site(stack, self.elsewhere.build, "captcha")
        self.explorer = self._site(stack, self.elsewhere.build, "explorer")
        self.mail = MailServer(free_port(), self._access_log(stack, "mail"))
        self.loop.call(self.mail.start())
        stack.callback(lambda: self.loop.call(self.mail.stop()))
        rules = self.folder / "wipe-rules.yaml"
        rules.write_text(_RULES)
        target = self.collector.url.removeprefix("http://")
        self.prometheus = stack.enter_context(Prometheus(rules=[rules], jobs=[ScrapeJob("wipe", (target,))]))
        self.backup, self.seed_dev = self.folder / "backup", self.folder / "seed-dev"
        self.backup.touch()
        self.seed_dev.write_text("false")
        self.rate_limit = self.folder / "rate-limit"
        self.rate_limit.write_text("60")
        self.proof = self.folder / "proof.der"
        self.proof.write_bytes(PROOF)
        self.loop.call(self.life.pulse())
        self.unanchored = self._leave_one_unanchored()
        self.loop.call(self._live())
        stack.callback(lambda: self.loop.call(self._rest()))

    async def _live(self) -> None:
        self._living = [asyncio.create_task(work) for work in (self.life.run(), self._switch_wal())]

    async def _switch_wal(self) -> None:
        """A busy platform fills segments all the time; one that waits for its database does not."""
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self.cluster.execute("SELECT pg_switch_wal()")
            await asyncio.sleep(1)

    async def _rest(self) -> None:
        tasks = [*self._living, *self._repeating]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.release()

    def _site(self, stack: ExitStack, build: Callable[[], Any], name: str) -> Site:
        site = Site(free_port(), build, self._access_log(stack, name))
        self.loop.call(site.start())
        stack.callback(lambda: self.loop.call(site.stop()))
        return site

    def access_log(self, name: str) -> Path:
        """Where a simulator writes down what it was asked."""
        return self.folder / f"{name}.access.log"

    def _access_log(self, stack: ExitStack, name: str) -> logging.Logger:
        logger = logging.Logger(f"wipe.{name}")
        handler = logging.FileHandler(self.access_log(name))
        stack.callback(handler.close)
        logger.addHandler(handler)
        return logger

    def _leave_one_unanchored(self) -> str:
        """A test tenant's certificate that is not to be anchored; its id."""
        return self.query(
            "INSERT INTO certificates (tenant_id, organization_id, status, anchor_chain_id, created_at) "
            f"VALUES ('{TENANT}', '{ORGANIZATION}', 'CERTIFIED_NO_ANCHOR', 'none', now() - interval '5 minutes') RETURNING id"
        )[0][0]

    async def _anchor(self, digest: bytes) -> str | None:
        try:
            return await asyncio.to_thread(self.anvil.send, SENDER, REGISTRY, data=f"0x{digest.hex()}")
        except (RpcError, OSError, UnexpectedAnswer):
            return None

    # What can be done to it

    def sql(self, *statements: str) -> None:
        for statement in statements:
            self.database.execute(statement, database=DATABASE)

    def query(self, statement: str) -> list[tuple[str, ...]]:
        return self.database.execute(statement, database=DATABASE)

    def certify(self) -> str:
        """One more certificate, which is the newest now; its id."""
        return self.loop.call(self.life.certify())

    def trust_tsa(self) -> None:
        """The authority makes a new certificate at each start."""
        self.tsa_trust.write_bytes(self.tsa.certificate_chain())

    def authorize(self, sender: str) -> None:
        """Who may write anchors, as the registry has it."""
        self.anvil.rpc("anvil_setStorageAt", REGISTRY, "0x0", "0x" + sender[2:].rjust(64, "0"))

    def bucket_key(self, bucket: str) -> Path:
        """The folder of the credential that tocsin reads for a bucket, as a secret store would mount it."""
        return self.folder / f"key-of-{bucket}"

    def give_key(self, bucket: str, credentials: Credentials) -> None:
        """Rotates it."""
        parts = (credentials.access_key, credentials.secret_key, credentials.session_token or "")
        for name, text in zip(("id", "secret", "token"), parts, strict=True):
            (self.bucket_key(bucket) / name).write_text(text)

    def allow(self, bucket: str, *operations: str) -> None:
        """Rotates it to one that may do only this."""
        self.give_key(bucket, self.minio.credentials(bucket, *operations))

    def log(self, service: str, line: str, count: int, source: str = "") -> None:
        for _ in range(count):
            self.observability.log(service, line, source=source, planted=True)

    def repeat(self, act: Callable[[], object]) -> None:
        """Do it three times a second until `stop_repeating`."""

        async def repeat() -> None:
            while True:
                await asyncio.to_thread(act)
                await asyncio.sleep(0.3)

        async def begin() -> None:
            self._repeating.append(asyncio.create_task(repeat()))

        self.loop.call(begin())

    def stop_repeating(self) -> None:
        async def end() -> None:
            tasks, self._repeating = self._repeating, []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.loop.call(end())

    def hold_connections(self, count: int) -> None:
        """Keep so many connections of the database open."""

        async def hold() -> None:
            for _ in range(count):
                self.held.append(await asyncpg.connect(self.database.dsn(DATABASE)))

        self.loop.call(hold())

    async def release(self) -> None:
        """Close them again."""
        held, self.held = self.held, []
        for connection in held:
            connection.terminate()
