"""Install the real servers that tests, drills and benchmarks use, once, outside the checkout.

    python -m estate.install [NAME or GROUP …] [--list]

Each server lies in `${XDG_CACHE_HOME:-~/.cache}/tocsin/estate/NAME-VERSION/`, complete or not at all: it is made in a
folder beside it and renamed. A lock file keeps two callers from building the same thing. Debian's servers stay where
Debian puts them. A tool that is missing is an error (exit status 1), never a reason to skip.

Only the standard library is used, so that this runs before any package is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from estate.recipes import (
    DebianRoot,
    Edit,
    GoEdited,
    GoMain,
    GoModuleFiles,
    GoPackage,
    InstallError,
    MavenArchive,
    NpmPackage,
    Recipe,
    Workshop,
    install_debian,
)

LOCK_PATIENCE = 45 * 60.0
"""Seconds to wait for another caller that is installing the same server."""

STILL_BUILDING = 30.0
"""Seconds between two progress lines of one long build."""

KEYCLOAK_ADMIN = ("admin", "estate-admin")
"""Name and password of the administrator in the seeded database. For loopback servers that live for minutes."""


@dataclass(frozen=True)
class Debian:
    """A server from Debian's packages. Its version is the release's; `home` is the folder of its executables."""

    packages: tuple[str, ...]
    home: str
    executables: tuple[str, ...]

    @property
    def installed(self) -> bool:
        return all(os.access(Path(self.home, name), os.X_OK) for name in self.executables)


@dataclass(frozen=True)
class Entry:
    """One line of the table: a server, its pinned version, how it comes."""

    name: str
    version: str
    source: Recipe | Debian
    needs: tuple[str, ...] = ()
    """Names of the entries that its recipe works with."""

    @property
    def home(self) -> Path:
        """Where the server is, or will be."""
        if isinstance(self.source, Debian):
            return Path(self.source.home)
        return cache_root() / f"{self.name}-{self.version}"

    @property
    def installed(self) -> bool:
        if isinstance(self.source, Debian):
            return self.source.installed
        return self.home.is_dir()


def _optimise_keycloak(shop: Workshop) -> None:
    """Make two copies built for `start --optimized`, and a first database, so that a start takes seconds.

    `postgres` is for a PostgreSQL database, `file` for the embedded one, `seed` holds the latter's files after the
    schema was created (Keycloak: Configuring Keycloak, "Create an optimized build").
    """
    original = [path for path in shop.folder.iterdir() if path != shop.log]
    for variant, database in (("postgres", "postgres"), ("file", "dev-file")):
        copy = shop.folder / variant
        copy.mkdir()
        for path in original:
            if path.is_dir():
                shutil.copytree(path, copy / path.name, symlinks=True)
            else:
                shutil.copy2(path, copy / path.name)
        shop.run([f"{copy}/bin/kc.sh", "build", f"--db={database}", "--health-enabled=true", "--metrics-enabled=true"])
    for path in original:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    name, password = KEYCLOAK_ADMIN
    shop.run(
        [
            f"{shop.folder}/file/bin/kc.sh",
            "bootstrap-admin",
            "user",
            "--optimized",
            "--no-prompt",
            f"--username={name}",
            "--password:env=ESTATE_KEYCLOAK_PASSWORD",
        ],
        environment={"ESTATE_KEYCLOAK_PASSWORD": password, "KC_CACHE": "local"},
    )
    (shop.folder / "file" / "data" / "h2").rename(shop.folder / "seed")
    shutil.rmtree(shop.folder / "file" / "data")


TABLE: tuple[Entry, ...] = (
    Entry(
        "keycloak",
        "26.4.0",
        MavenArchive("org.keycloak:keycloak-quarkus-dist:26.4.0:tar.gz", prepare=_optimise_keycloak),
    ),
    Entry(
        "minio",
        "0.0.0-20260212201848-7aac2a2c5b7c",
        GoPackage("github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"),
    ),
    Entry(
        "postgresql",
        "15",
        Debian(("postgresql-15",), "/usr/lib/postgresql/15/bin", ("initdb", "postgres", "psql", "pg_ctl")),
    ),
    Entry("prometheus", "2.42", Debian(("prometheus",), "/usr/bin", ("prometheus", "promtool"))),
    Entry(
        "alertmanager",
        "0.25",
        Debian(("prometheus-alertmanager",), "/usr/bin", ("prometheus-alertmanager", "amtool")),
    ),
    Entry(
        "blackbox",
        "0.23",
        Debian(("prometheus-blackbox-exporter",), "/usr/bin", ("prometheus-blackbox-exporter",)),
    ),
    Entry("nginx", "1.22", Debian(("nginx-light",), "/usr/sbin", ("nginx",))),
    Entry("chromium", "debian-12", Debian(("chromium", "chromium-driver"), "/usr/bin", ("chromium", "chromedriver"))),
    Entry("buildah", "1.28", Debian(("buildah",), "/usr/bin", ("buildah",))),
    Entry("debootstrap", "1.0", Debian(("debootstrap",), "/usr/sbin", ("debootstrap",))),
    Entry(
        "debian-root",
        "12-python-3.11",
        DebianRoot("bookworm", ("ca-certificates", "python3", "python3-venv")),
        needs=("debootstrap",),
    ),
    Entry("systemd", "252", Debian(("systemd",), "/usr/bin", ("systemd-analyze", "journalctl"))),
    Entry(
        "journal-remote",
        "252",
        Debian(("systemd-journal-remote",), "/lib/systemd", ("systemd-journal-remote",)),
    ),
    Entry("etcd", "3.4", Debian(("etcd-server",), "/usr/bin", ("etcd",))),
    Entry(
        "kubernetes",
        "1.34.4",
        GoMain(
            "k8s.io/kubernetes",
            "v1.34.4",
            ("k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl"),
            go="1.24.0",
            staging_version="v0.34.4",
            # Without these it calls itself v0.0.0, and charts that ask for a minimum refuse it.
            variables={
                "k8s.io/component-base/version.gitVersion": "v1.34.4",
                "k8s.io/component-base/version.gitMajor": "1",
                "k8s.io/component-base/version.gitMinor": "34",
            },
        ),
    ),
    Entry(
        "crds",
        "0.85.0",
        GoModuleFiles(
            "github.com/prometheus-operator/prometheus-operator",
            "v0.85.0",
            "example/prometheus-operator-crd",
            "*.yaml",
        ),
    ),
    Entry("helm", "3.19.5", GoPackage("helm.sh/helm/v3/cmd/helm", "v3.19.5")),
    Entry(
        "tsa",
        "2.0.3",
        GoEdited(
            "github.com/sigstore/timestamp-authority/v2",
            "v2.0.3",
            "./cmd/timestamp-server",
            # Its metrics sit on a fixed port of every address, and it exits when that one is taken.
            (Edit("pkg/server/prometheus.go", '":2112"', '"127.0.0.1:0"'),),
        ),
    ),
    Entry(
        "vault",
        "1.13.1",
        GoMain(
            "github.com/hashicorp/vault",
            "v1.13.1",
            ("github.com/hashicorp/vault",),
            go="1.20",
            replace={"github.com/hashicorp/vault/api": "v1.9.0", "github.com/hashicorp/vault/sdk": "v0.8.1"},
        ),
    ),
    Entry(
        "anvil", "1.7.1", NpmPackage("@foundry-rs/anvil", "1.7.1", "node_modules/@foundry-rs/anvil-*/**/anvil", "anvil")
    ),
)

_CORE = ("postgresql", "prometheus", "alertmanager", "blackbox", "nginx", "minio", "keycloak")

GROUPS: dict[str, tuple[str, ...]] = {
    "core": _CORE,
    "wipe": (*_CORE, "anvil", "tsa", "vault"),
    "alexandria": (*_CORE, "etcd", "crds", "kubernetes", "helm", "vault", "journal-remote"),
    "all": tuple(entry.name for entry in TABLE),
    # Built together, because they share one go.mod and nearly all packages.
    "kube-apiserver": ("kubernetes",),
    "kubectl": ("kubernetes",),
}

_BY_NAME = {entry.name: entry for entry in TABLE}


def cache_root() -> Path:
    """The folder that holds all installed servers."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tocsin" / "estate"


