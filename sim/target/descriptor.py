"""Target descriptor: where the system under test listens and who may use it (`target.json`, design contract).

Besides the members of the contract, all optional:

    "ws":      {..., "path": "/reverb", "sign": "full"}     prefix of every route; whether the prefix is part of what is signed
    "browser": {"host": ..., "port": ..., "scheme": ..., "path": ...}     where pages connect, if not where events are published
    "origin":  "https://shop.example"                        Origin of the pages; without it the application's address
    "auth":    "/broadcasting/auth"                          path of the channel authorisation
    "headers": {"X-Tenant": "7"}                             of every request to the application
    "login":   {"path": "/login", "csrf": "/sanctum/csrf-cookie"}
    "users":   "users.csv", or objects: id (of any kind), token or login {"email": ..., "password": ...}, lists of what they own
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from sim.errors import BadInput, did_you_mean, header, one_line
from sim.files import read_text
from sim.target.address import Address, Names, Note, read_address, read_url
from sim.target.keys import Keys
from sim.target.laravel import laravel_settings, target_tree
from sim.target.users import Account, users_from

Sign = Literal["bare", "full"]
AUTH = "/broadcasting/auth"

PLACE = {"host": str, "port": (str, int, float), "scheme": str, "path": str}
MEMBERS: dict[str, Any] = {
    "ws": PLACE | {"sign": str},
    "browser": PLACE,
    "app": {"id": (str, int), "key": (str, int), "secret": str},
    "api": str,
    "origin": str,
    "auth": str,
    "headers": Mapping,
    "login": {"path": str, "csrf": str},
    "users": (list, tuple, str),
}
"""Members of a target, and of what kind they are."""
KINDS = {
    str: "a text",
    Mapping: "an object",
    (str, int): "a text or a number",
    (list, tuple, str): "a list, or the name of a file",
}
JSON = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Login:
    """How a session begins: the login form's path, and the one that sets the CSRF cookie."""

    path: str = "/login"
    csrf: str = "/sanctum/csrf-cookie"


