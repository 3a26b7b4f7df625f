"""``chain_rpc`` against real EVM nodes and a real PostgreSQL: each reason that they can be made to show."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import pytest

from estate.servers.anvil import Anvil
from estate.servers.postgresql import PostgreSQL
from tests.fixtures_estate import Lent
from tests.probing import Probed, RealClock, probe_once
from tests.tampering import tampering
from tests.unit.probes.lying_servers import answering, black_hole, nobody, serving
from tocsin_probes.chain_rpc import ChainRpc

pytestmark = pytest.mark.estate

CHAIN = 31337
GENESIS = int(time.time())

IS_ALLOWED = "0x600435600054146000526020" + "6000f3"
"""Runtime code: whether the first argument is the address in storage slot 0. Yellow Paper, appendix H."""
ALWAYS_REVERTS = "0x60006000fd"
CONTRACT = "0x" + "c0" * 20
ASK = {"to": CONTRACT, "data": "0x8c8b5d3c{sender}"}


class _First(Anvil):
    """One of two nodes with the same genesis block."""

    def command(self) -> Sequence[str]:
        return [*super().command(), f"--timestamp={GENESIS}"]


class _Second(_First):
    pass


@pytest.fixture(scope="session")
def nodes(lent_servers: Lent) -> tuple[Anvil, Anvil]:
    return lent_servers.get(_First), lent_servers.get(_Second)


@pytest.fixture
def node(nodes: tuple[Anvil, Anvil]) -> Anvil:
    return _reset(nodes[0])


@pytest.fixture
def twin(nodes: tuple[Anvil, Anvil]) -> Anvil:
    """A node of the same chain, which the first does not know."""
    return _reset(nodes[1])


def _reset(node: Anvil) -> Anvil:
    node.set_mining(automatic=True)
    node.mine()
    return node


async def ask(
    *nodes: Anvil | str, memory: dict[str, Any] | None = None, ahead: float = 0.0, timeout: float = 5.0, **settings: Any
) -> Probed:
    urls = [node if isinstance(node, str) else node.url for node in nodes]
    made = {"providers": urls, "chain_id": CHAIN, "max_head_age": "1h", **settings}
    probe = ChainRpc(ChainRpc.Settings.model_validate(made))
    return await probe_once(probe, timeout, memory=memory, clock=RealClock(ahead))


def found(probed: Probed) -> set[tuple[str, str]]:
    return {(finding.component, finding.reason) for finding in probed.outcome.findings}


def label(node: Anvil) -> str:
    return f"127.0.0.1:{node.port}"


async def test_a_chain_that_moves_is_ok_and_measured(node: Anvil) -> None:
    sender = node.accounts()[0]
    probed = await ask(node, sender=sender, min_balance_wei=10**18)
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.measured("tocsin_chain_head_block", provider=label(node)) == node.block_number()
    assert abs(probed.measured("tocsin_chain_head_timestamp_seconds", provider=label(node)) - time.time()) < 3600
    assert probed.measured("tocsin_chain_sender_balance_wei", provider=label(node)) == node.balance(sender)
    assert probed.measured("tocsin_chain_sender_pending_transactions") == 0


async def test_a_chain_that_should_be_used_and_is_not_configured_is_unknown() -> None:
    assert (await ask()).verdict == ("unknown", "contract_missing")
    assert (await ask("http://127.0.0.1:1", chain_id=None)).verdict == ("unknown", "contract_missing")


async def test_another_chain_id_is_the_wrong_chain(node: Anvil) -> None:
    probed = await ask(node, chain_id="0x1")
    assert probed.verdict == ("failed", "wrong_chain")
    assert probed.detail == f"{label(node)}: chain id {CHAIN}, not 1"


async def test_a_head_that_does_not_move_gets_stale(node: Anvil) -> None:
    node.set_mining()
    at = time.time()
    probed = await ask(node, ahead=7200)
    assert probed.verdict == ("failed", "head_stale")
    assert probed.measured("tocsin_chain_head_timestamp_seconds") <= at + 60


async def test_an_empty_sender_and_one_below_the_limit_are_low(node: Anvil) -> None:
    empty = "0x" + "ab" * 20
    assert found(await ask(node, sender=empty)) == {("sender", "balance_low")}
    node.set_balance(empty, 999)
    assert found(await ask(node, sender=empty, min_balance_wei="0x3e8")) == {("sender", "balance_low")}
    node.set_balance(empty, 1000)
    assert (await ask(node, sender=empty, min_balance_wei=1000)).verdict == ("ok", None)


async def test_a_balance_that_runs_out_at_the_recent_spend_is_a_ticket_with_the_time_left(node: Anvil) -> None:
    sender, memory = "0x" + "cd" * 20, dict[str, Any]()
    for hours, ether in ((0, 100), (6, 90), (12, 80)):
        node.set_balance(sender, ether * 10**18)
        probed = await ask(node, sender=sender, memory=memory, ahead=hours * 3600, max_head_age="2d")
    assert found(probed) == {("sender", "balance_ending")}
    assert probed.outcome.severity == "ticket"
    assert probed.measured("tocsin_chain_sender_left_seconds") == pytest.approx(48 * 3600, rel=0.05)
    node.set_balance(sender, 10000 * 10**18)
    topped = await ask(node, sender=sender, memory=memory, ahead=13 * 3600, max_head_age="2d")
    assert topped.verdict == ("ok", None), "a top-up is no negative spend"


async def test_transactions_that_are_not_mined_are_stuck_after_a_while(node: Anvil) -> None:
    sender, memory = node.accounts()[3], dict[str, Any]()
    node.set_mining()
    node.send(sender, node.accounts()[4])
    first = await ask(node, sender=sender, memory=memory)
    assert first.verdict == ("ok", None)
    assert first.measured("tocsin_chain_sender_pending_transactions") == 1
    stuck = await ask(node, sender=sender, memory=memory, ahead=700)
    assert found(stuck) == {("sender", "nonce_stuck")}
    node.mine()
    assert (await ask(node, sender=sender, memory=memory, ahead=800)).verdict == ("ok", None)


async def test_the_contract_says_whether_the_sender_may_act(node: Anvil) -> None:
    sender, other = node.accounts()[:2]
    node.rpc("anvil_setCode", CONTRACT, IS_ALLOWED)
    node.rpc("anvil_setStorageAt", CONTRACT, "0x0", "0x" + sender[2:].rjust(64, "0"))
    assert (await ask(node, sender=sender, authorization=ASK)).verdict == ("ok", None)
    refused = await ask(node, sender=other, authorization=ASK)
    assert found(refused) == {("sender", "sender_not_authorized")}
    node.rpc("anvil_setCode", CONTRACT, ALWAYS_REVERTS)
    reverted = await ask(node, sender=sender, authorization=ASK)
    assert found(reverted) == {("sender", "sender_not_authorized")}
    assert reverted.detail == "the contract reverted"
    node.rpc("anvil_setCode", CONTRACT, "0x")
    assert (await ask(node, sender=sender, authorization=ASK)).detail.startswith("there is no contract at the address")


async def test_a_provider_behind_by_a_hundred_blocks_is_told_and_is_a_ticket(node: Anvil, twin: Anvil) -> None:
    node.mine(100 + twin.block_number() - node.block_number())
    probed = await ask(node, twin, settled=10**6)
    assert found(probed) == {(label(twin), "provider_behind")}
    assert probed.outcome.severity == "ticket"
    assert probed.detail == f"{label(twin)}: 100 blocks behind, at {twin.block_number()}"


async def test_two_providers_with_different_blocks_at_one_height_disagree(node: Anvil, twin: Anvil) -> None:
    for each in (node, twin):
        each.send(each.accounts()[0], each.accounts()[1], wei=each.port)
    probed = await ask(node, twin, settled=0, max_lag=10**6)
    assert probed.verdict == ("failed", "providers_disagree")
    assert label(node) in probed.detail
    assert label(twin) in probed.detail


async def test_one_dead_provider_beside_a_live_one_is_a_ticket_and_both_dead_are_a_page(node: Anvil) -> None:
    with nobody() as port:
        dead = f"http://127.0.0.1:{port}/v3/0123456789abcdefKEY"
        one = await ask(dead, node)
        assert found(one) == {(f"127.0.0.1:{port}", "connection_refused")}
        assert one.outcome.severity == "ticket"
        both = await ask(dead, dead)
    assert both.verdict == ("failed", "connection_refused")
    assert both.outcome.severity == "page"
    assert {finding.component for finding in both.outcome.findings} == {f"127.0.0.1:{port}", f"127.0.0.1:{port}#2"}


async def test_a_provider_that_hangs_does_not_hide_the_one_that_answers(node: Anvil) -> None:
    with black_hole() as port:
        probed = await ask(f"http://127.0.0.1:{port}", node, timeout=1.0)
    assert found(probed) == {(f"127.0.0.1:{port}", "timeout")}
    assert probed.outcome.severity == "ticket"


async def test_a_wrong_chain_beside_a_right_one_stays_a_page(node: Anvil, other_chain: Anvil) -> None:
    probed = await ask(node, other_chain)
    assert probed.verdict == ("failed", "wrong_chain")
    assert probed.outcome.severity == "page"


@pytest.fixture(scope="session")
def other_chain(lent_servers: Lent) -> Anvil:
    return lent_servers.get(_Other)


class _Other(Anvil):
    def __init__(self) -> None:
        super().__init__(chain_id=4242)


async def test_a_provider_that_catches_up_is_syncing(node: Anvil) -> None:
    """anvil never syncs; what a node says meanwhile is put into its answer."""

    def rewrite(path: str, body: bytes) -> bytes:
        return body.replace(b'"result":false', b'"result":{"currentBlock":"0x1","highestBlock":"0x9"}')

    with tampering(node.url, rewrite) as url:
        assert (await ask(url)).verdict == ("failed", "syncing")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answering('{"error":"bad key"}', status="401 Unauthorized"), "unauthorized"),
        (answering("", status="429 Too Many Requests"), "rate_limited"),
        (answering("<html>", status="502 Bad Gateway"), "server_error"),
        (answering("<html>", content_type="text/html"), "unexpected_body"),
        (answering('{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"limit"}}'), "provider_error"),
        (answering('{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"limit"}}',
                   status="403 Forbidden"), "provider_error"),
        (answering("[]"), "unexpected_body"),
        (answering("7"), "unexpected_body"),
        (answering('[{"id":0,"jsonrpc":"2.0","result":"0x7a69"},{"id":1,"jsonrpc":"2.0","result":null},'
                   '{"id":2,"jsonrpc":"2.0","result":false}]'), "provider_error"),
        (answering('[{"id":0,"jsonrpc":"2.0","result":"seven"},{"id":1,"jsonrpc":"2.0","result":{"number":"0x1",'
                   '"timestamp":"0x1"}},{"id":2,"jsonrpc":"2.0","result":false}]'), "unexpected_body"),
    ],
)  # fmt: skip
async def test_what_no_node_answers_has_its_reason_and_never_shows_the_key(answer: Any, reason: str) -> None:
    async with serving(answer) as port:
        probed = await ask(f"http://127.0.0.1:{port}/v3/0123456789abcdefKEY?apikey=TOPSECRET")
    assert probed.verdict == ("failed", reason), probed.detail
    assert "KEY" not in str(probed.outcome)
    assert "TOPSECRET" not in str(probed.outcome) + str(probed.measurements)


async def test_a_provider_url_that_is_none_is_our_own_fault_and_is_not_shown() -> None:
    probed = await ask("wss://user:TOPSECRET@127.0.0.1/ws")
    assert probed.verdict == ("unknown", "credentials_missing")
    assert probed.detail == "provider 1 cannot be read or is no http:// or https:// URL"


async def test_calls_that_a_provider_takes_only_singly_can_be_asked_singly(node: Anvil) -> None:
    sender = node.accounts()[0]
    assert (await ask(node, batch=False, sender=sender)).verdict == ("ok", None)


# Anchors

QUERY = "SELECT anchor_tx_hash AS tx_hash, canonical_hash AS payload FROM certificates ORDER BY created_at DESC"


class Certificates:
    """A table of certificates, as the incident page has it."""

    def __init__(self, postgresql: PostgreSQL, database: str) -> None:
        self._postgresql, self._database = postgresql, database
        self.settings = {"dsn": postgresql.dsn(database), "query": QUERY}
        postgresql.execute(
            "CREATE TABLE certificates (anchor_tx_hash text, canonical_hash text, created_at timestamptz DEFAULT now())",
            database=database,
        )

    def add(self, tx_hash: str, payload: str) -> None:
        statement = f"INSERT INTO certificates VALUES ('{tx_hash}', '{payload}', clock_timestamp())"
        self._postgresql.execute(statement, database=self._database)


@pytest.fixture
def certificates(postgresql: PostgreSQL, database: str) -> Certificates:
    return Certificates(postgresql, database)


async def test_a_recorded_anchor_is_on_the_chain_with_its_payload(node: Anvil, certificates: Certificates) -> None:
    assert (await ask(node, anchor=certificates.settings)).verdict == ("ok", None), "none is recorded yet"
    payload = secrets.token_hex(32)
    sender = node.accounts()[0]
    certificates.add(node.send(sender, sender, data=f"0x1234{payload}"), payload)
    node.mine(2)
    probed = await ask(node, anchor={**certificates.settings, "confirmations": 3})
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.measured("tocsin_chain_anchor_confirmations") == 3
    few = await ask(node, anchor={**certificates.settings, "confirmations": 4})
    assert found(few) == {("anchor", "anchor_unconfirmed")}


async def test_an_anchor_with_another_payload_differs(node: Anvil, certificates: Certificates) -> None:
    sender = node.accounts()[0]
    certificates.add(node.send(sender, sender, data="0x1234"), secrets.token_hex(32))
    assert found(await ask(node, anchor=certificates.settings)) == {("anchor", "anchor_differs")}


async def test_an_anchor_that_the_chain_does_not_know_is_not_found(node: Anvil, certificates: Certificates) -> None:
    certificates.add("0x" + secrets.token_hex(32), "")
    assert found(await ask(node, anchor=certificates.settings)) == {("anchor", "anchor_not_found")}
    certificates.add("pending", "")
    assert found(await ask(node, anchor=certificates.settings)) == {("anchor", "anchor_not_found")}


async def test_an_anchor_that_waits_is_unconfirmed_and_one_that_failed_is_reverted(
    node: Anvil, certificates: Certificates
) -> None:
    sender = node.accounts()[0]
    node.rpc("anvil_setCode", CONTRACT, ALWAYS_REVERTS)
    node.set_mining()
    sent = {"from": sender, "to": CONTRACT, "gas": "0x186a0", "value": "0x0"}
    certificates.add(str(node.rpc("eth_sendTransaction", sent)), "")
    assert found(await ask(node, anchor=certificates.settings)) == {("anchor", "anchor_unconfirmed")}
    node.mine()
    assert found(await ask(node, anchor=certificates.settings)) == {("anchor", "anchor_reverted")}


async def test_an_anchor_query_that_does_not_run_is_unknown(node: Anvil, certificates: Certificates) -> None:
    broken = {**certificates.settings, "query": "SELECT anchor_tx FROM certificates"}
    assert found(await ask(node, anchor=broken)) == {("anchor", "query_error")}
    certificates.add("0x00", "")
    unnamed = {**certificates.settings, "query": "SELECT anchor_tx_hash FROM certificates"}
    assert (await ask(node, anchor=unnamed)).verdict == ("unknown", "query_error")
