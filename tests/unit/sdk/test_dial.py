"""Several addresses of one name: who is tried, who wins, and whose error is raised."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tocsin.sdk.dial import MAX_ADDRESSES, STAGGER, dial


class Transport:
    def __init__(self, address: str) -> None:
        self.address = address
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Network:
    """A network whose addresses answer as told: after seconds, with a connection or an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, addresses: dict[str, tuple[float, Exception | None]]) -> None:
        self.addresses = addresses
        self.tried: list[tuple[float, str]] = []
        self.made: list[Transport] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", self._resolve)
        monkeypatch.setattr(loop, "create_connection", self._connect)
        self._loop = loop
        self._began = loop.time()

    async def _resolve(self, host: str, port: int, **_: Any) -> list[Any]:
        return [(None, None, None, "", (address, port)) for address in self.addresses]

    async def _connect(self, protocol: Callable[[], Any], address: str, port: int, **_: Any) -> tuple[Any, Any]:
        self.tried.append((round(self._loop.time() - self._began, 2), address))
        delay, error = self.addresses[address]
        await asyncio.sleep(delay)
        if error is not None:
            raise error
        self.made.append(Transport(address))
        return self.made[-1], protocol()


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
NO_ROUTE = OSError(errno.ENETUNREACH, "no route")
pytestmark = pytest.mark.looptime


async def test_a_refused_address_gives_way_to_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, {"::1": (0.0, REFUSED), "127.0.0.1": (0.0, None)})
    transport, _ = await dial(asyncio.Protocol, "both.example", 80)
    assert transport.address == "127.0.0.1"  # type: ignore[attr-defined]
    assert [address for _, address in network.tried] == ["::1", "127.0.0.1"]


async def test_a_silent_address_delays_the_next_by_the_stagger_only(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, {"::1": (999.0, None), "127.0.0.1": (0.1, None)})
    transport, _ = await dial(asyncio.Protocol, "both.example", 80)
    assert transport.address == "127.0.0.1"  # type: ignore[attr-defined]
    assert network.tried == [(0.0, "::1"), (STAGGER, "127.0.0.1")]


async def test_a_connection_that_comes_too_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, {"a": (999.0, None), "b": (999.0, None)})
    answer = asyncio.Event()
    asyncio.get_running_loop().call_later(STAGGER + 0.1, answer.set)
    monkeypatch.setattr(asyncio, "sleep", lambda _: answer.wait())
    winner, _ = await dial(asyncio.Protocol, "two.example", 80)
    assert winner in network.made
    assert {transport.address: transport.aborted for transport in network.made} == {
        address: address != winner.address  # type: ignore[attr-defined]
        for address in ("a", "b")
    }


@pytest.mark.parametrize("order", [[REFUSED, NO_ROUTE], [NO_ROUTE, REFUSED]])
async def test_the_error_that_is_about_the_target_is_raised(
    monkeypatch: pytest.MonkeyPatch, order: list[Exception]
) -> None:
    Network(monkeypatch, {"a": (0.0, order[0]), "b": (0.0, order[1])})
    with pytest.raises(ConnectionRefusedError):
        await dial(asyncio.Protocol, "two.example", 80)


async def test_a_failed_handshake_is_not_hidden_by_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, {"a": (0.0, ssl.SSLError(1, "bad certificate")), "b": (0.0, None)})
    with pytest.raises(ssl.SSLError):
        await dial(asyncio.Protocol, "two.example", 80)
    assert len(network.tried) == 1


async def test_what_connected_beside_a_failed_handshake_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several at the same turn of the loop, in each order that a set may give them."""
    bad = ssl.SSLError(1, "bad certificate")
    network = Network(monkeypatch, {"a": (0.0, None), "b": (0.0, bad), "c": (0.0, None), "d": (0.0, bad)})
    at_once = asyncio.Event()
    asyncio.get_running_loop().call_later(STAGGER * 5, at_once.set)
    monkeypatch.setattr(asyncio, "sleep", lambda _: at_once.wait())
    with pytest.raises(ssl.SSLError):
        await dial(asyncio.Protocol, "four.example", 80)
    assert [transport.aborted for transport in network.made] == [True, True]


async def test_a_name_with_very_many_addresses_is_tried_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, {f"10.0.0.{number}": (0.0, REFUSED) for number in range(200)})
    with pytest.raises(ConnectionRefusedError):
        await dial(asyncio.Protocol, "many.example", 80)
    assert len(network.tried) == MAX_ADDRESSES
