"""``http`` against a real nginx and a real Keycloak."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from estate.servers.keycloak import Keycloak
from estate.servers.nginx import Certificate, Nginx
from tests.probing import Probed, probe_once
from tests.unit.probes.lying_servers import Authority
from tocsin_probes.http import Http

pytestmark = pytest.mark.estate

JSON = {"content_type": "application/json", "json": ["status == 'UP'"]}


async def ask(url: str, **settings: Any) -> Probed:
    return await probe_once(Http(Http.Settings.model_validate({"url": url, **settings})))


LOCATIONS = """
    location = /gzip { gzip on; gzip_types application/json; gzip_min_length 1; default_type application/json;
                       return 200 '{"status": "UP"}'; }
    location = /old { return 301 /ready; }
    location = /gone { return 404; }
    location = /limited { return 429; }
    location = /broken { proxy_pass http://127.0.0.1:1/; }
    location = /private { auth_basic "private"; auth_basic_user_file /dev/null; }
    location = /cut { return 444; }
    location / { try_files $uri $uri.json /index.html; }
"""


async def test_nginx_shows_each_reason_that_it_can_be_made_to_show(nginx_factory: Callable[..., Nginx]) -> None:
    nginx = nginx_factory(LOCATIONS)
    nginx.write("/ready.json", '{"status": "UP"}')
    nginx.write("/down.json", '{"status": "DOWN"}')
    nginx.write("/index.html", "<!doctype html><title>App</title>")
    nginx.write("/large.json", '"' + "x" * (2 << 20) + '"')
    nginx.write("/plain.txt", "fine")
    expected = {
        "/ready": ("ok", None),
        "/gzip": ("ok", None),
        "/down": ("failed", "assertion_failed"),
        "/no/such/route": ("failed", "html_instead_of_json"),
        "/large": ("failed", "body_too_large"),
        "/plain.txt": ("failed", "unexpected_body"),
        "/old": ("failed", "redirected"),
        "/gone": ("failed", "not_found"),
        "/limited": ("failed", "rate_limited"),
        "/broken": ("failed", "server_error"),
        "/private": ("failed", "unauthorized"),
        "/cut": ("failed", "connection_reset"),
    }
    found = {path: (await ask(nginx.url + path, expect=JSON)).verdict for path in expected}
    assert found == expected
    assert (await ask(f"{nginx.url}/old", expect=JSON, follow_redirects=True)).verdict == ("ok", None)
    assert (await ask(f"{nginx.url}/ready", method="HEAD")).verdict == ("ok", None)
    nginx.stop()
    assert (await ask(f"{nginx.url}/ready")).verdict == ("failed", "connection_refused")


async def test_nginx_with_tls_is_verified(nginx_factory: Callable[..., Nginx], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good = authority.issue("good", days=90)
    nginx = nginx_factory("", certificate=Certificate(good.certificate_file, good.key_file))
    url, tls = nginx.write("/ready.json", '{"status": "UP"}'), {"ca_file": str(good.ca_file)}
    probed = await ask(url, expect=JSON, tls=tls)
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.measured("tocsin_certificate_expiry_timestamp_seconds") > 0
    assert (await ask(url, expect=JSON)).verdict == ("failed", "tls_error")
    expired = authority.issue("expired", days=-1)
    nginx.certificate = Certificate(expired.certificate_file, expired.key_file)
    nginx.reload()
    assert (await ask(url, expect=JSON, tls=tls)).verdict == ("failed", "certificate_expired")


async def test_keycloaks_health_is_read_as_json(keycloak: Keycloak) -> None:
    url = f"{keycloak.management_url}/health/ready"
    assert (await ask(url, expect={"json": ["status == 'UP'", "checks"]})).verdict == ("ok", None)
