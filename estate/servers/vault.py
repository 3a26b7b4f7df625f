"""Vault 1.13.1 with the transit engine: a real signer, sealed and unsealed at will.

Facts: Vault 1.13 documentation, "Transit secrets engine (API)", "/sys/init", "/sys/unseal", "/sys/health" (501 not
initialised, 503 sealed, 200 active).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, ClassVar

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.web import Answer, request


class Vault(Server):
    """Stores in files, is initialised at the first start and unsealed at each. `root_token` may do everything."""

    name: ClassVar[str] = "vault"

    def __init__(self) -> None:
        self._binary = ensure("vault") / "bin" / "vault"
        super().__init__()
        self.port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.root_token = ""
        self._unseal_key = ""

    def command(self) -> Sequence[str]:
        config = self.folder / "vault.json"
        config.write_text(
            json.dumps(
                {
                    "storage": {"file": {"path": str(self.folder / "data")}},
                    "listener": {"tcp": {"address": f"{LOOPBACK}:{self.port}", "tls_disable": True}},
                    "api_addr": self.url,
                    "cluster_addr": f"https://{LOOPBACK}:{reserve_port()}",
                    # Locking memory needs a capability, and there is nothing to protect.
                    "disable_mlock": True,
                    "ui": False,
                }
            )
        )
        return [str(self._binary), "server", f"-config={config}"]

    def ready(self) -> bool:
        status = self.health()
        if status == 501:
            made = self.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}).expect(200).json()
            self.root_token, self._unseal_key = made["root_token"], made["keys_base64"][0]
            self.unseal()
        elif status == 503 and self._unseal_key:
            self.unseal()
        if self.health() != 200:
            return False
        if "transit/" not in self.call("GET", "sys/mounts").expect(200).json():
            self.call("POST", "sys/mounts/transit", {"type": "transit"}).expect(204)
        return True

    def call(self, method: str, path: str, json: object = None, *, token: str | None = None) -> Answer:
        """One call below `/v1/`, with the root token unless told otherwise."""
        headers = {"X-Vault-Token": self.root_token if token is None else token}
        return request(method, f"{self.url}/v1/{path}", json=json, headers=headers)

    def health(self) -> int:
        """The status of `/v1/sys/health`."""
        return request("GET", f"{self.url}/v1/sys/health", timeout=2).status

    def seal(self) -> None:
        """Seal it: everything but health and unseal answers 503."""
        self.call("PUT", "sys/seal").expect(204)

    def unseal(self) -> None:
        """Undo `seal`."""
        self.call("PUT", "sys/unseal", {"key": self._unseal_key}).expect(200)

    def create_token(self, policy: str, *, name: str = "estate", ttl: str = "1h") -> str:
        """A token that may only do what a policy (HCL) says."""
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": policy}).expect(204)
        body = {"policies": [name], "no_default_policy": True, "ttl": ttl}
        return str(self.call("POST", "auth/token/create", body).expect(200).json()["auth"]["client_token"])

    def revoke_token(self, token: str) -> None:
        """End a token now."""
        self.call("POST", "auth/token/revoke", {"token": token}).expect(204)

    # The transit engine. Texts are bytes; Vault's own forms (`vault:v1:…`) are strings.

    def create_key(self, name: str, type: str = "aes256-gcm96") -> None:
        """Create a key: `aes256-gcm96`, `ecdsa-p256`, `ed25519`, `rsa-2048`, …"""
        self.call("POST", f"transit/keys/{name}", {"type": type}).expect(200, 204)

    def rotate_key(self, name: str) -> None:
        """Add a newer version of a key; older ones go on decrypting and verifying."""
        self.call("POST", f"transit/keys/{name}/rotate").expect(200, 204)

    def delete_key(self, name: str) -> None:
        """Destroy a key and all that was made with it."""
        self.call("POST", f"transit/keys/{name}/config", {"deletion_allowed": True}).expect(200, 204)
        self.call("DELETE", f"transit/keys/{name}").expect(204)

    def public_keys(self, name: str) -> dict[str, str]:
        """Version -> PEM (base64 for ed25519) of an asymmetric key."""
        keys = self._data("GET", f"transit/keys/{name}")["keys"]
        return {version: str(key["public_key"]) for version, key in keys.items()}

    def encrypt(self, name: str, plain: bytes) -> str:
        """The ciphertext."""
        return str(self._data("POST", f"transit/encrypt/{name}", {"plaintext": _b64(plain)})["ciphertext"])

    def decrypt(self, name: str, ciphertext: str) -> bytes:
        """The plain text. Raises UnexpectedAnswer for one that was tampered with."""
        return base64.b64decode(self._data("POST", f"transit/decrypt/{name}", {"ciphertext": ciphertext})["plaintext"])

    def hmac(self, name: str, message: bytes) -> str:
        """The message's HMAC."""
        return str(self._data("POST", f"transit/hmac/{name}", {"input": _b64(message)})["hmac"])

    def sign(self, name: str, message: bytes) -> str:
        """The message's signature."""
        return str(self._data("POST", f"transit/sign/{name}", {"input": _b64(message)})["signature"])

    def verify(self, name: str, message: bytes, *, signature: str | None = None, hmac: str | None = None) -> bool:
        """Whether a signature or an HMAC is the message's."""
        given = {"signature": signature} if hmac is None else {"hmac": hmac}
        return bool(self._data("POST", f"transit/verify/{name}", {"input": _b64(message), **given})["valid"])

    def _data(self, method: str, path: str, json: object = None) -> dict[str, Any]:
        data: dict[str, Any] = self.call(method, path, json).expect(200).json()["data"]
        return data


def _b64(plain: bytes) -> str:
    return base64.b64encode(plain).decode()
