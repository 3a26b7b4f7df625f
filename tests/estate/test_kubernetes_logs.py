"""`kubernetes_logs` through the log path of a real API server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from estate.servers.kubelet import Kubelet
from estate.servers.kubernetes import Kubernetes
from tests.kubernetes_pods import create_alexandria
from tests.probing import Probed, RealClock, first, probe_once
from tocsin_probes.kubernetes_logs import KubernetesLogs
from tocsin_sandbox.kubernetes_objects import SELECTOR, ended, healthy, running, status, waiting

pytestmark = pytest.mark.estate

PATTERNS = {
    "orchestrator_socket_missing": "orchestrator.sock: no such file or directory",
    "license_refused": ["license blob invalid", "license signature verification failed"],
    "chain_broken": ["audit chain broken", "HMAC mismatch"],
}

Look = Callable[[], Awaitable[Probed]]


@dataclass
class Node:
    """A pod of the platform on a node whose logs a test writes."""

    kubernetes: Kubernetes
    namespace: str
    kubelet: Kubelet
    memory: dict[str, Any] = field(default_factory=dict)

    def write(self, line: str, container: str = "api", ago: float = 0.0, pod: str = "alexandria-0") -> None:
        self.kubelet.write(self.namespace, pod, container, line, time.time() - ago)

    @asynccontextmanager
    async def reading(self, later: float = 0.0, **settings: Any) -> AsyncIterator[Look]:
        """A daemon that runs the probe as often as asked. The next one finds what this one remembered."""
        given = {"kubeconfig": str(self.kubernetes.kubeconfig()), "namespace": self.namespace, "selector": SELECTOR}
        given |= {"containers": ["api", "orchestrator"], "patterns": PATTERNS}
        probe = KubernetesLogs(KubernetesLogs.Settings.model_validate(given | settings))
        try:
            yield lambda: probe_once(probe, memory=self.memory, clock=RealClock(later))
        finally:
            await probe.close()


@pytest.fixture
def node(kubernetes: Kubernetes, namespace: str) -> Iterator[Node]:
    with Kubelet(kubernetes, f"node-{namespace}") as kubelet:
        create_alexandria(kubernetes, namespace, nodeName=kubelet.name)
        yield Node(kubernetes, namespace, kubelet)


async def test_a_log_without_any_of_the_strings_is_ok(node: Node) -> None:
    node.write("license loaded tier=enterprise expires_at=2027-05-01")
    async with node.reading() as look:
        probed = await look()
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.detail == "1 new lines in 2 containers, none of them known as a fault"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("dial unix /run/alexandria/orchestrator.sock: no such file or directory", "orchestrator_socket_missing"),
        ("fatal: license blob invalid", "license_refused"),
        ("license signature verification failed kid=k1", "license_refused"),
        ("audit chain broken at seq 17", "chain_broken"),
    ],
)
async def test_each_string_gives_its_reason_and_the_line_is_evidence_only(node: Node, line: str, reason: str) -> None:
    async with node.reading() as look:
        assert (await look()).verdict == ("ok", None)
        node.write(f"{line} password=hunter22")
        probed = await look()
    assert probed.verdict == ("failed", reason)
    assert probed.detail.startswith("seen once in alexandria-0/api, last ")
    assert line not in probed.detail
    assert [each.name for each in probed.attachments] == [f"{reason}.txt"]
    assert line.encode() in probed.attachments[0].content
    assert b"hunter22" not in probed.attachments[0].content


async def test_a_line_is_read_once_and_counts_for_its_window(node: Node) -> None:
    async with node.reading() as look:
        node.write("HMAC mismatch", ago=5)
        for _ in range(3):
            probed = await look()
            assert probed.detail.startswith("seen once")
    async with node.reading(later=601, catch_up="2h") as look:
        assert (await look()).verdict == ("ok", None)


async def test_lines_of_one_second_are_neither_lost_nor_read_twice(node: Node) -> None:
    second = int(time.time()) - 3
    async with node.reading() as look:
        for number in range(10):
            node.kubelet.write(node.namespace, "alexandria-0", "api", "HMAC mismatch", second + number // 4 * 0.001)
            probed = await look()
            assert (number == 0 and "once" in probed.detail) or f"seen {number + 1} times" in probed.detail


async def test_a_new_daemon_goes_on_where_the_last_one_ended(node: Node) -> None:
    node.write("HMAC mismatch", ago=60)
    async with node.reading() as look:
        assert "seen once" in (await look()).detail
    node.write("HMAC mismatch", ago=30)
    async with node.reading() as look:
        assert "seen 2 times" in (await look()).detail


async def test_what_a_container_said_before_it_was_restarted_is_read_too(node: Node) -> None:
    async with node.reading() as look:
        node.write("starting", ago=20)
        assert (await look()).verdict == ("ok", None)
        node.write("license blob invalid", ago=10)
        node.kubelet.restart(node.namespace, "alexandria-0", "api")
        node.write("starting", ago=1)
        api = running("api", restartCount=1, lastState=ended("Error", 1, 9))
        node.kubernetes.set_pod_status(node.namespace, "alexandria-0", status(*healthy(api=api)))
        # The new log may be read before the API says that the container was restarted.
        probed = await first(look, lambda probed: bool(probed.outcome.findings), "what the container said before")
        assert probed.verdict == ("failed", "license_refused")
        assert "seen once" in (await look()).detail


async def test_a_rotated_log_is_read_on(node: Node) -> None:
    async with node.reading() as look:
        for _ in range(50):
            node.write("all is well", ago=10)
        assert (await look()).verdict == ("ok", None)
        node.kubelet.rotate(node.namespace, "alexandria-0", "api")
        node.write("audit chain broken")
        assert (await look()).verdict == ("failed", "chain_broken")


async def test_more_than_a_run_may_read_is_unknown_until_it_is_caught_up_with(node: Node) -> None:
    start = time.time() - 60
    for number in range(400):
        node.kubelet.write(node.namespace, "alexandria-0", "api", "x" * 100, start + number / 10)
    node.write("audit chain broken")
    async with node.reading(max_bytes="16KiB") as look:
        verdicts = [(await look()).verdict for _ in range(5)]
    assert verdicts[0] == ("unknown", "behind")
    assert verdicts[-1] == ("failed", "chain_broken")


async def test_a_second_that_is_larger_than_a_run_does_not_stop_the_reading(node: Node) -> None:
    second = int(time.time()) - 20
    for number in range(1000):
        node.kubelet.write(node.namespace, "alexandria-0", "api", "x" * 100, second + number / 1e6)
    node.write("audit chain broken", ago=1)
    async with node.reading(max_bytes="16KiB") as look:
        verdicts = [(await look()).verdict for _ in range(3)]
    assert verdicts == [("unknown", "behind"), ("unknown", "behind"), ("failed", "chain_broken")]


async def test_a_quiet_log_is_not_behind_and_a_long_pause_is(node: Node) -> None:
    node.write("the only line", ago=5)
    async with node.reading() as look:
        assert (await look()).verdict == ("ok", None)
    node.memory["places"] = {
        key: [*place[:3], place[3] + 7000, place[4]] for key, place in node.memory["places"].items()
    }
    async with node.reading(later=7200) as look:
        assert (await look()).verdict == ("ok", None)
    async with node.reading(later=20_000) as look:
        probed = await look()
        assert probed.verdict == ("unknown", "behind")
        assert "nothing was read for 3h" in probed.detail


async def test_a_container_that_waits_has_no_log_and_is_somebody_elses_finding(node: Node) -> None:
    reported = status(*healthy(api=waiting("api", "ContainerCreating")))
    node.kubernetes.set_pod_status(node.namespace, "alexandria-0", reported)
    async with node.reading() as look:
        assert "in 1 containers" in (await look()).detail
    async with node.reading(containers=["api"]) as look:
        assert (await look()).verdict == ("unknown", "dependency_unknown")


async def test_a_node_that_does_not_answer_leaves_it_unknown(node: Node) -> None:
    node.kubelet.broken = True
    async with node.reading() as look:
        probed = await look()
        assert probed.verdict == ("unknown", "dependency_unknown")
        assert "get pods/log alexandria-0 in namespace" in probed.detail
        node.kubelet.broken = False
        node.write("audit chain broken")
        assert (await look()).verdict == ("failed", "chain_broken")


async def test_a_pod_on_no_node_has_an_empty_log(kubernetes: Kubernetes, namespace: str) -> None:
    create_alexandria(kubernetes, namespace)
    with Kubelet(kubernetes, f"node-{namespace}") as kubelet:
        async with Node(kubernetes, namespace, kubelet).reading() as look:
            assert (await look()).detail == "0 new lines in 2 containers, none of them known as a fault"
        assert kubelet.requests == []
