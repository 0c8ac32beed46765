"""Faults put into the modules that decide, one at a time, and whether their tests notice.

    python -m tests.mutation sim/refetch.py sim/pusher
    python -m tests.mutation --sample 40 --seconds 60 -o tests/data/mutation.json

Works in a copy of the tree. The tests that mirror the modules of a package, or belong to them, are collected once, in one
process, and run once without a mutant, to see what statements each test passes and what it takes. A mutant is then put into
the functions that are there, in a child of that process, and meets the tests that pass its statement, the quickest first, until
one fails or --enough have passed. What changes more than the inside of functions is written into the copy and imported anew.

A mutant whose tests pass has survived; one whose tests take five times the CPU that they take without it, and five seconds, is
found and counted as late. Every module is also judged with nothing changed, which no test may notice. With -o what was
found before is kept, and only what is missing or has survived is run. The table in docs/robustness.md names the mutants that were
judged equivalent (no test can tell them from the original); these count for nothing. Exit code 1 when less than `--least` of the
rest was found.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import contextlib
import copy
import ctypes
import functools
import gc
import inspect
import itertools
import json
import math
import os
import pickle
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

MODULES = (
    "sim/clock.py",
    "sim/distributions.py",
    "sim/machines.py",
    "sim/refetch.py",
    "sim/policy.py",
    "sim/pusher",
    "sim/scenario/reading.py",
    "sim/target",
    "sim/prediction/estimates.py",
    "sim/prediction/fit.py",
    "sim/prediction/samples.py",
    "sim/live/doctor",
    "sim/live/drive",
    "sim/brokeforge/limiter.py",
    "sim/brokeforge/jobs.py",
    "sim/brokeforge/broadcasting",
    "sim/brokeforge/domain",
    "sim/brokeforge/handlers/changes.py",
    "sim/brokeforge/handlers/inertia.py",
    "sim/brokeforge/handlers/pages.py",
    "sim/brokeforge/handlers/validation.py",
    "sim/virtual/reference",
    "sim/results/ledger",
    "sim/results/statistics.py",
    "sim/results/summary.py",
    "sim/results/thresholds.py",
    "loadtests/client",
    "loadtests/recording",
)
"""What decides, and so is run without any argument."""

ALSO = {
    "sim/brokeforge": ("tests/brokeforge",),
    "sim/virtual/reference": (
        "tests/virtual/test_reference_*.py",
        "tests/virtual/test_trouble.py",
        "tests/virtual/test_identity.py",
    ),
    "sim/results/ledger": ("tests/results/test_bad_minutes.py", "tests/results/test_oracle.py", "tests/results/test_summary.py"),
    "sim/results/summary.py": ("tests/results/ledger",),
    "sim/machines.py": ("tests/test_policy.py", "tests/test_refetch.py"),
    "sim/policy.py": ("tests/test_refetch.py",),
    "sim/clock.py": ("tests/test_refetch.py",),
    "sim/pusher": ("tests/pusher",),
    "loadtests/recording": ("tests/loadtests/inside/check_*.py",),
    "loadtests/client/plant.py": ("tests/loadtests/inside/check_plant.py", "tests/loadtests/inside/check_users.py"),
}
"""Tests of a module besides those in the directory of its mirror."""

PICTURES = ("test_board.py", "test_coverage.py", "test_plots.py", "test_plots_basic.py")
"""Tests that need long and are there for other things."""

HEAVY = ("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sqlalchemy.orm", "hypothesis", "pytest", "psutil", "orjson")
"""Imported once, before the children are forked; nothing of ours, which differs from mutant to mutant."""

EXAMPLES = 20
"""Of a property, at most: the more mutants meet it."""

MEMORY = 3 * 2**30
"""Bytes that a mutant may have besides what is there before it."""

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
    at: int = 0
    """Line of the statement of a function that it is in; 0: in none, or in a lambda, which is called from elsewhere."""


def mutants(source: str, names_only: bool = False) -> Iterator[Mutant]:
    """All mutants of a module; equal changes of one function are numbered. *names_only*: without their sources, and quicker."""
    tree = ast.parse(source)
    seen: Counter[str] = Counter()
    for holder, field, at, where, line in _places(tree, "", 0):
        node = _get(holder, field, at)
        for other in _replacements(node):
            name = f"{where or 'module'}: {_short(node)} -> {_short(other)}"
            _set(holder, field, at, other)
            changed = "" if names_only else ast.unparse(tree)
            _set(holder, field, at, node)
            seen[name] += 1
            yield Mutant(node.lineno, f"{name} ({seen[name]})" if seen[name] > 1 else name, changed, line)


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


def _places(node: ast.AST, where: str, line: int) -> Iterator[tuple[ast.AST, str, int | None, str, int]]:
    """(holder, field, index, qualified name, `Mutant.at`) of every node that may be changed. What is for readers and type
    checkers only (texts of errors, annotations, asserts, slots, protocols) is left alone."""
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
            inside = 0 if isinstance(node, ast.Lambda) else child.lineno if isinstance(child, ast.stmt) else line
            yield node, field, at, where, inside
            yield from _places(child, where, inside)


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


def tests_of(module: str, root: Path) -> list[str]:
    """Test files of a module, paths below the root: its mirror (or what stands for it) first."""
    path = Path(module)
    parts = path.parts[1:] if path.parts[0] == "sim" else path.parts
    mirror = Path("tests", *parts[:-1], f"test_{path.name}")
    files = [root / mirror]
    for prefix, patterns in ALSO.items():
        if module.startswith(prefix):
            for pattern in patterns:
                found = root / pattern
                files += sorted(found.rglob("test_*.py")) if found.is_dir() else sorted(root.glob(pattern))
    if inside := [file for file in files if file.parent.name == "inside"]:
        files = inside  # Locust patches the process that they run in: threads of other tests would be greenlets there.
    elif mirror.parent != Path("tests"):
        files += sorted((root / mirror.parent).glob("test_*.py"))
    return list(dict.fromkeys(file.relative_to(root).as_posix() for file in files if file.exists() and file.name not in PICTURES))


class Bench:
    """A copy of the tree. In a child, pytest collects the tests of some modules once; each mutant is a child of that child."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # a mutant's tests leave hundreds of files
        self.place = Path(tempfile.mkdtemp(prefix="mutation-", dir=memory if os.access(memory, os.W_OK) else None))
        ignored = shutil.ignore_patterns(
            ".git", ".venv", "notebooks", "site", "build", ".mypy_cache", ".ruff_cache", "node_modules"
        )
        shutil.copytree(ROOT, self.place / "tree", ignore=ignored)
        self.tree = self.place / "tree"
        (self.tree / "notebooks").symlink_to(ROOT / "notebooks")
        (self.place / "tmp").mkdir()
        for name in HEAVY:
            __import__(name)

    def close(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)

    def source(self, module: str) -> str:
        return (self.tree / module).read_text(encoding="utf-8")

    def answers(self, tests: Sequence[str], plugin: Judge) -> Iterator[dict[str, Any]]:
        """What *plugin* says in a pytest of *tests* in a child, as it comes. Raises `SystemExit` when pytest ends by itself."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _alone()
            plugin.say = os.fdopen(writing, "w")
            self._become_pytest(tests, plugin)
        os.close(writing)
        with os.fdopen(reading) as lines:
            yield from map(json.loads, lines)
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"mutation: without any mutant: {' '.join(tests)}\n{(self.place / 'log').read_text()[-3000:]}")

    def verdict(self, tests: Sequence[str], plugin: Judge, cpu: float) -> str:
        """passed, failed or late: what a pytest of *tests* in a child comes to."""
        child = os.fork()
        if child == 0:
            _alone(cpu)
            self._become_pytest(tests, plugin)
        return _end(child, 60 + 10 * cpu)

    def _become_pytest(self, tests: Sequence[str], plugin: Judge) -> None:
        os.chdir(self.tree)
        out = os.open(self.place / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.path[:] = [str(self.tree), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
        os.environ |= {"PYTHONPATH": str(self.tree), "TMPDIR": str(self.place / "tmp")}
        tempfile.tempdir = str(self.place / "tmp")
        for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "sim", "loadtests")]:
            del sys.modules[name]
        import pytest

        marks = "not (slow or torture or interop or browser or service)"
        options = ["-x", "-q", "-p", "no:cacheprovider", "-n0", "--no-header", "-m", marks]
        if any("/inside/" in test for test in tests):
            options += ["-p", "tests.loadtests.inside.fixtures"]
        code = 70
        try:
            code = int(pytest.main([*options, *tests], plugins=[plugin]))
        finally:
            os._exit(code)

    @contextlib.contextmanager
    def mutated(self, module: str, source: str) -> Iterator[None]:
        """*module* is *source* within."""
        usual = self.source(module)
        for stale in (self.tree / module).parent.glob(f"__pycache__/{Path(module).stem}.*"):
            stale.unlink()
        (self.tree / module).write_text(source, encoding="utf-8")
        sys.dont_write_bytecode = True
        yield
        sys.dont_write_bytecode = False
        (self.tree / module).write_text(usual, encoding="utf-8")


Seconds = dict[str, tuple[float, float]]
"""Name of a test -> seconds, and seconds of CPU, that it takes."""


class Judge:
    """A pytest plugin. In the place of pytest's loop it runs every test once and notes what statements of *modules* each one
    passes and what it takes. Then each mutant (of *wanted*, module -> mutants) that is a change of functions alone is put into
    them in a child, and meets the tests that pass its statement, the quickest first, until one fails. For the others it says what
    tests pass the module.

    *only*: names of the tests to run, in this order, in place of all that; for a tree with a mutant in it.
    """

    say: Any

    def __init__(
        self,
        wanted: dict[str, list[Mutant]],
        log: Path,
        until: float,
        enough: float,
        only: Sequence[str] | None = None,
    ) -> None:
        self.wanted, self.log, self.until, self.enough, self.only = wanted, log, until, enough, only

    def _shorten(self, function: Any) -> None:
        """A failure is enough: what is the smallest one, and why, is of no interest here. The same draws for each mutant."""
        import hypothesis

        if usual := getattr(function, "_hypothesis_internal_use_settings", None):
            phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
            function._hypothesis_internal_use_settings = hypothesis.settings(
                usual, max_examples=min(usual.max_examples, EXAMPLES), phases=phases, database=None, derandomize=True
            )

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            with self.log.open("a") as log:
                log.write(f"{report.nodeid}\n{report.longreprtext}\n")

    def pytest_runtestloop(self, session: Any) -> bool | None:
        if session.testsfailed:
            return None  # not even collected: pytest says so
        for function in {id(one): one for item in session.items if (one := getattr(item, "function", None))}.values():
            self._shorten(function)
        if self.only is not None:
            named = {item.nodeid: item for item in session.items}
            os._exit(0 if self._run(session, [named[name] for name in self.only if name in named]) else 1)
        passed, seconds, broken = self._in_child(session, self._rehearse)
        if broken:
            os._exit(1)
        items = sorted(session.items, key=lambda item: seconds[item.nodeid][0])
        for module, mutants in self.wanted.items():
            source = Path(module).read_text(encoding="utf-8")
            functions = Functions(module, source)
            everywhere = set[str]().union(*passed[module].values())
            all_of_it = [item for item in items if item.nodeid in everywhere]
            same = functions.codes_of(ast.unparse(ast.parse(source)))
            if (end := self._meet(session, all_of_it, same, seconds)) != "passed":
                with self.log.open("a") as log:
                    log.write(f"{module}, unchanged: {end}\n")
                os._exit(1)
            for mutant in mutants:
                if time.monotonic() >= self.until:
                    os._exit(0)
                at = passed[module].get(mutant.at, ()) if mutant.at else everywhere
                chosen = self._few([item for item in items if item.nodeid in at], seconds)
                new = functions.changed(mutant.source)
                if new is None or not chosen:
                    # Also what no test passes: it may be passed where the module is imported.
                    others = [item for item in items if item.nodeid not in everywhere]
                    names = [item.nodeid for item in self._few([*all_of_it, *others], seconds)]
                    self._tell(module=module, name=mutant.name, tests=names, cpu=sum(seconds[name][1] for name in names))
                    continue
                began = time.monotonic()
                end = self._meet(session, chosen, new, seconds)
                self._tell(module=module, name=mutant.name, end=end, seconds=time.monotonic() - began)
        os._exit(0)

    def _few(self, items: Sequence[Any], seconds: Seconds) -> list[Any]:
        """The quickest of *items*, as far as `enough` goes."""
        sums = itertools.accumulate(seconds[item.nodeid][1] for item in items)
        return [item for number, (item, cpu) in enumerate(zip(items, sums, strict=True)) if cpu <= self.enough or not number]

    def _tell(self, **what: Any) -> None:
        print(json.dumps(what), file=self.say, flush=True)

    def _run(self, session: Any, items: Sequence[Any], after: Any = None) -> bool:
        """Whether all of *items* passed; stops at the first that fails. *after*: what will be run then."""
        for item, following in zip(items, [*items[1:], after], strict=True):
            # What is there for all tests is not taken down after the last: the process ends.
            other = following or next((other for other in session.items if other is not item), None)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=other)
            if session.testsfailed:
                return False
        return True

    def _in_child(self, session: Any, work: Callable[[Any], Any]) -> Any:
        """What *work* returns in a child."""
        kept = self.log.with_suffix(".pickle")
        if (child := os.fork()) == 0:
            _alone()
            try:
                kept.write_bytes(pickle.dumps(work(session)))
            except BaseException:
                with self.log.open("a") as log:
                    traceback.print_exc(file=log)
            finally:
                os._exit(0)
        kept.unlink(missing_ok=True)
        os.waitpid(child, 0)
        return pickle.loads(kept.read_bytes())

    def _rehearse(self, session: Any) -> tuple[dict[str, dict[int, set[str]]], Seconds, bool]:
        """(module -> line of a statement -> names of the tests that pass it; name -> seconds and seconds of CPU; whether one
        fails)."""
        passed: dict[str, dict[int, set[str]]] = {module: defaultdict(set) for module in self.wanted}
        seconds: Seconds = {}
        now: set[tuple[str, int]] = set()
        vars(builtins)["__passing__"] = lambda module, line: now.add((module, line))
        for module in self.wanted:
            source = Path(module).read_text(encoding="utf-8")
            functions = Functions(module, source)
            functions.become(functions.codes_of(_noted(module, source)))
        caches = [thing for thing in gc.get_objects() if isinstance(thing, functools._lru_cache_wrapper)]
        caches = [cache for cache in caches if (cache.__module__ or "").split(".")[0] in ("sim", "loadtests")]
        sharing: dict[str, set[str]] = defaultdict(set)
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            now.clear()
            for cache in caches:
                cache.cache_clear()
            began, cpu = time.monotonic(), time.process_time()
            if not self._run(session, [item], following):
                return passed, seconds, True
            seconds[item.nodeid] = time.monotonic() - began, time.process_time() - cpu
            for module, line in now:
                passed[module][line].add(item.nodeid)
            fixtures = item._fixtureinfo.name2fixturedefs.values()
            if any(one[-1].scope != "function" and one[-1].baseid.count("/") and not one[-1]._autouse for one in fixtures):
                sharing[item.nodeid.split("::")[0]].add(item.nodeid)
        # What one test has made for all of its file was passed by all that use it.
        for lines in passed.values():
            for names in lines.values():
                names |= set().union(*(sharing[file] for file in {name.split("::")[0] for name in names}))
        return passed, seconds, False

    def _meet(self, session: Any, items: Sequence[Any], new: Functions.Codes, seconds: Seconds) -> str:
        """passed, failed, or late: after too much CPU (which a busy machine cannot prolong), or very long."""
        if not items:
            return "passed"
        child = os.fork()
        if child == 0:
            _alone(5 + 5 * sum(seconds[item.nodeid][1] for item in items))
            code = 1
            try:
                Functions.become(new)
                code = 0 if self._run(session, items) else 1
            finally:
                os._exit(code)
        return _end(child, 60 + 10 * sum(seconds[item.nodeid][0] for item in items))


def _end(child: int, wall: float) -> str:
    """How *child* ended; it and what it has left behind is gone then: a mutant's children need not end."""
    began = time.monotonic()
    status: int | None = None
    while status is None and time.monotonic() - began < wall:
        done, code = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
        time.sleep(0.002 if status is None else 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return "late" if status in (None, -signal.SIGXCPU, -signal.SIGKILL) else "failed" if status else "passed"


class Functions:
    """The functions of one module that are there now (in this process), and how they become those of another source."""

    Codes = list[tuple[types.FunctionType, types.CodeType]]

    def __init__(self, module: str, source: str) -> None:
        self.module = module
        path = str(Path(module).absolute())
        known = {code: key for key, code in _codes(compile(source, path, "exec", dont_inherit=True)).items()}
        self._usual = self.codes_by_key(ast.unparse(ast.parse(source)))
        self._there: dict[Any, list[types.FunctionType]] = defaultdict(list)
        for thing in gc.get_objects():
            if isinstance(thing, types.FunctionType) and thing.__code__.co_filename == path and thing.__code__ in known:
                self._there[known[thing.__code__]].append(thing)

    def codes_by_key(self, source: str) -> dict[Any, types.CodeType]:
        return _codes(compile(source, self.module, "exec", dont_inherit=True))

    def codes_of(self, source: str) -> Codes:
        new = self.codes_by_key(source)
        return [(function, new[key]) for key, functions in self._there.items() if key in new for function in functions]

    def changed(self, source: str) -> Codes | None:
        """The functions that *source* changes, with their new code. None: it changes more than the inside of functions that are
        there, so that the module has to be imported anew."""
        new = self.codes_by_key(source)
        found: Functions.Codes = []
        for key, old in self._usual.items():
            parent = self._usual.get(key[:-1])
            outermost = parent is None or not parent.co_flags & inspect.CO_OPTIMIZED
            if not old.co_flags & inspect.CO_OPTIMIZED:
                if key not in new or _own(old) != _own(new[key]):
                    return None
            elif key not in new or _own(old, deep=True) != _own(new[key], deep=True):
                there = self._there.get(key, [])
                if outermost and (not there or key not in new):
                    return None
                if any(function.__code__.co_freevars != new[key].co_freevars for function in there if key in new):
                    return None
                found += [(function, new[key]) for function in there if key in new]
        return found

    @staticmethod
    def become(codes: Codes) -> None:
        for function, code in codes:
            function.__code__ = code


def _codes(code: types.CodeType, key: tuple[Any, ...] = ((("module", 0)),)) -> dict[Any, types.CodeType]:
    """All code objects by their path: names, numbered where several in one place are called alike."""
    found = {key: code}
    count: Counter[str] = Counter()
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            count[inner.co_name] += 1
            found |= _codes(inner, (*key, (inner.co_name, count[inner.co_name])))
    return found


def _own(code: types.CodeType, deep: bool = False) -> tuple[Any, ...]:
    """What a code object does, apart from where it stands; *deep*: with what it holds."""
    consts = [
        (_own(value, True) if deep else None) if isinstance(value, types.CodeType) else (type(value), repr(value))
        for value in code.co_consts
    ]
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return code.co_code, consts, names, code.co_flags, code.co_argcount, code.co_kwonlyargcount, code.co_exceptiontable


def _noted(module: str, source: str) -> str:
    """*source*, whose functions call `__passing__(module, line)` before each of their statements."""

    def within(node: ast.AST, inside: bool) -> None:
        for field, value in ast.iter_fields(node):
            if not isinstance(value, list):
                continue
            for child in value:
                if isinstance(child, ast.AST):
                    within(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))
            if inside and value and isinstance(value[0], ast.stmt):
                noted = [
                    part for child in value for part in (ast.parse(f"__passing__({module!r}, {child.lineno})").body[0], child)
                ]
                setattr(node, field, noted[1:] if _is_text(value[0]) else noted)

    tree = ast.parse(source)
    within(tree, False)
    return ast.unparse(ast.fix_missing_locations(tree))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _alone(cpu: float | None = None) -> None:
    """A new child: a group of its own, which ends with its parent, and after *cpu* seconds."""
    os.setsid()
    die_with_parent()
    if cpu is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu), math.ceil(cpu) + 2))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
        if used:
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


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


