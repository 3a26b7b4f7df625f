"""Which settings the S3 kinds refuse, and where they say they go."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tocsin.sdk.documents import is_json, is_pdf
from tocsin_probes.s3_bucket import S3Bucket
from tocsin_probes.s3_object import S3Object, is_checksum

KEYS = {"bucket": "b", "access_key_id": "a", "secret_access_key": "hidden"}


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"key": "a", "dsn": "postgresql://db/app", "query": "SELECT 1"},
        {"query": "SELECT 1"},
        {"key": "a", "dsn": "postgresql://db/app"},
        {"key": "a", "samples": 11},
        {"key": "a", "type": "docx"},
        {"dsn": "postgresql://db/app", "query": "DELETE FROM certificates"},
    ],
)
def test_an_object_comes_from_one_place(own: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        S3Object.Settings.model_validate(KEYS | own)


def test_targets_are_the_endpoint_and_the_database() -> None:
    amazon = S3Bucket.Settings.model_validate(KEYS | {"region": "eu-west-3"})
    assert amazon.targets() == ("https://s3.eu-west-3.amazonaws.com:443",)
    sampled = S3Object.Settings.model_validate(
        KEYS | {"endpoint_url": "http://minio:9000/", "dsn": "postgresql://db/app", "query": "SELECT 1"}
    )
    assert sampled.targets() == ("http://minio:9000", "postgresql://db:5432")


def test_keys_are_never_shown() -> None:
    assert "hidden" not in repr(S3Bucket.Settings.model_validate(KEYS))


def test_an_access_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="read_write"):
        S3Bucket.Settings.model_validate(KEYS | {"access": "readwrite"})


@pytest.mark.parametrize(
    ("text", "same"),
    [("00ff", True), ("00FF", True), ("AP8=", True), ("sha256:00ff", True), ("ap8=", False), ("", False)],
)
def test_a_checksum_is_read_in_hex_or_base64(text: str, same: bool) -> None:
    assert is_checksum(text, b"\x00\xff") is same


def test_types_are_known_by_content() -> None:
    assert is_pdf(b"\n%PDF-1.4 ... %%EOF\r\n")
    assert not is_pdf(b"%PDF-1.4 cut off" + b" " * 2000)
    assert is_json(b"null")
    assert not is_json(b"")
