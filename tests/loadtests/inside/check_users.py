"""What a class of pages becomes; where its pages go; what a scenario makes of it."""

import gc

import gevent
import pytest
from locust import task

from loadtests import pages
from loadtests.client.auth import Bearer, Cookie, Signed
from loadtests.client.http import Pool
from loadtests.settings import Settings
from loadtests.shapes import SHAPES, Shape, chosen, parameters, percentile
from loadtests.users import Debounce, EchoUser, park
from sim.distributions import Constant
from sim.errors import BadInput
from sim.policy import Polling
from sim.scenario import Broadcast, Pages, Scenario
from sim.target import Account, Target
from tests.loadtests.inside.fixtures import EVENTS
from tests.loadtests.peer import listening, request

TARGET = Target(
    "127.0.0.1", 1, "http", "1", "key", "secret", "http://127.0.0.1:1/base",
    (Account(1, "t1", (1, 2), (1,)), Account(2, "t2", (3,), ())),
)  # fmt: skip


class OrderPage(EchoUser):
    host = "http://127.0.0.1:1"
    broadcaster = "ws://127.0.0.1:1/app/KEY"
    channels = ("private-orders.{id}",)
    refetch = "/api/orders/{id}"
    version = "data.updated_at"
    ids = range(1, 5)
    token = "secret token"
    policy = Debounce(wait=0.3)

    def on_event(self, event):
        return event.name == "Shipped"


class Busy(OrderPage):
    @task
    def work(self):
        """Something of its own."""


class FakeEnvironment:
    def __init__(self, plant):
        self.stats, self.runner, self.parsed_options = plant.recorder.stats, None, None
        self.events = EVENTS


def test_a_page_without_tasks_parks_and_one_with_tasks_does_them():
    assert OrderPage.tasks == [park]
    assert [t.__name__ for t in Busy.tasks] == ["work"]


def test_a_page_of_a_few_lines_is_whole(plant):
    user = OrderPage(FakeEnvironment(plant))
    user.on_start()
    spec = plant.specs[OrderPage]
    assert spec.channels == ("private-orders.{id}",)
    assert spec.version_path == ("data", "updated_at")
    assert spec.uri.resource_name.startswith("/app/KEY?protocol=7")
    assert isinstance(spec.auth, Bearer)
    assert user.open_page.channels() == ["private-orders.1"]
    assert b"Authorization: Bearer secret token\r\n" in user.open_page.headers
    assert plant.recorder.opened == plant.recorder.wanted == 1
    user.on_stop()
    assert plant.recorder.opened == plant.recorder.wanted == 0
    assert not plant.pages


@pytest.mark.parametrize(
    ("attribute", "values"),
    [
        ("host", ["shop.example", "ftp://user:secret@shop.example", "http://127.0.0.1:99999", "http://:80", 5]),
        ("broadcaster", ["https://ws.shop.example/app/KEY", "ws.shop.example/app/KEY", "ws://user:secret@:1"]),
        (
            "channels",
            [
                "private-orders.{id}",
                ["private-orders.{order}"],
                ["private-orders.{"],
                ["{}"],
                ["{id.x}"],
                [""],
                [5],
                None,
                iter(["a"]),
            ],
        ),
        ("events", ["Shipped", None]),
        ("refetch", ["api/orders/{id}", "/api/{order}", None, 5]),
        ("policy", [0.3, Debounce, None]),
        ("in_flight", ["sometimes"]),
        ("http", ["pooled"]),
        ("pool_size", [0, 1.5, True]),
        ("timeout", [0, -1.0, "30"]),
        ("headers", ["Authorization: Bearer secret", None]),
        ("behaviour", ["bad"]),
        ("hidden", [-0.1, 1.5, "half"]),
    ],
)
def test_an_attribute_that_is_none_is_refused_in_a_line_without_its_secrets(plant, caplog, attribute, values):
    for value in values:
        page = type("Wrong", (OrderPage,), {attribute: value})
        for _ in range(2):
            page(FakeEnvironment(plant)).on_start()
        assert page not in plant.specs
    assert len(caplog.records) == len(values)
    assert all(f"Wrong cannot be opened: {attribute}" in line and "secret" not in line for line in caplog.messages)


def test_a_page_that_refetches_needs_an_application(plant, caplog):
    type("Homeless", (OrderPage,), {"host": None})(FakeEnvironment(plant)).on_start()
    assert "no application to refetch from" in caplog.text


