"""Validation of the HTTP API's bodies, with the words of Laravel's validator that Reverb answers (422)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KINDS: dict[str, tuple[type, ...]] = {"a string": (str,), "an array": (list, dict)}  # PHP's array is both


@dataclass(frozen=True, slots=True)
class Rule:
    """One field: its type, whether it is required, or required unless another field is there."""

    kind: str
    required: bool = False
    unless: str = ""


EVENT = {
    "name": Rule("a string", required=True),
    "data": Rule("a string", required=True),
    "channels": Rule("an array", unless="channel"),
    "channel": Rule("a string", unless="channels"),
    "socket_id": Rule("a string"),
    "info": Rule("a string"),
}
PLAIN = {"name", "data", "channel"}
BATCH = {"batch": Rule("an array", required=True)}
BATCH_ITEM = {name: rule for name, rule in EVENT.items() if name != "channels"}


def _blank(value: Any) -> bool:
    return value is None or (type(value) is str and not value.strip()) or (type(value) in (list, dict) and not value)


def _complaint(tree: dict[str, Any], name: str, rule: Rule, shown: str) -> str | None:
    value = tree.get(name)
    right = type(value) in KINDS[rule.kind]
    if right and not _blank(value):
        return None
    if rule.required and _blank(value):
        return f"The {shown} field is required."
    if rule.unless and _blank(value) and _blank(tree.get(rule.unless)):
        return f"The {shown} field is required when {rule.unless} is not present."
    if name in tree and not right:
        return f"The {shown} field must be {rule.kind}."
    return None


def errors(rules: dict[str, Rule], items: Sequence[tuple[str, Any]]) -> dict[str, list[str]]:
    """Field -> what is wrong with it, rule by rule; {} when all is well. *items* are (prefix of the names, object)."""
    found: dict[str, list[str]] = {}
    for name, rule in rules.items():
        for prefix, tree in items:
            shown = prefix + name.replace("_", " ")
            complaint = _complaint(tree if type(tree) is dict else {}, name, rule, shown)
            if complaint:
                found[prefix + name] = [complaint]
    return found


def event_errors(tree: dict[str, Any]) -> dict[str, list[str]]:
    """Of the body of `POST /events`."""
    if tree.keys() == PLAIN and all(type(value) is str and value.strip() for value in tree.values()):
        return {}  # Nearly every event, at a fifth of the cost.
    return errors(EVENT, [("", tree)])


def batch_errors(tree: dict[str, Any]) -> dict[str, list[str]]:
    """Of the body of `POST /batch_events`."""
    found = errors(BATCH, [("", tree)])
    if found:
        return found
    batch = tree["batch"]
    items = batch.items() if type(batch) is dict else enumerate(batch)
    return errors(BATCH_ITEM, [(f"batch.{key}.", item) for key, item in items])
