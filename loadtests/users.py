"""Pages as Locust users.

`EchoUser` is the base class with which a page of any application is a dozen lines:

    import os
    from loadtests.users import Debounce, EchoUser

    class OrderPage(EchoUser):
        host = "https://shop.example"                       # the application, as for every Locust user
        broadcaster = "wss://ws.shop.example/app/KEY"       # without it: that of WORKBENCH_TARGET
        channels = ["private-orders.{id}"]
        refetch = "/api/orders/{id}"
        version = "data.updated_at"                         # where the answer says how new it is
        ids = range(1, 101)                                 # the pages spread evenly over these
        token = os.environ.get("SHOP_TOKEN", "")
        policy = Debounce(wait=0.3)

        def on_event(self, event):                          # runs in the hub, so it must not block
            return event.name == "App\\\\Events\\\\OrderShipped"   # true: a reason to refetch

The page connects, authorises each private channel at the application, subscribes, refetches by its policy, and comes back after a
loss. It needs no greenlet for that: the user's greenlet is parked, or runs the `@task` methods of the class.
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

from loadtests.attributes import check
from loadtests.client.auth import Auth, Bearer, Cookie, Signed
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

Identity = tuple[Key, str, Key]
"""User's id, bearer token, id of the resource shown; ids as the target writes them."""


def auth_of(target: Target, credentials: Mapping[str, str] | None = None) -> Auth:
    """How pages of *target* authorise: by session where users log in (*credentials*: one login for everybody), else by token."""
    if credentials or any(user.login for user in target.users):
        return Cookie(credentials, target.login.path, target.login.csrf, target.auth, target.page_origin)
    return Bearer(target.auth)


def park(user: EchoUser) -> None:
    """The task of a page without tasks: it does nothing until Locust kills it. Locust takes it for a user that waits between two
    tasks, and so does not wait for its end."""
    user._state = LOCUST_STATE_WAITING
    gevent.get_hub().switch()