def examine(
    modules: Sequence[str], sample: int, seed: int, results: dict[str, Any], bench: Bench, until: float, enough: float
) -> None:
    """Run the mutants of *modules* that are drawn and not known to be found, until *until* (monotonic); adds what becomes."""
    wanted: dict[str, list[Mutant]] = {}
    same = equivalents()
    for module in modules:
        known = results.setdefault(module, {})
        everything = list(mutants(bench.source(module)))
        chosen = random.Random(f"{seed} {module}").sample(everything, min(sample, len(everything)))
        names = {mutant.name for mutant in everything}
        known["mutants"] = len(everything)
        rows = known["rows"] = {name: row for name, row in known.get("rows", {}).items() if name in names}
        known["missing"] = sum(mutant.name not in rows for mutant in chosen)
        again = {name for name, row in rows.items() if not row["found"] and (module, name) not in same}
        drawn = {mutant.name for mutant in chosen if mutant.name not in rows and (module, mutant.name) not in same}
        wanted[module] = [mutant for mutant in everything if mutant.name in drawn | again]
        for mutant in chosen:
            if (module, mutant.name) in same and mutant.name not in rows:
                rows[mutant.name] = {"line": mutant.line, "found": False, "end": "judged", "seconds": 0.0}
                known["missing"] -= 1
    wanted = {module: found for module, found in wanted.items() if found}
    if not wanted:
        return
    by_name = {(module, mutant.name): mutant for module, found in wanted.items() for mutant in found}

    def note(module: str, name: str, end: str, seconds: float) -> None:
        rows, mutant = results[module]["rows"], by_name[module, name]
        results[module]["missing"] -= name not in rows
        rows[name] = {"line": mutant.line, "found": end != "passed", "end": end, "seconds": round(seconds, 2)}
        print(f"{'found   ' if end != 'passed' else 'SURVIVED'} {module}:{mutant.line} {name} ({seconds:.1f} s)", flush=True)

    tests = list(dict.fromkeys(test for module in wanted for test in tests_of(module, bench.tree)))
    outside = []
    for said in bench.answers(tests, Judge(wanted, bench.place / "log", until, enough)):
        if "end" in said:
            note(said["module"], said["name"], said["end"], said["seconds"])
        else:
            outside.append(said)
    for said in outside:
        if time.monotonic() >= until:
            return
        began = time.monotonic()
        module, names = said["module"], said["tests"]
        files = list(dict.fromkeys(name.split("::")[0] for name in names))
        with bench.mutated(module, by_name[module, said["name"]].source):
            end = (
                bench.verdict(files, Judge({}, bench.place / "log", until, enough, names), 30 + 5 * said["cpu"])
                if names
                else "passed"
            )
        note(module, said["name"], end, time.monotonic() - began)


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
    parser.add_argument(
        "--enough",
        type=float,
        default=6.0,
        metavar="SECONDS",
        help="CPU of the tests that a mutant meets; one that survives these counts as survived, also where a longer test would "
        "find it (default: 6)",
    )
    parser.add_argument("--least", type=float, default=0.95, help="share that must be found (default: 0.95)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="results as JSON; what it holds is not run again")
    args = parser.parse_args(argv)
    results: dict[str, Any] = json.loads(args.output.read_text()) if args.output and args.output.exists() else {}
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the copy goes
    bench = Bench()
    until = time.monotonic() + args.seconds
    try:
        together: dict[tuple[Path, bool], list[str]] = defaultdict(list)
        for file in files_of(args.modules):
            together[Path(file).parent, any("/inside/" in test for test in tests_of(file, ROOT))].append(file)
        for files in together.values():
            examine(files, args.sample, args.seed, results, bench, until, args.enough)
    finally:
        if args.output:
            args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        bench.close()
        signal.signal(signal.SIGTERM, before)
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
