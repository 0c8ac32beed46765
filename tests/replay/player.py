"""Plays one recorded case against a server and compares what comes with what was recorded.

What differs from run to run is mapped, not compared: socket ids, signatures made from them, Date. A connection of which the
recording shows nothing more may have been closed there; it is closed here when only that explains the next step.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sim.pusher import auth
from sim.pusher.http import HttpRequest
from tests.replay import declared
from tests.replay.wire import Closed, Frame, Silent, Wire, encode

SOCKET_ID = re.compile(r"\d+\.\d+")
ESTABLISHED = re.compile(r'socket_id\\+":\\+"(\d+\.\d+)')


@dataclass
class Answer:
    """An HTTP answer as received."""

    raw: str

    @property
    def status(self) -> int:
        return int(self.raw.split(" ", 2)[1]) if self.raw.startswith("HTTP/") else 0

    @property
    def body(self) -> str:
        return self.raw.partition("\r\n\r\n")[2]

    def __str__(self) -> str:
        return repr(self.raw)


class Undeclared(Exception):
    """A difference that no row explains."""


@dataclass
class Player:
    """One case. *apps*: id -> (key, secret). *patience*: seconds to wait for what must come; *pace*: how many times faster than
    the recording the server's clock runs."""

    case: dict[str, Any]
    address: tuple[str, int]
    apps: dict[str, tuple[str, str]]
    faithful: bool = False
    patience: float = 3.0
    pace: float = 1.0
    stop_server: Callable[[], None] | None = None
    wires: dict[str, Wire] = field(default_factory=dict)
    established: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    ids: dict[str, str] = field(default_factory=dict)
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    request: str = ""
    rows: set[str] = field(default_factory=set)

    def play(self) -> set[str]:
        """The declared rows that showed. Raises `Undeclared`."""
        steps = self.case["steps"]
        try:
            for index, step in enumerate(steps):
                if step["conn"] in self.over:
                    continue
                if step["dir"] == "send":
                    self._send(step, steps[index + 1 :])
                elif "observed" not in step:
                    self._receive(step, steps[index:])
            self._nothing_more()
        finally:
            for wire in self.wires.values():
                wire.close()
        return self.rows

    # ---- sending

    def _send(self, step: dict[str, Any], later: list[dict[str, Any]]) -> None:
        name = step["conn"]
        if "http" in step:
            if name in self.wires:
                self.wires.pop(name).close()
            self.wires[name] = Wire(self.address)
            self.request = step["http"]
            self.sent[name] = {}
            for part, pause in _segments(step["http"]):
                self.wires[name].send(self._signed(part) if pause == 0 else part)
                time.sleep(pause)
            return
        if "tcp" in step:
            self.wires.pop(name).close()
            return
        if "raw" in step:
            self.wires[name].send(_bytes(step["raw"]))
            return
        opcode, payload = step["opcode"], self._payload(step, later)
        if opcode in ("text", "binary"):
            try:
                tree = json.loads(payload)
            except ValueError:
                tree = {}
            self.sent[name] = tree if isinstance(tree, dict) else {}
        self.wires[name].send(encode(opcode, payload, step.get("frame")))
        if not later or later[0]["conn"] != name or later[0]["dir"] == "send":
            time.sleep(0.03)  # what has no answer must be handled before another connection speaks

    def _payload(self, step: dict[str, Any], later: list[dict[str, Any]]) -> bytes:
        text = step["payload"]
        described = re.fullmatch(r"(.*?)x*\.\.\.\[(\d+) bytes in all\]", text, re.DOTALL)
        if described:
            opened, size, tail = described[1], int(described[2]), '"}}'
            return (opened + "x" * (size - len(opened) - len(tail)) + tail).encode()
        if step["opcode"] == "close":
            return self._close_payload(text, later)
        return self._own(text).encode()

    def _close_payload(self, text: str, later: list[dict[str, Any]]) -> bytes:
        """The recording lost a code's second byte when that was no text: it is in the echo, or in the case's name."""
        if text[1:2] != "\ufffd":
            return text.encode("latin-1")
        echoed = next((s["close_code"] for s in later if "close_code" in s), 1002)
        named = re.search(r"(\d{4})$", self.case["case"])
        code = echoed if echoed != 1002 or not named else int(named[1])
        return code.to_bytes(2, "big") + text[2:].encode()

    def _own(self, text: str) -> str:
        """With this run's socket ids, and its signature where the recorded one was right."""
        try:
            tree = json.loads(text)
            data = tree["data"]
            recorded, channel = data["auth"], data["channel"]
            channel_data = data.get("channel_data", "")
        except (ValueError, TypeError, KeyError):
            return SOCKET_ID.sub(lambda m: self.ids.get(m[0], m[0]), text)
        if isinstance(recorded, str) and isinstance(channel_data, str):
            _, secret = self.apps[self.case["app"]]
            for old, new in self.ids.items():
                if recorded.endswith(auth.channel_signature(secret, old, channel, channel_data)):
                    signature = auth.channel_signature(secret, new, channel, channel_data)
                    return text.replace(recorded, recorded[: -len(signature)] + signature)
        return text

    def _signed(self, text: str) -> bytes:
        """The request with this run's socket ids, signed anew where the recorded signature was right."""
        head, _, body = text.partition("\r\n\r\n")
        masked = re.fullmatch(r"<masked text frame (.*)>", body, re.DOTALL)
        if masked:
            return f"{head}\r\n\r\n".encode() + encode("text", masked[1].encode())
        own = SOCKET_ID.sub(lambda m: self.ids.get(m[0], m[0]), body)
        if "\r\n\r\n" not in text or head.count(" ") < 2:
            return text.encode()
        method, target, rest = head.split(" ", 2)
        path = target.partition("?")[0]
        query = HttpRequest(method, target).query()
        parts = path.split("/")
        secret = self.apps.get(parts[2], ("", ""))[1] if len(parts) > 2 else ""
        if auth.verify_request(secret, method, path, query, _whole(head, body)):
            # A signature is good for ten minutes, so it is made anew; everything else of the query stays as it was written.
            fresh = query | {"auth_timestamp": str(int(time.time()))}
            signature = auth.request_signature(secret, method, path, fresh, _whole(head, own))
            target = target.replace(query["auth_timestamp"], fresh["auth_timestamp"])
            target = target.replace(query["auth_signature"], signature)
        if own != body:
            rest = re.sub(r"(?i)content-length: \d+", f"Content-Length: {len(own.encode())}", rest)
        return f"{method} {target} {rest}\r\n\r\n{own}".encode()

    # ---- receiving

    def _receive(self, step: dict[str, Any], rest: list[dict[str, Any]]) -> None:
        name = step["conn"]
        if "member_removed" in step.get("payload", ""):
            self._close_finished(rest)
        if "tcp" in step and self.stop_server is not None:
            self.stop_server()
            self.stop_server = None
        wire = self.wires[name]
        try:
            if "opcode" in step:
                self._compare_frame(step, wire)
            elif "tcp" in step:
                self._compare_end(step, wire)
            elif "http" not in step and "raw" not in step:
                raise Undeclared(f"{name}: nothing is known of a step with {', '.join(sorted(step))}")
            elif "101 Switching" in step.get("http", ""):
                self.established.add(name)
                self._compare_answer(step, Answer(wire.head(self._patience(step))))
            else:
                self._compare_http(step, wire)
        except Closed:
            self._differs(step, "closed")
        except Silent:
            self._differs(step, "silent")

    def _patience(self, step: dict[str, Any]) -> float:
        return self.patience + (step.get("t_ms", 0) / 1000 / self.pace if step.get("t_ms", 0) > 3000 else 0)

    def _compare_frame(self, step: dict[str, Any], wire: Wire) -> None:
        frame = wire.frame(self._patience(step))
        if step["opcode"] == "close":
            same = frame.opcode == "close" and (frame.code, frame.reason) == (step["close_code"], step["close_reason"])
        else:
            same = frame.opcode == step["opcode"] and self._mapped(step["payload"], frame.text) == frame.text
        if not same:
            self._differs(step, frame)

    def _mapped(self, recorded: str, came: str) -> str:
        """The recorded text with this run's socket ids; learns the id that a connection is given."""
        old, new = ESTABLISHED.search(recorded), ESTABLISHED.search(came)
        if old and new:
            self.ids[old[1]] = new[1]
        return SOCKET_ID.sub(lambda m: self.ids.get(m[0], m[0]), recorded)

    def _compare_end(self, step: dict[str, Any], wire: Wire) -> None:
        unparsed = re.search(r"unparsed bytes b'(.*)'", step["tcp"])
        if unparsed:
            expected = unparsed[1].encode().decode("unicode_escape")
            came = wire.rest(self._patience(step)).decode("latin-1")
            if came != expected:
                self._differs(step, Answer(came))
            return
        try:
            frame = wire.frame(self._patience(step))
        except Closed:
            self.over.add(step["conn"])
        else:
            self._differs(step, frame)

    def _compare_http(self, step: dict[str, Any], wire: Wire) -> None:
        recorded = step.get("raw", step.get("http"))
        if recorded == "":  # nothing came there either
            try:
                self._differs(step, Answer(wire.head(0.3)))
            except Silent:
                return
        if self.faithful and step["conn"] == "http":
            answer = Answer(wire.rest(self._patience(step)).decode())
        else:
            answer = self._read_answer(wire, step)
        self._compare_answer(step, answer)

    def _read_answer(self, wire: Wire, step: dict[str, Any]) -> Answer:
        patience = self._patience(step)
        head = wire.head(patience)
        length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
        if length and not self.request.startswith("HEAD"):
            return Answer(head + wire.take(int(length[1]), patience).decode())
        if length or " 101 " in head.split("\r\n")[0]:
            return Answer(head)
        if "\ufffd" in step.get("http", ""):  # a frame follows the refusal there
            return Answer(head + "\ufffd?" + wire.frame(patience).text)
        return Answer(head + wire.rest(patience).decode())

    def _compare_answer(self, step: dict[str, Any], answer: Answer) -> None:
        recorded = step.get("raw", step.get("http", ""))
        expected = self._mapped(_masked(recorded), answer.raw)
        if _masked(answer.raw) != expected:
            self._differs(step, answer)

    # ---- judging

    def _differs(self, step: dict[str, Any], got: Any) -> None:
        """Raises `Undeclared` unless a row explains it."""
        name = step.get("conn", "")
        key = self.apps[self.case["app"]][0]
        seen = declared.Seen(step, got, self.sent.get(name, {}), self.request, key, name in self.established, self.rows)
        row = None if self.faithful else declared.explain(seen)
        if row is None:
            raise Undeclared(f"{name} at {step.get('t_ms', 0):g} ms: expected {_shown(step)}, got {got}")
        self.rows.add(row)
        if row in declared.ENDS:
            self.over.add(name)

    def _close_finished(self, rest: list[dict[str, Any]]) -> None:
        """Close connections of which nothing more is recorded."""
        needed = {step["conn"] for step in rest}
        for name in [name for name in self.wires if name not in needed and name != "http"]:
            self.wires.pop(name).close()
            time.sleep(0.03)

    def _nothing_more(self) -> None:
        """Whatever else waits on an open connection must be what the recording did not go on to read: events that the
        connection was entitled to. A ping's pong is where it ends."""
        for name, wire in self.wires.items():
            if name == "http" or name in self.over or not self.ids or wire.gone:
                continue
            wire.send(encode("ping", b"end of case"))
            while True:
                try:
                    frame = wire.frame(self.patience)
                except (Closed, Silent):
                    break
                if frame == Frame("pong", b"end of case"):
                    break
                if not self._entitled(name, frame):
                    self._differs({"conn": name}, frame)

    def _entitled(self, name: str, frame: Frame) -> bool:
        """An event of a channel that the recording subscribes and does not leave, not excluded and not its own."""
        tree = declared.frame_tree(frame.text)
        joined: set[str] = set()
        for step in self.case["steps"]:
            message = declared.frame_tree(step.get("payload", "")) if step["conn"] == name else {}
            if message.get("event") in ("pusher:subscribe", "pusher:unsubscribe"):
                channel = message["data"].get("channel", "")
                joined = joined | {channel} if message["event"] == "pusher:subscribe" else joined - {channel}
            elif message.get("event") == declared.ERROR and message["data"]["code"] == 4009:
                joined.discard(channel)
            elif message.get("event") == tree.get("event") and step["dir"] == "send":
                return False
        own = ESTABLISHED.search(json.dumps([s.get("payload") for s in self.case["steps"] if s["conn"] == name]))
        excluded = own is not None and f'"socket_id": "{own[1]}"' in self.request
        return tree.get("channel") in joined and not excluded


