"""An Inertia page's side of the protocol, without a socket: what it learns from an answer, and the headers of its reloads.

The first answer is HTML that holds the page object (in an attribute `data-page`, or since version 3 in a script element). A
reload sends `X-Inertia` and the version of the assets; a partial one names component and props as well. When the assets have
changed, the application answers 409, and the browser loads the page anew (as `loadtests.client.page` does).
"""

from __future__ import annotations

import html
import re

import orjson

ACCEPT = "Accept: text/html, application/xhtml+xml\r\nX-Requested-With: XMLHttpRequest\r\n"
"""What Inertia's client sends in place of `application/json`."""

ATTRIBUTE = re.compile(rb"""\sdata-page=(?:"([^"]*)"|'([^']*)')""")
SCRIPT = re.compile(rb"<script[^>]*\sdata-page=[^>]*>(.*?)</script>", re.DOTALL)


def page_object(body: bytes) -> bytes:
    """The page object, as JSON, of an answer in HTML or JSON; the answer itself where there is none."""
    if body[:1] == b"{":
        return body
    script = SCRIPT.search(body)
    if script:
        return script[1].strip()
    attribute = ATTRIBUTE.search(body)
    if attribute is None:
        return body
    return html.unescape((attribute[1] or attribute[2] or b"").decode("utf-8", "replace")).encode()


class Inertia:
    """The state of one page: give every whole answer to `learn`, and send `headers` with the next reload."""

    __slots__ = ("_only", "headers")

    def __init__(self, only: tuple[str, ...] = ()) -> None:
        self._only = only
        self.headers = b""
        """Header lines of a reload; empty until the page has been loaded."""

    def learn(self, body: bytes) -> bytes:
        """The page object of *body*, as JSON."""
        found = page_object(body)
        try:
            tree = orjson.loads(found)
            component, version = str(tree["component"]), tree.get("version")
        except (ValueError, KeyError, TypeError, AttributeError):
            return found
        lines = "X-Inertia: true\r\n" + (f"X-Inertia-Version: {version}\r\n" if version else "")
        if self._only:
            lines += f"X-Inertia-Partial-Component: {component}\r\nX-Inertia-Partial-Data: {','.join(self._only)}\r\n"
        self.headers = lines.encode("latin-1", "replace")
        return found
