"""Whole load tests, as a user starts them: `workbench loadtest` in a process of its own, small and short.

What is asserted is what happened, never how fast: on a busy machine a run may say of itself that it is invalid, and is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest

from sim.cli import main
from sim.live.probe import why_unreachable
from sim.live.processes import importable, python
from sim.live.serve import Options, Serving, embedded_target
from sim.live.sockets import free_port
from sim.results import parts
from sim.results.run import Run
from sim.scenario import Scenario
from sim.signals import interruptible
from sim.target import Target
from tests.live.calibrated import KNOWN, known_in

pytestmark = [pytest.mark.loopback, pytest.mark.slow]

SCENARIO = """
duration = 1.6
drain = 1
workload = {kind = "constant", rate = 12}
policy = {kind = "debounce", wait = 0.1}
load = {connect_rate = 100}
pages = [{page = "detail", subscribers = 24}, {page = "dashboard", subscribers = 8}]
"""
INCIDENTS = '[{kind = "disconnect", at = 0.5, share = 1.0}, {kind = "restart", at = 5, down = 0.5, signal = "SIGKILL"}]'


class Started:
    """One `workbench` process and where its bundle goes."""

    def __init__(self, directory: Path, *arguments: str, environment: dict[str, str], limit: int | None = None) -> None:
        self.output = directory / "run"
        self.process = subprocess.Popen(
            python("-m", "sim", "loadtest", *arguments, "-o", str(self.output)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=directory,
            env=os.environ | environment | {"TMPDIR": str(directory)},
            preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))) if limit else None,
        )
        self.directory = directory
        self.children: set[int] = set()

    def watch(self, until: Callable[[], bool], timeout: float = 200) -> None:
        """Remember every process that it starts, until something is so."""
        deadline = time.monotonic() + timeout
        while not until() and self.process.poll() is None:
            with contextlib.suppress(psutil.Error):
                self.children |= {child.pid for child in psutil.Process(self.process.pid).children(recursive=True)}
            assert time.monotonic() < deadline, self.process.stderr
            time.sleep(0.25)  # Each look goes through all of /proc.

    def finish(self) -> Finished:
        self.watch(lambda: self.process.poll() is not None)
        out, err = self.process.communicate()
        return Finished(self.process.returncode, out, err, self.output, self.directory, self.children)


class Finished:
    def __init__(self, code: int, out: str, err: str, output: Path, directory: Path, children: set[int]) -> None:
        self.code, self.out, self.err, self.output, self.directory, self.children = code, out, err, output, directory, children
        self.joined: Finished | None = None
        """The other machine, where there was one."""

    @property
    def run(self) -> Run:
        assert (self.output / "manifest.json").exists(), self.err
        return Run(self.output)

    @property
    def told(self) -> dict[str, object]:
        return json.loads(self.out)

    def value(self, metric: str) -> float:
        return float(self.run.summary[metric]["value"])

    def require_nothing_left(self) -> None:
        """No process, no file in the temporary directory."""
        left = [pid for pid in self.children if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
        assert left == []
        assert list(self.directory.glob("workbench-*")) == []


Starter = Callable[..., Started]
Job = Callable[[], Finished]
Written = Callable[..., tuple[str, str]]
"""Target file, as arguments, of the module's target with some members changed."""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    known = known_in(tmp_path_factory.mktemp("cache"))
    started: list[Started] = []

    def start(*arguments: str, limit: int | None = None, environment: dict[str, str] | None = None) -> Started:
        directory = tmp_path_factory.mktemp("loadtest")
        (directory / "small.toml").write_text(SCENARIO)
        # What lies around changes nothing: Locust's settings, and modules with the names of others.
        (directory / "locust.conf").write_text("run-time = 1s\nusers = 3\n")
        for name in ("queue", "redis", "random"):
            (directory / f"{name}.py").write_text("raise SystemExit('imported from the working directory')\n")
        variables = known | {"LOCUST_RUN_TIME": "1s"} | importable() | (environment or {})
        started.append(Started(directory, "small.toml", *arguments, environment=variables, limit=limit))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    """A target that says nothing of itself: the default payload."""
    with embedded_target(Scenario(), Options(api_port=0, reverb_port=0)) as serving:
        yield serving


