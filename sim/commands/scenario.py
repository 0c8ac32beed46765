"""List the scenarios that come with the workbench, show one, or begin a new one; every key with what it means.

examples:
  workbench scenario                      # the named ones, a line each
  workbench scenario demo                 # one of them
  workbench scenario mine.toml            # a commented start, where the file is not there yet
  workbench scenario mine.toml --from heard   # changes as workbench listen heard them
  workbench scenario --keys               # every key: unit, default, program, meaning
  workbench scenario --keys policy        # those of one table
  workbench scenario demo --set policy.wait=0.2 > mine.toml
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from sim.commands import options
from sim.errors import BadInput, did_you_mean
from sim.files import read_text
from sim.results.answers.heard import scenario_of
from sim.results.run import Run
from sim.scenario import (
    Key,
    Scenario,
    find_scenario,
    keys,
    kinds,
    load_scenario,
    parse_assignments,
    scenario_names,
    to_dict,
    to_text,
    to_toml,
)

WIDTH = 80

START = {
    "description": '"what this scenario is for"',
    "duration": "20",
    "workload": '{kind = "poisson", rate = 2}',
    "policy": '{kind = "debounce", wait = 0.5, max_wait = 2}',
    "pages": '[{page = "detail", subscribers = 100}, {page = "dashboard", subscribers = 50}]',
    "thresholds": '{delivery_ratio = "value >= 1", time_to_fresh_ms = "p(95) < 2000"}',
}
"""Keys that a new scenario sets; the others are there as comments, with their defaults."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="?", metavar="NAME", help="a named scenario, a file, or a new file (*.toml)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="show it with this key changed")
    parser.add_argument("--keys", action="store_true", help="print every key; NAME: of one table only")
    parser.add_argument("--from", dest="heard", metavar="HEARD", help="a new file: changes as in this bundle of workbench listen")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    if args.keys:
        chosen = _chosen(args.scenario)
        if args.json:
            options.print_json("scenario", {"keys": [key.to_dict() for key in chosen]})
        else:
            print("\n".join(_described(chosen)))
        return 0
    if args.scenario is None:
        named = {name: summary(load_scenario(name).description) for name in scenario_names()}
        if args.json:
            options.print_json("scenario", {"scenarios": named})
        else:
            for name, text in named.items():
                print(textwrap.fill(text, WIDTH, initial_indent=f"{name:15}", subsequent_indent=" " * 15))
        return 0
    path = Path(args.scenario)
    if args.heard is not None:
        return _from_heard(path, args)
    if path.suffix == ".toml" and not path.exists():
        if args.set:
            raise BadInput(f"scenario {path}: no such file (a new one takes no --set: write it first, then change it)")
        options.require_place(path)
        options.write_text(path, start())
        print(f"{path}  (run it: workbench simulate {path})")
        return 0
    found = load_scenario(args.scenario, parse_assignments(args.set))
    if args.json:
        options.print_json("scenario", {"scenario": to_dict(found)})
    elif args.set:
        print(to_toml(found), end="")
    else:
        print(read_text(find_scenario(args.scenario)), end="")
    return 0


def _from_heard(path: Path, args: argparse.Namespace) -> int:
    if path.suffix != ".toml" or path.exists():
        raise BadInput(f"--from makes a new file: {path} {'exists' if path.exists() else 'does not end in .toml'}")
    options.require_place(path)
    heard = Run(args.heard)
    heard.verify()
    found = scenario_of(heard).replace(parse_assignments(args.set))
    rate = found.workload.expected(found.duration, 1, 1) / found.duration
    head = [
        f"As heard in {heard.scenario.duration:g} s: {rate:.3g} updates a second, with the same gaps, bursts and resources.",
        "How many pages are open, and when they fetch, cannot be heard: set `pages` and `policy`.",
    ]
    options.write_text(path, "".join(f"# {line}\n" for line in head) + _set_keys(found))
    print(f"{path}  (set its pages, then: workbench advise {path} --objective 'time_to_fresh.p95 < 1')")
    return 0


def _set_keys(found: Scenario) -> str:
    """The keys that differ from their defaults, and those that are to be set, as TOML."""
    default = to_dict(Scenario())
    chosen = {name: value for name, value in to_dict(found).items() if value != default[name] or name in ("pages", "policy")}
    for name, value in chosen.items():
        if name == "pages":
            plain = to_dict(Scenario())["pages"][0]
            chosen[name] = [
                {k: v for k, v in page.items() if v != plain.get(k) or k in ("page", "subscribers")} for page in value
            ]
        elif isinstance(value, dict) and "kind" not in value:
            chosen[name] = {k: v for k, v in value.items() if v != default[name].get(k)}
    return "".join(f"{name} = {to_text(value)}\n" for name, value in chosen.items())


