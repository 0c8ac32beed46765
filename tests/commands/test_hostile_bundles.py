"""Bundles that were damaged or made up: each command that reads them ends in a documented code and at most one line."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim.cli import main
from sim.errors import WorkbenchError
from sim.experiments import advice
from sim.prediction import fit
from sim.results.answers import execution

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "runs" / "steady-window-200ms"
"""Measured, of version 1 (see `sim.results.upgrade`)."""
MUTANTS, PARTS = 200, 7
TREES = ("manifest.json", "summary.json")
VALUES = [
    None,
    "",
    "x",
    "<img src=x onerror=alert(1)>",
    "\0",
    -1,
    0,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    True,
    [],
    [[]],
    {},
]
VALUES += [{"x": {}}, [None], {"": None}, "9" * 400, "x" * 300, "../../x"]
KINDS = [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.decimal128(38, 9), pa.large_string(), pa.binary(), pa.bool_()]
KINDS += [pa.null(), pa.timestamp("ns", "UTC"), pa.duration("s"), pa.list_(pa.float64()), pa.struct({"x": pa.int64()})]
KINDS += [pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64()), pa.map_(pa.string(), pa.int64())]


class Executed(WorkbenchError):
    """The report got as far as its notebook, the advice as far as its simulations, which are not what is tested here."""

    exit_code = 0


def _nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every member of every table and list, as (where it is, its name)."""
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _nodes(tree[key])


def _damage_tree(path: Path, drawn: random.Random) -> str:
    tree = json.loads(path.read_text())
    # A member near the root as likely as one of the many below.
    top = drawn.choice(list(tree))
    below = list(_nodes(tree[top]))
    node, key = drawn.choice(below) if below and drawn.random() < 0.7 else (tree, top)
    value = drawn.choice(VALUES)
    if drawn.random() < 0.2:
        del node[key]
        said = f"without {top}..{key}"
    else:
        node[key] = value
        said = f"{top}..{key} = {value!r:.40}"
    path.write_text(json.dumps(tree))
    return said


def _damage_bytes(path: Path, drawn: random.Random) -> str:
    content = bytearray(path.read_bytes())
    way = drawn.choice(("cut", "flip", "noise", "empty", "mark", "deep", "directory"))
    if way == "cut":
        del content[drawn.randrange(len(content)) :]
    elif way == "flip":
        for _ in range(8):
            content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
    elif way == "noise":
        content = bytearray(drawn.randbytes(len(content)))
    elif way == "mark":
        content = bytearray(b"\xef\xbb\xbf") + content
    elif way in ("empty", "deep"):
        content = bytearray(b"[" * 100_000 if way == "deep" else b"")
    path.unlink()
    if way == "directory":
        path.mkdir()
    else:
        path.write_bytes(content)
    return way


def _damage_table(path: Path, drawn: random.Random) -> str:
    """A file that Arrow reads, with what no run writes in it."""
    rows = pq.read_table(path)
    at = drawn.randrange(rows.num_columns)
    field = rows.schema.field(at)
    way = drawn.choice(("none", "dropped", "text", "nulls", "extreme", "doubled", "shuffled", "kind", "twice", "turned"))
    if way == "none":
        rows = rows.slice(0, 0)
    elif way == "dropped":
        rows = rows.remove_column(at)
    elif way == "text":
        rows = rows.set_column(at, field.name, pa.array(["x"] * rows.num_rows))
    elif way == "nulls":
        rows = rows.set_column(at, field, pa.nulls(rows.num_rows, field.type))
    elif way == "extreme":
        if pa.types.is_dictionary(field.type):
            column = pa.array(["<b>\0"] * rows.num_rows).dictionary_encode().cast(field.type)
        else:
            worst = {"double": [float("inf"), float("-inf"), 1e308, -1.0], "int64": [-(2**63), 2**63 - 1, 0], "bool": [True]}
            values = worst.get(str(field.type), [-(2**31), 2**31 - 1, 0])
            column = pa.array([drawn.choice(values) for _ in range(rows.num_rows)], field.type)
        rows = rows.set_column(at, field, column)
    elif way == "kind":
        # As another writer might have them, and as none would.
        kind = drawn.choice(KINDS)
        try:
            column = rows[field.name].cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            column = pa.nulls(rows.num_rows, kind)
        rows, way = rows.set_column(at, field.name, column), f"{way} {kind}"
    elif way == "twice":
        rows = rows.append_column(field.name, rows[drawn.choice(rows.schema.names)])
    elif way == "turned":
        rows = rows.select(rows.schema.names[::-1]).append_column("further", pa.array([[{"x": None}]] * rows.num_rows))
    elif way == "doubled":
        rows = pa.concat_tables([rows, rows])
    else:
        rows = rows.take(pa.array(drawn.sample(range(rows.num_rows), rows.num_rows), pa.int64()))
    pq.write_table(rows, path)
    return f"{field.name} {way}"


