"""Measure small and large runs of two broadcasters, fit to the small ones, predict the large: `data/proof.json`, `data/fits`.

    python data/proof.py                      # measures into a directory of its own: a quarter of an hour, on a quiet machine
    python data/proof.py --keep DIR           # ... and keeps the bundles there; those that are there are not measured again
    python data/proof.py --keep DIR --measure # ... and leaves it at that

The first change of a run finds everything cold: no connection to the broadcaster or the database yet, code that has not run. It
is much slower than those after it, so each run has a warm-up with a change in it.

Sender and receivers have a core each, so that what is fitted is the target's and not their quarrel over one. The broadcasters are
the embedded one, and the same that takes half of the times of Laravel Reverb (half, so that two cores carry 4,000 subscribers).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from sim.experiments import proof
from sim.prediction import Fit
from sim.prediction.fit import fit
from sim.prediction.observations import observe
from sim.results.run import Run
from sim.scenario import Scenario, to_dict

TARGETS = {"workbench": [], "reverb": ["broadcaster.model=reverb", "broadcaster.cost=0.5"]}
KINDS = {
    "fan": ["fan-out", 'workload={kind="poisson",rate=3}', "warmup=2", "duration=14", "drain=2", "publisher.via=routes"],
    "herd": [
        "herd",
        'workload={kind="constant",rate=0.25}',
        "warmup=7",
        "duration=24",
        "drain=5",
        'api={workers=4,service={kind="lognormal",scale=0.003,sigma=0.5}}',
        'pages=[{page="dashboard",subscribers=80},{page="detail",subscribers=20}]',
    ],
}
SMALL, LARGE = (500, 1000), (2000, 4000)
HELD_OUT = 2
"""Seed of further runs at the smaller of the large sizes."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the bundles are, or will be")
    parser.add_argument("--measure", action="store_true", help="only measure, with --keep: fit and predict another time")
    args = parser.parse_args()
    if args.measure and not args.keep:
        parser.error("--measure keeps nothing without --keep DIR")
    with tempfile.TemporaryDirectory() as scratch:
        place = args.keep or Path(scratch)
        found: list[dict[str, Any]] = []
        scenarios, left_out = {}, {}
        cases = [(kind, size, 1) for kind in KINDS for size in LARGE] + [(kind, LARGE[0], HELD_OUT) for kind in KINDS]
        small = [(kind, size, 1) for size in SMALL for kind in KINDS]
        for target in TARGETS:
            for kind, size, seed in small + cases:
                measured(place, kind, target, size, seed)
        if args.measure:
            return 0
        for target in TARGETS:
            fitted = fit(observe([measured(place, kind, target, size) for kind, size, _ in small]))
            proof.FITS.mkdir(exist_ok=True)
            fitted.write(proof.FITS / f"{target}.fit.json")
            for kind, size, seed in cases:
                run = measured(place, kind, target, size, seed)
                if not run.manifest.validity["ok"]:
                    left_out[run.name] = "; ".join(run.manifest.validity["reasons"])
                    continue
                scenarios[run.name] = run.scenario
                found += rows(target, fitted, run.name, run.scenario, run.summary, seed == HELD_OUT)
        write(found, scenarios, left_out)
    return 0


def measured(place: Path, kind: str, target: str, size: int, seed: int = 1) -> Run:
    """The bundle of one load test, made where it is not there yet."""
    bundle = place / "-".join([kind, target, str(size), *([] if seed == 1 else [f"s{seed}"])])
    if not (bundle / "manifest.json").exists():
        name, *keys = [*KINDS[kind], *TARGETS[target], "load.connect_rate=1500", "fleet.users=10", f"seed={seed}"]
        command = [sys.executable, "-m", "sim", "loadtest", name, "--users", str(size), "-o", str(bundle)]
        apart(command + [word for key in keys for word in ("--set", key)])
    return Run(bundle)


def apart(command: list[str]) -> int:
    """Run *command*; the target's processes get the first core, all others the second. Returns its exit code."""
    child = subprocess.Popen(command)
    pinned: dict[int, int] = {}
    while child.poll() is None:
        try:
            family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
        except psutil.Error:
            break
        for process in family:
            # A process may start threads, or become another program, after it has been seen first.
            if pinned.get(process.pid, 0) >= 3:
                continue
            try:
                line = " ".join(process.cmdline())
                core = 0 if "sim.live.broadcaster" in line or "sim.live.application" in line else 1
                for number in [process.pid, *(thread.id for thread in process.threads())]:
                    psutil.Process(number).cpu_affinity([core])
                pinned[process.pid] = pinned.get(process.pid, 0) + 1
            except psutil.Error:
                continue
        time.sleep(0.2)
    return child.wait()


def rows(
    target: str, fit: Fit, name: str, scenario: Scenario, measured: Mapping[str, Any], held_out: bool
) -> list[dict[str, Any]]:
    """Each figure of one measured run beside its prediction. The prediction meets the updates that the scenario's seed draws,
    which the run was given as well. *held_out*: it was measured when the model was settled."""
    return [
        {
            "target": target,
            "run": name,
            "subscribers": scenario.subscribers,
            "metric": metric,
            "measured": float(measured[metric]["value"]),
            "predicted": figure.value,
            "low": figure.low,
            "high": figure.high,
            "held_out": held_out,
        }
        for metric, figure in proof.predicted(fit, scenario).items()
        if measured.get(metric, {}).get("value")
    ]


def write(found: Iterable[Mapping[str, Any]], scenarios: Mapping[str, Scenario], left_out: Mapping[str, str]) -> None:
    """*scenarios* by run; *left_out*: run -> why it is not among them."""
    tree = {
        "rows": list(found),
        "scenarios": {name: to_dict(scenario) for name, scenario in scenarios.items()},
        "left_out": dict(left_out),
    }
    proof.PLACE.write_text(json.dumps(tree, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
