"""The HTTP API, request by request, without a socket."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from sim.pusher import auth
from sim.pusher.http import HttpRequest, HttpResponse, dumps
from sim.pusher.server.api import GET_ONLY, TOO_LARGE, HttpApi
from sim.pusher.server.queries import describe
from tests.pusher.peers import House


class Server:
    """An API over a hub, and a client that signs."""

    def __init__(self, faithful: bool = False, prefix: str = "") -> None:
        self.house = House(faithful=faithful)
        self.api = HttpApi(self.house.hub, prefix)
        self.prefix = prefix

    def raw(self, request: HttpRequest) -> HttpResponse:
        answers: list[HttpResponse] = []
        self.api.handle(request, self.house.now, answers.append)
        self.house.outbox.flush()
        (answer,) = answers
        return answer

    def call(self, method: str, path: str, body: Any = None, app: str = "1", **params: str) -> tuple[int, Any]:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        path = f"/apps/{app}/{path}"
        query = auth.sign_request("key", "secret", method, path, params, data, int(time.time()))
        answer = self.raw(HttpRequest(method, f"{self.prefix}{path}?{query}", body=data))
        return answer.status, json.loads(answer.body) if answer.json else answer.body


@pytest.fixture
def server() -> Server:
    return Server()


EVENT = {"name": "App\\Events\\ServerUpdated", "data": '{"id":7}', "channel": "news"}


def test_an_event_reaches_its_channels_except_the_excluded_socket(server: Server) -> None:
    a, b = server.house.member("news"), server.house.member("other")
    body = {"name": "e", "data": '{"x":1}', "channels": ["news", "other", "empty"], "socket_id": b.socket_id}
    assert server.call("POST", "events", body) == (200, {})
    assert a.received() == [{"event": "e", "data": {"x": 1}, "channel": "news"}]
    assert b.received() == []


def test_info_describes_the_channels_that_were_published_to(server: Server) -> None:
    server.house.member("news")
    body = EVENT | {"channels": ["news", "empty"], "info": "subscription_count,user_count"}
    assert server.call("POST", "events", body) == (200, {"channels": {"news": {"subscription_count": 1}, "empty": {}}})


def test_a_batch_keeps_its_order_across_channels(server: Server) -> None:
    peer = server.house.member("a")
    server.house.subscribe(peer, "b")
    peer.received()
    items = [{"name": str(n), "channel": channel, "data": "{}"} for n, channel in enumerate("abaab")]
    assert server.call("POST", "batch_events", {"batch": items}) == (200, {"batch": {}})
    assert peer.events() == ["0", "1", "2", "3", "4"]
    items[1]["info"] = "subscription_count"
    answer = [{}, {"subscription_count": 1}, {}, {}, {}]
    assert server.call("POST", "batch_events", {"batch": items}) == (200, {"batch": answer})


def test_a_batch_that_excludes_a_connection_breaks_reverb_and_is_an_exclusion_here(server: Server) -> None:
    for house, status, heard in ((server, 200, []), (Server(faithful=True), 500, [])):
        peer = house.house.member("a")
        item = {"name": "e", "channel": "a", "data": "{}"}
        assert house.call("POST", "batch_events", {"batch": [item | {"socket_id": peer.socket_id}]})[0] == status
        assert peer.events() == heard
        assert house.call("POST", "batch_events", {"batch": [item | {"socket_id": "9.9"}]})[0] == 200
        assert peer.events() == ["e"]


def test_questions_about_channels(server: Server) -> None:
    server.house.member("news")
    server.house.member("presence-room", {"user_id": 1})
    server.house.member("presence-room", {"user_id": "1"})
    server.house.member("presence-room", {"user_id": "2"})
    server.house.member("cache-x")
    server.call("POST", "events", EVENT | {"channel": "cache-x"})
    everything = server.call("GET", "channels", info="user_count,subscription_count,occupied")[1]["channels"]
    assert everything == {
        "news": {"occupied": True, "subscription_count": 1},
        "presence-room": {"occupied": True, "user_count": 2},
        "cache-x": {"occupied": True, "subscription_count": 1},
    }
    assert server.call("GET", "channels", filter_by_prefix="presence-")[1] == {"channels": {"presence-room": {}}}
    assert server.call("GET", "channels", filter_by_prefix="zzz")[1] == {"channels": {}}
    assert server.call("GET", "channels/news", info="subscription_count")[1] == {"occupied": True, "subscription_count": 1}
    assert server.call("GET", "channels/nobody")[1] == {"occupied": False}
    cached = {"event": EVENT["name"], "data": EVENT["data"], "channel": "cache-x"}
    assert server.call("GET", "channels/cache-x", info="cache")[1]["cache"] == cached
    assert server.call("GET", "channels/presence-room/users")[1] == {"users": [{"id": 1}, {"id": "2"}]}
    assert server.call("GET", "channels/news/users") == (400, {})
    assert server.call("GET", "channels/presence-nobody/users") == (404, {})
    assert server.call("GET", "connections") == (200, {"connections": 5})


def test_terminate(server: Server) -> None:
    server.house.member("news")
    ada = server.house.member("presence-room", {"user_id": "4/2"})
    assert server.call("POST", "users/4%2F2/terminate_connections", {}) == (200, {})
    assert ada.ended


def test_a_share_of_the_connections_is_dropped(server: Server) -> None:
    members = [server.house.member("news") for _ in range(10)]
    for share in (None, True, -0.1, 1.5, "all"):
        assert server.call("DELETE", "connections", {"share": share})[0] == 422
    assert not any(member.ended for member in members)
    assert server.call("DELETE", "connections", {"share": 0.3}) == (200, {"dropped": 3})
    assert sum(bool(member.ended) for member in members) == 3
    assert server.call("DELETE", "connections", {"share": 1}) == (200, {"dropped": 7})


VALIDATION: dict[str, tuple[Any, list[str]]] = {
    "nothing": ({}, ["name", "data", "channels", "channel"]),
    "data is an object": (EVENT | {"data": {}}, ["data"]),
    "blank name": (EVENT | {"name": "  "}, ["name"]),
    "channels is a string": ({"name": "e", "data": "{}", "channels": "news"}, ["channels"]),
    "channels is empty": ({"name": "e", "data": "{}", "channels": []}, ["channels", "channel"]),
    "socket id is a number": (EVENT | {"socket_id": 5}, ["socket_id"]),
    "info is a list": (EVENT | {"info": []}, ["info"]),
}


@pytest.mark.parametrize(("body", "fields"), VALIDATION.values(), ids=VALIDATION)
def test_validation_names_the_fields(server: Server, body: Any, fields: list[str]) -> None:
    status, errors = server.call("POST", "events", body)
    assert (status, list(errors)) == (422, fields)


def test_validation_of_a_batch_names_the_item(server: Server) -> None:
    status, errors = server.call("POST", "batch_events", {"batch": [{"name": "e", "data": "{}"}, 5]})
    assert status == 422
    assert errors["batch.0.channel"] == ["The batch.0.channel field is required when channels is not present."]
    assert errors["batch.1.name"] == ["The batch.1.name field is required."]
    assert server.call("POST", "batch_events", {"batch": {}})[1] == {"batch": ["The batch field is required."]}


@pytest.mark.parametrize("body", [b"5", b"[]", b"{", b"\xff", b"name=x"])
def test_a_body_that_is_no_object(body: bytes) -> None:
    assert Server().call("POST", "events", body)[0] == 400
    assert Server(faithful=True).call("POST", "events", body) == (500, "Internal server error.")


def test_channels_that_are_no_strings(server: Server) -> None:
    assert server.call("POST", "events", {"name": "e", "data": "{}", "channels": [1]})[0] == 400


def test_refusals(server: Server) -> None:
    assert server.call("GET", "channels", app="9") == (404, "No matching application for ID [9].")
    assert server.raw(HttpRequest("GET", "/apps/1/channels")).status == 401
    assert server.raw(HttpRequest("GET", "/nope")).status == 404
    wrong_method = server.raw(HttpRequest("GET", "/apps/1/events"))
    assert (wrong_method.status, wrong_method.headers) == (405, (("Allow", "POST"),))
    assert server.raw(HttpRequest("GET", "/app/key")).status == 426
    assert (TOO_LARGE.status, GET_ONLY.status) == (413, 405)
    assert server.raw(HttpRequest("GET", "/up")).body == '{"health":"OK"}'


@pytest.mark.parametrize("facts", [None, {"subscriptions": 0}, {"subscriptions": 0, "users": []}])
def test_of_a_channel_that_nobody_is_on_nothing_but_that_is_said(facts: Any) -> None:
    assert describe(facts, ["occupied", "user_count", "subscription_count", "cache"]) == {"occupied": False}


def test_a_path_prefix_is_in_front_of_every_route_and_not_signed() -> None:
    server = Server(prefix="/ws")
    assert server.call("GET", "connections") == (200, {"connections": 0})
    assert server.raw(HttpRequest("GET", "/ws/up")).status == 200
    assert server.raw(HttpRequest("GET", "/up")).status == 404


def test_a_signature_is_for_one_body() -> None:
    server = Server()
    data = json.dumps(EVENT).encode()
    query = auth.sign_request("key", "secret", "POST", "/apps/1/events", {}, data, int(time.time()))
    assert server.raw(HttpRequest("POST", f"/apps/1/events?{query}", body=data)).status == 200
    assert server.raw(HttpRequest("POST", f"/apps/1/events?{query}", body=data + b" ")).status == 401


def test_query_parameters() -> None:
    request = HttpRequest("GET", "/x?a=1&b=%2Fc+d&info[]=x&info%5B%5D=y&flag&&=")
    assert request.query() == {"a": "1", "b": "/c d", "info": "x,y", "flag": "", "": ""}


def test_json_answers_are_safe_inside_html() -> None:
    assert dumps({"a": '<b>&\'"\\"'}) == r'{"a":"\u003Cb\u003E\u0026\u0027\u0022\\\u0022"}'
    assert json.loads(dumps({"a": '<b>&\'"\\"/'})) == {"a": '<b>&\'"\\"/'}


def test_answers_on_the_wire() -> None:
    answer = HttpResponse(200, "{}")
    assert answer.encode(keep_alive=True) == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    assert b"Connection: close" in answer.encode(keep_alive=False)
    assert answer.encode(keep_alive=True, head=True).endswith(b"Content-Length: 2\r\n\r\n")
    assert answer.encode_as_reverb("now") == (
        b"HTTP/1.0 200 OK\r\nCache-Control:  no-cache, private\r\nContent-Length: 2\r\n"
        b"Content-Type:   application/json\r\nDate:           now\r\n\r\n{}"
    )


# ---- signatures


def signed(server: Server, key: str, age: float, more: str = "") -> int:
    """The answer's status to a request with a right signature that is *age* seconds old."""
    path = "/apps/1/channels"
    query = auth.sign_request(key, "secret", "GET", path, {}, b"", int(server.api.clock() - age))
    return server.raw(HttpRequest("GET", f"{path}?{query}{more}")).status


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (599, True), (-599, True), (602, False), (-602, False), (86_400, False)])
def test_a_signature_is_good_for_ten_minutes(server: Server, age: float, fresh: bool) -> None:
    assert signed(server, "key", age) == (200 if fresh else 401)
    assert signed(Server(faithful=True), "key", age) == 200


def test_a_signature_in_another_apps_name_is_refused(server: Server) -> None:
    assert signed(server, "other", 0) == 401
    assert signed(Server(faithful=True), "other", 0) == 200


@pytest.mark.parametrize("stamp", ["", "now", "1e9", "-1", "\u0661\u0662", "9" * 40])
def test_a_time_stamp_that_is_none_is_refused(server: Server, stamp: str) -> None:
    params = {"auth_key": "key", "auth_timestamp": stamp, "auth_version": "1.0"}
    signature = auth.request_signature("secret", "GET", "/apps/1/channels", params, b"")
    query = urlencode([*params.items(), ("auth_signature", signature)])
    assert server.raw(HttpRequest("GET", f"/apps/1/channels?{query}")).status == 401


def test_a_signature_as_a_list_counts_or_is_reverbs_fault() -> None:
    for faithful, status in ((False, 200), (True, 500)):
        server = Server(faithful)
        query = auth.sign_request("key", "secret", "GET", "/apps/1/channels", {}, b"", int(server.api.clock()))
        query = query.replace("auth_signature=", "auth_signature[]=")
        assert server.raw(HttpRequest("GET", f"/apps/1/channels?{query}")).status == status
