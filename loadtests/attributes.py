"""The attributes of a page's class, checked before its first page opens: the first wrong one gives an error of one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, get_args
from urllib.parse import urlsplit

from sim.errors import BadInput
from sim.policy import InFlight, Policy
from sim.scenario.model import Behaviour

Rule = tuple[str, Callable[[Any], bool], str]
"""Attribute, test of its value, what it must be."""


def _is_list_of_templates(value: Any) -> bool:
    # A generator would be empty when it is read for the second time.
    return isinstance(value, Collection) and not isinstance(value, str) and all(map(_is_template, value))


def _is_template(template: Any) -> bool:
    try:
        return isinstance(template, str) and bool(template.format(id=1, user=1, n=1))
    except (LookupError, ValueError, AttributeError):
        return False


def _is_address(*schemes: str) -> Callable[[Any], bool]:
    def is_one(value: Any) -> bool:
        try:
            parts = urlsplit(value)
            return not value or (parts.scheme in schemes and bool(parts.hostname) and parts.port != 0)
        except (AttributeError, TypeError, ValueError):
            return False

    return is_one


TEMPLATE = "which may hold {id}, {user} and {n}"
RULES: tuple[Rule, ...] = (
    ("host", _is_address("http", "https"), "the application's address, as 'https://shop.example'"),
    ("broadcaster", _is_address("ws", "wss"), "an address with the application key, as 'wss://ws.shop.example/app/KEY'"),
    ("channels", _is_list_of_templates, f"a list of names, {TEMPLATE}"),
    ("events", _is_list_of_templates, "a list of names"),
    ("refetch", lambda value: value == "" or (_is_template(value) and value.startswith("/")), f"a URL path from '/', {TEMPLATE}"),
    ("policy", lambda value: isinstance(value, Policy), "a policy, as Debounce(wait=0.3)"),
    ("in_flight", get_args(InFlight).__contains__, f"one of {', '.join(get_args(InFlight))}"),
    ("http", ("pool", "per_subscriber").__contains__, "one of pool, per_subscriber"),
    ("pool_size", lambda value: type(value) is int and value > 0, "a whole number > 0"),
    ("timeout", lambda value: type(value) in (int, float) and value > 0, "seconds > 0"),
    ("headers", lambda value: isinstance(value, str) and (not value or value.endswith("\r\n")), "lines, each ending in \\r\\n"),
    ("behaviour", get_args(Behaviour).__contains__, f"one of {', '.join(get_args(Behaviour))}"),
    ("hidden", lambda value: type(value) in (int, float) and 0 <= value <= 1, "a share from 0 to 1"),
)


def check(page: Any) -> None:
    """*page*: an `EchoUser`. Raises `BadInput` for the first attribute that breaks its rule, without a secret in its text."""
    for name, holds, must in RULES:
        value = getattr(page, name)
        if not holds(value):
            shown = "" if name == "headers" else f" = {re.sub('//[^/@]*@', '//...@', repr(value))}"
            raise BadInput(f"{name}{shown}: must be {must}")
