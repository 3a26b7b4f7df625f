"""``signer`` against real ones, configured by nothing but YAML: Vault's transit engine, anvil, a PDF signing service."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from estate.ports import LOOPBACK, reserve_port
from estate.servers.anvil import Anvil
from estate.servers.pades_signer import PadesSigner
from estate.servers.tsa import TimestampAuthority
from estate.servers.vault import Vault
from tests.fixtures_estate import Lent
from tests.probing import Probed, RealClock, probe_once
from tests.tampering import tampering
from tocsin_probes.signer import Signer
from tocsin_probes.signer.ethereum import MAX_CHAIN_ID

pytestmark = pytest.mark.estate

VAULT = r"""
endpoint: {url}
headers: {{X-Vault-Token: {token}}}
auth:
  check:
    request: {{method: GET, path: /v1/auth/token/lookup-self}}
    expires: data.expire_time
  days: 0.01
errors:
  key_unknown: [encryption key not found]
  key_disabled: [is disallowed by policy]
  wrong_key: [message authentication failed]
  sealed: [Vault is sealed]
operations:
  decrypt:
    key_id: {prefix}-data
    request: {{path: '/v1/transit/decrypt/{{key_id}}', body: {{ciphertext: '{{ciphertext}}'}}}}
    response: {{extract: data.plaintext}}
    verify: {{ciphertext: '{ciphertext}', plaintext: the known plaintext}}
  hmac:
    key_id: {prefix}-mac
    request: {{path: '/v1/transit/hmac/{{key_id}}', body: {{input: '{{message}}'}}}}
    response: {{extract: data.hmac, pattern: 'vault:v\d+:(.+)'}}
  hmac_verify:
    key_id: {prefix}-mac
    request: {{path: '/v1/transit/verify/{{key_id}}', body: {{input: '{{message}}', hmac: '{{mac_text}}'}}}}
    response: {{extract: data.valid}}
    verify: {{wrong_key_id: {prefix}-data}}
  receipt_sign:
    key_id: '1'
    request: {{path: /v1/transit/sign/{prefix}-receipt, body: {{input: '{{message}}'}}}}
    response: {{extract: data.signature, pattern: 'vault:v\d+:(.+)'}}
    verify: {{public_keys: {{'1': {public_key}}}}}
