"""Signatures of the Pusher protocol: subscriptions and HTTP requests.

Both are HMAC-SHA256 in lower-case hex, keyed with the app's secret; comparison takes the same time wherever the first
difference is. Sources: Pusher "Library auth reference" and laravel/reverb 1.10 (`EnsureValidSignature`).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from functools import lru_cache
from hashlib import md5
from urllib.parse import urlencode

UNSIGNED_PARAMETERS = frozenset({"auth_signature", "appId", "appKey", "channelName"})
"""Query parameters that never enter the text of a request's signature."""


@lru_cache(maxsize=64)
def _keyed(secret: str) -> hmac.HMAC:
    """To be copied: setting up a key costs OpenSSL more than the text of a request does."""
    return hmac.new(secret.encode(), digestmod="sha256")


def _hex(secret: str, text: str) -> str:
    mac = _keyed(secret).copy()
    mac.update(text.encode())
    return mac.hexdigest()


def channel_signature(secret: str, socket_id: str, channel: str, channel_data: str = "") -> str:
    """What a subscription to *channel* by *socket_id* must carry, as hex. *channel_data* is the exact JSON text sent."""
    text = f"{socket_id}:{channel}:{channel_data}" if channel_data else f"{socket_id}:{channel}"
    return _hex(secret, text)


def channel_auth(key: str, secret: str, socket_id: str, channel: str, channel_data: str = "") -> str:
    """The `auth` member of a subscribe frame, as an authorisation endpoint answers it: `KEY:HEX`."""
    return f"{key}:{channel_signature(secret, socket_id, channel, channel_data)}"


def verify_channel(
    key: str, secret: str, socket_id: str, channel: str, auth: str, channel_data: str = "", *, check_key: bool = True
) -> bool:
    """Whether *auth* allows the subscription.

    *check_key* False compares only what follows the first colon (all of it when there is none), as Reverb does.
    """
    sent_key, colon, signature = auth.partition(":")
    if check_key and sent_key != key:
        return False
    if not colon:
        signature = auth
    expected = channel_signature(secret, socket_id, channel, channel_data)
    return hmac.compare_digest(expected.encode(), signature.encode())


def request_signature(secret: str, method: str, path: str, params: Mapping[str, str], body: bytes) -> str:
    """The hex signature of an HTTP API request: `METHOD`, *path* and the sorted, undecorated `name=value` pairs, one a line.

    *path* is without server prefix and query; *params* hold decoded values (arrays joined by commas). The body is
    represented by its MD5 (as computed, not as sent), unless it is empty and *params* have no `body_md5` (Python's client signs
    one for GET as well).
    """
    if body or "body_md5" in params:
        params = {**params, "body_md5": md5(body, usedforsecurity=False).hexdigest()}
    pairs = "&".join([f"{name}={params[name]}" for name in sorted(params) if name not in UNSIGNED_PARAMETERS])
    return _hex(secret, f"{method}\n{path}\n{pairs}")


def sign_request(key: str, secret: str, method: str, path: str, params: Mapping[str, str], body: bytes, timestamp: int) -> str:
    """The whole query string (percent-encoded, signature last) for a request at *timestamp*, Unix seconds."""
    query = dict(params) | {"auth_key": key, "auth_timestamp": str(timestamp), "auth_version": "1.0"}
    if body:
        query["body_md5"] = md5(body, usedforsecurity=False).hexdigest()
    signature = request_signature(secret, method, path, query, body)
    return urlencode([*sorted(query.items()), ("auth_signature", signature)])


def verify_request(secret: str, method: str, path: str, query_params: Mapping[str, str], body: bytes) -> bool:
    """Whether the request's `auth_signature` is the one its method, path, other parameters and body must have."""
    sent = query_params.get("auth_signature", "")
    return hmac.compare_digest(request_signature(secret, method, path, query_params, body).encode(), sent.encode())
