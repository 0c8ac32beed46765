"""`workbench advise`: on a run, on what was heard, on a trace, on a scenario file; one page, or one line that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sim
from sim.cli import main
from sim.commands import options
from sim.commands.advise import ASSUMED, subject
from sim.errors import BadInput
from sim.prediction import Fit, Parameter
from sim.scenario import Pages, Scenario, to_dict, to_toml
from sim.workload import Replay

SMALL = Scenario(name="small", duration=6.0, pages=(Pages("dashboard", 10),))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sim.simulate(SMALL, output=tmp_path_factory.mktemp("runs") / "small").directory


def test_one_page_as_text_markdown_or_json_with_fitted_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.toml").write_text(to_toml(SMALL))
    fit = Fit((Parameter("api.service", {"kind": "constant", "value": 0.003}),), to_dict(SMALL), ranges={"subscribers": (1, 3)})
    fit.write(tmp_path / "fit.json")
    command = ["advise", str(tmp_path / "small.toml"), "--fit", str(tmp_path / "fit.json")]
    assert main([*command, "--json", "--markdown", "-o", str(tmp_path / "advice.md")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["objective"] == "time_to_fresh.p95 < 1 s"
    assert found["headline"].startswith(("Set ", "Keep "))
    assert found["best"]["value"] < 1 < max(row["value"] for row in found["tried"] if isinstance(row["value"], float))
    assert "Costs were fitted at 1 to 3 subscribers; this has 10." in found["not_known"]
    page = (tmp_path / "advice.md").read_text()
    assert page.startswith(f"### Advice\n\n**{found['headline']}**")
    assert "```tsx\nimport " in page


def test_what_takes_long_is_said_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options.say_on_terminal("simulating")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    options.say_on_terminal("simulating")
    assert capsys.readouterr() == ("", "simulating\n")


def test_what_it_is_about(bundle: Path) -> None:
    scenario, words, run = subject(str(bundle))
    assert run is not None
    assert scenario == SMALL
    assert words.startswith("For the run small (simulated)")
    traced, words, run = subject("stack")
    assert isinstance(traced.workload, Replay)
    assert traced.duration >= 60
    assert "recordings" in words
    assert words.endswith(ASSUMED)
    assert run is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "trace 'nowhere' not found"),
        (["{bundle}/.."], "neither a run bundle"),
        (["{bundle}", "--objective", "fast"], "--objective 'fast'"),
        (["{bundle}", "--objective", "time_to_flesh.p95 < 1"], "no such figure"),
        (["{bundle}", "--fit", "{bundle}/manifest.json"], "not a fit"),
        (["{bundle}", "--set", "policy.weight=1"], "weight"),
        (["{bundle}", "--set", "workload.rate=0"], "no figure with any policy"),
        (["{bundle}", "-o", "{bundle}/none/advice.md"], "does not exist"),
        (["{bundle}/nothing.toml"], "No such file"),
    ],
)
def test_what_is_no_use_is_one_line(arguments: list[str], said: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", *(argument.format(bundle=bundle) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_no_advice_on_a_run_that_is_invalid_or_was_changed(tmp_path: Path) -> None:
    found = sim.simulate(SMALL, output=tmp_path / "invalid")
    path = found.directory / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"validity": {"ok": False, "reasons": ["too busy"]}}))
    with pytest.raises(BadInput, match="no advice on a run that is invalid: too busy"):
        subject(str(found.directory))
    path.write_text(json.dumps(manifest))
    (found.directory / "summary.json").write_text("{}")
    with pytest.raises(BadInput, match="changed since the run"):
        subject(str(found.directory))
