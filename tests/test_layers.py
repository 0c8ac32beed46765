"""The layers of the house: who may import whom. Read from the syntax tree, so a lazy import counts as well."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

BASE = {"sim.errors", "sim.clock", "sim.distributions"}
CONFIGURED = BASE | {"sim.policy", "sim.workload", "sim.incidents", "sim.scenario"}

RECORDED = {"sim.results.run", "sim.results.parts", "sim.results.histogram", "sim.results.clocks"}

# Module or package -> what of ours it may import besides itself. The nearest enclosing name decides.
ALLOWED: dict[str, set[str]] = {
    "sim.errors": set(),
    "sim.clock": set(),
    "sim.distributions": set(),
    "sim.incidents": set(),
    "sim.pusher": set(),
    "sim.machines": set(),
    "sim.policy": {"sim.clock", "sim.machines"},
    "sim.refetch": {"sim.clock", "sim.policy"},
    "sim.workload": BASE,
    "sim.scenario": {"sim.errors", "sim.distributions", "sim.policy", "sim.workload", "sim.incidents"},
    "sim.target": {"sim.errors"},
    "sim.results": CONFIGURED,
    "sim.virtual": CONFIGURED | {"sim.refetch", "sim.results.run"},
    "sim.virtual.engines": CONFIGURED | {"sim.virtual", "sim.results.summary", "sim.results.run"},
    "sim.brokeforge": CONFIGURED | {"sim.pusher"},
    "sim.live": CONFIGURED | RECORDED | {"sim.refetch", "sim.target", "sim.pusher", "sim.brokeforge"},
    # What reports need of both sides: simulations made, results looked at.
    "sim.study": CONFIGURED | {"sim.virtual", "sim.results"},
    "sim.experiments": CONFIGURED | {"sim.virtual", "sim.results", "sim.study"},
    "sim.explorer": CONFIGURED | {"sim.virtual", "sim.results", "sim.study"},
    "sim.commands": {"sim"},
    "sim.cli": {"sim.errors", "sim.commands"},
    "sim.__main__": {"sim.cli"},
    "sim": CONFIGURED | {"sim.virtual", "sim.results"},
    "loadtests": CONFIGURED | RECORDED | {"sim.refetch", "sim.target", "sim.pusher", "loadtests"},
}

# Packages of others that only some may import.
RESTRICTED = {
    "locust": ("loadtests",),
    "gevent": ("loadtests",),
    "geventhttpclient": ("loadtests",),
    "asyncio": ("sim.live", "sim.commands", "sim.brokeforge"),
    "socket": ("sim.live", "loadtests", "sim.commands"),
    "sqlalchemy": ("sim.brokeforge", "sim.live"),
    "matplotlib": ("sim.results.plots", "sim.results.style"),
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


def test_a_kernel_that_imports_what_notebooks_import_has_no_locust_and_no_patched_socket() -> None:
    names = "sim, sim.virtual.theory, sim.virtual.fleet, sim.results.summary, sim.results.plots, sim.results.report"
    probe = f"import {names}, sys; print(*[m for m in sys.modules if m.split('.')[0] in ('locust', 'gevent')])"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
