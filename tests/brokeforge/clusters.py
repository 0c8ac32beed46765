"""Real database servers for tests: made in a temporary directory, on a free port, gone at the end.

Neither server runs as root: as root they are started as `postgres` and `mysql`. Where a program is missing the tests are
skipped, and say which program it was.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.live.sockets import free_port

PATIENCE = 30.0
"""Seconds a server may take to accept."""


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """URL of a running one."""
    with postgresql_server() as server:
        yield server.url


@contextlib.contextmanager
def mariadb() -> Iterator[str]:
    with mariadb_server() as server:
        yield server.url


class Daemon:
    """A running server, which may be killed and started again on what it has written."""

    def __init__(self, command: list[str], user: str | None, home: Path, port: int, url: str) -> None:
        self.url = url
        self._command, self._user, self._home, self._port = command, user, home, port
        self.start()

    def start(self) -> None:
        """Returns when it accepts."""
        with (self._home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, user=self._user, group=_group(self._user), stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                break
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail((self._home / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)
        time.sleep(0.2)

    def kill(self) -> None:
        """As the kernel does it when memory runs out: the server and all that it has started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        # PostgreSQL: SIGINT is the fast shutdown, which does not wait for clients. MariaDB takes SIGTERM.
        self.process.send_signal(signal.SIGINT if "postgres" in self._command[0] else signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def postgresql_server() -> Iterator[Daemon]:
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    initdb, server = _program("initdb", binaries), _program("postgres", binaries)
    with _directory("postgres") as (home, user):
        _run([initdb, "-D", f"{home}/data", "-U", "forge", "--auth=trust", "--no-sync"], user)
        port = free_port()
        command = [server, "-D", f"{home}/data", "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(home), "-F"]
        daemon = Daemon(command, user, home, port, f"postgresql://forge@127.0.0.1:{port}/postgres")
        try:
            yield daemon
        finally:
            daemon.stop()


@contextlib.contextmanager
def mariadb_server(durable: bool = False) -> Iterator[Daemon]:
    """*durable*: a commit is written when it is acknowledged, and outlives the server's death."""
    install, server = _program("mariadb-install-db"), _program("mariadbd", [Path("/usr/sbin")])
    with _directory("mysql") as (home, user):
        # Without --auth-root-authentication-method only the system's root could log in.
        _run(
            [
                install,
                "--no-defaults",
                f"--datadir={home}/data",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            user,
        )
        port = free_port()
        command = [
            server,
            "--no-defaults",
            f"--datadir={home}/data",
            f"--socket={home}/socket",
            f"--pid-file={home}/pid",
            "--bind-address=127.0.0.1",
            f"--port={port}",
            f"--innodb-flush-log-at-trx-commit={2 if durable else 0}",
            "--skip-log-bin",
        ]
        daemon = Daemon(command, user, home, port, f"mariadb://root@127.0.0.1:{port}/forge")
        try:
            client = _program("mariadb")
            _run([client, f"--socket={home}/socket", "-uroot", "-e", "CREATE DATABASE forge CHARACTER SET utf8mb4"], user)
            yield daemon
        finally:
            daemon.stop()


def _program(name: str, places: list[Path] | None = None) -> str:
    path = os.pathsep.join([*(str(p) for p in reversed(places or [])), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"NOT TESTED: {name} is not installed")
    return found


@contextlib.contextmanager
def _directory(user: str) -> Iterator[tuple[Path, str | None]]:
    """A directory that the server may write to, and as whom to run it (None: as ourselves)."""
    as_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="forge-", ignore_cleanup_errors=True) as home:
        if as_root:
            try:
                entry = pwd.getpwnam(user)
            except KeyError:
                pytest.skip(f"NOT TESTED: root may not run the server, and there is no user {user}")
            os.chown(home, entry.pw_uid, entry.pw_gid)
        yield Path(home), user if as_root else None


def _run(command: list[str], user: str | None) -> None:
    done = subprocess.run(command, user=user, group=_group(user), capture_output=True, text=True, cwd="/", timeout=120)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-500:]} {done.stderr[-500:]}"


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid
