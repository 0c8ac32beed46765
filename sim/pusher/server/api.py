"""The HTTP API: signed routes to publish, ask and terminate; `/up` unsigned. No socket.

`HttpApi.handle` answers through a callback, at once on a single node and for publishing; what asks about channels may have to
wait for other nodes (`HttpApi.ask`). Sources: Pusher "HTTP API reference"; laravel/reverb 1.10 for words and edge cases.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from random import Random
from typing import Any
from urllib.parse import unquote

from sim.pusher import messages, validation
from sim.pusher.auth import verify_request
from sim.pusher.http import HttpRequest, HttpResponse, dumps
from sim.pusher.server import queries
from sim.pusher.server.hub import Hub
from sim.pusher.server.state import Space
from sim.pusher.upgrade import APP_PATH, UPGRADE_HEADERS, refuse

Respond = Callable[[HttpResponse], None]
Ask = Callable[[Space, Mapping[str, Any], int, Callable[[Any], None]], None]

OK = HttpResponse(200, "{}")
NOT_FOUND = HttpResponse(404, "Not found.", json=False)
UNSIGNED = HttpResponse(401, "Authentication signature invalid.", json=False)
TOO_LARGE = HttpResponse(413, "Payload too large.", json=False)
BAD_REQUEST = HttpResponse(400, "Bad request.", json=False)
GET_ONLY = HttpResponse(405, "Method not allowed.", json=False, headers=(("Allow", "GET"),))
UPGRADE_REQUIRED = refuse(426, "Upgrade header MUST be provided", UPGRADE_HEADERS)
INTERNAL_ERROR = HttpResponse(500, "Internal server error.", json=False)


MAX_AGE = 600
"""Seconds that a signature is good for (Pusher "HTTP API reference")."""


class Rejected(Exception):
    """The request cannot be served; carries its answer."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response.body)
        self.response = response


