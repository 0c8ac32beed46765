"""Queues, herds and fan-out in closed form.

`rate` arrivals per second, `service_rate` per second and worker, times in seconds (second moments in s**2), `workers` c,
offered load a = rate E[S] in erlangs. Stationary results need a utilisation below 1 and raise `BadInput` beyond.

Sources: Kleinrock, Queueing Systems I (M/M/c, M/G/1); Chaudhry & Templeton (batch arrivals); Halfin & Whitt 1981; Gunther
(USL); Allen & Cunneen's approximation. All but the last three were checked against simulation and are exact.
"""

from __future__ import annotations

import math

from sim.virtual.theory.domain import elementwise, normal_cdf, not_negative, positive, second_moment, share, stable, whole

# --- many workers, one queue -------------------------------------------------------------------------------------------


@elementwise
def erlang_c(workers: int, load: float) -> float:
    """Probability that an arrival waits in M/M/c with offered load a = rate E[S] < c (Erlang C)."""
    whole(workers=workers)
    not_negative(load=load)
    stable(load / workers, "M/M/c")
    blocked = 1.0
    for k in range(1, int(workers) + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked / (1 - load / workers * (1 - blocked))


@elementwise
def mmc_wait_mean(workers: int, rate: float, service_rate: float) -> float:
    """Mean wait in the queue of M/M/c: C(c, a)/(c mu - rate)."""
    positive(service_rate=service_rate)
    return erlang_c(workers, rate / service_rate) / (workers * service_rate - rate)


@elementwise
def mmc_wait_sf(t: float, workers: int, rate: float, service_rate: float) -> float:
    """P(wait > t) of M/M/c: C(c, a) e**(-(c mu - rate) t)."""
    positive(service_rate=service_rate)
    not_negative(t=t)
    return erlang_c(workers, rate / service_rate) * math.exp(-(workers * service_rate - rate) * t)


@elementwise
def mmc_wait_quantile(q: float, workers: int, rate: float, service_rate: float) -> float:
    """The wait that a share q does not exceed in M/M/c; 0 where fewer wait at all."""
    positive(service_rate=service_rate)
    share(q=q)
    waits = erlang_c(workers, rate / service_rate)
    if q <= 1 - waits:
        return 0.0
    return math.log(waits / (1 - q)) / (workers * service_rate - rate) if q < 1 else math.inf


@elementwise
def allen_cunneen_wait_mean(
    workers: int, rate: float, service_mean: float, arrival_variation: float, service_variation: float
) -> float:
    """Mean wait of G/G/c, an **approximation**: M/M/c's times (ca**2 + cs**2)/2, the arguments being the squared coefficients
    of variation.

    At utilisation 0.8 with 8 workers: 6 % low for constant, 11 % high for log-normal (sigma 1) service.
    """
    positive(service_mean=service_mean)
    not_negative(arrival_variation=arrival_variation, service_variation=service_variation)
    return mmc_wait_mean(workers, rate, 1 / service_mean) * (arrival_variation + service_variation) / 2


@elementwise
def workers_for_wait(load: float, probability: float) -> float:
    """Fewest workers with which at most *probability* of the arrivals wait (Erlang C, exact for M/M/c)."""
    positive(load=load, probability=probability)
    share(probability=probability)
    low = math.floor(load) + 1
    blocked = 1.0
    for k in range(1, low):
        blocked = load * blocked / (k + load * blocked)
    workers = low
    while True:
        blocked = load * blocked / (workers + load * blocked)
        if blocked / (1 - load / workers * (1 - blocked)) <= probability:
            return workers
        workers += 1


@elementwise
def halfin_whitt_wait(beta: float) -> float:
    """P(wait) with c = R + beta sqrt(R) workers for large load R, an **approximation**: 1/(1 + beta Phi(beta)/phi(beta)).

    2 to 19 % low at R = 100, 0.2 to 2.3 % at R = 10,000; `erlang_c` is exact and costs nothing.
    """
    positive(beta=beta)
    density = math.exp(-beta * beta / 2) / math.sqrt(2 * math.pi)
    return density / (density + beta * normal_cdf(beta))


# --- one worker --------------------------------------------------------------------------------------------------------


@elementwise
def mg1_wait_mean(rate: float, service_mean: float, service_square: float) -> float:
    """Mean wait of M/G/1 (Pollaczek-Khinchine): rate E[S**2]/(2 (1 - rho))."""
    return batch_mg1_wait_mean(rate, 1.0, 1.0, service_mean, service_square)


@elementwise
def mg1_sharing_response(rate: float, service_mean: float) -> float:
    """Mean response of M/G/1 under processor sharing: E[S]/(1 - rho), whatever the law of service."""
    not_negative(rate=rate)
    positive(service_mean=service_mean)
    stable(rate * service_mean, "M/G/1-PS")
    return service_mean / (1 - rate * service_mean)


@elementwise
def batch_mg1_wait_mean(rate: float, batch_mean: float, batch_square: float, service_mean: float, service_square: float) -> float:
    """Mean wait of a random job in M^[X]/G/1 (herds of X at `rate` per second):
    rate E[X] E[S**2]/(2 (1 - rho)) + E[S] (E[X**2] - E[X])/(2 E[X] (1 - rho)), rho = rate E[X] E[S]."""
    not_negative(rate=rate)
    positive(batch_mean=batch_mean, service_mean=service_mean)
    second_moment(batch_mean, batch_square, "batch")
    second_moment(service_mean, service_square, "service")
    rho = rate * batch_mean * service_mean
    stable(rho, "M^[X]/G/1")
    own = rate * batch_mean * service_square / (2 * (1 - rho))
    return own + service_mean * (batch_square - batch_mean) / (2 * batch_mean * (1 - rho))


@elementwise
def batch_mmc_wait_mean(rate: float, batch: int, workers: int, service_rate: float) -> float:
    """Mean wait of a random job in M^[K]/M/c: herds of exactly K at `rate` per second. Exact.

    Cutting between j and j + 1 jobs: p[j+1] mu min(j+1, c) = rate (p[j-K+1] + ... + p[j]). Above c jobs the generating function
    is rational, so only p[0..c-1] are needed: with R(z) = sum over j < c of (c - j) p[j] z**j, normalised by R(1) = c - K
    rate/mu, the mean number in the system is (R'(1) + (rate/mu) K (K + 1)/2)/R(1); then Little.
    """
    positive(rate=rate, service_rate=service_rate)
    whole(batch=batch, workers=workers)
    batch, workers = int(batch), int(workers)
    load = rate * batch / service_rate
    stable(load / workers, "M^[K]/M/c")
    p, window = [1.0], 1.0
    for j in range(workers - 1):
        p.append(rate * window / (service_rate * (j + 1)))
        window += p[-1] - (p[j + 1 - batch] if j + 1 >= batch else 0.0)
        if window > 1e250:
            p, window = [value * 1e-250 for value in p], window * 1e-250
    total = sum((workers - j) * value for j, value in enumerate(p))
    slope = sum(j * (workers - j) * value for j, value in enumerate(p)) / total * (workers - load)
    jobs = (slope + rate / service_rate * batch * (batch + 1) / 2) / (workers - load)
    return (jobs - load) / (rate * batch)


# --- a herd: everybody at once -----------------------------------------------------------------------------------------


def mean_rank(size: int, workers: int) -> float:
    """Mean over k = 1 ... size of ceil(k/workers)."""
    full, rest = divmod(size, workers)
    return (workers * full * (full + 1) / 2 + rest * (full + 1)) / size


@elementwise
def herd_response_mean(size: int, workers: int, service: float) -> float:
    """X refetches at one instant on c idle workers, constant service, FIFO: mean response S * mean of ceil(k/c), about X S/2c."""
    whole(size=size, workers=workers)
    not_negative(service=service)
    return service * mean_rank(int(size), int(workers))


@elementwise
def herd_response_last(size: int, workers: int, service: float) -> float:
    """The last response of that herd: S ceil(X/c). While this is at most the debounce's wait, herds never overlap."""
    whole(size=size, workers=workers)
    not_negative(service=service)
    return service * math.ceil(size / workers)


@elementwise
def herd_sharing_response(size: int, workers: int, service: float) -> float:
    """The same herd under processor sharing: everybody at max(X/c, 1) S, twice FIFO's mean."""
    whole(size=size, workers=workers)
    not_negative(service=service)
    return service * max(size / workers, 1.0)


@elementwise
def herd_exponential_mean(size: int, workers: int, service_mean: float) -> float:
    """X refetches at one instant, exponential service: mean response (X - c)+(X - c + 1)/(2 X c mu) + 1/mu. FIFO and sharing
    alike."""
    whole(size=size, workers=workers)
    not_negative(service_mean=service_mean)
    over = max(size - workers, 0)
    return service_mean * (over * (over + 1) / (2 * size * workers) + 1)


@elementwise
def herd_exponential_last(size: int, workers: int, service_mean: float) -> float:
    """Mean of that herd's last response: (X - c)+/(c mu) + H/mu, H the harmonic number of min(X, c)."""
    whole(size=size, workers=workers)
    not_negative(service_mean=service_mean)
    harmonic = math.fsum(1 / k for k in range(1, int(min(size, workers)) + 1))
    return service_mean * (max(size - workers, 0) / workers + harmonic)


@elementwise
def jittered_herd_response_mean(size: int, workers: int, service: float, jitter: float) -> float:
    """Mean time from the fire to the answer when X refetches spread over `jitter` seconds: max(J, X S/c)/2 + S.

    Fluid law (0.6 % low at its worst, J = X S/c). Jitter never makes a herd fresher: up to J = X S/c it is free, beyond it costs.
    """
    whole(size=size, workers=workers)
    not_negative(service=service, jitter=jitter)
    return max(jitter, size * service / workers) / 2 + service


@elementwise
def jitter_for_utilisation(size: int, workers: int, service_mean: float, utilisation: float) -> float:
    """The jitter that spreads a herd of X to this utilisation while it lasts, seconds: X E[S]/(c rho)."""
    whole(size=size, workers=workers)
    not_negative(service_mean=service_mean)
    positive(utilisation=utilisation)
    return size * service_mean / (workers * utilisation)


@elementwise
def herd_timeout_share(size: int, workers: int, service: float, timeout: float) -> float:
    """Share of a herd's first attempts that time out: 1 - c tau/(N S), where positive. A herd can be the trigger of a retry
    storm."""
    whole(size=size, workers=workers)
    positive(service=service)
    not_negative(timeout=timeout)
    return max(0.0, 1 - workers * timeout / (size * service))


# --- fan-out: one sender, one subscriber after the other ---------------------------------------------------------------


@elementwise
def fanout_delay_mean(subscribers: int, per_subscriber: float, rate: float = 0.0, nodes: int = 1) -> float:
    """Mean time from publish to a subscriber's notification: (n + 1) d/2 with n = N/nodes, plus the wait behind earlier events
    (M/D/1) rate (n d)**2/(2 (1 - rate n d)). `per_subscriber` d in seconds, `rate` events per second (0: an idle
    broadcaster)."""
    n = _per_node(subscribers, nodes)
    not_negative(per_subscriber=per_subscriber, rate=rate)
    return (n + 1) * per_subscriber / 2 + _fanout_wait(n, per_subscriber, rate)


@elementwise
def fanout_delay_last(subscribers: int, per_subscriber: float, rate: float = 0.0, nodes: int = 1) -> float:
    """Mean time from publish to the last subscriber's notification: n d plus the wait behind earlier events."""
    n = _per_node(subscribers, nodes)
    not_negative(per_subscriber=per_subscriber, rate=rate)
    return n * per_subscriber + _fanout_wait(n, per_subscriber, rate)


def _per_node(subscribers: int, nodes: int) -> float:
    whole(subscribers=subscribers, nodes=nodes)
    return subscribers / nodes


def _fanout_wait(n: float, per_subscriber: float, rate: float) -> float:
    busy = rate * n * per_subscriber
    stable(busy, "fan-out")
    return rate * (n * per_subscriber) ** 2 / (2 * (1 - busy))


# --- scaling -----------------------------------------------------------------------------------------------------------


@elementwise
def usl_throughput(n: float, contention: float, coherence: float) -> float:
    """Gunther's universal scalability law, throughput relative to one: N/(1 + sigma (N - 1) + kappa N (N - 1))."""
    positive(n=n)
    not_negative(contention=contention, coherence=coherence)
    return n / (1 + contention * (n - 1) + coherence * n * (n - 1))


@elementwise
def usl_peak(contention: float, coherence: float) -> float:
    """The N at which that throughput is largest: sqrt((1 - sigma)/kappa)."""
    share(contention=contention)
    positive(coherence=coherence)
    return math.sqrt((1 - contention) / coherence)
