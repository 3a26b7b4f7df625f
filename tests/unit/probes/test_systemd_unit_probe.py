"""`systemd_unit` against stand-ins for its two tools, which answer as their manual pages say.

No systemd runs where these tests do.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.probing import Probed, RealClock, probe_once
from tocsin_probes.systemd_unit import SystemdUnit

PATTERNS = {"chain_broken": "audit chain broken", "license_refused": ["license blob invalid"]}


class Host:
    """A host on which one unit is as the test says. Each tool is a script that reads files beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.memory: dict[str, Any] = {}
        self.entries: list[dict[str, Any]] = []
        self.tool("systemctl", "sys.stdout.write((here / 'show').read_text())")
        self.tool(
            "journalctl",
            """
at = [a.partition("=")[2] for a in sys.argv if a.startswith("--cursor=")]
since = [a.partition("=@")[2] for a in sys.argv if a.startswith("--since=")]
entries = json.loads((here / "entries").read_text())
cursors = [e["__CURSOR"] for e in entries]
if at and at[0] not in cursors:
    sys.exit("Failed to seek to cursor: Invalid argument")
for number, entry in enumerate(entries):
    if at and number >= cursors.index(at[0]) or since and int(entry["__REALTIME_TIMESTAMP"]) >= int(since[0]) * 10**6:
        print(json.dumps(entry))
""",
        )
        self.is_("active", "running")

    def tool(self, name: str, code: str) -> None:
        path = self.folder / name
        path.write_text(
            f"#!{sys.executable} -IS\nimport json, pathlib, sys\nhere = pathlib.Path(__file__).parent\n"
            f"(here / 'asked').write_text(' '.join(sys.argv[1:]))\n{code}\n"
        )
        path.chmod(0o755)

    def is_(self, active: str, sub: str, *, load: str = "loaded", restarts: int = 0, result: str = "success") -> None:
        rows = {"LoadState": load, "ActiveState": active, "SubState": sub, "Result": result}
        rows |= {"NRestarts": str(restarts), "ExecMainStatus": "0"}
        (self.folder / "show").write_text("".join(f"{name}={value}\n" for name, value in rows.items()))

    def says(self, message: Any, ago: float = 0) -> None:
        number = len(self.entries)
        stamp = str(int((time.time() - ago) * 1e6))
        self.entries.append({"__CURSOR": f"s=1;i={number}", "__REALTIME_TIMESTAMP": stamp, "MESSAGE": message})

    async def look(self, later: float = 0, timeout: float = 10, **settings: Any) -> Probed:
        (self.folder / "entries").write_text(json.dumps(self.entries))
        given: dict[str, Any] = {"unit": "alexandria-api.service"}
        given |= {tool: str(self.folder / tool) for tool in ("systemctl", "journalctl")}
        probe = SystemdUnit(SystemdUnit.Settings.model_validate(given | settings))
        return await probe_once(probe, timeout, memory=self.memory, clock=RealClock(later))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_a_user_who_sees_only_its_own_messages_has_seen_nothing(host: Host) -> None:
    """journalctl ends with 0 then, and hints on its standard error."""
    hint = "Hint: You are currently not seeing messages from other users and the system."
    host.tool("journalctl", f"sys.stderr.write({hint!r})")
    probed = await host.look(patterns=PATTERNS)
    assert probed.verdict == ("unknown", "credentials_rejected")
    assert "systemd-journal" in probed.detail
    assert (await host.look(patterns=PATTERNS, user=True)).verdict == ("ok", None), "its own manager, its own messages"


async def test_a_long_line_is_asked_for_whole(host: Host) -> None:
    assert (await host.look(patterns=PATTERNS)).verdict == ("ok", None)
    assert "--all" in (host.folder / "asked").read_text().split()


