"""What a request's body may hold: field -> rule. Unknown fields and wrong types are 422, with a text per field."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sim.brokeforge.http import invalid
from sim.errors import did_you_mean

Rule = Callable[[Any], Any]
"""From what JSON held to what the model takes; raises `ValueError` with the rest of "The <field> field ..."."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]{0,63}")
"""A provision step's name: a number, or a package's name as apt knows it."""


def text(longest: int) -> Rule:
    def rule(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be a text")
        value = value.strip()
        if not 0 < len(value) <= longest:
            raise ValueError(f"must have 1 to {longest} characters")
        if not value.isprintable():
            raise ValueError("must not have control characters")
        return value

    return rule


def status(value: Any) -> str:
    """A status by name, or null for "not installed". Whether the move is legal the model's table says."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 20:
        raise ValueError("must be a status")
    return value


def one_of(*allowed: str) -> Rule:
    def rule(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return str(value)

    return rule


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def number(least: float, most: float) -> Rule:
    def rule(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"must be a number between {least:g} and {most:g}")
        return float(value)

    return rule


def whole(least: int, most: int) -> Rule:
    def rule(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be a whole number between {least} and {most}")
        return value

    return rule


def port(value: Any) -> str:
    """A port or a range: 443, "443", "8000:8100"."""
    if isinstance(value, bool) or not isinstance(value, int | str) or not re.fullmatch(r"[0-9]{1,5}(:[0-9]{1,5})?", str(value)):
        raise ValueError("must be a port or a range of ports (8000:8100)")
    numbers = [int(n) for n in str(value).split(":")]
    if not all(1 <= n <= 65535 for n in numbers) or numbers != sorted(numbers):
        raise ValueError("must be between 1 and 65535, the lower one first")
    return str(value)


def address(value: Any) -> str:
    """An IP address or network; null or empty: from anywhere."""
    if value in (None, ""):
        return ""
    try:
        if isinstance(value, str):
            return str(ipaddress.ip_network(value, strict=False)) if "/" in value else str(ipaddress.ip_address(value))
    except ValueError:
        pass
    raise ValueError("must be an IP address or a network")


def instant(value: Any) -> int | None:
    """ISO 8601 to microseconds since 1970; without a zone it is UTC."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
        # In UTC it must be of the years 1 to 9999 as well, or no page could show it.
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("must be a time in ISO 8601") from error
    return (at - _EPOCH) // timedelta(microseconds=1)


def validate(body: Mapping[str, Any], rules: Mapping[str, Rule], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The clean values of the fields that are there. Raises `HttpError` 422 naming every field that is wrong."""
    errors: dict[str, list[str]] = {}
    clean: dict[str, Any] = {}
    for name, value in body.items():
        if name not in rules:
            errors[name] = [f"There is no field {name}{did_you_mean(name, rules)}"]
            continue
        try:
            clean[name] = rules[name](value)
        except ValueError as error:
            errors[name] = [f"The {name} field {error}."]
    for name in required:
        if name not in body:
            errors[name] = [f"The {name} field is required."]
    if not errors and not clean:
        errors["body"] = [f"There is nothing to change (known fields: {', '.join(rules)})."]
    if errors:
        raise invalid(errors)
    return clean