@pytest.fixture(scope="module")
def finished(start: Starter, serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Finished]]:
    """All runs of this module, several at a time; ask for one by its name. Those of one lane go one after the other: they use
    the same target, and would hear each other's events."""
    directory = tmp_path_factory.mktemp("targets")
    target = serving.target

    def run(*arguments: str, limit: int | None = None, **changed: object) -> Job:
        """A run to its end; with the target of the module where *changed* says what is to be different about it."""

        def job() -> Finished:
            return start(*arguments, *(written(**changed) if changed else ()), limit=limit).finish()

        return job

    def written(**changed: object) -> tuple[str, str]:
        path = directory / f"{len(list(directory.iterdir()))}-{threading.get_ident()}.json"
        replace(target, **changed).write(path)  # type: ignore[arg-type]
        return "--target", str(path)

    lanes: list[dict[str, Job]] = [
        {
            "direct": run("--json", "--direct", api=""),
            "target dies": lambda: _target_dies(start, target, written),
            "passive": lambda: _passive(start, target, written),
            "remote": lambda: _remote(start, written()),
        },
        {
            "embedded": run("--json", "--junit", "junit.xml", "--summary", "summary.md", "--locust=--html=l.html --csv=l"),
            "target is not there": run(port=free_port()),
            "incidents": run("--json", "--set", "duration=7", "--set", f"incidents={INCIDENTS}"),
        },
        {
            "interrupted while it runs": lambda: _interrupted_while_it_runs(start),
            "interrupted while it connects": lambda: _interrupted_while_it_connects(start, written()),
            "too few descriptors": run("--users", "5000", limit=256),
        },
        {
            "process goes missing": lambda: _process_goes_missing(start),
            "broadcaster is killed": lambda: _kill(start, "sim.live.broadcaster"),
            "killed": lambda: _kill(start, ""),
            "wrong key": run("--json", "--direct", key="wrong", api=""),
        },
    ]
    results: dict[str, Future[Finished]] = {name: Future() for lane in lanes for name in lane}

    def drive(lane: dict[str, Job]) -> None:
        for name, job in lane.items():
            try:
                results[name].set_result(job())
            except BaseException as error:
                results[name].set_exception(error)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for lane in lanes:
            pool.submit(drive, lane)
        yield lambda name: results[name].result()


def test_every_delivery_is_accounted_for(finished: Callable[[str], Finished]) -> None:
    done = finished("embedded")
    assert done.code in (0, 4), done.err
    run = done.run
    run.verify()
    # A trailing debounce without a longest wait: the drain is cool-down, in which updates go on and are not counted.
    assert len(run.updates) == 31
    assert done.value("updates") == 19
    # 24 detail pages on 20 servers, and 8 dashboards that hear all. On a busy machine some are committed after the run's end.
    committed = int((run.updates["committed_at"] < 1.6).sum())
    assert done.value("deliveries.expected") == done.value("deliveries.received") >= committed * (8 + 1)
    assert done.value("deliveries.duplicate") == 0
    assert set(run.refetches["status"].dropna()) <= {200, 304}
    assert (run.notifications["received_at"] >= 0).all()
    assert set(run.subscriptions["reason"]) == {"end"}
    assert not (done.output / "parts").exists()
    assert not (done.output / "logs").exists() or done.code == 4
    assert {"application", "broadcaster", "publisher", "harness-0"} <= set(run.metrics["process"])
    assert run.manifest.harness["floor_p99"] == KNOWN.floor_p99
    assert run.manifest.clock["method"].startswith("one clock")
    done.require_nothing_left()


def test_what_is_told_is_what_is_written(finished: Callable[[str], Finished]) -> None:
    done = finished("embedded")
    told, manifest = done.told, done.run.manifest
    assert told["valid"] == manifest.validity["ok"] == (done.code == 0)
    assert told["summary"] == done.run.summary
    assert told["reasons"] == manifest.validity["reasons"]
    assert "the run can be trusted" in (done.directory / "junit.xml").read_text()
    assert (done.directory / "summary.md").read_text().startswith("### Load test `small`")


def test_what_locust_is_told_besides(finished: Callable[[str], Finished]) -> None:
    """Its own page and tables, by itself and as a master; the run ends with SIGTERM."""
    for name in ("embedded", "remote"):
        directory = finished(name).directory
        assert "Locust" in (directory / "l.html").read_text(encoding="utf-8")
        assert "NOTIFY,DetailPage" in (directory / "l_stats.csv").read_text(encoding="utf-8")


