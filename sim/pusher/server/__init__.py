"""The server's side of the protocol: apps, channels, fan-out, nodes and the HTTP API, without sockets.

Imported by `live.broadcaster`.
"""
