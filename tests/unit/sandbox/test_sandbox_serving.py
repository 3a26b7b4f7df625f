"""Ports of the sandbox's servers."""

from __future__ import annotations

from tocsin_sandbox.serving import free_port

OUTGOING = 32768
"""From here on Linux takes ports for outgoing connections. Kernel documentation, ip_local_port_range."""


def test_a_port_is_given_once_and_no_outgoing_connection_can_take_it() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    assert max(ports) < OUTGOING
