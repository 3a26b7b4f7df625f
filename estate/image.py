"""The Dockerfile, built and run without a container daemon. Needs root, as chroot and mount do.

It is built by buildah with chroot isolation on the estate's minimal Debian, and runs from its root filesystem:
read-only, as the user that the image names, without any capability. Wheels come from a folder that this machine's own
pip filled once for the pinned requirements, so that nothing of how it reaches its index gets into the build.
Facts: buildah-build(1), unshare(1), setpriv(1); OCI image specification, "Image Configuration".
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from estate.install import cache_root, ensure

_BASE, _BUILT = "localhost/debian-root:1", "localhost/tocsin:test"
_PATIENCE = 540.0
_MEMORY = "4g"


class ImageError(Exception):
    """A command of the build failed; the text is the end of what it said."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of ours at a place in the image, read-only."""

    source: Path
    target: str


class Image:
    """The image built from a checkout, unpacked. As a context manager: built on entry, gone on exit."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._storage = Path(tempfile.mkdtemp(prefix="tocsin-image-"))
        # Each layer is a whole copy (that is what vfs means): in memory that takes seconds, on a busy disk minutes.
        _run(["mount", "-t", "tmpfs", "-o", f"size={_MEMORY}", "tmpfs", str(self._storage)])
        self.root = Path()
        """Its root filesystem."""
        self.configuration: Mapping[str, Any] = {}
        """`User`, `Env`, `Entrypoint`, `Cmd` …, as the image states them."""

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove all of it."""
        _run(["umount", str(self._storage)])
        self._storage.rmdir()

    def _build(self) -> None:
        container = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", container, str(ensure("debian-root") / "root.tar"), "/")
        self._buildah("commit", "--quiet", container, _BASE)
        self._buildah("rm", container)
        pip = self._storage / "pip.conf"
        pip.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        wheels = wheelhouse([self._checkout / "requirements" / f"{name}.txt" for name in ("runtime", "build")])
        self._buildah(
            *("bud", "--quiet", "--isolation=chroot", "--pull-never", f"--build-arg=BASE={_BASE}"),
            *(f"--secret=id=pip,src={pip}", f"--volume={wheels}:/wheels:ro", f"--tag={_BUILT}", str(self._checkout)),
        )
        told = json.loads(self._buildah("inspect", "--type=image", _BUILT))
        self.configuration = told["OCIv1"]["config"]
        self.root = Path(self._buildah("mount", self._buildah("from", "--pull-never", _BUILT)))

    def _buildah(self, *arguments: str) -> str:
        storage = (f"--root={self._storage}/root", f"--runroot={self._storage}/run", "--storage-driver=vfs")
        return _run([str(ensure("buildah") / "buildah"), *storage, *arguments])

    def command(
        self,
        arguments: Sequence[str] | None = None,
        *,
        program: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        mounts: Sequence[Mount] = (),
    ) -> list[str]:
        """What runs the image: its entry point with these arguments (its own ones if None), or another ``program``.

        In mounts of its own: the root read-only, its volumes and /tmp empty and in memory.
        """
        state = self.configuration
        user, _, group = state["User"].partition(":")
        variables = [*state["Env"], *(f"{name}={value}" for name, value in (environment or {}).items())]
        wanted = list(program or state["Entrypoint"]) + list(state["Cmd"] if arguments is None else arguments)
        root = str(self.root)
        steps = [["mount", "--bind", root, root]]
        steps += [["mount", "--bind", "-o", "ro", str(one.source), root + one.target] for one in mounts]
        steps += [["mount", "-o", "remount,bind,ro", root], ["mount", "-t", "proc", "proc", f"{root}/proc"]]
        for place in ("/tmp", *state["Volumes"]):
            steps.append(["mount", "-t", "tmpfs", "-o", f"uid={user},gid={group},mode=0700", "tmpfs", root + place])
        enter = ["exec", "chroot", root, "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        enter += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "env", "-i", *variables]
        script = " && ".join(
            " ".join(f"'{word}'" if word != "exec" else word for word in step) for step in [*steps, enter]
        )
        return ["unshare", "--mount", "--propagation=private", "sh", "-c", f'{script} "$@"', "sh", *wanted]


def wheelhouse(requirements: Sequence[Path]) -> Path:
    """A folder with the wheels of these pinned files for this Python and platform; filled once, kept in the cache."""
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in requirements)).hexdigest()[:16]
    folder = cache_root().parent / "wheels" / digest
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{digest}-", dir=folder.parent))
    try:
        for path in requirements:
            _run(
                [
                    *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
                    *("--only-binary=:all:", "--require-hashes", f"--dest={temporary}", f"--requirement={path}"),
                ]
            )
        temporary.chmod(0o755)
        # Somebody else may have been first.
        if not folder.is_dir():
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    if done.returncode:
        raise ImageError(
            f"`{' '.join(command[:6])} …` ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
    return done.stdout.strip()
