"""What notebooks stand on: whose runs they read, what the card says, how figures are written, and the command that makes HTML."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pandas as pd
import psutil
import pytest

import sim
from sim.cli import main
from sim.errors import BadInput, WorkbenchError
from sim.policy import Debounce, Polling, Throttle, Window
from sim.results import text
from sim.results.answers import execution, report
from sim.results.answers import sentences as answers
from sim.results.answers.choices import snippet
from sim.results.ledger import stages
from sim.results.ledger.book import ledger_of
from sim.results.run import Run
from sim.results.summary import summarise
from sim.scenario import Fleet, Pages, Scenario, load_scenario, parse_assignments, to_dict
from sim.virtual import reference
from sim.workload import RESOURCES, Poisson
from tests.results.frames import Frames, frame, update

SCENARIO = Scenario(name="tiny", duration=20.0, fleet=Fleet(users=2), workload=Poisson(rate=8.0), pages=(Pages("dashboard", 4),))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return sim.simulate(SCENARIO, output=tmp_path_factory.mktemp("report") / "tiny")


def test_a_notebook_reads_the_sample_unless_told_of_ones_own_runs(bundle: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(report.VARIABLE, raising=False)
    assert report.run("start-here").name == "start-here"
    monkeypatch.setenv(report.VARIABLE, os.pathsep.join([str(bundle.directory)] * 2))
    assert [run.name for run in report.runs("start-here")] == ["tiny", "tiny"]


def test_a_missing_sample_names_those_that_are_there() -> None:
    with pytest.raises(BadInput, match="start-here"):
        report.sample("start-her")


def test_samples_are_what_their_manifests_say() -> None:
    for directory in (report.data_dir() / "runs").iterdir():
        sample = Run(directory)
        sample.verify()
        assert sample.manifest.validity["ok"], f"{sample.name}: {report.verdict(sample)}"
        assert not sample.manifest.partial


def test_samples_are_small_and_each_has_its_card() -> None:
    directories = list((report.data_dir() / "runs").iterdir())
    assert sum(file.stat().st_size for directory in directories for file in directory.iterdir()) < 10_000_000
    card = (report.data_dir() / "README.md").read_text(encoding="utf-8")
    for directory in directories:
        assert f"`{directory.name}`" in card, f"{directory.name} has no data card"


def test_the_card_says_where_figures_come_from(bundle: Run) -> None:
    card = report.provenance(bundle)["tiny"]
    assert "simulated" in card["run"]
    assert card["scenario"] == "tiny, seed 1"
    assert card["policy"] == "debounce 500 ms"
    assert card["verdict"] == "valid"


def test_runs_of_one_name_are_told_apart_by_the_directory_above(tmp_path: Path) -> None:
    runs = [sim.simulate(SCENARIO, {"duration": 1.0}, output=tmp_path / side / "run") for side in ("before", "after")]
    assert list(report.labelled(runs)) == ["before/run", "after/run"]
    assert list(report.labelled(runs[0])) == ["run"]
    assert len(report.labelled([runs[0], runs[0]])) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"policy.wait": 0.2}, {"policy": {"kind": "window", "wait": 0.5}}, {"pages.0.subscribers": 5, "seed": 3},
        {"incidents": [{"kind": "restart", "at": 1, "down": 1}]}, {"workload": {"kind": "poisson", "rate": 0.5}},
    ],
)  # fmt: skip
def test_the_command_of_a_run_makes_its_scenario_again(changes: dict[str, Any]) -> None:
    run = report.sample("start-here-simulated")
    scenario = load_scenario("demo", changes)
    run.manifest.scenario, run.manifest.seed = to_dict(scenario), scenario.seed
    words = shlex.split(report.command_of(run))
    assert words[:3] == ["workbench", "simulate", "demo"]
    again = load_scenario("demo", parse_assignments(words[4::2]))
    assert replace(again, thresholds={}) == replace(scenario, thresholds={})


@dataclass(frozen=True)
class EveryNth:
    """A policy with a key that no other has."""

    kind = "every_nth"
    nth: int = 3
    wait: float = 0.5
    jitter: float = 0.0


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Debounce(wait=0.5, leading=True, max_wait=2.0, jitter=0.1), "debounce 500 ms, leading, maxWait 2 s, jitter 100 ms"),
        (Debounce(wait=0.5, leading=True, trailing=False), "debounce 500 ms, leading only"),
        (Window(wait=0.3), "window 300 ms"),
        (Throttle(wait=0.3), "throttle 300 ms, leading"),
        (Polling(interval=2.0), "polling every 2 s"),
        (EveryNth(wait=1.0), "every nth 1 s, nth 3"),
    ],
)
def test_policies_in_words(policy: Any, words: str) -> None:
    assert report.describe(policy) == words
    assert snippet(policy, Scenario())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0 s"), (2e-6, "2 µs"), (0.00052, "0.52 ms"), (0.0431, "43.1 ms"), (0.99974, "1 s"), (1.236, "1.24 s"),
        (125.0, "2.08 min"), (9000.0, "2.5 h"), (math.inf, "never"), (math.nan, "–"), (None, "–"), (-0.5, "−500 ms"),
    ],
)  # fmt: skip
def test_durations_in_words(value: float | None, words: str) -> None:
    assert text.seconds(value) == words


def test_only_all_is_a_hundred_per_cent() -> None:
    assert text.percent(1.0) == "100 %"
    assert text.percent(0.99999) == "99.99 %"
    assert text.percent(0.125) == "12.5 %"
    assert text.percent(-2.2e-16) == "0 %"
    assert text.percent(3e-9) == "0.0000003 %"
    assert text.percent(None) == "–"


def test_counts_in_words() -> None:
    assert [text.number(value) for value in (1250, 0.0673, 12.0, math.inf, None)] == ["1,250", "0.0673", "12", "∞", "–"]


def test_rates_and_sizes_in_words() -> None:
    assert [text.per_second(value) for value in (3350.0, 12.5, None)] == ["3,350/s", "12.5/s", "–"]
    assert [text.size(value) for value in (312, 25_147.0, 999_600, 2.5e6, None)] == ["312 B", "25.1 kB", "1 MB", "2.5 MB", "–"]


def test_a_quantile_that_fell_on_never_reads_never() -> None:
    summary = {"time_to_fresh.p99": {"value": None, "ci_low": 1.0, "ci_high": None, "n": 30, "never": True}}
    assert report.side_by_side({"it": summary}, ["time_to_fresh.p99"])["it"].tolist() == ["never (1 s or more)"]


def test_tables_are_written_by_the_names_of_their_columns() -> None:
    frame = pd.DataFrame({"fresh_p95": [0.25], "share": [0.5], "refetches": [1200], "policy": ["window"]})
    assert report.shown(frame).iloc[0].tolist() == ["250 ms", "50 %", "1,200", "window"]


def test_markdown_tables_escape_their_bars() -> None:
    assert text.markdown(pd.DataFrame({"a": ["x|y"]}, index=["r"])).splitlines()[-1] == "| r | x\\|y |"


def test_the_answers_name_what_they_found(bundle: Run) -> None:
    summary, journeys = summarise(bundle), ledger_of(bundle).journeys
    steps = stages.stage_table(journeys)
    model = summarise(reference.run(bundle.scenario, updates=report.updates_of(bundle)), bundle.scenario)
    first, _, agreement = answers.start_here(summary, model, steps)
    assert "is the debounce (the policy's own waiting, on purpose)" in first
    assert "agree within one per cent" in agreement
    ways = stages.percentiles({"as in this run": (journeys["received_at"] - journeys["intended_at"]).dropna().to_numpy()})
    assert "dashboard" in answers.latency(summary, {"dashboard": steps}, ways)[1]


def test_what_another_application_calls_its_resources_is_a_server_here() -> None:
    kinds = ("order", "site", "server", "task")
    rows = frame("updates", [update(i, 1.0 + i, resource=kind, resource_id=7 + i) for i, kind in enumerate(kinds)])
    found = report.updates_of(Frames(updates=rows))  # type: ignore[arg-type]
    assert [RESOURCES[kind] for kind in found.resource] == ["server", "site", "server", "task"]
    assert found.resource_id.tolist() == [7, 8, 9, 10]


def test_the_same_updates_are_met_again(bundle: Run) -> None:
    again = reference.run(bundle.scenario, updates=report.updates_of(bundle))
    assert again.updates["intended_at"].to_numpy() == pytest.approx(bundle.updates["intended_at"].to_numpy())


# --- workbench report ----------------------------------------------------------------------------------------------------

CELLS = (
    nbformat.v4.new_markdown_cell("# Is this a report?\n\nSee [another](01_other.ipynb) and [elsewhere](https://example.org)."),
    nbformat.v4.new_code_cell("from sim.results.answers import report\nobjective = 1.0", metadata={"tags": ["parameters"]}),
    nbformat.v4.new_markdown_cell("## The answer"),
    nbformat.v4.new_code_cell(
        "run = report.run('start-here')\nreport.answer(f'{run.name}: {report.verdict(run)}, {objective} s')"
    ),
    nbformat.v4.new_code_cell("report.provenance(run)"),
    nbformat.v4.new_code_cell("from sim.results import plots\nax = plots.plot_ecdf({'a': [1.0, 2.0]})"),
    nbformat.v4.new_code_cell("assert run.manifest.validity['ok'], 'the run is invalid'"),
    nbformat.v4.new_code_cell("'behind it'"),
)
PLANTED = "<img src=x onerror=alert(1)> & <script>alert(2)</script>"


class Written(NamedTuple):
    code: int
    err: str
    page: str
    kept: Any


@pytest.fixture
def write(bundle: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Written]:
    """`workbench report` of a notebook of these cells."""

    def written(cells: Sequence[Any], *flags: str) -> Written:
        nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), tmp_path / "question.ipynb")
        html, kept = tmp_path / "out.html", tmp_path / "kept.ipynb"
        places = ["-o", str(html), "--execute-only", str(kept)]
        code = main(["report", str(bundle.directory), "--notebook", str(tmp_path / "question.ipynb"), *places, *flags])
        page = html.read_text(encoding="utf-8") if html.exists() else ""
        return Written(code, capsys.readouterr().err, page, nbformat.read(kept, as_version=4) if kept.exists() else None)

    return written


def test_a_report_of_an_invalid_run(bundle: Run, write: Callable[..., Written], monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with how the run stands, shows what fails without stopping there, and does nothing but be read."""
    monkeypatch.setenv("MPLBACKEND", "Agg")  # The reader's, which must not reach the report.
    path = bundle.directory / "manifest.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(tree | {"validity": {"ok": False, "reasons": [PLANTED]}}), encoding="utf-8")
    try:
        found = write(CELLS, "--set", "objective=0.25")
    finally:
        path.write_text(json.dumps(tree), encoding="utf-8")
    assert found.code == 4
    assert found.err.startswith("workbench: the report is written, and is not to be believed: tiny is invalid: <img src=x")
    assert found.err.count("\n") == 1
    page = found.page
    assert page.index("no thresholds are set") < page.index("The answer"), "how the run stands comes first"
    assert "<strong>Does not hold:</strong> the run is invalid" in page
    assert "behind it" in page, "what comes after a failed assertion is there"
    assert "0.25 s" in page
    # It is text, whatever a bundle holds.
    assert "<img src=x" not in page
    assert "<script" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 3
    assert "Content-Security-Policy" in page.partition("<style")[0]
    # It travels: its picture is in it, and what lies beside the notebook is a name.
    assert "data:image/png;base64," in page
    assert 'href="01_other' not in page
    assert 'href="https://example.org"' in page
    assert "<title>Is this a report?</title>" in page
    assert found.kept.cells[-1].outputs


