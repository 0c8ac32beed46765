"""Refetches per second and core of the load client's HTTP: 64 keep-alive connections in a closed loop for SECONDS."""

import sys
import time

import orjson
from gevent.event import Event

from loadtests.client.http import Answer, Pool, Traffic
from loadtests.client.mux import Mux
from loadtests.client.streams import Origin
from sim.resource_version import version_at


def main(port: int, seconds: float) -> None:
    """Prints `COUNT CPU_SECONDS`."""
    mux = Mux()
    pool = Pool(Traffic(mux), Origin(f"http://127.0.0.1:{port}"), 64)
    over, until, count = Event(), time.monotonic() + seconds, 0

    def answered(answer: Answer) -> None:
        nonlocal count
        count += 1
        assert version_at(orjson.loads(answer.body), ("version",)) is not None
        if time.monotonic() < until:
            pool.send("GET", "/servers/5", answered, b"Accept: application/json\r\nAuthorization: Bearer token\r\n")
        else:
            over.set()

    before = time.process_time()
    for _ in range(64):
        pool.send("GET", "/servers/5", answered)
    over.wait()
    print(count, time.process_time() - before)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
