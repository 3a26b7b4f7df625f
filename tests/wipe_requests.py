"""What Wipe's servers themselves have counted or written down of the requests that they were sent."""

from __future__ import annotations

import json
import re
from collections import Counter

from estate.process import Server
from estate.web import request
from tests.wipe_estate import WipeEstate
from tests.wipe_simulators import SMOKE_TENANT


def _lines(server: Server, pattern: str) -> Counter[str]:
    """How often each first group of a pattern is in a server's log."""
    return Counter(re.findall(pattern, server.log.read_text(errors="replace")))


def asked(estate: WipeEstate) -> Counter[str]:
    """How often each request has come so far."""
    found: Counter[str] = Counter()
    for database in (estate.database, estate.keycloak_database):
        found += _lines(database, r"connection authorized: .* application_name=(tocsin/\S+)")
    found += _lines(estate.keycloak, r'"?(?:GET|POST) /realms/(\S+?)(?:\?\S*)? HTTP')
    found += _lines(estate.anvil, r"(eth_getBlockByNumber|eth_getBalance|eth_call|eth_getTransactionReceipt)")
    found += _lines(estate.signing_node, r"(eth_signTransaction)")
    found += _lines(estate.tsa, r"(/api/v1/timestamp)\b")
    for entry in estate.signer.audit_log.read_text().splitlines():
        written = json.loads(entry)
        if written["type"] == "response":
            found[written["request"]["path"]] += 1
    for name in ("api", "loki", "collector", "captcha", "explorer"):
        written = estate.access_log(name).read_text()
        # Others do not say who they are.
        pattern = r'^"(\S+ [^\s?]+)\S* HTTP/1.1" \d+ [^-]'
        found += Counter(f"{name} {path}" for path in re.findall(pattern, written, re.MULTILINE))
    found += Counter(f"mail {command}" for command in estate.access_log("mail").read_text().split())
    metrics = request("GET", f"{estate.minio.url}/minio/v2/metrics/cluster").expect(200).text
    for api, count in re.findall(r'minio_s3_requests_total\{api="(\w+)".*\} (\S+)', metrics):
        found[f"s3 {api}"] = round(float(count))
    own = request("GET", f"{estate.prometheus.url}/metrics").expect(200).text
    for handler, count in re.findall(r'prometheus_http_requests_total\{code="200",handler="(\S+)"\} (\S+)', own):
        found[f"prometheus {handler}"] = round(float(count))
    return found


MUST_BE_ASKED = {
    **{
        f"{realm}/{path}": 1
        for realm in ("master", "exawipe")
        for path in (
            ".well-known/openid-configuration",
            "protocol/openid-connect/certs",
            "protocol/openid-connect/token",
        )
    },
    "eth_getBlockByNumber": 1,
    "eth_getBalance": 1,
    "eth_call": 1,
    "eth_getTransactionReceipt": 1,
    "eth_signTransaction": 1,
    "/api/v1/timestamp": 2,  # by its own probe and by the PDF signer
    "transit/decrypt/wipe-data": 1,
    "transit/hmac/wipe-mac": 1,
    "transit/verify/wipe-mac": 1,
    "transit/sign/wipe-receipt": 1,
    "kv/signer": 1,
    "s3 headbucket": 1,
    "s3 getobject": 4,
    "s3 putobject": 3,
    "s3 newmultipartupload": 1,
    "prometheus /api/v1/rules": 5,
    "prometheus /api/v1/query": 6,
    "api GET /healthz": 1,
    "api GET /readyz": 1,
    "api GET /api/v1/usage": 1,
    "api GET /admin/api/v1/verification-log": 1,
    "api POST /api/v1/proofs": 1,
    "loki GET /loki/api/v1/query": 7,
    "collector GET /metrics": 1,
    "captcha POST /siteverify": 1,
    "explorer GET /explorer": 1,
    "mail EHLO": 1,
}
"""By request, how many probes cause it at each of their runs."""


def asked_for_samples(estate: WipeEstate) -> dict[str, int]:
    """The same for what is asked about one certificate, tenant or proof."""
    certificate = estate.life.certificate
    paths = (
        f"verify/{certificate}",
        f"verify/{estate.unanchored}",
        f"verify/{SMOKE_TENANT}",
        f"api/v1/certificates/{certificate}/pdf",
        f"api/v1/certificates/{certificate}/json",
    )
    return {f"api GET /{path}": 1 for path in paths}
