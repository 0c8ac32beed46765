"""Where the models live: one URL, two engines (reads, changes), and the transaction in which a change happens.

Reads run in autocommit and fetch a resource's `version` first: what follows is at least that new, so a page never claims
to be fresher than it is. Changes lock the row of their resource before they look at it, and take the sequence number last,
which orders sequence numbers like commits and lets no two writers wait for each other in a circle.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Select, bindparam, create_engine, event, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from sim.brokeforge.domain import change_set
from sim.brokeforge.domain.change_set import ChangeSet
from sim.brokeforge.domain.models import Base, Counter, Server, ServerSite, Task
from sim.errors import BadInput

DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
"""The drivers that are installed and tested, by the name people write in a URL."""

LOCK_WAIT = 15
"""Seconds a change waits for a locked row (or the locked file) before it gives up."""


def parse_url(text: str) -> URL:
    """*text* with the tested driver filled in. Raises `BadInput` without repeating a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise BadInput("--database must be a URL such as sqlite:///file.db or postgresql://user@host/name") from error
    if url.drivername in DRIVERS:
        url = url.set(drivername=DRIVERS[url.drivername])
    if url.get_backend_name() not in ("sqlite", "postgresql", "mysql", "mariadb"):
        raise BadInput(f"--database: {url.drivername} is not supported (sqlite, postgresql, mariadb)")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise BadInput("--database: an SQLite database must be a file, several workers share it")
    return url


class Turn:
    """Whose turn it is to change the embedded file.

    SQLite waits for its one writer by asking again and again, with sleeps of up to 100 ms in between; eight writers then change
    a third of what they could, and the slowest waits for half a second. Here they stand in line: threads by a lock, processes
    by that of the file *path*. The next one's turn comes with the commit, before its event is broadcast.
    """

    def __init__(self, path: str | None = None) -> None:
        self._lock = threading.Lock()
        self._file = None if path is None else open(path, "ab")  # noqa: SIM115 - it is open as long as the database

    def acquire(self) -> None:
        self._lock.acquire()
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._lock.release()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)
            self._file = None


class Database:
    """Engines of one URL. *latency*: additional seconds of each round trip. *volatile*: may be lost in a power cut. *shared*:
    other processes change the same embedded file."""

    def __init__(
        self, url: str | URL, latency: float = 0.0, volatile: bool = False, pool: int = 16, shared: bool = False
    ) -> None:
        self.url = parse_url(url) if isinstance(url, str) else url
        self.embedded = self.url.get_backend_name() == "sqlite"
        try:
            if self.embedded:
                options: dict[str, Any] = {"connect_args": {"check_same_thread": False, "timeout": LOCK_WAIT}}
                self._reads = create_engine(self.url, isolation_level="AUTOCOMMIT", pool_size=pool, **options)
                self._changes = create_engine(self.url, pool_size=pool, max_overflow=0, **options)
                for engine in (self._reads, self._changes):
                    event.listen(engine, "connect", _tune_sqlite(volatile))
                # A deferred BEGIN that turns into a write half-way cannot wait for its lock; an immediate one can.
                event.listen(self._changes, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
            else:
                self._reads = create_engine(self.url, isolation_level="AUTOCOMMIT", pool_size=pool, pool_pre_ping=True)
                self._changes = create_engine(self.url, isolation_level="READ COMMITTED", pool_size=pool, pool_pre_ping=True)
        except (NoSuchModuleError, ImportError) as error:
            raise BadInput(f"--database: the driver of {self.url.drivername} is missing (pip install '.[databases]')") from error
        if latency > 0:
            for engine in (self._reads, self._changes):
                event.listen(engine, "before_cursor_execute", lambda *_: time.sleep(latency))
        self.sessions = sessionmaker(self._changes, expire_on_commit=False, autoflush=False)
        self._turn = Turn(f"{self.url.database}-turn" if self.embedded and shared else None)
        event.listen(self.sessions, "after_commit", _end_turn)
        self._local = threading.local()
        self._reading: set[Connection] = set()
        """Every thread's connection, so that `close` reaches those of threads that ended without `release`."""

    @property
    def engine(self) -> Engine:
        """The engine of changes; for set-up and tests."""
        return self._changes

    def prepare(self) -> None:
        """Make the tables that are missing. Raises `BadInput` when the database cannot be reached or used."""
        try:
            Base.metadata.create_all(self._changes)
            with self.sessions.begin() as session:
                if session.get(Counter, "sequence") is None:
                    session.add(Counter(name="sequence", value=0))
        except SQLAlchemyError as error:
            raise BadInput(f"--database {self.url.render_as_string()}: {_reason(error)}") from error
        for name in ("servers", "tasks"):
            have = {column["name"] for column in inspect(self._changes).get_columns(name)}
            if missing := sorted({column.name for column in Base.metadata.tables[name].columns} - have):
                raise BadInput(
                    f"--database {self.url.render_as_string()}: its table {name} lacks {missing[0]}; give this application "
                    "a database of its own"
                )

    def read(self) -> Connection:
        """This thread's connection for reads; it stays open until `close`."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.closed or connection.invalidated:
            self.release()
            connection = self._local.connection = self._reads.connect()
            self._reading.add(connection)
        return connection

    def release(self) -> None:
        """Give this thread's connection back; for threads that end before the application does."""
        connection: Connection | None = self._local.__dict__.pop("connection", None)
        if connection is not None:
            self._reading.discard(connection)
            connection.close()

    @contextmanager
    def change(self, before_commit: Callable[[], None] | None = None, changes: ChangeSet | None = None) -> Iterator[Session]:
        """A transaction: committed when the block ends, rolled back when it raises.

        *changes* takes up what is changed, and says for whom. *before_commit* runs between the save and the commit.
        """
        with self.sessions(info={change_set.KEY: changes or ChangeSet()}) as session:
            if self.embedded:
                self._turn.acquire()
                change_set.of(session).end_turn = self._turn.release
                change_set.of(session).lock_taken()
            try:
                yield session
                session.flush()
                if before_commit is not None:
                    before_commit()
                session.commit()
            except BaseException:
                session.rollback()
                raise
            finally:
                _end_turn(session)

    def close(self) -> None:
        self._turn.close()
        while self._reading:
            self._reading.pop().close()
        self._reads.dispose()
        self._changes.dispose()


Lockable = TypeVar("Lockable", Server, ServerSite, Task)

_LOCKED: dict[type, Select[Any]] = {
    model: select(model).where(model.id == bindparam("id")).with_for_update(of=model) for model in (Server, ServerSite, Task)
}


def locked(session: Session, model: type[Lockable], id: int) -> Lockable | None:
    """The row as it is now, and nobody else's until the end of the transaction; None: there is none.

    (The embedded file is one writer's as a whole.)
    """
    row = session.scalars(_LOCKED[model], {"id": id}).one_or_none()
    change_set.of(session).lock_taken()
    return row


def _end_turn(session: Session) -> None:
    """Let the next writer begin, once."""
    changes = change_set.of(session)
    end, changes.end_turn = changes.end_turn, None
    if end is not None:
        end()


def _tune_sqlite(volatile: bool) -> Callable[[Any, Any], None]:
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={'OFF' if volatile else 'NORMAL'}",
            "foreign_keys=ON",
            "cache_size=-65536",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return connected


def _reason(error: SQLAlchemyError) -> str:
    """The driver's own words on one line."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(original).split())[:300]
