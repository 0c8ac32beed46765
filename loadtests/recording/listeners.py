"""Listeners on Locust's `events.request` besides Locust's own: exporters, plug-ins, those of a locustfile.

The client counts in batches, so Locust's statistics need no `fire` for each message (2.6 us, as much as reading it). Other
listeners get samples of each batch, evenly spaced, at most `MOST` of each row a second. `context` holds the share that they get
(`{"told": 0.1}`: one in ten). A failure is a sample with an `exception`. Locust's own listener gets none, because its statistics
have all of them already.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

MOST = 500
"""Samples a second of one row of Locust's table: a listener that costs what Locust's does then takes 1.3 ms of this process."""

logger = logging.getLogger(__name__)


class Failed(Exception):
    """What a listener gets as `exception`: the reason, as in Locust's list of failures."""


class Listeners:
    """The listeners on *hook*, an `EventHook`, besides Locust's own. None: there never are any."""

    def __init__(self, hook: Any = None, period: float = 0.5) -> None:
        """*period*: seconds between two batches."""
        self._hook, self._most = hook, max(int(MOST * period), 1)

    def _others(self) -> list[Callable[..., Any]]:
        # EventHook has no public list. To fire it would count everything a second time in Locust's statistics.
        handlers = getattr(self._hook, "_handlers", ())
        return [handler for handler in handlers if getattr(handler, "__module__", "") != "locust.runners"]

    def tell(self, method: str, name: str, samples: Mapping[str, np.ndarray], size: int) -> None:
        """*samples*: milliseconds of this batch (NaN: unknown), by the reason of the failure (empty: success). *size*: of
        their answers, bytes in all."""
        others = self._others()
        if not others:
            return
        total = sum(map(len, samples.values()))
        for reason, milliseconds in samples.items():
            count = len(milliseconds)
            chosen = milliseconds[np.linspace(0, count - 1, min(count, self._most)).astype(int)]
            for took in chosen.tolist():
                failed = Failed(reason) if reason else None
                self._call(others, method, name, took, size // total, failed, {"told": len(chosen) / count})

    def _call(
        self,
        others: list[Callable[..., Any]],
        method: str,
        name: str,
        took: float,
        size: int,
        failed: Exception | None,
        context: dict[str, float],
    ) -> None:
        known = None if math.isnan(took) else took
        sample: dict[str, Any] = {
            "request_type": method,
            "name": name,
            "response_time": known,
            "response_length": size,
            "response": None,
        }
        sample |= {"exception": failed, "context": context, "start_time": time.time() - (known or 0) / 1000, "url": None}
        for listener in others:
            try:
                listener(**sample)
            except Exception:
                logger.exception("a listener on events.request failed (it is not asked again)")
                with contextlib.suppress(ValueError):
                    self._hook.remove_listener(listener)
