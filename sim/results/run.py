"""Run bundle: one directory, the same for a simulated and a measured run.

    manifest.json       what was run, where, when, and whether it can be believed; written last and in one step
    summary.json        metric -> {value, ci_low, ci_high, n}
    updates.parquet ... the tables of `TABLES`; times are float64 seconds since the run's start

The tables are those of `sim.results.schema`; a bundle of version 1 is read as one of version 2 (`sim.results.upgrade`).

A directory without manifest.json is not a bundle: a run that died. A run that was interrupted has one, with
`partial: true` and the reason. Nothing secret is ever written: targets come in by `Target.public()`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sim.errors import BadInput
from sim.files import read_text, replace_text
from sim.results.schema import SCHEMA_VERSION, TABLES, nullable
from sim.scenario import Scenario, build, not_honoured, to_dict
from sim.shipped import CHECKOUT

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SCHEMA_VERSION", "TABLES", "Manifest", "Run", "RunWriter", "destination"]


@dataclass
class Manifest:
    """manifest.json. Mutable while a run goes on; what is read back is the finished record."""

    source: Literal["simulated", "measured"]
    scenario: dict[str, Any]
    seed: int
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    schema_version: int = SCHEMA_VERSION
    created_at: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    command: str = ""
    target: dict[str, Any] | None = None
    git: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    window: dict[str, float] = field(default_factory=dict)
    """{warmup, start, end, cooldown, drain}: start and end in seconds since the run's start, the others are durations (s)."""
    clock: dict[str, Any] = field(default_factory=dict)
    """{offset, error, method}: seconds."""
    harness: dict[str, Any] = field(default_factory=dict)
    """{floor_p50, floor_p99, lag_p50, lag_p99, ...}: seconds."""
    validity: dict[str, Any] = field(default_factory=lambda: {"ok": True, "reasons": []})
    partial: bool = False
    sampling: dict[str, Any] = field(default_factory=lambda: {"method": "all"})
    """How rows relate to what happened: {"method": "all"} or, say, {"method": "subscribers", "share": 0.01}."""
    files: dict[str, Any] = field(default_factory=dict)
    """File name -> {rows, sha256}."""
    extra: dict[str, Any] = field(default_factory=dict)


def window_of(scenario: Scenario) -> dict[str, float]:
    """The window of a whole run, for its manifest, s. Its ends are whole nanoseconds, as instants in tables: 0.1 + 0.2 is 0.3."""
    cooldown, drain = scenario.tail
    start, end = round(scenario.warmup, 9), round(scenario.warmup + scenario.duration, 9)
    return {"warmup": start, "start": start, "end": end, "cooldown": cooldown, "drain": drain}


def over_at(window: Mapping[str, float]) -> float:
    """When a run with this window was over, s since its start."""
    return round(window["end"] + window.get("cooldown", 0.0) + window["drain"], 9)


