"""Traces: written, read back, and refused with file and line where they are not well formed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.errors import BadInput
from sim.workload import NEXT, STATUSES, TRACE_DIR, Status, Trace, Transition, load_trace, load_traces, trace_names

HEAD = {"trace": 1, "command": "apt-get install nginx", "replica": 1, "duration": 3.0}
ROWS = [
    {"step": 1, "name": "nginx", "status": "pending", "at": 0.0},
    {"step": 2, "name": "php", "status": "pending", "at": 0.0},
    {"step": 1, "name": "nginx", "status": "installing", "at": 0.5},
    {"step": 1, "name": "nginx", "status": "completed", "at": 2.0},
    {"step": 2, "name": "php", "status": "installing", "at": 2.0},
]


def write(path: Path, head: object = HEAD, rows: Sequence[object] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in [head, *(ROWS if rows is None else rows)]) + "\n")
    return path


def test_steps_are_put_together_from_their_transitions(tmp_path: Path) -> None:
    nginx, php = load_trace(write(tmp_path / "a.jsonl")).steps
    assert (nginx.installing_at, nginx.ended_at, nginx.status) == (0.5, 2.0, "completed")
    assert nginx.duration == 1.5
    assert (php.name, php.status, php.ended_at, php.duration) == ("php", "installing", None, None)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Transition, ...]:
    now: dict[int, Status | None] = {}
    found: list[Transition] = []
    at = 0
    for step, gap in draw(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 10_000)), max_size=30)):
        at += gap
        status = now[step] = draw(st.sampled_from(sorted(NEXT[now.get(step)])))
        found.append(Transition(at / 1000, step, f"step é {step}", status))
    return tuple(found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), partial=st.booleans(), status=st.none() | st.integers(0, 255))
def test_what_is_written_is_read_back(tmp_path: Path, history: tuple[Transition, ...], partial: bool, status: int | None) -> None:
    path = tmp_path / "set" / "07.jsonl"
    trace = Trace(history, "set/07", "cmd", "apt", "2026-01-01T00:00:00Z", 7, 99.125, status, partial, {"cores": 2})
    path.unlink(missing_ok=True)
    trace.write(path)
    assert load_trace(path) == trace
    assert [p.name for p in path.parent.iterdir()] == ["07.jsonl"]


@pytest.mark.parametrize(
    ("line", "text", "complaint"),
    [
        (1, '{"trace": 2}', 'first line must say "trace": 1, got 2'),
        (1, "[]", "must be a JSON object"),
        (1, '{"trace": 1, "replica": "one"}', "replica must be a whole number, got 'one'"),
        (1, '{"trace": 1, "partial": 1}', "partial must be true or false, got 1"),
        (2, '{"step": 1, "name": "nginx", "status": "pending"', "not valid JSON"),
        (2, "", "not valid JSON"),
        (2, '{"name": "nginx", "status": "pending", "at": 0}', "member 'step' is missing"),
        (3, '{"step": "2", "name": "php", "status": "pending", "at": 0}', "step must be a whole number, got '2'"),
        (3, '{"step": 0, "name": "php", "status": "pending", "at": 0}', "step must be 1 or more, got 0"),
        (
            3,
            '{"step": 2, "name": "php", "status": "instaling", "at": 0}',
            "no such status 'instaling' - did you mean 'installing'",
        ),
        (3, '{"step": 2, "name": "php", "status": "pending", "at": -1}', "at must be seconds >= 0, got -1"),
        (3, '{"step": 2, "name": "php", "status": "pending", "at": NaN}', "at must be seconds >= 0, got nan"),
        (3, '{"step": 2, "name": "php", "status": "pending", "at": true}', "at must be a number, got True"),
        (4, '{"step": 1, "name": "nginx", "status": "completed", "at": 1}', "step 1 cannot go from pending to completed"),
        (5, '{"step": 1, "name": "nginx", "status": "completed", "at": 0.4}', "at 0.4 is before the line above"),
        (6, '{"step": 3, "name": "git", "status": "failed", "at": 9}', "step 3 cannot go from nothing to failed"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(tmp_path: Path, line: int, text: str, complaint: str) -> None:
    path = write(tmp_path / "bad.jsonl")
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadInput) as caught:
        load_trace(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_or_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(BadInput, match="empty file"):
        load_trace(tmp_path / "empty.jsonl")
    (tmp_path / "image.jsonl").write_bytes(b"\x89PNG\xff")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_trace(tmp_path / "image.jsonl")


def test_a_missing_trace_suggests_the_nearest_name() -> None:
    with pytest.raises(BadInput, match=r"trace 'stak' not found - did you mean 'stack'\?"):
        load_trace("stak")


def test_a_directory_is_all_its_replicas_and_a_name_one_of_them(tmp_path: Path) -> None:
    write(tmp_path / "set" / "02.jsonl", HEAD | {"replica": 2})
    write(tmp_path / "set" / "01.jsonl")
    assert [t.replica for t in load_traces(tmp_path / "set")] == [1, 2]
    assert load_trace(tmp_path / "set").replica == 1
    assert load_trace(tmp_path / "set" / "02").replica == 2
    with pytest.raises(BadInput, match="not found"):
        load_traces(tmp_path / "set" / "03")


def test_a_trace_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl")
    assert len(load_trace(path).transitions) == 5
    write(path, rows=ROWS[:2])
    assert len(load_trace(path).transitions) == 2


@pytest.mark.parametrize("name", trace_names())
def test_every_recorded_trace_is_well_formed_and_names_nothing_local(name: str) -> None:
    traces = load_traces(name)
    assert [trace.replica for trace in traces] == list(range(1, len(traces) + 1))
    for trace in traces:
        assert trace.transitions
        assert not trace.partial
        assert {t.status for t in trace.transitions} <= set(STATUSES)
        assert trace.duration >= trace.transitions[-1].at
        assert trace.machine["cores"] >= 1
    for path in (TRACE_DIR / name).glob("*.jsonl"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"/(?:tmp|home|root|work)\b|://\w", text)
