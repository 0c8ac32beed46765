"""Closed-loop HTTP load for `benchmarks.application`, on one core and one thread: as little as a client can be.

    python -m benchmarks.application_client PORT CONNECTIONS SECONDS < requests

Standard input holds one JSON text per line: a whole request. Each connection sends one after the other, going round the
list, and waits for the answer in between. Prints one line of JSON: answers by status, seconds, latencies.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

import numpy as np


def main(port: int, connections: int, seconds: float, requests: list[bytes]) -> dict[str, object]:
    """Load `127.0.0.1:port` for *seconds*; latencies in ms."""
    selector = selectors.DefaultSelector()
    sent_at: dict[socket.socket, float] = {}
    next_: dict[socket.socket, int] = {}
    for n in range(connections):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(client, selectors.EVENT_READ)
        next_[client] = n
    statuses: dict[str, int] = {}
    latencies: list[float] = []
    started = time.perf_counter()
    for client in next_:
        sent_at[client] = time.perf_counter()
        client.sendall(requests[next_[client] % len(requests)])
    end = started + seconds
    received = dict.fromkeys(next_, b"")
    while (now := time.perf_counter()) < end:
        for key, _ in selector.select(timeout=0.1):
            client: socket.socket = key.fileobj  # type: ignore[assignment, no-redef]
            received[client] += client.recv(65536)
            head, gap, body = received[client].partition(b"\r\n\r\n")
            if not gap or len(body) < _length(head):
                continue
            now = time.perf_counter()
            received[client] = b""
            latencies.append(now - sent_at[client])
            status = head[9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
            next_[client] += 1
            sent_at[client] = now
            client.sendall(requests[next_[client] % len(requests)])
    spread = np.array(latencies) * 1e3
    return {
        "statuses": statuses,
        "seconds": time.perf_counter() - started,
        "p50": float(np.percentile(spread, 50)),
        "p99": float(np.percentile(spread, 99)),
    }


def _length(head: bytes) -> int:
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
    return int(fields.get(b"content-length", 0))


if __name__ == "__main__":
    lines = [json.loads(line).encode() for line in sys.stdin]
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), lines)))
