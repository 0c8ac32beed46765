"""What is shown while it runs: sums over processes, the series of the charts, Prometheus, the tab of Locust's web interface."""

import contextlib
import sys
import types

import numpy as np
import pytest
from gevent.pywsgi import WSGIServer
from locust import HttpUser, tag, task
from locust.env import Environment
from locust.runners import MasterRunner
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from loadtests import events
from loadtests.client.plant import Plant
from loadtests.screen import figures, otlp, prometheus, tab
from loadtests.screen.figures import REPORT, Figures, Sums, of_plant
from sim.clock import SECOND
from sim.errors import BadInput
from sim.refetch import Refetch
from sim.results.histogram import Histogram

MS = 1_000_000
T0 = 1_800_000_000 * SECOND


def refetched(recorder, count, took=40):
    kind = recorder.kind("DetailPage", "detail", "server", "/servers/{id}")
    page = recorder.subscriber(kind)
    for _ in range(count):
        done = Refetch(T0, 1, T0, T0 + took * MS, 1, 200, 100, "applied")
        recorder.refetch(kind, page, 5, done, T0, T0 + 10 * MS, "")
    recorder.drain()


@pytest.fixture
def environment(plant):
    environment = Environment()
    environment.stats = plant.recorder.stats
    return environment


def test_the_series_has_what_happened_between_its_points(plant, environment):
    shown = Figures(environment)
    plant.recorder.opened, plant.recorder.listening = 7, 5
    refetched(plant.recorder, 10, took=40)
    shown.tick()
    refetched(plant.recorder, 5, took=400)
    shown.tick()
    shown.tick()
    first, second, third = shown.series
    assert (first["users"], first["listening"]) == (7, 5)
    assert first["time_to_fresh_p50"] == pytest.approx(40, rel=0.02)
    assert first["since_notified_p99"] == pytest.approx(30, rel=0.02)
    assert second["time_to_fresh_p50"] == pytest.approx(400, rel=0.02)
    assert third["time_to_fresh_p50"] is None
    assert (first["refetches"] > 0, third["refetches"]) == (True, 0)


def test_a_master_adds_up_its_workers_and_what_those_did_that_are_gone(plant):
    runner = MasterRunner.__new__(MasterRunner)
    runner.greenlet, runner.clients = None, {"a": None, "b": None}
    shown = Figures(types.SimpleNamespace(runner=runner))
    refetched(plant.recorder, 3)
    plant.recorder.opened = 4
    for worker in ("a", "b", "gone"):
        shown.hear(worker, {REPORT: of_plant(plant)})
    sums = shown.sums()
    assert (sums.gauges["users"], sums.counters["refetches"], sums.histograms["time_to_fresh"].count) == (8, 9, 9)
    shown.begin()
    assert shown.sums().counters["refetches"] == 0


def test_a_worker_reports_with_locusts_own_report(plant):
    data = {}
    refetched(plant.recorder, 3)
    shown = Figures(types.SimpleNamespace(runner=None))
    shown.report("a", data)
    refetched(plant.recorder, 2)
    Plant.current, before = None, Plant.current
    try:
        last = {}
        shown.report("a", last)
    finally:
        Plant.current = before
    for tree, refetches in ((data, 3), (last, 5)):  # What came after the last look is in the report of the test's end.
        sums = Sums()
        sums.add(tree[figures.REPORT])
        assert sums.counters["refetches"] == refetches


def test_a_new_test_begins_its_histograms_anew():
    before, now = Histogram(), Histogram()
    before.add([5, 7])
    now.add([5])
    assert now.since(before) is now
    now.add([7, 9])
    assert now.since(before).count == 1


