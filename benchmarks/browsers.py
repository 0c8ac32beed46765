"""What browsers do and the load client does not: permessage-deflate, and HTTP/2. Measured, so that the difference is known.

    python -m benchmarks.browsers                               about a minute
    python -m benchmarks.browsers --record data/browsers.json   and keep it; the documentation shows that file

Handshakes: a real Chromium at the embedded target, and at a `websockets` server that compresses. Frames: that server and as many
subscribers as --subscribers, the same messages with and without compression; bytes are those that TCP counted, processor time is
the process's own. Refetches: Chromium fetches 1 to 30 resources at once from a Node server over TLS, by HTTP/1.1 and by HTTP/2;
bytes are counted below TLS. All on 127.0.0.1, the two sides in turns; compare the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.results import note
from sim.live.serve import Options, embedded_target
from sim.results.run import host
from sim.scenario import load_scenario
from tests.brokeforge.chrome import Tab, tab

HERE = Path(__file__).resolve().parent
MESSAGES = 400
PAYLOADS = {"notification": 0, "full payload": 4096}
"""Kind -> bytes of the resource in the event; the notification of the pattern has an id and a timestamp."""
AT_ONCE = (1, 6, 12, 30)
"""Resources that one page fetches at the same time: a browser opens at most six HTTP/1.1 connections to one host."""
BODY, SERVICE = 4096, 40
"""Of an answer: bytes, and milliseconds until the application has it."""
ROUNDS = 10
TURNS = 3
"""Times that each side is measured, in turns. The least counts, because other work on the machine can only add."""
BYTES_RECEIVED = slice(128, 136)
"""`tcpi_bytes_received` of Linux's `struct tcp_info`."""
Row = dict[str, Any]


@contextmanager
def started(*command: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A child process, and the JSON line with which it says where it listens; it ends with its standard input."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin
    assert child.stdout
    try:
        yield child, json.loads(child.stdout.readline())
    finally:
        child.stdin.close()
        child.wait(10)


def messages(size: int) -> list[str]:
    """Events as a broadcaster sends them; no two are the same, and the text of a resource is words with figures between them."""
    draw, words = (
        random.Random(1),
        ("server", "provisioned", "installing", "nginx", "running", "queued", "firewall", "allow", "port"),
    )
    found = []
    for i in range(MESSAGES):
        data: dict[str, Any] = {
            "server_id": draw.randint(1, 999),
            "timestamp": f"2026-01-01T00:{i // 60 % 60:02}:{i % 60:02}.{draw.randint(0, 999):03}Z",
        }
        while len(json.dumps(data)) < size:
            data[f"{draw.choice(words)}_{len(data)}"] = f"{draw.choice(words)} {draw.getrandbits(32)}"
        event = {"event": "App\\Events\\ServerUpdated", "data": json.dumps(data), "channel": "private-servers.5"}
        found.append(json.dumps(event))
    return found


def received(connection: ClientConnection) -> int:
    """Bytes that came on a connection so far, by the kernel's count."""
    sock: socket.socket = connection.transport.get_extra_info("socket")
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)[BYTES_RECEIVED], sys.byteorder)


async def fan_out(compression: str | None, subscribers: int) -> dict[str, Row]:
    """Kind of message -> bytes and microseconds per delivery at both ends; memory of the server per connection is in each."""
    with started(sys.executable, "-m", "benchmarks.fanout_stock", *([] if compression is None else ["deflate"])) as (child, at):
        server, url = psutil.Process(child.pid), f"ws://127.0.0.1:{at['port']}/"
        empty = server.memory_info().rss
        options: dict[str, Any] = {"compression": compression, "ping_interval": None, "max_queue": None}
        listening = [await connect(url, **options) for _ in range(subscribers)]
        found: dict[str, Row] = {}
        async with connect(f"{url}publish", compression=None) as publisher:
            for kind, size in PAYLOADS.items():
                texts = messages(size)
                for text in texts[:20]:  # A window of its own grows full first.
                    await once(publisher, listening, text)
                bytes_before, cpu_before, own_before = sum(map(received, listening)), cpu(server), time.process_time()
                for text in texts[20:]:
                    await once(publisher, listening, text)
                deliveries = (len(texts) - 20) * subscribers
                found[kind] = {
                    "message": sum(map(len, texts[20:])) / (len(texts) - 20),
                    "bytes": (sum(map(received, listening)) - bytes_before) / deliveries,
                    "server_us": (cpu(server) - cpu_before) / deliveries * 1e6,
                    "client_us": (time.process_time() - own_before) / deliveries * 1e6,
                }
        for row in found.values():
            row["server_bytes"] = (server.memory_info().rss - empty) / subscribers
        for connection in listening:
            await connection.close()
        return found


async def once(publisher: ClientConnection, listening: list[ClientConnection], text: str) -> None:
    await publisher.send(text)
    for connection in listening:
        got = await connection.recv()
        assert got == text


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def handshakes(browser: Tab) -> dict[str, tuple[str, str]]:
    """Server -> extensions (offered by Chromium, accepted)."""
    with (
        embedded_target(load_scenario("demo"), Options(api_port=0, reverb_port=0)) as serving,
        started(sys.executable, "-m", "benchmarks.fanout_stock", "deflate") as (_, at),
    ):
        urls = {
            "the embedded target": serving.target.websocket_url,
            "`websockets` with compression": f"ws://127.0.0.1:{at['port']}/",
        }
        browser.open(f"{serving.target.api}/up")  # An origin of its own: about:blank has none.
        browser.wait_for("location.protocol === 'http:' && document.readyState === 'complete'")
        for url in urls.values():
            open_it = (
                f"new Promise((done, no) => {{ const s = new WebSocket({json.dumps(url)}); s.onopen = done; s.onerror = no }})"
            )
            browser.evaluate(f"{open_it}.then(() => 1)")
    return dict(zip(urls, browser.extensions[-2:], strict=True))


