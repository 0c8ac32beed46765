"""A real database killed under the application's writers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import pairwise

from sqlalchemy import func, select

from sim.brokeforge.domain.models import ServerEvent
from sim.scenario import Fleet
from tests.brokeforge import clusters
from tests.brokeforge.forge import Forge
from tests.torture.case import Stage, case, need
from tests.torture.commands import PATIENCE

WRITERS = 6
STEPS = 60
"""Of one writer on one server: three write to it at a time, and it takes 256."""
SERVERS = 40
"""Of each of two users."""
DEATHS = 3


@case
def postgresql_killed(stage: Stage) -> Iterator[str]:
    """PostgreSQL killed in mid-transaction, several times: no acknowledged change is lost, and versions strictly grow."""
    yield from killed_under(stage, clusters.postgresql_server)


@case
def mariadb_killed(stage: Stage) -> Iterator[str]:
    """MariaDB killed in mid-transaction, several times: no change that was acknowledged is lost, and versions strictly grow."""
    yield from killed_under(stage, partial(clusters.mariadb_server, durable=True))


def events(forge: Forge) -> int:
    """Lines of servers' histories."""
    with forge.database.sessions() as session:
        return session.scalar(select(func.count()).select_from(ServerEvent)) or 0


def killed_under(stage: Stage, server: Callable[[], AbstractContextManager[clusters.Daemon]]) -> Iterator[str]:
    acknowledged: list[tuple[int, int, int, str]] = []
    failed: list[int] = []
    over = threading.Event()

    def write(forge: Forge, writer: int) -> None:
        number = done = 0
        while not over.is_set():
            number += 1
            # A step of its own for each change: what was acknowledged must be there by name.
            id, step = 1 + writer % 2 + 2 * (done // STEPS), f"w{writer}n{number}"
            response = forge.request("PUT", f"/servers/{id}/provision/{step}", {"status": "installing"})
            if response.status == 200:
                done += 1
                body = json.loads(response.body)
                acknowledged.append((id, body["version"], body["sequence"], step))
            else:
                failed.append(response.status)
                time.sleep(0.02)

    with server() as daemon:
        forge = Forge(daemon.url, fleet_=Fleet(users=2, servers_per_user=SERVERS, sites_per_user=1))
        try:
            before = events(forge)
            writers = [threading.Thread(target=write, args=(forge, n)) for n in range(WRITERS)]
            for thread in writers:
                thread.start()
            lowest = []
            for _ in range(DEATHS * (3 if stage.long else 1)):
                time.sleep(1.0)
                daemon.kill()
                lowest.append(len(acknowledged))
                time.sleep(0.3)
                daemon.start()
                deadline = time.monotonic() + PATIENCE  # until a busy machine has written again, too
                while len(acknowledged) <= lowest[-1] + WRITERS and time.monotonic() < deadline:
                    time.sleep(0.1)
            over.set()
            for thread in writers:
                thread.join(60)
            need(not any(thread.is_alive() for thread in writers), "a writer hangs after the database was killed")
            need(len(acknowledged) > lowest[-1] > 0, f"nothing was written after the last death: {lowest}, {len(acknowledged)}")
            need(set(failed) <= {503}, f"answers while it was away: {sorted(set(failed))}")
            for id in sorted({row[0] for row in acknowledged}):
                mine = [row for row in acknowledged if row[0] == id]
                versions = [version for _, version, *_ in sorted(mine, key=lambda row: row[2])]
                need(
                    all(b > a for a, b in pairwise(versions)),
                    f"server {id}: a version came twice or went back",
                )
                page = forge.json("GET", f"/servers/{id}")
                need(page["version"] >= versions[-1], f"server {id} shows {page['version']}, {versions[-1]} was acknowledged")
                lost = [step for *_, step in mine if step not in page["provision"]]
                need(not lost, f"server {id}: acknowledged and gone: {lost[:5]}")
            sequences = [row[2] for row in acknowledged]
            need(len(set(sequences)) == len(sequences), "a sequence number was given twice")
            written = events(forge) - before
            need(written >= len(acknowledged), f"{written} events of servers for {len(acknowledged)} changes")
            deaths = len(lowest)
        finally:
            over.set()
            forge.close()
    stage.figures.update(acknowledged=len(acknowledged), refused=len(failed), deaths=deaths)
    yield f"{deaths} deaths, {len(acknowledged)} changes acknowledged and there, {len(failed)} answered 503"
