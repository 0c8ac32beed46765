"""Coverage-guided fuzzing of what reads bytes that others have made (`targets`), by atheris where it is installed.

    python -m tests.torture.fuzzing scenario --seconds 60
    python -m tests.torture.fuzzing scenario --seconds 60 --keep DIR      # inputs that found new paths stay in DIR

Begins with tests/data/fuzz/TARGET, whose files tests/torture/test_fuzz.py replays. Without atheris the same files are changed at
random, guided by nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sim.live.processes import importable
from tests.torture.case import Stage, case, need

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "data" / "fuzz"
LONGEST = 4096
"""Bytes of an input."""
STUMBLES = (b"\x00", b"\xff", b"\x81\xfe", b"9" * 30, b"-1", b"1e999", b'"', b"[" * 40, b"\r\n", b"\xe2\x80\xa8")


def mutated(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """One input made of another: flipped, cut, doubled, joined, or with a piece that readers stumble over."""
    content = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(content) + 1)
        match draw.randrange(6):
            case 0 if content:
                content[at % len(content)] ^= 1 << draw.randrange(8)
            case 1:
                del content[at : at + draw.randrange(1, 9)]
            case 2:
                content[at:at] = content[at : at + draw.randrange(1, 65)]
            case 3:
                other = draw.choice(others)
                content[at:] = other[draw.randrange(len(other) + 1) :]
            case 4:
                content[at:at] = draw.choice(STUMBLES)
            case _:
                content[at:at] = draw.randbytes(draw.randrange(1, 9))
    return bytes(content[:LONGEST])


def inputs(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def _unguided(target: Callable[[bytes], None], name: str, seconds: float, keep: Path) -> None:
    draw, known, count = random.Random(name), inputs(name), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        data = mutated(draw.choice(known), draw, known)
        count += 1
        try:
            target(data)
        except Exception:
            (keep / "crash-unguided").write_bytes(data)
            raise
    print(f"Done {count} runs, unguided")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture.fuzzing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=sorted(path.name for path in CORPUS.iterdir()))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=Path, default=Path(), metavar="DIR", help="where new inputs go and what fails")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("atheris") is None:
        from tests.torture.targets import TARGETS

        _unguided(TARGETS[args.target], args.target, args.seconds, args.keep)
        return 0
    import atheris

    # What has been imported before cannot be instrumented any more.
    for known in [module for module in sys.modules if module.split(".")[0] in ("sim", "loadtests")]:
        del sys.modules[known]
    with atheris.instrument_imports(include=["sim", "loadtests"]):
        from tests.torture.targets import TARGETS
    options = [f"-max_total_time={args.seconds}", f"-max_len={LONGEST}", "-timeout=20", f"-artifact_prefix={args.keep}{os.sep}"]
    atheris.Setup([sys.argv[0], *options, str(args.keep), str(CORPUS / args.target)], TARGETS[args.target])
    atheris.Fuzz()
    return 0


@case
def fuzzing(stage: Stage) -> Iterator[str]:
    """Frames, messages, requests, scenarios, traces, manifests and targets of random bytes are read or refused as documented, and
    the same wherever the network cuts them."""
    guided = importlib.util.find_spec("atheris") is not None
    found = []
    for directory in sorted(CORPUS.iterdir()):
        keep = stage.place / directory.name
        keep.mkdir()
        command = [
            sys.executable,
            "-m",
            "tests.torture.fuzzing",
            directory.name,
            "--seconds",
            "60" if stage.long else "6",
            "--keep",
            str(keep),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=ROOT,
            env=os.environ | importable() | {"TMPDIR": str(keep)},
        )
        said = done.stdout + done.stderr
        counted = [line for line in said.splitlines() if line.startswith("Done ")]
        if done.returncode or not counted:
            crash = next(keep.glob("crash-*"), None) or next(keep.glob("timeout-*"), None)
            found.append(f"{directory.name}: {crash.read_bytes()[:200] if crash else ''!r} {said[-500:]}")
        else:
            yield f"{directory.name} {counted[-1].split()[1]} inputs"
    yield "guided by coverage (atheris)" if guided else "not guided: atheris is not installed"
    need(not found, "; ".join(found))


if __name__ == "__main__":
    sys.exit(main())
