"""The ways in which a server reaches this machine: Go, Maven, npm, Debian's packages.

Everything is fetched by the package clients of the machine, set up as they are there: nothing here names a registry.
Only the standard library is used, because this runs before any package is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

_HOW_TO_GET = {
    "go": "install Go 1.24 or newer (Debian: golang-go from backports, or the toolchain's own installer)",
    "java": "install a JRE, 17 or newer (Debian: apt-get install default-jre-headless)",
    "mvn": "install Maven (Debian: apt-get install maven)",
    "npm": "install Node.js with npm (Debian: apt-get install npm)",
    "apt-get": "use a Debian machine, or put the packages' binaries on it by other means",
    "debootstrap": "apt-get install debootstrap",
}

_POLICY = Path("/usr/sbin/policy-rc.d")
_LOG_LINES_SHOWN = 25


class InstallError(Exception):
    """A server could not be installed. The text says which step failed and what to do."""


class MissingTool(InstallError):
    """A program that a recipe needs is not on this machine."""

    def __init__(self, tool: str) -> None:
        super().__init__(f"needs `{tool}`, which is not on this machine: {_HOW_TO_GET.get(tool, 'install it')}")


@dataclass(frozen=True)
class Workshop:
    """Where one recipe works: an empty folder that becomes the installed one, and the log of its commands."""

    folder: Path
    log: Path

    def run(
        self, command: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Run a command with its output in the log. Raises InstallError with the last lines of the log."""
        require(command[0])
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            done = subprocess.run(
                command,
                cwd=cwd or self.folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            last = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
            raise InstallError(
                f"`{' '.join(command[:4])} …` ended with {done.returncode}. The end of {self.log}:\n  "
                + "\n  ".join(last)
            )


class Recipe(Protocol):
    """Fills an empty folder with an installed server."""

    def __call__(self, shop: Workshop) -> None: ...


def require(tool: str) -> str:
    """The path of a program. Raises MissingTool."""
    found = shutil.which(tool)
    if found is None:
        raise MissingTool(tool)
    return found


@dataclass(frozen=True)
class GoPackage:
    """`go install PACKAGE@VERSION`, for a module without replace lines."""

    package: str
    version: str

    def __call__(self, shop: Workshop) -> None:
        binaries = shop.folder / "bin"
        binaries.mkdir()
        shop.run(
            ["go", "install", "-ldflags=-s -w", f"{self.package}@{self.version}"],
            environment={"GOBIN": str(binaries)},
        )


@dataclass(frozen=True)
class GoMain:
    """Programs of one module, built inside a go.mod of our own, because the module has replace lines of its own.

    `go install PACKAGE@VERSION` refuses a module with replace lines (`go help install`), and only the main module's
    count, so ours repeats what is needed. `-mod=mod` lets go write the sums, checked against its checksum database.
    """

    module: str
    version: str
    packages: tuple[str, ...]
    go: str
    replace: Mapping[str, str] = field(default_factory=dict)
    """Module path -> version that takes its place."""
    staging_version: str | None = None
    """Every `X => ./staging/src/X` of the module (Kubernetes) is replaced by X at this version."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Go string variables set by the linker, such as the version a program tells."""

    def __call__(self, shop: Workshop) -> None:
        require("go")
        source = shop.folder / "module"
        binaries = shop.folder / "bin"
        source.mkdir()
        binaries.mkdir()
        replace = dict(self.replace)
        if self.staging_version is not None:
            replace |= dict.fromkeys(self._staged(source), self.staging_version)
        lines = ["module estate.invalid/build", "", f"go {self.go}", "", f"require {self.module} {self.version}", ""]
        lines += [f"replace {path} => {path} {version}" for path, version in sorted(replace.items())]
        (source / "go.mod").write_text("\n".join(lines) + "\n")
        flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.variables.items())])
        shop.run(["go", "build", "-mod=mod", f"-ldflags={flags}", "-o", f"{binaries}/", *self.packages], cwd=source)

    def _staged(self, source: Path) -> list[str]:
        gomod = go_download(self.module, self.version, source)["GoMod"]
        shown = subprocess.run(
            ["go", "mod", "edit", "-json", gomod], cwd=source, capture_output=True, text=True, check=True
        )
        replaced = json.loads(shown.stdout).get("Replace") or []
        return [item["Old"]["Path"] for item in replaced if item["New"]["Path"].startswith("./staging/")]


