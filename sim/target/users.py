"""Users of the application: who they are there, how they prove it, and what they own."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.errors import BadInput
from sim.files import read_text
from sim.target.keys import Key, key_of

FORM = ("email", "username", "password")
"""CSV columns that are fields of the login form."""


@dataclass(frozen=True, slots=True)
class Account:
    """One user of the application: bearer token or login form, and the ids of what they own."""

    id: Key
    token: str = field(default="", repr=False)
    servers: tuple[Key, ...] = ()
    sites: tuple[Key, ...] = ()
    owned: tuple[tuple[str, tuple[Key, ...]], ...] = ()
    """Further lists by name, as `("orders", (17, 18))`: what a foreign application's users own."""
    login: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Fields of the login form, as `("email", ...), ("password", ...)`; empty: the token is the proof."""

    def ids(self, kind: str) -> tuple[Key, ...]:
        """What they own of *kind*: `servers`, `sites`, or the name of a further list."""
        return {"servers": self.servers, "sites": self.sites, **dict(self.owned)}.get(kind, ())

    def to_dict(self) -> dict[str, Any]:
        tree: dict[str, Any] = {"id": self.id, "token": self.token, "servers": list(self.servers), "sites": list(self.sites)}
        tree |= {name: list(ids) for name, ids in self.owned}
        return tree | ({"login": dict(self.login)} if self.login else {})

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Account:
        """Every list is what the user owns. Raises ValueError."""
        if not isinstance(tree, Mapping) or not isinstance(tree.get("login", {}), Mapping):
            raise ValueError(f'a user must be an object, as {{"id": 1, "token": "...", "servers": [1, 2]}}, got {_shown(tree)}')
        for name in ("servers", "sites"):
            if not isinstance(tree.get(name, []), list | tuple):
                raise ValueError(f"a user's {name} must be a list of ids, got {tree[name]!r}")
        lists = {name: tuple(key_of(id) for id in ids) for name, ids in tree.items() if isinstance(ids, list | tuple)}
        login = tuple((str(name), str(value)) for name, value in tree.get("login", {}).items())
        if "id" not in tree or ("token" not in tree and not login):
            raise ValueError(f"a user has no {'token and no login' if 'id' in tree else 'id'}: {_shown(tree)}")
        servers, sites = lists.pop("servers", ()), lists.pop("sites", ())
        return cls(key_of(tree["id"]), _token(tree.get("token") or ""), servers, sites, tuple(lists.items()), login)


def _shown(tree: Any) -> str:
    """Without what may be secret."""
    return ", ".join(str(name) for name in tree) if isinstance(tree, Mapping) else type(tree).__name__


def _token(text: Any) -> str:
    if not re.fullmatch(r"[!-~]*", str(text)):
        raise ValueError("a token holds a blank, or a letter that no header can have")
    return str(text)


def read_users(path: Path) -> tuple[Account, ...]:
    """Users of a CSV file with a header (commas, semicolons or tabs between). Columns: `id` (without it: the row's number),
    `token`, the fields of the login form (`email` or `username`, `password`), and any other, as `servers` or `orders`: ids of
    what they own, with blanks or semicolons between. Raises `BadInput` that names file and line."""
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"users {path}: {getattr(error, 'strerror', None) or 'not a text file'}") from error
    header = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=header.count), skipinitialspace=True)
    users: dict[Key, Account] = {}
    try:
        for number, row in enumerate(rows, start=1):
            if None in row:
                raise ValueError("more values than columns (a value with a comma in it needs quotes)")
            user = _user(number, {_column(k): v.strip() for k, v in row.items() if v is not None})
            if users.setdefault(user.id, user) is not user:
                raise ValueError(f"user {user.id} is there twice (one line for each user, the ids with blanks between)")
    except (ValueError, csv.Error) as error:
        raise BadInput(f"users {path}: line {rows.line_num}: {error}") from error
    if not users:
        raise BadInput(f"users {path}: no user in it (a header such as id,token,servers and a line for each user)")
    return tuple(users.values())


def _column(name: str) -> str:
    known = name.strip().lower()
    return known if known in ("id", "token", *FORM) else name.strip()


def _user(number: int, row: Mapping[str, str]) -> Account:
    login = tuple((name, row[name]) for name in FORM if row.get(name))
    token = row.get("token", "")
    if not token and not ("password" in dict(login) and len(login) > 1):
        found = ", ".join(row)
        raise ValueError(f"neither a token nor a login (columns: token, or email and password; there are: {found})")
    lists = {name: _ids(text) for name, text in row.items() if name and name not in ("id", "token", *FORM)}
    servers, sites = lists.pop("servers", ()), lists.pop("sites", ())
    return Account(key_of(row.get("id") or number), _token(token), servers, sites, tuple(lists.items()), login)


def _ids(text: str) -> tuple[Key, ...]:
    return tuple(key_of(part) for part in re.split(r"[\s;,|]+", text) if part)


def users_from(tree: Any, beside: Path | None) -> Iterable[Account]:
    """The member `users` of a target: a list, or the name of a CSV file *beside* the target's."""
    if isinstance(tree, str):
        return read_users((beside or Path()) / tree)
    return tuple(Account.from_dict(user) for user in tree)
