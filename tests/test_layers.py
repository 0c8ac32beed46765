"""The layers of the house: who may import whom. Read from the syntax tree, so a lazy import counts as well."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

BASE = {"sim.arrays", "sim.errors", "sim.files", "sim.clock", "sim.distributions", "sim.marks", "sim.shipped", "sim.signals"}
CONFIGURED = BASE | {"sim.policy", "sim.workload", "sim.incidents", "sim.scenario"}
RECORDED = {
    "sim.results.run",
    "sim.results.schema",
    "sim.results.parts",
    "sim.results.histogram",
    "sim.results.clocks",
    "sim.results.journal",
}
EDGE = (
    CONFIGURED
    | RECORDED
    | {
        "sim.refetch",
        "sim.target",
        "sim.resource_version",
        "sim.live.client",
        "sim.live.processes",
        "sim.live.remedies",
        "sim.live.sockets",
    }
)
"""What every package of `live` may use."""

# Module or package -> what of ours it may import besides itself. The nearest enclosing name decides.
ALLOWED: dict[str, set[str]] = {
    "sim.arrays": set(),
    "sim.errors": set(),
    "sim.files": set(),
    "sim.clock": set(),
    "sim.marks": set(),
    "sim.version": set(),
    "sim.shipped": set(),
    "sim.signals": {"sim.errors"},
    "sim.distributions": {"sim.marks"},
    "sim.incidents": {"sim.marks"},
    "sim.pusher": set(),
    "sim.uring": set(),
    "sim.resource_version": set(),
    "sim.machines": set(),
    "sim.policy": {"sim.clock", "sim.machines", "sim.marks"},
    "sim.refetch": {"sim.clock", "sim.policy"},
    "sim.workload": BASE,
    "sim.scenario": {
        "sim.errors",
        "sim.files",
        "sim.marks",
        "sim.shipped",
        "sim.distributions",
        "sim.policy",
        "sim.workload",
        "sim.incidents",
    },
    "sim.target": {"sim.errors", "sim.files"},
    "sim.results": CONFIGURED,
    "sim.virtual": CONFIGURED | {"sim.refetch", "sim.results.run", "sim.results.schema", "sim.results.frames"},
    "sim.virtual.reference": CONFIGURED | {"sim.virtual", "sim.refetch", "sim.results.ledger.views"},
    "sim.virtual.engines": CONFIGURED | {"sim.virtual", "sim.results.summary", "sim.results.run"},
    "sim.virtual.theory": {"sim.errors", "sim.policy"},
    "sim.virtual.sweep": CONFIGURED | {"sim.virtual", "sim.results.statistics"},
    "sim.virtual.fleet": CONFIGURED
    | {"sim.virtual", "sim.results.schema", "sim.results.frames", "sim.results.statistics", "sim.results.histogram"},
    "sim.brokeforge": CONFIGURED | {"sim.pusher"},
    "sim.brokeforge.domain": {"sim.errors", "sim.workload", "sim.scenario", "sim.brokeforge.broadcasting.events"},
    "sim.live": EDGE | {"sim.live.application", "sim.live.broadcaster", "sim.brokeforge", "sim.pusher"},
    "sim.live.client": {"sim.errors", "sim.pusher.http"},
    "sim.live.remedies": {"sim.target"},
    "sim.live.processes": {"sim.errors", "sim.signals"},
    "sim.live.sockets": set(),
    "sim.live.broadcaster": {"sim.errors", "sim.files", "sim.target", "sim.pusher", "sim.live.sockets", "sim.uring"},
    "sim.live.application": EDGE | {"sim.brokeforge", "sim.pusher"},
    "sim.live.drive": EDGE | {"sim.pusher", "sim.brokeforge.broadcasting.events"},
    "sim.live.measure": EDGE | {"sim.live.drive", "sim.live.serve"},
    "sim.live.capacity": EDGE | {"sim.live.measure", "sim.pusher"},
    "sim.live.doctor": EDGE | {"sim.live.drive", "sim.live.capacity", "sim.live.probe", "sim.pusher"},
    "sim.live.record": EDGE,
    # What reports need of both sides: simulations made, results looked at.
    "sim.study": CONFIGURED | {"sim.virtual", "sim.results"},
    "sim.prediction": CONFIGURED | {"sim.virtual", "sim.results"},
    "sim.experiments": CONFIGURED | {"sim.virtual", "sim.results", "sim.study", "sim.prediction"},
    "sim.explorer": CONFIGURED | {"sim.virtual", "sim.results", "sim.study"},
    "sim.commands": CONFIGURED
    | {
        "sim.version",
        "sim.simulate",
        "sim.target",
        "sim.live",
        "sim.results",
        "sim.virtual",
        "sim.prediction",
        "sim.experiments",
    },
    "sim.cli": {"sim.errors", "sim.version", "sim.commands"},
    "sim.__main__": {"sim.cli"},
    "sim": CONFIGURED | {"sim.virtual", "sim.results"},
    "loadtests": CONFIGURED
    | RECORDED
    | {"sim.refetch", "sim.target", "sim.pusher", "sim.resource_version", "sim.uring", "loadtests"},
}

# Packages of others that only some may import.
RESTRICTED = {
    "locust": ("loadtests",),
    "gevent": ("loadtests",),
    "geventhttpclient": ("loadtests",),
    "asyncio": ("sim.live", "sim.commands", "sim.results.answers.execution"),
    "socket": ("sim.live", "loadtests", "sim.commands"),
    "sqlalchemy": ("sim.brokeforge", "sim.live.application", "sim.live.serve"),
    "pandas": ("sim",),  # a load process would wait for it, and hold it in memory
    "matplotlib": ("sim.results.plots", "sim.results.answers.execution"),
    "simpy": (),
}


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in ("sim", "loadtests"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def imports(path: Path, module: str) -> set[str]:
    names: set[str] = set()
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
            )
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def room(module: str) -> str:
    while module not in ALLOWED:
        module = module.rpartition(".")[0]
    return module


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(edges[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            at = stack.index(module)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1:
                found.append(sorted(component))

    for module in edges:
        if module not in index:
            visit(module)
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports under TYPE_CHECKING count as well: who must be read to understand whom."""
    known = dict(modules())
    edges: dict[str, set[str]] = {module: set() for module in known}
    for module, path in known.items():
        for name in imports(path, module):
            target = name if name in known else name.rpartition(".")[0]
            if target in known and target != module:
                edges[module].add(target)
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    assert circles(edges) == []


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_imports_only_what_stands_above_it(module: str, path: Path) -> None:
    home = room(module)
    for name in imports(path, module):
        if name.split(".")[0] in ("sim", "loadtests"):
            allowed = any(within(name, package) for package in ALLOWED[home] | {home if home != "sim" else "sim.__init__"})
            assert allowed, f"{module} may not import {name}"
        owners = RESTRICTED.get(name.split(".")[0])
        if owners is not None:
            assert any(within(module, owner) for owner in owners), f"{module} may not import {name.split('.')[0]}"


def test_nothing_that_a_notebook_imports_reaches_locust_or_a_socket() -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for forbidden in ("sim.live", "loadtests", "locust", "gevent"):
            assert forbidden not in code, f"{path.name} names {forbidden}"


NOTEBOOK = (
    "sim, sim.virtual.theory, sim.virtual.fleet, sim.results.summary, sim.results.plots, sim.results.answers.report, "
    "sim.experiments.answers, sim.experiments.agreement"
)


@pytest.mark.parametrize(
    ("names", "forbidden"),
    [
        # SciPy takes as long to import as all of ours: what needs it imports it where it does.
        (NOTEBOOK, {"locust", "gevent", "scipy"}),
        # A load test waits for its publisher.
        ("sim.commands.drive", {"pandas", "sqlalchemy", "scipy"}),
    ],
    ids=["kernel", "publisher"],
)
def test_a_process_imports_nothing_that_it_must_not_have_or_need_not_wait_for(names: str, forbidden: set[str]) -> None:
    probe = f"import {names}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[0] for name in loaded} & forbidden == set()
