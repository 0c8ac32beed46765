"""Parts that die while a load test needs them, Redis that goes and comes, and helpers that cannot work."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from sim.live.serve import Options, embedded_target
from sim.live.sockets import free_port
from sim.results.run import Run
from sim.scenario import Fleet, Scenario
from tests.live.broadcasters import Client, broadcaster, eventually, redis_server
from tests.torture.case import Skipped, Stage, case, need
from tests.torture.commands import PATIENCE, Command, kind_of_bundle
from tests.torture.signals import LOADTEST, parts

ELSEWHERE = """
import importlib, os, sys
sys.path = [place for place in sys.path if not os.path.isdir(os.path.join(place, "sim"))]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder)]
program = importlib.import_module("distributed.cli.dask_" + sys.argv.pop(1))
program.main(standalone_mode=False)
"""
"""Dask's programs on a machine where this project was never installed."""

PARTS = {
    "broadcaster": ("sim.live.broadcaster", "broadcaster of the embedded target died"),
    "application": ("sim.live.application", "application of the embedded target died"),
    "publisher": ("drive", "publisher died"),
    "load process": ("locust", "harness-0 went missing"),
}
"""Part -> words of its command line, and what the verdict calls its death."""


@case
def parts_killed(stage: Stage) -> Iterator[str]:
    """Broadcaster, application, publisher or load process killed in mid-run: the run ends early with exit 4, names the part, says
    that it is partial, and keeps what was measured."""
    for part, (words, said) in PARTS.items():
        command = Command(stage.place / part, *LOADTEST, "--json")
        command.until(lambda command=command: parts(command), "its first notifications")
        os.kill(command.child(words), signal.SIGKILL)
        code = command.finish()
        need(code == 4, f"{part}: exit {code}: {command.said}")
        need(said in command.out + command.err, f"{part}: nothing says {said!r}: {command.said}")
        kind = kind_of_bundle(command.output, command.place)
        run = Run(command.output)
        need(kind == "partial", f"{part}: the bundle is {kind}")
        need(run.manifest.window["end"] < 60, f"{part}: the run went on to its end")
        yield f"{part}: exit {code}, named, partial, {len(run.notifications)} notifications kept"


@case
def redis_goes_and_comes(stage: Stage) -> Iterator[str]:
    """Redis killed, started again, stopped (it accepts and says nothing) and continued: nodes serve their own subscribers all the
    time, say once that it is away and once that it is back, and reach each other again."""
    port = free_port()
    redis = redis_server(port)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        with broadcaster(redis=url) as first, broadcaster(redis=url) as second:
            here, there = Client(first), Client(second)
            for client in (here, there):
                client.subscribe("private-news")

            def both(name: str) -> None:
                eventually(lambda: first.request("GET", "/apps/1001/connections")[1] == {"connections": 2}, PATIENCE)
                first.publish("private-news", name, {})
                heard = [client.receive(PATIENCE)["event"] for client in (here, there)]
                if heard[1] == "alone":  # a Redis that was only stopped may hand it on when it goes on
                    heard[1] = there.receive(PATIENCE)["event"]
                need(heard == [name, name], f"{name}: not at both nodes: {heard}")

            def away(times: int) -> None:
                eventually(lambda: all(node.log.count("is away") >= times for node in (first, second)), PATIENCE)
                first.publish("private-news", "alone", {})
                need(here.receive(10)["event"] == "alone", "a node's own subscriber missed an event")

            def back(times: int) -> None:
                eventually(lambda: all(node.log.count("/0 is back") >= times for node in (first, second)), PATIENCE)

            both("before")
            redis.kill()
            redis.wait()
            away(1)
            redis = redis_server(port)
            back(1)
            both("after the kill")
            redis.send_signal(signal.SIGSTOP)
            away(2)
            time.sleep(3)
            redis.send_signal(signal.SIGCONT)
            back(2)
            both("after the stop")
            said = first.log + second.log
            need("Traceback" not in said, said[-1000:])
            need(said.count("is away") == said.count("/0 is back") == 4, f"not said once each time: {said[-2000:]}")
    finally:
        redis.send_signal(signal.SIGCONT)
        redis.kill()
        redis.wait()
    yield "killed and back, stopped and back: own subscribers served, said once each, nodes together again"