"""
"""A transit engine. HashiCorp Vault 1.13 documentation, "Transit secrets engine (API)"."""

POLICY = """
path "auth/token/lookup-self" { capabilities = ["read"] }
path "transit/*" { capabilities = ["update"] }
"""


class Transit:
    """One test's keys, and the probe's settings for them."""

    def __init__(self, vault: Vault, prefix: str, ttl: str = "1h") -> None:
        self.vault, self.prefix = vault, prefix
        for name, kind in (("data", "aes256-gcm96"), ("mac", "aes256-gcm96"), ("receipt", "ed25519")):
            vault.create_key(f"{prefix}-{name}", kind)
        self.token = vault.create_token(POLICY, name=prefix, ttl=ttl)
        self.values = {
            "url": vault.url,
            "token": self.token,
            "prefix": prefix,
            "ciphertext": vault.encrypt(f"{prefix}-data", b"the known plaintext"),
            "public_key": vault.public_keys(f"{prefix}-receipt")["1"],
        }

    def key(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def settings(self, **changes: Any) -> dict[str, Any]:
        return {**yaml.safe_load(VAULT.format(**self.values)), **changes}

    async def ask(self, **changes: Any) -> Probed:
        return await ask(self.settings(**changes))


async def ask(settings: dict[str, Any], *, timeout: float = 5.0, ahead: float = 0.0) -> Probed:
    probe = Signer(Signer.Settings.model_validate(settings))
    return await probe_once(probe, timeout, clock=RealClock(ahead))


def found(probed: Probed) -> set[tuple[str, str]]:
    """Operation and reason of each finding."""
    return {(finding.component, finding.reason) for finding in probed.outcome.findings}


def changed(settings: dict[str, Any], operation: str, part: str, **changes: Any) -> dict[str, Any]:
    """The settings with something else in a part of an operation."""
    made: dict[str, Any] = json.loads(json.dumps(settings))
    made["operations"][operation][part].update(changes)
    return made


@pytest.fixture
def transit(vault: Vault, request: pytest.FixtureRequest) -> Transit:
    return Transit(vault, f"t{abs(hash(request.node.name)) % 10**8}")


async def test_vaults_transit_engine_does_and_proves_all_it_is_configured_for(transit: Transit) -> None:
    probed = await transit.ask()
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.detail == "decrypt, hmac, hmac_verify, receipt_sign: done and verified"
    for operation in ("decrypt", "hmac", "hmac_verify", "receipt_sign"):
        assert probed.measured("tocsin_signer_operation_ok", operation=operation) == 1
        assert probed.measured("tocsin_signer_operation_seconds", operation=operation) > 0
    ends = probed.measured("tocsin_signer_credential_expiry_timestamp_seconds", credential="token")
    assert 3500 < ends - time.time() <= 3600


@pytest.mark.parametrize("kind", ["ecdsa-p256", "rsa-2048"])
async def test_receipts_by_other_kinds_of_key_verify_too(transit: Transit, kind: str) -> None:
    transit.vault.create_key(transit.key(kind), kind)
    settings = transit.settings()
    settings = changed(settings, "receipt_sign", "request", path=f"/v1/transit/sign/{transit.key(kind)}")
    public_keys = transit.vault.public_keys(transit.key(kind))
    settings = changed(settings, "receipt_sign", "verify", public_keys=public_keys)
    probed = await ask(settings)
    assert probed.verdict == ("ok", None), probed.detail


async def test_decrypting_with_another_key_is_wrong_key(transit: Transit) -> None:
    settings = transit.settings()
    settings["operations"]["decrypt"]["key_id"] = transit.key("mac")
    probed = await ask(settings)
    assert found(probed) == {("decrypt", "wrong_key")}
    assert probed.measured("tocsin_signer_operation_ok", operation="decrypt") == 0
    assert probed.measured("tocsin_signer_operation_ok", operation="hmac") == 1


async def test_a_receipt_signed_with_a_key_version_that_is_not_the_right_one_is_wrong_key(transit: Transit) -> None:
    transit.vault.rotate_key(transit.key("receipt"))
    both = transit.vault.public_keys(transit.key("receipt"))
    assert set(both) == {"1", "2"}
    probed = await ask(changed(transit.settings(), "receipt_sign", "verify", public_keys=both))
    assert found(probed) == {("receipt_sign", "wrong_key")}
    assert probed.detail == "signed with the key 2, not 1"
    named = await ask(changed(transit.settings(), "receipt_sign", "response", key_id="to_string(data.key_version)"))
    assert found(named) == {("receipt_sign", "wrong_key")}, "told by the key id in the answer"


async def test_a_receipt_that_no_known_key_signed_is_invalid(transit: Transit) -> None:
    transit.vault.rotate_key(transit.key("receipt"))
    assert found(await transit.ask()) == {("receipt_sign", "signature_invalid")}


async def test_a_key_whose_use_policy_forbids_is_disabled(transit: Transit) -> None:
    transit.vault.rotate_key(transit.key("data"))
    config = {"min_decryption_version": 2}
    transit.vault.call("POST", f"transit/keys/{transit.key('data')}/config", config).expect(200, 204)
    assert found(await transit.ask()) == {("decrypt", "key_disabled")}


async def test_a_deleted_key_is_unknown_and_the_other_operations_go_on(transit: Transit) -> None:
    transit.vault.delete_key(transit.key("mac"))
    probed = await transit.ask()
    assert found(probed) == {("hmac", "key_unknown")}
    assert probed.measured("tocsin_signer_operation_ok", operation="receipt_sign") == 1


async def test_a_sealed_signer_is_told_from_a_stopped_and_a_frozen_one(transit: Transit) -> None:
    transit.vault.seal()
    sealed = await transit.ask()
    transit.vault.unseal()
    assert found(sealed) == {("auth", "sealed")}
    transit.vault.pause()
    frozen = await ask(transit.settings(), timeout=1.0)
    transit.vault.resume()
    assert frozen.verdict == ("failed", "timeout")
    transit.vault.kill()
    stopped = await transit.ask()
    assert stopped.verdict == ("failed", "connection_refused")
    assert (await transit.ask(auth={})).verdict == ("failed", "connection_refused")


async def test_an_ended_token_is_rejected_and_a_live_one_without_the_right_is_forbidden(transit: Transit) -> None:
    transit.vault.revoke_token(transit.token)
    ended = await transit.ask()
    assert ended.verdict == ("unknown", "credentials_rejected")
    assert found(ended) == {("auth", "credentials_rejected")}
    policy = POLICY.replace("transit/*", f"transit/decrypt/{transit.key('data')}")
    narrow = transit.vault.create_token(policy, name=transit.key("narrow"))
    forbidden = await transit.ask(headers={"X-Vault-Token": narrow})
    assert forbidden.verdict == ("failed", "forbidden")
    assert found(forbidden) == {("hmac", "forbidden"), ("receipt_sign", "forbidden")}


async def test_the_platforms_own_credentials_refused_is_the_signers_failure(transit: Transit) -> None:
    transit.vault.revoke_token(transit.token)
    auth = {**transit.settings()["auth"], "platform_credentials": True}
    assert (await transit.ask(auth=auth)).verdict == ("failed", "unauthorized")


async def test_a_token_that_ends_soon_is_a_ticket_beforehand(transit: Transit) -> None:
    auth = {**transit.settings()["auth"], "days": 1}
    probed = await transit.ask(auth=auth)
    assert found(probed) == {("token", "certificate_expiring")}
    assert probed.outcome.severity == "ticket"
    assert probed.measured("tocsin_signer_operation_ok", operation="decrypt") == 1


async def test_another_plaintext_than_the_known_one_is_wrong(transit: Transit) -> None:
    ciphertext = transit.vault.encrypt(transit.key("data"), b"something else")
    probed = await ask(changed(transit.settings(), "decrypt", "verify", ciphertext=ciphertext))
    assert found(probed) == {("decrypt", "wrong_plaintext")}
    assert "something else" not in probed.detail
    assert probed.detail == "14 bytes that are not the known plaintext"


def _flip(text: str) -> str:
    head, _, tail = text.rpartition(":")
    data = bytearray(base64.b64decode(tail))
    data[-1] ^= 1
    return f"{head}:{base64.b64encode(data).decode()}" if head else base64.b64encode(data).decode()


def _changing(field: str, change: Callable[[Any], Any]) -> Callable[[str, bytes], bytes]:
    def rewrite(path: str, body: bytes) -> bytes:
        document = json.loads(body)
        if field in (document.get("data") or {}):
            document["data"][field] = change(document["data"][field])
        return json.dumps(document).encode()

    return rewrite


@pytest.mark.parametrize(
    ("field", "change", "expected"),
    [
        ("plaintext", _flip, {("decrypt", "wrong_plaintext")}),
        ("hmac", _flip, {("hmac_verify", "hmac_mismatch")}),
        ("signature", _flip, {("receipt_sign", "signature_invalid")}),
        ("valid", lambda _: True, {("hmac_verify", "tampered_accepted")}),
        ("valid", lambda _: False, {("hmac_verify", "hmac_mismatch")}),
        ("valid", lambda _: None, {("hmac_verify", "unexpected_body")}),
        ("plaintext", lambda _: None, {("decrypt", "unexpected_body")}),
        ("signature", lambda _: "vault:v1:????", {("receipt_sign", "unexpected_body")}),
        ("signature", lambda _: "no prefix", {("receipt_sign", "unexpected_body")}),
    ],
)  # fmt: skip
async def test_a_tampered_answer_is_told_by_its_operation(
    transit: Transit, field: str, change: Callable[[Any], Any], expected: set[tuple[str, str]]
) -> None:
    with tampering(transit.vault.url, _changing(field, change)) as endpoint:
        probed = await transit.ask(endpoint=endpoint)
    assert found(probed) == expected, probed.detail


async def test_a_verifier_that_takes_any_key_id_is_found_out(transit: Transit) -> None:
    """Its answer says yes although it was asked with another key."""

    def rewrite(path: str, body: bytes) -> bytes:
        return b'{"data": {"valid": true}}' if path.endswith(f"verify/{transit.key('receipt')}") else body

    settings = changed(transit.settings(), "hmac_verify", "verify", wrong_key_id=transit.key("receipt"))
    assert (await ask(settings)).verdict == ("ok", None)
    # The status of a refusal stays 400: the verifier must accept by it, too.
    settings = changed(settings, "hmac_verify", "response", status=[200, 400])
    with tampering(transit.vault.url, rewrite) as endpoint:
        probed = await ask({**settings, "endpoint": endpoint})
    assert found(probed) == {("hmac_verify", "tampered_accepted")}
    assert probed.detail == "accepts the wrong key id"


async def test_a_shared_key_proves_the_hmac_without_the_verifier(transit: Transit) -> None:
    config = f"transit/keys/{transit.key('mac')}/config"
    transit.vault.call("POST", config, {"exportable": True}).expect(200, 204)
    exported = transit.vault.call("GET", f"transit/export/hmac-key/{transit.key('mac')}").expect(200).json()
    key = exported["data"]["keys"]["1"]
    settings = transit.settings()
    del settings["operations"]["hmac_verify"]
    settings["operations"]["hmac"]["verify"] = {"key": key, "key_encoding": "base64"}
    assert (await ask(settings)).verdict == ("ok", None)
    settings["operations"]["hmac"]["verify"]["key"] = base64.b64encode(b"another").decode()
    assert found(await ask(settings)) == {("hmac", "hmac_mismatch")}


async def test_an_hmac_that_was_written_down_proves_the_key_that_is_not_shared(transit: Transit) -> None:
    written = transit.vault.hmac(transit.key("mac"), b"a fixed message").rpartition(":")[2]
    settings = transit.settings()
    del settings["operations"]["hmac_verify"]
    settings["operations"]["hmac"]["verify"] = {"message": "a fixed message", "expected": written}
    assert (await ask(settings)).verdict == ("ok", None)
    transit.vault.rotate_key(transit.key("mac"))
    assert found(await ask(settings)) == {("hmac", "hmac_mismatch")}


async def test_an_operation_slower_than_the_platforms_timeout_is_too_slow(transit: Transit) -> None:
    def rewrite(path: str, body: bytes) -> bytes:
        time.sleep(0.3 if "/sign/" in path else 0)
        return body

    with tampering(transit.vault.url, rewrite) as endpoint:
        probed = await transit.ask(endpoint=endpoint, platform={"timeout": "250ms"})
    assert found(probed) == {("receipt_sign", "too_slow")}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"extract": "version"}, {("mode", "mode_mismatch")}),
        ({"extract": "to_string(sealed)"}, set()),
    ],
)
async def test_the_mode_that_the_signer_says_must_be_the_expected_one(
    transit: Transit, settings: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    mode = {"request": {"method": "GET", "path": "/v1/sys/health"}, **settings}
    assert found(await transit.ask(mode=mode, expected_mode="false")) == expected


# anvil: eth_signTransaction

TX = """
endpoint: {url}
errors:
  key_unknown: [No Signer available]
