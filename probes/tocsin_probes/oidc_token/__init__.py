"""Kind ``oidc_token``: a token is granted, is what it must be, is accepted, and its session is closed again."""

from tocsin_probes.oidc_token.kind import OidcToken

__all__ = ["OidcToken"]
