"""Closed forms of the notify -> debounce -> refetch loop: instant answers, and laws that both engines are tested against.

    debounce    trailing, leading, both edges under Poisson updates
    max_wait    the cap of a trailing debounce, as lodash counts it
    policies    window throttle, limiter, polling
    queueing    workers, herds, fan-out, the universal scalability law
    sizing      how many pages, workers, nodes; which payload; retries
    scale       beyond the fleet engine: the bus between nodes, restarts, memory, bandwidth
    answers     `predict(policy, rate)`: figures under the simulators' names

What notebooks and commands ask for is named here; the rest is asked for by `predict`, and by tests from the modules.

Seconds and events per second throughout. Scalars in, scalar out; arrays broadcast. Every function says where it holds and raises
`BadInput` elsewhere. Importing this costs NumPy only: SciPy is loaded by the few functions that need it.
"""

from __future__ import annotations

from sim.virtual.theory.answers import predict
from sim.virtual.theory.debounce import trailing_delay_mean
from sim.virtual.theory.policies import polling_refetch_rate, window_refetch_rate
from sim.virtual.theory.queueing import (
    fanout_delay_last,
    herd_response_mean,
    jittered_herd_response_mean,
    response_knee,
    response_quantile,
    usl_fit,
)
from sim.virtual.theory.scale import Deployment
from sim.virtual.theory.sizing import break_even_payload, fanout_subscribers_max, herd_fresh_mean, retry_utilisation_max

__all__ = [
    "Deployment",
    "break_even_payload",
    "fanout_delay_last",
    "fanout_subscribers_max",
    "herd_fresh_mean",
    "herd_response_mean",
    "jittered_herd_response_mean",
    "polling_refetch_rate",
    "predict",
    "response_knee",
    "response_quantile",
    "retry_utilisation_max",
    "trailing_delay_mean",
    "usl_fit",
    "window_refetch_rate",
]
