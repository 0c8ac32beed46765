"""The embedded application behind Starlette on uvicorn, for `benchmarks.application --edge starlette`: the library edge.

    echo '{"host": ..., "port": 0, ...}' | python -m benchmarks.application_starlette

Configured as `sim.live.application.main` is. Handlers, database and answers are the same; only what reads a request and writes
an answer differs, so that the difference of the two is the price of the edge.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route

from sim.brokeforge.handlers.routes import ROUTES
from sim.brokeforge.http import Request
from sim.live.application.main import make_application
from sim.live.sockets import bound


def main() -> int:
    """Serve until SIGTERM."""
    config = json.loads(sys.stdin.readline())
    app, queue, _ = make_application(config)

    async def endpoint(incoming: StarletteRequest) -> StarletteResponse:
        request = Request(
            incoming.method,
            incoming.url.path,
            incoming.url.query,
            incoming.headers,
            await incoming.body(),
            incoming.client.host if incoming.client else "",
        )
        answer = app.handle(request)
        return StarletteResponse(answer.body, answer.status, dict(answer.headers))

    # Starlette wants every parameter's name once.
    patterns = {route: route.pattern.replace("rules/{id}", "rules/{rule}") for route in ROUTES}
    routes = [Route(pattern, endpoint, methods=[route.method]) for route, pattern in patterns.items()]
    listener = bound(config["host"], config["port"])
    listener.listen(2048)
    Path(config["ready"]).write_text(json.dumps({"port": listener.getsockname()[1]}))
    settings = uvicorn.Config(Starlette(routes=routes), http="httptools", loop="uvloop", access_log=False, log_level="warning")
    uvicorn.Server(settings).run(sockets=[listener])
    queue.close()
    app.database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
