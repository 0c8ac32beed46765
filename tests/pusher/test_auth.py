"""Signatures against worked vectors of the protocol's documentation, and against another implementation."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pusher
from hypothesis import given
from hypothesis import strategies as st

from sim.pusher import auth

KEY, SECRET = "demo-key", "demo-secret"
BODY = rb'{"name":"App\\Events\\ServerUpdated","data":"{\"id\":7}","channel":"private-servers.7"}'


def test_a_private_subscription() -> None:
    signed = auth.channel_auth(KEY, SECRET, "1234.5678", "private-servers.7")
    assert signed == "demo-key:ec34bfe6d4f002eac39680573ae4b534324996801d1d6a72d5ff97d7ed8cdbfe"


def test_a_presence_subscription_signs_its_channel_data() -> None:
    data = '{"user_id":"42","user_info":{"name":"Ada"}}'
    signed = auth.channel_auth(KEY, SECRET, "1234.5678", "presence-room.1", data)
    assert signed == "demo-key:37067fc230a4d65b35f16df55846ef01cf86cacd54a59cdd860257b7c84a930d"


def test_a_post_and_a_get() -> None:
    post = auth.sign_request(KEY, SECRET, "POST", "/apps/4711/events", {}, BODY, 1700000000)
    assert dict(parse_qsl(post))["body_md5"] == "dd18c4b95526976dc3c75d40b1df51c0"
    assert post.endswith("auth_signature=c3f1eceb2fb6296981a5efa5a11212e171cfde0057c66685a91c969b969dcf5e")
    query = {"filter_by_prefix": "presence-", "info": "user_count"}
    get = auth.sign_request(KEY, SECRET, "GET", "/apps/4711/channels", query, b"", 1700000000)
    assert get.endswith("auth_signature=55cc38a42d46f21fa9e96e23229a978162801840bb2d9fc698f4c895a80d265d")


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=50))
def test_what_is_signed_is_verified_and_nothing_else(name: str, value: str, body: bytes) -> None:
    signed = auth.sign_request(KEY, SECRET, "POST", "/apps/1/events", {f"x{name}": value}, body, 1)
    query = dict(parse_qsl(signed, keep_blank_values=True))
    assert auth.verify_request(SECRET, "POST", "/apps/1/events", query, body)
    assert not auth.verify_request(SECRET, "POST", "/apps/1/events", query, body + b"x")
    assert not auth.verify_request(SECRET, "GET", "/apps/1/events", query, body)
    assert not auth.verify_request("another", "POST", "/apps/1/events", query, body)
    assert not auth.verify_request(SECRET, "POST", "/apps/1/events", query | {f"x{name}": value + "y"}, body)


def test_the_clean_rule_wants_the_apps_key() -> None:
    signature = auth.channel_signature(SECRET, "1.2", "private-x")

    def verified(text: str, check_key: bool) -> bool:
        return auth.verify_channel(KEY, SECRET, "1.2", "private-x", text, check_key=check_key)

    assert verified(f"{KEY}:{signature}", True)
    assert not verified(f"other:{signature}", True)
    assert not verified(signature, True)
    assert verified(f"other:{signature}", False)
    assert verified(signature, False)
    assert not verified("\u00e9", False)


def test_the_python_server_library_signs_the_same() -> None:
    client = pusher.Pusher(app_id="1", key=KEY, secret=SECRET, host="127.0.0.1", ssl=False)
    theirs = client.authenticate("private-servers.7", "1234.5678")
    assert theirs["auth"] == auth.channel_auth(KEY, SECRET, "1234.5678", "private-servers.7")
    theirs = client.authenticate("presence-room", "1234.5678", {"user_id": "42", "user_info": {"name": "Ada"}})
    assert theirs["auth"] == auth.channel_auth(KEY, SECRET, "1234.5678", "presence-room", theirs["channel_data"])
