"""`license_blob`: signatures that are right, wrong, foreign or none, in each encoding."""

from __future__ import annotations

import base64
import json
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey
from pydantic import ValidationError

from tests.probing import Probed, RealClock, probe_once
from tests.unit.probes.lying_servers import answering, serving, silence
from tocsin_probes.license_blob import LicenseBlob

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def public(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


TRUSTED = {"k1": public(KEY)}


def claims(days: float = 100, **instead: Any) -> dict[str, Any]:
    ends = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {"kid": "k1", "tier": "enterprise", "seat_count": 100, "tenant_count": 10, "expires_at": ends} | instead
    return {name: value for name, value in document.items() if value is not ...}


def jwt(document: dict[str, Any], key: Ed25519PrivateKey = KEY, **header: Any) -> str:
    """Made by another implementation than the one that reads it."""
    signer = OKPKey.import_key(
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": public(key),
            "d": base64.urlsafe_b64encode(key.private_bytes_raw()).rstrip(b"=").decode(),
        }
    )
    fields = {"alg": "EdDSA", "kid": "k1"} | header
    given = {name: value for name, value in fields.items() if value is not ...}
    with warnings.catch_warnings():
        # RFC 9864 has a new name for it; platforms use the old one.
        warnings.simplefilter("ignore", SecurityWarning)
        return str(jws.serialize_compact(given, json.dumps(document), signer, algorithms=["EdDSA", "Ed25519"]))


def raw(document: dict[str, Any], key: Ed25519PrivateKey = KEY, *, first: bool = False) -> bytes:
    payload = json.dumps(document).encode()
    return key.sign(payload) + payload if first else payload + key.sign(payload)


async def judge(blob: str | bytes, path: Path, *, days_later: float = 0, **settings: Any) -> Probed:
    file = path / "alexandria-ee.lic"
    file.write_bytes(blob.encode() if isinstance(blob, str) else blob)
    given = {"source": {"file": str(file)}, "encoding": "jwt", "trusted_keys": TRUSTED, **settings}
    probe = LicenseBlob(LicenseBlob.Settings.model_validate({k: v for k, v in given.items() if v is not ...}))
    return await probe_once(probe, clock=RealClock(days_later * 86_400))


ENCODED = {
    "jwt": jwt,
    "payload_signature": raw,
    "signature_payload": lambda document, key: raw(document, key, first=True),
}


@pytest.mark.parametrize("encoding", ENCODED)
async def test_a_genuine_licence_is_ok_in_each_encoding_until_it_ends(encoding: str, tmp_path: Path) -> None:
    blob = ENCODED[encoding](claims(), KEY)
    probed = await judge(blob, tmp_path, encoding=encoding)
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.detail.startswith("signed by k1, until 20")
    assert probed.measured("tocsin_license_blob_expiry_timestamp_seconds") > 0
    assert (await judge(blob, tmp_path, encoding=encoding, days_later=101)).verdict == ("failed", "expired")


@pytest.mark.parametrize("encoding", ENCODED)
async def test_a_forged_a_foreign_and_a_cut_licence_are_told_apart(encoding: str, tmp_path: Path) -> None:
    async def verdict(blob: str | bytes) -> tuple[str, str | None]:
        return (await judge(blob, tmp_path, encoding=encoding)).verdict

    make = ENCODED[encoding]
    assert await verdict(make(claims(), OTHER)) == ("failed", "signature_invalid")
    if encoding == "jwt":
        assert await verdict(jwt(claims(), kid="k2")) == ("failed", "untrusted_kid")
    else:
        assert await verdict(make(claims(kid="k2"), KEY)) == ("failed", "untrusted_kid")
    assert await verdict(make(claims(), KEY)[:40]) == ("failed", "malformed")
    assert await verdict("") == ("failed", "missing")
    assert await verdict("x" * 70_000) == ("failed", "malformed")


async def test_changed_claims_do_not_verify(tmp_path: Path) -> None:
    header, payload, signature = jwt(claims()).split(".")
    more = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"seat_count": 10_000}
    forged = base64.urlsafe_b64encode(json.dumps(more).encode()).rstrip(b"=").decode()
    assert (await judge(f"{header}.{forged}.{signature}", tmp_path)).verdict == ("failed", "signature_invalid")


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "EdDSA", "crit": ["x"], "x": 1}, []])
async def test_only_eddsa_without_extensions_is_taken(header: Any, tmp_path: Path) -> None:
    first = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    _, payload, signature = jwt(claims()).split(".")
    for blob in (f"{first}.{payload}.{signature}", f"{first}.{payload}."):
        assert (await judge(blob, tmp_path)).verdict == ("failed", "malformed")


async def test_a_licence_that_names_no_key_is_tried_with_all(tmp_path: Path) -> None:
    keys = {"old": public(OTHER), "new": public(KEY)}
    probed = await judge(jwt(claims(), kid=...), tmp_path, trusted_keys=keys)
    assert probed.verdict == ("ok", None)
    probed = await judge(jwt(claims(), kid=...), tmp_path, trusted_keys={"old": public(OTHER)})
    assert probed.verdict == ("failed", "signature_invalid")


async def test_base64_wrapped_around_a_binary_licence_is_taken_off(tmp_path: Path) -> None:
    blob = base64.encodebytes(raw(claims()))
    settings = {"encoding": "payload_signature", "armor": "base64"}
    assert (await judge(blob, tmp_path, **settings)).verdict == ("ok", None)
    assert (await judge("!" + blob.decode(), tmp_path, **settings)).verdict == ("failed", "malformed")