class HttpApi:
    """The routes of one node. Replace `ask` and `announce` to have a cluster behind them."""

    def __init__(self, hub: Hub, prefix: str = "", clock: Callable[[], float] = time.time) -> None:
        """*clock*: seconds since 1970, to tell how old a signature is."""
        self.hub = hub
        self.clock = clock
        self.prefix = prefix.rstrip("/")
        self.ask: Ask = lambda space, query, now, done: done(queries.answer(space, query, now))
        self.announce: Callable[[Space, dict[str, Any]], None] = lambda space, message: None
        """Tell the other nodes (`cluster` says what)."""

    def handle(self, request: HttpRequest, now: int, respond: Respond) -> None:
        """Serve one request: *respond* is called exactly once, now or later."""
        try:
            route, captures = self.route(request)
            if route in UNSIGNED_ROUTES:
                route(self, respond)
            else:
                route(self, self._authorised(request, captures[0]), request, captures[1:], now, respond)
        except Rejected as rejected:
            respond(rejected.response)

    def route(self, request: HttpRequest) -> tuple[Callable[..., None], tuple[str, ...]]:
        """The handler and what its path captured. Raises `Rejected` (404, 405)."""
        path = request.path
        if self.prefix:
            if not path.startswith(self.prefix + "/"):
                raise Rejected(NOT_FOUND)
            path = path[len(self.prefix) :]
        return _routed("GET" if request.method == "HEAD" else request.method, path)

    def _authorised(self, request: HttpRequest, app_id: str) -> Space:
        space = self.hub.spaces.get(app_id)
        if space is None:
            raise Rejected(HttpResponse(404, f"No matching application for ID [{app_id}].", json=False))
        if self.hub.faithful and request.chunked:
            raise Rejected(UNSIGNED)
        path = request.path[len(self.prefix) :]
        query = request.query()
        if self.hub.faithful and "auth_signature[]=" in unquote(request.target):
            raise Rejected(INTERNAL_ERROR)
        if self.hub.faithful and not request.body:
            query.pop("body_md5", None)
        if not verify_request(space.app.secret, request.method, path, query, request.body):
            raise Rejected(UNSIGNED)
        if not self.hub.faithful:
            self._require_own_and_fresh(space, query)
        return space

    def _require_own_and_fresh(self, space: Space, query: Mapping[str, str]) -> None:
        """Raises `Rejected` 401 for a signature in another app's name, or one that is too old to be anything but a replay."""
        if query.get("auth_key") != space.app.key:
            raise Rejected(HttpResponse(401, "The auth_key is not this application's key.", json=False))
        stamp = query.get("auth_timestamp", "")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 12) or abs(self.clock() - int(stamp)) > MAX_AGE:
            seen = f"The auth_timestamp must be within {MAX_AGE} seconds of the server's time, {int(self.clock())}."
            raise Rejected(HttpResponse(401, seen, json=False))

    # ---- the routes

    def _health(self, respond: Respond) -> None:
        respond(HttpResponse(200, '{"health":"OK"}'))

    def _not_upgraded(self, respond: Respond) -> None:
        """A plain GET where a WebSocket is."""
        respond(INTERNAL_ERROR if self.hub.faithful else UPGRADE_REQUIRED)

    def _events(self, space: Space, request: HttpRequest, captures: tuple[str, ...], now: int, respond: Respond) -> None:
        tree = self._body(request)
        self._validate(validation.event_errors(tree))
        channels = tree["channels"] if "channels" in tree else [tree["channel"]]
        names = self._names(channels)
        for name in names:
            self._publish(space, name, messages.event(tree["name"], tree["data"], name), tree.get("socket_id"), now)
        if not tree.get("info"):
            respond(OK)
            return
        info = tree["info"].split(",")

        def done(found: dict[str, queries.Facts]) -> None:
            respond(self._json({"channels": {name: queries.describe(found.get(name), info) for name in names}}))

        self.ask(space, {"kind": "channels", "names": names}, now, done)

    def _batch_events(self, space: Space, request: HttpRequest, captures: tuple[str, ...], now: int, respond: Respond) -> None:
        tree = self._body(request)
        self._validate(validation.batch_errors(tree))
        batch = list(tree["batch"].values()) if type(tree["batch"]) is dict else tree["batch"]
        if self.hub.faithful and any(item.get("socket_id") in space.connections for item in batch):
            raise Rejected(INTERNAL_ERROR)
        previous = None
        for item in batch:
            if item["channel"] != previous:
                self.hub.outbox.barrier()  # the items of one batch keep their order also across channels
                previous = item["channel"]
            frame = messages.batch_event(item["name"], item["data"], item["channel"])
            self._publish(space, item["channel"], frame, item.get("socket_id"), now)
        if not any(item.get("info") for item in batch):
            respond(HttpResponse(200, '{"batch":{}}'))
            return

        def done(found: dict[str, queries.Facts]) -> None:
            described = [queries.describe(found.get(i["channel"]), (i.get("info") or "").split(",")) for i in batch]
            respond(self._json({"batch": described}))

        self.ask(space, {"kind": "channels", "names": sorted({item["channel"] for item in batch})}, now, done)

    def _publish(self, space: Space, name: str, frame: str, excluded: str | None, now: int) -> None:
        self.hub.publish(space, name, frame, excluded, now)
        self.announce(space, {"type": "message", "channel": name, "frame": frame, "socket_id": excluded})

    def _channels(self, space: Space, request: HttpRequest, captures: tuple[str, ...], now: int, respond: Respond) -> None:
        query = request.query()
        info = query.get("info", "").split(",")

        def done(found: dict[str, queries.Facts]) -> None:
            occupied = {name: facts for name, facts in found.items() if facts["subscriptions"] or facts.get("users")}
            listed: Any = {name: queries.describe(facts, info) for name, facts in occupied.items()}
            respond(self._json({"channels": listed or ([] if self.hub.faithful else {})}))

        self.ask(space, {"kind": "channels", "prefix": query.get("filter_by_prefix", "")}, now, done)

    def _channel(self, space: Space, request: HttpRequest, captures: tuple[str, ...], now: int, respond: Respond) -> None:
        (name,) = captures
        info = [*request.query().get("info", "").split(","), "occupied"]

        def done(found: dict[str, queries.Facts]) -> None:
            respond(self._json(queries.describe(found.get(name), info)))

        self.ask(space, {"kind": "channels", "names": [name]}, now, done)

    def _users(self, space: Space, request: HttpRequest, captures: tuple[str, ...], now: int, respond: Respond) -> None:
        (name,) = captures

        def done(found: dict[str, queries.Facts]) -> None:
            facts = found.get(name)
            if facts is None:
                respond(HttpResponse(404, "{}"))
            elif "users" not in facts:
                respond(HttpResponse(400, "{}"))
            else:
                respond(self._json({"users": [{"id": user_id} for user_id in facts["users"]]}))

        self.ask(space, {"kind": "channels", "names": [name]}, now, done)

    def _connections(self, space: Space, request: HttpRequest, captures: tuple[str, ...], now: int, respond: Respond) -> None:
        self.ask(space, {"kind": "connections"}, now, lambda count: respond(self._json({"connections": count})))

    def _terminate(self, space: Space, request: HttpRequest, captures: tuple[str, ...], now: int, respond: Respond) -> None:
        (user_id,) = captures
        if self.hub.faithful and any(
            not any(c.subscribers[connection].get("user_id") for c in connection.channels.values())
            for connection in space.subscribed()
        ):
            raise Rejected(INTERNAL_ERROR)
        self.hub.terminate(space, user_id)
        self.announce(space, {"type": "terminate", "user_id": user_id})
        respond(OK)

    def _disconnect(self, space: Space, request: HttpRequest, captures: tuple[str, ...], now: int, respond: Respond) -> None:
        """No route of Pusher's: `{"share": 0.5}` drops that share of this node's connections, chosen at random. A load test makes
        its incidents with it, also where this broadcaster behaves like Reverb."""
        share: Any = self._body(request).get("share")
        if type(share) not in (int, float) or not 0 <= share <= 1:
            self._validate({"share": ["The share must be a number between 0 and 1."]})
        connections = list(space.connections.values())
        dropped = Random(now).sample(connections, round(share * len(connections)))
        self.hub.stop(dropped)
        respond(self._json({"dropped": len(dropped)}))

    # ---- bodies

    def _body(self, request: HttpRequest) -> dict[str, Any]:
        try:
            tree = messages.loads(request.body.decode())
        except ValueError:
            tree = None
        if type(tree) is not dict:
            raise Rejected(self._fault("The body must be a JSON object."))
        return tree

    def _names(self, channels: Any) -> list[str]:
        names = list(channels.values()) if type(channels) is dict else channels
        if any(type(name) is not str for name in names):
            raise Rejected(self._fault("The channels must be strings."))
        return names

    def _fault(self, sentence: str) -> HttpResponse:
        """The caller's mistake, which Reverb answers as its own."""
        return INTERNAL_ERROR if self.hub.faithful else HttpResponse(400, sentence, json=False)

    @staticmethod
    def _validate(errors: dict[str, list[str]]) -> None:
        if errors:
            raise Rejected(HttpResponse(422, dumps(errors)))

    @staticmethod
    def _json(tree: Any) -> HttpResponse:
        return HttpResponse(200, dumps(tree))