FETCH = """(async () => {
  const took = []
  for (let round = 0; round < ROUNDS; round++) {
    const began = performance.now()
    await Promise.all(Array.from({length: COUNT}, (_, i) => fetch(`/resources/${i}`).then(answer => answer.json())))
    took.push(performance.now() - began)
  }
  return took
})()"""


def refetches(browser: Tab, scratch: Path) -> list[Row]:
    """For each number at once and each protocol: milliseconds until the last answer, connections, bytes and processor time of the
    server for each request."""
    names = [str(scratch / name) for name in ("certificate.pem", "key.pem")]
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run([*new.split(), "-out", names[0], "-keyout", names[1]], check=True, capture_output=True)
    rows: dict[tuple[int, str], Row] = {}
    with started("node", str(HERE / "browsers.mjs"), *names, str(BODY), str(SERVICE)) as (child, ports):
        assert child.stdin
        assert child.stdout

        def counted() -> dict[str, Any]:
            child.stdin.write("\n")
            child.stdin.flush()
            return dict(json.loads(child.stdout.readline()))

        for count in AT_ONCE:
            for protocol, port in [*ports.items()] * TURNS:
                browser.open(f"https://127.0.0.1:{port}/")
                browser.wait_for("location.protocol === 'https:' && document.readyState === 'complete'")
                asked = FETCH.replace("COUNT", str(count))
                browser.evaluate(asked.replace("ROUNDS", "3"))
                before = counted()
                took = browser.evaluate(asked.replace("ROUNDS", str(ROUNDS)))
                after = counted()
                row: Row = {
                    "at_once": count,
                    "protocol": protocol,
                    "ms": median(took),
                    "connections": after[protocol]["connections"],
                }
                for name in ("received", "sent"):
                    row[name] = (after[protocol][name] - before[protocol][name]) / (count * ROUNDS)
                row["server_us"] = (after["cpu"] - before["cpu"]) / (count * ROUNDS) * 1e6
                rows[count, protocol] = least(rows.get((count, protocol), row), row)
    return list(rows.values())


def least(a: Row, b: Row) -> Row:
    """The smaller of each figure."""
    return {name: min(value, b[name]) if isinstance(value, float) else value for name, value in a.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=100, metavar="N", help="connections that hear each message")
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep what was found as JSON")
    args = parser.parse_args()
    if missing := [name for name in ("node", "openssl", "chromium") if shutil.which(name) is None]:
        print(f"browsers: needs {', '.join(missing)} (nothing was measured)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch, tab("--ignore-certificate-errors") as browser:
        version = browser.call("Browser.getVersion")["product"]
        extensions = handshakes(browser)
        fetched = refetches(browser, Path(scratch))
    frames: dict[str, dict[str, Row]] = {}
    for name, kind in [("plain", None), ("deflate", "deflate")] * TURNS:
        found = asyncio.run(fan_out(kind, args.subscribers))
        frames[name] = {message: least(row, found[message]) for message, row in frames.get(name, found).items()}
    for server, (offered, accepted) in extensions.items():
        print(f"{server}: Chromium offers {offered or 'nothing'}; accepted: {accepted or 'nothing'}")
    print(f"\n{'a delivery':14}{'':9}{'bytes':>8}{'server us':>11}{'client us':>11}{'server kB/connection':>22}")
    for kind in PAYLOADS:
        for name, kinds in frames.items():
            row = kinds[kind]
            memory = row["server_bytes"] / 1024
            print(f"{kind:14}{name:9}{row['bytes']:8.0f}{row['server_us']:11.1f}{row['client_us']:11.1f}{memory:22.1f}")
        for figure in ("bytes", "server_us", "client_us"):
            ratio = frames["deflate"][kind][figure] / frames["plain"][kind][figure]
            note(f"browsers: {kind}, {figure}, deflate", "x plain", [ratio])
            print(f"{kind:14}{figure} with deflate: {ratio:.2f} x plain")
    print(f"\n{'fetches at once':16}{'':7}{'ms':>8}{'connections':>13}{'bytes in':>10}{'bytes out':>11}{'server us':>11}")
    for row in fetched:
        print(
            f"{row['at_once']:<16}{row['protocol']:7}{row['ms']:8.1f}{row['connections']:13}{row['received']:10.0f}"
            f"{row['sent']:11.0f}{row['server_us']:11.0f}"
        )
    for one, two in zip(fetched[::2], fetched[1::2], strict=True):
        ratios = {figure: two[figure] / one[figure] for figure in ("ms", "received", "server_us")}
        note(f"browsers: {one['at_once']} fetches at once, time, HTTP/2", "x HTTP/1.1", [ratios["ms"]])
        print(
            f"{one['at_once']} at once, HTTP/2 in HTTP/1.1: "
            + ", ".join(f"{name} {value:.2f} x" for name, value in ratios.items())
        )
    if args.record:
        record = {
            "command": "python -m benchmarks.browsers",
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": host(),
            "browser": version,
            "subscribers": args.subscribers,
            "service_ms": SERVICE,
            "extensions": [
                {"server": server, "offered": offered, "accepted": accepted} for server, (offered, accepted) in extensions.items()
            ],
            "frames": [{"kind": kind, "compression": name} | found[kind] for kind in PAYLOADS for name, found in frames.items()],
            "refetches": fetched,
        }
        args.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