async def test_a_unit_that_runs_is_ok(host: Host) -> None:
    probed = await host.look()
    assert (probed.verdict, probed.detail) == (("ok", None), "active (running)")
    assert probed.measured("tocsin_unit_active") == 1
    asked = (host.folder / "asked").read_text()
    assert asked.startswith("show --property=LoadState,")
    assert asked.endswith(" -- alexandria-api.service")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"active": "inactive", "sub": "dead"}, "inactive"),
        ({"active": "deactivating", "sub": "stop-sigterm"}, "inactive"),
        ({"active": "failed", "sub": "failed", "result": "oom-kill"}, "failed_unit"),
        ({"active": "activating", "sub": "auto-restart", "result": "exit-code"}, "restarting"),
        ({"active": "inactive", "sub": "dead", "load": "not-found"}, "unit_missing"),
        ({"active": "inactive", "sub": "dead", "load": "bad-setting"}, "unit_missing"),
        ({"active": "inactive", "sub": "dead", "load": "masked"}, "unit_missing"),
    ],
)
async def test_each_state_has_its_reason(host: Host, state: dict[str, str], reason: str) -> None:
    host.is_(**state)
    probed = await host.look()
    assert probed.verdict == ("failed", reason)
    assert probed.measured("tocsin_unit_active") == 0


async def test_restarts_count_in_their_window_and_start_anew_with_the_counter(host: Host) -> None:
    for restarts, later, verdict in (
        (5, 0, "ok"),
        (6, 60, "ok"),
        (7, 120, "failed"),
        (7, 900, "ok"),
        (0, 960, "ok"),
        (2, 1000, "failed"),
    ):
        host.is_("active", "running", restarts=restarts)
        assert (await host.look(later)).outcome.status == verdict, (restarts, later)


async def test_the_journal_is_read_on_from_its_cursor(host: Host) -> None:
    host.says("starting", ago=700)
    host.says("audit chain broken at 17 token=abcdef", ago=5)
    probed = await host.look(patterns=PATTERNS)
    assert probed.verdict == ("failed", "chain_broken")
    assert probed.detail.startswith("seen once in alexandria-api.service, last ")
    assert b"token=********" in probed.attachments[0].content
    host.says(list(b"audit chain broken \xff"))
    host.says(None)
    assert "seen 2 times" in (await host.look(patterns=PATTERNS)).detail
    assert "seen 2 times" in (await host.look(patterns=PATTERNS)).detail
    assert (await host.look(601, patterns=PATTERNS)).verdict == ("ok", None)


async def test_a_cursor_that_was_vacuumed_away_is_given_up_for_the_time(host: Host) -> None:
    host.says("one", ago=20)
    await host.look(patterns=PATTERNS)
    host.entries.clear()
    host.entries.append({"__CURSOR": "s=2;i=1", "__REALTIME_TIMESTAMP": str(int(time.time() * 1e6)), "MESSAGE": "x"})
    host.says("license blob invalid")
    assert (await host.look(patterns=PATTERNS)).verdict == ("failed", "license_refused")


async def test_a_flood_is_cut_and_read_on_with_the_next_runs(host: Host) -> None:
    for _ in range(500):
        host.says("x" * 100, ago=30)
    host.says("audit chain broken")
    verdicts = [(await host.look(patterns=PATTERNS, max_bytes="32KiB")).verdict for _ in range(4)]
    assert verdicts[0] == ("unknown", "behind")
    assert verdicts[-1] == ("failed", "chain_broken")


async def test_what_keeps_the_tools_from_answering_is_our_own_trouble(host: Host, tmp_path: Path) -> None:
    assert (await host.look(systemctl=str(tmp_path / "none"))).verdict == ("unknown", "dependency_unknown")
    host.tool("systemctl", "sys.exit('System has not been booted with systemd as init system')")
    probed = await host.look()
    assert probed.verdict == ("unknown", "dependency_unknown")
    assert "has not been booted with systemd" in probed.detail
    host.tool("systemctl", "print('nonsense')")
    assert (await host.look()).verdict == ("unknown", "dependency_unknown")
    host.tool("systemctl", "sys.stdout.write((here / 'show').read_text())")
    host.tool("journalctl", "sys.exit('No journal files were opened due to insufficient permissions.')")
    assert (await host.look(patterns=PATTERNS)).verdict == ("unknown", "credentials_rejected")


async def test_a_tool_that_hangs_is_ended_with_the_run(host: Host) -> None:
    host.tool("systemctl", "import time; time.sleep(60)")
    probed = await host.look(timeout=1.0)
    assert (probed.verdict, probed.detail) == (("unknown", "dependency_unknown"), "systemd gave no answer in time")
    assert probed.duration_seconds < 1


@pytest.mark.parametrize("unit", ["", "a b", "a;b", "-x/../y"])
def test_a_name_that_is_none_is_refused(unit: str) -> None:
    with pytest.raises(ValidationError):
        SystemdUnit.Settings.model_validate({"unit": unit})