async def test_what_is_not_published_is_asked_for_and_not_guessed(tmp_path: Path) -> None:
    probed = await judge(jwt(claims()), tmp_path, encoding=None, trusted_keys={})
    assert (probed.verdict, probed.detail) == (("unknown", "contract_missing"), "set encoding and trusted_keys")
    assert (await judge(jwt(claims()), tmp_path, trusted_keys={})).detail == "set trusted_keys"


async def test_no_byte_of_the_licence_is_in_what_is_said(tmp_path: Path) -> None:
    for blob in (jwt(claims(), OTHER), jwt(claims())[:-4], "supersecretlicence"):
        probed = await judge(blob, tmp_path)
        assert blob[:12] not in probed.detail
        assert not probed.attachments


async def test_the_installed_licence_is_compared_with_the_one_that_runs(tmp_path: Path) -> None:
    async def against(runs: object, status: str = "200 OK") -> Probed:
        async with serving(answering(json.dumps(runs), status=status)) as port:
            return await judge(jwt(claims()), tmp_path, running={"url": f"http://127.0.0.1:{port}/license"})

    same = {"tier": "enterprise", "max_seats": 100, "max_tenants": 10, "expires_at": claims()["expires_at"]}
    assert (await against(same)).verdict == ("ok", None)
    probed = await against({})
    assert probed.verdict == ("unknown", "contract_missing")
    assert "`tier` finds nothing in what runs: set running.tier" in probed.detail
    probed = await against(same | {"max_seats": 50, "expires_at": claims(3)["expires_at"]})
    assert probed.verdict == ("failed", "differs_from_running")
    assert probed.detail.startswith("seats: installed '100', running '50'; installed until ")
    assert (await against(same, "503")).verdict == ("unknown", "dependency_unknown")
    probed = await judge(jwt(claims()), tmp_path, running={"url": "http://127.0.0.1:1/license"})
    assert probed.verdict == ("unknown", "dependency_unknown")
    async with serving(silence) as port:
        settings = {"encoding": "jwt", "trusted_keys": TRUSTED, "running": {"url": f"http://127.0.0.1:{port}/license"}}
        (tmp_path / "licence").write_text(jwt(claims()))
        probe = LicenseBlob(
            LicenseBlob.Settings.model_validate({"source": {"file": str(tmp_path / "licence")}, **settings})
        )
        probed = await probe_once(probe, 0.5)
    assert probed.verdict == ("unknown", "dependency_unknown"), "one that is silent does not hide that the rest is well"


async def test_a_licence_with_other_names_is_a_missing_contract_and_not_one_without_an_end(tmp_path: Path) -> None:
    other = {"exp_date": claims()["expires_at"], "plan": "enterprise", "seats": 100, "tenants": 10}
    probed = await judge(jwt(other), tmp_path)
    assert probed.verdict == ("unknown", "contract_missing")
    assert probed.detail == (
        "`expires_at || exp` finds nothing in the licence: set claims.expires_at, to nothing when there is none"
    )
    assert (await judge(jwt(other), tmp_path, claims={"expires_at": "exp_date"})).verdict == ("ok", None)
    probed = await judge(jwt(other), tmp_path, claims={"expires_at": ""})
    assert (probed.verdict, probed.detail) == (("ok", None), "signed by k1, without an end")
    runs = {"tier": "starter", "max_seats": 5, "max_tenants": 1, "expires_at": claims(3)["expires_at"]}
    async with serving(answering(json.dumps(runs))) as port:
        running = {"url": f"http://127.0.0.1:{port}/license"}
        probed = await judge(jwt(other), tmp_path, running=running)
        assert probed.verdict == ("unknown", "contract_missing")
        assert {each.component for each in probed.outcome.findings} == {"expires_at", "tier", "seats", "tenants"}
        named = {"expires_at": "exp_date", "tier": "plan", "seats": "seats", "tenants": "tenants"}
        assert (await judge(jwt(other), tmp_path, running=running, claims=named)).verdict == (
            "failed", "differs_from_running",
        )  # fmt: skip


async def test_entitlements_are_compared_whatever_their_order(tmp_path: Path) -> None:
    async def against(*entitlements: str) -> Probed:
        runs = {"expires_at": claims()["expires_at"], "tier": "enterprise", "entitlements": entitlements}
        async with serving(answering(json.dumps(runs))) as port:
            running = {"url": f"http://127.0.0.1:{port}/", "seats": "", "tenants": "", "entitlements": "entitlements"}
            blob = jwt(claims(entitlements=["oidc", "scim"]))
            return await judge(blob, tmp_path, running=running, claims={"entitlements": "entitlements"})

    assert (await against("scim", "oidc")).verdict == ("ok", None)
    probed = await against("scim")
    assert probed.verdict == ("failed", "differs_from_running")
    assert probed.detail.startswith("entitlements: installed ")


def test_keys_are_taken_as_pem_and_in_base64_and_as_a_list() -> None:
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    der = base64.b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    for key in (pem, der, TRUSTED["k1"], TRUSTED["k1"] + "="):
        for given in ({"k1": key}, [{"kid": "k1", "key": key}]):
            settings = {"source": {"file": "x"}, "trusted_keys": given}
            assert LicenseBlob.Settings.model_validate(settings).trusted_keys == {"k1": key}
    for key in ("", "short", "x" * 43 + "!", public(KEY)[:-2]):
        with pytest.raises(ValidationError, match="not an Ed25519 public key"):
            LicenseBlob.Settings.model_validate({"source": {"file": "x"}, "trusted_keys": {"k1": key}})


@pytest.mark.parametrize("source", [{}, {"file": "a", "secret": "b"}, {"value": "a", "file": "b"}])
def test_exactly_one_source_is_taken(source: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="set exactly one of: value, file, secret"):
        LicenseBlob.Settings.model_validate({"source": source})
