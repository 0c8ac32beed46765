"""The usual recipe that the fan-out is compared with: a `websockets` server and its `broadcast`, nothing else.

Prints its port; with the argument `deflate` it compresses for peers that offer to. A message on a WebSocket opened at /publish is
broadcast to all others. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main() -> None:
    subscribers: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        if connection.request.path == "/publish":
            async for message in connection:
                broadcast(subscribers, message)
            return
        subscribers.add(connection)
        try:
            await connection.wait_closed()
        finally:
            subscribers.discard(connection)

    compression = "deflate" if "deflate" in sys.argv[1:] else None
    async with serve(handler, "127.0.0.1", 0, compression=compression, ping_interval=None, backlog=4096) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