class EchoUser(User):
    """One page in one browser. Class attributes are its parameters; channels and `refetch` may hold `{id}`, `{user}`, `{n}`."""

    abstract = True
    tasks = [park]  # noqa: RUF012 (Locust collects it into the class)

    broadcaster: str = ""
    """WebSocket URL with the application key. Empty: the target's."""
    origin: str = ""
    """`Origin` header of the handshake, for a broadcaster that checks it. Empty: the target's."""
    channels: Sequence[str] = ()
    """Names on the wire, so with `private-`."""
    events: Iterable[str] = ()
    """Event names on the wire that count; empty: any."""
    refetch: str = ""
    """URL path of the resource; empty: nothing is refetched."""
    inertia: bool = False
    """Whether the resource is an Inertia page. `version` is then a path in its page object, as `props.order.updated_at`."""
    only: Sequence[str] = ()
    """Props that an Inertia page reloads; empty: all."""
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
    """Bearer token, where the target lists no users."""
    ids: Sequence[Key] = ()
    """Ids of resources over which the pages spread evenly; empty: each page has its own, from 1."""
    owned: str = ""
    """The list of the target's users that holds the ids, as `servers`; empty: `ids`."""
    auth: Auth | None = None
    """None: by token at `/broadcasting/auth`, or signed with the target's secret where there is no application."""
    fan_out_alone: bool = False
    """True: the application, if there is one, gets no requests. Channels are signed here, and nothing is refetched."""
    verify: bool = True
    """False: accept any certificate."""
    behaviour: str = "good"
    """What a broken page does: stop_reading, reconnect_loop, never_subscribe."""
    session: Distribution | None = None
    """Seconds that a page stays open; then the user opens another one. None: for the whole test."""
    hidden: float = 0.0
    """Share of the pages in hidden tabs."""
    refetch_on_reconnect: bool = False
    """Refetch when the channels are subscribed again. Stock Echo does not, so what changed meanwhile stays unseen."""
    label: str = ""
    """The page's name in Locust's table; empty: the class's."""
    page: str = ""
    """The page's name in the bundle; empty: the class's."""
    resource: str = ""
    """What the page shows: server, site, dashboard, or the application's own word; empty: the class's name."""

    _seat: Seat | None = None
    _leave: Timer | None = None
    _client: FastHttpSession | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = [task for task in cls.tasks if task is not park]
        cls.tasks = own or [park]

    # ---- for authors of pages

    def on_event(self, event: Event) -> Any:
        """Override: whether *event* (`name`, `channel`, `data`) is a reason to refetch. Runs in the hub, so it must not block."""
        return True

    def who(self, number: int) -> Identity:
        """Override to choose user and resource of the *number*-th page of this process."""
        identities = self._identities()
        if identities:
            return identities[self._place(number, len(identities))]
        ids = self.ids
        resource_id = ids[self._place(number, len(ids))] if ids else number * self.plant.workers + self.plant.worker + 1
        return 0, self.token, resource_id

    @classmethod
    def identities(cls, target: Target) -> list[Identity]:
        """Override to take them from the target's users and what these own. Empty: from `token` and `ids`."""
        return []

    @property
    def client(self) -> FastHttpSession:
        """For tasks: Locust's own HTTP session, as `FastHttpUser` has it (`name`, `post`, `catch_response` ...), with the page's
        headers. It has connections and cookies of its own. It is made on first use, because most pages have no tasks."""
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
        """From a task: GET *path* over the connections of the page's refetches, at a tenth of the cost of `client.get`. It waits
        for the answer and counts in Locust's table."""
        answer = self.open_page.pool.fetch("GET", self.open_page.prefix + path, self.open_page.headers)
        failed = answer.status == 0 or answer.status >= 400
        self.open_page.timed("GET", path, answer, (answer.error or f"HTTP {answer.status}") if failed else "")
        return answer

    # ---- Locust's side

    def on_start(self) -> None:
        """Open the page. Returns at once, unless the user has to log in first."""
        self.plant = plant = Plant.of(self.environment)
        spec = self._find_spec()
        if spec is None:
            self._state = LOCUST_STATE_STOPPING  # Raising StopUser here would be logged with a traceback for each user.
            return
        self._seat = self._make_seat()
        self.open_page = Page(plant, spec, self._seat)
        spec.auth.prepare(self.open_page)
        self._seat.headers = self.open_page.headers  # The session goes on when the user opens another page.
        plant.recorder.opened += 1
        plant.recorder.wanted += spec.subscribes
        plant.admit(self._open)

    def _make_seat(self) -> Seat:
        plant, target = self.plant, self.plant.settings.target
        number = plant.number(type(self))
        user, token, resource_id = self.who(number)
        users, shown = self._numbers()
        if plant.logins is None:
            plant.logins = {u.id: u.login for u in target.users if u.login} if target else {}
        return Seat(
            number,
            users.number(user),
            shown.number(resource_id),
            self._header_lines(token).encode("latin-1"),
            keys=(user, resource_id),
            # Spread evenly, as the simulator does.
            hidden=int((number + 1) * self.hidden) > int(number * self.hidden),
            hook=None if type(self).on_event is EchoUser.on_event else self.on_event,
            login=() if token else plant.logins.get(user, ()),
            renew=self._reopen,
        )

    def _header_lines(self, token: str) -> str:
        """The class's, the target's, and the token; the page's own token replaces one that the target gives for all."""
        target = self.plant.settings.target
        given = [line for line in target.headers if not (token and line[0].lower() == "authorization")] if target else []
        own = [("Authorization", f"Bearer {token}")] if token else []
        return self.headers + "".join(f"{name}: {value}\r\n" for name, value in (*given, *own))

    def _open(self, release: Callable[[], None]) -> None:
        self.open_page.open(release)
        if self.session is not None:
            # The first page's session has begun before the test, so that pages leave at an even rate from the beginning.
            later, rng = self.open_page.seat.later, self.plant.draws
            drawn = self.session.sample(rng, 1) if later else residual(self.session, rng, 1)
            stay = ns(float(drawn[0]))
            self._leave = self.plant.mux.call_at(self.plant.mux.now() + stay, self._reopen)

    def _reopen(self) -> None:
        """The user leaves the page and opens another one at once."""
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
        """The spec of this class. None: its pages cannot be opened; one line of the log says why."""
        plant, cls = self.plant, type(self)
        with plant.resolving:  # Making it may wait. All pages share one, so that the tabs of a user log in once.
            if cls not in plant.specs and cls not in plant.impossible:
                try:
                    plant.specs[cls] = self._make_spec()
                except (OSError, WorkbenchError) as error:
                    plant.impossible.add(cls)
                    logger.error("%s cannot be opened: %s", cls.__name__, error)
                    self.environment.process_exit_code = BadInput.exit_code
        return plant.specs.get(cls)

    def _make_spec(self) -> Spec:
        check(self)
        plant, target = self.plant, self.plant.settings.target
        url = self.broadcaster or (target.websocket_url if target else "")
        if not url:
            raise BadInput("no broadcaster (set the class's broadcaster, or WORKBENCH_TARGET)")
        query = f"?protocol={PROTOCOL}&client=js&version=8.6.0&flash=false"
        uri = parse_uri(url if "?" in url else url + query)
        base, prefix = split_url("" if self.fan_out_alone else self.host or (target.api if target else ""))
        application = plant.origin(base, self.verify) if base != "://" else None
        if self.refetch and application is None and target is None:
            raise BadInput("no application to refetch from (set the class's host, or WORKBENCH_TARGET)")
        name = type(self).__name__
        auth = self.auth
        if auth is None and target is not None:
            auth = auth_of(target) if application else Signed(target.key, target.secret)
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
            auth=auth or Bearer(),
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

    def _identities(self) -> list[Identity]:
        known, cls, target = self.plant.identities, type(self), self.plant.settings.target
        if cls not in known:
            known[cls] = cls.identities(target) if target else []
        found: list[Identity] = known[cls]
        return found

    def _numbers(self) -> tuple[Keys, Keys]:
        """The numbers that the tables have for users, and for what the pages of this class show."""
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