operations:
  tx_sign:
    request:
      path: /
      body:
        jsonrpc: '2.0'
        id: 1
        method: eth_signTransaction
        params:
          - from: '{asked}'
            to: '0x0000000000000000000000000000000000000000'
            value: '{value}'
            gas: '0x5208'
            nonce: '{{nonce}}'
            chainId: '{chain_id}'
            {fees}
    response: {{extract: result, encoding: hex}}
    verify: {{address: '{address}'}}
"""


@pytest.fixture(scope="session")
def signing_node(lent_servers: Lent) -> Anvil:
    return lent_servers.get(_SigningNode)


class _SigningNode(Anvil):
    """A node of a chain that cannot be: it only signs."""

    def __init__(self) -> None:
        super().__init__(chain_id=MAX_CHAIN_ID)


def transfer(node: Anvil, **changes: str) -> dict[str, Any]:
    values = {
        "url": node.url,
        "asked": "{address}",
        "address": node.accounts()[0],
        "value": "0x0",
        "chain_id": "{chain_id}",
        "fees": "gasPrice: '0x0'",
        **changes,
    }
    made: dict[str, Any] = yaml.safe_load(TX.format(**values))
    return made


@pytest.mark.parametrize("fees", ["gasPrice: '0x0'", "{maxFeePerGas: '0x0', maxPriorityFeePerGas: '0x0'}"])
async def test_a_transaction_of_nothing_for_no_chain_is_signed_by_the_right_address(
    signing_node: Anvil, fees: str
) -> None:
    settings = transfer(signing_node)
    if fees.startswith("{"):
        sent = settings["operations"]["tx_sign"]["request"]["body"]["params"][0]
        del sent["gasPrice"]
        sent.update(yaml.safe_load(fees))
    probed = await ask(settings)
    assert probed.verdict == ("ok", None), probed.detail
    assert signing_node.block_number() == 0, "nothing was sent"


async def test_another_address_that_signs_is_wrong_key(signing_node: Anvil) -> None:
    other = signing_node.accounts()[1]
    probed = await ask(transfer(signing_node, asked=other))
    assert found(probed) == {("tx_sign", "wrong_key")}
    assert other in probed.detail


async def test_an_address_whose_key_the_node_does_not_hold_is_key_unknown(signing_node: Anvil) -> None:
    probed = await ask(transfer(signing_node, address="0x" + "11" * 20))
    assert found(probed) == {("tx_sign", "key_unknown")}


async def test_a_signed_transaction_that_moves_value_or_names_a_chain_is_not_what_was_asked_for(
    signing_node: Anvil, anvil: Anvil
) -> None:
    assert found(await ask(transfer(signing_node, value="0x1"))) == {("tx_sign", "other_content")}
    real = await ask(transfer(anvil, chain_id="0x7a69"))
    assert found(real) == {("tx_sign", "other_content")}
    assert "chain id 31337" in real.detail


async def test_a_signature_with_a_changed_bit_is_not_the_addresss(signing_node: Anvil) -> None:
    def rewrite(path: str, body: bytes) -> bytes:
        document = json.loads(body)
        signed = document["result"]
        document["result"] = signed[:-1] + ("0" if signed[-1] != "0" else "1")
        return json.dumps(document).encode()

    with tampering(signing_node.url, rewrite) as endpoint:
        probed = await ask(transfer(signing_node, url=endpoint))
    assert found(probed) <= {("tx_sign", "wrong_key"), ("tx_sign", "signature_invalid")}
    assert probed.outcome.status == "failed"


# PAdES

PDF = """
endpoint: {url}
operations:
  pades_sign:
    request: {{path: /sign, body: '{{document:raw}}', headers: {{Content-Type: application/pdf}}}}
    verify: {{trust_file: '{trust}', timestamp: true, timestamp_trust_file: '{stamps}'}}
