"""A whole set-up for a case: broadcaster, application, proxies before either, and the target that its owner would write."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import queue
import random
import secrets
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.live.broadcaster.node import Node
from sim.live.broadcaster.settings import BroadcasterSettings
from sim.live.client import HttpConnection, HttpOrigin
from sim.pusher.server.apps import App
from sim.target import Account, Address, Target
from tests.standin import application, proxy
from tests.standin.application import key

DEFAULT_THRESHOLDS = gc.get_threshold()
HEALTHY = application.Switches()


@dataclass(frozen=True)
class Setup:
    """The defaults are healthy, and as far from the embedded target as a real application is."""

    application: application.Switches | None = HEALTHY
    """None: there is only a broadcaster."""
    app: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the broadcaster's app."""
    broadcaster: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the broadcaster, as `path` or `faithful`."""
    before_broadcaster: proxy.Switches | None = None
    before_application: proxy.Switches | None = None
    pages_elsewhere: bool = False
    """Pages connect through the proxy, the application publishes straight to the broadcaster."""
    tls: bool = False
    """TLS ends at the proxy before the broadcaster."""
    sessions: bool = False
    """Users log in; otherwise they have tokens."""
    accounts: bool = True
    target: Mapping[str, Any] = field(default_factory=dict)
    """What the owner has written otherwise than it is."""
    dotenv: str | None = None
    """Lines at the end of the application's `.env`, from which the target then is read; `{port}` is the broadcaster's. None: the
    target is known otherwise."""


def users(switches: application.Switches, sessions: bool) -> tuple[Account, ...]:
    found = []
    for number in (1, 2):
        owned = tuple(key(switches.keys, n) for n in (2 * number - 1, 2 * number))
        login = (("email", f"user-{number}@shop.example"), ("password", f"secret-{number}"))
        servers, others = (owned, ()) if switches.kind == "servers" else ((), ((switches.kind, owned),))
        found.append(Account(number, "" if sessions else f"token-{number}", servers, (), others, login if sessions else ()))
    return tuple(found)


def _from_dotenv(target: Target, more: str) -> Target:
    """As Laravel's application would have it."""
    known = {"APP_ID": target.app_id, "APP_KEY": target.key, "APP_SECRET": target.secret, "HOST": target.host}
    lines = [f"REVERB_{name}={value}" for name, value in (known | {"PORT": target.port, "SCHEME": target.scheme}).items()]
    lines += [f"APP_URL={target.api}", "BROADCAST_CONNECTION=reverb", more.replace("{port}", str(target.port))]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / ".env"
        path.write_text("\n".join(lines), encoding="utf-8")
        return Target.from_environment({}, path)


@contextlib.asynccontextmanager
async def standing(setup: Setup, tls: ssl.SSLContext | None = None) -> AsyncIterator[Target]:
    """All of it while the block runs; yields the target. *tls*: a server's context, for `Setup.tls`."""
    app = App(**({"id": "1001", "key": "app-key", "secret": "app-secret"} | dict(setup.app)))
    node = Node(BroadcasterSettings(**({"apps": (app,), "port": 0} | dict(setup.broadcaster))))
    async with contextlib.AsyncExitStack() as stack:
        port = behind = await node.listen()
        stack.push_async_callback(node.stop)
        # A node arranges the collector for itself, as it owns its process. What it froze stays so: mostly the tests' modules.
        stack.callback(gc.set_threshold, *DEFAULT_THRESHOLDS)
        path = str(setup.broadcaster.get("path", ""))
        inner = Target("127.0.0.1", behind, "http", app.id, app.key, app.secret, path=f"/{path}" if path else "")
        if setup.before_broadcaster is not None:
            port = await stack.enter_async_context(proxy.proxy(setup.before_broadcaster, behind, tls if setup.tls else None))
        api, accounts = "", ()
        if setup.application is not None:
            _, own = await stack.enter_async_context(application.application(setup.application, inner))
            if setup.before_application is not None:
                own = await stack.enter_async_context(proxy.proxy(setup.before_application, own))
            api = f"http://127.0.0.1:{own}"
            accounts = users(setup.application, setup.sessions) if setup.accounts else ()
        scheme = "https" if setup.tls else "http"
        written = dataclasses.replace(inner, port=port, scheme=scheme, api=api, users=accounts)
        if setup.dotenv is not None:
            written = dataclasses.replace(_from_dotenv(written, setup.dotenv), users=accounts)
        if setup.pages_elsewhere:
            written = dataclasses.replace(
                written, port=behind, scheme="http", browser=Address("127.0.0.1", port, scheme, inner.path)
            )
        yield dataclasses.replace(written, **setup.target)


@contextlib.contextmanager
def standing_in_a_thread(setup: Setup, changes: float = 0.0) -> Iterator[Target]:
    """The same beside a test that does not run on asyncio. *changes*: a second, made by the users in turn; 0: none."""
    ready: queue.Queue[Target] = queue.Queue()
    over = threading.Event()

    async def serve() -> None:
        async with standing(setup) as target:
            ready.put(target)
            while not over.is_set():
                await asyncio.sleep(1 / changes if changes else 0.05)
                if changes:
                    await _change(setup, target)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        yield ready.get(timeout=10)
    finally:
        over.set()
        thread.join(10)


async def _change(setup: Setup, target: Target) -> None:
    """Somebody works with the application."""
    assert setup.application is not None
    user = random.choice(users(setup.application, sessions=False))
    kind = setup.application.kind
    body = json.dumps({"status": secrets.token_hex(4)})
    headers = [("Authorization", f"Bearer {user.token}"), ("Content-Type", "application/json")]
    connection = HttpConnection(HttpOrigin.parse(target.api))
    await connection.request("PUT", f"/api/{kind}/{random.choice(user.ids(kind))}", headers, body.encode())
    connection.close()
