"""JSON whose numbers can be compared with limits."""

from __future__ import annotations

import math

import pytest

from tocsin.sdk.documents import parse_json


def test_what_a_double_holds_is_read() -> None:
    assert parse_json('{"a": [1, -2.5, 1.7e308, 0]}') == {"a": [1, -2.5, 1.7e308, 0]}
    assert math.isfinite(parse_json("9" * 308))


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "1e999", "-1e999", "9" * 309, "-" + "1" * 400])
def test_what_a_double_does_not_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a JSON value|beyond what a double holds|a number of \d+ digits"):
        parse_json(text)
