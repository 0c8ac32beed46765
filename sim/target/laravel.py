"""A target from an application's own settings: `.env` and environment, by Laravel's names, rules and defaults.

The application publishes to `REVERB_HOST`, `REVERB_PORT`, `REVERB_SCHEME` (what the server listens on, `REVERB_SERVER_*`, is
another matter); pages connect to `VITE_REVERB_*` (before Vite: `MIX_*`), which the build has put into them. A scheme that is not
set is https, a port 443: config/broadcasting.php and resources/js/echo.js say so. Where there is no `REVERB_*`, `PUSHER_*` (of
soketi and Pusher) is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.errors import BadInput
from sim.files import read_text
from sim.target.address import Address, Names, Note, read_address
from sim.target.dotenv import VARIABLE, MalformedDotenv, lost, parse

SILENT = {"log": "events are written to its log", "null": "events are thrown away"}
"""Connections of Laravel that broadcast nothing, and what becomes of the events."""


OURS = re.compile(r"\b(VITE_|MIX_)?(REVERB|PUSHER|BROADCAST|APP)_\w+")
"""Names of settings that are read."""


def laravel_settings(environment: Mapping[str, str] | None = None, dotenv: str | Path = ".env") -> dict[str, str]:
    """The settings of a `.env` file (where there is one), overridden by the environment. Empty and `null` are not set (but for
    `BROADCAST_CONNECTION=null`, which is a choice). Raises `BadInput` that names file and line."""
    outside = {k: v for k, v in (os.environ if environment is None else environment).items() if v}
    values: dict[str, str] = {}
    if Path(dotenv).is_file():
        try:
            text = read_text(dotenv)
            values, left_out = parse(text, outside), lost(text)
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{dotenv} cannot be read: {getattr(error, 'strerror', None) or 'not a text file'}") from error
        except MalformedDotenv as error:
            raise BadInput(f"{dotenv}:{error} (Laravel refuses the file as well)") from error
        if left_out and (name := OURS.search(left_out[1])):
            raise BadInput(
                f"{dotenv}:{left_out[0]}: the quote is never closed: Laravel leaves out all from there on, {name[0]} too"
            )
    absent = ("", "null", "(null)", "empty", "(empty)")
    return {k: v for k, v in (values | outside).items() if v.lower() not in absent or (k.startswith("BROADCAST_") and v != "")}


def in_names_of(family: str, advice: str) -> str:
    """*advice* with the names of the settings in force: `PUSHER_APP_KEY` where it says `REVERB_APP_KEY`. What only Reverb's own
    server reads (`REVERB_SERVER_*`) stays."""
    return re.sub(r"(?<![A-Z])REVERB_(?=APP_|HOST|PORT|SCHEME|\*)", f"{family}_", advice).replace(
        "BROADCAST_CONNECTION=reverb", f"BROADCAST_CONNECTION={family.lower()}"
    )


def target_tree(values: Mapping[str, str]) -> tuple[dict[str, Any], tuple[Note, ...], str]:
    """The members of a `target.json`, what is worth knowing of the settings, and how the names of those that count begin. Raises
    `BadInput`."""
    # What builds the pages puts nothing in place of an unknown `${NAME}`, where phpdotenv leaves it.
    built = {k: VARIABLE.sub("", v) for k, v in values.items() if k.startswith(("VITE_", "MIX_"))}
    values = {k: v for k, v in {**values, **built}.items() if v}
    family, notes = _family(values)
    missing = [f"{family}_APP_{part}" for part in ("ID", "KEY", "SECRET") if not values.get(f"{family}_APP_{part}")]
    if missing:
        raise BadInput(f"no target: {', '.join(missing)} not set (give --target target.json, or a .env file)")
    cluster = values.get("PUSHER_APP_CLUSTER", "mt1")
    hosted = family == "PUSHER" and "PUSHER_HOST" not in values
    published, more = _address(values, family, f"api-{cluster}.pusher.com" if hosted else "")
    notes += more
    pages, more = _of_pages(values, family, published, f"ws-{cluster}.pusher.com" if hosted else "")
    notes += more
    key = f"{_pages(values, family)}_APP_KEY"
    if values.get(key, values[f"{family}_APP_KEY"]) != values[f"{family}_APP_KEY"]:
        text = f"{key} is not {family}_APP_KEY"
        notes.append(Note(text, "set both alike, build the assets again", problem=True))
    tree: dict[str, Any] = {
        "ws": published.to_dict(),
        "app": {part.lower(): values[f"{family}_APP_{part}"] for part in ("ID", "KEY", "SECRET")},
        "api": values.get("APP_URL", ""),
    }
    if pages != published:
        tree["browser"] = pages.to_dict()
    return tree, tuple(notes), family


def _family(values: Mapping[str, str]) -> tuple[str, list[Note]]:
    """`REVERB` or `PUSHER`: whose variables count; and what `BROADCAST_CONNECTION` means for it."""
    name = "BROADCAST_CONNECTION" if "BROADCAST_CONNECTION" in values else "BROADCAST_DRIVER"
    connection = values.get(name, "").lower().strip("()")
    has = {family: any(f"{family}_APP_{part}" in values for part in ("ID", "KEY", "SECRET")) for family in ("REVERB", "PUSHER")}
    family = "PUSHER" if has["PUSHER"] and (connection == "pusher" or not has["REVERB"]) else "REVERB"
    advice = f"set BROADCAST_CONNECTION={family.lower()}, then php artisan config:clear"
    if connection in SILENT:
        text = f"{name}={connection}: the application broadcasts nothing ({SILENT[connection]})"
        return family, [Note(text, advice, problem=True)]
    if connection and connection not in ("reverb", "pusher"):
        text = f"{name}={connection}: events go there, not to this broadcaster"
        return family, [Note(text, advice, problem=True)]
    if not connection and "APP_KEY" in values:
        return family, [Note("BROADCAST_CONNECTION is not set: Laravel then broadcasts nothing", advice)]
    if has["REVERB"] and family == "PUSHER":
        return family, [Note(f"{name}=pusher: PUSHER_* count, REVERB_* do not", "remove the ones that are not used")]
    return family, []


def _pages(values: Mapping[str, str], family: str) -> str:
    """How the variables of the pages begin: Vite's, or those of Laravel Mix where there is none of Vite's."""
    mix = any(name.startswith(f"MIX_{family}_") for name in values)
    return f"MIX_{family}" if mix and not any(name.startswith(f"VITE_{family}_") for name in values) else f"VITE_{family}"


def _names(prefix: str) -> Names:
    return Names(f"{prefix}_HOST", f"{prefix}_PORT", f"{prefix}_SCHEME", f"{prefix}_SERVER_PATH")


def _address(values: Mapping[str, str], family: str, otherwise: str) -> tuple[Address, list[Note]]:
    """Where the application publishes."""
    names, notes = _names(family), []
    host = values.get(names.host, otherwise)
    if not host:
        host = "localhost"
        text = f"{names.host} is not set: taken as this machine; Laravel itself would publish to api-mt1.pusher.com"
        notes.append(Note(text, f"set {names.host} to the broadcaster's host"))
    port, scheme, path = (values.get(name) for name in names[1:])
    address, more = read_address(names, host, port, scheme, path, default="https", default_port=443)
    if address.scheme == "http" and address.port == 443:
        notes.append(Note(f"{names.port} is not set: Laravel takes 443, with http as well", f"set {names.port}"))
    return address, notes + more


def _of_pages(values: Mapping[str, str], family: str, published: Address, otherwise: str) -> tuple[Address, list[Note]]:
    """Where pages connect: as they are built, or as the application publishes where nothing is known of that."""
    prefix = _pages(values, family)
    names = _names(prefix)
    path = values.get(names.path, values.get(f"{prefix}_PATH", published.path))
    if not any(name in values for name in (names.host, names.port, names.scheme)):
        if otherwise:
            return Address(otherwise, 443, "https", path), []
        return Address(published.host, published.port, published.scheme, published.path), []
    notes = []
    host = values.get(names.host, otherwise)
    if not host:
        host = published.host
        text = f"{names.host} is not set: taken as {host}; a page would look for Pusher's own servers"
        notes.append(Note(text, f"set {names.host} to the host that browsers reach, build the assets again"))
    address, more = read_address(names, host, values.get(names.port), values.get(names.scheme), path, "https")
    return address, notes + more
