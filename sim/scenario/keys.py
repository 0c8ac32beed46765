"""Every key of a scenario: meaning, unit, default, and which program honours it. Read from the dataclasses themselves.

The meaning is the text below the field, the unit and the program are marks of its type (`sim.marks`). The reference,
`workbench scenario --keys` and the refusal of what a program cannot honour read this one table.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sim.distributions import Distribution
from sim.errors import BadInput, did_you_mean
from sim.incidents import Incident
from sim.marks import Only, Program, Unit
from sim.policy import Policy
from sim.scenario.model import Scenario
from sim.scenario.reading import to_text
from sim.scenario.tree import to_dict
from sim.workload import Workload

VARIANTS: dict[str, Any] = {"workload": Workload, "policy": Policy, "incidents": Incident, "distribution": Distribution}
"""What is chosen by `kind`: name of the table, and the union of its kinds. A distribution stands wherever a duration is drawn."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key, as the reference shows it."""

    table: str
    """Table of the scenario, as `api`; empty: the top. `distribution`: members of a duration that is drawn."""
    kind: str
    """Which kind of the table has it; empty: the table has no kinds."""
    name: str
    values: str
    """What may be written: `number`, `true or false`, the words that are allowed."""
    unit: str
    default: str
    only: Only | None
    """None: both programs honour it."""
    meaning: str

    @property
    def dotted(self) -> str:
        """As `--set` takes it: `api.workers`, `pages.0.hidden`."""
        place = {"": "", "pages": "pages.0.", "incidents": "incidents.0."}.get(self.table, f"{self.table}.")
        return place + self.name

    @property
    def program(self) -> str:
        """Which program honours it, in words."""
        return "both" if self.only is None else f"{self.only.program} only: {self.only.because}"

    def to_dict(self) -> dict[str, Any]:
        members = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "only"}
        return {"key": self.dotted, **members, "program": "both" if self.only is None else self.only.program} | (
            {"because": self.only.because} if self.only else {}
        )


@cache
def keys() -> tuple[Key, ...]:
    """All of them: the top of a scenario, its tables, then the members of each kind."""
    found = [key for key in _of(Scenario, "") if key.name not in _tables()]
    for name, table, only in _tables().values():
        found += [
            dataclasses.replace(key, only=key.only or only)
            for variant in (typing.get_args(VARIANTS[name]) if name in VARIANTS else [table])
            for key in _of(variant, name)
        ]
    for variant in typing.get_args(Distribution):
        found += _of(variant, "distribution")
    # What a kind does not explain, another of the same table does: `jitter` is the same for every policy.
    explained: dict[tuple[str, str], str] = {}
    for key in found:
        if key.meaning:
            explained.setdefault((key.table, key.name), key.meaning)
    return tuple(dataclasses.replace(key, meaning=key.meaning or explained.get((key.table, key.name), "")) for key in found)


def kinds() -> dict[str, dict[str, str]]:
    """Table (`workload`, `policy`, `incidents`, `distribution`) -> kind -> what it is, in its own words."""
    return {
        table: {variant.kind: inspect.cleandoc(variant.__doc__ or "").partition("\n\n")[0] for variant in typing.get_args(union)}
        for table, union in VARIANTS.items()
    }


@cache
def _tables() -> dict[str, tuple[str, Any, Only | None]]:
    """The scenario's tables: name -> (name, dataclass or union, mark)."""
    found: dict[str, tuple[str, Any, Only | None]] = {}
    for name, wanted in _types(Scenario).items():
        plain, _, only = _marks(wanted)
        inner = typing.get_args(plain)[0] if typing.get_origin(plain) is tuple else plain
        if name in VARIANTS or dataclasses.is_dataclass(inner):
            found[name] = name, inner, only
    return found


@cache
def _types(cls: type) -> dict[str, Any]:
    """The types of a dataclass with their marks (`tree.hints` has them without)."""
    return {name: hint for name, hint in typing.get_type_hints(cls, include_extras=True).items() if name in _names(cls)}


def _names(cls: type) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]


def _marks(wanted: Any) -> tuple[Any, str | None, Only | None]:
    """The plain type, its unit (None: not marked), and which program honours it."""
    if typing.get_origin(wanted) is not typing.Annotated:
        # `Share | None`: the mark is one level further in.
        for part in typing.get_args(wanted) if isinstance(wanted, types.UnionType) or _is_optional(wanted) else ():
            _, unit, only = _marks(part)
            if unit is not None or only is not None:
                return wanted, unit, only
        return wanted, None, None
    plain, *extras = typing.get_args(wanted)
    inner, unit, only = _marks(plain)
    for extra in extras:
        unit = extra.name if isinstance(extra, Unit) else unit
        only = extra if isinstance(extra, Only) else only
    return inner, unit, only


def _is_optional(wanted: Any) -> bool:
    return typing.get_origin(wanted) is typing.Union and type(None) in typing.get_args(wanted)


def _of(cls: type, table: str) -> Iterator[Key]:
    meanings = {name: text for base in reversed(cls.__mro__) for name, text in _meanings(base).items()}
    for f in dataclasses.fields(cls):
        plain, unit, only = _marks(_types(cls)[f.name])
        yield Key(
            table=table,
            kind=getattr(cls, "kind", ""),
            name=f.name,
            values=_values(plain),
            unit=unit if unit is not None else "s" if _is_seconds(plain) else "",
            default=_default(f),
            only=only,
            meaning=meanings.get(f.name, ""),
        )


