"""A bucket goes although somebody writes into it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tocsin_sandbox.storage import Storage


class Written:
    """A bucket into which an object comes ``times`` between its emptying and its end; then ``code`` is the answer."""

    def __init__(self, times: int, code: str) -> None:
        self.times, self.code = times, code
        self.keys = ["a"]
        self.gone = False

    async def call(self, operation: str, **arguments: Any) -> Any:
        if operation == "list_object_versions":
            return {"Versions": [{"Key": key, "VersionId": "1"} for key in self.keys]}
        if operation == "delete_object":
            self.keys.remove(arguments["Key"])
        elif self.times:
            self.times -= 1
            self.keys.append("b")
            raise ClientError({"Error": {"Code": self.code}}, operation)
        else:
            self.gone = not self.keys
        return {}


async def deleted(monkeypatch: pytest.MonkeyPatch, bucket: Written) -> Written:
    storage = object.__new__(Storage)
    monkeypatch.setattr(storage, "call", bucket.call)
    await storage.delete_bucket("bucket")
    return bucket


async def test_a_bucket_is_emptied_again_when_something_was_written_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await deleted(monkeypatch, Written(3, "BucketNotEmpty"))).gone


@pytest.mark.parametrize(("times", "code"), [(1, "AccessDenied"), (1000, "BucketNotEmpty")])
async def test_what_another_look_does_not_help_is_told(monkeypatch: pytest.MonkeyPatch, times: int, code: str) -> None:
    with pytest.raises(ClientError, match=code):
        await deleted(monkeypatch, Written(times, code))
