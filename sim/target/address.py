"""One address as people write it, in four values: host, port, scheme, path.

`ws.example`, `https://ws.example`, `ws.example:8080`, `ws.example/`, `::1`, `[::1]:8080`, `0.0.0.0`, scheme `wss`: what can only
mean one thing is taken so, with a note; the rest is refused by the name of its variable.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sim.errors import BadInput

SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class Note:
    """Something about the settings that their owner should know."""

    text: str
    advice: str = ""
    problem: bool = False
    """The pattern does not work so, whatever answers."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens. *scheme* is `http` or `https`; *path* is empty or begins with a slash."""

    host: str
    port: int
    scheme: str = "http"
    path: str = ""

    @property
    def bracketed(self) -> str:
        """The host as URLs have it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        return f"{self.bracketed}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def to_dict(self) -> dict[str, Any]:
        tree = {"host": self.host, "port": self.port, "scheme": self.scheme}
        return tree | ({"path": self.path} if self.path else {})


class Names(NamedTuple):
    """What the four values are called where they were written."""

    host: str
    port: str
    scheme: str
    path: str


def read_address(
    names: Names,
    host: Any,
    port: Any = None,
    scheme: Any = None,
    path: Any = None,
    default: str = "http",
    default_port: int | None = None,
) -> tuple[Address, list[Note]]:
    """The address, and what was understood otherwise than it is written. None and empty are not given; *default* is the scheme
    then, and the port *default_port* or that scheme's. Raises `BadInput` that names variable, value and the form wanted."""
    notes: list[Note] = []
    text = str(host).strip()
    scheme_found = _scheme(names.scheme, scheme, notes)
    wanted = f"{names.host}={_masked(text)!r} must be a host name or an address, as ws.example.com or 127.0.0.1"
    before, mark, rest = text.partition("://")
    if mark:
        own = SCHEMES.get(before.lower())
        if own is None:
            raise BadInput(wanted)
        if scheme_found not in (None, own):
            raise BadInput(f"{names.host}={text!r} contradicts {names.scheme}={scheme!r}: write the host alone")
        scheme_found = own
    else:
        rest = text
    rest, slash, tail = rest.partition("/")
    if tail:
        raise BadInput(f"{wanted}; a path goes into {names.path}")
    name, port_inside = _split_port(rest, wanted)
    if port_inside and not port_inside.isdigit():
        raise BadInput(wanted)
    inside, port_found = _port(names.host, port_inside, text), _port(names.port, port)
    if inside and port_found not in (None, inside):
        raise BadInput(f"{names.host}={text!r} contradicts {names.port}={port!r}: write the host alone")
    port_found = inside or port_found
    known = _host(name)
    if not known:
        raise BadInput(wanted + _unset(name))
    scheme_taken = scheme_found or default
    address = Address(known, port_found or default_port or PORTS[scheme_taken], scheme_taken, _path(names.path, path))
    if mark or slash or rest.strip("[]") != name:
        notes.append(Note(f"{names.host}={text!r} is taken as {address.url}", f"write the host alone: {names.host}={name}"))
    advice = f"set {names.host} to the name under which clients reach it"
    return replace(address, host=_connectable(known, name, f"{names.host}={name}", advice, notes)), notes


def _scheme(name: str, value: Any, notes: list[Note]) -> str | None:
    if value in (None, ""):
        return None
    text = str(value).strip().lower().removesuffix("//").removesuffix(":")
    if text not in SCHEMES:
        raise BadInput(f"{name}={value!r} must be http or https{_unset(text)}")
    if SCHEMES[text] != str(value):
        meant = SCHEMES[text]
        notes.append(Note(f"{name}={value!r} is taken as {meant}", f"Laravel knows http and https: {name}={meant}"))
    return SCHEMES[text]


def _port(name: str, value: Any, whole: Any = None) -> int | None:
    """*whole*: what it is a part of."""
    if value in (None, ""):
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()) or not 0 < int(text[:6]) < 65536 or len(text) > 5:
        part = "the port in " if whole is not None else ""
        raise BadInput(f"{part}{name}={whole or value!r} must be a whole number from 1 to 65535{_unset(text)}")
    return int(text)


def _path(name: str, value: Any) -> str:
    text = str(value or "").strip().strip("/")
    if re.search(r"[\s?#]|://", text):
        raise BadInput(f"{name}={value!r} must be a path, as /reverb")
    return f"/{text}" if text else ""


def _split_port(text: str, wanted: str) -> tuple[str, str]:
    """Host without brackets, and the port behind it or an empty text."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadInput(wanted)
        return host, rest[1:]
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, ""


def _unset(text: str) -> str:
    return " (a variable in it is not set)" if "$" in text else ""


def _host(text: str) -> str:
    """A host as it goes on the wire (names of other scripts as `xn--...`); empty where it is none."""
    try:
        if ":" in text:
            ipaddress.IPv6Address(text.partition("%")[0])
        elif not (HOST.fullmatch(text) or text == "*") or text.startswith("-"):
            return ""
        return text if text.isascii() else text.encode("idna").decode()
    except ValueError:
        return ""


def _connectable(host: str, written: str, where: str, advice: str, notes: list[Note]) -> str:
    """The *host*; this machine's own address, with a note, where what is *written* is one to listen on, as `0.0.0.0`."""
    here = _listening(written)
    if here:
        text = f"{where} is an address to listen on, not one to connect to: taken as this machine ({here})"
        notes.append(Note(text, advice))
    return here or host


def _listening(host: str) -> str:
    """Where a server listens on every address, a client that is given it means this machine: its address; else empty."""
    try:
        address = ipaddress.ip_address("0.0.0.0" if host in ("*", "0") else host.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if address.version == 6 else address
    return "" if not (mapped or address).is_unspecified else "127.0.0.1" if mapped else "::1"


def read_url(name: str, value: str) -> tuple[str, str, list[Note]]:
    """(URL without credentials and trailing slash, `user:password` or an empty text, notes) of an application's address.
    Raises `BadInput`."""
    text = value.strip()
    if not text:
        return "", "", []
    wanted = f"{name}={_masked(text)!r} must look like https://shop.example.com"
    notes: list[Note] = []
    if "://" not in text:
        text = f"http://{text}"
        notes.append(Note(f"{name}={value!r} is taken as {text}", "write it with http:// or https://"))
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadInput(f"{wanted}: {error}") from error
    if parts.scheme not in PORTS or not _host(host):
        raise BadInput(wanted + _unset(text))
    host = _connectable(_host(host), host, f"{name}: {host}", f"set {name} to the address of the pages", notes)
    shown = f"[{host}]" if ":" in host else host
    credentials = parts.netloc.rpartition("@")[0]
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path.rstrip('/')}", credentials, notes


def _masked(text: str) -> str:
    """Without what stands before an at sign: it may be a password."""
    before, mark, rest = text.partition("://")
    return f"{before}{mark}{rest.rpartition('@')[2]}" if mark else text.rpartition("@")[2]
