"""Faults put into the modules that decide, one at a time, and whether their tests notice.

    python -m tests.mutation sim/refetch.py sim/pusher
    python -m tests.mutation --sample 40 --seconds 60 -o mutation.json

Works in a copy of the tree. A mutant meets the tests that mirror its module, then, where these pass, the others that belong to
it or import it, until the first failure; a mutant whose tests pass has survived, one whose tests do not end (three times what
they take without it, and half a minute) is found and counted as late. Both sets of tests are run without a mutant before they
judge one. With -o what was found before is kept and only what is missing is run. The table in docs/robustness.md names the
mutants that were judged equivalent (no test can tell them from the original); these count for nothing. Exit code 1 when less
than `--least` of the rest was found.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import ctypes
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

MODULES = (
    "sim/clock.py",
    "sim/machines.py",
    "sim/refetch.py",
    "sim/policy.py",
    "sim/pusher",
    "sim/brokeforge/domain",
    "sim/virtual/reference",
    "sim/results/ledger",
    "sim/results/statistics.py",
    "loadtests/client/page.py",
    "loadtests/client/streams.py",
    "loadtests/client/echo.py",
)
"""What decides, and so is run without any argument."""

ALSO = {
    "sim/brokeforge/domain": (
        "tests/brokeforge/test_databases.py",
        "tests/brokeforge/test_invariants.py",
        "tests/brokeforge/handlers/test_pages.py",
        "tests/brokeforge/broadcasting/test_dispatcher.py",
        "tests/brokeforge/domain",
    ),
    "sim/virtual/reference": (
        "tests/virtual/test_reference_*.py",
        "tests/virtual/test_trouble.py",
        "tests/virtual/test_identity.py",
    ),
    "sim/results/ledger": ("tests/results/test_bad_minutes.py", "tests/results/test_oracle.py", "tests/results/test_summary.py"),
    "sim/machines.py": ("tests/test_policy.py",),
    "sim/pusher": ("tests/pusher",),
}
"""Tests of a module besides its mirror and its importers."""

ELSEWHERE = tuple(
    f"tests/{name}" for name in ("torture", "interop", "live", "commands", "experiments", "notebooks", "virtual/fleet")
)
"""Tests that are there for whole programs, or for other rooms."""

HEAVY = ("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sqlalchemy.orm", "hypothesis", "pytest", "psutil", "orjson")
"""Imported once, before the children are forked; nothing of ours, which differs from mutant to mutant."""

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module."""

    line: int
    name: str
    """Where and what, without the line, so that it stays the same while the module grows."""
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a module; equal changes of one function are numbered."""
    tree = ast.parse(source)
    seen: Counter[str] = Counter()
    for holder, field, at, where in _places(tree, ""):
        node = _get(holder, field, at)
        for other in _replacements(node):
            name = f"{where or 'module'}: {_short(node)} -> {_short(other)}"
            _set(holder, field, at, other)
            changed = ast.unparse(tree)
            _set(holder, field, at, node)
            seen[name] += 1
            yield Mutant(node.lineno, f"{name} ({seen[name]})" if seen[name] > 1 else name, changed)


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else text[:97] + "..."


def _get(holder: ast.AST, field: str, at: int | None) -> Any:
    value = getattr(holder, field)
    return value if at is None else value[at]


def _set(holder: ast.AST, field: str, at: int | None, node: ast.AST) -> None:
    if at is None:
        setattr(holder, field, node)
    else:
        getattr(holder, field)[at] = node


SKIPPED = {"annotation", "returns", "decorator_list", "type_params"}


def _places(node: ast.AST, where: str) -> Iterator[tuple[ast.AST, str, int | None, str]]:
    """(holder, field, index, qualified name) of every node that may be changed. What is for readers and type checkers only (texts
    of errors, annotations, asserts, slots, protocols) is left alone."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        where = f"{where}.{node.name}" if where else node.name
    if isinstance(node, ast.ClassDef) and any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases):
        return
    for field, value in ast.iter_fields(node):
        if field in SKIPPED:
            continue
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for at, child in items:
            if not isinstance(child, ast.expr | ast.stmt) or isinstance(child, ast.Assert | ast.Raise | ast.JoinedStr):
                continue
            if isinstance(child, ast.Assign) and ast.unparse(child.targets[0]) in ("__slots__", "__all__"):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield node, field, at, where
            yield from _places(child, where)