def test_nothing_secret_is_in_the_bundle(finished: Callable[[str], Finished], serving: Serving) -> None:
    """Nor in anything else that a load test has written or said: logs, Locust's page and tables, what a partial run left."""
    secrets = [serving.target.secret.encode(), *(user.token.encode() for user in serving.target.users)]
    for name in ("direct", "remote", "interrupted while it connects"):
        done = finished(name)
        written = {"said": (done.out + done.err).encode()}
        for path in (path for path in done.directory.rglob("*") if path.is_file()):
            table = path.suffix == ".parquet"
            written[str(path)] = pd.read_parquet(path).to_csv().encode() if table else path.read_bytes()
        assert len(written) > 3
        assert [where for where, content in written.items() if any(secret in content for secret in secrets)] == []
    assert finished("direct").run.manifest.target["app"]["key"] == serving.target.key  # type: ignore[index]


def test_refused_refetches_are_rows(finished: Callable[[str], Finished]) -> None:
    run = finished("interrupted while it runs").run
    refused = run.refetches[run.refetches["status"] == 429]
    assert len(refused) > 0
    assert set(refused["outcome"]) == {"failed"}
    assert run.summary["refetches.failed"]["value"] > 0


def test_fan_out_alone_needs_no_application(finished: Callable[[str], Finished]) -> None:
    done = finished("direct")
    assert done.code in (0, 4), done.err
    published = done.run.updates["published_at"] < 1.6  # On a busy machine some leave later.
    assert done.value("deliveries.expected") == done.value("deliveries.received") >= published.sum() * (8 + 1) > 0
    assert len(done.run.refetches) == 0


def test_nobody_can_subscribe(finished: Callable[[str], Finished]) -> None:
    done = finished("wrong key")
    assert done.code == 5
    assert done.err.count("\n") <= 2
    assert "none of 32 subscribers could subscribe" in done.err
    assert not done.output.exists()
    done.require_nothing_left()


def test_interrupted_while_it_runs(finished: Callable[[str], Finished]) -> None:
    done = finished("interrupted while it runs")
    assert done.code == 143, done.err
    assert done.err.endswith("workbench: ended by SIGTERM\n")
    assert done.run.manifest.partial
    assert done.run.manifest.window["end"] < 60
    assert done.run.manifest.validity["reasons"][0] == "interrupted"
    assert len(done.run.updates) > 0
    assert len(done.run.notifications) > 0
    done.require_nothing_left()


def test_interrupted_while_it_connects(finished: Callable[[str], Finished]) -> None:
    done = finished("interrupted while it connects")
    assert done.code == 130, done.err
    assert done.run.manifest.partial
    done.require_nothing_left()


def test_impatience_means_the_same_as_the_first_signal() -> None:
    """Wherever the second one falls: here behind the handler of the first, before what keeps the rows."""
    with interruptible():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGTERM)


def test_a_load_process_that_goes_missing_makes_the_run_invalid(finished: Callable[[str], Finished]) -> None:
    done = finished("process goes missing")
    assert done.code == 4
    assert any("went missing" in str(reason) for reason in done.told["reasons"])  # type: ignore[attr-defined]
    done.require_nothing_left()


def test_the_death_of_the_embedded_target_ends_the_run_and_is_named(finished: Callable[[str], Finished]) -> None:
    done = finished("broadcaster is killed")
    assert done.code == 4, done.err
    assert "broadcaster of the embedded target died" in str(done.told["trouble"])
    assert "killed by SIGKILL" in done.err
    assert done.told["partial"]
    assert len(done.run.notifications) > 0
    assert done.run.manifest.window["end"] < 60
    assert (done.output / "logs" / "harness-0.log").exists()
    done.require_nothing_left()


