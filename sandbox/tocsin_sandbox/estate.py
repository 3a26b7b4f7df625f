"""The estate: every simulated server of the platform, started together, stopped together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tocsin_sandbox.alexandria_api import AlexandriaApi
from tocsin_sandbox.alexandria_audit import AuditLog
from tocsin_sandbox.alexandria_cluster import NAMESPACE, AlexandriaCluster
from tocsin_sandbox.alexandria_license import LicenseFile
from tocsin_sandbox.alexandria_service import Proxy
from tocsin_sandbox.alexandria_sqlite import SqliteFile
from tocsin_sandbox.chain import Chain
from tocsin_sandbox.cluster import ApiServer
from tocsin_sandbox.elsewhere import Elsewhere
from tocsin_sandbox.identity import IdentityProvider
from tocsin_sandbox.kubernetes_objects import POD
from tocsin_sandbox.mail import MailServer
from tocsin_sandbox.observability import Observability
from tocsin_sandbox.orchestrator import Orchestrator
from tocsin_sandbox.postgresql import Cluster, Installation
from tocsin_sandbox.serving import Site, free_port
from tocsin_sandbox.signing import Signer
from tocsin_sandbox.storage import Storage
from tocsin_sandbox.timestamping import TimestampAuthority
from tocsin_sandbox.wipe import BUCKETS, Life, ReadOnlyRole, furnish
from tocsin_sandbox.wipe_api import WipeApi

KEYCLOAK_DATABASE = "keycloak"
Progress = Callable[[str], None]


@dataclass(slots=True)
class Estate:
    """What faults act on. Made by `build`, then `start`; `stop` may be called at any point and again."""

    database: Cluster
    keycloak_database: Cluster
    storage: Storage
    identity: IdentityProvider
    keycloak: Site
    keycloak_management: Site
    wipe_api: WipeApi
    wipe: Site
    signer: Signer
    signing: Site
    chain: Chain
    provider: Site
    orchestrator: Orchestrator
    alexandria_database: Cluster
    audit_log: AuditLog
    license_file: LicenseFile
    alexandria_api: AlexandriaApi
    alexandria: Site
    alexandria_service: Site
    alexandria_ingress: Site
    ingress: Proxy
    kubernetes: Site
    kubeconfig: Path
    cluster: AlexandriaCluster
    sqlite: SqliteFile
    backup: Path
    observability: Observability
    telemetry: Site
    timestamps: TimestampAuthority
    stamping: Site
    elsewhere: Elsewhere
    others: Site
    mail: MailServer
    wipe_backup: Path
    trust_file: Path
    stamp_trust_file: Path
    life: Life
    role: ReadOnlyRole = field(default_factory=ReadOnlyRole)
    keycloak_role: ReadOnlyRole = field(default_factory=ReadOnlyRole)
    held: list[asyncpg.Connection[Any]] = field(default_factory=list)
    """Connections that a fault keeps open."""
    _lives: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def build(cls, folder: Path) -> Estate:
        """Everything under ``folder``, nothing started. Raises `PostgresqlMissingError`."""
        installation = await Installation.find(folder)
        database = Cluster(installation, folder / "wipe-database", free_port())
        keycloak_database = Cluster(installation, folder / "keycloak-database", free_port())
        storage = Storage(free_port(), BUCKETS.values(), [BUCKETS["S3_BUCKET_BILLING_DROP"]])
        keycloak_port = free_port()
        identity = await asyncio.to_thread(
            IdentityProvider.create, f"http://127.0.0.1:{keycloak_port}", lambda: _answers(keycloak_database)
        )
        jwks = {realm.issuer: f"{realm.issuer}/protocol/openid-connect/certs" for realm in identity.realms.values()}
        observability = Observability()
        wipe_api = WipeApi(database, storage, jwks, observability)
        signer = await asyncio.to_thread(Signer)
        timestamps = await asyncio.to_thread(TimestampAuthority.create)
        elsewhere = Elsewhere()
        wipe_backup, trust_file, stamp_trust_file = (folder / name for name in ("backup", "signer.pem", "tsa.pem"))
        wipe_backup.touch()
        trust_file.write_text(signer.root_certificate())
        stamp_trust_file.write_text(timestamps.root_certificate())
        chain = Chain()
        provider = Site(free_port(), chain.build)
        orchestrator = Orchestrator(folder / "orchestrator.sock")
        alexandria_database = Cluster(installation, folder / "alexandria-database", free_port())
        audit_log = AuditLog(alexandria_database)
        alexandria_folder = folder / "alexandria"
        alexandria_folder.mkdir()
        license_file = LicenseFile(alexandria_folder / "license.key")
        alexandria_api = AlexandriaApi(orchestrator.path, audit_log)
        license_file.install(alexandria_api.license)
        alexandria = Site(free_port(), alexandria_api.build)
        alexandria_service = Site(free_port(), Proxy(alexandria.url).build)
        ingress = Proxy(alexandria_service.url)
        api_server = ApiServer()
        kubernetes = Site(free_port(), api_server.build)
        kubeconfig = alexandria_folder / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(api_server.kubeconfig(kubernetes.url, NAMESPACE))
        cluster = AlexandriaCluster(
            call=lambda method, path, body: api_server.call(method, path, body)[0],
            write_log=lambda container, line: api_server.log(NAMESPACE, POD, container, line),
            rotate_log=lambda container: api_server.rotate(NAMESPACE, POD, container),
            node="node-1",
        )
        cluster.furnish(license_file.sign(alexandria_api.license))
        backup = alexandria_folder / "backup.dump"
        backup.touch()

        async def anchor(digest: bytes) -> str | None:
            return chain.anchor(digest) if provider.running else None

        return cls(
            database=database,
            keycloak_database=keycloak_database,
            storage=storage,
            identity=identity,
            keycloak=Site(keycloak_port, identity.build),
            keycloak_management=Site(free_port(), identity.build_management),
            wipe_api=wipe_api,
            wipe=Site(free_port(), wipe_api.build),
            signer=signer,
            signing=Site(free_port(), signer.build),
            chain=chain,
            provider=provider,
            orchestrator=orchestrator,
            alexandria_database=alexandria_database,
            audit_log=audit_log,
            license_file=license_file,
            alexandria_api=alexandria_api,
            alexandria=alexandria,
            alexandria_service=alexandria_service,
            alexandria_ingress=Site(free_port(), ingress.build),
            ingress=ingress,
            kubernetes=kubernetes,
            kubeconfig=kubeconfig,
            cluster=cluster,
            sqlite=SqliteFile(alexandria_folder / "alexandria.db"),
            backup=backup,
            observability=observability,
            telemetry=Site(free_port(), observability.build),
            timestamps=timestamps,
            stamping=Site(free_port(), timestamps.build),
            elsewhere=elsewhere,
            others=Site(free_port(), elsewhere.build),
            mail=MailServer(free_port()),
            wipe_backup=wipe_backup,
            trust_file=trust_file,
            stamp_trust_file=stamp_trust_file,
            life=Life(database, storage, anchor, observability),
        )

    async def start(self, progress: Progress = lambda line: None) -> None:
        """Start all servers and the platform's life. ``progress`` is told what has been started.

        Raises what the first server that does not start raises.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_database(progress))
                group.create_task(self._start_keycloak(progress))
                group.create_task(self._start_alexandria_database(progress))
                group.create_task(self._start_storage(progress))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        await self.signing.start()
        progress("signer")
        await self.stamping.start()
        await self.provider.start()
        progress("blockchain")
        await self.telemetry.start()
        await self.others.start()
        await self.mail.start()
        await self.orchestrator.start()
        await self.alexandria.start()
        await self.alexandria_service.start()
        await self.alexandria_ingress.start()
        await self.kubernetes.start()
        progress("Alexandria")
        await self.wipe.start()
        await self.life.pulse()
        self._lives = [
            asyncio.create_task(self.life.run(), name="life of Wipe"),
            asyncio.create_task(self.audit_log.run(), name="life of Alexandria"),
            asyncio.create_task(self.cluster.run(), name="life of Alexandria's pod"),
        ]
        progress("Wipe API")

    async def stop(self) -> None:
        """Stop everything within 4 seconds; never raises for what is already gone."""
        for task in self._lives:
            task.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        self._lives.clear()
        await self.release()
        await asyncio.gather(
            self.wipe.stop(),
            self.kubernetes.stop(),
            self.alexandria_ingress.stop(),
            self.alexandria_service.stop(),
            self.alexandria.stop(),
            self.orchestrator.stop(),
            self.provider.stop(),
            self.signing.stop(),
            self.stamping.stop(),
            self.telemetry.stop(),
            self.others.stop(),
            self.mail.stop(),
            self.keycloak.stop(),
            self.keycloak_management.stop(),
            self.storage.stop(),
            self.database.stop(),
            self.keycloak_database.stop(),
            self.alexandria_database.stop(),
        )

    async def release(self) -> None:
        """Close the connections that a fault holds."""
        held, self.held = self.held, []
        for connection in held:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    async def _start_database(self, progress: Progress) -> None:
        await self.database.create()
        await self.database.start()
        await furnish(self.database, self.role)
        progress("PostgreSQL of Wipe")

    async def _start_keycloak(self, progress: Progress) -> None:
        await self.keycloak_database.create()
        await self.keycloak_database.start()
        await self.keycloak_database.execute(f"CREATE DATABASE {KEYCLOAK_DATABASE}")
        statements = self.keycloak_role.statements(KEYCLOAK_DATABASE, ("public",))
        await self.keycloak_database.execute_each(statements, database=KEYCLOAK_DATABASE)
        progress("PostgreSQL of Keycloak")
        await self.keycloak.start()
        await self.keycloak_management.start()
        progress("Keycloak")

    async def _start_alexandria_database(self, progress: Progress) -> None:
        await self.alexandria_database.create()
        await self.alexandria_database.start()
        await self.audit_log.furnish()
        progress("PostgreSQL of Alexandria")

    async def _start_storage(self, progress: Progress) -> None:
        await self.storage.start()
        progress("S3")


async def _answers(cluster: Cluster) -> bool:
    """Whether the cluster answers a query within two seconds, asked anew each time."""
    try:
        async with asyncio.timeout(2):
            await cluster.execute("SELECT 1")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True
