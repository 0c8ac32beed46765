"""The embedded target: broadcaster and application processes under one parent, started together and stopped together.

`workbench serve` is this in the foreground; other programs use it as a context manager:

>>> with embedded_target(scenario) as serving:
...     drive(serving.target)

The parent starts the broadcaster, makes the database meanwhile, starts the application process(es), and waits until all of
them accept. Leaving the block stops all, in the other order, and removes the temporary database. Nothing is left behind, also
when the parent is killed outright (the kernel ends the children then).
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sim.clock import SECOND
from sim.errors import BadInput, WorkbenchError
from sim.live.broadcaster.settings import BroadcasterSettings, Timing
from sim.live.processes import Child, python, stop_all
from sim.live.sockets import bound, bound_later, this_machine_alone
from sim.pusher import auth
from sim.pusher.server.apps import App
from sim.scenario import Broadcast, Broadcaster, Fleet, Scenario, to_dict
from sim.target import Account, Target

PATIENCE = 20.0
"""Seconds in which every process must accept connections."""

REVERB_REQUEST_SIZE = 10_000
MAX_RESOURCE = 64_000
"""A server page with many rules and steps, as JSON within JSON; bytes."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve; what to serve (fleet, broadcast, api) is the scenario's."""

    host: str = "127.0.0.1"
    api_port: int = 8000
    """0: any free one; the broadcaster's likewise."""
    reverb_port: int = 8080
    database: str | None = None
    """None: an SQLite file in a temporary directory, removed at the end."""
    redis: str | None = None
    """Redis URL: the broadcaster nodes' bus, and the application's queue and cache."""
    nodes: int = 1
    processes: int = 1
    """Application processes that share the port (SO_REUSEPORT)."""
    members: bool = False
    outcomes: Path | None = None
    """File for what became of each event (`sim.live.application.main`); None: nobody asks."""
    provision: int = 0
    """Servers that are being provisioned all the time, in the first application process."""
    trace: str = "stack"
    speed: float = 1.0
    app_id: str = ""
    key: str = ""
    secret: str = ""
    """Credentials of the app; empty: made up."""


