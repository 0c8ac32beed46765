"""Flags that several commands share: the scenario with its changes, the target, the word of its owner."""

from __future__ import annotations

import argparse
import tomllib
from typing import Any

from sim.errors import BadInput
from sim.scenario import Scenario, load_scenario
from sim.target import Target


def add_scenario(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO", help="name in data/scenarios, or path of a TOML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one key, as policy.wait=0.2 (may be repeated)"
    )


def scenario(args: argparse.Namespace) -> Scenario:
    return load_scenario(args.scenario, dict(_assignment(text) for text in args.set))


def _assignment(text: str) -> tuple[str, Any]:
    """`policy.wait=0.2`: the value as TOML has it; a bare word is a text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"--set {text!r}: must be KEY=VALUE, as policy.wait=0.2")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def add_target(parser: argparse.ArgumentParser, otherwise: str = "the environment or .env, in Laravel's names") -> None:
    parser.add_argument("--target", metavar="FILE", help=f"target.json, or a .env with Laravel's names (default: {otherwise})")
    parser.add_argument(
        "--i-own-this-target", action="store_true", help="do not ask before sending load to a host that is not this machine"
    )


def target(args: argparse.Namespace) -> Target:
    """The target that the flags name: a `target.json`, a `.env` file, else the environment."""
    if args.target is None:
        return Target.from_environment()
    if args.target.endswith(".json"):
        return Target.read(args.target)
    try:
        with open(args.target, encoding="utf-8"):
            pass
    except OSError as error:
        raise BadInput(f"target {args.target}: {error.strerror} (start one: workbench serve --ready-file target.json)") from error
    return Target.from_environment({}, args.target)
