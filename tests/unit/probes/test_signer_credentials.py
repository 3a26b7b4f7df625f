"""When a signer's credentials end, whatever they say."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tocsin.sdk import ProbeFault
from tocsin_probes.signer.credentials import jwt_expires_at, moment


@pytest.mark.parametrize(("end", "expected"), [(1_900_000_000, 1.9e9), ("1900000000", 1.9e9), (10**400, None)])
def test_a_token_ends_when_it_says_so_or_is_not_known_to(end: Any, expected: float | None) -> None:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": end}).encode()).decode().rstrip("=")
    assert jwt_expires_at(f"header.{payload}.signature") == expected


def test_a_moment_is_a_number_or_rfc_3339() -> None:
    assert [moment(value) for value in (None, "", 5, "5", "1970-01-01T00:00:05Z")] == [None, None, 5.0, 5.0, 5.0]


@pytest.mark.parametrize("value", ["soon", "nan", "inf", float("nan"), "1" * 400, [], {}])
def test_what_is_no_moment_is_told(value: object) -> None:
    with pytest.raises(ProbeFault, match="is not a time"):
        moment(value)