def summary(description: str) -> str:
    """The first sentence."""
    text = " ".join(description.split())
    return text.partition(". ")[0].rstrip(".")


def start() -> str:
    """A new scenario as a commented TOML file, which `load_scenario` reads."""
    lines = ["# A scenario for `workbench simulate`, `loadtest`, `sweep` and `drive`. What is commented out shows its default."]
    for key in keys():
        if not key.table and key.name not in ("name", "ignore", "thresholds"):
            lines += _entry(key.name, START.get(key.name), key)
    for table, about in _tables():
        lines += ["", *_comment(about), *_table(table)]
    lines += ["", *_comment("Pass or fail: metric and condition."), f"thresholds = {START['thresholds']}"]
    return "\n".join(lines) + "\n"


def _table(table: str) -> Iterator[str]:
    """The lines below the heading of one table: its kinds, its keys, and an example where it has one."""
    for kind, text in kinds().get(table, {}).items():
        members = ", ".join(key.name for key in keys() if (key.table, key.kind) == (table, kind))
        yield from _comment(f"  {kind}: {text.rstrip('.')}{f' ({members})' if members else ''}", hanging="    ")
    own = [key for key in keys() if key.table == table]
    if table == "pages":
        for key in own:
            yield from _comment(f"  {key.name}: {key.meaning.rstrip('.')}", "    ")
    if table in START:
        yield f"{table} = {START[table]}"
    elif table == "incidents":
        yield '# incidents = [{kind = "restart", at = 10, down = 5}]'
    else:
        for key in own:
            yield from _entry(f"{table}.{key.name}", None, key)


def _tables() -> Iterator[tuple[str, str]]:
    seen = dict.fromkeys(key.table for key in keys() if key.table not in ("", "distribution"))
    for table in seen:
        about = next((key.meaning for key in keys() if not key.table and key.name == table), "")
        yield table, f"{table}: {about or TABLES[table]}"


TABLES = {
    "fleet": "users, and what they own",
    "workload": "what changes, and when",
    "pages": "which pages are open",
    "policy": "when a page refetches",
    "broadcast": "how the application broadcasts",
    "network": "delays between the parts",
    "broadcaster": "what a fan-out costs",
    "api": "the application that answers refetches",
    "incidents": "what goes wrong, and when",
    "publisher": "what makes the updates of a load test",
    "load": "how a load test is made and measured",
    "distribution": "a duration that is drawn, wherever a number of seconds may stand",
}
"""What each table is about."""


def _entry(dotted: str, value: str | None, key: Key) -> list[str]:
    unit = f" [{key.unit}]" if key.unit else ""
    about = _comment(f"{key.meaning.rstrip('.')}{unit}" + (f"; {key.only.program} only" if key.only else ""))
    default = key.default if key.default != "none" else "..."
    return ["", *about, f"{dotted} = {value}" if value else f"# {dotted} = {default}"]


def _comment(text: str, hanging: str = "") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent=f"# {hanging}")


def _chosen(table: str | None) -> Sequence[Key]:
    if table is None:
        return keys()
    chosen = [key for key in keys() if key.table == table or (not key.table and key.name == table)]
    if not chosen:
        known = {key.table for key in keys() if key.table}
        raise BadInput(f"--keys {table}: no table {table!r}{did_you_mean(table, known)}")
    return chosen


def _described(chosen: Sequence[Key]) -> Iterator[str]:
    """Within `WIDTH` columns: a heading for each table and kind, and for each key a line with its value and what it means."""
    heading = None
    for key in chosen:
        if heading != (key.table, key.kind):
            if heading is not None:
                yield ""
            heading = key.table, key.kind
            about = kinds()[key.table][key.kind] if key.kind else TABLES.get(key.table, "the run")
            name = f"{key.table} {key.kind}".strip() or "(top)"
            yield from textwrap.wrap(f"[{name}]  {about}", WIDTH, subsequent_indent="    ")
        unit = f" [{key.unit}]" if key.unit else ""
        yield from textwrap.wrap(
            f"  {key.name} = {key.default}{unit}  ({key.values}; {key.program})", WIDTH, subsequent_indent="      "
        )
        yield from textwrap.wrap(key.meaning, WIDTH, initial_indent="      ", subsequent_indent="      ")