@dataclass(slots=True)
class Serving:
    """The running target. Its parts can be taken down and brought up again where they were, and be hindered: what a load test's
    incidents do (`sim.live.measure.incidents`)."""

    target: Target
    notes: list[str] = field(default_factory=list)
    """What the user should know, for example that an existing database was used as it is."""
    parts: dict[str, list[Child]] = field(default_factory=dict)
    """Part -> its processes, in the order in which they were started."""
    _start: dict[str, Callable[[], list[Child]]] = field(default_factory=dict, repr=False)
    _down: set[str] = field(default_factory=set, repr=False)
    """Parts that were taken down and not brought up yet."""
    _scratch: Path = field(default=Path(), repr=False)
    _read: dict[str, int] = field(default_factory=dict, repr=False)
    """How far each log was read by `said`."""

    @property
    def pids(self) -> dict[str, int]:
        """Process name -> pid, for sampling."""
        return {child.name: child.pid for child in self._children}

    def ended(self) -> list[Child]:
        """Processes that are gone though nobody has stopped them."""
        return [
            child
            for part, children in self.parts.items()
            for child in children
            if part not in self._down and child.exit_code is not None
        ]

    def require_alive(self) -> None:
        """Raise `WorkbenchError` when one of the processes has ended."""
        for child in self.ended():
            child.require_alive()

    def complaints(self) -> list[str]:
        """What the processes have complained of since the last call, a line each."""
        lines = []
        for child in self._children:
            with child.log.open(encoding="utf-8", errors="replace") as log:
                log.seek(self._read.get(child.name, 0))
                # The one line that a broadcaster writes when all is well begins so.
                lines += [f"{child.name}: {line}" for line in log.read().splitlines() if not line.startswith('{"host"')]
                self._read[child.name] = log.tell()
        return lines

    def bring_up(self, part: str) -> None:
        """Start a part (`broadcaster`, `application`) where it was; what is left of it is killed first."""
        for child in self.parts.get(part, []):
            child.stop(0)
            self._ready(child).unlink(missing_ok=True)
        self.parts[part] = self._start[part]()
        self._down.discard(part)

    def take_down(self, part: str, number: int) -> None:
        """Send the signal to a part; returns at once."""
        self._down.add(part)
        for child in self.parts[part]:
            child.ask_to_stop(number)

    def is_up(self, part: str) -> bool:
        """Whether all processes of a part accept."""
        return part not in self._down and all(self._ready(child).exists() for child in self.parts[part])

    def wait_until_up(self) -> None:
        """Until all processes accept. Raises `WorkbenchError` with the last words of one that ends before."""
        deadline = time.monotonic() + PATIENCE
        for child in self._children:
            while not self._ready(child).exists():
                child.require_alive()
                if time.monotonic() > deadline:
                    raise WorkbenchError(f"{child.name} did not accept connections within {PATIENCE:g} s: {child.last_words()}")
                time.sleep(0.01)

    def disconnect(self, share: float) -> int:
        """The broadcaster drops a share of its connections, chosen at random; returns how many, 0 where it does not answer."""
        path = f"/apps/{self.target.app_id}/connections"
        body = json.dumps({"share": share}).encode()
        query = auth.sign_request(self.target.key, self.target.secret, "DELETE", path, {}, body, time.time_ns() // SECOND)
        connection = http.client.HTTPConnection(self.target.host, self.target.port, timeout=5.0)
        try:
            connection.request("DELETE", f"{path}?{query}", body, {"Content-Type": "application/json"})
            return int(json.loads(connection.getresponse().read())["dropped"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return 0
        finally:
            connection.close()

    def control(self, **members: Any) -> None:
        """Tell each application process one of its controls (`sim.live.application.main`): outage, slowdown, asset_version."""
        for child in self.parts["application"]:
            child.tell(json.dumps(members), more=True)

    @property
    def _children(self) -> list[Child]:
        return [child for children in self.parts.values() for child in children]

    def _ready(self, child: Child) -> Path:
        return self._scratch / f"{child.name}.ready"

    def stop(self) -> None:
        """Applications first, so that what they still publish reaches a broadcaster."""
        for part in ("application", "broadcaster"):
            stop_all(self.parts.get(part, []))


@contextlib.contextmanager
def embedded_target(scenario: Scenario | None = None, options: Options | None = None) -> Iterator[Serving]:
    """Serve *scenario* while the block runs. Ports default to free ones. Raises `BadInput` for a port in use or a database
    that cannot be used, `WorkbenchError` when a process does not come up."""
    scenario = scenario or Scenario()
    options = options or Options(api_port=0, reverb_port=0)
    scratch = Path(tempfile.mkdtemp(prefix="workbench-"))
    serving = Serving(Target(options.host, 0, "http", "", "", ""), _scratch=scratch)
    try:
        _start(serving, scenario, options, scratch)
        yield serving
    finally:
        serving.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def _start(serving: Serving, scenario: Scenario, options: Options, scratch: Path) -> None:
    if options.database is not None:
        from sim.brokeforge.domain.database import parse_url

        parse_url(options.database)
    # Ports first: they are what fails most often, and then nothing has been started or made.
    with contextlib.ExitStack() as reserved:
        api_port = reserved.enter_context(_reserve(options.host, options.api_port, "--api-port"))
        reverb_port = reserved.enter_context(_reserve(options.host, options.reverb_port, "--reverb-port"))
        serving.target = Target(
            host=options.host,
            port=reverb_port,
            scheme="http",
            app_id=options.app_id or str(secrets.randbelow(900_000) + 100_000),
            key=options.key or secrets.token_hex(10),
            secret=options.secret or secrets.token_hex(16),
            api=f"http://{bracketed(options.host)}:{api_port}",
        )
    # The reservations are given up only now, just before the processes take the ports.
    broadcaster = partial(_broadcaster, serving.target, scenario, options, scratch)
    serving._start["broadcaster"] = lambda: [broadcaster()]
    serving.bring_up("broadcaster")
    url = options.database if options.database is not None else f"sqlite:///{scratch / 'workbench.sqlite'}"
    users = prepare_database(url, scenario, serving.notes, volatile=options.database is None)
    serving.target = replace(serving.target, users=users)
    serving._start["application"] = partial(_applications, serving.target, api_port, url, scenario, options, scratch)
    serving.bring_up("application")
    serving.wait_until_up()


def prepare_database(url: str, scenario: Scenario, notes: list[str], volatile: bool = False) -> tuple[Account, ...]:
    """Make the tables and, in an empty database, the scenario's fleet; the users that there are then. Raises `BadInput`."""
    # Here and not above: SQLAlchemy, for which a load test of another target need not wait, nor the broadcaster that starts now.
    from sim.brokeforge.domain import fleet as sample
    from sim.brokeforge.domain.database import Database

    database = Database(url, volatile=volatile)
    try:
        try:
            database.prepare()
        except TypeError as error:
            raise BadInput(f"--database: its driver refuses a parameter of the URL: {error}") from error
        with database.sessions.begin() as session:
            rows = sample.listed_users(session)
            if not rows:
                sample.seed(session, scenario.fleet, scenario.seed, time.time_ns() // 1_000)
                rows = sample.listed_users(session)
            elif not volatile and not _is(scenario.fleet, rows):
                notes.append(f"the database already holds {len(rows)} users and is used as it is")
    finally:
        database.close()
    return tuple(Account(r["id"], r["token"], tuple(r["servers"]), tuple(r["sites"])) for r in rows)


def _is(fleet: Fleet, rows: list[dict[str, Any]]) -> bool:
    return (
        len(rows) == fleet.users
        and sum(len(r["servers"]) for r in rows) == fleet.servers
        and sum(len(r["sites"]) for r in rows) == fleet.users * fleet.sites_per_user
    )


def _broadcaster(target: Target, scenario: Scenario, options: Options, scratch: Path) -> Child:
    """The broadcaster; with several nodes it starts the others itself, and stops them."""
    settings = BroadcasterSettings(
        apps=(App(target.app_id, target.key, target.secret, allowed_origins=origins(target.host)),),
        host=target.host,
        port=target.port,
        nodes=max(options.nodes, scenario.broadcaster.nodes),
        redis=options.redis or "",
        max_request_size=request_size(scenario.broadcast),
        faithful=scenario.broadcaster.model == "reverb",
        timing=timing_of(scenario),
    )
    child = Child(
        "broadcaster",
        python("-m", "sim.live.broadcaster", "--settings-from-stdin", "--ready-file", str(scratch / "broadcaster.ready")),
        scratch / "broadcaster.log",
        listens=True,
    )
    child.tell(settings.to_json())
    return child


def origins(host: str) -> tuple[str, ...]:
    """From where pages may connect. Where only this machine reaches the broadcaster, a page of anybody's that is open in a
    browser here must not; what is no browser sends no Origin, which counts as an empty host."""
    return ("localhost", "127.0.0.1", "[::1]", "::1", host, "") if this_machine_alone(host) else ("*",)


def timing_of(scenario: Scenario) -> Timing | None:
    """The time that the scenario's broadcaster takes; None: it is the embedded one with its own costs."""
    wanted = scenario.broadcaster
    if replace(wanted, nodes=1) == Broadcaster():
        return None
    costs = wanted.costs
    return Timing(
        fixed=costs.fixed,
        compose_per_subscriber=costs.compose_per_subscriber,
        per_subscriber=costs.between(scenario.extra_payload),
        answer=costs.answer,
        nagle=costs.nagle,
        keep_alive=costs.keep_alive,
    )


def request_size(broadcast: Broadcast) -> int:
    """Reverb's own limit for what the pattern sends; room for a full payload where one is asked for, bytes."""
    return REVERB_REQUEST_SIZE if broadcast.payload == "notify" else 2 * (MAX_RESOURCE + broadcast.payload_bytes)


def _applications(target: Target, port: int, url: str, scenario: Scenario, options: Options, scratch: Path) -> list[Child]:
    """The application's processes, on the database at *url*."""
    config = {
        "host": options.host,
        "port": port,
        "reuse_port": options.processes > 1,
        "database": url,
        "volatile": options.database is None,
        "broadcaster": {name: getattr(target, name) for name in ("host", "port", "app_id", "key", "secret")},
        "scenario": {"broadcast": to_dict(scenario.broadcast), "api": to_dict(scenario.api)},
        "members": options.members,
        "outcomes": str(options.outcomes) if options.outcomes else None,
        "redis": options.redis,
    }
    run = {"servers": options.provision, "trace": options.trace, "speed": options.speed}
    # One process runs the jobs, or each server would be provisioned several times over.
    jobs = [{"provision": run} if number == 0 and options.provision else {} for number in range(options.processes)]
    return [_application(config | more, scratch, number, options.processes) for number, more in enumerate(jobs)]


def _application(config: dict[str, Any], scratch: Path, number: int, of: int) -> Child:
    name = "application" if of == 1 else f"application-{number}"
    child = Child(name, python("-m", "sim.live.application"), scratch / f"{name}.log", listens=True)
    child.tell(json.dumps({**config, "ready": str(scratch / f"{name}.ready")}), more=True)
    return child


@contextlib.contextmanager
def _reserve(host: str, port: int, flag: str) -> Iterator[int]:
    """Hold *port* (0: a free one) for as long as the block runs. Raises `BadInput` that names the flag."""
    if not host:
        raise BadInput("--host: an empty address would be every address of this machine (say 0.0.0.0 where that is wanted)")
    try:
        held = bound(host, port) if port else bound_later(host)
    except OverflowError as error:
        raise BadInput(f"{flag} must be between 0 and 65535, got {port}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadInput(f"{flag} {port}: port is in use (choose another, or 0 for any free one)") from error
        raise BadInput(f"{flag} {port}: cannot listen on {host}: {error.strerror or error}") from error
    with held:
        # Bound but not listening: a bind alone does not hold the port against another that binds with SO_REUSEADDR.
        held.listen(1)
        yield held.getsockname()[1]


def bracketed(host: str) -> str:
    """A host as URLs have it."""
    return f"[{host}]" if ":" in host else host
