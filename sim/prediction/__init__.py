"""From measured runs to predictions: what the runs say about a target's parameters, and the simulator with these.

    observations   a measured bundle, verified -> one row per event, refetch sizes, counters; nothing else is read from a run
    samples        observations -> columns that can be drawn again: events, own times of jobs, sizes
    estimates      samples -> values, each by the estimator that fits it
    fit            the whole: `Fit` with values, intervals, joint draws, and what the runs do not identify
    parameters     `Fit` itself: read, write, apply to a scenario, draw from
    predict        a `Fit` and a scenario -> figures with intervals, and how far outside the measured range they lie

Commands and `sim.experiments` may import it; it imports `sim.results` and `sim.virtual`, never a socket.
"""

from sim.prediction.parameters import Fit, Parameter, read