def ensure(name: str) -> Path:
    """Install one server unless it is there, and return its folder.

    For one that we built, that is its folder in the cache (executables in `bin/`); for a Debian package, the folder of
    its executables. Raises InstallError.
    """
    entry = _BY_NAME[name]
    if not entry.installed:
        install([entry])
    return entry.home


def resolve(names: Iterable[str]) -> list[Entry]:
    """The table's entries for names and groups, each once, in the table's order. Raises InstallError."""
    wanted: set[str] = set()
    for name in names:
        if name in GROUPS:
            wanted.update(GROUPS[name])
        elif name in _BY_NAME:
            wanted.add(name)
        else:
            known = ", ".join([*GROUPS, *_BY_NAME])
            raise InstallError(f"no server or group is called {name!r}. Known: {known}")
    return [entry for entry in TABLE if entry.name in wanted]


def install(entries: Sequence[Entry], *, jobs: int = 2) -> None:
    """Install what is missing of these, at most `jobs` at once. Raises InstallError after all others have ended."""
    debian = [entry for entry in entries if isinstance(entry.source, Debian) and not entry.installed]
    built = [entry for entry in entries if not isinstance(entry.source, Debian) and not entry.installed]
    for entry in entries:
        if entry.installed:
            _say(f"{entry.name} {entry.version}: ready")
    failures: list[str] = []
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        running = {pool.submit(_build, entry): entry.name for entry in built}
        if debian:
            running[pool.submit(_install_debian, debian)] = ", ".join(entry.name for entry in debian)
        for future, name in running.items():
            error = future.exception()
            if isinstance(error, InstallError):
                failures.append(f"{name}: {error}")
            elif error is not None:
                raise error
    if failures:
        raise InstallError("\n".join(failures))


