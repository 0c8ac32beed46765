"""The explorer: closed forms at any slider, and a JupyterLab in a browser in which they move."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from sim import explorer, study
from sim.explorer import POLICIES, Setting
from sim.scenario import Fleet, Pages, Scenario, to_dict
from sim.workload import Poisson
from tests.brokeforge.chrome import end, tab

PNG = b"\x89PNG"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "corner",
    [
        {"wait": 0.05, "rate": 0.1, "subscribers": 1, "service": 0.0005, "workers": 1},
        {"wait": 3.0, "rate": 25.0, "subscribers": 5000, "service": 1.0, "workers": 64, "max_wait": 10.0},
        {"wait": 3.0, "rate": 0.1, "subscribers": 5000, "service": 0.0005, "workers": 64, "max_wait": 2.0},
    ],
)
def test_every_corner_of_the_sliders_has_an_answer(policy: str, corner: dict[str, Any]) -> None:
    at = Setting(policy=policy, **corner)
    assert explorer.picture(at).startswith(PNG)
    assert explorer.words(at)
    assert ("does not keep up" in explorer.words(at)) == (explorer.figures(at)["busy"] >= 1)


@pytest.mark.parametrize("policy", ["debounce", "debounce with maxWait", "window (maxWait = wait)", "polling"])
def test_its_figures_are_those_of_the_simulator(policy: str) -> None:
    at = Setting(policy=policy, wait=0.5, rate=2.0, subscribers=40, service=0.005, workers=2)
    scenario = Scenario(
        duration=2000.0,
        drain=30.0,
        fleet=Fleet(users=1),
        workload=Poisson(rate=at.rate),
        pages=(Pages("dashboard", at.subscribers),),
    ).replace(
        {"policy": to_dict(POLICIES[policy](at.wait, at.max_wait)), "api.workers": at.workers, "api.service": at.service}
        | dict.fromkeys(("network.to_broadcaster", "network.to_subscriber", "network.to_api"), 0.0)
        | {"broadcaster.fixed": 0.0, "broadcaster.per_subscriber": 0.0}
    )
    drawn, exact = study.summary(scenario), explorer.figures(at)
    assert drawn["time_to_fresh.mean"]["value"] == pytest.approx(exact["late"], rel=0.03)
    assert drawn["time_to_fresh.p95"]["value"] <= exact["late_p95"] * 1.02 or np.isnan(exact["late_p95"])
    assert drawn["refetch_rate.mean"]["value"] == pytest.approx(exact["refetches_per_second"], rel=0.03)


def test_the_saw_tooth_never_shows_what_has_not_happened_yet() -> None:
    for name in POLICIES:
        at = Setting(policy=name, rate=3.0)
        teeth, updates = explorer.saw_tooth(at)
        shown = (teeth["at"] - teeth["age"]).to_numpy()
        assert (teeth["age"] >= 0).all(), name
        assert np.isin(np.round(shown, 9), np.round(np.r_[0.0, updates], 9)).all(), name
    few = Setting(policy="window (maxWait = wait)", rate=3.0, subscribers=3)
    young, old = (explorer.saw_tooth(dataclasses.replace(few, wait=wait))[0]["age"].mean() for wait in (0.1, 3.0))
    assert young < old


@contextmanager
def lab(directory: Path) -> Iterator[str]:
    """The address, token included, of a JupyterLab that serves *directory*."""
    environment = os.environ | {
        name: str(directory / part)
        for name, part in (("JUPYTER_RUNTIME_DIR", "runtime"), ("JUPYTER_CONFIG_DIR", "config"), ("IPYTHONDIR", "ipython"))
    }
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", f"--notebook-dir={directory}"]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        *options,
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (found := list((directory / "runtime").glob("jpserver-*.json"))):
            assert process.poll() is None, "JupyterLab ended"
            assert time.monotonic() < deadline, "JupyterLab did not start"
            time.sleep(0.1)
        time.sleep(0.2)
        said = json.loads(found[0].read_text())
        yield f"{said['url']}lab/tree/explore.ipynb?token={said['token']}"
    finally:
        end(process)


@pytest.mark.browser
@pytest.mark.loopback
@pytest.mark.slow
def test_in_jupyterlab_the_answer_follows_the_sliders_and_every_label_is_whole(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("from sim import explorer\n\nexplorer.explore()")
    book = nbformat.v4.new_notebook(cells=[cell])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "explore.ipynb")
    with tab() as page, lab(tmp_path) as address:
        page.open(address, height=1400)
        page.wait_for("window.jupyterapp && document.querySelector('.jp-Notebook .jp-CodeCell')", 120)
        # The indicator also says idle while there is no kernel.
        page.wait_for("document.querySelector('.jp-Toolbar-kernelName')?.textContent.includes('Python 3')", 120)
        page.wait_for("document.querySelector('.jp-Notebook-ExecutionIndicator[data-status=idle]')", 120)
        page.evaluate("window.jupyterapp.commands.execute('docmanager:open', {path: 'explore.ipynb'}).then(() => true)")
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for("document.querySelectorAll('.widget-slider').length >= 6", 120)
        page.wait_for("document.querySelector('.widget-image')?.naturalWidth > 0", 60)
        page.wait_for("document.querySelector('.explorer-words')?.textContent.includes('500 ms')", 60)
        cut = page.evaluate(
            "[...document.querySelectorAll('.widget-label')].filter(l => l.scrollWidth > l.clientWidth).map(l => l.textContent)"
        )
        assert cut == []
        seen = "[...document.querySelectorAll('.widget-slider')].filter(slider => slider.clientHeight > 0).length"
        assert page.evaluate(seen) == 5, "all but maxWait's, which the policy does not have"
        before = page.evaluate("document.querySelector('.widget-image').src")
        handle = page.evaluate(
            "(box => [box.x + box.width / 2, box.y + box.height / 2])"
            "(document.querySelector('.widget-slider .noUi-handle').getBoundingClientRect())"
        )
        for kind, moved in (("mousePressed", 0), ("mouseMoved", 30), ("mouseMoved", 60), ("mouseReleased", 60)):
            x, y = handle[0] + moved, handle[1]
            page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        page.wait_for("!document.querySelector('.explorer-words').textContent.includes('500 ms')", 60)
        page.wait_for(f"document.querySelector('.widget-image').src !== {json.dumps(before)}", 60)
        page.screenshot(tmp_path / "explorer.png")
        assert not [error for error in page.errors if "widget" in error.lower()]