def _bytes(text: str) -> bytes:
    """Bytes that a recording writes as hexadecimal, or as they are."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return text.encode("latin-1", "replace")


def _segments(text: str) -> list[tuple[Any, float]]:
    r"""The request as one text, or, when the recording describes a pause with literal `\r\n`, as bytes and pauses."""
    described = re.split(r" \(pause (\d+) ms\) ", text)
    if len(described) == 1:
        return [(text, 0)]
    parts = [part.replace("\\r\\n", "\r\n").encode() for part in described[::2]]
    return [(part, 0.001 + float(pause) / 1000) for part, pause in zip(parts, [*described[1::2], "0"], strict=True)]


def _masked(text: str) -> str:
    """Without what no two runs share: the date, and the length byte of a frame that the recording decoded as text."""
    text = re.sub(r"(Date: +)[A-Z][^\r]*", r"\1<date>", text)
    return re.sub("\ufffd.", "\ufffd?", text)


def _shown(step: dict[str, Any]) -> str:
    if "close_code" in step:
        return f"close {step['close_code']} {step['close_reason']!r}"
    for member in ("payload", "raw", "http", "tcp"):
        if member in step:
            return f"{step.get('opcode', '')} {step[member]!r}".strip()
    return "nothing more"


def _whole(head: str, body: str) -> bytes:
    """The body that is signed: without the sizes of its chunks, where it is chunked."""
    if not re.search(r"(?i)transfer-encoding:\s*chunked", head):
        return body.encode()
    return "".join(re.findall(r"[0-9a-fA-F]+\r\n(.*?)\r\n", body, re.DOTALL)[:-1]).encode()
