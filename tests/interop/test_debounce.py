"""Random sequences of calls, cancels, flushes and unmounts: our machine does what the real libraries do, to the millisecond."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any

import pytest

from tests import vectors
from tests.interop.clients import HERE, need_node

pytestmark = pytest.mark.interop

DEBOUNCE = ["lodash@4.18.1 debounce", "lodash.debounce@4.0.8", "use-debounce@10.1.1 useDebouncedCallback"]
THROTTLE = ["lodash@4.18.1 throttle", "use-debounce@10.1.1 useThrottledCallback"]

SEQUENCES = 1500


def sequence(rng: random.Random, number: int) -> dict[str, Any]:
    """One sequence without results; waits and gaps are few, so that calls often meet timers."""
    throttles = rng.random() < 0.3
    libraries = THROTTLE if throttles else DEBOUNCE if rng.random() < 0.7 else DEBOUNCE[-1:]
    hook_only = len(libraries) == 1
    options: dict[str, Any] = {}
    for name, share, values in (
        ("leading", 0.4, [True, True, False]),
        ("trailing", 0.3, [True, False]),
        ("maxWait", 0.0 if throttles else 0.5, [0, 1, 5, 10, 15, 20, 30, 50, 100, None]),
        ("flushOnExit", 0.5 if hook_only else 0.0, [True]),
    ):
        if rng.random() < share:
            options[name] = rng.choice(values)
    actions: list[dict[str, Any]] = []
    at, mounted = rng.randrange(4), True
    for argument in range(rng.randint(1, 30)):
        at += rng.choice([0, 1, 1, 2, 3, 5, 5, 9, 10, 10, 11, 20, 50])
        op = rng.choices(["call", "flush", "cancel"], [0.85, 0.08, 0.07])[0]
        if hook_only and mounted and rng.random() < 0.05:
            op, mounted = "unmount", False
        actions.append({"t": at, "op": op} | ({"arg": argument} if op == "call" else {}))
    return {
        "id": f"R{number:04}",
        "title": "random",
        "wait": rng.choice([0, -3, 1, 5, 10, 10, 20, 50]),
        "options": options,
        "order": rng.choice(["timer-first", "call-first"]),
        "actions": actions,
        "until": at + 500,
        "libraries": libraries,
    }


def test_random_sequences_are_fired_as_the_libraries_fire_them() -> None:
    node = need_node()
    rng = random.Random(20)
    asked = json.dumps({"vectors": [sequence(rng, number) for number in range(SEQUENCES)]})
    done = subprocess.run([node, "debounce.mjs"], cwd=HERE, input=asked, capture_output=True, text=True, check=True, timeout=120)
    recorded = json.loads(done.stdout)["vectors"]
    assert len(recorded) == SEQUENCES
    differences = [
        f"{vector['id']} {library}: {difference}"
        for vector in recorded
        for library, difference in vectors.compare(vector)
        if difference
    ]
    assert differences == []
    # The sequences do exercise what tells the libraries apart.
    apart = [vector for vector in recorded if len({str(result["fire_times"]) for result in vector["results"].values()}) > 1]
    assert len(apart) > 5
    assert {fire["via"] for vector in recorded for result in vector["results"].values() for fire in result["fires"]} == {
        "call",
        "timer",
        "flush",
        "unmount",
    }