def test_pages_that_open_together_share_what_their_class_has(plant, monkeypatch):
    made, make = [], OrderPage._make_spec

    def slowly(self):
        made.append(self)
        gevent.sleep(0.01)  # As while a name is resolved.
        return make(self)

    monkeypatch.setattr(OrderPage, "_make_spec", slowly)
    users = [OrderPage(FakeEnvironment(plant)) for _ in range(3)]
    for user in users:
        user.plant = plant
    found = gevent.joinall([gevent.spawn(user._find_spec) for user in users])
    assert len(made) == 1
    assert all(greenlet.value is plant.specs[OrderPage] for greenlet in found)


def test_who_leaves_is_replaced_by_another_page_on_the_same_seat(plant):
    class Restless(OrderPage):
        session = Constant(3600.0)
        hidden = 0.5

    users = [Restless(FakeEnvironment(plant)) for _ in range(4)]
    for user in users:
        user.on_start()
    assert [user.open_page.seat.hidden for user in users] == [False, True, False, True]
    user = users[1]
    before = user.open_page
    user._reopen()
    page = user.open_page
    assert page is not before
    assert (page.seat is before.seat, page.subscriber - before.subscriber) == (True, 3)
    assert page.headers == before.headers
    assert plant.recorder.opened == plant.recorder.wanted == 4
    plant.over = True
    for user in users:
        user.on_stop()
    assert not plant.pages


def test_tasks_have_locusts_own_client_with_the_page_s_headers(plant):
    heard = []

    def answer(connection, number):
        while received := request(connection):
            heard.append(received)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")

    with listening(answer) as port:

        class Shopper(OrderPage):
            host = f"http://127.0.0.1:{port}"

        user = Shopper(FakeEnvironment(plant))
        user.on_start()
        with user.client.post("/cart", json={"id": 5}, name="POST a cart", catch_response=True) as response:
            assert response.status_code == 404
            response.success()
        assert user.client is user.client
        user.client.get("/cart?id=5", name="/cart")
        user.on_stop()
    assert any(b"POST /cart" in text and b"Bearer secret token" in text and b'"id":' in text for text in heard)


def test_pages_spread_evenly_whoever_the_worker_is(plant):
    for worker, workers, places in ((0, 1, [1, 2, 3, 4, 1]), (1, 2, [3, 4, 1, 2, 3]), (3, 4, [4, 1, 2, 3, 4])):
        plant.worker, plant.workers = worker, workers
        user = OrderPage(FakeEnvironment(plant))
        user.plant = plant
        assert [user.who(n)[2] for n in range(5)] == places


def test_a_scenario_becomes_classes_with_its_weights():
    scenario = Scenario(pages=(Pages("detail", 30), Pages("detail", 10, Polling(2.0)), Pages("dashboard", 5), Pages("site", 0)))
    classes = pages.user_classes(Settings(scenario, TARGET))
    assert {name: cls.weight for name, cls in classes.items()} == {"DetailPage": 30, "DetailPage_2": 10, "Dashboard": 5}
    detail, polling, board = classes.values()
    assert detail.channels == ["private-servers.{id}"]
    assert detail.events == ["App\\Events\\ServerUpdated"]
    assert polling.channels == []
    assert board.channels == ["private-servers", "private-sites"]
    assert [identity[2] for identity in detail.identities(TARGET)] == [1, 2, 3]
    assert board.identities(TARGET) == [(1, "t1", 0), (2, "t2", 0)]
    assert detail.tasks == [park]
    assert not detail.abstract


def test_a_task_s_page_shows_what_its_event_carries_on_its_own_channel_whatever_the_switches():
    scenario = Scenario(pages=(Pages("task", 1), Pages("task", 1, Polling(1.0))), broadcast=Broadcast(channels="generic"))
    task, polling = pages.user_classes(Settings(scenario, TARGET)).values()
    assert (task.channels, task.events) == (["private-tasks.{id}"], ["App\\Events\\TaskCompleted"])
    assert task.policy.kind == "full_payload"
    assert (task.refetch, polling.channels, polling.policy.kind) == ("/tasks/{id}", [], "polling")
    assert [who[2] for who in task.identities(TARGET)] == [1, 2, 3], "each server has one"


def test_an_inertia_page_of_the_pattern_has_its_version_in_the_prop_of_its_resource():
    scenario = Scenario(pages=tuple(Pages(page, 1, inertia=True) for page in ("firewall", "site", "dashboard")))
    classes = pages.user_classes(Settings(scenario, TARGET)).values()
    assert [cls.version for cls in classes] == [f"props.{name}.version" for name in ("server", "site", "dashboard")]