@dataclass(frozen=True, slots=True)
class Target:
    """The system under test. `api` is empty when there is a broadcaster only (fan-out alone)."""

    host: str
    port: int
    scheme: str
    app_id: str
    key: str
    secret: str = field(repr=False)
    api: str = ""
    """Root of the application. Credentials in it (`https://user:password@...`) become a header."""
    users: tuple[Account, ...] = field(default=(), repr=False)
    path: str = ""
    """Prefix of every route of the broadcaster, as `/reverb`."""
    sign: Sign = "bare"
    """What is signed of a path with a prefix: `bare` without it (PHP, Reverb), `full` with it (soketi)."""
    browser: Address | None = None
    """Where pages connect; None: where the application publishes."""
    origin: str = ""
    """Origin of the pages; empty: the application's."""
    auth: str = AUTH
    """Path of the channel authorisation at the application."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request to the application."""
    login: Login = Login()
    notes: tuple[Note, ...] = field(default=(), compare=False, repr=False)
    """What is worth knowing of the settings that this was read from."""
    family: str = field(default="REVERB", compare=False)
    """How the names of these settings begin: `REVERB` or `PUSHER`."""

    def __post_init__(self) -> None:
        credentials = urlsplit(self.api).netloc.rpartition("@")[0]
        if credentials:
            object.__setattr__(self, "api", self.api.replace(f"{credentials}@", "", 1))
            basic = base64.b64encode(unquote(credentials).encode()).decode()
            object.__setattr__(self, "headers", (*self.headers, ("Authorization", f"Basic {basic}")))

    @property
    def publishing(self) -> Address:
        """Where the application publishes."""
        return Address(self.host, self.port, self.scheme, self.path)

    @property
    def subscribing(self) -> Address:
        """Where pages connect."""
        return self.browser or self.publishing

    @property
    def websocket_url(self) -> str:
        address = self.subscribing
        return f"{'wss' if address.scheme == 'https' else 'ws'}://{address.authority}{address.path}/app/{self.key}"

    @property
    def http_url(self) -> str:
        """Root of the broadcaster's HTTP API."""
        return self.publishing.url

    @property
    def page_origin(self) -> str:
        """What a browser sends as Origin; empty where no page is known."""
        parts = urlsplit(self.origin or self.api)
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""

    def signed_path(self, path: str) -> str:
        """What is signed for a request of the broadcaster's HTTP API."""
        return self.path + path if self.sign == "full" else path

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of what there are ids."""
        return ("users", "servers", "sites", *dict.fromkeys(name for user in self.users for name, _ in user.owned))

    def keys(self, kind: str) -> Keys:
        """The numbers of all ids of *kind*: `users`, `servers`, `sites`, or a further list of the users."""
        return Keys(user.id for user in self.users) if kind == "users" else Keys(i for u in self.users for i in u.ids(kind))

    def all_keys(self) -> dict[str, Keys]:
        """The numbers of all kinds of which some differ from the ids."""
        return {kind: keys for kind in self.kinds if (keys := self.keys(kind)).to_dict()}

    def to_dict(self) -> dict[str, Any]:
        signed = {"sign": self.sign} if self.sign != "bare" else {}
        optional = {
            "browser": self.browser.to_dict() if self.browser else None,
            "origin": self.origin,
            "auth": "" if self.auth == AUTH else self.auth,
            "headers": dict(self.headers),
            "login": {"path": self.login.path, "csrf": self.login.csrf} if self.login != Login() else None,
        }
        return {
            "ws": self.publishing.to_dict() | signed,
            "app": {"id": self.app_id, "key": self.key, "secret": self.secret},
            "api": self.api,
            **{name: value for name, value in optional.items() if value},
            "users": [user.to_dict() for user in self.users],
        }

    def public(self) -> dict[str, Any]:
        """What a run bundle may keep: no secret, no token, no header; and which number of the tables is which id."""
        keys = {kind: keys.to_dict() for kind, keys in self.all_keys().items()}
        return {
            "ws": self.publishing.to_dict(),
            "app": {"id": self.app_id, "key": self.key},
            "api": self.api.partition("?")[0],
            "users": len(self.users),
            **({"family": self.family} if self.family != "REVERB" else {}),
            **({"browser": self.browser.to_dict()} if self.browser else {}),
            **({"keys": keys} if keys else {}),
        }

    def write(self, path: Path) -> None:
        """Write `target.json`, readable by its owner only, in one step: nobody ever reads a part of it."""
        partial = path.with_name(path.name + ".partial")
        # What an interrupted run left there may be readable by others, and opening it would keep that.
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(self.to_dict(), indent=1) + "\n")
        partial.replace(path)

    @classmethod
    def from_dict(
        cls,
        tree: Mapping[str, Any],
        where: str = "target",
        beside: Path | None = None,
        api: str = "api",
        notes: tuple[Note, ...] = (),
    ) -> Target:
        """*beside*: directory of the file, for a CSV of users that it names; *api*: what the application's address is called
        there; *notes*: what is known already. Raises `BadInput` that names the missing or mistyped member."""
        try:
            unknown: list[Note] = []
            tree = _checked(tree, MEMBERS, unknown)
            ws, app, browser = tree["ws"], tree["app"], tree.get("browser")
            address, more = _address("ws", ws)
            pages, others = _address("browser", browser) if browser is not None else (None, [])
            root, credentials, about_api = read_url(api, tree.get("api", ""))
            origin, _, about_origin = read_url("origin", tree.get("origin", ""))
            sign = ws.get("sign", "bare")
            if sign not in get_args(Sign):
                raise ValueError(f"ws.sign={sign!r} must be bare or full")
            for name in ("id", "key"):
                if not re.fullmatch(r"[^\s/?#%]+", str(app[name])):
                    raise ValueError(f"app.{name}={app[name]!r} cannot stand in a path: letters and digits are wanted")
            return cls(
                host=address.host,
                port=address.port,
                scheme=address.scheme,
                app_id=str(app["id"]),
                key=str(app["key"]),
                secret=app.get("secret", ""),
                api=root.replace("://", f"://{credentials}@", 1) if credentials else root,
                users=tuple(users_from(tree.get("users", ()), beside)),
                path=address.path,
                sign=sign,
                browser=None if pages == address else pages,
                origin=origin,
                auth=_path("auth", tree.get("auth") or AUTH),
                headers=tuple(header(name, str(value)) for name, value in tree.get("headers", {}).items()),
                login=Login(**{name: _path(f"login.{name}", path) for name, path in tree.get("login", {}).items()}),
                notes=(*notes, *unknown, *more, *others, *about_api, *about_origin),
            )
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error
        except KeyError as error:
            raise BadInput(f"{where}: member {error.args[0]!r} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{where}: {error}") from error

    @classmethod
    def read(cls, path: str | Path) -> Target:
        try:
            tree = json.loads(read_text(path))
        except OSError as error:
            raise BadInput(f"target {path}: {error.strerror or error} (start one: workbench serve --ready-file)") from error
        except (ValueError, RecursionError) as error:
            raise BadInput(f"target {path}: not valid JSON: {error}") from error
        return cls.from_dict(tree, where=f"target {path}", beside=Path(path).parent)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, dotenv: str | Path = ".env") -> Target:
        """From Laravel's variables; the environment wins over the `.env` file."""
        tree, notes, family = target_tree(laravel_settings(environment, dotenv))
        return replace(cls.from_dict(tree, where="environment", api="APP_URL", notes=notes), family=family)


def _checked(tree: Any, members: Mapping[str, Any], notes: list[Note], where: str = "") -> dict[str, Any]:
    """The members that are given. One that is not known is a note: it may be another program's. Raises ValueError."""
    if not isinstance(tree, Mapping):
        raise ValueError(f"{where.rstrip('.') or 'a target'} must be an object, as {{...}}, got {_kind(tree)}")
    found = {name: value for name, value in tree.items() if value is not None and name in members}
    notes += [
        Note(one_line(f"member {where}{name} is not known{did_you_mean(name, members)}")) for name in tree if name not in members
    ]
    for name, value in found.items():
        wanted = members[name]
        if isinstance(wanted, dict):
            found[name] = _checked(value, wanted, notes, f"{where}{name}.")
        elif not isinstance(value, wanted):
            raise ValueError(f"{where}{name} must be {KINDS.get(wanted, 'a number')}, got {_kind(value)}")
    return found


def _kind(value: Any) -> str:
    """Not the value itself: it may be secret."""
    return JSON.get(type(value), "nothing")


def _path(name: str, text: str) -> str:
    if not re.fullmatch(r"[^\s?#:]+", text):
        raise ValueError(f"{name}={text!r} must be a path at the application, as {AUTH}")
    return f"/{text.lstrip('/')}"


def _address(member: str, tree: Mapping[str, Any]) -> tuple[Address, list[Note]]:
    names = Names(*(f"{member}.{name}" for name in ("host", "port", "scheme", "path")))
    port = tree["port"] if member == "ws" else tree.get("port")
    return read_address(names, tree["host"], port, tree.get("scheme"), tree.get("path"))
