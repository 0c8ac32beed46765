"""The closed forms give the values that were worked out and checked independently (by runs and by other programs)."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from decimal import Decimal

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
    assert theory.trailing_refetch_rate(*case) == printed(rate)
    assert theory.trailing_delay_mean(*case) == printed(mean)
    assert theory.trailing_delay_quantile(0.95, *case) == printed(p95)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda: theory.textbook_max_wait(10, 0.5, 1).refetch_rate, "0.9189"),
        (lambda: theory.lodash_max_wait(10, 0.5, 1).refetch_rate, "0.9939"),
        (lambda: theory.lodash_max_wait(10, 0.5, 1).refetch_rate / theory.textbook_max_wait(10, 0.5, 1).refetch_rate, "1.082"),
        (lambda: theory.constant_interval_textbook(0.4, 1).refetch_rate, "0.8333"),
        (lambda: theory.constant_interval_lodash_rate(1), "1.0"),
        (lambda: theory.generic_refetch_rate(50, 0.1, 0.5), "0.410"),
        (lambda: theory.specific_refetch_rate(50, 0.1, 0.5), "4.756"),
        (lambda: theory.trailing_delay_mean(5, 0.5), "2.24"),
        (lambda: theory.trailing_delay_mean(0.1, 0.5), "0.51"),
        (lambda: theory.limiter_refetch_rate(1, 0.5), "0.9037"),
        (lambda: theory.limiter_refetch_rate(1, 1), "0.7311"),
        (lambda: theory.limiter_refetch_rate(1, 2), "0.4683"),
        (lambda: theory.limiter_refetch_rate(1, 3), "0.3279"),
        (lambda: theory.limiter_refetch_rate(1, 5), "0.1997"),
        (lambda: theory.window_refetch_rate(1, 0.5), "0.6667"),
        (lambda: theory.window_refetch_rate(1, 5), "0.1667"),
        (lambda: theory.md1_age(0.5, 1), "3.1487"),
        (lambda: theory.optimal_utilisation("mm1"), "0.531"),
        (lambda: theory.optimal_utilisation("md1"), "0.629"),
        (lambda: theory.optimal_utilisation("dm1"), "0.517"),
        (lambda: theory.update_or_wait([0, 2]).age, "1.828"),
        (lambda: theory.zero_wait_age(1, 2), "2.000"),
        (lambda: theory.mmc_wait_mean(8, 6.4, 1), "0.286"),
        (lambda: theory.usl_peak(0.05, 0.0002), "68.92"),
        (lambda: theory.load_against_polling(1, math.log(2)), "1.0"),
    ],
)
def test_values_worked_out_elsewhere(value, expected):
    assert value() == printed(expected)


def test_the_usl_peak_is_the_best_whole_number():
    throughput = theory.usl_throughput(np.arange(1.0, 200.0), 0.05, 0.0002)
    assert 1 + int(np.argmax(throughput)) == 69


@pytest.mark.parametrize(("load", "betas"), [(100, {0.5: 0.02, 2.0: 0.19}), (10_000, {0.5: 0.002, 2.0: 0.023})])
def test_square_root_staffing_is_low_by_the_known_amounts(load, betas):
    for beta, error in betas.items():
        exact = theory.erlang_c(round(load + beta * math.sqrt(load)), load)
        assert 1 - theory.halfin_whitt_wait(beta) / exact == pytest.approx(error, rel=0.35)


# --- special cases of each other ---------------------------------------------------------------------------------------


def test_mg1_age_reduces_to_its_special_cases():
    rate, mu = 0.6, 1.0
    exponential = theory.mg1_age(rate, 1 / mu, 2 / mu**2, mu / (mu + rate))
    assert exponential == pytest.approx(theory.mm1_age(rate, mu), rel=1e-12)
    assert theory.mg1_age(rate, 1 / mu, 1 / mu**2, math.exp(-rate / mu)) == pytest.approx(theory.md1_age(rate, mu), rel=1e-12)


def test_max_wait_equal_to_wait_is_the_window_throttle():
    for rate, wait in [(0.3, 1.0), (2.0, 0.7), (9.0, 0.5)]:
        capped = theory.textbook_max_wait(rate, wait, wait)
        assert capped.refetch_rate == pytest.approx(theory.window_refetch_rate(rate, wait), rel=1e-12)
        assert capped.delay_mean == pytest.approx(theory.window_delay_mean(rate, wait), rel=1e-12)


@pytest.mark.parametrize("form", [theory.textbook_max_wait, theory.lodash_max_wait])
def test_a_cap_that_never_binds_changes_nothing(form):
    capped = form(2.0, 0.4, 200.0)
    assert capped.refetch_rate == pytest.approx(theory.trailing_refetch_rate(2.0, 0.4), rel=1e-10)
    assert capped.delay_mean == pytest.approx(theory.trailing_delay_mean(2.0, 0.4), rel=1e-10)
    assert capped.forced == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("rate", [0.05, 0.9, 1.0, 1.0001, 2.5, 6.0])
def test_the_law_of_the_delay_has_its_mean_and_variance(rate):
    """Integrals of P(D > t), through the switch from series to tail, give the closed moments."""
    edges = [0.0, *np.arange(1.0, 40.0), 60.0, 100.0, 300.0, 1000.0, 4000.0]
    pieces = [
        [quad(lambda t, k=k: t**k * theory.trailing_delay_sf(t, rate, 1.0), a, b, epsabs=1e-9, limit=200)[0] for k in (0, 1)]
        for a, b in itertools.pairwise(edges)
    ]
    mean, half_square = np.sum(pieces, axis=0)
    assert mean == pytest.approx(theory.trailing_delay_mean(rate, 1.0), rel=3e-5)
    assert 2 * half_square - mean**2 == pytest.approx(theory.trailing_delay_variance(rate, 1.0), rel=3e-3)


def test_series_and_tail_meet():
    """Where both hold they agree: the switch between them cannot be seen."""
    from sim.virtual.theory.debounce import decay

    for rate in (0.8, 0.9995, 1.0, 1.0007, 3.0):
        theta, amplitude = decay(rate, 1.0)
        t = 5.9 / (rate * math.exp(-rate))
        assert theory.trailing_delay_sf(t, rate, 1.0) == pytest.approx(amplitude * math.exp(-theta * t), rel=1e-6, abs=1e-13)


@pytest.mark.parametrize("rate", [0.02, 0.9, 1.0, 3.0, 12.0])
def test_the_law_at_many_points_is_the_law_at_each(rate):
    from sim.virtual.theory.max_wait import survival

    t = np.array([0.0, 0.5, 0.9999, 1.0, 1.3, 2.0, 2.7, 9.0, 31.4, 500.0])
    assert survival(t, rate, 1.0) == pytest.approx(theory.trailing_delay_sf(t, rate, 1.0), abs=3e-11)
    assert survival(t[3:7], rate, 1.0) == pytest.approx(theory.trailing_delay_sf(t[3:7], rate, 1.0), abs=3e-11)


def test_the_transform_of_the_delay_is_the_transform_of_its_law():
    rate, wait, s = 1.7, 0.6, 0.9
    integral = sum(
        quad(lambda t: math.exp(-s * t) * theory.trailing_delay_sf(t, rate, wait), k * wait, (k + 1) * wait)[0]
        for k in range(120)
    )
    assert 1 - s * integral == pytest.approx(theory.trailing_delay_transform(s, rate, wait), rel=1e-9)


def test_quantiles_invert_the_law():
    for rate, wait in [(0.4, 1.0), (1.0, 1.0), (10.0, 0.5)]:
        for q in (0.5, 0.9, 0.95, 0.999):
            t = theory.trailing_delay_quantile(q, rate, wait)
            expected = 1 - q if t > wait else theory.trailing_delay_sf(wait, rate, wait)
            assert theory.trailing_delay_sf(t, rate, wait) == pytest.approx(expected, rel=1e-7)
    assert theory.trailing_delay_quantile(0.3, 0.4, 1.0) == 1.0  # the atom: e**-0.4 of the updates wait exactly `wait`


def test_renewal_forms_contain_poisson():
    rate, wait = 1.3, 0.8
    for gap in (theory.exponential_gap(1 / rate, wait), theory.erlang_gap(1 / rate, 1, wait)):
        assert theory.renewal_refetch_rate(gap) == pytest.approx(theory.trailing_refetch_rate(rate, wait), rel=1e-12)
        assert theory.renewal_delay_mean(gap, wait) == pytest.approx(theory.trailing_delay_mean(rate, wait), rel=1e-12)
    run = theory.run_delay_mean(10_000, theory.exponential_gap(1 / rate, wait), wait)
    assert run == pytest.approx(theory.trailing_delay_mean(rate, wait), rel=1e-3)


def test_regular_updates_starve_and_end_with_one_refetch():
    gap = theory.constant_gap(0.4, 0.5)
    assert theory.renewal_refetch_rate(gap) == 0.0
    assert theory.renewal_delay_mean(gap, 0.5) == math.inf
    assert theory.run_refetches(20, gap) == 1.0
    assert theory.run_delay_mean(20, gap, 0.5) == pytest.approx(19 * 0.4 / 2 + 0.5)
    assert theory.constant_gap(0.5, 0.5).shorter == 0.0  # exactly `wait` apart: the timer runs first


def test_one_worker_is_the_smallest_farm():
    assert theory.batch_mmc_wait_mean(0.5, 1, 1, 1.0) == pytest.approx(theory.mmc_wait_mean(1, 0.5, 1.0), rel=1e-12)
    assert theory.batch_mmc_wait_mean(1.0, 3, 1, 5.0) == pytest.approx(
        theory.batch_mg1_wait_mean(1.0, 3, 9, 0.2, 0.08), rel=1e-12
    )
    assert theory.mg1_wait_mean(0.5, 1.0, 2.0) == pytest.approx(theory.mmc_wait_mean(1, 0.5, 1.0), rel=1e-12)
    assert theory.mmc_wait_quantile(0.9, 4, 3, 1) == pytest.approx(
        math.log(theory.mmc_wait_sf(0, 4, 3, 1) / 0.1) / (4 - 3), rel=1e-12
    )
    assert theory.workers_for_wait(100.0, theory.erlang_c(120, 100.0)) == 120


def test_batches_on_many_workers_solve_their_balance_equations():
    """Against the whole chain, truncated where nothing is left: the shortcut through the generating function is exact."""
    rate, batch, workers, mu = 0.12, 7, 5, 0.3
    states = 4000
    p, window = np.zeros(states), 1.0
    p[0] = 1.0
    for j in range(states - 1):
        p[j + 1] = rate * window / (mu * min(j + 1, workers))
        window += p[j + 1] - (p[j + 1 - batch] if j + 1 >= batch else 0.0)
    p /= p.sum()
    waiting = float((np.maximum(np.arange(states) - workers, 0) * p).sum())
    assert theory.batch_mmc_wait_mean(rate, batch, workers, mu) == pytest.approx(waiting / (rate * batch), rel=1e-9)


def test_herds():
    assert theory.herd_response_mean(5, 2, 1.0) == pytest.approx((1 + 1 + 2 + 2 + 3) / 5)
    assert theory.herd_response_last(5, 2, 1.0) == 3.0
    assert theory.herd_sharing_response(5, 2, 1.0) == 2.5
    assert theory.herd_sharing_response(1, 2, 1.0) == 1.0
    assert theory.herd_exponential_mean(1, 4, 2.0) == 2.0
    assert theory.herd_exponential_last(3, 1, 2.0) == pytest.approx(6.0)
    assert theory.herd_timeout_share(100, 4, 0.1, 1.0) == pytest.approx(0.6)
    assert theory.jitter_for_utilisation(800, 8, 0.01, 0.9) == pytest.approx(10 / 9)
    assert theory.jittered_herd_response_mean(100, 4, 0.1, 1.0) == pytest.approx(2.5 / 2 + 0.1)


def test_sizes():
    assert theory.break_even_payload(0.5, 100, 400) == pytest.approx(600)
    assert theory.break_even_payload(1.0, 100, 400) == math.inf
    assert theory.fanout_delay_last(1000, 1e-5) == pytest.approx(0.01)
    assert theory.fanout_delay_mean(1000, 1e-5, rate=50, nodes=2) == pytest.approx(501e-5 / 2 + 50 * 0.005**2 / (2 * 0.75))
    assert theory.fanout_subscribers_max(10, 1e-5) == pytest.approx(10_000)
    assert theory.nodes_needed(10, 10_000, 1e-5, utilisation=0.5) == 2
    assert theory.attempts_per_request(0.5, 2) == pytest.approx(1.75)
    assert theory.attempts_per_request(1.0, 2) == 3.0
    assert theory.retry_load(0.5, 1) == 1.0
    assert theory.retry_utilisation_max(3) == 0.25
    assert theory.always_stable_subscribers(1.0, 16, 0.02) == pytest.approx(math.e * 800)
    within = theory.subscribers_within(3.6, 0.5, 1, 16, 0.02, 0.06)
    quantiles = [theory.herd_freshness_quantile(0.99, 0.5, 1, n, 16, 0.02, 0.06) for n in (within, within + 1)]
    assert quantiles[0] <= 3.6 + 1e-8 < quantiles[1]


# --- the laws over policies -----------------------------------------------------------------------------------------------


def test_no_policy_beats_the_bound_and_the_window_dominates_the_debounce():
    rate, r = 3.0, np.linspace(0.02, 0.98, 97)
    least = theory.least_delay_at_load(r, rate)
    window = theory.window_delay_at_load(r, rate)
    polling = theory.polling_delay_at_load(r, rate)
    trailing = theory.trailing_delay_at_load(r, rate)
    assert (least <= window).all()
    assert (window <= polling).all()
    assert (window <= trailing).all()
    assert trailing / least == pytest.approx(np.full(r.size, 2.0))
    assert ((trailing > polling) == (r < 0.5)).all()


def test_the_laws_agree_with_the_policies():
    rate, wait = 2.0, 0.9
    r = theory.trailing_refetch_rate(rate, wait) / rate
    assert theory.trailing_delay_at_load(r, rate) == pytest.approx(theory.trailing_delay_mean(rate, wait))
    assert theory.trailing_stale_fraction(rate, wait) == pytest.approx(1 - r)
    r = theory.window_refetch_rate(rate, wait) / rate
    assert theory.window_delay_at_load(r, rate) == pytest.approx(theory.window_delay_mean(rate, wait))
    assert theory.window_stale_fraction(rate, wait) == pytest.approx(1 - r)
    wait = theory.polling_crossover_wait(rate)
    r = theory.trailing_refetch_rate(rate, wait) / rate
    assert theory.polling_delay_at_load(r, rate) == pytest.approx(theory.trailing_delay_mean(rate, wait))


# --- behaviour of the functions themselves ------------------------------------------------------------------------------------


def test_arrays_broadcast_and_scalars_stay_scalars():
    rates, waits = np.array([[1.0], [2.0]]), np.array([0.1, 0.5, 1.0])
    grid = theory.trailing_delay_mean(rates, waits)
    assert grid.shape == (2, 3)
    assert grid[1, 2] == theory.trailing_delay_mean(2.0, 1.0)
    assert isinstance(theory.trailing_delay_mean(2.0, 1.0), float)


def test_beyond_what_a_float_holds_the_answer_is_infinite():
    assert theory.trailing_delay_mean(100.0, 60.0) == math.inf
    assert theory.trailing_delay_quantile(0.5, 100.0, 60.0) == math.inf
    assert theory.trailing_refetch_rate(100.0, 60.0) == 0.0


def test_no_wait_is_no_delay():
    assert theory.trailing_delay_mean(5.0, 0.0) == 0.0
    assert theory.trailing_delay_variance(5.0, 0.0) == 0.0
    assert theory.trailing_delay_quantile(0.99, 5.0, 0.0) == 0.0
    assert theory.window_delay_mean(5.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: theory.trailing_delay_mean(-1, 0.5), "rate"),
        (lambda: theory.trailing_delay_mean(math.nan, 0.5), "rate"),
        (lambda: theory.trailing_refetch_rate(1, -0.5), "wait"),
        (lambda: theory.trailing_delay_quantile(1.5, 1, 0.5), "q"),
        (lambda: theory.trailing_freshness_mean(1, 0.5, 0.1, read=0.2), "read"),
        (lambda: theory.textbook_max_wait(1, 0.5, 0.4), "max_wait"),
        (lambda: theory.lodash_max_wait(1, 0.5, 0.9), "max_wait"),
        (lambda: theory.mm1_age(1, 1), "utilisation"),
        (lambda: theory.erlang_c(4, 4), "utilisation"),
        (lambda: theory.erlang_c(0, 0.5), "workers"),
        (lambda: theory.mg1_wait_mean(0.5, 1, 0.5), "service_square"),
        (lambda: theory.herd_freshness_mean(1, 0.5, 1000, 1, 0.01), "overlap"),
        (lambda: theory.nodes_needed(1000, 10, 1e-5, relay=0.001), "relay"),
        (lambda: theory.update_or_wait([]), "responses"),
        (lambda: theory.optimal_utilisation("mmc"), "kind"),
        (lambda: theory.observed_gap(np.array([]), 1.0), "gaps"),
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


def test_the_import_is_cheap():
    """A notebook's kernel pays for NumPy; SciPy is loaded by the few functions that need it."""
    program = "import sys, sim.virtual.theory; print([m for m in ('scipy', 'pandas', 'numba', 'pyarrow') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
