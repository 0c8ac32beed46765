"""What the doctor makes of single answers and frames; the whole examinations are in `test_checks.py` and `test_cases.py`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from sim.live.client import HttpAnswer
from sim.live.doctor import authorisation, changes, publication, refetching
from sim.live.doctor.checks import Patient
from sim.live.doctor.listener import ReceivedFrame
from sim.pusher.messages import Message
from sim.target import Account, Target

TARGET = Target("h", 1, "http", "a", "k", "s", "http://h", (Account(1, "t", (5,)), Account(2, "u", (6,))))
HTML = {"content-type": "text/html"}


def patient(**members: Any) -> Patient:
    return Patient(TARGET, **members)


def frame(channel: str, event: str = "e", size: int = 100) -> ReceivedFrame:
    return ReceivedFrame(Message(event, channel), 0, size)


@pytest.mark.parametrize(
    ("channels", "status", "detail"),
    [
        (["a"], "ok", "one event, on a"),
        (["a", "b"], "ok", "specific and generic channel, one event each"),
        (["a", "b", "a"], "problem", "3 events on 2 channels"),
        (["a", "a"], "problem", "2 events on 1 channels"),
    ],
)
def test_one_change_is_one_event_on_each_channel(channels: list[str], status: str, detail: str) -> None:
    found = changes._double_finding([frame(channel) for channel in channels])
    assert (found.status, found.detail) == (status, detail)


@pytest.mark.parametrize(
    ("heard", "mine"),
    [
        ([("private-servers", {"server_id": 9}), ("private-servers.5", {}), ("private-servers", {"server_id": 5})], [1, 2]),
        ([("private-servers", {"server": {"id": 9}}), ("private-servers", {"server": {"id": "5"}})], [1]),
        ([("private-servers", [{"id": 9}, {"id": 5}])], [0]),
        ([("private-servers.5", {"id": 7}), ("private-servers.5", {"id": 7})], [0, 1]),
        ([("private-servers", {"at": 1}), ("private-servers", None)], [0, 1]),  # nothing says whose they are
    ],
)
def test_changes_of_others_on_a_shared_channel_are_not_this_one(heard: list[tuple[str, Any]], mine: list[int]) -> None:
    examined = patient(templates=("private-servers.{id}", "private-servers"))
    frames = [ReceivedFrame(Message("e", channel, data), 0) for channel, data in heard]
    assert changes._of_resource(examined, frames) == [frames[place] for place in mine]


def test_an_event_near_the_limit_is_said() -> None:
    assert changes._size_finding([frame("a", size=7_999)]) == []
    (found,) = changes._size_finding([frame("a", size=10), frame("a", size=8_000)])
    assert found.detail == "8,000 bytes"


@pytest.mark.parametrize(
    ("name", "listen"),
    [
        ("App\\Events\\ServerUpdated", "listen('ServerUpdated'), without a dot in front"),
        ("App\\Events\\Servers\\Updated", "listen('Servers.Updated'), without a dot in front"),
        ("server.updated", "listen('.server.updated'), with a dot in front"),
    ],
)
def test_what_a_page_has_to_write_to_hear_it(name: str, listen: str) -> None:
    assert listen in changes._name_finding(frame("a", name)).advice


@pytest.mark.parametrize(
    ("who", "answer", "status", "said"),
    [
        ("stranger", HttpAnswer(403), "ok", "may not (403)"),
        ("guest", HttpAnswer(401), "ok", "may not (401)"),
        ("stranger", HttpAnswer(200, body=b'{"auth": "k:s"}'), "problem", "may listen to"),
        ("stranger", HttpAnswer(200, body=b"{}"), "problem", "gets HTTP 200"),
        ("guest", HttpAnswer(302, headers={"location": "/login"}), "ok", "is sent away"),
        ("stranger", HttpAnswer(302, headers={"location": "/login"}), "problem", "gets HTTP 302"),
        ("guest", HttpAnswer(400), "problem", "gets HTTP 400"),
        ("guest", HttpAnswer(419), "ok", "gets HTTP 419"),
        ("guest", HttpAnswer(500), "problem", "gets HTTP 500"),
    ],
)
def test_who_may_not_listen_is_told_so(who: str, answer: HttpAnswer, status: str, said: str) -> None:
    found = authorisation._refusal_finding(who, "private-servers.5", answer)
    assert found.status == status
    assert said in found.detail


@pytest.mark.parametrize(
    ("answer", "given", "said"),
    [
        (HttpAnswer(500, body=b"{}"), False, "the application failed: HTTP 500"),
        (HttpAnswer(502), False, None),
        (HttpAnswer(419), False, "the application refused: HTTP 419"),
        (HttpAnswer(404), False, None),
        (HttpAnswer(404), True, "PUT /x: HTTP 404"),
        (HttpAnswer(502), True, "PUT /x: HTTP 502"),
    ],
)
def test_a_change_that_is_refused_is_a_problem_where_the_route_is_known(
    answer: HttpAnswer, given: bool, said: str | None
) -> None:
    found = changes._change_refusal(patient(changing=("PUT", "/x", "{}") if given else None), answer)
    assert (found.detail if found else None) == said


@pytest.mark.parametrize(
    ("answer", "same_secret", "said"),
    [
        (HttpAnswer(401, body=b"Timestamp expired: timestamp 5"), True, "the clocks differ"),
        (HttpAnswer(401), True, "the secret is right"),
        (HttpAnswer(401), False, "wrong REVERB_APP_SECRET"),
        (HttpAnswer(200, body=b'{"error": "no", "code": 401}'), False, "wrong REVERB_APP_SECRET"),
        (HttpAnswer(404, body=b"<h1>no</h1>"), False, "no HTTP API on this path"),
        (HttpAnswer(404, body=b"No matching application for ID [9]."), False, "wrong REVERB_APP_ID"),
        (HttpAnswer(404, body=b"{}"), False, "wrong REVERB_APP_ID"),
        (HttpAnswer(200, headers=HTML, body=b"<html>"), False, "a page in place of an answer"),
        (HttpAnswer(413), False, "max_request_size"),
        (HttpAnswer(422), False, "malformed"),
        (HttpAnswer(0, "timeout"), False, "look at the broadcaster's log; is it the port"),
        (HttpAnswer(418), False, "look at the broadcaster's log"),
        (HttpAnswer(502), True, "does not reach"),
    ],
)
def test_why_an_event_was_not_accepted(answer: HttpAnswer, same_secret: bool, said: str) -> None:
    assert said in publication._publish_advice(patient(same_secret=same_secret), answer)


@pytest.mark.parametrize(
    ("tree", "path", "version"),
    [
        ({"version": 4}, "version", 4),
        ({"data": {"updated_at": "2026-01-01"}}, "data.updated_at", "2026-01-01"),
        ({"data": {"updated_at": None}}, "data.updated_at", None),
        ({"data": 3}, "data.updated_at", None),
        ({"version": [1]}, "version", None),
    ],
)
def test_the_version_is_what_stands_at_its_path(tree: Any, path: str, version: Any) -> None:
    body = json.dumps(tree).encode()
    assert refetching.version_of(HttpAnswer(200, body=body), path) == version
    assert refetching.version_of(HttpAnswer(404, body=body), path) is None
    assert refetching.version_of(None, path) is None


def test_a_channel_of_an_application_s_own_is_hinted_at_where_its_users_own_something_else() -> None:
    assert authorisation._others(patient()) == ""
    users = (Account(1, "t", owned=(("orders", (17,)),)),)
    assert "private-orders.{id}" in authorisation._others(Patient(dataclasses.replace(TARGET, users=users)))


def test_the_rate_limit_that_the_headers_name() -> None:
    (none,), (some,) = (
        refetching._limits(HttpAnswer(200, headers=headers))
        for headers in ({}, {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "59"})
    )
    assert (none.detail, some.detail) == ("no rate limit in the headers", "60 a minute, 59 left")


def test_owner_and_stranger_are_users_with_different_resources() -> None:
    assert (patient().owner, patient().stranger, patient().resource) == (*TARGET.users, 5)
    same = Patient(dataclasses.replace(TARGET, users=(Account(1, "t", (5,)), Account(2, "u", (5,)))))
    assert same.stranger is None
    nothing = Patient(dataclasses.replace(TARGET, users=(Account(1, "t"), Account(2, "u", (6,)))))
    assert (nothing.owner, nothing.resource, nothing.stranger) == (Account(2, "u", (6,)), 6, Account(1, "t"))
    nobody = Patient(dataclasses.replace(TARGET, users=()))
    assert (nobody.owner, nobody.resource, nobody.stranger, nobody.channels) == (
        None,
        1,
        None,
        ["private-servers.1", "private-servers"],
    )
    assert Patient(TARGET, templates=("private-users.{user}.{id}",)).channels == ["private-users.1.5"]
    assert patient().path("/users/{user}/servers/{id}") == "/users/1/servers/5"