@pytest.mark.parametrize(
    ("channels", "detail", "board"),
    [
        ("both", ["private-servers.{id}"], ["private-servers", "private-sites"]),
        ("per_user", ["private-servers.{id}"], ["private-users.{user}.servers", "private-users.{user}.sites"]),
    ],
)
def test_channels_follow_the_scenarios_switch(channels, detail, board):
    scenario = Scenario(pages=(Pages("detail", 1), Pages("dashboard", 1))).replace(
        {"broadcast.channels": channels, "broadcast.broadcast_as": True}
    )
    classes = pages.user_classes(Settings(scenario, TARGET))
    assert classes["DetailPage"].channels == detail
    assert classes["Dashboard"].channels == board
    assert classes["DetailPage"].events == ["ServerUpdated"]


def test_a_target_without_an_application_is_signed_for_and_never_refetched(plant):
    lonely = Target("127.0.0.1", 1, "http", "1", "key", "secret")
    plant.settings = Settings(Scenario(pages=(Pages("detail", 1),)), lonely)
    cls = pages.user_classes(plant.settings)["DetailPage"]
    user = cls(FakeEnvironment(plant))
    user.on_start()
    spec = plant.specs[cls]
    assert isinstance(spec.auth, Signed)
    assert spec.refetch == ""
    assert spec.policy.kind == "full_payload"
    assert user.open_page.channels() == ["private-servers.1"]
    user.on_stop()


def test_a_target_in_which_nobody_owns_a_site_has_no_site_pages(plant):
    with pytest.raises(BadInput, match="no user owns any of the sites"):
        pages.SitePage.identities(Target("h", 1, "http", "1", "k", "s", users=(Account(1, "t", (1,)),)))


def test_connections_per_subscriber_are_the_pages_own(plant):
    class Own(OrderPage):
        http = "per_subscriber"

    first, second = Own(FakeEnvironment(plant)), Own(FakeEnvironment(plant))
    first.on_start()
    second.on_start()
    assert first.open_page.pool is not second.open_page.pool
    assert isinstance(first.open_page.pool, Pool)
    first.on_stop()
    second.on_stop()


# ---- shapes


class Runner:
    def __init__(self, stats):
        self.stats, self.sent = stats, []

    def send_message(self, name, data):
        self.sent.append((name, data))


def shape(text, scenario=None):
    cls = chosen(Settings(scenario or Scenario(pages=(Pages("detail", 100),)), TARGET, shape=text))
    assert cls is not None
    return cls()


def test_every_shape_is_chosen_by_its_name_and_takes_its_parameters():
    for name, cls in SHAPES.items():
        made = shape(name)
        assert isinstance(made, cls)
        assert not made.abstract
        assert made.users == 100
    assert set(parameters(SHAPES["spike"])) == {"users", "rate", "duration", "peak", "every", "length"}
    assert shape("spike:peak=7,every=2.5").every == 2.5
    assert issubclass(SHAPES["soak"], Shape)
    assert shape("soak").duration == 14400
    assert chosen(Settings()) is None


def test_a_shape_lasts_as_long_as_the_run_with_what_follows_the_updates():
    scenario = Scenario(pages=(Pages("detail", 100),), warmup=2.0, duration=10.0, cooldown=4.0, drain=3.0)
    assert shape("constant", scenario).duration == 19.0


@pytest.mark.parametrize(
    "text",
    [
        "rampp",
        "ramp:risee=3",
        "ramp:rise=slow",
        "steps:start=1.5",
        "ramp:steps=0",
        "spike:every=0",
        "ramp:rise=inf",
        "soak:rate=nan",
    ],
)
def test_a_shape_that_is_none_is_refused_with_its_name(text):
    with pytest.raises(BadInput, match="WORKBENCH_SHAPE"):
        shape(text)


def test_ramp_spike_and_the_end():
    ramp = shape("ramp:rise=10,steps=5")
    assert [ramp.at(t)[0] for t in (0, 1.9, 2, 9.9, 10, 50)] == [20, 20, 40, 100, 100, 100]
    spike = shape("spike:peak=300,every=30,length=10")
    assert [spike.at(t)[0] for t in (0, 29, 30, 39, 40, 60, 75)] == [100, 100, 300, 300, 100, 300, 100]
    over = shape("constant:duration=0")
    assert over.tick() is None


def test_a_storm_is_told_once_each_time(stats):
    storm = shape("storm:every=5,share=0.5")
    storm.runner = Runner(stats)
    for t in range(12):
        assert storm.at(t) == (100, 500.0)
    assert storm.runner.sent == [("workbench-storm", {"share": 0.5})] * 2


