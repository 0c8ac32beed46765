"""Locustfile of the benchmark: this project's pages against benchmarks/fanout_peer.c, with or without refetches."""

import os
from pathlib import Path

import loadtests.client.mux
from loadtests.client.plant import Plant
from loadtests.settings import Settings
from loadtests.users import Debounce, EchoUser
from sim.scenario import Scenario

address = f"127.0.0.1:{os.environ['PORT']}"
scenario = Scenario().replace({"load.receive_stamp": os.environ.get("STAMP", "kernel")})
if os.environ["CLIENT"] == "epoll":

    class Refused(loadtests.client.mux.ReceiveRing):
        def __init__(self, *_: object) -> None:
            raise OSError

    loadtests.client.mux.ReceiveRing = Refused  # type: ignore[misc]
Plant.configured = Settings(scenario=scenario, parts=Path(os.environ["PARTS"]))


class Page(EchoUser):
    host = f"http://{address}"
    broadcaster = f"ws://{address}/app/app-key"
    channels = ("private-servers",)
    refetch = "/servers/5" if os.environ["REFETCH"] == "1" else ""
    policy = Debounce(0.2)
