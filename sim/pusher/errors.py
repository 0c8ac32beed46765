"""What goes wrong on the wire. A `PusherError` *is* the frame its peer gets; a `Violation` is the close frame.

    PusherError                     the peer's fault; the connection goes on unless the arm that raised it says otherwise
    +-- UnknownApp           4001
    +-- OverQuota            4004
    +-- Unauthorized         4009   bad or missing signature of a subscription
    +-- OriginNotAllowed     4009
    +-- NotAMember           4009   client event to a channel without a subscription to it
    +-- InvalidMessage       4200
    +-- TooManyChannels      4100   one connection subscribes to more than it may
    +-- PongMissing          4201
    +-- RateLimited          4301
    +-- ClientEventsOff      4301
    Violation               10xx    RFC 6455 is broken: close, with this code and reason

Codes and words are those of Laravel Reverb 1.10; ranges by the Pusher protocol: 40xx do not come back unchanged, 41xx come
back after a second, 42xx come back at once, 43xx other.
"""

from __future__ import annotations

from typing import ClassVar

from sim.pusher import frames, messages


class PusherError(Exception):
    code: ClassVar[int]
    message: ClassVar[str]
    frame: ClassVar[bytes]
    """The whole WebSocket frame, made once."""

    def __init_subclass__(cls, code: int, message: str) -> None:
        cls.code, cls.message, cls.frame = code, message, frames.text(messages.error(code, message))


class UnknownApp(PusherError, code=4001, message="Application does not exist"): ...


class OverQuota(PusherError, code=4004, message="Application is over connection quota"): ...


class Unauthorized(PusherError, code=4009, message="Connection is unauthorized"): ...


class OriginNotAllowed(PusherError, code=4009, message="Origin not allowed"): ...


class NotAMember(PusherError, code=4009, message="The client is not a member of the specified channel."): ...


class InvalidMessage(PusherError, code=4200, message="Invalid message format"): ...


class TooManyChannels(PusherError, code=4100, message="Too many channels on one connection"): ...


class PongMissing(PusherError, code=4201, message="Pong reply not received in time"): ...


class RateLimited(PusherError, code=4301, message="Rate limit exceeded"): ...


class ClientEventsOff(PusherError, code=4301, message="The app does not have client messaging enabled."): ...
