"""Settings of the broadcaster, in the words of Reverb's `config/reverb.php` and its environment.

    environment                                   setting
    REVERB_SERVER_HOST, REVERB_SERVER_PORT        host, port (0: any free one)
    REVERB_SERVER_PATH                            path, before every route
    REVERB_MAX_REQUEST_SIZE                       max_request_size, bytes
    REVERB_SCALING_ENABLED, REVERB_SCALING_CHANNEL, REDIS_URL (or REDIS_HOST, _PORT, _USERNAME, _PASSWORD, _DB)
    REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET
    REVERB_APP_PING_INTERVAL, REVERB_APP_ACTIVITY_TIMEOUT, REVERB_APP_MAX_CONNECTIONS, REVERB_APP_MAX_MESSAGE_SIZE
    REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM, REVERB_APP_ALLOWED_ORIGINS (comma list)
    REVERB_APP_RATE_LIMITING_ENABLED, REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS, _DECAY_SECONDS, _TERMINATE

A JSON or TOML file has the structure of the PHP file: `servers.reverb` (host, port, path, hostname, max_request_size,
options.tls with local_cert and local_pk, scaling) and `apps.apps`, a list. Environment over file, flags over both.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote

from sim.errors import BadInput, did_you_mean
from sim.files import read_text
from sim.pusher.server.apps import App, RateLimiting


@dataclass(frozen=True, slots=True)
class Timing:
    """How another broadcaster behaves in time, for this one to keep to: seconds, on the one loop that it has.

    An event that n subscribers get takes `fixed + n * compose_per_subscriber`, in which nothing else happens; then one write
    after the other follows, `per_subscriber` apart, and nothing else happens either. What this broadcaster takes itself counts
    into these times, so they cannot be shorter than its own.
    """

    fixed: float = 0.0
    compose_per_subscriber: float = 0.0
    per_subscriber: float = 0.0
    answer: Literal["before", "after"] = "before"
    """When a publish is answered: before the first write, or after the last one."""
    nagle: bool = False
    """TCP_NODELAY is off: a second frame to a client waits for the acknowledgement of the first."""
    keep_alive: bool = True
    """False: the connection of a publish is closed with its answer."""


@dataclass(frozen=True, slots=True)
class BroadcasterSettings:
    """One broadcaster. Times in seconds, sizes in bytes."""

    apps: tuple[App, ...]
    host: str = "127.0.0.1"
    port: int = 8080
    path: str = ""
    max_request_size: int = 10_000
    faithful: bool = False
    """Copy Reverb's quirks (`sim.pusher.server.quirks.DIFFERENCES`)."""
    local_cert: str = ""
    local_pk: str = ""
    """Certificate chain and key, PEM; TLS when the first is given."""
    nodes: int = 1
    redis: str = field(default="", repr=False)
    """URL; scales over machines."""
    scaling_channel: str = "reverb"
    drain: float = 0.0
    """On SIGTERM, close the connections spread over this long; 0: all at once."""
    timing: Timing | None = None
    """Behave in time like another broadcaster; None: as fast as it can."""
    write_buffer: int = 1 << 20
    """What may wait for one subscriber, beyond the kernel's own buffer, before it is dropped."""
    clock_rate: float = 1.0
    """Seconds of protocol time per second: tests of pruning need no minutes."""

    def to_json(self) -> str:
        """For a child's standard input; holds secrets."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BroadcasterSettings:
        tree = json.loads(text)
        apps = tuple(_app(app, "settings") for app in tree.pop("apps"))
        timing = tree.pop("timing", None)
        return cls(apps=apps, timing=None if timing is None else Timing(**timing), **tree)


def _app(tree: Mapping[str, Any], where: str) -> App:
    """An App of one entry of `apps.apps`. Raises `BadInput`."""
    known = {field.name for field in fields(App)}
    values = {("id" if key == "app_id" else key): value for key, value in tree.items() if key not in ("options", "name")}
    for key in values:
        if key not in known:
            raise BadInput(f"{where}: no app setting {key!r}{did_you_mean(key, known)}")
    missing = [key for key in ("id", "key", "secret") if not values.get(key)]
    if missing:
        raise BadInput(f"{where}: an app needs {', '.join(missing)}")
    if isinstance(values.get("allowed_origins"), list):
        values["allowed_origins"] = tuple(values["allowed_origins"])
    limiting = values.get("rate_limiting")
    if isinstance(limiting, Mapping):
        limits = {key: value for key, value in limiting.items() if key != "enabled"}
        enabled = _typed(limiting, {"enabled": bool}, f"{where}: rate_limiting").get("enabled", True)
        limits = _typed(limits, get_type_hints(RateLimiting), f"{where}: rate_limiting", complete=True)
        values["rate_limiting"] = RateLimiting(**limits) if enabled else None
    if type(values["id"]) is int:
        values["id"] = str(values["id"])
    return App(**_typed(values, get_type_hints(App), where))


def _typed(values: Mapping[str, Any], hints: Mapping[str, Any], where: str, complete: bool = False) -> dict[str, Any]:
    """*values*, each of the type that *hints* gives it; *complete*: no others. Raises `BadInput` that names the key."""
    if not isinstance(values, Mapping):
        raise BadInput(f"{where} must be a table, got {values!r}")
    for key, value in values.items():
        if key not in hints:
            if complete:
                raise BadInput(f"{where}: no setting {key!r}{did_you_mean(key, hints)}")
        elif not _is(value, hints[key]):
            raise BadInput(f"{where}: {key} must be {_in_words(hints[key])}, got {value!r}")
    return dict(values)


def _is(value: Any, hint: Any) -> bool:
    kind, members = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in members
    if kind in (Union, UnionType):
        return any(_is(value, member) for member in members)
    if kind is tuple:
        return isinstance(value, tuple) and all(_is(item, members[0]) for item in value)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _in_words(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "nothing"}
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a list of texts"
    return words.get(hint) or " or ".join(_in_words(member) for member in get_args(hint))


def read_file(path: str | Path) -> BroadcasterSettings:
    """Settings of a JSON or TOML file shaped like `config/reverb.php`. Raises `BadInput`."""
    path = Path(path)
    try:
        text = read_text(path)
        tree = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        server = tree.get("servers", {}).get("reverb", {})
        apps = tuple(_app(app, str(path)) for app in tree.get("apps", {}).get("apps", []))
        scaling, tls = server.get("scaling", {}), server.get("options", {}).get("tls", {})
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise BadInput(f"{path}: {error}") from error
    flat = _typed(
        {key: server[key] for key in ("host", "port", "path", "max_request_size") if key in server},
        get_type_hints(BroadcasterSettings),
        f"{path}: servers.reverb",
    )
    _typed(scaling, {"enabled": bool, "channel": str}, f"{path}: servers.reverb.scaling")
    _typed(tls, {"local_cert": str, "local_pk": str}, f"{path}: servers.reverb.options.tls")
    return BroadcasterSettings(
        apps=apps,
        **flat,
        local_cert=tls.get("local_cert", ""),
        local_pk=tls.get("local_pk", ""),
        redis=redis_url(scaling.get("server", {})) if scaling.get("enabled") else "",
        scaling_channel=scaling.get("channel", "reverb"),
    )


def redis_url(server: Mapping[str, Any]) -> str:
    """The URL of Reverb's `scaling.server` entry: `url`, or host, port, username, password, database."""
    if server.get("url"):
        return str(server["url"])
    user, password = quote(str(server.get("username") or ""), safe=""), quote(str(server.get("password") or ""), safe="")
    login = f"{user}:{password}@" if user or password else ""
    return f"redis://{login}{server.get('host') or '127.0.0.1'}:{server.get('port') or 6379}/{server.get('database') or 0}"


