"""Real clients against the broadcaster: pusher-js, Laravel Echo, and the server SDKs of npm and PyPI."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import pusher
import pytest

from sim.live.sockets import free_port
from tests.interop.clients import Script, authorising, http_server
from tests.live.broadcasters import APP, Client, Running, broadcaster, eventually

pytestmark = [pytest.mark.interop, pytest.mark.loopback]

MASTER_KEY = bytes([7]) * 32


def shared_secret(channel: str) -> str:
    """What an application derives for an encrypted channel (Pusher's rule): SHA-256 of the name and the master key."""
    return base64.b64encode(hashlib.sha256(channel.encode() + MASTER_KEY).digest()).decode()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with broadcaster() as running:
        yield running
        assert "Traceback" not in running.log, running.log


@pytest.fixture(scope="module")
def auth() -> Iterator[str]:
    with http_server(authorising(APP.key, APP.secret, shared_secret("private-encrypted-secret"))) as root:
        yield f"{root}/broadcasting/auth"


def config(server: Running, auth: str = "", **more: Any) -> dict[str, Any]:
    app = server.app
    return {"host": "127.0.0.1", "port": server.port, "id": app.id, "key": app.key, "secret": app.secret, "auth": auth, **more}


def test_pusher_js(server: Running, auth: str) -> None:
    with Script("pusher_js.mjs", config(server, auth)) as client:
        client.expect("connected")
        for channel in ("news", "private-a", "cache-c"):
            client.tell("subscribe", channel=channel)
            client.expect("event", channel=channel, event="pusher:subscription_succeeded")
        client.expect("event", channel="cache-c", event="pusher:cache_miss")
        server.publish(["news", "private-a", "cache-c"], "App\\Events\\X", {"text": "\u00e9/\u20ac"})
        for channel in ("news", "private-a", "cache-c"):
            client.expect("event", channel=channel, event="App\\Events\\X", data={"text": "\u00e9/\u20ac"})
        client.tell("subscribe", channel="private-servers.99")
        assert client.expect("event", event="pusher:subscription_error")["data"]["status"] == 403
        client.tell("unsubscribe", channel="news")
        client.expect("unsubscribed")
        server.publish(["news", "private-a"], "after", {})
        client.expect("event", channel="private-a", event="after")
        assert not [m for m in client.seen if m.get("channel") == "news" and m.get("event") == "after"]


def test_pusher_js_presence_and_client_events(server: Running, auth: str) -> None:
    with Client(server) as other, Script("pusher_js.mjs", config(server, auth)) as client:
        other.subscribe("presence-room", {"user_id": "7", "user_info": {"name": "Bo"}})
        client.expect("connected")
        client.tell("subscribe", channel="presence-room")
        roster = client.expect("event", event="pusher:subscription_succeeded")["data"]
        assert roster == {"count": 2, "me": "42", "members": {"7": {"name": "Bo"}, "42": {"name": "Ada"}}}
        added = {"user_id": "42", "user_info": {"name": "Ada"}}
        assert other.receive()["data"] == added
        client.tell("trigger", channel="presence-room", event="client-typing", data={"on": True})
        assert client.expect("triggered")["sent"] is True
        relayed = {"event": "client-typing", "channel": "presence-room", "data": {"on": True}, "user_id": "42"}
        assert other.receive() == relayed
        client.tell("disconnect")
        client.expect("state", state="disconnected")
        assert other.receive()["data"] == {"user_id": "42"}


def test_pusher_js_is_refused_for_good_by_an_unknown_key(server: Running) -> None:
    with Script("pusher_js.mjs", config(server) | {"key": "nobody"}) as client:
        assert client.expect("error")["error"]["code"] == 4001
        client.expect("state", state="disconnected")


def test_echo_listens_leaves_and_comes_back_after_a_restart(auth: str) -> None:
    port = free_port()
    with broadcaster(port=port) as server, Script("echo.mjs", config(server, auth)) as echo:
        first = echo.expect("connected")["socket_id"]
        echo.tell("listen", channel="servers.7", events=["ServerUpdated", ".server.updated"])
        echo.tell("listen", channel="servers.8", events=["ServerUpdated"])
        echo.tell("listen", channel="servers.99", events=["ServerUpdated"])
        echo.expect("refused", channel="servers.99", status=403)
        # In whichever order their authorisations are answered.
        both = {"private-servers.7", "private-servers.8"}
        eventually(lambda: both <= set(server.request("GET", f"/apps/{APP.id}/channels")[1]["channels"]))
        body = {"server_id": 7, "timestamp": "2026-01-01T00:00:00+00:00"}
        server.publish(["private-servers.7"], "App\\Events\\ServerUpdated", body)
        echo.expect("heard", channel="servers.7", event="ServerUpdated", data=body)
        server.publish(["private-servers.7"], "server.updated", body)
        echo.expect("heard", event=".server.updated")
        echo.tell("leave", channel="servers.8")
        echo.expect("left")
        server.process.terminate()
        server.process.wait(10)
        with broadcaster(port=port) as again:
            assert echo.expect("connected")["socket_id"] != first
            echo.expect("subscribed", channel="servers.7")
            again.publish(["private-servers.7", "private-servers.8"], "App\\Events\\ServerUpdated", {"after": "restart"})
            echo.expect("heard", channel="servers.7", data={"after": "restart"})
            channels = again.request("GET", f"/apps/{APP.id}/channels")[1]["channels"]
            assert "private-servers.8" not in channels


def test_echo_presence_and_whispers(server: Running, auth: str) -> None:
    with Client(server) as other, Script("echo.mjs", config(server, auth)) as echo:
        echo.expect("connected")
        echo.tell("join", channel="board")
        assert echo.expect("here")["users"] == [{"name": "Ada"}]
        other.subscribe("presence-board", {"user_id": "7", "user_info": {"name": "Bo"}})
        assert echo.expect("joining")["user"] == {"name": "Bo"}
        other.send('{"event":"client-typing","channel":"presence-board","data":{"on":1}}')
        assert echo.expect("whispered")["data"] == {"on": 1}
        echo.tell("whisper", channel="board", data={"off": 1})
        assert other.receive()["data"] == {"off": 1}
        other.socket.close()
        assert echo.expect("leaving")["user"] == {"name": "Bo"}


def test_the_npm_server_sdk(server: Running, auth: str) -> None:
    with (
        Client(server) as news,
        Client(server) as member,
        Script("pusher_js.mjs", config(server, auth)) as secret,
    ):
        news.subscribe("news")
        member.subscribe("presence-room", {"user_id": "7"})
        secret.expect("connected")
        secret.tell("subscribe", channel="private-encrypted-secret")
        secret.expect("event", event="pusher:subscription_succeeded")
        with Script("pusher_server.mjs", config(server, socket_id=news.socket_id)) as sdk:
            counts = {"news": {"subscription_count": 1}, "presence-room": {"user_count": 1}}
            assert sdk.expect("trigger") == {"what": "trigger", "status": 200, "body": {"channels": counts}}
            assert sdk.expect("batch")["body"] == {"batch": {}}
            listed = sdk.expect("channels")["body"]["channels"]
            assert listed["news"] == {"subscription_count": 1}
            assert sdk.expect("channel")["body"] == {"occupied": True, "subscription_count": 1}
            assert sdk.expect("users")["body"] == {"users": [{"id": "7"}]}
            assert sdk.expect("excluded")["status"] == 200
            assert sdk.expect("terminated")["status"] == 200
            assert sdk.expect("unsigned")["status"] == 401
        assert [news.receive()["event"] for _ in range(2)] == ["first", "second"]
        assert news.socket.recv() == r'{"event":"third","channel":"news","data":"text \u00e9 \/ \""}'
        assert news.nothing_waits()
        assert member.receive()["event"] == "first"
        assert member.socket.recv_frame().opcode == 8
        assert secret.expect("event", event="hidden")["data"] == {"c": 3}


def test_the_pypi_server_sdk(server: Running) -> None:
    sdk = pusher.Pusher(app_id=APP.id, key=APP.key, secret=APP.secret, host="127.0.0.1", port=server.port, ssl=False)
    with Client(server) as news, Client(server) as member:
        news.subscribe("news")
        member.subscribe("presence-room", {"user_id": "7"})
        assert sdk.trigger(["news", "empty"], "first", {"a": 1}) == {}
        assert sdk.trigger_batch([{"channel": "news", "name": "second", "data": "{}"}]) == {"batch": {}}
        sdk.trigger("news", "third", {}, socket_id=news.socket_id)
        assert news.receive() == {"event": "first", "data": {"a": 1}, "channel": "news"}
        assert news.receive()["event"] == "second"
        assert news.nothing_waits()
        assert sdk.channels_info("presence-", ["user_count"]) == {"channels": {"presence-room": {"user_count": 1}}}
        assert sdk.channel_info("news", ["subscription_count"]) == {"occupied": True, "subscription_count": 1}
        assert sdk.users_info("presence-room") == {"users": [{"id": "7"}]}
