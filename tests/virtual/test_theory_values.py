"""The closed forms give the values that were worked out and checked independently (by runs and by other programs)."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

import sim.virtual.theory as theory
from sim.errors import BadInput
from sim.policy import Debounce, FullPayload, Immediate, Polling, RateLimit, Throttle, Window

# (updates/s, wait s): refetches/s, mean delay s, p95 s, as printed.
INSTANT = {
    (0.2, 0.1): "0.196, 0.10, 0.10",
    (0.2, 0.3): "0.188, 0.31, 0.34",
    (0.2, 0.5): "0.181, 0.53, 0.75",
    (0.2, 1.0): "0.164, 1.11, 1.80",
    (1, 0.1): "0.905, 0.11, 0.15",
    (1, 0.3): "0.741, 0.35, 0.58",
    (1, 0.5): "0.607, 0.65, 1.20",
    (1, 1.0): "0.368, 1.72, 3.69",
    (2, 0.1): "1.64, 0.11, 0.18",
    (2, 0.3): "1.10, 0.41, 0.79",
    (2, 0.5): "0.736, 0.86, 1.84",
    (2, 1.0): "0.271, 3.20, 8.10",
    (5, 0.1): "3.03, 0.13, 0.24",
    (5, 0.3): "1.12, 0.70, 1.65",
    (5, 0.5): "0.410, 2.24, 5.95",
    (5, 1.0): "0.0337, 29.5, 86.7",
    (10, 0.1): "3.68, 0.17, 0.37",
    (10, 0.3): "0.498, 1.91, 5.26",
    (10, 0.5): "0.0674, 14.7, 43.3",
    (10, 1.0): "4.5e-4, 2203, 6596",
    (20, 0.1): "2.71, 0.32, 0.81",
    (20, 0.3): "0.0496, 20.1, 59.8",
    (20, 0.5): "9.1e-4, 1101, 3298",
}


def printed(text):
    """What rounds to this text: within half a unit (and a little) of its last digit."""
    return pytest.approx(float(text), abs=0.55 * 10.0 ** Decimal(text).as_tuple().exponent)


@pytest.mark.parametrize("case", INSTANT)
def test_the_starvation_table(case):
    rate, mean, p95 = INSTANT[case].split(", ")
    assert theory.debounce.trailing_refetch_rate(*case) == printed(rate)
    assert theory.trailing_delay_mean(*case) == printed(mean)
    assert theory.debounce.trailing_delay_quantile(0.95, *case) == printed(p95)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda: theory.max_wait.lodash_max_wait(10, 0.5, 1).refetch_rate, "0.9939"),
        (lambda: theory.trailing_delay_mean(5, 0.5), "2.24"),
        (lambda: theory.trailing_delay_mean(0.1, 0.5), "0.51"),
        (lambda: theory.policies.limiter_refetch_rate(1, 0.5), "0.9037"),
        (lambda: theory.policies.limiter_refetch_rate(1, 1), "0.7311"),
        (lambda: theory.policies.limiter_refetch_rate(1, 2), "0.4683"),
        (lambda: theory.policies.limiter_refetch_rate(1, 3), "0.3279"),
        (lambda: theory.policies.limiter_refetch_rate(1, 5), "0.1997"),
        (lambda: theory.window_refetch_rate(1, 0.5), "0.6667"),
        (lambda: theory.window_refetch_rate(1, 5), "0.1667"),
        (lambda: theory.queueing.usl_peak(0.05, 0.0002), "68.92"),
    ],
)
def test_values_worked_out_elsewhere(value, expected):
    assert value() == printed(expected)


def scalable(n, contention, coherence):
    return n / (1 + contention * (n - 1) + coherence * n * (n - 1))


def test_the_usl_peak_is_the_best_whole_number():
    throughput = scalable(np.arange(1.0, 200.0), 0.05, 0.0002)
    assert 1 + int(np.argmax(throughput)) == 69


# --- special cases of each other ---------------------------------------------------------------------------------------


def test_a_cap_that_never_binds_changes_nothing():
    capped = theory.max_wait.lodash_max_wait(2.0, 0.4, 200.0)
    assert capped.refetch_rate == pytest.approx(theory.debounce.trailing_refetch_rate(2.0, 0.4), rel=1e-10)
    assert capped.delay_mean == pytest.approx(theory.trailing_delay_mean(2.0, 0.4), rel=1e-10)


@pytest.mark.parametrize("rate", [0.05, 0.9, 1.0, 1.0001, 2.5, 6.0])
def test_the_law_of_the_delay_has_its_mean(rate):
    """The integral of P(D > t), through the switch from series to tail, gives the closed mean."""
    edges = [0.0, *np.arange(1.0, 40.0), 60.0, 100.0, 300.0, 1000.0, 4000.0]
    law = [
        quad(lambda t: theory.debounce.trailing_delay_sf(t, rate, 1.0), a, b, epsabs=1e-9, limit=200)[0]
        for a, b in pairwise(edges)
    ]
    assert sum(law) == pytest.approx(theory.trailing_delay_mean(rate, 1.0), rel=3e-5)


def test_series_and_tail_meet():
    """Where both hold they agree: the switch between them cannot be seen."""
    from sim.virtual.theory.debounce import decay

    for rate in (0.8, 0.9995, 1.0, 1.0007, 3.0):
        theta, amplitude = decay(rate, 1.0)
        t = 5.9 / (rate * math.exp(-rate))
        assert theory.debounce.trailing_delay_sf(t, rate, 1.0) == pytest.approx(
            amplitude * math.exp(-theta * t), rel=1e-6, abs=1e-13
        )


def test_quantiles_invert_the_law():
    for rate, wait in [(0.4, 1.0), (1.0, 1.0), (10.0, 0.5)]:
        for q in (0.5, 0.9, 0.95, 0.999):
            t = theory.debounce.trailing_delay_quantile(q, rate, wait)
            expected = 1 - q if t > wait else theory.debounce.trailing_delay_sf(wait, rate, wait)
            assert theory.debounce.trailing_delay_sf(t, rate, wait) == pytest.approx(expected, rel=1e-7)
    assert theory.debounce.trailing_delay_quantile(0.3, 0.4, 1.0) == 1.0  # the atom: e**-0.4 of the updates wait exactly `wait`


def test_herds():
    assert theory.herd_response_mean(5, 2, 1.0) == pytest.approx((1 + 1 + 2 + 2 + 3) / 5)
    assert theory.jittered_herd_response_mean(100, 4, 0.1, 1.0) == pytest.approx(2.5 / 2 + 0.1)


def test_sizes():
    assert theory.break_even_payload(0.5, 100, 400) == pytest.approx(600)
    assert theory.break_even_payload(1.0, 100, 400) == math.inf
    assert theory.fanout_delay_last(1000, 1e-5) == pytest.approx(0.01)
    assert theory.fanout_delay_last(1000, 1e-5, rate=50, nodes=2) == pytest.approx(500e-5 + 50 * 0.005**2 / (2 * 0.75))
    assert theory.fanout_subscribers_max(10, 1e-5) == pytest.approx(10_000)
    assert theory.sizing.nodes_needed(10, 10_000, 1e-5, utilisation=0.5) == 2
    assert theory.retry_utilisation_max(3) == 0.25


def test_what_a_large_deployment_takes():
    whole = theory.Deployment(subscribers=1_000_000, rate=10.0, heard=1.0, per_subscriber=5e-6, relay=0.001, frame=300)
    assert (whole.deliveries, whole.bandwidth) == (1e7, 3e9)
    nodes = whole.nodes(utilisation=0.5)
    assert whole.utilisation(nodes) <= 0.5 < whole.utilisation(nodes - 1)
    assert (whole.bus_messages(nodes), whole.bus_messages(1)) == (10.0 * nodes, 0.0)
    own = theory.Deployment(subscribers=1_000_000, rate=10.0, heard=0.001, per_subscriber=5e-6, relay=0.001)
    assert own.nodes(utilisation=0.5) == 1
    # More nodes hear more of the bus than they save.
    with pytest.raises(BadInput, match="relay"):
        theory.Deployment(1000, rate=1000.0, heard=1.0, per_subscriber=1e-6, relay=0.001).nodes()
    back = whole.restart(nodes, handshake=0.001, workers=100, authorisation=0.002, channels=2, service=0.01)
    assert back.connected == pytest.approx(1000 / (nodes * (1 - whole.utilisation(nodes))))
    assert (back.authorised, back.fresh) == (pytest.approx(40), pytest.approx(140))
    assert whole.restart(nodes, 0.001, 100, 0.002, 2, 0.01, spread=300.0) == (300.0, 300.0, 300.0)
    with pytest.raises(BadInput, match="cannot take a restart"):
        whole.restart(10, 0.001, 100, 0.002, 2, 0.01)


def test_a_page_is_fresh_for_the_share_of_updates_that_it_refetches():
    rate, wait = 2.0, 0.9
    assert theory.debounce.trailing_stale_fraction(rate, wait) == pytest.approx(
        1 - theory.debounce.trailing_refetch_rate(rate, wait) / rate
    )
    assert theory.policies.window_stale_fraction(rate, wait) == pytest.approx(1 - theory.window_refetch_rate(rate, wait) / rate)


# --- behaviour of the functions themselves ------------------------------------------------------------------------------------


def test_arrays_broadcast_and_scalars_stay_scalars():
    rates, waits = np.array([[1.0], [2.0]]), np.array([0.1, 0.5, 1.0])
    grid = theory.trailing_delay_mean(rates, waits)
    assert grid.shape == (2, 3)
    assert grid[1, 2] == theory.trailing_delay_mean(2.0, 1.0)
    assert isinstance(theory.trailing_delay_mean(2.0, 1.0), float)


def test_beyond_what_a_float_holds_the_answer_is_infinite():
    assert theory.trailing_delay_mean(100.0, 60.0) == math.inf
    assert theory.debounce.trailing_delay_quantile(0.5, 100.0, 60.0) == math.inf
    assert theory.debounce.trailing_refetch_rate(100.0, 60.0) == 0.0


def test_no_wait_is_no_delay():
    assert theory.trailing_delay_mean(5.0, 0.0) == 0.0
    assert theory.debounce.trailing_delay_quantile(0.99, 5.0, 0.0) == 0.0
    assert theory.policies.window_delay_mean(5.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: theory.trailing_delay_mean(-1, 0.5), "rate"),
        (lambda: theory.trailing_delay_mean(math.nan, 0.5), "rate"),
        (lambda: theory.debounce.trailing_refetch_rate(1, -0.5), "wait"),
        (lambda: theory.debounce.trailing_delay_quantile(1.5, 1, 0.5), "q"),
        (lambda: theory.debounce.trailing_freshness_mean(1, 0.5, 0.1, read=0.2), "read"),
        (lambda: theory.max_wait.lodash_max_wait(1, 0.5, 0.9), "max_wait"),
        (lambda: theory.sizing.nodes_needed(1000, 10, 1e-5, relay=0.001), "relay"),
        (lambda: theory.predict(Throttle(), 1.0), "throttle"),
        (lambda: theory.predict(FullPayload(), 1.0), "closed form"),
        (lambda: theory.predict(Debounce(jitter=0.5), 1.0), "jitter"),
    ],
)
def test_outside_its_range_a_formula_says_so_in_one_line(call, names):
    with pytest.raises(BadInput, match=names) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "policy",
    [
        Immediate(),
        Debounce(wait=0.5),
        Debounce(wait=0.5, max_wait=1.0, timing="lodash"),
        Debounce(wait=0.5, leading=True, trailing=False),
        Debounce(wait=0.5, leading=True),
        Window(wait=0.5),
        RateLimit(wait=0.5),
        Polling(interval=2.0),
    ],
    ids=lambda policy: policy.kind,
)
def test_an_instant_answer_for_every_policy_that_has_one(policy):
    answer = theory.predict(policy, 2.0)
    assert answer["refetches_per_update"] == pytest.approx(answer["refetch_rate.mean"] / 2.0)
    assert answer["time_to_fresh.mean"] >= 0
    assert all(isinstance(value, float) and math.isfinite(value) for value in answer.values())


def test_every_public_formula_is_documented_and_exported():
    for name in theory.__all__:
        assert getattr(theory, name).__doc__, name


def test_the_usl_is_found_again_and_refused_where_the_data_cannot_tell():
    loads = np.array([1.0, 2, 4, 8, 16, 32, 64])
    found = theory.usl_fit(loads, 120 * scalable(loads, 0.05, 0.0002))
    assert np.allclose(found, (120, 0.05, 0.0002), rtol=1e-6)
    assert math.isclose(found.peak, theory.queueing.usl_peak(0.05, 0.0002), rel_tol=1e-5)
    assert theory.usl_fit(loads, 120 * scalable(loads, 0.05, 0.0)).peak == math.inf
    noisy = 120 * loads * np.array([1.01, 0.99, 1.01, 0.99, 1.01, 0.99, 1.0])
    for n, throughput, said in (
        (loads[:5], loads[:5], "6 different loads"),
        (100 + loads / 10, loads, "range of four times"),
        (loads, 0 * loads, "throughputs > 0"),
        (loads, 120 * loads, "in proportion"),
        (loads, noisy, "in proportion"),
        (loads, loads * np.array([1, 3, 1, 3, 1, 3, 1]), "does not describe"),
    ):
        with pytest.raises(BadInput, match=said):
            theory.usl_fit(n, throughput)
