"""Keycloak's admin API, which tells a locked test user from a wrong password."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict

from tocsin.model import Secret
from tocsin.sdk import ProbeContext, ProbeFault, TlsSettings
from tocsin.sdk.faults import explain
from tocsin.sdk.http import FORM, HttpUrl, OptionalUrl
from tocsin.sdk.oidc import read_object


class Admin(BaseModel):
    """A service account that may view the realm's users."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True)

    url: HttpUrl
    """The realm below the admin API: ``https://HOST/admin/realms/REALM``."""
    client_id: str
    client_secret: Secret
    token_url: OptionalUrl = None
    """Where the admin client gets its token; by default where the probe gets its own."""


async def why_refused(
    ctx: ProbeContext, admin: Admin, token_url: str, username: str, tls: TlsSettings
) -> tuple[bool, str]:
    """Whether ``username`` is locked or disabled, and that in words; also when the admin API would not tell."""
    form = {
        "grant_type": "client_credentials",
        "client_id": admin.client_id,
        "client_secret": admin.client_secret.reveal(),
    }
    try:
        token = await ctx.http.fetch("POST", token_url, headers=FORM, body=urlencode(form), tls=tls)
        bearer = {"Authorization": f"Bearer {read_object(token.expect(200)).get('access_token')}"}

        async def get(path: str) -> Any:
            url = f"{admin.url.rstrip('/')}/{path}"
            return (await ctx.http.fetch("GET", url, headers=bearer, tls=tls)).expect(200).json()

        users = await get(f"users?exact=true&username={quote(username, safe='')}")
        if not users:
            return False, "there is no such user"
        if not users[0]["enabled"]:
            return True, "the user is disabled"
        attack = await get(f"attack-detection/brute-force/users/{quote(users[0]['id'], safe='')}")
        if attack["disabled"]:
            return True, f"the user is locked after {int(attack['numFailures'])} failed logins"
    except (OSError, ProbeFault, LookupError, TypeError, ValueError) as error:
        return False, f"the admin API did not say why ({explain(error).reason})"
    return False, "the user is not locked"
