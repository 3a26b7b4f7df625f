"""``tocsin sandbox`` as a newcomer runs it: started as a process, broken, healed, and gone when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tocsin_sandbox import postgresql
from tocsin_sandbox.processes import Account, run_to_end

pytestmark = pytest.mark.estate

TOCSIN = [sys.executable, "-m", "tocsin.cli"]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment(folder), timeout=90)


class Sandbox:
    """``tocsin sandbox`` under a temporary folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*TOCSIN, "sandbox", *options], stdout=output, stderr=output, env=environment(folder)
            )

    def await_line(self, start: str, seconds: float = 90) -> str:
        """The rest of the first line that begins with ``start``."""
        for _ in range(round(seconds / 0.1)):
            for line in self.output.read_text().splitlines():
                if line.startswith(start):
                    return line.removeprefix(start).strip()
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.1)
        raise AssertionError(f"no {start!r} in: {self.output.read_text()}")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([*TOCSIN, "sandbox", *arguments], self.folder)

    def postmasters(self) -> list[int]:
        return [int(path.read_text().split()[0]) for path in self.folder.rglob("postmaster.pid")]

    def variables(self) -> dict[str, str]:
        lines = Path(self.await_line("environment:")).read_text().splitlines()
        return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


@contextmanager
def temporary() -> Iterator[Path]:
    """A temporary folder that PostgreSQL's account may pass through; those under ``tmp_path`` are the owner's only."""
    with tempfile.TemporaryDirectory(prefix="tocsin-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary() as found:
        yield found


@contextmanager
def running(folder: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(folder, "--no-daemon")
    try:
        sandbox.await_line("Ctrl-C")
        yield sandbox
    finally:
        sandbox.stop()


@pytest.fixture
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """One to be ended."""
    with running(folder) as found:
        yield found


@pytest.fixture(scope="module")
def lasting() -> Iterator[Sandbox]:
    with temporary() as folder, running(folder) as found:
        yield found


@pytest.fixture
def practice(lasting: Sandbox) -> Iterator[Sandbox]:
    """One that is well, and is healed afterwards."""
    yield lasting
    assert lasting.command("heal").returncode == 0


def gone(pid: int, seconds: float = 5) -> bool:
    return eventually(lambda: not Path(f"/proc/{pid}").exists(), seconds)


def eventually(condition: Callable[[], object], seconds: float) -> bool:
    for _ in range(round(seconds / 0.05)):
        if condition():
            return True
        time.sleep(0.05)
    return False


def ask(
    url: str, method: str = "GET", headers: Mapping[str, str] | None = None, data: bytes | None = None
) -> tuple[int, str]:
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}), data=data)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.long) for number in (signal.SIGINT, signal.SIGHUP))],
)
def test_a_signal_ends_it_within_five_seconds_with_nothing_left(sandbox: Sandbox, number: signal.Signals) -> None:
    servers = sandbox.postmasters()
    assert len(servers) == 3
    started = time.monotonic()
    sandbox.process.send_signal(number)
    assert sandbox.process.wait(10) == 0
    assert time.monotonic() - started < 5
    assert all(gone(pid, 0.1) for pid in servers)
    assert [path.name for path in sandbox.folder.iterdir() if path != sandbox.output] == [
        f"tocsin-sandbox-{os.geteuid()}"
    ]
    assert list((sandbox.folder / f"tocsin-sandbox-{os.geteuid()}").iterdir()) == []


def test_its_servers_die_with_it_when_it_is_killed(sandbox: Sandbox) -> None:
    servers = sandbox.postmasters()
    sandbox.process.kill()
    sandbox.process.wait(5)
    assert all(gone(pid) for pid in servers)


def test_it_ends_when_its_parent_dies(folder: Path) -> None:
    output = folder / "output"
    script = f"import subprocess, time; subprocess.Popen({[*TOCSIN, 'sandbox', '--no-daemon']!r}); time.sleep(600)"
    with output.open("wb") as file:
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=file, stderr=file, env=environment(folder))
    try:
        assert eventually(lambda: "Ctrl-C" in output.read_text(), 40), output.read_text()
        facts = json.loads(next(folder.rglob("sandbox.json")).read_text())
    finally:
        parent.kill()
        parent.wait(5)
    assert gone(int(facts["pid"]), 10)
    assert list(folder.rglob("postmaster.pid")) == []


def test_faults_are_flipped_and_healed_from_the_command_line(practice: Sandbox) -> None:
    variables = practice.variables()
    realm = variables["TOCSIN_WIPE_EXAWIPE_METADATA_URL"]
    assert ask(realm)[0] == 200

    flipped = practice.command("fault", "realm-missing")
    assert flipped.stdout.splitlines()[-1] == "expect wipe-realm-exawipe: realm_missing"
    assert ask(realm) == (404, '{"error":"Realm does not exist"}')
    assert "realm-missing\tactive\tkeycloak-outage" in practice.command("faults").stdout

    assert practice.command("fault", "realm-missing", "--undo").returncode == 0
    assert ask(realm)[0] == 200
    practice.command("fault", "realm-missing")
    assert practice.command("heal").stdout == "healed\n"
    assert ask(realm)[0] == 200

    misspelt = practice.command("fault", "realm-mising")
    assert (misspelt.returncode, misspelt.stderr) == (
        1,
        "there is no fault 'realm-mising'; did you mean realm-missing?\n",
    )