def _build(entry: Entry) -> None:
    assert not isinstance(entry.source, Debian)
    for name in entry.needs:
        ensure(name)
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root / f".{entry.name}-{entry.version}.lock", entry.name):
        if entry.installed:
            return
        temporary = root / f".{entry.name}-{entry.version}.building"
        # Left by a caller that was killed: nobody else can be in it, because we hold the lock.
        _remove(temporary)
        temporary.mkdir()
        log = root / f"{entry.name}-{entry.version}.log"
        log.unlink(missing_ok=True)
        with _progress(f"{entry.name} {entry.version}"):
            entry.source(Workshop(temporary, log))
            temporary.rename(entry.home)


def _install_debian(entries: Sequence[Entry]) -> None:
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root / ".debian.lock", "Debian packages"):
        missing = [entry.source for entry in entries if isinstance(entry.source, Debian) and not entry.installed]
        packages = [package for source in missing for package in source.packages]
        if not packages:
            return
        with _progress(f"Debian packages {' '.join(packages)}"):
            install_debian(packages, root / "debian.log")
        for entry in entries:
            if not entry.installed:
                raise InstallError(f"Debian's packages for {entry.name} did not bring what {entry.source} lists")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def _lock(path: Path, what: str) -> Iterator[None]:
    with path.open("a") as handle:
        deadline = time.monotonic() + LOCK_PATIENCE
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InstallError(f"another caller has held {path} for {LOCK_PATIENCE:.0f} s") from None
            if not told:
                _say(f"{what}: another caller is installing it, waiting")
                told = True
            time.sleep(0.5)
        yield


@contextmanager
def _progress(what: str) -> Iterator[None]:
    started = time.monotonic()
    done = threading.Event()

    def tell() -> None:
        while not done.wait(STILL_BUILDING):
            _say(f"{what}: still installing, {time.monotonic() - started:.0f} s")

    _say(f"{what}: installing")
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
    _say(f"{what}: installed in {time.monotonic() - started:.0f} s")


def _say(text: str) -> None:
    print(f"estate: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m estate.install", description="Install the real servers of tests.")
    parser.add_argument("names", nargs="*", default=["core"], metavar="NAME", help="servers or groups (default: core)")
    parser.add_argument("--list", action="store_true", help="tell what there is, and what is installed")
    parser.add_argument("--jobs", type=int, default=2, help="installations at once (default: 2)")
    options = parser.parse_args(arguments)
    if options.list:
        for entry in TABLE:
            state = "installed" if entry.installed else "missing"
            print(f"{entry.name:13} {entry.version:35} {state:10} {entry.home}")
        for group, members in GROUPS.items():
            print(f"{group}: {' '.join(members)}")
        return 0
    try:
        install(resolve(options.names), jobs=options.jobs)
    except InstallError as error:
        print(f"estate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