def from_environment(values: Mapping[str, str], base: BroadcasterSettings | None = None) -> BroadcasterSettings:
    """*base* (default: a server without apps) with what the environment says. Raises `BadInput` that names the variable."""
    settings = base or BroadcasterSettings(apps=())
    changes = _converted(values, _SERVER_VARIABLES)
    if _flag(values.get("REVERB_SCALING_ENABLED", "")):
        names = ("url", "host", "port", "username", "password")
        server = {name: values.get(f"REDIS_{name.upper()}") for name in names} | {"database": values.get("REDIS_DB")}
        changes["redis"] = redis_url(server)
    if values.get("REVERB_APP_ID"):
        changes["apps"] = (_app_from_environment(values),)
    return replace(settings, **changes)


def _app_from_environment(values: Mapping[str, str]) -> App:
    tree = _converted(values, _APP_VARIABLES)
    if _flag(values.get("REVERB_APP_RATE_LIMITING_ENABLED", "")):
        tree["rate_limiting"] = _converted(values, _RATE_VARIABLES)
    return _app(tree, "environment (REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET)")


def _flag(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on")


def _origins(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _converted(values: Mapping[str, str], variables: _Variables) -> dict[str, Any]:
    """Setting -> value, of the variables that are set. Raises `BadInput` that names the variable."""
    found = {}
    for variable, name, convert in variables:
        if values.get(variable):
            try:
                found[name] = convert(values[variable])
            except ValueError as error:
                raise BadInput(f"{variable}={values[variable]!r}: not a whole number") from error
    return found


_Variables = tuple[tuple[str, str, Callable[[str], Any]], ...]

_SERVER_VARIABLES: _Variables = (
    ("REVERB_SERVER_HOST", "host", str),
    ("REVERB_SERVER_PORT", "port", int),
    ("REVERB_SERVER_PATH", "path", str),
    ("REVERB_MAX_REQUEST_SIZE", "max_request_size", int),
    ("REVERB_SCALING_CHANNEL", "scaling_channel", str),
)
_APP_VARIABLES: _Variables = (
    ("REVERB_APP_ID", "id", str),
    ("REVERB_APP_KEY", "key", str),
    ("REVERB_APP_SECRET", "secret", str),
    ("REVERB_APP_PING_INTERVAL", "ping_interval", int),
    ("REVERB_APP_ACTIVITY_TIMEOUT", "activity_timeout", int),
    ("REVERB_APP_MAX_CONNECTIONS", "max_connections", int),
    ("REVERB_APP_MAX_MESSAGE_SIZE", "max_message_size", int),
    ("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "accept_client_events_from", str),
    ("REVERB_APP_ALLOWED_ORIGINS", "allowed_origins", _origins),
)
_RATE_VARIABLES: _Variables = (
    ("REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", "max_attempts", int),
    ("REVERB_APP_RATE_LIMIT_DECAY_SECONDS", "decay_seconds", int),
    ("REVERB_APP_RATE_LIMIT_TERMINATE", "terminate_on_limit", _flag),
)
