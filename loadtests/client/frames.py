"""Where a WebSocket frame begins and ends: the header walk of RFC 6455 §5.2, for frames as a server sends them (unmasked)."""

from __future__ import annotations

WHOLE_TEXT = 0x81
"""First byte of a text message in one frame: nearly all that a broadcaster sends."""

MIDDLING = bytes((WHOLE_TEXT, 126))
"""How a message of 126 to 65,535 bytes begins, as a broadcast is; two bytes of its length follow."""


def is_one(data: bytes) -> bool:
    """Whether it is one such message and nothing else, which is nearly every read."""
    return data[:2] == MIDDLING and len(data) > 4 and (data[2] << 8 | data[3]) == len(data) - 4


def extent(data: bytes, start: int) -> tuple[int, int] | None:
    """(where the payload begins, where the frame ends) of the frame at *start*; None while its header is incomplete.

    The end may lie beyond what is there yet. A masked frame, which no server may send, has its payload after the mask.
    """
    there = len(data) - start
    if there < 2:
        return None
    length = data[start + 1]
    mask = 4 if length > 127 else 0
    length &= 127
    if length < 126:
        payload = start + 2 + mask
    elif length == 126:
        if there < 4:
            return None
        length = data[start + 2] << 8 | data[start + 3]
        payload = start + 4 + mask
    else:
        if there < 10:
            return None
        length = int.from_bytes(data[start + 2 : start + 10], "big")
        payload = start + 10 + mask
    return payload, payload + length
