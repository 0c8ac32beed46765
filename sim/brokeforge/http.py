"""Requests and answers as values: what the edge of `sim.live` reads and writes, and what the application decides on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import orjson

REASONS = {status.value: status.phrase for status in HTTPStatus} | {413: "Content Too Large", 422: "Unprocessable Content"}
"""Status -> reason phrase of RFC 9110; Python has older ones for two of them."""

MAX_BODY = 64 * 1024
"""Bytes of a request's body; more is answered 413. No change of a model needs a tenth of it."""


@dataclass(slots=True)
class Request:
    """One request, read completely. Header names are lower case."""

    method: str
    path: str
    """Decoded, without query."""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""
    """The client's address, for the rate limiter of guests."""

    def form(self) -> dict[str, str]:
        """Query and form body together, as Laravel's `$request->input()`; the body wins. Raises `HttpError` 400."""
        fields = dict(parse_qsl(self.query, keep_blank_values=True))
        kind = self.headers.get("content-type", "")
        if self.body and kind.startswith("application/json"):
            fields |= {k: v if isinstance(v, str) else str(v) for k, v in self.json().items()}
        elif self.body:
            try:
                fields |= dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))
            except ValueError as error:
                raise HttpError(400, "The body is not a form (socket_id=...&channel_name=...).") from error
        return fields

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `HttpError` 400."""
        try:
            tree = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise HttpError(400, f"The body is not valid JSON: {error}") from error
        if not isinstance(tree, dict):
            raise HttpError(400, "The body must be a JSON object.")
        return tree


@dataclass(slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    """Besides Content-Length, which the edge writes."""
    rows: int = 0
    """Servers that a dashboard was made from, where each costs time (`api.service_per_row`)."""


JSON = ("Content-Type", "application/json")


def json_response(tree: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(status, orjson.dumps(tree), (JSON, *headers))


class HttpError(Exception):
    """An answer that ends the request: `{"message": ..., "errors": {field: [text, ...]}}`, Laravel's shape."""

    def __init__(
        self,
        status: int,
        message: str = "",
        errors: Mapping[str, list[str]] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message or REASONS[status])
        self.status = status
        self.errors = errors
        self.headers = headers

    def response(self) -> Response:
        tree: dict[str, Any] = {"message": str(self)}
        if self.errors:
            tree["errors"] = self.errors
        return json_response(tree, self.status, self.headers)


def invalid(errors: Mapping[str, list[str]]) -> HttpError:
    """422 with Laravel's summary: the first text, and how many more there are."""
    texts = [text for several in errors.values() for text in several]
    more = f" (and {len(texts) - 1} more error{'s' if len(texts) > 2 else ''})" if len(texts) > 1 else ""
    return HttpError(422, texts[0] + more, errors)
