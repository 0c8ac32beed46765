"""The table of keys is complete, and a program refuses what it cannot honour, or says that it left it out."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path

import pytest

from sim import simulate
from sim.cli import main
from sim.errors import BadInput
from sim.incidents import Restart
from sim.marks import Program
from sim.scenario import Api, Pages, Scenario, keys, kinds, load_scenario, not_honoured, of_the_target, require_honoured
from sim.scenario.keys import VARIANTS

PROGRAMS: tuple[Program, ...] = typing.get_args(Program)
KEYS = {(key.table, key.kind, key.name): key for key in keys()}
STORM = Scenario(name="storm", incidents=(Restart(at=1),), api=Api(answer_bytes=9), pages=(Pages(), Pages(subscribers=2)))


def test_every_field_is_in_the_table_and_says_what_it_means() -> None:
    variants = {
        (table, v.kind, f.name) for table in VARIANTS for v in typing.get_args(VARIANTS[table]) for f in dataclasses.fields(v)
    }
    top = {("", "", f.name) for f in dataclasses.fields(Scenario)}
    tables = {table for table, _, _ in KEYS}
    assert variants <= set(KEYS)
    assert {name for _, _, name in top} <= {name for table, _, name in KEYS if not table} | tables
    assert [key for key in KEYS if not KEYS[key].meaning.endswith((".", ":", "`", '"'))] == []
    assert all(text for table in kinds().values() for text in table.values())


def test_a_number_has_a_unit_unless_it_is_a_pure_number() -> None:
    units = {name: key.unit for (_, _, name), key in KEYS.items()}
    assert units["duration"] == units["session"] == units["wait"] == units["max_wait"] == "s"
    assert (units["hidden"], units["payload_bytes"], units["rate"], units["per_minute"]) == (
        "share, 0 to 1",
        "byte",
        "1/s",
        "1/min",
    )
    assert units["sigma"] == units["retry_budget"] == units["workers"] == ""


def test_defaults_are_as_they_would_be_written() -> None:
    assert KEYS["policy", "debounce", "wait"].default == "0.5"
    assert KEYS["network", "", "to_api"].default == "0.0002"
    assert KEYS["api", "", "service"].default == '{kind = "lognormal", scale = 0.001, sigma = 0.5}'
    assert KEYS["broadcast", "", "provision_event"].default == "true"
    assert KEYS["api", "", "timeout"].default == "none"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_default_scenario_is_honoured_by_both(program: Program) -> None:
    assert not_honoured(Scenario(), program) == []


@pytest.mark.parametrize("key", [key for key in KEYS.values() if key.only and key.only.promise], ids=lambda key: key.dotted)
def test_a_key_for_one_program_is_refused_by_the_other_only(key: typing.Any) -> None:
    if key.table == "incidents":
        changed: typing.Any = Scenario().replace({"incidents": [{"kind": key.kind}]})
    else:
        value = {"whole number": 7, "number": 0.7, "true": key.default != "true", "text": "other"}.get(
            key.values.partition(" or ")[0], (key.only.values or key.values.split(", "))[-1]
        )
        changed = Scenario().replace({key.dotted: value})
    other = next(program for program in PROGRAMS if program != key.only.program)
    assert not_honoured(changed, key.only.program) == []
    (left_out,) = not_honoured(changed, other)
    assert left_out.key.replace("[0]", ".0").startswith("incidents" if key.table == "incidents" else key.dotted)


def test_how_a_load_test_is_made_is_no_promise_of_what_happens() -> None:
    assert not_honoured(Scenario().replace({"load.processes": 4, "publisher.via": "broadcaster"}), "simulator") == []


def test_the_refusal_names_key_reason_and_remedy() -> None:
    with pytest.raises(
        BadInput, match=r"storm: api\.answer_bytes is set, .*simulator only: .*--ignore api\.answer_bytes"
    ) as refused:
        require_honoured(STORM, "load test")
    assert "\n" not in str(refused.value)


def test_ignore_takes_a_key_or_a_whole_table_and_says_what_was_left_out() -> None:
    changed = STORM.replace({"ignore": ["api", "incidents[0]"], "network.to_api": 1.0})
    with pytest.raises(BadInput, match=r"network\.to_api"):
        require_honoured(changed, "load test")
    assert [left.key for left in require_honoured(changed.replace({"ignore": ["api", "incidents", "network"]}), "load test")] == [
        left.key for left in not_honoured(changed, "load test")
    ]
    assert require_honoured(changed, "simulator") == []


def test_ignoring_what_no_scenario_has_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="ignore: no key 'incident' - did you mean 'incidents'"):
        require_honoured(Scenario(ignore=("incident",)), "simulator")


def test_the_commands_refuse_or_say_what_they_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--set", "duration=1", "--set", "pages.0.subscribers=2"]
    latency = [*short, "--set", "api.database_latency=0.1"]
    assert main(["simulate", "steady", *latency]) == 2
    assert "api.database_latency is set" in capsys.readouterr().err
    assert main(["loadtest", "steady", "--set", "network.to_api=0.1"]) == 2
    assert main(["drive", "steady", "--set", "network.to_api=0.1", "--target", "none.json"]) == 2
    assert "network.to_api is set" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(BadInput, match=r"api\.database_latency is set"):
        simulate("steady", {"api.database_latency": 0.1})
    assert main(["sweep", "steady", *latency, "--vary", "policy.wait=1,2"]) == 2
    capsys.readouterr()
    assert main(["simulate", "steady", *latency, "--ignore", "api.database_latency", "-o", str(tmp_path / "run")]) == 0
    assert "left out            api.database_latency (load test only" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["extra"]["left_out"][0].startswith("api.database_latency")
    assert load_scenario("steady").ignore == ()


def test_what_a_target_decides_by_itself_is_named_and_what_the_pages_do_is_not() -> None:
    """With a target that runs already, `api.workers` is a wish; `api.timeout` is the pages' own."""
    keys = {"api.workers": 4, "api.service": 0.1, "broadcaster.model": "reverb", "broadcast.dispatch": "queued"}
    pages = {"api.timeout": 1.0, "api.retries": 2, "broadcast.channels": "generic", "policy.wait": 2.0}
    assert sorted(of_the_target(Scenario().replace(keys | pages))) == sorted(keys)
    assert of_the_target(Scenario()) == []