def damage(bundle: Path, drawn: random.Random) -> str:
    """Damage one file in one way; what was done. Most get a manifest that agrees, or the checksum alone would be tested."""
    name = drawn.choice([*TREES, *TREES, *sorted(file.name for file in bundle.glob("*.parquet"))])
    path = bundle / name
    ways = [_damage_bytes, _damage_tree, _damage_tree] if name in TREES else [_damage_bytes, _damage_table, _damage_table]
    said = f"{name}: {drawn.choice(ways)(path, drawn)}"
    if name != "manifest.json" and path.is_file() and drawn.random() < 0.9:
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["files"][name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (bundle / "manifest.json").write_text(json.dumps(manifest))
    return said


def ends_well(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Empty, or what was wrong."""
    try:
        code: object = main(argv)
    except Exception as error:  # a traceback: all of them are wanted, not the first
        capsys.readouterr()
        return repr(error)[:300]
    error = capsys.readouterr().err
    well = code in (0, 2, 3, 4) and error.count("\n") <= 1 and len(error) <= 1000 and (error or not code)
    return "" if well else f"{code}: {error[:300]}"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle of version 1, and a small one of today that passes for a measured one."""
    small = tmp_path_factory.mktemp("samples") / "small"
    few = ["--set", "duration=3", "--set", "pages.0.subscribers=6"]
    assert main(["simulate", "steady", *few, "-o", str(small)]) == 0
    manifest = json.loads((small / "manifest.json").read_text())
    (small / "manifest.json").write_text(json.dumps(manifest | {"source": "measured"}))
    return SAMPLE, small


@pytest.fixture
def nothing_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(*_: Any, **__: Any) -> NoReturn:
        raise Executed("it would be executed")

    for owner, name in ((execution, "execute"), (advice, "advise")):
        monkeypatch.setattr(owner, name, execute)
    # What a hundred draws make of a damaged table, the first few do.
    draws = fit._draws
    monkeypatch.setattr(fit, "_draws", lambda samples, windows, best, _, *more: draws(samples, windows, best, 5, *more))


@pytest.mark.usefixtures("nothing_long")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("part", range(PARTS))  # one would last longer than a test may on a busy machine
def test_a_damaged_bundle_is_read_or_refused_in_a_line(
    part: int, samples: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = []
    for seed in range(part, MUTANTS, PARTS):
        drawn = random.Random(seed)
        bundle = tmp_path / str(seed)
        sample = samples[seed % 8 != 0]
        shutil.copytree(sample, bundle)
        done = damage(bundle, drawn)
        run = str(bundle)
        # The checks of one table are the same for whoever reads it: one of the slow readers each time,
        # the slowest (two runs, many intervals) less often.
        readers = (["explain", run], ["fit", run], ["advise", run], ["fit", run], ["compare", str(sample), run])
        check = ["check", run, "--threshold", "time_to_fresh=p(99.99) < 9"]
        for argv in (check, ["report", run], ["recover", run], readers[seed % len(readers)]):
            if said := ends_well(argv, capsys):
                wrong.append((seed, argv[0], done, said))
        shutil.rmtree(bundle)
    assert wrong == []


@pytest.mark.usefixtures("nothing_long")
def test_the_samples_themselves_are_read_by_all(samples: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Else the damage above would prove nothing."""
    for run in map(str, samples):
        for argv in (["check", run, "--threshold", "samples=updates > 0"], ["explain", run], ["compare", run, run], ["fit", run]):
            assert main(argv) == 0, (argv, capsys.readouterr().err)