@cache
def _meanings(cls: type) -> dict[str, str]:
    """The texts below the fields of a class: Python keeps them in the source only."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):
        return {}
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    found = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            value = getattr(text.value, "value", None)
            if isinstance(value, str):
                found[field.target.id] = " ".join(value.split())
    return found


def _is_seconds(plain: Any) -> bool:
    """Durations are floats or distributions; what is not in seconds is marked with its unit."""
    return plain is float or plain == Distribution or float in typing.get_args(plain) or plain == Distribution | None


def _values(plain: Any) -> str:
    words = {float: "number", int: "whole number", str: "text", bool: "true or false"}
    if plain in words:
        return words[plain]
    if typing.get_origin(plain) is Literal:
        return ", ".join(map(str, typing.get_args(plain)))
    if plain in (Distribution, Distribution | None):
        return "number or distribution"
    if plain in (Policy, Policy | None):
        return "table with a kind"
    if typing.get_origin(plain) is tuple:
        inner = typing.get_args(plain)[0]
        return f"list of {'parts' if inner not in words else words[inner] + 's'}"
    if isinstance(typing.get_origin(plain), type) and issubclass(typing.cast(type, typing.get_origin(plain)), Mapping):
        return "table"
    some = [part for part in typing.get_args(plain) if part is not type(None)]
    return " or ".join(dict.fromkeys(_values(_marks(part)[0]) for part in some)) if some else "table"


def _default(f: dataclasses.Field[Any]) -> str:
    """As TOML would hold it; `none` for a key that is not set."""
    value = to_dict(_default_value(f))
    if isinstance(value, dict) and value.get("kind") == "constant":
        value = value["value"]
    return "none" if value is None else to_text(value)


# --- what a program cannot honour ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ignored:
    """A key that is set and that the program of this run does not honour."""

    key: str
    only: Only

    def __str__(self) -> str:
        return f"{self.key} ({self.only.program} only: {self.only.because})"


def not_honoured(scenario: Scenario, program: Program) -> list[Ignored]:
    """Keys of *scenario* that are not at their default and that *program* does not honour."""
    return list(_departures(scenario, program, "", None))


def require_honoured(scenario: Scenario, program: Program) -> list[Ignored]:
    """What *program* leaves out because `scenario.ignore` allows it. Raises `BadInput` for the first key that it does not allow,
    and for a name in `ignore` that no scenario has."""
    for name in scenario.ignore:
        _require_key(name)
    found = not_honoured(scenario, program)
    for ignored in found:
        if not any(_within(ignored.key, name) for name in scenario.ignore):
            raise BadInput(
                f"scenario {scenario.name}: {ignored.key} is set, but it is for the {ignored.only.program} only: "
                f"{ignored.only.because} (leave it at its default, or go on without it: --ignore {_plain(ignored.key)})"
            )
    return found


OF_THE_CLIENT = {
    *(f"api.{name}" for name in ("timeout", "retries", "retry_backoff", "retry_budget", "dashboard_of")),
    *(f"broadcast.{name}" for name in ("channels", "payload", "payload_bytes", "broadcast_as", "provision_event")),
}
"""What the tables of the application and of the broadcaster say of the pages, and of what they are to expect."""


def of_the_target(scenario: Scenario) -> list[str]:
    """Keys that are set and decide how a target works: the embedded one obeys them, one that runs already does as it does."""
    found = []
    for table in ("broadcast", "broadcaster", "api"):
        value = getattr(scenario, table)
        names = [f.name for f in dataclasses.fields(value) if getattr(value, f.name) != _default_value(f)]
        found += [f"{table}.{name}" for name in names if f"{table}.{name}" not in OF_THE_CLIENT]
    return found


def _departures(value: Any, program: Program, path: str, inherited: Only | None) -> Iterator[Ignored]:
    for f in dataclasses.fields(value):
        plain, _, mark = _marks(_types(typing.cast(type, type(value)))[f.name])
        only, present = mark or inherited, getattr(value, f.name)
        dotted = f"{path}.{f.name}" if path else f.name
        parts = {f"{dotted}[{i}]": part for i, part in enumerate(present)} if isinstance(present, tuple) else {dotted: present}
        drawn = plain in (Distribution, Distribution | None)
        for place, part in parts.items():
            if dataclasses.is_dataclass(part) and not drawn and not (isinstance(present, tuple) and mark):
                yield from _departures(part, program, place, only)
            elif only is not None and present != _default_value(f) and only.refuses(program, part):
                yield Ignored(place, only)


def _default_value(f: dataclasses.Field[Any]) -> Any:
    return f.default if f.default is not dataclasses.MISSING else f.default_factory() if callable(f.default_factory) else None


def _plain(dotted: str) -> str:
    """Without the place in a list: `pages[0].hidden` is the key `pages.hidden`."""
    return ".".join(part.partition("[")[0] for part in dotted.split(".") if not part.isdigit())


def _within(dotted: str, name: str) -> bool:
    return f"{_plain(dotted)}.".startswith(f"{_plain(name)}.")


def _require_key(name: str) -> None:
    known = {_plain(key.dotted) for key in keys()} | set(_tables())
    if _plain(name) not in known:
        raise BadInput(f"ignore: no key {name!r}{did_you_mean(name, known)}")
