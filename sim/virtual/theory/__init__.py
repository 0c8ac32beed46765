"""Closed forms of the notify -> debounce -> refetch loop: instant answers, and laws that both engines are tested against.

    debounce    trailing, leading, both edges under Poisson updates
    max_wait    the cap of a trailing debounce, as lodash counts it
    policies    window throttle, limiter, polling
    queueing    workers, herds, fan-out, the universal scalability law
    sizing      how many pages, workers, nodes; which payload; retries
    scale       beyond the fleet engine: the bus between nodes, restarts, memory, bandwidth
    answers     `predict(policy, rate)`: figures under the simulators' names

Seconds and events per second throughout. Scalars in, scalar out; arrays broadcast. Every function says where it holds and raises
`BadInput` elsewhere. Importing this costs NumPy only: SciPy is loaded by the few functions that need it.
"""

from __future__ import annotations

from sim.virtual.theory.answers import (
    predict,
)
from sim.virtual.theory.debounce import (
    both_edges_age_mean,
    both_edges_delay_mean,
    both_edges_refetch_rate,
    decay,
    leading_age_mean,
    leading_delay_mean,
    leading_refetch_rate,
    trailing_age_mean,
    trailing_age_peak,
    trailing_delay_mean,
    trailing_delay_quantile,
    trailing_delay_sf,
    trailing_freshness_mean,
    trailing_refetch_rate,
    trailing_stale_fraction,
    trailing_sync_age,
)
from sim.virtual.theory.max_wait import (
    Capped,
    lodash_max_wait,
)
from sim.virtual.theory.policies import (
    grid_age_mean,
    grid_delay_mean,
    grid_delay_quantile,
    grid_stale_fraction,
    grid_sync_age,
    limiter_age_mean,
    limiter_delay_mean,
    limiter_refetch_rate,
    polling_refetch_rate,
    window_age_mean,
    window_delay_mean,
    window_delay_quantile,
    window_refetch_rate,
    window_stale_fraction,
)
from sim.virtual.theory.queueing import (
    UniversalScalability,
    fanout_delay_last,
    herd_response_mean,
    jittered_herd_response_mean,
    response_knee,
    response_quantile,
    usl_fit,
    usl_peak,
    usl_throughput,
)
from sim.virtual.theory.scale import Deployment, Restart
from sim.virtual.theory.sizing import (
    Herd,
    break_even_payload,
    fanout_subscribers_max,
    nodes_needed,
    retry_utilisation_max,
    subscribers_within,
)

__all__ = [
    "Capped",
    "Deployment",
    "Herd",
    "Restart",
    "UniversalScalability",
    "both_edges_age_mean",
    "both_edges_delay_mean",
    "both_edges_refetch_rate",
    "break_even_payload",
    "decay",
    "fanout_delay_last",
    "fanout_subscribers_max",
    "grid_age_mean",
    "grid_delay_mean",
    "grid_delay_quantile",
    "grid_stale_fraction",
    "grid_sync_age",
    "herd_response_mean",
    "jittered_herd_response_mean",
    "leading_age_mean",
    "leading_delay_mean",
    "leading_refetch_rate",
    "limiter_age_mean",
    "limiter_delay_mean",
    "limiter_refetch_rate",
    "lodash_max_wait",
    "nodes_needed",
    "polling_refetch_rate",
    "predict",
    "response_knee",
    "response_quantile",
    "retry_utilisation_max",
    "subscribers_within",
    "trailing_age_mean",
    "trailing_age_peak",
    "trailing_delay_mean",
    "trailing_delay_quantile",
    "trailing_delay_sf",
    "trailing_freshness_mean",
    "trailing_refetch_rate",
    "trailing_stale_fraction",
    "trailing_sync_age",
    "usl_fit",
    "usl_peak",
    "usl_throughput",
    "window_age_mean",
    "window_delay_mean",
    "window_delay_quantile",
    "window_refetch_rate",
    "window_stale_fraction",
]