def _replacements(node: Any) -> Iterator[ast.AST]:
    """What a slip of the hand makes of it."""
    match node:
        case ast.Compare(ops=[op]) | ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPS:
            other = copy.copy(node)
            new: Any = SWAPS[type(op)]()
            if isinstance(node, ast.Compare):
                other.ops = [new]
            else:
                other.op = new
            yield other
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as number):
            yield ast.Constant(number + 1)
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if not _is_swapped(test):
            other = copy.copy(node)
            other.test = ast.UnaryOp(ast.Not(), test)
            yield other
        case ast.Call(func=ast.Name(id="min" | "max" as name)):
            other = copy.copy(node)
            other.func = ast.Name("max" if name == "min" else "min")
            yield other
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
    match node:
        case (
            ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
        ):
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def _is_swapped(test: ast.expr) -> bool:
    """Whether another mutant turns the condition round already."""
    return isinstance(test, ast.UnaryOp) or (
        isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.IsNot | ast.In | ast.NotIn)
    )


def tests_of(module: str) -> tuple[list[str], list[str]]:
    """Test files of a module, paths below the root: its mirror (or what stands for it), and the others."""
    path = Path(module)
    parts = path.parts[1:] if path.parts[0] == "sim" else path.parts
    mirror = Path("tests", *parts[:-1], f"test_{path.name}")
    dotted = ".".join(path.with_suffix("").parts)
    package, _, name = dotted.rpartition(".")
    imports = re.compile(
        rf"^\s*(from {re.escape(dotted)} |import {re.escape(dotted)}\b|from {re.escape(package)} import .*\b{name}\b)", re.M
    )
    files = [ROOT / mirror]
    for prefix, patterns in ALSO.items():
        if module.startswith(prefix):
            for pattern in patterns:
                found = ROOT / pattern
                files += sorted(found.rglob("test_*.py")) if found.is_dir() else sorted(ROOT.glob(pattern))
    if mirror.parent != Path("tests"):
        files += sorted((ROOT / mirror.parent).glob("test_*.py"))
    files += [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if imports.search(file.read_text(encoding="utf-8"))]
    names = list(dict.fromkeys(file.relative_to(ROOT).as_posix() for file in files if file.exists()))
    return names[:1], [name for name in names[1:] if not name.startswith(ELSEWHERE)]


class Bench:
    """A copy of the tree in which one module at a time is another."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="mutation-"))
        self._usual: dict[str, float] = {}
        ignored = shutil.ignore_patterns(
            ".git", ".venv", "notebooks", "site", "build", ".mypy_cache", ".ruff_cache", "node_modules"
        )
        shutil.copytree(ROOT, self.place / "tree", ignore=ignored)
        self.tree = self.place / "tree"
        (self.tree / "notebooks").symlink_to(ROOT / "notebooks")
        for name in HEAVY:
            __import__(name)

    def close(self) -> None:
        shutil.rmtree(self.place)

    def run(self, tests: Sequence[str], limit: float, bytecode: bool = False) -> tuple[str, float]:
        """(passed, failed, or late; seconds) of one pytest in a child. *bytecode*: keep what is compiled for it."""
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os.setsid()
            die_with_parent()
            self._become_pytest(tests, bytecode)
        status: int | None = None
        while status is None and time.monotonic() - began < limit:
            done, code = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if done else None
            time.sleep(0.02)
        # Also what it has left behind: a mutant's children need not end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
            return "late", time.monotonic() - began
        return "passed" if status == 0 else "failed", time.monotonic() - began

    def _become_pytest(self, tests: Sequence[str], bytecode: bool) -> None:
        os.chdir(self.tree)
        out = os.open(self.place / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.path[:] = [str(self.tree), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
        sys.dont_write_bytecode = not bytecode
        os.environ |= {"PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "" if bytecode else "1"}
        for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "sim", "loadtests")]:
            del sys.modules[name]
        import pytest

        marks = "not (slow or torture or interop or browser or service)"
        code = 70
        try:
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", "-m", marks, *tests]))
        finally:
            os._exit(code)

    def usual(self, tests: Sequence[str]) -> float:
        """Seconds of *tests* as they are, run once. Raises `SystemExit` when they fail."""
        key = " ".join(tests)
        if key not in self._usual:
            verdict, seconds = self.run(tests, 1200, bytecode=True)
            if verdict != "passed":
                raise SystemExit(f"mutation: {verdict} without any mutant: {key}\n{(self.place / 'log').read_text()[-3000:]}")
            self._usual[key] = seconds
        return self._usual[key]

    @contextlib.contextmanager
    def mutated(self, module: str, source: str) -> Iterator[None]:
        """*module* is *source* within."""
        for stale in (self.tree / module).parent.glob(f"__pycache__/{Path(module).stem}.*"):
            stale.unlink()
        (self.tree / module).write_text(source, encoding="utf-8")
        yield
        shutil.copy2(ROOT / module, self.tree / module)


def die_with_parent() -> None:
    """Linux: whatever ends the runner ends the tests that it has under way."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def equivalents() -> set[tuple[str, str]]:
    """(module, name) of the table's rows in docs/robustness.md."""
    text = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    return {(module, name) for module, name in re.findall(r"^\| `((?:sim|loadtests)/\S+\.py)` \| `` (.+?) `` \|", text, re.M)}


