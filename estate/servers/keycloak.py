"""Keycloak 26.4, production mode: realms, clients, users and signing keys through its admin REST API.

Facts: Keycloak Server Guide ("Configuring Keycloak", "All configuration", "Tracking instance status with health
checks") and the Keycloak Admin REST API of 26.4.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from estate.install import KEYCLOAK_ADMIN, ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.servers.postgresql import PostgreSQL
from estate.web import Answer, UnexpectedAnswer, answers, request

# The access token of admin-cli lasts a minute.
_TOKEN_KEPT = 30.0

# Short-lived server of classes that are known: a quick start counts for more than peak speed and a second look.
_JVM = "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC"
_JVM += " -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"

CHEAP_PASSWORDS = "hashAlgorithm(pbkdf2-sha256) and hashIterations(1)"
"""A password policy for realms whose users log in every few seconds: the usual cost would be all that two cores do."""


@dataclass(frozen=True)
class Key:
    """A key of a realm, as its admin sees it."""

    kid: str
    status: str
    """ACTIVE (signs), PASSIVE (only verifies) or DISABLED."""
    algorithm: str
    use: str
    """SIG or ENC."""
    type: str
    provider_id: str


_KEY_PROVIDER = "org.keycloak.keys.KeyProvider"


def _private_key() -> str:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _key_provider(provider: str, algorithm: str = "", *, priority: int = 100, **config: str) -> dict[str, Any]:
    """A ComponentRepresentation of an active key."""
    made = {"priority": str(priority), "enabled": "true", "active": "true", **config}
    if algorithm:
        made["algorithm"] = algorithm
    return {
        "name": f"{provider}-{priority}",
        "providerId": provider,
        "config": {name: [value] for name, value in made.items()},
    }


class Keycloak(Server):
    """One node. With `database`, a fresh database in that PostgreSQL; without, an embedded one that starts quicker.

    `hostname` fixes the public URL (`http://…`); without, the request's Host header makes it.
    """

    name: ClassVar[str] = "keycloak"
    start_patience: ClassVar[float] = 180.0

    def __init__(
        self,
        *,
        database: PostgreSQL | None = None,
        database_name: str = "keycloak",
        hostname: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._home = ensure("keycloak")
        super().__init__()
        self.port = reserve_port()
        self.management_port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.management_url = f"http://{LOOPBACK}:{self.management_port}"
        self.admin_user, self.admin_password = KEYCLOAK_ADMIN
        self.database_name = database_name
        self._database = database
        self._hostname = hostname
        self._options = list(options)
        self._token: tuple[str, float] | None = None

    def prepare(self) -> None:
        self._token = None
        home = self.folder / "home"
        if home.exists():
            return
        # Keycloak writes into its home, so each server gets one of its own around the big read-only parts. kc.sh finds
        # its home by its own resolved path: it must be a copy.
        built = self._home / ("file" if self._database is None else "postgres")
        home.mkdir()
        shutil.copytree(built / "bin", home / "bin", ignore=shutil.ignore_patterns("client", "*.bat"))
        shutil.copytree(built / "conf", home / "conf")
        for part in ("lib", "providers", "themes"):
            (home / part).symlink_to(built / part)
        if self._database is None:
            shutil.copytree(self._home / "seed", home / "data" / "h2")
        else:
            (home / "data").mkdir()
            self._database.create_database(self.database_name)

    def environment(self) -> Mapping[str, str]:
        made = {"JAVA_OPTS_APPEND": _JVM}
        if self._database is not None:
            made |= {
                "KC_DB_URL": f"jdbc:postgresql://{LOOPBACK}:{self._database.port}/{self.database_name}",
                "KC_DB_USERNAME": "postgres",
                "KC_DB_PASSWORD": self._database.password,
                "KC_BOOTSTRAP_ADMIN_USERNAME": self.admin_user,
                "KC_BOOTSTRAP_ADMIN_PASSWORD": self.admin_password,
            }
        return made

    def command(self) -> Sequence[str]:
        return [
            str(self.folder / "home" / "bin" / "kc.sh"),
            "start",
            "--optimized",
            "--cache=local",
            "--http-enabled=true",
            f"--http-host={LOOPBACK}",
            f"--http-port={self.port}",
            f"--http-management-port={self.management_port}",
            *([f"--hostname={self._hostname}"] if self._hostname else ["--hostname-strict=false"]),
            *self._options,
        ]

    def ready(self) -> bool:
        return answers(f"{self.management_url}/health/ready")

    # Addresses

    def issuer(self, realm: str) -> str:
        """The issuer of a realm that has no frontend URL of its own."""
        return f"{self._hostname or self.url}/realms/{quote(realm)}"

    def discovery_url(self, realm: str) -> str:
        """The OpenID Provider configuration document."""
        return f"{self.url}/realms/{quote(realm)}/.well-known/openid-configuration"

    def token_url(self, realm: str) -> str:
        """The token endpoint."""
        return f"{self.url}/realms/{quote(realm)}/protocol/openid-connect/token"

    # The admin API

    def admin(self, method: str, path: str, json: object = None) -> Answer:
        """One call below `/admin/realms`; `path` is empty or begins with a slash. Anything but 2xx is raised."""
        answer = request(
            method,
            f"{self.url}/admin/realms{path}",
            json=json,
            headers={"Authorization": f"Bearer {self.admin_token()}"},
            timeout=30,
        )
        return answer.expect()

    def admin_token(self) -> str:
        """An access token of the administrator."""
        if self._token is None or time.monotonic() - self._token[1] > _TOKEN_KEPT:
            answer = self.token(
                "master", client_id="admin-cli", username=self.admin_user, password=self.admin_password
            ).expect(200)
            self._token = (str(answer.json()["access_token"]), time.monotonic())
        return self._token[0]

    def token(
        self,
        realm: str,
        *,
        client_id: str,
        client_secret: str | None = None,
        username: str | None = None,
        password: str | None = None,
        scope: str | None = None,
    ) -> Answer:
        """Ask for a token: password grant with a username, else client credentials. The answer may be a refusal."""
        form = {"client_id": client_id, "grant_type": "client_credentials" if username is None else "password"}
        optional = {"client_secret": client_secret, "username": username, "password": password, "scope": scope}
        form |= {name: value for name, value in optional.items() if value is not None}
        return request("POST", self.token_url(realm), form=form, timeout=30)

    # Realms

    def create_realm(self, realm: str, **settings: Any) -> None:
        """Create an enabled realm; `settings` are fields of RealmRepresentation, such as `accessTokenLifespan`.

        Unless they say otherwise its passwords are cheap to hash, and its RSA keys are brought along: to make them
        takes a Java machine that compiles only quickly seconds.
        """
        keys = [
            _key_provider("rsa", "RS256", privateKey=_private_key()),
            _key_provider("rsa-enc", "RSA-OAEP", privateKey=_private_key()),
            _key_provider("hmac-generated", "HS512"),
            _key_provider("aes-generated"),
        ]
        usual = {
            "enabled": True,
            "sslRequired": "none",
            "passwordPolicy": CHEAP_PASSWORDS,
            "components": {_KEY_PROVIDER: keys},
        }
        self.admin("POST", "", {"realm": realm, **usual, **settings})

    def delete_realm(self, realm: str) -> None:
        """Delete a realm with all that is in it."""
        self.admin("DELETE", f"/{quote(realm)}")

    def realm(self, realm: str) -> dict[str, Any]:
        """The realm's RealmRepresentation."""
        return dict(self.admin("GET", f"/{quote(realm)}").json())

    def update_realm(self, realm: str, **settings: Any) -> None:
        """Change fields of a realm; `attributes` is merged with those that are there."""
        if "attributes" in settings:
            settings["attributes"] = self.realm(realm)["attributes"] | settings["attributes"]
        self.admin("PUT", f"/{quote(realm)}", settings)

    def set_enabled(self, realm: str, enabled: bool) -> None:
        """Enable or disable a realm.

        A disabled one still answers 200 for discovery and JWKS; only its token endpoint says 403 `access_denied`,
        "Realm not enabled" (seen with 26.4.0).
        """
        self.update_realm(realm, enabled=enabled)

    def set_frontend_url(self, realm: str, url: str | None) -> None:
        """Give a realm a public URL of its own, which becomes the base of its issuer; None takes it away."""
        self.update_realm(realm, attributes={"frontendUrl": url or ""})

    # Clients

    def create_client(
        self,
        realm: str,
        client_id: str,
        *,
        secret: str | None = None,
        direct_grants: bool = True,
        service_account: bool = True,
        redirect_uris: Sequence[str] = (),
        **settings: Any,
    ) -> str:
        """Create a client and return its internal id. Without a secret it is public (and has no service account)."""
        made: dict[str, Any] = {
            "clientId": client_id,
            "enabled": True,
            "publicClient": secret is None,
            "directAccessGrantsEnabled": direct_grants,
            "serviceAccountsEnabled": service_account and secret is not None,
            "standardFlowEnabled": bool(redirect_uris),
            "redirectUris": list(redirect_uris),
            **settings,
        }
        if secret is not None:
            made["secret"] = secret
        return _created_id(self.admin("POST", f"/{quote(realm)}/clients", made))

    def client(self, realm: str, client_id: str) -> dict[str, Any]:
        """The ClientRepresentation. Raises KeyError when there is none."""
        found = self.admin("GET", f"/{quote(realm)}/clients?{urlencode({'clientId': client_id})}").json()
        if not found:
            raise KeyError(client_id)
        return dict(found[0])

    def update_client(self, realm: str, client_id: str, **settings: Any) -> None:
        """Change fields of a client: `secret`, `enabled`, `redirectUris`, `attributes`, …"""
        client = self.client(realm, client_id)
        self.admin("PUT", f"/{quote(realm)}/clients/{client['id']}", client | settings)

    def delete_client(self, realm: str, client_id: str) -> None:
        """Delete a client."""
        self.admin("DELETE", f"/{quote(realm)}/clients/{self.client(realm, client_id)['id']}")

    def add_audience(self, realm: str, client_id: str, audience: str) -> None:
        """Put an audience into the access tokens of a client (an `oidc-audience-mapper`)."""
        mapper = {
            "name": f"audience {audience}",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.custom.audience": audience, "access.token.claim": "true"},
        }
        client = self.client(realm, client_id)
        self.admin("POST", f"/{quote(realm)}/clients/{client['id']}/protocol-mappers/models", mapper)

    # Users

    def create_user(self, realm: str, username: str, password: str, **settings: Any) -> str:
        """Create a user who can log in at once, and return the internal id."""
        made = {
            "username": username,
            "enabled": True,
            "email": f"{username}@example.invalid",
            "emailVerified": True,
            # Without names the user profile asks for them at the first login, and a password grant is refused.
            "firstName": username,
            "lastName": "Test",
            "credentials": [{"type": "password", "value": password, "temporary": False}],
            **settings,
        }
        return _created_id(self.admin("POST", f"/{quote(realm)}/users", made))

    def user(self, realm: str, username: str) -> dict[str, Any]:
        """The UserRepresentation. Raises KeyError when there is none."""
        asked = urlencode({"username": username, "exact": "true"})
        found = self.admin("GET", f"/{quote(realm)}/users?{asked}").json()
        if not found:
            raise KeyError(username)
        return dict(found[0])

    def update_user(self, realm: str, username: str, **settings: Any) -> None:
        """Change fields of a user: `enabled`, `requiredActions`, …"""
        user = self.user(realm, username)
        self.admin("PUT", f"/{quote(realm)}/users/{user['id']}", user | settings)

    def set_password(self, realm: str, username: str, password: str, *, temporary: bool = False) -> None:
        """Give a user a new password; a temporary one must be changed at the next login."""
        body = {"type": "password", "value": password, "temporary": temporary}
        self.admin("PUT", f"/{quote(realm)}/users/{self.user(realm, username)['id']}/reset-password", body)

    def lock_user(self, realm: str, username: str, *, client_id: str, client_secret: str | None = None) -> None:
        """Lock a user as an attacker would: brute-force detection on, then wrong passwords until it bites.

        `client_id` is a client of the realm with direct grants.
        """
        failures = 2
        self.update_realm(realm, bruteForceProtected=True, failureFactor=failures, waitIncrementSeconds=3600)
        for _ in range(failures * 5):
            self.token(
                realm, client_id=client_id, client_secret=client_secret, username=username, password="wrong-on-purpose"
            )
            if self.is_locked(realm, username):
                return
            # Failures are counted on a thread of Keycloak's.
            time.sleep(0.2)
        raise RuntimeError(f"Keycloak did not lock {username} in {realm}")

    def unlock_user(self, realm: str, username: str) -> None:
        """Forget a user's failed logins."""
        self.admin("DELETE", self._brute_force(realm, username))

    def is_locked(self, realm: str, username: str) -> bool:
        """Whether brute-force detection keeps the user out."""
        return bool(self.admin("GET", self._brute_force(realm, username)).json()["disabled"])

    def _brute_force(self, realm: str, username: str) -> str:
        return f"/{quote(realm)}/attack-detection/brute-force/users/{self.user(realm, username)['id']}"

    # Keys

    def keys(self, realm: str, *, use: str = "SIG", type: str = "RSA") -> list[Key]:
        """The realm's keys of a use and type, those that sign first."""
        found = [
            Key(key["kid"], key["status"], key["algorithm"], key["use"], key["type"], key["providerId"])
            for key in self.admin("GET", f"/{quote(realm)}/keys").json()["keys"]
            if key["use"] == use and key["type"] == type
        ]
        return sorted(found, key=lambda key: key.status != "ACTIVE")

    def signing_key(self, realm: str, *, algorithm: str = "RS256") -> str:
        """The kid that signs now."""
        active: Mapping[str, str] = self.admin("GET", f"/{quote(realm)}/keys").json()["active"]
        return active[algorithm]

    def rotate_keys(self, realm: str, *, algorithm: str = "RS256") -> str:
        """Add an RSA key that signs from now on, and return its kid. The old ones go on verifying."""
        highest = max(
            (
                int(value)
                for component in self._components(realm)
                for value in component.get("config", {}).get("priority", ["0"])
            ),
            default=0,
        )
        made = _key_provider("rsa", algorithm, priority=highest + 1, privateKey=_private_key())
        made["providerType"] = _KEY_PROVIDER
        self.admin("POST", f"/{quote(realm)}/components", made)
        return self.signing_key(realm, algorithm=algorithm)

    def set_key_status(self, realm: str, kid: str, status: str) -> None:
        """Make a key `active`, `passive` (verifies only) or `disabled` (gone from the JWKS)."""
        if status not in ("active", "passive", "disabled"):
            raise ValueError(f"no such key status: {status}")
        every = self.admin("GET", f"/{quote(realm)}/keys").json()["keys"]
        provider = next((key["providerId"] for key in every if key["kid"] == kid), None)
        if provider is None:
            raise KeyError(kid)
        component = self.admin("GET", f"/{quote(realm)}/components/{provider}").json()
        component["config"] |= {
            "enabled": ["false" if status == "disabled" else "true"],
            "active": ["true" if status == "active" else "false"],
        }
        self.admin("PUT", f"/{quote(realm)}/components/{provider}", component)

    def jwks(self, realm: str) -> list[dict[str, Any]]:
        """The public keys as clients see them."""
        url = f"{self.url}/realms/{quote(realm)}/protocol/openid-connect/certs"
        return list(request("GET", url).expect(200).json()["keys"])

    def _components(self, realm: str) -> list[dict[str, Any]]:
        path = f"/{quote(realm)}/components?{urlencode({'type': _KEY_PROVIDER})}"
        return list(self.admin("GET", path).json())


def _created_id(answer: Answer) -> str:
    location = answer.headers.get("location")
    if location is None:
        raise UnexpectedAnswer(f"{answer.request} answered {answer.status} without a Location")
    return location.rsplit("/", 1)[1]
