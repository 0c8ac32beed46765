"""What an answer says of how new it is, and what that can be compared with."""

from __future__ import annotations

import json

import pytest

from sim.resource_version import Version, version_at


@pytest.mark.parametrize(
    ("text", "path", "version"),
    [
        ('{"version":7}', "version", Version("counter", 7)),
        ('{"version":-7}', "version", Version("counter", -7)),
        ('{"version":"9007199254740993"}', "version", Version("counter", 9007199254740993)),
        ('{"data":[{"v":" 12 "}]}', "data.0.v", Version("counter", 12)),
        ('{"u":"2026-01-01T00:00:00.000001Z"}', "u", Version("time", 1767225600000001)),
        ('{"u":"2026-01-01T01:00:00+01:00"}', "u", Version("time", 1767225600000000)),
        ('{"u":"2026-01-01 00:00:00"}', "u", Version("time", 1767225600000000)),
        ('{"u":"1969-12-31T23:59:59.999999Z"}', "u", Version("time", -1)),
        ('{"version":null}', "version", None),
        ('{"version":true}', "version", None),
        ('{"version":""}', "version", None),
        ('{"version":{"a":1}}', "version", None),
        ('{"other":1}', "version", None),
        ('{"data":[1]}', "data.x", None),
        ('{"data":[1]}', "data.1", None),
        ("[1]", "version", None),
        ("7", "version", None),
    ],
)
def test_where_it_is_and_of_what_kind(text: str, path: str, version: Version | None) -> None:
    assert version_at(json.loads(text), path.split(".")) == version


@pytest.mark.parametrize("value", ["f00", "a b", "2026-13-45", 1 << 64, -(1 << 64), 1.5, "9" * 30, "²"])
def test_what_has_no_order_is_equal_or_not_and_that_is_all(value: object) -> None:
    found = version_at({"v": value}, ["v"])
    assert found is not None
    assert found.kind == "text"
    assert found.order is None
    assert found == version_at({"v": value}, ["v"])
    assert found != version_at({"v": "other"}, ["v"])
    assert 0 <= found.number < 1 << 63


def test_counters_and_times_are_ordered_by_their_numbers() -> None:
    stamps = ["2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.000002Z"]
    first, second = (version_at({"u": stamp}, ["u"]) for stamp in stamps)
    assert first is not None
    assert second is not None
    assert (first.order, second.order) == (first.number, first.number + 1)
