"""Target descriptor: where the system under test listens and who may use it (`target.json`, design contract).

Settings come from a file, else from the environment in Laravel's own names (`REVERB_APP_ID`, `REVERB_APP_KEY`,
`REVERB_APP_SECRET`, `REVERB_HOST`, `REVERB_PORT`, `REVERB_SCHEME`; `APP_URL` for the application; a `.env` file is read).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from sim.errors import BadInput

# Lines that it cannot parse it skips, with a warning each; whoever misses a setting says so in one line.
logging.getLogger("dotenv.main").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class User:
    """One user of the application: bearer token and the ids of what they own."""

    id: int
    token: str
    servers: tuple[int, ...] = ()
    sites: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """The system under test. `api` is empty when there is a broadcaster only (fan-out alone)."""

    host: str
    port: int
    scheme: str
    app_id: str
    key: str
    secret: str
    api: str = ""
    users: tuple[User, ...] = ()

    @property
    def websocket_url(self) -> str:
        return f"{'wss' if self.scheme == 'https' else 'ws'}://{self.host}:{self.port}/app/{self.key}"

    @property
    def http_url(self) -> str:
        """Root of the broadcaster's HTTP API."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "ws": {"host": self.host, "port": self.port, "scheme": self.scheme},
            "app": {"id": self.app_id, "key": self.key, "secret": self.secret},
            "api": self.api,
            "users": [{"id": u.id, "token": u.token, "servers": list(u.servers), "sites": list(u.sites)} for u in self.users],
        }

    def public(self) -> dict[str, Any]:
        """What a run bundle may keep: no secret, no token."""
        return {
            "ws": {"host": self.host, "port": self.port, "scheme": self.scheme},
            "app": {"id": self.app_id, "key": self.key},
            "api": self.api,
            "users": len(self.users),
        }

    def write(self, path: Path) -> None:
        """Write `target.json`, readable by its owner only, in one step: who sees the file sees all of it."""
        partial = path.with_name(path.name + ".partial")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], where: str = "target") -> Target:
        """Raises `BadInput` that names the missing or mistyped member."""
        try:
            ws, app = tree["ws"], tree["app"]
            users = tuple(
                User(int(u["id"]), str(u["token"]), tuple(u.get("servers", ())), tuple(u.get("sites", ())))
                for u in tree.get("users", ())
            )
            return cls(
                host=str(ws["host"]),
                port=int(ws["port"]),
                scheme=str(ws.get("scheme", "http")),
                app_id=str(app["id"]),
                key=str(app["key"]),
                secret=str(app.get("secret", "")),
                api=str(tree.get("api", "")).rstrip("/"),
                users=users,
            )
        except KeyError as error:
            raise BadInput(f"{where}: member {error.args[0]!r} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{where}: {error}") from error

    @classmethod
    def read(cls, path: str | Path) -> Target:
        try:
            tree = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"target {path}: {error.strerror or error} (start one: workbench serve --ready-file)") from error
        except ValueError as error:
            raise BadInput(f"target {path}: not valid JSON: {error}") from error
        return cls.from_dict(tree, where=f"target {path}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, dotenv: str | Path = ".env") -> Target:
        """From Laravel's variables; the environment wins over the `.env` file."""
        values = laravel_settings(environment, dotenv)
        missing = [n for n in ("REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET") if not values.get(n)]
        if missing:
            raise BadInput(f"no target: {', '.join(missing)} not set (give --target target.json, or a .env file)")
        tree = {
            "ws": {
                "host": values.get("REVERB_HOST", "localhost"),
                "port": values.get("REVERB_PORT", "8080"),
                "scheme": values.get("REVERB_SCHEME", "http"),
            },
            "app": {
                "id": values["REVERB_APP_ID"],
                "key": values["REVERB_APP_KEY"],
                "secret": values["REVERB_APP_SECRET"],
            },
            "api": values.get("APP_URL", ""),
        }
        return cls.from_dict(tree, where="environment")


def laravel_settings(environment: Mapping[str, str] | None = None, dotenv: str | Path = ".env") -> dict[str, str]:
    """The settings of a `.env` file (where there is one), overridden by the environment. Raises `BadInput`."""
    values: dict[str, str] = {}
    if Path(dotenv).is_file():
        try:
            values = {k: v for k, v in dotenv_values(dotenv).items() if v is not None}
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{dotenv} cannot be read: {getattr(error, 'strerror', None) or 'not a text file'}") from error
    return values | dict(os.environ if environment is None else environment)
