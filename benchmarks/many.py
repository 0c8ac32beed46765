"""What many subscribers cost on one machine: memory and processor time of load tests of growing size, every delivery counted.

    python -m benchmarks.many                    1,000, 5,000, 10,000 and 50,000 subscribers (about four minutes)
    python -m benchmarks.many -n 50000

Each is a whole load test (`workbench loadtest fan-out`) of events to all subscribers, against this project's broadcaster alone:
the load test signs the channels itself, and nothing is refetched. It has as many load processes and broadcaster nodes as
`workbench plan` says that one machine needs for that number. They share its cores, so times grow with the number. `lag` is the
time from the kernel's stamp of an arrival until it was read; no figure of a run contains it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks.fanout import APP, Bench
from benchmarks.results import note
from sim.errors import WorkbenchError
from sim.live.capacity import limits
from sim.results.run import Run
from sim.signals import end_with_parent

SECONDS, RATE = 10, 1
"""Seconds of updates, and updates per second."""
COLUMNS = (
    "subscribers", "processes", "nodes", "subscribed in s", "KiB each, client", "node", "us each delivery, client", "delivered",
    "p50 ms", "p99 ms", "lag p99 ms", "verdict",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.many", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, nargs="+", default=[1000, 5000, 10_000, 50_000], metavar="N", help="subscribers")
    args = parser.parse_args(arguments)
    print("  ".join(COLUMNS))
    try:
        for n in args.n:
            with tempfile.TemporaryDirectory() as place:
                print(measure(n, Path(place)), flush=True)
    except WorkbenchError as error:
        print(f"many: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure(n: int, place: Path) -> str:
    """One line. Raises `WorkbenchError`."""
    processes = max(-(-n // (limits.descriptors() - limits.SPARE)), -(-n // limits.local_ports()))
    nodes = limits.nodes_for(n, limits.descriptors())
    with Bench(place).ours(core=None, nodes=nodes) as (port, pids, _, _, _):
        target, output = place / "target.json", place / "run"
        app = {"id": APP.id, "key": APP.key, "secret": APP.secret}
        server = {"host": "127.0.0.1", "port": port, "scheme": "http"}
        target.write_text(json.dumps({"ws": server, "app": app, "api": "", "users": []}))
        of_nodes = [psutil.Process(int(pid)) for pid in pids.split(",")]
        before = sum(node.memory_info().rss for node in of_nodes)
        sets = {"load.connect_rate": 3000, "duration": SECONDS, "workload": f"{{kind='constant', rate={RATE}}}"}
        command = [
            sys.executable,
            "-m",
            "sim",
            "loadtest",
            "fan-out",
            "--target",
            str(target),
            "--users",
            str(n),
            "-o",
            str(output),
        ]
        command += ["--processes", str(processes), *(word for key, value in sets.items() for word in ("--set", f"{key}={value}"))]
        with (place / "log").open("w") as log:
            code = subprocess.run(command, stdout=log, stderr=log, timeout=600, preexec_fn=end_with_parent).returncode
        if code not in (0, 3, 4):
            raise WorkbenchError(f"{n} subscribers: exit code {code}: {(place / 'log').read_text()[-300:]}")
        node_kib = (sum(node.memory_info().rss for node in of_nodes) - before) / n / 1024
    run = Run(output)
    heard = run.summary["deliveries.received"]["value"]
    if not heard:
        raise WorkbenchError(f"{n:,} subscribers: nothing was delivered: {'; '.join(run.manifest.validity['reasons'])}")
    harness = run.manifest.harness
    metrics = run.metrics[run.metrics["process"].str.startswith("harness-").fillna(False)]
    of = {name: rows.pivot_table("value", "at", "process").ffill() for name, rows in metrics.groupby("metric", observed=True)}
    rss, cpu, there = of["rss_bytes"], of["cpu_seconds"], of["subscribed"].sum(axis=1)
    kib = float(rss.max().sum() - rss.min().sum()) / n / 1024
    inside = cpu[cpu.index >= 0]
    us = float((inside.iloc[-1] - inside.iloc[0]).sum()) / heard * 1e6
    took = float(there.index[there >= n].min() - there.index.min())
    delivered, p50, p99 = (
        run.summary[name]["value"] for name in ("delivery_ratio", "time_to_notified.p50", "time_to_notified.p99")
    )
    note(f"{n:,} subscribers in {processes} processes: memory each, client", "KiB", [kib])
    note(f"{n:,} subscribers in {processes} processes: CPU per delivery, client", "us", [us])
    verdict = "valid" if run.manifest.validity["ok"] else "invalid"
    times = (f"{seconds * 1000:.1f}" for seconds in (p50, p99, harness["lag_p99"]))
    cells = (f"{n:,}", f"{processes}", f"{nodes}", f"{took:.0f}", f"{kib:.1f}", f"{node_kib:.1f}", f"{us:.1f}")
    cells += (f"{delivered:.4%}", *times, verdict)
    return "  ".join(cell.rjust(len(title)) for cell, title in zip(cells, COLUMNS, strict=True))


if __name__ == "__main__":
    sys.exit(main())