class RunWriter:
    """Writes one bundle. Use as a context manager: leaving by an exception closes the bundle as partial.

    >>> with RunWriter(directory, scenario, source="simulated") as run:
    ...     run.append("updates", {"update": [0], ...})
    ...     run.summary = {...}
    """

    def __init__(
        self, directory: str | Path, scenario: Scenario, source: Literal["simulated", "measured"], command: str = ""
    ) -> None:
        self.directory = destination(directory)
        self.manifest = Manifest(source=source, scenario=to_dict(scenario), seed=scenario.seed, command=command)
        if left_out := not_honoured(scenario, "simulator" if source == "simulated" else "load test"):
            self.manifest.extra["left_out"] = list(map(str, left_out))
        self.manifest.git = git_state()
        self.manifest.versions = versions()
        self.manifest.host = host()
        self.manifest.window = window_of(scenario)
        self.summary: dict[str, dict[str, Any]] = {}
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._rows = dict.fromkeys(TABLES, 0)
        self._closed = False

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Add rows: column name -> sequence (texts also as a `DictionaryArray`). A missing column raises KeyError."""
        schema = TABLES[table]
        arrays = []
        for f in schema:
            value = columns[f.name]
            if pa.types.is_dictionary(f.type):
                encoded = isinstance(value, pa.DictionaryArray)
                texts = value if encoded else pa.array(value, pa.string(), from_pandas=True).dictionary_encode()
                arrays.append(texts.cast(f.type))
            else:
                array = pa.array(value, f.type)
                if nullable(f):
                    _refuse_sentinel(array, table, f.name)
                arrays.append(array)
        batch = pa.Table.from_arrays(arrays, schema=schema)
        if table not in self._writers:
            partial = self.directory / f"{table}.parquet.partial"
            self._writers[table] = pq.ParquetWriter(partial.absolute(), schema, compression="zstd", compression_level=6)
        self._writers[table].write_table(batch)
        self._rows[table] += batch.num_rows

    def frames(self) -> SimpleNamespace:
        """The tables as written, by name, and the `manifest`: what a summary is made from. Nothing can be appended afterwards."""
        from sim.results.frames import to_frame

        self._finish_tables()
        tables = {name: to_frame(name, pq.read_table((self.directory / f"{name}.parquet").absolute())) for name in TABLES}
        return SimpleNamespace(manifest=self.manifest, **tables)

    def rewrite(self, table: str, columns: Mapping[str, Any]) -> None:
        """Write these rows in the place of those that a table of `frames` has."""
        del self._writers[table], self.manifest.files[f"{table}.parquet"]
        self._rows[table] = 0
        self.append(table, columns)
        self._finish_tables()

    def _finish_tables(self) -> None:
        """Close each file and give it its name; a table without rows is a file without rows."""
        for table, schema in TABLES.items():
            final = self.directory / f"{table}.parquet"
            if final.name in self.manifest.files:
                continue
            if table not in self._writers:
                self.append(table, {name: [] for name in schema.names})
            self._writers[table].close()
            final.with_name(final.name + ".partial").replace(final)
            self.manifest.files[final.name] = {"rows": self._rows[table], "sha256": _sha256(final)}

    def close(self, *, partial: bool = False, reasons: tuple[str, ...] = ()) -> Run:
        """Finish the files and write the manifest, last and in one step. Call once."""
        if self._closed:
            return Run(self.directory)
        self._closed = True
        self._finish_tables()
        if partial:
            self.manifest.partial = True
        if reasons:
            self.manifest.validity["ok"] = False
            self.manifest.validity.setdefault("reasons", []).extend(reasons)
        _write_json(self.directory / "summary.json", self.summary)
        self.manifest.files["summary.json"] = {
            "rows": len(self.summary),
            "sha256": _sha256(self.directory / "summary.json"),
        }
        _write_json(self.directory / "manifest.json", vars(self.manifest))
        return Run(self.directory)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self.close()
        else:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
            self.close(partial=True, reasons=(reason,))


VERSION_1 = (
    "written by version 1, which does not say with which version a page was loaded (taken: all that was committed before its "
    "first subscription), how long a page was open before that, which pages were hidden, and whether a refetch without an end "
    "was running or given up (taken: running)"
)
"""What a bundle of version 1 cannot say, for its remarks."""


class Run:
    """A bundle read back. Tables are pandas frames, loaded when asked for."""

    updates: pd.DataFrame
    notifications: pd.DataFrame
    refetches: pd.DataFrame
    subscriptions: pd.DataFrame
    pages: pd.DataFrame
    metrics: pd.DataFrame

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        path = self.directory / "manifest.json"
        if not path.is_file():
            what = "unfinished run: no manifest.json" if any(self.directory.glob("*.partial")) else "no manifest.json"
            raise BadInput(f"{self.directory} is not a run bundle ({what})")
        try:
            tree = json.loads(read_text(path))
            self.schema_version = tree["schema_version"]
            """As the directory has it: 1 or 2. The tables are given in version 2."""
            if self.schema_version not in (1, SCHEMA_VERSION):
                raise BadInput(f"{path}: schema version {self.schema_version}, this workbench reads 1 and {SCHEMA_VERSION}")
            self.manifest = Manifest(**tree)
            _require_sound(self.manifest)
            self.manifest.window = {"cooldown": 0.0} | self.manifest.window
            if self.schema_version == 1:
                remarks = [*self.manifest.validity.get("remarks", []), VERSION_1]
                self.manifest.validity = self.manifest.validity | {"remarks": remarks}
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path}: damaged manifest: {error}") from error

    @property
    def name(self) -> str:
        return self.directory.name

    @cached_property
    def scenario(self) -> Scenario:
        scenario: Scenario = build(Scenario, self.manifest.scenario, where=str(self.directory))
        return scenario

    @cached_property
    def summary(self) -> dict[str, dict[str, Any]]:
        """Metric to figure. Raises `BadInput` when the file is missing or damaged."""
        path = self.directory / "summary.json"
        try:
            summary = json.loads(read_text(path))
        except (OSError, ValueError) as error:
            raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if not isinstance(summary, dict):
            raise BadInput(f"{path}: damaged summary: not a table of figures")
        return summary

    def __getattr__(self, name: str) -> pd.DataFrame:
        """`updates`, `pages` and the other tables, read when they are asked for first."""
        if name not in TABLES:
            raise AttributeError(name)
        vars(self)[name] = frame = self.table(name)
        return frame

    def table(self, name: str) -> pd.DataFrame:
        """One table as a frame; columns and units in `TABLES`. Raises `BadInput` when the file is missing or damaged."""
        return self._upgraded[name] if self.schema_version == 1 else self._read(name)

    @cached_property
    def _upgraded(self) -> dict[str, pd.DataFrame]:
        from sim.results.upgrade import upgraded

        rows = {name: self._read(name) for name in TABLES if name != "pages" or (self.directory / "pages.parquet").exists()}
        return upgraded(rows, 1 / self.manifest.sampling.get("share", 1.0))

    def _read(self, name: str) -> pd.DataFrame:
        from sim.results.frames import to_frame

        path = self.directory / f"{name}.parquet"
        try:
            rows = pq.read_table(path.absolute())  # Arrow takes `2026-01-01T12:30` for a URI
        except (OSError, pa.ArrowInvalid) as error:
            why = error if path.exists() else "No such file or directory"
            raise BadInput(f"{path}: cannot be read: {why}") from error
        for f in TABLES[name]:
            if f.name not in rows.schema.names:
                raise BadInput(f"{path}: column {f.name} is missing")
            if rows.schema.field(f.name).type != f.type:
                raise BadInput(f"{path}: column {f.name} is {rows.schema.field(f.name).type}, must be {f.type}")
            if rows[f.name].null_count and b"null" not in f.metadata:
                raise BadInput(f"{path}: column {f.name} has nulls, which it must not")
        key = {"updates": "update", "pages": "subscriber"}.get(name)
        if key is not None and len(pc.unique(rows[key])) < rows.num_rows:
            raise BadInput(f"{path}: column {key} names one {name.removesuffix('s')} twice")
        return to_frame(name, rows)

    def verify(self) -> None:
        """Raise `BadInput` when a file is not the one that the manifest was written for, or the manifest does not have it."""
        tables = [name for name in TABLES if name != "pages" or self.schema_version > 1]
        for name in (*(f"{table}.parquet" for table in tables), "summary.json"):
            if name not in self.manifest.files:
                raise BadInput(f"{self.directory / 'manifest.json'}: {name} is not among its files")
        for name, entry in self.manifest.files.items():
            path = self.directory / name
            try:
                unchanged = _sha256(path) == entry["sha256"]
            except OSError as error:
                raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
            if not unchanged:
                raise BadInput(f"{path}: changed since the run (sha256 differs from the manifest)")


def destination(name: str | Path) -> Path:
    """The directory of a run that is to be written, made and proven writable. Raises `BadInput` that says what is in the way."""
    directory = Path(name)
    if directory == Path() and (not str(name) or any(directory.iterdir())):
        raise BadInput("the run needs a directory of its own: give its name (-o DIR)")
    try:
        if (directory / "manifest.json").exists():
            raise BadInput(f"{directory} already holds a run (choose another -o, or remove it)")
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"proof")
    except OSError as error:
        raise BadInput(f"cannot write to {directory}: {error.strerror or error} (choose another -o)") from error
    return directory


def _refuse_sentinel(array: pa.Array, table: str, column: str) -> None:
    """Raise ValueError for a negative whole number in a column that has nulls: unknown is null, and -1 would be reckoned with."""
    least = pc.min(array).as_py()
    if least is not None and least < 0:
        raise ValueError(f"{table}.{column} is {least}: what is unknown, or did not happen, is null")


def _require_sound(manifest: Manifest) -> None:
    """Raise ValueError where a member is not of its kind: the file may come from anywhere."""
    for f in fields(Manifest):
        value, kind = getattr(manifest, f.name), str(f.type).partition("[")[0]
        wanted = {"dict": dict, "str": str, "bool": bool, "int": int}.get(kind, object)
        if not isinstance(value, wanted) and not (value is None and str(f.type).endswith("None")):
            raise ValueError(f"{f.name} must be a {wanted.__name__}")
    if manifest.source not in ("simulated", "measured"):
        raise ValueError("source must be simulated or measured")
    window, share = manifest.window, manifest.sampling.get("share", 1.0)
    for name, value in {"start": None, "end": None, **window}.items():
        if not _is_number(value):
            raise ValueError(f"window.{name} must be a number of seconds")
    if not window["start"] <= window["end"]:
        raise ValueError("window.start must not be after window.end")
    if not (_is_number(share) and 0 < share <= 1):
        raise ValueError("sampling.share must be > 0 and <= 1")
    reasons, ok = manifest.validity.get("reasons"), manifest.validity.get("ok")
    if not (isinstance(ok, bool) and isinstance(reasons, list) and all(isinstance(reason, str) for reason in reasons)):
        raise ValueError("validity must be {ok: true or false, reasons: [text, ...]}")
    for name, entry in manifest.files.items():
        if not (isinstance(entry, dict) and isinstance(entry.get("sha256"), str)) or Path(name).name != name:
            raise ValueError(f"files.{name} must be a file of this directory with its sha256")


def _is_number(value: Any) -> bool:
    """No NaN, no infinity, no whole number beyond what a float holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15


def _write_json(path: Path, tree: Any) -> None:
    replace_text(path, json.dumps(tree, indent=1, allow_nan=False) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_state() -> dict[str, Any]:
    """{commit, dirty} of the checkout this code runs from; empty outside one."""
    if CHECKOUT is None:
        return {}
    try:
        commit, status = (
            subprocess.run(["git", *args], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=5).stdout
            for args in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit.strip(), "dirty": bool(status.strip())}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "pandas", "pyarrow", "locust", "gevent", "websockets", "sqlalchemy", "uvloop"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def host() -> dict[str, Any]:
    """The machine, without its name: system, processor, cores."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