ROUTES: list[tuple[str, re.Pattern[str], Callable[..., None]]] = [
    ("POST", re.compile(r"/apps/([^/]+)/events"), HttpApi._events),
    ("POST", re.compile(r"/apps/([^/]+)/batch_events"), HttpApi._batch_events),
    ("GET", re.compile(r"/apps/([^/]+)/connections"), HttpApi._connections),
    ("DELETE", re.compile(r"/apps/([^/]+)/connections"), HttpApi._disconnect),
    ("GET", re.compile(r"/apps/([^/]+)/channels"), HttpApi._channels),
    ("GET", re.compile(r"/apps/([^/]+)/channels/([^/]+)"), HttpApi._channel),
    ("GET", re.compile(r"/apps/([^/]+)/channels/([^/]+)/users"), HttpApi._users),
    ("POST", re.compile(r"/apps/([^/]+)/users/([^/]+)/terminate_connections"), HttpApi._terminate),
    ("GET", re.compile(r"/up"), HttpApi._health),
    ("GET", APP_PATH, HttpApi._not_upgraded),
]
UNSIGNED_ROUTES = (HttpApi._health, HttpApi._not_upgraded)


@lru_cache(maxsize=256)
def _routed(method: str, path: str) -> tuple[Callable[..., None], tuple[str, ...]]:
    """`HttpApi.route` for a *path* without prefix."""
    allowed = []
    for verb, pattern, handler in ROUTES:
        match = pattern.fullmatch(path)
        if match:
            if verb == method:
                return handler, tuple(unquote(part) for part in match.groups())
            allowed.append(verb)
    if allowed:
        headers = (("Allow", ", ".join(allowed)),)
        raise Rejected(HttpResponse(405, "Method not allowed.", json=False, headers=headers))
    raise Rejected(NOT_FOUND)