def files_of(modules: Sequence[str]) -> list[str]:
    """Paths below the root; a package is all its modules."""
    files = []
    for module in modules:
        path = ROOT / module
        found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        files += [file.relative_to(ROOT).as_posix() for file in found if file.name != "__init__.py"]
    return files


def examine(module: str, sample: int, seed: int, known: dict[str, Any], bench: Bench, until: float) -> None:
    """Run the mutants of one module that are not *known* yet, until *until* (monotonic); adds what became of each."""
    everything = list(mutants((ROOT / module).read_text(encoding="utf-8")))
    chosen = random.Random(f"{seed} {module}").sample(everything, min(sample, len(everything)))
    known["mutants"] = len(everything)
    rows: dict[str, Any] = known.setdefault("rows", {})
    for mutant in chosen:
        if mutant.name in rows or time.monotonic() >= until:
            continue
        verdict, took = "passed", 0.0
        for tests in filter(None, tests_of(module)):
            limit = 30 + 3 * bench.usual(tests)
            with bench.mutated(module, mutant.source):
                verdict, seconds = bench.run(tests, limit)
            took += seconds
            if verdict != "passed":
                break
        rows[mutant.name] = {"line": mutant.line, "found": verdict != "passed", "end": verdict, "seconds": round(took, 2)}
        print(f"{'found   ' if verdict != 'passed' else 'SURVIVED'} {module}:{mutant.line} {mutant.name}", flush=True)
    known["missing"] = sum(mutant.name not in rows for mutant in chosen)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE", help="files or packages below the root")
    parser.add_argument(
        "--sample", type=int, default=40, metavar="N", help="mutants of each module, drawn by --seed (default: 40)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further mutant after this time")
    parser.add_argument("--least", type=float, default=0.95, help="share that must be found (default: 0.95)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="results as JSON; what it holds is not run again")
    args = parser.parse_args(argv)
    results: dict[str, Any] = json.loads(args.output.read_text()) if args.output and args.output.exists() else {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the copy goes
    bench = Bench()
    until = time.monotonic() + args.seconds
    try:
        for module in files_of(args.modules):
            examine(module, args.sample, args.seed, results.setdefault(module, {}), bench, until)
    finally:
        bench.close()
        if args.output:
            args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(results)))
    judged = [row["found"] for rows in _judged(results).values() for row in rows]
    return 0 if judged and sum(judged) >= args.least * len(judged) else 1


def _judged(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Module -> the rows that count."""
    same = equivalents()
    return {
        module: [row | {"name": name} for name, row in known.get("rows", {}).items() if (module, name) not in same]
        for module, known in results.items()
    }


def table(results: dict[str, Any]) -> list[str]:
    """A line for each module, in Markdown, and the survivors."""
    lines = ["| Module | Mutants | Tried | Equivalent | Found | of these late |", "| --- | --- | --- | --- | --- | --- |"]
    survivors = []
    for module, rows in _judged(results).items():
        tried, late = len(results[module].get("rows", {})), sum(row["end"] == "late" for row in rows)
        found = sum(row["found"] for row in rows)
        lines.append(f"| `{module}` | {results[module]['mutants']} | {tried} | {tried - len(rows)} | {found} | {late} |")
        survivors += [f"- survived: `{module}` `` {row['name']} ``" for row in rows if not row["found"]]
    return [*lines, *([""] if survivors else []), *survivors]


if __name__ == "__main__":
    sys.exit(main())