@case
def redis_under_the_application(stage: Stage) -> Iterator[str]:
    """The application's queue and locks in a Redis that is killed for seconds: pages are served, the log says once that it is
    away and once that it is back, and events are broadcast again."""
    port = free_port()
    redis = redis_server(port)
    scenario = Scenario(fleet=Fleet(users=2)).replace({"broadcast.dispatch": "queued", "broadcast.queue_workers": 2})
    try:
        with embedded_target(scenario, Options(api_port=0, reverb_port=0, redis=f"redis://127.0.0.1:{port}/0")) as serving:
            from tests.live.test_serve import request, subscribed

            user = serving.target.users[0]
            listener = subscribed(serving.target, user, "private-servers.1")

            def change() -> int:
                path = f"/servers/1/provision/step-{next(numbers)}"
                return int(request(serving.target, "PUT", path, user, {"status": "installing"})[0])

            numbers = itertools.count()
            need(change() == 200 and listener.recv(timeout=10), "not served before")
            redis.kill()
            redis.wait()
            answers = {change() for _ in range(20)}
            time.sleep(3)
            need(request(serving.target, "GET", "/servers/1", user)[0] == 200, "a page was not served while Redis was away")
            said = serving.complaints()
            redis = redis_server(port)
            deadline = time.monotonic() + PATIENCE
            while not any("redis answers again" in line for line in said) and time.monotonic() < deadline:
                time.sleep(0.2)
                said += serving.complaints()
            need(change() == 200, "a change was refused after Redis was back")
            listener.recv(timeout=20)
            listener.close()
            of_application = [line for line in said if line.startswith("application")]
            need(len(of_application) == 2, f"not said once each: {of_application[:6]}")
            serving.require_alive()
    finally:
        redis.kill()
        redis.wait()
    yield f"20 changes answered {sorted(answers)} while it was away, said once each, broadcasts again"


@case
def target_restarted_while_connecting(stage: Stage) -> Iterator[str]:
    """A target that restarts within three seconds of the first connection costs patience, not the run."""
    scenario = Scenario(fleet=Fleet(users=10))
    with embedded_target(scenario, Options(api_port=0, reverb_port=0)) as serving:
        target = stage.place / "target.json"
        serving.target.write(target)
        arguments = ("--target", str(target), "--set", "load.connect_rate=8", "--set", "duration=2")
        command = Command(stage.place, *LOADTEST, *arguments, "--json")
        command.until(lambda: (command.output / "parts").exists() and command.child("locust"), "its subscribers")
        time.sleep(1.5)
        serving.take_down("broadcaster", signal.SIGKILL)
        time.sleep(0.5)
        serving.bring_up("broadcaster")
        code = command.finish(180)
    need(code in (0, 4), f"exit {code}: {command.said}")
    run = Run(command.output)
    subscribed = run.subscriptions["subscriber"].nunique()
    need(subscribed == 32, f"{subscribed} of 32 subscribers were subscribed in the end")
    yield f"exit {code}, {subscribed} of 32 subscribed, {len(run.notifications)} notifications"


@case
def workers_that_cannot_import(stage: Stage) -> Iterator[str]:
    """A sweep on a Dask cluster whose workers cannot import `sim` says so in one line instead of waiting for ever."""
    if importlib.util.find_spec("distributed") is None:
        raise Skipped("dask[distributed] is not installed")
    port = free_port()
    # Without site-packages' own link to this checkout, as on a machine where it was never installed.
    (stage.place / "elsewhere.py").write_text(ELSEWHERE)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    address = f"tcp://127.0.0.1:{port}"
    programs = {
        "scheduler": ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        "worker": [address, "--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", str(stage.place)],
    }
    log = (stage.place / "dask.log").open("wb")
    started = [
        subprocess.Popen(
            [sys.executable, "elsewhere.py", name, *arguments],
            env=environment,
            cwd=stage.place,
            stdout=log,
            stderr=log,
        )
        for name, arguments in programs.items()
    ]
    try:
        deadline = time.monotonic() + PATIENCE
        while "Registered to" not in (stage.place / "dask.log").read_text(errors="replace"):
            need(time.monotonic() < deadline, f"no cluster: {(stage.place / 'dask.log').read_text()[-500:]}")
            time.sleep(0.2)
        command = Command(stage.place / "sweep", "sweep", "steady", "--vary", "policy.wait=0.1", "--scheduler", address)
        code = command.finish()
    finally:
        for process in started:
            process.terminate()
            process.wait(20)
        log.close()
    need(code == 2 and "cannot import sim" in command.err, f"exit {code}: {command.said}")
    yield f"exit {code}: {command.said}"
