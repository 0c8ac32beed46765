"""Whatever users do, in whatever order: versions and sequence grow by one, and each change that counts is told once."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.brokeforge.forge import Forge, switched

STATUSES = st.sampled_from(["pending", "installing", "completed", "failed", "nonsense"])
SERVER = st.integers(1, 4)
"""1 and 2 are the user's, 3 and 4 somebody else's."""
RULE = st.sampled_from([1, 3, 6, 31, 32, 99])

step = st.tuples(
    st.just("PUT"),
    st.builds("/servers/{}/provision/{}".format, SERVER, st.sampled_from(["1", "nginx"])),
    st.builds(lambda s: {"status": s}, STATUSES),
)
patch = st.tuples(
    st.just("PATCH"),
    st.builds("/servers/{}".format, SERVER),
    st.fixed_dictionaries(
        {},
        optional={
            "connection": st.sampled_from(["connected", "disconnected", "pending", "failed"]),
            "vanity_name": st.sampled_from(["a", "b"]),
            "monitoring_status": st.sampled_from(["active", "failed", "installing", None]),
            "unknown": st.just(1),
        },
    ),
)
site = st.tuples(
    st.just("PATCH"),
    st.builds("/sites/{}".format, st.integers(1, 3)),
    st.builds(lambda s: {"status": s}, st.sampled_from(["active", "deploying", "failed", "pending"])),
)
new_rule = st.tuples(st.just("POST"), st.builds("/servers/{}/firewall/rules".format, SERVER), st.just({"name": "x", "port": 80}))
rule = st.tuples(
    st.just("PATCH"),
    st.builds("/servers/{}/firewall/rules/{}".format, SERVER, RULE),
    st.builds(lambda s: {"status": s}, st.sampled_from(["installing", "active", "deleting", "failed"])),
)
gone = st.tuples(
    st.just("DELETE"),
    st.one_of(
        st.builds("/servers/{}/firewall/rules/{}".format, SERVER, RULE),
        st.builds("/servers/{}/firewall".format, SERVER),
        st.builds("/sites/{}".format, st.integers(1, 2)),
    ),
    st.none(),
)
OPERATIONS = st.lists(st.one_of(step, patch, site, new_rule, rule, gone), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS)
def test_one_version_one_number_one_event_per_change(sample: Path, operations: list[tuple[str, str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(sample, Path(place) / "forge.sqlite")
        forge = Forge(f"sqlite:///{place}/forge.sqlite", broadcast=switched(provision_event=False), prepared=True)
        try:
            _play(forge, operations)
        finally:
            forge.close()


def _play(forge: Forge, operations: list[tuple[str, str, Any]]) -> None:
    versions: dict[str, int] = {}
    sequence = 0
    for method, path, body in operations:
        kind = "site" if path.startswith("/sites") else "server"
        key = f"{kind} {path.split('/')[2]}"
        before = len(forge.broadcaster.sent)
        response = forge.request(method, path, body)
        told = forge.broadcaster.sent[before:]
        if response.status >= 400:
            assert response.status in (403, 404, 422), response
            assert told == []
            continue
        answer = json.loads(response.body)
        sequence += answer["changed"]
        versions[key] = versions.get(key, 1) + answer["changed"]
        assert answer["sequence"] == sequence
        assert answer["version"] == versions[key]
        assert len(told) == answer["broadcast"] <= answer["changed"]
        if told:
            assert told[0].data[f"{kind}_id"] == int(key.split()[1])
        if method != "DELETE" or kind == "server":
            page = forge.json("GET", f"/{kind}s/{key.split()[1]}")
            assert page["version"] == versions[key]
    assert forge.json("GET", "/dashboard")["version"] == sequence
