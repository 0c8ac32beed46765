"""Pages as Locust users.

`EchoUser` is the base class with which a page of any application is a dozen lines:

    import os
    from loadtests.users import Debounce, EchoUser

    class OrderPage(EchoUser):
        host = "https://shop.example"                       # the application, as for every Locust user
        broadcaster = "wss://ws.shop.example/app/KEY"       # or the target of WORKBENCH_TARGET
        channels = ["private-orders.{id}"]
        refetch = "/api/orders/{id}"
        version = "data.updated_at"                         # where the answer says how new it is
        ids = range(1, 101)                                 # pages spread evenly over these
        token = os.environ.get("SHOP_TOKEN", "")
        policy = Debounce(wait=0.3)

        def on_event(self, event):                          # runs in the hub: must not block
            return event.name == "App\\\\Events\\\\OrderShipped"   # true: a reason to refetch

The page connects, authorises each private channel at the application, subscribes, refetches by its policy, and comes back after a
loss, all without a greenlet of its own; the user's greenlet is parked, or runs the `@task` methods that the class has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import gevent
from locust import User
from locust.contrib.fasthttp import FastHttpSession
from locust.user.task import LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING
from websockets.uri import parse_uri

from loadtests.client import auth as ways
from loadtests.client.http import Answer, split_url
from loadtests.client.page import Page, Seat
from loadtests.client.plant import Plant
from loadtests.client.reader import Event
from loadtests.client.spec import Spec
from loadtests.events import register
from sim.clock import Timer, ns
from sim.distributions import Distribution, residual
from sim.errors import BadInput, WorkbenchError
from sim.policy import Debounce, FullPayload, Immediate, InFlight, Policy, Polling, RateLimit, Throttle, Window
from sim.pusher.messages import PROTOCOL
from sim.target import Key, Keys, Target

logger = logging.getLogger(__name__)

Who = tuple[Key, str, Key]
"""User's id, bearer token, id of the resource shown; ids as the target writes them."""


def way_of(target: Target, credentials: Mapping[str, str] | None = None) -> ways.Auth:
    """By token, or by a session where users of the target log in; *credentials*: of one for everybody."""
    if credentials or any(user.login for user in target.users):
        return ways.Cookie(credentials, target.login.path, target.login.csrf, target.auth, target.page_origin)
    return ways.Bearer(target.auth)


def park(user: EchoUser) -> None:
    """The task of a page that has no tasks: nothing, until Locust kills it. As one that waits, so that a stop need not be."""
    user._state = LOCUST_STATE_WAITING
    gevent.get_hub().switch()


