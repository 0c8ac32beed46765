"""The reference, made from the code: what a key, a figure, a column or a command means stands once, where it is defined.

A hook of MkDocs (`mkdocs.yml`); nothing is written into docs/. `pages()` is what a test looks at:

    python docs/reference.py reference/metrics.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sim import cli
from sim.results import thresholds
from sim.results.run import TABLES
from sim.results.summary import DESCRIPTIONS
from sim.results.text import number
from sim.scenario import Key, keys, kinds
from sim.shipped import shipped

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

EXIT_CODES = {
    0: "pass",
    1: "the tool itself failed",
    2: "usage or bad input: a scenario, flag, trace or bundle is not usable as given",
    3: "a threshold failed: the run is valid and missed its objective",
    4: "the run is invalid: harness or clock cannot be trusted, so there is no result",
    5: "the target does not answer",
    130: "interrupted (Ctrl-C): what was measured is kept and marked partial",
    143: "terminated (SIGTERM), likewise",
}

ENVIRONMENT = {
    "WORKBENCH_TARGET": "target of a plain `locust` run: a `target.json`; without it Laravel's names count",
    "WORKBENCH_SCENARIO": "scenario of a plain `locust` run: name or file",
    "WORKBENCH_SHAPE": "subscribers over time in a plain `locust` run, as `--shape`",
    "WORKBENCH_AUTH": "how channels are authorised in a plain `locust` run, as the key `load.auth`",
    "WORKBENCH_REFETCH": "as the key `load.refetch`, in a plain `locust` run",
    "WORKBENCH_VERSION": "as the key `load.version`, in a plain `locust` run",
    "WORKBENCH_LOGIN": 'credentials for `load.auth = "cookie"`, as `email=...&password=...`',
    "WORKBENCH_PROMETHEUS": "port at which a plain `locust` run offers its figures to Prometheus",
    "WORKBENCH_OTLP": "OpenTelemetry collector to which a plain `locust` run sends its figures, as `loadtest --otlp`",
    "WORKBENCH_PROBES": "subscribers recorded row by row in each process of a plain `locust` run",
    "WORKBENCH_PARTS": "set by `workbench loadtest` for its own processes: where rows go",
    "WORKBENCH_SHIP": "set by `workbench loadtest` for its own processes: rows go to the master",
    "WORKBENCH_MACHINE": "names this machine in place of its boot id: processes of one name are taken to read one clock",
    "RUN_DIR": "run bundles that a notebook reads in place of its sample; `workbench report` sets it",
    "REVERB_APP_ID": "the broadcaster's application",
    "REVERB_APP_KEY": "its key",
    "REVERB_APP_SECRET": "its secret",
    "REVERB_HOST": "where events are published",
    "REVERB_PORT": "likewise",
    "REVERB_SCHEME": "`http` or `https`",
    "VITE_REVERB_HOST": "where pages connect (likewise `VITE_REVERB_PORT`, `_SCHEME`, `_APP_KEY`)",
    "PUSHER_HOST": "counts where there is no `REVERB_*` (likewise the other `PUSHER_*`)",
    "APP_URL": "the application: its API, and the Origin of its pages",
    "XDG_CACHE_HOME": "where the calibration of this machine is kept",
}
"""What the programs read besides flags. Laravel's names also come from a `.env` file."""


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    return {
        "reference/commands.md": _commands(),
        "reference/scenario.md": _scenario(),
        "reference/kinds.md": _kinds(),
        "reference/thresholds.md": _thresholds(),
        "reference/metrics.md": _metrics(),
        "reference/tables.md": _tables(),
        "reference/environment.md": _environment(),
        "reference/browsers.md": _browsers(),
        "reference/growth.md": _growth(),
    }


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """MkDocs's hook: the pages join those that are written by hand."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    heads = list(heads)
    return "\n".join([line(heads), line("---" for _ in heads), *map(line, rows)]) + "\n"


def _commands() -> str:
    found = [
        "# Commands and exit codes\n\nEach command prints its help with `--help`.\n",
        "## Exit codes\n",
        table(("code", "means"), EXIT_CODES.items()),
        "## What `--json` prints\n\nAn object in every command. Its member `workbench` names the command, the version of the package and "
        "the version of the format (`schema`), which grows when a member changes its meaning or goes; the other members are the "
        "command's own.\n",
        '```json\n{"workbench": {"command": "check", "version": "0.3.0", "schema": 1}, "valid": true, "reasons": [], '
        '"thresholds": [{"threshold": "...", "value": 1.0, "ok": true}]}\n```\n',
    ]
    for name in cli.COMMANDS:
        parser = cli.build_parser(name)._subparsers._group_actions[0].choices[name]  # type: ignore[union-attr,index,call-overload]
        found.append(f"## workbench {name}\n\n```text\n{parser.format_help().rstrip()}\n```\n")
    return "\n".join(found)


def _rows(some: Iterable[Key]) -> Iterable[tuple[str, ...]]:
    for key in some:
        yield f"`{key.name}`", key.meaning, key.values, key.unit, f"`{key.default}`", key.program


_HEADS = ("key", "meaning", "values", "unit", "default", "honoured by")


def _scenario() -> str:
    found = [
        "# Scenario keys\n\nOne TOML file decides a run. Every key has a default; `--set KEY=VALUE` changes one (`pages[0].hidden` and "
        "`pages.0.hidden` are the same), and a key that does not exist is an error that names the nearest. *Honoured by*: a program that "
        "cannot honour a key that is set refuses the scenario, or goes on without it (`--ignore KEY`) and says so in manifest, table and "
        "report. The kinds of workloads, policies, incidents and distributions are on [a page of their own](kinds.md). "
        "`workbench scenario --keys` prints the same.\n"
    ]
    for name in dict.fromkeys(key.table for key in keys() if not key.kind):
        found += [f"## {name or 'The run'}\n", table(_HEADS, _rows(key for key in keys() if key.table == name and not key.kind))]
    return "\n".join(found)


def _kinds() -> str:
    found = [
        '# Kinds of workloads, policies, incidents, distributions\n\nA table with a `kind`: `policy = {kind = "window", wait = 0.5}`.\n'
    ]
    titles = {"workload": "Workloads", "policy": "Policies", "incidents": "Incidents", "distribution": "Distributions"}
    for name, of in kinds().items():
        found.append(f"## {titles[name]}\n")
        if name == "distribution":
            found.append("Wherever a number of seconds may stand. A bare number is a constant.\n")
        for kind, about in of.items():
            members = [key for key in keys() if (key.table, key.kind) == (name, kind)]
            found += [f"### {kind} {{ #{name}-{kind} }}\n", f"{about}\n"]
            found += [table(_HEADS, _rows(members))] if members else []
    return "\n".join(found)


def _thresholds() -> str:
    text = (thresholds.__doc__ or "").strip()
    head, *blocks = text.split("\n\n")
    body = "\n\n".join(f"```toml\n{_dedent(block)}\n```" if block.startswith("    ") else block for block in blocks)
    return (
        f"# Thresholds\n\n{head}\n\n{body}\n\n## What may be counted under `samples`\n\n"
        + table(("name", "figure"), ((f"`{name}`", f"`{metric}`") for name, metric in thresholds.SAMPLES.items()))
        + "\nAny figure of [a run's summary](metrics.md) may have a threshold.\n"
    )


def _dedent(block: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in block.splitlines())


def _metrics() -> str:
    rows = ((f"`{name}`", _described(about, "unit"), _described(about, "meaning")) for name, about in DESCRIPTIONS.items())
    return (
        "# Figures of summary.json\n\n`summary.json` is flat: metric -> `{value, ci_low, ci_high, n}`. Times also have `.p50`, `.p95`, "
        "`.p99`, `.mean` and `.max`. What they count and leave out: [how to read each figure](../figures.md).\n\n"
        + table(("metric", "unit", "meaning"), rows)
    )


def _described(about: Any, part: str) -> str:
    if isinstance(about, str):
        return about if part == "meaning" else ""
    return str(getattr(about, part, ""))


def _tables() -> str:
    found = [
        "# Tables of a run bundle\n\nParquet files beside `manifest.json` and `summary.json`; the same for simulated and measured runs. "
        "Instants are float64 seconds since the run's start.\n"
    ]
    for name, schema in TABLES.items():
        rows = []
        for column in schema:
            about = {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}
            kind = "text" if str(column.type).startswith("dictionary") else str(column.type).replace("double", "float64")
            rows.append((f"`{column.name}`", kind, about.get("unit", ""), about.get("meaning", "")))
        found += [f"## {name}\n", table(("column", "type", "unit", "meaning"), rows)]
    return "\n".join(found)


def _environment() -> str:
    return (
        "# Environment variables\n\nScenario, then environment, then flags: the later wins. Laravel's own names are also read from a `.env` "
        "file, by Laravel's rules. Secrets never reach a run bundle or a log.\n\n"
        + table(("variable", "is"), ((f"`{name}`", about) for name, about in ENVIRONMENT.items()))
    )


def _browsers() -> str:
    """What `benchmarks.browsers` found, from the file that it left."""
    found = json.loads((shipped("data") / "browsers.json").read_text(encoding="utf-8"))
    frames = {(row["kind"], row["compression"]): row for row in found["frames"]}
    fetched = {(row["at_once"], row["protocol"]): row for row in found["refetches"]}
    sizes = ("bytes", "server_us", "client_us", "server_bytes")
    figures = ("ms", "connections", "received", "sent", "server_us")

    def ratios(one: dict[str, Any], other: dict[str, Any], names: Iterable[str]) -> list[str]:
        return [f"{number(one[name])} → {number(other[name])} ({other[name] / one[name]:.2f} ×)" for name in names]

    return (
        "# Browsers and the load client, measured\n\nWhat [the load client leaves out](../locust.md#what-browsers-do-and-this-client-does-not) of "
        f"what browsers do. `{found['command']}` on {found['created_at'][:10]}, {found['host']['cores']} cores, everything on loopback, {found['browser']}; "
        "the least of several turns. Bytes and connections are counts; times and processor times are of a shared machine, and ratios of "
        "processor time differed by about a factor of two from one run to the next: take them as an order of size.\n\n## permessage-deflate\n\n"
        + table(
            ("server", "Chromium offers", "accepted"),
            (
                (row["server"], f"`{row['offered'] or 'nothing'}`", f"`{row['accepted'] or 'nothing'}`")
                for row in found["extensions"]
            ),
        )
        + f"\nOne delivery of a `websockets` server to each of {found['subscribers']} subscribers, without → with compression:\n\n"
        + table(
            (
                "message",
                "bytes",
                "CPU of the server, µs",
                "CPU of the client, µs",
                "memory of the server for a connection, bytes",
            ),
            (
                (kind, *ratios(frames[kind, "plain"], frames[kind, "deflate"], sizes))
                for kind in dict.fromkeys(k for k, _ in frames)
            ),
        )
        + "\nThe window is kept between messages (as browsers offer it), so each connection compresses for itself: a fan-out costs the "
        "compression as often as it has subscribers.\n\n## HTTP/2\n\nChromium fetches resources at once over TLS, from the same handler in "
        f"one Node process that takes {found['service_ms']} ms for each, HTTP/1.1 → HTTP/2; bytes and CPU are for one request, with the "
        "cookies of a Laravel session. Where the application's workers are the limit, as in a herd, HTTP/2 moves the line from the browser "
        "to the application and makes it no shorter.\n\n"
        + table(
            (
                "at once",
                "ms until the last answer",
                "connections",
                "bytes to the server",
                "bytes from it",
                "CPU of the server, µs",
            ),
            (
                (count, *ratios(fetched[count, "http1"], fetched[count, "http2"], figures))
                for count in dict.fromkeys(c for c, _ in fetched)
            ),
        )
    )


def _growth() -> str:
    """What `benchmarks.simulation --growth` found, from the file that it left."""
    found = json.loads((shipped("data") / "growth.json").read_text(encoding="utf-8"))
    heads = (
        "engine and load",
        "dashboards",
        "updates",
        "workers",
        "service, µs",
        "jitter, s",
        "notifications",
        "refetches",
        "CPU, s",
    )
    rows = (
        (
            row["name"].rpartition(",")[0],
            *(f"{row[name]:,}" for name in ("dashboards", "updates", "workers", "service_us", "jitter", "pairs", "refetches")),
            *(number(value) for value in (row["cpu"], row["cpu"] / row["pairs"] * 1e9, row["rss"])),
        )
        for row in found["rows"]
    )
    return (
        "# What a simulation costs as it grows\n\nDashboards of one user that refetch after silence, updates by a Poisson process. "
        f"`{found['command']}` on {found['at'][:10]}, {found['machine']['cores']} cores; each row is a process of its own, the simulation "
        "with the imports of its engine, processor time of both threads, memory at its peak. Other programs ran on the machine, which a program that "
        "waits for memory feels. With constant service herds find the queue idle and are only moved; with jitter and exponential service "
        "each refetch is drawn, sorted and served.\n\n" + table((*heads, "ns for a notification", "memory, GB"), rows)
    )


if __name__ == "__main__":
    shown: dict[str, str] = pages()
    write: Callable[[str], object] = sys.stdout.write
    write("".join(shown[name] for name in sys.argv[1:] or shown))
