"""Instant answers: what a policy does to Poisson updates, under the metric names of a run's summary."""

from __future__ import annotations

from sim.errors import BadInput
from sim.policy import Debounce, Immediate, Policy, Polling, RateLimit, Throttle, Window
from sim.virtual.theory import debounce, max_wait, policies
from sim.virtual.theory.domain import positive

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def predict(policy: Policy, rate: float) -> dict[str, float]:
    """Metric -> value for one page under Poisson updates at `rate` per second, where nothing but the policy takes time.

    Names and units are those of a run's summary: always `refetch_rate.mean` (1/s), `refetches_per_update`, `time_to_fresh.mean`
    (s); where known in closed form also `time_to_fresh.p50`, `.p95`, `.p99`, `stale_ratio`, `age_of_information.mean`, `.peak`,
    `age_of_synchronisation.mean`. Raises `BadInput` for a policy that has no closed form, or with jitter: simulate it.
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
            found = {"refetch_rate.mean": capped.refetch_rate, "time_to_fresh.mean": capped.delay_mean}
        case Debounce(wait=wait, leading=True, trailing=False, max_wait=None):
            found = {
                "refetch_rate.mean": debounce.leading_refetch_rate(rate, wait),
                "time_to_fresh.mean": debounce.leading_delay_mean(rate, wait),
                "age_of_information.mean": debounce.leading_age_mean(rate, wait),
            }
        case Debounce(wait=wait, leading=True, trailing=True, max_wait=None):
            found = {
                "refetch_rate.mean": debounce.both_edges_refetch_rate(rate, wait),
                "time_to_fresh.mean": debounce.both_edges_delay_mean(rate, wait),
                "age_of_information.mean": debounce.both_edges_age_mean(rate, wait),
            }
        case Window(wait=wait):
            found = {
                "refetch_rate.mean": policies.window_refetch_rate(rate, wait),
                "time_to_fresh.mean": policies.window_delay_mean(rate, wait),
                "stale_ratio": policies.window_stale_fraction(rate, wait),
                "age_of_information.mean": policies.window_age_mean(rate, wait),
            } | {f"time_to_fresh.{name}": policies.window_delay_quantile(q, rate, wait) for name, q in QUANTILES.items()}
        case RateLimit(wait=wait):
            found = {
                "refetch_rate.mean": policies.limiter_refetch_rate(rate, wait),
                "time_to_fresh.mean": policies.limiter_delay_mean(rate, wait),
                "age_of_information.mean": policies.limiter_age_mean(rate, wait),
            }
        case Polling(interval=interval, mode="overlap" | "cancel"):
            found = {
                "refetch_rate.mean": policies.polling_refetch_rate(interval),
                "time_to_fresh.mean": policies.grid_delay_mean(interval),
                "stale_ratio": policies.grid_stale_fraction(rate, interval),
                "age_of_synchronisation.mean": policies.grid_sync_age(rate, interval),
                "age_of_information.mean": policies.grid_age_mean(rate, interval),
            } | {f"time_to_fresh.{name}": policies.grid_delay_quantile(q, interval) for name, q in QUANTILES.items()}
        case Throttle():
            raise BadInput("policy.kind: throttle's timers have no closed form: simulate it, or take rate_limit or window")
        case _:
            raise BadInput(f"policy: no closed form for {policy!r}: simulate it")
    found["refetches_per_update"] = found["refetch_rate.mean"] / rate
    return found


def _debounced(rate: float, wait: float) -> dict[str, float]:
    return {
        "refetch_rate.mean": debounce.trailing_refetch_rate(rate, wait),
        "time_to_fresh.mean": debounce.trailing_delay_mean(rate, wait),
        "stale_ratio": debounce.trailing_stale_fraction(rate, wait),
        "age_of_synchronisation.mean": debounce.trailing_sync_age(rate, wait),
        "age_of_information.mean": debounce.trailing_age_mean(rate, wait),
        "age_of_information.peak": debounce.trailing_age_peak(rate, wait),
    } | {f"time_to_fresh.{name}": debounce.trailing_delay_quantile(q, rate, wait) for name, q in QUANTILES.items()}
