"""Run a real provisioning command and record its steps as a trace.

Each step goes pending -> installing -> completed (or failed), with times in milliseconds. The command's output is shown as
always and its exit status is kept. Ctrl-C keeps what was recorded and marks the trace as partial.

How steps are recognised:
  apt       apt-get, apt: package by package, through apt's status descriptor (also behind env, nice, chroot DIR)
  dpkg      dpkg -i: the same for dpkg
  commands  --steps FILE: one step per line, "name: command", run one after the other until one fails. A COMMAND, where
            given, runs each of them (it gets the line as its last argument); the default is sh -c
  lines     --step-pattern REGEX: a line of output that matches begins a step; its name is the group "name", or the first one
A command that none of these fits is recorded as a single step.

Every run of the same thing is a replica: NAME/01.jsonl, NAME/02.jsonl, ... A scenario plays all of them with
  [workload]
  kind = "replay"
  trace = "traces/nginx"

Examples:
  workbench record -- ./deploy.sh                     # one step, whatever it does
  sudo workbench record -- apt-get install -y nginx            # one step per package
  sudo workbench record --replicas 5 --before 'apt-get purge -y --autoremove nginx' -- apt-get install -y nginx
  workbench record --name stack --steps stack.steps               # one step per line
  workbench record --name stack --steps stack.steps -- ssh root@new-server
  workbench record --step-pattern '^TASK \\[(.+)\\]' -- ansible-playbook site.yml
  workbench record --step-pattern '^#\\d+ \\[(?P<name>.+?)\\]' -- docker build --progress plain .
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from sim.commands import options
from sim.errors import BadInput, WorkbenchError
from sim.files import read_text
from sim.live.record.recordable import Recordable, parse_steps
from sim.live.record.recorder import record
from sim.workload import Trace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run, best after --")
    parser.add_argument("-o", "--output", metavar="PATH", help="a .jsonl file, or the directory of the replicas (traces/NAME)")
    parser.add_argument("--name", help="name of the set of replicas (default: what is installed, or the program)")
    parser.add_argument("--method", choices=("apt", "dpkg", "lines", "commands"), help="how steps are seen (default: what fits)")
    parser.add_argument("--steps", metavar="FILE", help='one step per line: "name: command" (- reads standard input)')
    parser.add_argument("--step-pattern", metavar="REGEX", default="", help="what the first line of a step looks like")
    parser.add_argument("--replicas", type=int, default=1, metavar="N", help="number of runs, with a trace of each")
    parser.add_argument("--before", metavar="COMMAND", help="run by the shell before each replica, not recorded")
    parser.add_argument("--label", default="", metavar="TEXT", help="what the trace says was run, in place of the command")
    parser.add_argument("--quiet", action="store_true", help="do not show the command's output")
    parser.add_argument(
        "--json", action="store_true", help="print what was recorded as JSON (the command's output goes to stderr)"
    )


def run(args: argparse.Namespace) -> int:
    if args.replicas < 1:
        raise BadInput(f"--replicas must be >= 1, got {args.replicas}")
    argv = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    job = Recordable.choose(argv, args.method, _read_steps(args.steps), args.step_pattern, args.label)
    single = Path(args.output) if args.output and args.output.endswith(".jsonl") else None
    if single and args.replicas > 1:
        raise BadInput(f"-o {single}: {args.replicas} replicas need a directory")
    directory = Path(args.output) if args.output else Path("traces") / (args.name or default_name(job))
    out = os.open(os.devnull, os.O_WRONLY) if args.quiet else 2 if args.json else 1
    results: list[dict[str, Any]] = []
    status = 0
    for number in range(args.replicas):
        path, replica = (single, 1) if single else next_path(directory)
        check_place(path)
        if args.before:
            _before(args.before, number)
        trace = record(job, replica, out)
        trace.write(path)
        results.append(_summary(path, trace))
        _say(path, trace)
        status = trace.exit_status or 0
        if status or trace.partial:
            break
    if args.json:
        options.print_json("record", {"traces": results})
    # A command may end with 0 after an interruption; its trace is cut short all the same.
    return status or (130 if trace.partial else 0)


def check_place(path: Path) -> None:
    """Raise `BadInput` if *path* could not be written: before a long installation, and not after it."""
    there = path.parent
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise BadInput(f"cannot write {path}: {there} is not a directory")
    if not os.access(there, os.W_OK):
        raise BadInput(f"cannot write {path}: {there} is not writable")
    if path.exists():
        raise BadInput(f"{path} exists already (choose another -o, or a directory for replicas)")


def next_path(directory: Path) -> tuple[Path, int]:
    """The file of the next replica in *directory*, and its number."""
    numbers = [int(path.stem) for path in directory.glob("*.jsonl") if path.stem.isdecimal()]
    replica = max(numbers, default=0) + 1
    return directory / f"{replica:02d}.jsonl", replica


def default_name(job: Recordable) -> str:
    """What is installed, where the command says it (`apt-get install -y nginx` -> nginx), else the program's name."""
    words = [word for word in job.argv if not word.startswith("-")] if job.method != "commands" else [job.steps[0][0]]
    if "install" in words and words[-1] != "install":
        words = words[words.index("install") + 1 :]
    name = "-".join(words[:3]) if job.method == "apt" else os.path.basename((words or job.argv)[0])
    return re.sub(r"[^\w.+-]+", "-", name)[:80] or "trace"


def _read_steps(source: str | None) -> tuple[tuple[str, str], ...]:
    if source is None:
        return ()
    try:
        text = sys.stdin.read().removeprefix("\ufeff") if source == "-" else read_text(source)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--steps {source}: {getattr(error, 'strerror', None) or error}") from error
    return parse_steps(text, source)


def _before(command: str, done: int) -> None:
    status = subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL, check=False).returncode
    if status:
        raise WorkbenchError(f"--before {command!r} failed with exit status {status}; {done} replicas recorded so far are kept")


def _summary(path: Path, trace: Trace) -> dict[str, Any]:
    return {
        "trace": str(path),
        "method": trace.method,
        "duration": round(trace.duration, 3),
        "exit_status": trace.exit_status,
        "partial": trace.partial,
        "steps": [
            {"step": s.step, "name": s.name, "status": s.status, "duration": None if s.duration is None else round(s.duration, 3)}
            for s in trace.steps
        ],
    }


def _say(path: Path, trace: Trace) -> None:
    """A few lines on standard error: what was recorded, and where the time went."""
    steps = trace.steps
    states = {status: sum(s.status == status for s in steps) for status in ("completed", "failed", "installing", "pending")}
    words = ", ".join(f"{n} {status}" for status, n in states.items() if n) or "nothing"
    part = " (partial: interrupted)" if trace.partial else ""
    print(f"workbench: {len(steps)} steps in {trace.duration:.3f} s: {words}{part} -> {path}", file=sys.stderr)
    longest = sorted((s for s in steps if s.duration is not None), key=lambda s: -(s.duration or 0))[:5]
    if len(steps) > 1:
        print("".join(f"  {s.duration:8.3f} s  {s.name}\n" for s in longest), end="", file=sys.stderr)
    if trace.method != "commands" and not steps:
        hint = " (does --step-pattern match?)" if trace.method == "lines" else " (was everything installed already?)"
        print(f"workbench: no step was seen{hint}", file=sys.stderr)
