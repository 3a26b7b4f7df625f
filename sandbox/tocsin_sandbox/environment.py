"""What the daemon is given: the platform's own variables as an env file, and a configuration with short intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tocsin.data import data
from tocsin_sandbox import alexandria_environment, wipe_environment
from tocsin_sandbox.estate import KEYCLOAK_DATABASE, Estate
from tocsin_sandbox.identity import AUDIENCE, CLIENT_ID, USERNAME, Realm
from tocsin_sandbox.storage import REGION
from tocsin_sandbox.wipe import BUCKETS, DATABASE
from tocsin_sandbox.wipe_api import JWKS_CACHE_SECONDS

PROFILES = ("wipe", *alexandria_environment.PROFILES)
"""The bundled profiles whose platforms the estate simulates."""

PACE: Mapping[str, Any] = {
    "every": "5s",
    "timeout": "4s",
    "retry_every": "1s",
    "failures_to_fail": 2,
    "successes_to_recover": 1,
}
"""How often the sandbox is probed: a flipped switch shows within a few seconds."""

PATIENT_PACE: Mapping[str, Any] = {**PACE, "every": "1m", "timeout": "20s"}
"""For a single run of each: a machine that is busy with other things has time to answer."""

CAPS: Mapping[str, Any] = {"default": {"concurrency": 12, "requests_per_minute": 6000}}
"""Everything is asked six times as often as on a real platform, and harms nobody here."""

OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    **wipe_environment.OVERRIDES,
    **alexandria_environment.OVERRIDES,
}
"""What the sandbox sets beyond the pace."""


def variables(estate: Estate) -> dict[str, str]:
    """The environment of an operator. Published names are the platform's, unpublished ones are TOCSIN_WIPE_*."""
    master, exawipe = estate.identity.realms["master"], estate.identity.realms["exawipe"]
    storage = estate.storage
    role, keycloak_role = estate.role, estate.keycloak_role
    certs = "protocol/openid-connect/certs"
    expected = {f"TOCSIN_WIPE_EXPECTED_BUCKET_{name.removeprefix('S3_BUCKET_')}": b for name, b in BUCKETS.items()}
    return {
        "KEYCLOAK_MASTER_ISSUER": master.issuer,
        "KEYCLOAK_MASTER_JWKS_URL": f"{master.issuer}/{certs}",
        "KEYCLOAK_MASTER_AUDIENCE": AUDIENCE,
        "KEYCLOAK_EXAWIPE_ISSUER": exawipe.issuer,
        "KEYCLOAK_EXAWIPE_JWKS_URL": f"{exawipe.issuer}/{certs}",
        "KEYCLOAK_EXAWIPE_AUDIENCE": AUDIENCE,
        "KEYCLOAK_JWKS_CACHE_TTL": f"{JWKS_CACHE_SECONDS:g}s",
        **_credentials(master),
        **_credentials(exawipe),
        **BUCKETS,
        **expected,
        "TOCSIN_WIPE_KEYCLOAK_HEALTH_URL": f"{estate.keycloak_management.url}/health/ready",
        "TOCSIN_WIPE_MASTER_METADATA_URL": f"{estate.keycloak.url}/realms/master/.well-known/openid-configuration",
        "TOCSIN_WIPE_EXAWIPE_METADATA_URL": f"{estate.keycloak.url}/realms/exawipe/.well-known/openid-configuration",
        "TOCSIN_WIPE_KEYCLOAK_DATABASE_DSN": estate.keycloak_database.dsn(
            keycloak_role.name, keycloak_role.password, KEYCLOAK_DATABASE
        ),
        "TOCSIN_WIPE_DATABASE_DSN": estate.database.dsn(role.name, role.password, DATABASE),
        "TOCSIN_WIPE_S3_ENDPOINT": storage.url,
        "TOCSIN_WIPE_S3_HEALTH_URL": f"{storage.url}/minio/health/live",
        "TOCSIN_WIPE_S3_REGION": REGION,
        "TOCSIN_WIPE_S3_ACCESS_KEY_ID": storage.access_key_id,
        "TOCSIN_WIPE_S3_SECRET_ACCESS_KEY": storage.secret_access_key,
        "TOCSIN_WIPE_JOBS_TABLE": "jobs",
        "TOCSIN_WIPE_JOBS_TIME_COLUMN": "created_at",
        "TOCSIN_WIPE_JOBS_WAITING_STATUSES": "queued",
        "TOCSIN_WIPE_DLQ_TABLE": "dead_letter_jobs",
        "TOCSIN_WIPE_DLQ_QUEUE_COLUMN": "queue",
        "TOCSIN_WIPE_DLQ_TIME_COLUMN": "created_at",
        **wipe_environment.variables(estate),
        **alexandria_environment.variables(estate),
    }


def _credentials(realm: Realm) -> dict[str, str]:
    """Of the client and the user that the page's password-token smoke test takes; their names are not published."""
    prefix = f"TOCSIN_WIPE_{realm.name.upper()}"
    return {
        f"{prefix}_CLIENT_ID": CLIENT_ID,
        f"{prefix}_CLIENT_SECRET": realm.client_secret,
        f"{prefix}_USERNAME": USERNAME,
        f"{prefix}_PASSWORD": realm.password,
    }


def render_env_file(values: Mapping[str, str]) -> str:
    """``NAME=value`` lines; values are single-quoted, so that any env-file reader takes them literally."""
    return "".join(f"{name}='{value}'\n" for name, value in values.items())


def bundled_probes() -> dict[str, tuple[str, ...]]:
    """The probes in each of `PROFILES`, by name."""
    folder = data("profiles")
    return {
        name: tuple(yaml.safe_load(folder.joinpath(f"{name}.yaml").read_text("utf-8"))["probes"]) for name in PROFILES
    }


def configuration(
    profiles: Mapping[str, Sequence[str]], env_file: Path, pace: Mapping[str, Any] = PACE
) -> dict[str, Any]:
    """The daemon's configuration: the profiles as they are, every probe of theirs at the sandbox's pace.

    ``profiles``: of each bundled profile the names of its probes.
    """
    return {
        "version": 1,
        "profiles": list(profiles),
        "env_file": str(env_file),
        "defaults": dict(pace),
        "caps": dict(CAPS),
        "probes": {name: {**pace, **OVERRIDES.get(name, {})} for probes in profiles.values() for name in probes},
    }


def render_configuration(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, width=120)
