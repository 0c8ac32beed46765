"""Frozen dataclasses from plain trees (what TOML and JSON hold) and back, with errors that name file and key."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from sim.errors import BadInput, did_you_mean

MOST = 1 << 63
"""No whole number of a scenario is as large: tables and clocks count in 64 bits."""
LARGEST = 1e9
"""No other number is larger: thirty years in seconds, of which some have to fit into the 64 bits of a clock."""


def to_dict(value: Any) -> Any:
    """The plain tree (dict, list, number, text) that `build` turns back into *value*; None members are left out."""
    if dataclasses.is_dataclass(value):
        tree = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        kind = getattr(value, "kind", None)
        return ({"kind": kind} if kind else {}) | {name: leaf for name, leaf in tree.items() if leaf is not None}
    if isinstance(value, Mapping):
        return {key: to_dict(leaf) for key, leaf in value.items()}
    if isinstance(value, tuple | list):
        return [to_dict(leaf) for leaf in value]
    return value


def build(wanted: Any, value: Any, where: str, path: str = "") -> Any:
    """Turn a plain tree into *wanted* (a dataclass, a union of variants, a tuple of them, a number, a text).

    *where* names the file and *path* the key for error messages. Raises `BadInput`.
    """
    at = f"{where}: {path}" if path else where
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        return _build_union(typing.get_args(wanted), value, where, path)
    if origin is Literal:
        allowed = typing.get_args(wanted)
        if value not in allowed:
            raise BadInput(f"{at} must be one of {', '.join(map(repr, allowed))}, got {short(value)}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise BadInput(f"{at} must be a list, got {short(value)}")
        element = typing.get_args(wanted)[0]
        return tuple(build(element, item, where, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise BadInput(f"{at} must be a table, got {short(value)}")
        element = typing.get_args(wanted)[1]
        return {key: build(element, item, where, f"{path}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(wanted):
        return _build_dataclass(typing.cast(type, wanted), value, where, path)
    return _build_plain(wanted, value, at)


def _build_plain(wanted: Any, value: Any, at: str) -> Any:
    """A number, a text or a truth value; an int serves as float, a bool never as a number."""
    words = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
    if isinstance(value, int) and abs(value) >= MOST:
        raise BadInput(f"{at} must be a number below 2^63 in size, got one of {value.bit_length()} bits")
    accepted: Any = (int, float) if wanted is float else wanted
    if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
        raise BadInput(f"{at} must be {words.get(wanted, wanted.__name__)}, got {short(value)}")
    if wanted is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise BadInput(f"{at} must be a finite number, got {short(value)}")
        if abs(value) > LARGEST:
            raise BadInput(f"{at} must be a number of at most {LARGEST:g} in size, got {short(value)}")
        return float(value)
    return value


def short(value: Any) -> str:
    """What was given, for a message of one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@cache
def hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build_dataclass(cls: type, value: Any, where: str, path: str) -> Any:
    at = f"{where}: {path}" if path else where
    if not isinstance(value, Mapping):
        raise BadInput(f"{at} must be a table, got {short(value)}")
    types_of = hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    members: dict[str, Any] = {}
    for key, item in value.items():
        if key == "kind" and getattr(cls, "kind", None) == item:
            continue
        dotted = f"{path}.{key}" if path else key
        if key not in names:
            raise BadInput(f"{where}: unknown key {dotted!r}{did_you_mean(key, names)}")
        members[key] = build(types_of[key], item, where, dotted)
    try:
        return cls(**members)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"{at + '.' if path else where + ': '}{error}") from error


def _build_union(variants: tuple[Any, ...], value: Any, where: str, path: str) -> Any:
    at = f"{where}: {path}"
    if value is None and type(None) in variants:
        return None
    some = [v for v in variants if v is not type(None)]
    if len(some) == 1:
        return build(some[0], value, where, path)
    kinds = {v.kind: v for v in some if hasattr(v, "kind")}
    if not kinds:
        literal = [v for v in some if isinstance(value, str) == (v is str)]
        return build((literal or some)[0], value, where, path)
    if isinstance(value, int | float) and not isinstance(value, bool) and "constant" in kinds:
        return build(kinds["constant"], {"value": value}, where, path)
    if not isinstance(value, Mapping):
        raise BadInput(f"{at} must be a table with a kind ({', '.join(sorted(kinds))}), got {short(value)}")
    kind = value.get("kind")
    if kind is None:
        raise BadInput(f"{at}: kind is missing (one of {', '.join(sorted(kinds))})")
    if not isinstance(kind, str) or kind not in kinds:
        raise BadInput(f"{at}.kind: no such kind {kind!r}{did_you_mean(str(kind), kinds)}")
    return build(kinds[kind], value, where, path)
