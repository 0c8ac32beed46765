"""Applications: credentials and limits of one tenant, in the words of Reverb's `config/reverb.php`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class RateLimiting:
    """Inbound messages of one connection: *max_attempts* in a window of *decay_seconds* that its first message opens."""

    max_attempts: int = 60
    decay_seconds: int = 60
    terminate_on_limit: bool = False


@dataclass(frozen=True, slots=True)
class App:
    """One application. Connections find it by `key`, HTTP requests by `id`."""

    id: str
    key: str
    secret: str
    allowed_origins: tuple[str, ...] = ("*",)
    """Patterns (`*` is any text) for the host of the Origin header; a request without Origin has the empty host."""
    ping_interval: int = 60
    """Seconds after which a silent connection is asked for a pong."""
    activity_timeout: int = 30
    """Seconds of silence after which a client pings; it gets them with `connection_established`."""
    max_connections: int | None = None
    """On each node; None: any number."""
    max_message_size: int = 10_000
    """Bytes of one message of a client."""
    accept_client_events_from: Literal["all", "members", "none"] = "members"
    rate_limiting: RateLimiting | None = None

    def __repr__(self) -> str:
        """Without the secret: an App may end in a log line."""
        return f"App(id={self.id!r}, key={self.key!r})"

    def allows(self, origin: str | None) -> bool:
        if "*" in self.allowed_origins:
            return True
        try:
            host = urlsplit(origin or "").hostname or ""
        except ValueError:
            return False
        return any(_pattern(text).fullmatch(host) for text in self.allowed_origins)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)
