"""The race of a broadcast inside the transaction: how often a page that refetches at once reads the old row.

    python -m benchmarks.application_race [--changes 100]

For each moment (`after_commit`, `on_save`) and delay between save and commit: one subscriber of one server refetches at every
notification, without a debounce, while another connection changes the server. A refetch is stale when its version is older than
that of the update that it answers. No further notification comes for that update, so the page stays wrong until the next change.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import connect

from sim.live.serve import Options, embedded_target
from sim.pusher.auth import channel_auth
from sim.scenario import Fleet, Scenario
from sim.target import Target

CASES = (("after_commit", 0.0), ("after_commit", 0.02), ("on_save", 0.0), ("on_save", 0.002), ("on_save", 0.02))
"""Moment, and seconds between save and commit."""
CHANNEL = "private-servers.1"


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.application_race", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--changes", type=int, default=100)
    args = parser.parse_args(argv)
    print(f"{'moment':14}{'commit delay':>13}{'changes':>9}{'stale refetches':>17}{'event before commit, median':>29}")
    for moment, delay in CASES:
        stale, leads = measure(moment, delay, args.changes)
        lead = sorted(leads)[len(leads) // 2] / 1e6
        print(f"{moment:14}{delay * 1e3:10.0f} ms{args.changes:9}{stale / args.changes:16.0%} {lead:26.2f} ms")
    return 0


def measure(moment: str, delay: float, changes: int) -> tuple[int, list[int]]:
    """The number of stale refetches, and the ns from each event to its commit (negative: the event came after the commit)."""
    scenario = Scenario(fleet=Fleet(users=1)).replace(
        {"broadcast.moment": moment, "broadcast.commit_delay": delay, "broadcast.provision_event": False}
    )
    with embedded_target(scenario, Options(api_port=0, reverb_port=0, members=True)) as serving:
        target = serving.target
        read: dict[int, int] = {}
        done = threading.Event()
        ready = threading.Event()
        subscriber = threading.Thread(target=_refetch_at_once, args=(target, changes, read, ready, done), daemon=True)
        subscriber.start()
        ready.wait(10)
        written: dict[int, int] = {}
        leads = []
        client = http.client.HTTPConnection(urlsplit(target.api).netloc, timeout=30)
        for serial in range(changes):
            status = "installing" if serial % 2 == 0 else "completed"
            headers = {"Authorization": f"Bearer {target.users[0].token}", "X-Workbench-Update": str(serial)}
            client.request("PUT", "/servers/1/provision/race", json.dumps({"status": status}), headers)
            answer = json.loads(client.getresponse().read())
            written[serial] = answer["version"]
            leads.append(answer["committed_at"] - answer["published_at"])
        done.wait(10)
    return sum(read.get(serial, 0) < version for serial, version in written.items()), leads


def _refetch_at_once(target: Target, changes: int, read: dict[int, int], ready: threading.Event, done: threading.Event) -> None:
    client = http.client.HTTPConnection(urlsplit(target.api).netloc, timeout=30)
    with connect(f"{target.websocket_url}?protocol=7") as socket:
        socket_id = json.loads(json.loads(socket.recv())["data"])["socket_id"]
        data: dict[str, Any] = {"channel": CHANNEL, "auth": channel_auth(target.key, target.secret, socket_id, CHANNEL)}
        socket.send(json.dumps({"event": "pusher:subscribe", "data": data}))
        socket.recv()
        ready.set()
        while len(read) < changes:
            frame = json.loads(socket.recv(timeout=10))
            if frame.get("channel") != CHANNEL:
                continue
            client.request("GET", "/servers/1", headers={"Authorization": f"Bearer {target.users[0].token}"})
            read[json.loads(frame["data"])["update"]] = json.loads(client.getresponse().read())["version"]
    done.set()


if __name__ == "__main__":
    sys.exit(main())