def test_steps_stop_at_the_knee(stats):
    steps = shape("steps:start=100,step=100,hold=10,limit_ms=50,users=1000", Scenario(pages=(Pages("detail", 1000),)))
    steps.runner = Runner(stats)
    level, t = 100, 0.0
    while (tick := steps.at(t)) is not None:
        level = tick[0]
        for _ in range(100):
            stats.log_request("GET", "/x", 10 if level <= 300 else 80, 0)
        t += 1.0
    assert steps.knee == 300
    assert level == 400


def test_percentile_of_counts():
    assert percentile({10: 99, 500: 1}, 0.99) == 10
    assert percentile({10: 98, 500: 2}, 0.99) == 500
    assert percentile({}, 0.99) == 0


SHOP = Target(
    "127.0.0.1", 1, "http", "1", "key", "secret", "http://127.0.0.1:1",
    (
        Account("ada", "t1", owned=(("orders", ("o-1", "o-2")),)),
        Account("bob", owned=(("orders", ("o-3",)),), login=(("email", "bob@shop.example"), ("password", "p"))),
    ),
    headers=(("X-Tenant", "7"), ("Authorization", "Basic x")),
    auth="/api/broadcasting/auth",
)  # fmt: skip


def test_pages_of_an_application_of_ones_own_need_no_python(plant):
    own = Pages(
        subscribers=3, channels=("private-orders.{id}",), events=("Shipped",), ids="orders", refetch="/orders/{id}",
        version="props.order.updated_at", headers={"X-Extra": "1"}, inertia=True, only=("order",),
    )  # fmt: skip
    settings = Settings(Scenario(pages=(own,)), SHOP)
    plant.settings = settings
    (page,) = pages.user_classes(settings).values()
    users = [page(FakeEnvironment(plant)) for _ in range(3)]
    for user in users[:2]:
        user.on_start()
    spec = plant.specs[page]
    assert (spec.events, spec.refetch, spec.inertia, spec.only) == ({"Shipped"}, "/orders/{id}", True, ("order",))
    assert isinstance(spec.auth, Cookie)
    assert spec.auth.path == "/api/broadcasting/auth"
    assert spec.browser_origin == "http://127.0.0.1:1"
    assert [user.open_page.channels() for user in users[:2]] == [["private-orders.o-1"], ["private-orders.o-2"]]
    assert [(user.open_page.seat.user, user.open_page.seat.resource_id) for user in users[:2]] == [(1, 1), (1, 2)]
    headers = users[0].open_page.headers.decode()
    assert "X-Tenant: 7\r\n" in headers
    assert "X-Extra: 1\r\n" in headers
    assert "text/html" in headers
    assert headers.count("Authorization: ") == 1
    assert page.identities(SHOP)[2] == ("bob", "", "o-3")
    assert plant.logins == {"bob": (("email", "bob@shop.example"), ("password", "p"))}


def test_a_page_that_asks_for_no_resource_is_every_user_s():
    settings = Settings(Scenario(pages=(Pages(channels=("private-App.Models.User.{user}",), refetch="/api/me"),)), SHOP)
    (page,) = pages.user_classes(settings).values()
    assert page.identities(SHOP) == [("ada", "t1", 0), ("bob", "", 0)]
    assert list(page.events) == []
    board = Pages("dashboard", channels=("private-orders.{id}",), ids="orders")
    (page,) = pages.user_classes(Settings(Scenario(pages=(board,)), SHOP)).values()
    assert page.identities(SHOP)[2] == ("bob", "", "o-3"), "a dashboard whose channel asks for one has one as well"


def test_where_nobody_may_read_there_is_the_fan_out_alone(plant):
    alone = Target("127.0.0.1", 1, "http", "1", "key", "secret", "http://127.0.0.1:1")
    plant.settings = settings = Settings(Scenario(pages=(Pages(),)), alone)
    (page,) = pages.user_classes(settings).values()
    user = page(FakeEnvironment(plant))
    user.on_start()
    assert plant.specs[page].application is None
    assert plant.specs[page].refetch == ""
    assert isinstance(plant.specs[page].auth, Signed)


def test_garbage_is_frozen_when_all_pages_are_subscribed_or_no_more_are(plant, monkeypatch):
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append((plant.recorder.opened, plant.recorder.subscribed)))
    looks = [(0, 0), (100, 20), (100, 60), (100, 60), (100, 60), (100, 100), (100, 100), (150, 100), (150, 150)]
    for opened, subscribed in looks:
        plant.recorder.opened = plant.recorder.wanted = opened
        plant.recorder.subscribed = subscribed
        plant._drain(plant.mux.now())
    assert frozen == [(100, 60), (100, 100), (150, 150)]