def test_a_load_test_that_was_killed_is_recovered(
    finished: Callable[[str], Finished], capsys: pytest.CaptureFixture[str]
) -> None:
    done = finished("killed")
    assert done.code == -signal.SIGKILL
    assert not (done.output / "manifest.json").exists()
    assert main(["recover", str(done.output), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["partial"]
    assert not told["valid"]
    assert "was killed" in str(told["reasons"])
    run = done.run
    run.verify()
    assert len(run.updates) > 0
    late = run.updates["status"].astype(str) == "failed"  # Committed when the run was over already.
    assert set(run.updates["status"].astype(str)[~late]) <= {"committed", "unknown"}
    assert run.updates["committed_at"][late].isna().all()
    assert len(run.notifications) > 0
    assert len(run.metrics) > 0
    assert not (done.output / "parts").exists()
    assert main(["recover", str(done.output)]) == 2


def test_incidents_are_played_at_their_times(finished: Callable[[str], Finished]) -> None:
    done = finished("incidents")
    run = done.run
    assert not run.manifest.partial
    played = run.manifest.extra["incidents"]
    assert [row["kind"] for row in played] == ["disconnect", "restart"]
    assert all(row["at"] <= row["began_at"] for row in played)
    assert played[0]["began_at"] <= played[0]["ended_at"]
    # On a busy machine the run may be over before the broadcaster is up again.
    assert played[1]["ended_at"] is None or played[1]["began_at"] <= played[1]["ended_at"]
    assert played[0]["dropped"] > 0
    assert (run.subscriptions["reason"] == "dropped").any()
    # All were dropped, and came back a second later; those that met a closed port at the restart wait 15 s, as pusher-js does.
    again = run.notifications["received_at"].between(played[0]["ended_at"] + 0.9, played[1]["began_at"])
    assert again.any()
    assert (run.subscriptions["ended_at"] > played[1]["began_at"]).any()
    assert "pages were dropped" in str(done.told["trouble"])
    done.require_nothing_left()


def test_too_few_descriptors(finished: Callable[[str], Finished]) -> None:
    done = finished("too few descriptors")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "5000 subscribers need 5264 file descriptors a process, the limit is 256: run `ulimit -n 5264` first" in done.err
    assert not done.output.exists()


def test_a_target_that_is_not_there(finished: Callable[[str], Finished]) -> None:
    done = finished("target is not there")
    assert done.code == 5
    assert "broadcaster 127.0.0.1:" in done.err
    assert "refused" in done.err


class Proxy:
    """Passes bytes on to a port, except while it is `down`: then it drops everybody and accepts nobody for long."""

    def __init__(self, port: int) -> None:
        self.down = False
        self.changes = self.refused = 0
        """Requests of the publisher that passed, and connections that did not."""
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop).result()
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            self.refused += 1
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, back}
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.changes += data.startswith((b"POST /servers", b"PUT /servers"))
                writer.write(data)
                await writer.drain()
        writer.close()

    def break_down(self) -> None:
        self.down = True

        def drop() -> None:
            for writer in self._writers:
                writer.transport.abort()
            self._writers.clear()

        self._loop.call_soon_threadsafe(drop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


def test_a_target_that_dies_in_mid_run_and_returns(finished: Callable[[str], Finished]) -> None:
    done = finished("target dies")
    run = done.run
    assert not run.manifest.partial
    assert (run.updates["status"] == "failed").any()
    assert run.updates["status"].astype(str).iloc[-1] != "failed"
    assert (run.subscriptions["reason"] == "dropped").any()
    assert "pages were dropped" in str(done.told["trouble"])
    assert "updates failed" in str(done.told["trouble"])
    # pusher-js comes back after a second: subscribed before, and again after.
    assert run.subscriptions.groupby(["subscriber", "channel"], observed=True).size().max() >= 2
    done.require_nothing_left()


def test_passive_mode_counts_what_somebody_else_publishes(finished: Callable[[str], Finished]) -> None:
    done = finished("passive")
    assert done.code in (0, 4)
    # Payload {server_id}: no member of ours, and no time stamp either.
    heard = done.run.notifications
    assert heard["update"].notna().all()
    assert done.value("deliveries.expected") == done.value("deliveries.received") > 0
    assert done.value("fan_out.spread.p50") > 0
    assert done.run.summary["time_to_notified.p50"]["value"] is None, "nobody has told when it was wanted"
    assert len(done.run.refetches) > 0
    assert "listening only" in " ".join(map(str, done.told["remarks"]))  # type: ignore[call-overload]


def test_workers_of_another_machine_join(finished: Callable[[str], Finished]) -> None:
    done = finished("remote")
    joined = done.joined
    assert joined is not None
    assert joined.code == 0, joined.err
    assert done.run.manifest.harness["workers"] == 2
    # Two names, one clock: the estimate must hold the true offset, which is 0.
    clock = done.run.manifest.clock
    assert clock["method"].startswith("fastest round trip")
    assert abs(clock["offset"]) <= clock["error"]
    assert done.run.subscriptions["subscriber"].nunique() == 32
    # This target's payload does not say which update it is of: by order and by name of the server each is found, at each page.
    heard = done.run.notifications
    assert heard["update"].notna().all()
    assert not heard.duplicated(["update", "subscriber", "channel"]).any()
    assert heard.groupby("update")["subscriber"].nunique().min() >= 8, "every dashboard heard of every update"
    assert done.value("deliveries.expected") == done.value("deliveries.received") > 0
    assert done.value("time_to_notified.p50") > 0
    # Nor does it say when it committed.
    assert done.run.updates["committed_at"].isna().all()
    assert "no time of the save" in " ".join(map(str, done.told["remarks"]))  # type: ignore[call-overload]
    for one in (done, joined):
        one.require_nothing_left()


def _publish_until(target: Target, stop: threading.Event) -> None:
    from sim.live.client import HttpConnection, HttpOrigin
    from sim.live.drive.requests import signed_event

    async def main() -> None:
        connection = HttpConnection(HttpOrigin.parse(target.http_url))
        while not stop.is_set():
            now = time.time_ns()
            await connection.request(
                *signed_event(target, "App\\Events\\ServerUpdated", ["private-servers"], {"server_id": 1}, now)
            )
            await asyncio.sleep(0.1)
        connection.close()

    asyncio.run(main())


def _commands(started: Started) -> list[str]:
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(started.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found.append(" ".join(child.cmdline()))
    return found


def _is_publishing(started: Started) -> bool:
    """The publisher has sent its first update: it has open connections to the application, or somebody has heard of one."""
    if any((started.output / "parts").glob("notifications-*")):
        return True
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(started.process.pid).children():
            if "drive" in child.cmdline():
                return len(child.net_connections("tcp")) > 0
    return False


def _interrupted_while_it_runs(start: Starter) -> Finished:
    # Ten users with 32 pages: enough for authorisations and changes, not for all refetches.
    started = start("--set", "duration=60", "--set", "api.rate_limit=1")
    started.watch(lambda: _is_publishing(started))
    headers = partial(parts.read_headers, started.output / "parts")
    started.watch(lambda: sum(header["counters"]["failed_refetches"] for header in headers()) > 0)
    time.sleep(0.5)
    started.process.send_signal(signal.SIGTERM)
    return started.finish()


def _interrupted_while_it_connects(start: Starter, target: tuple[str, str]) -> Finished:
    started = start(*target, "--set", "load.connect_rate=1")
    started.watch(lambda: any("locust" in command for command in _commands(started)))
    time.sleep(1)
    started.process.send_signal(signal.SIGINT)
    # Impatience does not make it leave anything behind.
    time.sleep(0.2)
    started.process.send_signal(signal.SIGINT)
    return started.finish()


def _process_goes_missing(start: Starter) -> Finished:
    started = start("--json", "--set", "duration=4")
    started.watch(lambda: _is_publishing(started))
    for pid in psutil.Process(started.process.pid).children(recursive=True):
        if "locust" in " ".join(pid.cmdline()):
            pid.kill()
    return started.finish()


def _kill(start: Starter, what: str) -> Finished:
    """A part of the embedded target, or the load test itself, by SIGKILL."""
    started = start("--json", "--set", "duration=60")
    started.watch(lambda: any((started.output / "parts").glob("notifications-*")))
    processes = psutil.Process(started.process.pid).children(recursive=True) if what else [psutil.Process(started.process.pid)]
    next(process for process in processes if what in " ".join(process.cmdline())).kill()
    return started.finish()


def _target_dies(start: Starter, target: Target, written: Written) -> Finished:
    api, broadcaster = Proxy(int(target.api.rpartition(":")[2])), Proxy(target.port)
    weak = written(api=f"http://127.0.0.1:{api.port}", port=broadcaster.port)
    started = start("--json", *weak, "--set", "duration=4.5", "--set", "seed=9")
    started.watch(lambda: api.changes >= 15)
    for proxy in (api, broadcaster):
        proxy.break_down()
    time.sleep(1.0)
    started.watch(lambda: api.refused >= 10)
    for proxy in (api, broadcaster):
        proxy.down = False
    done = started.finish()
    api.close()
    broadcaster.close()
    return done


def _passive(start: Starter, target: Target, written: Written) -> Finished:
    started = start("--json", "--passive", *written())
    started.watch(lambda: any("locust" in command for command in _commands(started)))
    stop = threading.Event()
    driver = threading.Thread(target=_publish_until, args=(target, stop))
    driver.start()
    done = started.finish()
    stop.set()
    driver.join()
    return done


def _remote(start: Starter, target: tuple[str, str]) -> Finished:
    port = free_port()
    address = f"127.0.0.1:{port}"
    told = ("--remote-workers", "1", "--bind", address, "--set", "seed=11", "--locust=--html=l.html --csv=l")
    master = start("--json", *target, *told)
    master.watch(lambda: not why_unreachable("127.0.0.1", port))
    worker = start(*target, "--join", address, environment={"WORKBENCH_MACHINE": "elsewhere"})
    done = master.finish()
    done.joined = worker.finish()
    return done
