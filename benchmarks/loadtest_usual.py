"""Locustfile of the benchmark: what load tests of WebSockets in Locust usually look like, against the same peer.

A greenlet for each subscriber that blocks in `recv`; `events.request.fire` for each message; a refetch by FastHttpUser 0.2 s
later in a greenlet of its own. CLIENT says with which library: websocket-client (the recipe that everybody copies), or
websockets.sync.
"""

import json
import os
import time
from pathlib import Path

import gevent
from gevent.lock import BoundedSemaphore
from locust import FastHttpUser, events, task

from sim.results import parts
from sim.results.histogram import Histogram

ADDRESS = f"127.0.0.1:{os.environ['PORT']}"
WITH_REFETCH = os.environ["REFETCH"] == "1"
HANDSHAKES = BoundedSemaphore(200)
latencies: list[int] = []
counters = {"notifications": 0, "refetches": 0}
histogram = Histogram()


class WebSocketClient:
    def __init__(self, url):
        import websocket

        self._socket = websocket.create_connection(url)
        self.send, self.recv = self._socket.send, self._socket.recv


class WebsocketsSync:
    def __init__(self, url):
        from websockets.sync.client import connect

        self._socket = connect(url, compression=None, ping_interval=None)
        self.send, self.recv = self._socket.send, self._socket.recv


CLIENT = {"websocket-client": WebSocketClient, "websockets.sync": WebsocketsSync}[os.environ["CLIENT"]]


class Subscriber(FastHttpUser):
    host = f"http://{ADDRESS}"
    pending = False

    @task
    def listen(self):
        with HANDSHAKES:
            socket = CLIENT(f"ws://{ADDRESS}/app/app-key?protocol=7&client=js&version=8.6.0&flash=false")
            socket_id = json.loads(json.loads(socket.recv())["data"])["socket_id"]
            form = {"socket_id": socket_id, "channel_name": "private-servers"}
            auth = self.client.post("/broadcasting/auth", data=form).json()["auth"]
            socket.send(json.dumps({"event": "pusher:subscribe", "data": {"auth": auth, "channel": "private-servers"}}))
        while True:
            message = json.loads(socket.recv())
            if message["event"] == "App\\Events\\ServerUpdated":
                self.heard(json.loads(message["data"]), len(message["data"]))

    def heard(self, data, size):
        latency = time.time_ns() - data["sent_at"]
        latencies.append(latency)
        counters["notifications"] += 1
        events.request.fire(
            request_type="WS", name="ServerUpdated", response_time=latency / 1e6, response_length=size, exception=None, context={}
        )
        if WITH_REFETCH and not self.pending:
            self.pending = True
            gevent.spawn_later(0.2, self.refetch)

    def refetch(self):
        self.pending = False
        self.client.get("/servers/5", name="/servers/:id")
        counters["refetches"] += 1


@events.test_start.add_listener
def report(**_):
    def write():
        while True:
            gevent.sleep(0.5)
            batch, latencies[:] = list(latencies), []
            histogram.add(batch)
            header = {"pid": os.getpid(), "counters": counters, "histograms": {"time_to_notified": histogram.to_dict()}}
            parts.write_header(Path(os.environ["PARTS"]), header)

    gevent.spawn(write)