def test_a_cell_that_breaks_is_one_line(write: Callable[..., Written]) -> None:
    found = write([CELLS[0], nbformat.v4.new_code_cell("ax = 1 / 0  # and no report.standing(")])
    assert (found.code, found.err) == (1, "workbench: question.ipynb: ZeroDivisionError: division by zero\n")
    assert not found.page


def test_a_figure_that_was_not_drawn_fails_the_report() -> None:
    said = nbformat.v4.new_output("stream", text="Matplotlib is building the font cache\nno display\n")
    drawn = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="})
    for output, why in ((said, "no display"), (None, "no picture came of it"), (drawn, None)):
        cell = nbformat.v4.new_code_cell("ax = plots.plot_ecdf(a)", outputs=[output] if output else [])
        with pytest.raises(WorkbenchError, match=why) if why else contextlib.nullcontext():
            execution._require_figures(nbformat.v4.new_notebook(cells=[cell]), "question.ipynb")


def test_a_parameter_that_the_notebook_does_not_have(write: Callable[..., Written]) -> None:
    found = write(CELLS, "--set", "objectiv=0.25")
    assert found.code == 2
    assert "no parameter 'objectiv' - did you mean 'objective'?" in found.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_report_leaves_no_kernel(
    bundle: Run, tmp_path: Path, number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C and SIGTERM end the kernel, then the command, with the exit code of the signal and without a traceback."""
    running = tmp_path / "running"
    pid = f"import os, pathlib, time\npathlib.Path({str(running)!r}).write_text(str(os.getpid()))"
    wait = f"{pid}\ntime.sleep(60)  # and no report.standing("
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(wait)]), tmp_path / "question.ipynb")

    def interrupt() -> None:
        deadline = time.monotonic() + 100
        while not (running.exists() and running.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    arguments = ["report", str(bundle.directory), "--notebook", str(tmp_path / "question.ipynb"), "-o", str(tmp_path / "x.html")]
    try:
        ended = main(arguments)
    except SystemExit as end:
        ended = int(str(end.code))
    assert ended == code
    assert "Traceback" not in capsys.readouterr().err
    kernel = int(running.read_text())
    assert not psutil.pid_exists(kernel) or psutil.Process(kernel).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "no/such/run"], "not a run bundle"),
        (["report", "{run}", "--notebook", "99_nothing"], "no notebook '99_nothing'"),
        (["report", "{run}", "-o", "no/such/place/out.html"], "its directory does not exist"),
        (["explain", "{run}", "--worst", "0"], "--worst must be between"),
        (["compare", "{run}", "{run}", "--band", "2"], "--band must be a share"),
        (["compare", "{run}", "no/such/run"], "not a run bundle"),
        (["fit", "{run}"], "is simulated"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    bundle: Run, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([part.replace("{run}", str(bundle.directory)) for part in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_compare_and_explain_print_what_they_found(bundle: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(bundle.directory), str(bundle.directory), "--fail-on-worse"]) == 0
    assert " same\n" in capsys.readouterr().out
    assert main(["explain", str(bundle.directory), "--markdown"]) == 0
    assert "#### stages" in capsys.readouterr().out
