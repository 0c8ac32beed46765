"""Instant answers: what a policy does to Poisson updates, under the metric names that the simulators use."""

from __future__ import annotations

from sim.errors import BadInput
from sim.policy import Debounce, Immediate, Policy, Polling, RateLimit, Throttle, Window
from sim.virtual.theory import debounce, max_wait, policies
from sim.virtual.theory.domain import positive

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def predict(policy: Policy, rate: float) -> dict[str, float]:
    """Metric -> value for one page under Poisson updates at `rate` per second, where nothing but the policy takes time.

    Always `refetch_rate` (1/s), `refetches_per_update`, `time_to_due_mean` (s); where known in closed form also
    `time_to_due_p50`, `_p95`, `_p99`, `stale_fraction`, `sync_age_mean`, `age_mean`, `age_peak_mean` (s). Jitter adds its mean
    to every mean but not to the quantiles, so it is refused. Raises `BadInput` for a policy that has no closed form: simulate
    it.
    """
    positive(rate=rate)
    if policy.jitter:
        raise BadInput("policy.jitter: the closed forms are for policies without jitter: simulate, or set it to 0")
    match policy:
        case Immediate():
            found = _debounced(rate, 0.0)
        case Debounce(wait=wait, leading=False, trailing=True, max_wait=None):
            found = _debounced(rate, wait)
        case Debounce(wait=wait, leading=False, trailing=True, max_wait=cap, timing="lodash") if cap is not None:
            capped = max_wait.lodash_max_wait(rate, wait, cap)
            found = {"refetch_rate": capped.refetch_rate, "time_to_due_mean": capped.delay_mean}
        case Debounce(wait=wait, leading=True, trailing=False, max_wait=None):
            found = {
                "refetch_rate": debounce.leading_refetch_rate(rate, wait),
                "time_to_due_mean": debounce.leading_delay_mean(rate, wait),
                "age_mean": debounce.leading_age_mean(rate, wait),
            }
        case Debounce(wait=wait, leading=True, trailing=True, max_wait=None):
            found = {
                "refetch_rate": debounce.both_edges_refetch_rate(rate, wait),
                "time_to_due_mean": debounce.both_edges_delay_mean(rate, wait),
                "age_mean": debounce.both_edges_age_mean(rate, wait),
            }
        case Window(wait=wait):
            found = {
                "refetch_rate": policies.window_refetch_rate(rate, wait),
                "time_to_due_mean": policies.window_delay_mean(rate, wait),
                "stale_fraction": policies.window_stale_fraction(rate, wait),
                "age_mean": policies.window_age_mean(rate, wait),
            } | {f"time_to_due_{name}": policies.window_delay_quantile(q, rate, wait) for name, q in QUANTILES.items()}
        case RateLimit(wait=wait):
            found = {
                "refetch_rate": policies.limiter_refetch_rate(rate, wait),
                "time_to_due_mean": policies.limiter_delay_mean(rate, wait),
                "age_mean": policies.limiter_age_mean(rate, wait),
            }
        case Polling(interval=interval, mode="overlap" | "cancel"):
            found = {
                "refetch_rate": policies.polling_refetch_rate(interval),
                "time_to_due_mean": policies.grid_delay_mean(interval),
                "stale_fraction": policies.grid_stale_fraction(rate, interval),
                "sync_age_mean": policies.grid_sync_age(rate, interval),
                "age_mean": policies.grid_age_mean(rate, interval),
            } | {f"time_to_due_{name}": policies.grid_delay_quantile(q, interval) for name, q in QUANTILES.items()}
        case Throttle():
            raise BadInput("policy.kind: throttle's timers have no closed form: simulate it, or take rate_limit or window")
        case _:
            raise BadInput(f"policy: no closed form for {policy!r}: simulate it")
    found["refetches_per_update"] = found["refetch_rate"] / rate
    return found


def _debounced(rate: float, wait: float) -> dict[str, float]:
    return {
        "refetch_rate": debounce.trailing_refetch_rate(rate, wait),
        "time_to_due_mean": debounce.trailing_delay_mean(rate, wait),
        "stale_fraction": debounce.trailing_stale_fraction(rate, wait),
        "sync_age_mean": debounce.trailing_sync_age(rate, wait),
        "age_mean": debounce.trailing_age_mean(rate, wait),
        "age_peak_mean": debounce.trailing_age_peak(rate, wait),
    } | {f"time_to_due_{name}": debounce.trailing_delay_quantile(q, rate, wait) for name, q in QUANTILES.items()}