def test_prometheus_gets_one_family_a_name_and_cumulative_buckets(plant, environment):
    refetched(plant.recorder, 10, took=40)
    refetched(plant.recorder, 1, took=400)
    environment.stats.log_error("GET", "/servers/{id}", "HTTP 500")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(prometheus.Collector(Figures(environment)))
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}
    row = (("method", "GET"), ("name", "/servers/{id}"))
    assert samples["locust_requests_total", row] == 11
    assert samples["locust_failures_total", row] == 1
    assert samples["workbench_refetches_total", ()] == 11
    for name, labels in (("workbench_time_to_fresh_seconds", ()), ("locust_response_time_seconds", row)):
        found = {le: samples[f"{name}_bucket", (("le", le), *labels)] for le in ("0.025", "0.05", "0.25", "0.5", "+Inf")}
        assert found == {"0.025": 0, "0.05": 10, "0.25": 10, "0.5": 11, "+Inf": 11}
    assert samples["workbench_time_to_fresh_seconds_sum", ()] == pytest.approx(0.8)
    counts = [int(value) for _, value in prometheus.bounds(Histogram())]
    assert counts == [0] * (len(prometheus.BUCKETS) + 1)
    assert np.all(np.diff(prometheus.BUCKETS) > 0)


@pytest.mark.parametrize("address", ["x", "127.0.0.1:x", "99999", "no.such.host.invalid:1"])
def test_an_address_that_is_none_is_refused_in_a_line(environment, address):
    with pytest.raises(BadInput, match=f"WORKBENCH_PROMETHEUS={address}"):
        prometheus.register(Figures(environment), address)


@contextlib.contextmanager
def collector():
    """An OpenTelemetry collector: yields its address, and a list that each request's (path, metrics by name) is put into."""
    got = []

    def receive(environ, start_response):
        sent = ExportMetricsServiceRequest.FromString(environ["wsgi.input"].read())
        (resource,) = sent.resource_metrics
        (scope,) = resource.scope_metrics
        names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
        got.append((environ["PATH_INFO"], names["service.name"], {metric.name: metric for metric in scope.metrics}))
        start_response("200 OK", [])
        return [b""]

    server = WSGIServer(("127.0.0.1", 0), receive, log=None)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.stop()


def test_opentelemetry_gets_what_prometheus_gets(plant, environment, monkeypatch):
    monkeypatch.setattr(otlp.gevent, "spawn", lambda run: None)
    refetched(plant.recorder, 10, took=40)
    refetched(plant.recorder, 1, took=400)
    environment.stats.log_error("GET", "/servers/{id}", "HTTP 500")
    shown = Figures(environment)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(prometheus.Collector(shown))

    def scrape():
        families = text_string_to_metric_families(generate_latest(registry).decode())
        samples = (sample for family in families for sample in family.samples)
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}

    before = scrape()
    with collector() as (address, got):
        otlp.register(shown, f"{address}/")
        environment.events.test_stop.fire(environment=environment)
        environment.events.quitting.fire(environment=environment, reverse=True)
    after = scrape()
    first, (path, service, metrics) = got
    assert first[2].keys() == metrics.keys()
    assert (path, service) == ("/v1/metrics", "workbench")
    sent = {}
    for name, metric in metrics.items():
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            labels = tuple(sorted((label.key, label.value.string_value) for label in point.attributes))
            assert point.time_unix_nano >= 10**18
            if kind != "histogram":
                sent[name + "_total" * (kind == "sum"), labels] = point.as_double or point.as_int
                continue
            assert metric.unit == "s"
            edges = [*map(str, point.explicit_bounds), "+Inf"]
            for edge, count in zip(edges, np.cumsum(point.bucket_counts), strict=True):
                sent[f"{name}_bucket", tuple(sorted([*labels, ("le", edge)]))] = count
            sent |= {(f"{name}_count", labels): point.count, (f"{name}_sum", labels): point.sum}
    assert sent.keys() == before.keys()  # Collections of garbage may be counted in between.
    assert {
        name: (before[name], value, after[name]) for name, value in sent.items() if not before[name] <= value <= after[name]
    } == {}
    assert sent["workbench_refetches_total", ()] == 11
    assert metrics["workbench_refetches"].sum.is_monotonic