"""


@pytest.fixture(scope="session")
def pdf_signer(lent_servers: Lent, tsa: TimestampAuthority) -> PadesSigner:
    return lent_servers.get(PadesSigner, lambda: PadesSigner(tsa.url))


@pytest.fixture
def pades(pdf_signer: PadesSigner, tsa: TimestampAuthority, tmp_path: Path) -> tuple[PadesSigner, dict[str, Any]]:
    signer = pdf_signer
    signer.set_fault("")
    stamps = tmp_path / "tsa.pem"
    stamps.write_bytes(tsa.certificate_chain())
    return signer, yaml.safe_load(PDF.format(url=signer.url, trust=signer.trust_file, stamps=stamps))


PATIENCE = 30.0


async def test_a_signed_pdf_is_whole_trusted_and_timestamped(pades: tuple[PadesSigner, dict[str, Any]]) -> None:
    _, settings = pades
    probed = await ask(settings, timeout=PATIENCE)
    assert probed.verdict == ("ok", None), probed.detail
    ends = probed.measured("tocsin_signer_credential_expiry_timestamp_seconds", credential="signing_certificate")
    assert 364 < (ends - time.time()) / 86400 < 366
    assert probed.attachments == ()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("unsigned", {"signature_missing"}),
        ("appended", {"signature_partial", "other_content"}),
        ("short_range", {"signature_partial", "timestamp_missing"}),
        ("altered", {"signature_invalid"}),
        ("untrusted", {"certificate_not_trusted"}),
        ("expired", {"certificate_expired"}),
        ("no_timestamp", {"timestamp_missing"}),
        ("bad_timestamp", {"timestamp_invalid"}),
        ("html", {"unexpected_body"}),
    ],
)
async def test_each_way_to_sign_wrongly_has_its_reason(
    pades: tuple[PadesSigner, dict[str, Any]], fault: str, expected: set[str]
) -> None:
    signer, settings = pades
    signer.set_fault(fault)
    probed = await ask(settings, timeout=PATIENCE)
    assert {finding.reason for finding in probed.outcome.findings} == expected, probed.detail
    assert {finding.component for finding in probed.outcome.findings} == {"pades_sign"}


async def test_a_pdf_that_was_signed_earlier_is_other_content(pades: tuple[PadesSigner, dict[str, Any]]) -> None:
    signer, settings = pades
    assert (await ask(settings, timeout=PATIENCE)).verdict == ("ok", None)
    signer.set_fault("replayed")
    probed = await ask(settings, timeout=PATIENCE)
    assert found(probed) == {("pades_sign", "other_content")}
    assert [attachment.name for attachment in probed.attachments] == ["signed.pdf"]


async def test_a_timestamp_by_an_authority_that_is_not_trusted_is_told(
    pades: tuple[PadesSigner, dict[str, Any]],
) -> None:
    signer, settings = pades
    settings = changed(settings, "pades_sign", "verify", timestamp_trust_file=str(signer.trust_file))
    probed = await ask(settings, timeout=PATIENCE)
    assert found(probed) == {("pades_sign", "certificate_not_trusted")}
    assert probed.detail.startswith("timestamp by ")


async def test_a_trusted_certificate_that_is_not_the_pinned_one_is_wrong_key(
    pades: tuple[PadesSigner, dict[str, Any]],
) -> None:
    _, settings = pades
    settings = changed(settings, "pades_sign", "verify", certificate_sha256="00" * 32)
    assert found(await ask(settings, timeout=PATIENCE)) == {("pades_sign", "wrong_key")}


async def test_a_signing_certificate_that_ends_soon_is_a_ticket(pades: tuple[PadesSigner, dict[str, Any]]) -> None:
    _, settings = pades
    probed = await ask({**settings, "auth": {"days": 400}}, timeout=PATIENCE)
    assert found(probed) == {("pades_sign", "certificate_expiring")}
    assert probed.measured("tocsin_signer_operation_ok", operation="pades_sign") == 1


async def test_a_platform_with_a_timestamp_authority_demands_a_timestamp(
    pades: tuple[PadesSigner, dict[str, Any]],
) -> None:
    signer, settings = pades
    settings = changed(settings, "pades_sign", "verify", timestamp=False)
    signer.set_fault("no_timestamp")
    assert (await ask(settings, timeout=PATIENCE)).verdict == ("ok", None)
    platform = {"tsa_url": f"http://{LOOPBACK}:{reserve_port()}"}
    probed = await ask({**settings, "platform": platform}, timeout=PATIENCE)
    assert found(probed) == {("pades_sign", "timestamp_missing")}