@dataclass(frozen=True)
class Edit:
    """One replacement of text that occurs exactly once in a file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class GoEdited:
    """One program out of a copy of its module in which a few fixed values were changed."""

    module: str
    version: str
    package: str
    edits: tuple[Edit, ...]

    def __call__(self, shop: Workshop) -> None:
        require("go")
        source = shop.folder / "module"
        shutil.copytree(go_download(self.module, self.version, shop.folder)["Dir"], source)
        # The module cache is read-only, and so is a copy of it.
        for folder, _, names in os.walk(source):
            for path in (Path(folder), *(Path(folder, name) for name in names)):
                path.chmod(path.stat().st_mode | 0o200)
        for edit in self.edits:
            text = (source / edit.path).read_text()
            if text.count(edit.old) != 1:
                raise InstallError(
                    f"{edit.path} of {self.module} has {edit.old} {text.count(edit.old)} times, not once"
                )
            (source / edit.path).write_text(text.replace(edit.old, edit.new))
        (shop.folder / "bin").mkdir()
        shop.run(["go", "build", "-ldflags=-s -w", "-o", f"{shop.folder / 'bin'}/", self.package], cwd=source)


@dataclass(frozen=True)
class GoModuleFiles:
    """Some files out of a module's zip (nothing is built)."""

    module: str
    version: str
    under: str
    pattern: str

    def __call__(self, shop: Workshop) -> None:
        require("go")
        root = Path(go_download(self.module, self.version, shop.folder)["Dir"])
        for path in sorted((root / self.under).glob(self.pattern)):
            # The module cache is read-only; a plain copy of the bytes is not.
            (shop.folder / path.name).write_bytes(path.read_bytes())


def go_download(module: str, version: str, cwd: Path) -> dict[str, str]:
    """What `go mod download -json` says of a module: its `Dir` and `GoMod` among others."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", f"{module}@{version}"], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InstallError(f"`go mod download {module}@{version}` failed: {done.stderr or done.stdout}")
    told: dict[str, str] = json.loads(done.stdout)
    return told


@dataclass(frozen=True)
class MavenArchive:
    """A tar.gz out of a Maven repository, unpacked without its top folder."""

    coordinates: str
    """group:artifact:version:tar.gz, as dependency:get takes it."""
    prepare: Callable[[Workshop], None] | None = None

    def __call__(self, shop: Workshop) -> None:
        target = shop.folder / "download"
        shop.run(
            [
                "mvn",
                "-B",
                "-q",
                "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
                f"-Dartifact={self.coordinates}",
                f"-DoutputDirectory={target}",
            ]
        )
        (archive,) = target.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(shop.folder / "unpacked", filter="data")
        (top,) = (shop.folder / "unpacked").iterdir()
        for path in top.iterdir():
            path.rename(shop.folder / path.name)
        shutil.rmtree(shop.folder / "unpacked")
        shutil.rmtree(target)
        if self.prepare is not None:
            self.prepare(shop)


@dataclass(frozen=True)
class NpmPackage:
    """A package with its dependencies in a node_modules of its own; `binary` is linked into `bin`."""

    package: str
    version: str
    binary: str
    """Glob of the executable inside the folder."""
    name: str

    def __call__(self, shop: Workshop) -> None:
        shop.run(
            ["npm", "install", "--prefix", str(shop.folder), "--no-save", "--silent", f"{self.package}@{self.version}"]
        )
        (executable,) = shop.folder.glob(self.binary)
        (shop.folder / "bin").mkdir()
        (shop.folder / "bin" / self.name).symlink_to(Path("..") / executable.relative_to(shop.folder))


@dataclass(frozen=True)
class DebianRoot:
    """A minimal Debian system as `root.tar`, to build container images on. Needs root and debootstrap.

    It comes from where this machine's own apt gets that suite.
    """

    suite: str
    packages: tuple[str, ...]

    def __call__(self, shop: Workshop) -> None:
        root = shop.folder / "root"
        included = f"--include={','.join(self.packages)}"
        shop.run(["debootstrap", "--variant=minbase", included, self.suite, str(root), apt_site(self.suite)])
        # Neither what was downloaded, nor where from.
        for pattern in (
            "var/cache/apt/archives/*.deb",
            "var/lib/apt/lists/*",
            "etc/apt/sources.list",
            "etc/resolv.conf",
        ):
            for path in root.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shop.run(["tar", "--numeric-owner", "--one-file-system", "-C", str(root), "-cf", "root.tar", "."])
        shutil.rmtree(root)


def apt_site(suite: str) -> str:
    """Where this machine's apt gets the component `main` of a suite. Raises InstallError."""
    listed = subprocess.run(
        [require("apt-get"), "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in listed.stdout.splitlines():
        site, release, component = line.split()
        if (release, component) == (suite, "main"):
            return site
    raise InstallError(f"apt on this machine knows no source of {suite} main: {listed.stderr}")


def install_debian(packages: Sequence[str], log: Path) -> None:
    """Install Debian packages without starting their services. Needs root.

    Raises MissingTool where there is no apt-get, InstallError where it fails or we are not root.
    """
    require("apt-get")
    if os.geteuid() != 0:
        raise InstallError(f"needs `apt-get` as root: sudo apt-get install {' '.join(packages)}")
    shop = Workshop(folder=Path("/"), log=log)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    patient = ["-q", "-y", "-o", "DPkg::Lock::Timeout=600"]
    created = _forbid_service_starts()
    try:
        shop.run(["apt-get", "update", "-q"], environment=quiet)
        shop.run(["apt-get", "install", *patient, "--no-install-recommends", *packages], environment=quiet)
    finally:
        if created:
            _POLICY.unlink(missing_ok=True)


def _forbid_service_starts() -> bool:
    # invoke-rc.d asks policy-rc.d before it starts a service; 101 means "forbidden by policy" (its manual page).
    # A policy that is there already is the administrator's, and stays.
    try:
        with _POLICY.open("x") as policy:
            policy.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        return False
    _POLICY.chmod(0o755)
    return True