class EchoUser(User):
    """One page in one browser. Class attributes are its parameters; templates know `{id}`, `{user}` and `{n}`."""

    abstract = True
    tasks = [park]  # noqa: RUF012 (Locust collects it into the class)

    broadcaster: str = ""
    """WebSocket URL with the application key. Empty: the target's."""
    origin: str = ""
    """`Origin` header of the handshake, where the broadcaster looks at it; empty: the target's."""
    channels: Sequence[str] = ()
    """Names on the wire, that is with `private-`."""
    events: Iterable[str] = ()
    """Event names on the wire that count; empty: any."""
    refetch: str = ""
    """URL path of the resource; empty: nothing is refetched."""
    inertia: bool = False
    """The resource is an Inertia page; `version` is then a path within its page object, as `props.order.updated_at`."""
    only: Sequence[str] = ()
    """Props that it reloads; empty: all."""
    version: str = "version"
    """JSON path of the version in the answer: a whole number or an ISO 8601 time."""
    policy: Policy = Debounce()
    in_flight: InFlight = "overlap"
    http: Literal["pool", "per_subscriber"] = "pool"
    pool_size: int = 64
    timeout: float = 30.0
    headers: str = "Accept: application/json\r\n"
    """Complete header lines of every request to the application."""
    token: str = ""
    """Bearer token, where the target does not list users of its own."""
    ids: Sequence[Key] = ()
    """Ids of resources over which the pages spread evenly; empty: each page has its own, from 1."""
    owned: str = ""
    """List of the target's users that holds the ids, as `servers`; empty: `ids`."""
    auth: ways.Auth | None = None
    """None: by the token at `/broadcasting/auth`, or signed with the target's secret where there is no application."""
    fan_out_alone: bool = False
    """Nothing is asked of the application, though there is one: channels are signed for here, and nothing is refetched."""
    verify: bool = True
    """False: take any certificate."""
    behaviour: str = "good"
    """stop_reading, reconnect_loop, never_subscribe: what pages do that are broken."""
    session: Distribution | None = None
    """How long a page stays open; then the user opens another. None: for the whole test."""
    hidden: float = 0.0
    """Share of the pages in hidden tabs."""
    refetch_on_reconnect: bool = False
    """Refetch once the channels are subscribed again. Stock Echo does not; what came meanwhile then stays unseen."""
    label: str = ""
    """In Locust's table; empty: the class's name."""
    page: str = ""
    """What the page is called in the bundle; empty: the class's name."""
    resource: str = ""
    """What it shows: server, site, dashboard, or a foreign application's word."""

    _seat: Seat | None = None
    _leave: Timer | None = None
    _client: FastHttpSession | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = [task for task in cls.tasks if task is not park]
        cls.tasks = own or [park]

    # ---- for authors of pages

    def on_event(self, event: Event) -> Any:
        """Override: is *event* (`name`, `channel`, `data`) a reason to refetch? Runs in the hub; must not block."""
        return True

    def who(self, number: int) -> Who:
        """Override to decide whose page the *number*-th one of this process is, and what it shows."""
        identities = self._identities()
        if identities:
            return identities[self._place(number, len(identities))]
        ids = self.ids
        resource_id = ids[self._place(number, len(ids))] if ids else number * self.plant.workers + self.plant.worker + 1
        return 0, self.token, resource_id

    @classmethod
    def identities(cls, target: Target) -> list[Who]:
        """Override where the target's users and what they own decide; empty: `token` and `ids` do."""
        return []

    @property
    def client(self) -> FastHttpSession:
        """For tasks: Locust's own HTTP session, as `FastHttpUser` has it (`name`, `post`, `catch_response`, ...), with the page's
        headers. It has connections and cookies of its own. Made when it is asked for first: most pages have no tasks."""
        if self._client is None:
            target = self.plant.settings.target
            lines = self._seat.headers.decode("latin-1").split("\r\n") if self._seat else []
            self._client = FastHttpSession(
                base_url=self.host or (target.api if target else ""),
                request_event=self.environment.events.request,
                user=self,
                insecure=not self.verify,
                headers=dict(line.split(": ", 1) for line in lines if line),
            )
        return self._client

    def get(self, path: str) -> Answer:
        """From a task: GET *path* over the connections of the page's refetches, at a tenth of the cost of `client.get`. Waits,
        and counts in Locust's table."""
        answer = self.open_page.pool.fetch("GET", self.open_page.prefix + path, self.open_page.headers)
        failed = answer.status == 0 or answer.status >= 400
        self.open_page.timed("GET", path, answer, (answer.error or f"HTTP {answer.status}") if failed else "")
        return answer

    # ---- Locust's side

    def on_start(self) -> None:
        """Open the page. Returns at once unless the way to authorise has to log in first."""
        self.plant = plant = Plant.of(self.environment)
        spec = self._find_spec()
        if spec is None:
            self._state = LOCUST_STATE_STOPPING  # Raising StopUser here would be logged with a traceback for each user.
            return
        number = plant.number(type(self))
        user, token, resource_id = self.who(number)
        target = plant.settings.target
        given = [] if target is None else [line for line in target.headers if not (token and line[0].lower() == "authorization")]
        headers = self.headers + "".join(f"{name}: {value}\r\n" for name, value in given)
        headers += f"Authorization: Bearer {token}\r\n" if token else ""
        users, shown = self._numbers()
        logins = plant.logins
        if logins is None:
            logins = plant.logins = {u.id: u.login for u in target.users if u.login} if target else {}
        self._seat = Seat(
            number,
            users.number(user),
            shown.number(resource_id),
            headers.encode("latin-1"),
            keys=(user, resource_id),
            # Spread evenly, as the simulator does.
            hidden=int((number + 1) * self.hidden) > int(number * self.hidden),
            hook=None if type(self).on_event is EchoUser.on_event else self.on_event,
            login=() if token else logins.get(user, ()),
            renew=self._reopen,
        )
        self.open_page = Page(plant, spec, self._seat)
        spec.auth.prepare(self.open_page)
        self._seat.headers = self.open_page.headers  # A session outlives the page in which it began.
        plant.recorder.opened += 1
        plant.recorder.wanted += spec.subscribes
        plant.admit(self._open)

    def _open(self, release: Callable[[], None]) -> None:
        self.open_page.open(release)
        if self.session is not None:
            # The first page of a seat is met within its session, so that pages leave at an even rate from the beginning.
            later, rng = self.open_page.seat.later, self.plant.draws
            drawn = self.session.sample(rng, 1) if later else residual(self.session, rng, 1)
            stay = ns(float(drawn[0]))
            self._leave = self.plant.mux.call_at(self.plant.mux.now() + stay, self._reopen)

    def _reopen(self) -> None:
        """A page that is left is replaced at once, by another."""
        if self._leave is not None:
            self._leave.cancel()
        self.open_page.close()
        seat = self.open_page.seat
        seat.later = True
        self.open_page = Page(self.plant, self.plant.specs[type(self)], seat)
        self.plant.admit(self._open)

    def on_stop(self) -> None:
        plant = self.plant
        if self._seat is None:
            return
        plant.withdraw(self._open)
        if self._leave is not None:
            self._leave.cancel()
        if plant.over:
            self.open_page.stop()
        else:
            self.open_page.close()
        plant.recorder.opened -= 1
        plant.recorder.wanted -= plant.specs[type(self)].subscribes
        plant.recorder.subscribed -= self._seat.reached

    # ---- what all pages of the class share

    def _find_spec(self) -> Spec | None:
        """The spec of this class; None when its pages cannot be opened, which is said once."""
        plant, cls = self.plant, type(self)
        if cls not in plant.specs:
            # One for all: with one each, the tabs of a user would each log in for themselves.
            with plant.resolving:
                if cls not in plant.specs and cls not in plant.impossible:
                    self._try_spec(cls)
        return plant.specs.get(cls)

    def _try_spec(self, cls: type) -> None:
        try:
            self.plant.specs[cls] = self._make_spec()
        except (OSError, WorkbenchError) as error:
            self.plant.impossible.add(cls)
            logger.error("%s cannot be opened: %s", cls.__name__, error)
            self.environment.process_exit_code = BadInput.exit_code

    def _make_spec(self) -> Spec:
        plant, target = self.plant, self.plant.settings.target
        url = self.broadcaster or (target.websocket_url if target else "")
        if not url:
            raise BadInput("no broadcaster (set the class's broadcaster, or WORKBENCH_TARGET)")
        query = f"?protocol={PROTOCOL}&client=js&version=8.6.0&flash=false"
        uri = parse_uri(url if "?" in url else url + query)
        base, prefix = split_url("" if self.fan_out_alone else self.host or (target.api if target else ""))
        application = plant.origin(base, self.verify) if base != "://" else None
        name = type(self).__name__
        way = self.auth
        if way is None and target is not None:
            way = way_of(target) if application else ways.Signed(target.key, target.secret)
        label = self.label or name
        return Spec(
            kind=plant.recorder.kind(label, self.page or name, self.resource or name, self.refetch or label),
            channels=tuple(self.channels),
            events=frozenset(self.events),
            refetch=self.refetch if application else "",
            inertia=self.inertia,
            only=tuple(self.only),
            version_path=tuple(self.version.split(".")),
            policy=self.policy if application and self.refetch else FullPayload(),
            in_flight=self.in_flight,
            auth=way or ways.Bearer(),
            uri=uri,
            broadcaster=plant.origin(url.split("?")[0].partition("/app/")[0], self.verify),
            application=application,
            prefix=prefix,
            browser_origin=self.origin or (target.page_origin if target else ""),
            behaviour=self.behaviour,
            refetch_on_reconnect=self.refetch_on_reconnect,
            stamp=plant.stamp,
            pool=plant.pool(application, self.pool_size) if application and self.http == "pool" else None,
            timeout=self.timeout,
        )

    def _identities(self) -> list[Who]:
        known, cls, target = self.plant.identities, type(self), self.plant.settings.target
        if cls not in known:
            known[cls] = cls.identities(target) if target else []
        found: list[Who] = known[cls]
        return found

    def _numbers(self) -> tuple[Keys, Keys]:
        """For the tables: users, and what the pages of this class show."""
        known, cls = self.plant.numbers, type(self)
        if cls not in known:
            target = self.plant.settings.target
            users = target.keys("users") if target else Keys(())
            known[cls] = users, target.keys(self.owned) if target and self.owned else Keys(self.ids)
        found: tuple[Keys, Keys] = known[cls]
        return found

    def _place(self, number: int, among: int) -> int:
        """Workers begin at different places, so that together they spread as evenly as one would."""
        plant = self.plant
        return (number + plant.worker * among // plant.workers) % among


register()

__all__ = [
    "Debounce",
    "EchoUser",
    "Event",
    "FullPayload",
    "Immediate",
    "Polling",
    "RateLimit",
    "Throttle",
    "Window",
    "park",
]
