"""Wipe's signer for decryption, HMACs and receipts: HashiCorp Vault's transit engine, with keys that can be lost and put
back. Vault 1.13 documentation, "Transit secrets engine (API)": Backup Key, Restore Key, Update Key Configuration."""

from __future__ import annotations

from pathlib import Path

from estate.servers.vault import Vault

DATA, MAC, RECEIPT = "wipe-data", "wipe-mac", "wipe-receipt"
KEYS = {DATA: "aes256-gcm96", MAC: "aes256-gcm96", RECEIPT: "ed25519"}
PLAINTEXT = "the known plaintext"
MODE = "remote"

_POLICY = """
path "auth/token/lookup-self" { capabilities = ["read"] }
path "transit/*" { capabilities = ["update"] }
path "kv/signer" { capabilities = ["read"] }
"""


class TransitSigner:
    """``token_file`` holds the credential that tocsin reads; ``audit_log`` is what Vault writes of each request."""

    def __init__(self) -> None:
        self.vault = Vault()

    def furnish(self, folder: Path) -> None:
        vault = self.vault
        self.audit_log = vault.folder / "audit.log"
        audit = {"type": "file", "options": {"file_path": str(self.audit_log)}}
        vault.call("PUT", "sys/audit/file", audit).expect(204)
        for name, kind in KEYS.items():
            vault.create_key(name, kind)
            config = {"exportable": True, "allow_plaintext_backup": True, "deletion_allowed": True}
            vault.call("POST", f"transit/keys/{name}/config", config).expect(200, 204)
        self.ciphertext = vault.encrypt(DATA, PLAINTEXT.encode())
        exported = vault.call("GET", f"transit/export/hmac-key/{MAC}").expect(200).json()
        self.hmac_key = str(exported["data"]["keys"]["1"])
        self.receipt_key = vault.public_keys(RECEIPT)["1"]
        self._kept = {
            name: vault.call("GET", f"transit/backup/{name}").expect(200).json()["data"]["backup"] for name in KEYS
        }
        vault.call("POST", "sys/mounts/kv", {"type": "kv"}).expect(204)
        self.set_mode(MODE)
        self.token_file = folder / "signer-token"
        self.give_token()

    def give_token(self) -> None:
        """A new credential, where tocsin reads it."""
        self.token_file.write_text(self.vault.create_token(_POLICY))

    def revoke_token(self) -> None:
        self.vault.revoke_token(self.token_file.read_text())

    def set_mode(self, mode: str) -> None:
        self.vault.call("PUT", "kv/signer", {"mode": mode}).expect(204)

    def replace(self, key: str) -> None:
        """Another key of the same name."""
        self.vault.delete_key(key)
        self.vault.create_key(key, KEYS[key])

    def disable(self, key: str) -> None:
        """What was made with its first version is not to be read any more."""
        self.vault.rotate_key(key)
        self.vault.call("POST", f"transit/keys/{key}/config", {"min_decryption_version": 2}).expect(200, 204)

    def restore(self, key: str) -> None:
        """The key as it was at first."""
        body = {"backup": self._kept[key], "force": True}
        self.vault.call("POST", f"transit/restore/{key}", body).expect(200, 204)