def test_a_fault_without_a_running_sandbox_says_how_to_start_one(folder: Path) -> None:
    done = run([*TOCSIN, "sandbox", "fault", "realm-missing"], folder)
    assert (done.returncode, done.stderr) == (
        1,
        "no sandbox is running; start one in another terminal: tocsin sandbox\n",
    )


def test_without_the_extra_it_says_what_to_install(folder: Path) -> None:
    script = (
        "import sys; sys.modules['moto'] = None; sys.argv = ['tocsin', 'sandbox']; import tocsin.cli; tocsin.cli.main()"
    )
    done = run([sys.executable, "-c", script], folder)
    assert (done.returncode, done.stderr) == (
        1,
        "the sandbox needs moto, which is not installed: pip install 'tocsin[sandbox]'\n",
    )


def test_the_page_flips_switches_by_its_forms_and_refuses_those_of_other_pages(practice: Sandbox) -> None:
    board = practice.await_line("switches:")
    status, page = ask(board)
    assert (status, "<script" in page, page.count("<form")) == (200, False, page.count("<li") + 1)

    foreign = ask(f"{board}/faults/jwks-empty", "POST", {"Origin": "http://elsewhere.example"}, b"action=cause")
    assert foreign[0] == 403
    assert ">Heal</button>" not in ask(board)[1]

    status, page = ask(f"{board}/faults/jwks-empty", "POST", {"Origin": board}, b"action=cause")
    assert (status, page.count(">Heal</button>")) == (200, 1)
    status, page = ask(f"{board}/faults/jwks-empty", "POST", {"Origin": board}, b"action=undo")
    assert (status, page.count(">Heal</button>")) == (200, 0)
    assert ask(f"{board}/faults/nothing", "POST", data=b"")[0] == 404


def test_calls_keep_working_while_keycloak_is_down_and_readiness_does_not_tell(practice: Sandbox) -> None:
    """Published: existing API calls may continue while tokens and keys are cached; readiness knows no Keycloak."""
    variables = practice.variables()
    api = variables["TOCSIN_WIPE_API_URL"]
    token_url = variables["KEYCLOAK_EXAWIPE_ISSUER"] + "/protocol/openid-connect/token"
    form = f"grant_type=client_credentials&client_id={variables['TOCSIN_WIPE_EXAWIPE_CLIENT_ID']}"
    form += f"&client_secret={variables['TOCSIN_WIPE_EXAWIPE_CLIENT_SECRET']}"
    status, answer = ask(token_url, "POST", data=form.encode())
    assert status == 200, answer
    bearer = {"Authorization": f"Bearer {json.loads(answer)['access_token']}"}
    assert ask(f"{api}/api/v1/usage", headers=bearer)[0] == 200
    assert ask(f"{api}/api/v1/usage")[0] == 401

    practice.command("fault", "keycloak-stopped")
    with pytest.raises(urllib.error.URLError, match="Connection refused"):
        ask(token_url, "POST", data=form.encode())
    assert ask(f"{api}/api/v1/usage", headers=bearer)[0] == 200
    assert ask(f"{api}/readyz")[0] == 200

    practice.command("fault", "database-stopped")
    assert ask(f"{api}/readyz")[0] == 503
    assert ask(f"{api}/healthz")[0] == 200


def test_a_newcomer_sees_the_board_break_and_heal(folder: Path) -> None:
    sandbox = Sandbox(folder)
    try:
        board = sandbox.await_line("status page:")

        def statuses() -> set[str]:
            probes = json.loads(ask(f"{board}/api/v1/probes")[1])["probes"]
            return {f"{probe['status']}:{probe['reason']}" for probe in probes}

        assert eventually(lambda: statuses() == {"ok:None"}, 60), statuses()
        broken = sandbox.command("fault", "bucket-deleted")
        assert broken.returncode == 0, broken.stderr
        assert eventually(lambda: statuses() == {"ok:None", "failed:bucket_missing"}, 60), statuses()
        probed = run([*TOCSIN, "probe", "--json"], folder)
        found = [json.loads(line) for line in probed.stdout.splitlines()]
        reasons = {each["reason"] for each in found if each["status"] == "failed"}
        assert (probed.returncode, "bucket_missing" in reasons) == (1, True), probed.stderr
        sandbox.command("heal")
        assert eventually(lambda: statuses() == {"ok:None"}, 60), statuses()
        sandbox.process.send_signal(signal.SIGINT)
        assert sandbox.process.wait(20) == 0
    finally:
        sandbox.stop()


async def test_postgresql_runs_from_a_copy_where_its_account_cannot_reach_the_wheel(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out_of_reach(program: Path, account: Account) -> bool:
        return False

    monkeypatch.setattr(postgresql, "_can_run", out_of_reach)
    monkeypatch.setattr(postgresql, "unprivileged_account", lambda: Account("me", os.geteuid(), os.getegid()))
    installation = await postgresql.Installation.find(folder)
    assert folder in installation.programs.parents
    code, output = await run_to_end([installation.programs / "postgres", "--version"])
    assert (code, output.startswith("postgres (PostgreSQL)")) == (0, True)
