"""Who may listen, exactly as Laravel decides it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sim.brokeforge.broadcasting.channels import ChannelRoutes, Person
from sim.brokeforge.domain.models import Server, Task
from sim.pusher.auth import verify_channel
from tests.brokeforge.forge import Forge


@pytest.mark.parametrize(
    ("channel", "user", "status"),
    [
        ("private-servers.1", 1, 200),
        ("private-servers.2", 1, 200),
        ("private-servers.3", 1, 403),
        ("private-servers.3", 2, 200),
        ("private-servers.999", 1, 403),
        ("private-servers.1.provision", 1, 200),
        ("private-servers.1.provision", 2, 403),
        ("private-servers", 1, 200),
        ("private-servers", 3, 200),
        ("private-sites.1", 1, 200),
        ("private-sites.1", 2, 403),
        ("private-sites.999", 1, 403),
        ("private-sites", 2, 200),
        ("private-users.1.servers", 1, 200),
        ("private-users.1.servers", 2, 403),
        ("private-users.1.sites", 1, 200),
        ("private-users.2.sites", 1, 403),
        ("private-tasks.1", 1, 200),
        ("private-tasks.1", 2, 403),
        ("private-tasks.999", 1, 403),
        ("presence-servers.1.viewers", 1, 200),
        ("presence-servers.1.viewers", 2, 403),
        ("private-encrypted-servers.1", 1, 200),
        ("private-nothing", 1, 403),
        ("private-servers.", 1, 403),
        ("private-servers.1.log", 1, 403),
        ("private-servers.abc", 1, 403),
        ("private-servers.1e0", 1, 403),
        ("private-servers.-1", 1, 403),
        ("private-servers.000000000000000001", 1, 200),
        ("private-servers.0000000000000000001", 1, 403),
        ("private-serversX1", 1, 403),
        ("private-", 1, 403),
        ("private-private-servers.1", 1, 403),
        ("", 1, 403),
    ],
)
def test_the_channels_of_the_application(forge: Forge, channel: str, user: int, status: int) -> None:
    response = forge.auth(channel, user=user)
    assert response.status == status
    answer = json.loads(response.body)
    if status == 200:
        assert verify_channel("key", "secret", "1234.5678", channel, answer["auth"], answer.get("channel_data", ""))
    else:
        assert answer == {"message": "Forbidden."}


@pytest.mark.parametrize("channel", ["private-servers.1", "private-servers", "private-nothing", ""])
def test_a_guest_is_401_whatever_they_ask_for(forge: Forge, channel: str) -> None:
    assert forge.auth(channel, user=None).status == 401


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer nonsense", "Basic abc", "nonsense"])
def test_a_token_that_is_none_is_401(forge: Forge, header: str) -> None:
    response = forge.request(
        "POST", "/broadcasting/auth", b"socket_id=1.2&channel_name=x", user=None, headers={"authorization": header}
    )
    assert (response.status, dict(response.headers)["WWW-Authenticate"]) == (401, "Bearer")


def test_presence_tells_who_it_is_and_signs_it(forge: Forge) -> None:
    answer = json.loads(forge.auth("presence-servers.1.viewers").body)
    assert json.loads(answer["channel_data"]) == {"user_id": "1", "user_info": {"id": 1, "name": "Ada 1"}}
    assert not verify_channel("key", "secret", "1234.5678", "presence-servers.1.viewers", answer["auth"])


def test_the_worked_vector_of_the_protocol(forge: Forge) -> None:
    forge.app.key, forge.app.secret = "demo-key", "demo-secret"
    # The example of the specification is server 7: the one after the sample fleet of six.
    forge.json("POST", "/servers", {"vanity_name": "seven"}, status=201)
    answer = json.loads(forge.auth("private-servers.7").body)
    assert answer == {"auth": "demo-key:ec34bfe6d4f002eac39680573ae4b534324996801d1d6a72d5ff97d7ed8cdbfe"}


@pytest.mark.parametrize("socket_id", ["", "1234", "1234.", "a.b", "1.2.3", "1.2 ", "-1.2"])
def test_a_malformed_socket_id_is_422_where_laravel_fails_with_500(forge: Forge, socket_id: str) -> None:
    response = forge.auth("private-servers.1", socket_id=socket_id)
    assert response.status == 422
    assert "socket_id" in json.loads(response.body)["errors"]


@pytest.mark.parametrize("channel", ["private-servers/1", "private-ser vers", "private-sérvers", "private-" + "x" * 300])
def test_a_channel_name_that_no_broadcaster_takes_is_422(forge: Forge, channel: str) -> None:
    response = forge.auth(channel)
    assert response.status == 422
    assert "channel_name" in json.loads(response.body)["errors"]


def test_json_and_query_are_taken_as_a_form_is(forge: Forge) -> None:
    fields = {"socket_id": "1234.5678", "channel_name": "private-servers.1"}
    by_form = forge.auth("private-servers.1").body
    by_json = forge.request("POST", "/broadcasting/auth", fields, headers={"content-type": "application/json"}).body
    by_query = forge.request("GET", "/broadcasting/auth?socket_id=1234.5678&channel_name=private-servers.1").body
    assert by_form == by_json == by_query


def test_owner_of_a_task_hears_of_it(forge: Forge) -> None:
    with forge.app.transaction() as session:
        session.add(Task(server=session.get_one(Server, 1), name="dump", created_at=0))
    assert forge.auth("private-tasks.1").status == 200
    assert forge.auth("private-tasks.1", user=2).status == 403


# --- the rules themselves ---


def verify(forge: Forge, channels: ChannelRoutes, name: str) -> Any:
    return channels.verify(forge.database.read(), Person(1, "Ada"), name)


def test_the_first_pattern_that_matches_decides_unless_it_has_no_opinion(forge: Forge) -> None:
    channels, asked = ChannelRoutes(), []

    def first(user: Person, x: str) -> Any:
        asked.append(("first", x))
        return {"no": False, "empty": [], "none": None, "zero": 0, "yes": True}[x]

    def second(user: Person, y: str) -> Any:
        asked.append(("second", y))
        return {"user": y}

    channels.add("a.{x}", first, str)
    channels.add("a.{y}", second, str)

    assert verify(forge, channels, "a.yes") is True
    assert verify(forge, channels, "a.no") is None
    assert asked == [("first", "yes"), ("first", "no")], "False ends the search"
    for empty in ("empty", "none", "zero"):
        assert verify(forge, channels, f"a.{empty}") == {"user": empty}


def test_a_pattern_is_anchored_and_its_parameters_hold_no_dots(forge: Forge) -> None:
    channels = ChannelRoutes()
    channels.add("orders.{order}.items.{item}", lambda user, order, item: {"order": order, "item": item}, int, str)
    assert verify(forge, channels, "orders.7.items.x") == {"order": 7, "item": "x"}
    for name in (
        "orders.7.items.x.y",
        "orders.7.items.",
        "xorders.7.items.x",
        "ordersX7Xitems.x",
        "orders.a.items.x",
    ):
        assert verify(forge, channels, name) is None