@pytest.mark.parametrize("address", ["collector:4318", "ftp://127.0.0.1", "http://", "/v1/metrics"])
def test_a_collector_that_has_no_address_is_refused_in_a_line(environment, address):
    with pytest.raises(BadInput, match=f"WORKBENCH_OTLP={address}"):
        otlp.register(Figures(environment), address)


def test_without_the_extra_the_line_says_how_to_get_it(environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)
    with pytest.raises(BadInput, match=r"pip install .*\[otlp\]"):
        otlp.register(Figures(environment), "http://127.0.0.1:4318")


def test_a_collector_that_is_gone_costs_a_line_in_the_log(plant, environment, monkeypatch, caplog):
    monkeypatch.setattr(otlp.gevent, "spawn", lambda run: None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with collector() as (address, _):
        pass
    otlp.register(Figures(environment), address)
    environment.events.test_stop.fire(environment=environment)
    assert "Failed to export metrics" in caplog.text


def test_the_web_interface_has_a_tab_with_a_table_and_charts(plant, environment, monkeypatch):
    monkeypatch.setattr(tab.gevent, "spawn", lambda run: None)
    monkeypatch.setattr(sys, "argv", ["locust"])  # Locust's page shows the options that it was started with.
    environment.create_local_runner()
    web_ui = environment.create_web_ui("127.0.0.1", 0, delayed_start=True)
    web_ui.template_args["extendedTabs"] = [{"title": "Own", "key": "own"}]
    shown = Figures(environment)
    tab.register(shown)
    prometheus.register(shown, "")
    client = web_ui.app.test_client()
    refetched(plant.recorder, 10, took=40)
    shown.tick()
    assert client.get("/freshness").status_code == client.get("/freshness/tab.js").status_code == 200
    assert client.get("/freshness/other.js").status_code == 404
    (point,) = client.get("/freshness/series").get_json()
    assert point["time_to_fresh_p50"] == pytest.approx(40, rel=0.02)
    assert "workbench_refetches_total 10.0" in client.get("/metrics").get_data(as_text=True)
    page = client.get("/").get_data(as_text=True)
    assert page.count("/freshness/tab.js") == 1
    assert '"Own"' in page
    assert '"Freshness"' in page
    (stats,) = client.get("/stats/requests").get_json()["extended_stats"]
    rows = {row["name"]: row["now"] for row in stats["data"]}
    assert len(rows) == len(tab.ROWS)
    assert rows["update to shown, p50"].endswith(" ms")
    assert rows["update to notified, p50"] == "-"
    environment.runner.quit()


# ---- tags


class Untagged(HttpUser):
    tasks = [lambda user: None]  # noqa: RUF012


class Tagged(HttpUser):
    @tag("a", "b")
    @task
    def work(self):
        """Nothing."""


@pytest.mark.parametrize(
    ("tags", "excluded", "left"),
    [
        ([], [], {"Untagged", "Tagged"}),
        (["a"], [], {"Tagged"}),
        ([], ["b"], {"Untagged"}),
        ([], ["c"], {"Untagged", "Tagged"}),
        (["a"], ["b"], None),
        (["c"], [], None),
    ],
)
def test_tags_leave_out_who_has_no_task_left(tags, excluded, left, capsys):
    options = types.SimpleNamespace(tags=tags, exclude_tags=excluded)
    environment = types.SimpleNamespace(parsed_options=options, user_classes=[Untagged, Tagged])
    if left is not None:
        events._drop_idle_classes(environment)
        assert {cls.__name__ for cls in environment.user_classes} == left
        return
    with pytest.raises(SystemExit) as end:
        events._drop_idle_classes(environment)
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_figures_of_a_test_that_is_over_stay_but_nobody_is_there(plant, environment):
    shown = Figures(environment)
    refetched(plant.recorder, 3)
    plant.recorder.opened = 4
    shown.sums()
    Plant.current, before = None, Plant.current
    try:
        sums = shown.sums()
        assert (sums.counters["refetches"], sums.gauges["users"]) == (3, 0)
    finally:
        Plant.current = before
