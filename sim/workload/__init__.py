"""What changes, and when: updates, arrival processes, provisioning scripts, recorded traces.

A workload is a frozen value; `workload.updates(rng, duration, servers, sites)` draws its updates, sorted by time:

>>> from sim.workload import Poisson, streams
>>> updates = Poisson(rate=2.0).updates(streams(1)["workload"], duration=60.0, servers=5)
>>> for at_ns, resource, resource_id, step, status in updates: ...

The same seed gives the same updates, bit for bit. In a scenario, `[workload]` names its kind:

    poisson        independent updates at a mean rate             constant       equal intervals, servers in turn
    bursty         on and off in turns                            mmpp           several rates, switching at random
    diurnal        a rate that swings like a day                  flash_crowd    climbs, holds, decays
    logs           lines of a log of few servers                  statuses       connection, monitoring, scheduler, supervisor
    instants       exactly these seconds                          mixture        several of these at once
    heard          what a live application was heard to change

    replay         recorded traces, at any speed                  provisioning   runs drawn from fitted durations
    deployments    sites deployed, in stages, with output         firewall       rules added, installed, updated, deleted
    packages       software installed and removed                 database       operations with progress, a task each
    tasks          the servers' tasks, each end broadcast whole

Rates of the first are in total or per server (`per`); the others go by `speed`, by machines in `parallel` or by new runs
`per_minute`.
"""

from sim.workload.arrivals import Arrivals, Bursty, Diurnal, FlashCrowd, Instants, Logs, Mmpp, Poisson, Regular, Statuses
from sim.workload.heard import BURST, Heard, heard
from sim.workload.mixture import Superposition, Workload
from sim.workload.scripts import Deployments, Provisioning, Replay, fit_steps, script_of
from sim.workload.traces import TRACE_DIR, Trace, Transition, load_trace, load_traces, trace_names
from sim.workload.updates import (
    ASPECTS,
    IN_ORDER,
    NEXT,
    NUMBERED,
    ON_DASHBOARD,
    RESOURCES,
    SITE_STATUS,
    STATUSES,
    Change,
    Resource,
    Status,
    Streams,
    Update,
    Updates,
    encode,
    streams,
    walk,
)
from sim.workload.work import DatabaseOperations, Firewall, Packages, Tasks
