"""Kind ``oidc_realm``: an OpenID Provider's metadata and signing keys."""

from tocsin_probes.oidc_realm.kind import OidcRealm

__all__ = ["OidcRealm"]
