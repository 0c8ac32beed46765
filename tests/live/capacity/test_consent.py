"""Whose machine is it, what would be sent, and who says yes."""

from __future__ import annotations

import io

import pytest

from sim.errors import BadInput
from sim.live.capacity import consent, limits
from sim.live.capacity.consent import Volume
from sim.scenario import Scenario
from sim.target import Target

HERE = Target("localhost", 1, "http", "a", "k", "s", "http://127.0.0.1:1")
THERE = Target("192.0.2.7", 1, "http", "a", "k", "s", "http://192.0.2.8:1")
METERED = Target("ws-eu.pusher.com", 443, "https", "a", "k", "s")


def test_loopback_needs_nobody() -> None:
    consent.require(Volume(connections=10**9), HERE, owned=False)
    assert consent.is_loopback("::1")
    assert not consent.is_loopback("no.such.host.invalid")


def test_the_owner_is_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    consent.require(Volume(connections=10**9), THERE, owned=True)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(BadInput, match=r"192\.0\.2\.7 is not this machine: say --i-own-this-target"):
        consent.require(Volume(3, 4, 5, 6), THERE, owned=False)
    said = capsys.readouterr().err
    assert "192.0.2.7, 192.0.2.8" in said
    assert all(count in said for count in ("3 WebSocket", "4 changes", "5 notifications", "6 other"))


@pytest.mark.parametrize(("typed", "sent"), [("yes\n", True), ("no\n", False), ("y\n", False), ("\n", False)])
def test_asked_at_a_terminal(typed: str, sent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.StringIO(typed)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)
    if sent:
        consent.require(Volume(1, 1, 1, 1), THERE, owned=False)
    else:
        with pytest.raises(BadInput, match="nothing was sent"):
            consent.require(Volume(1, 1, 1, 1), THERE, owned=False)


def test_caps_hold_whatever_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.StringIO("yes\n")
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(BadInput, match=r"501 connections \(cap 500\)"):
        consent.require(Volume(connections=501), THERE, owned=False)


def test_a_metered_service_says_what_is_billed() -> None:
    said = consent.describe(Volume(connections=100, publishes=10, deliveries=990), ["ws-eu.pusher.com"])
    assert "Pusher Channels bills about 1000 messages" in said
    assert consent.hosts(METERED) == ["ws-eu.pusher.com"]


def test_volume_of_a_load_test_counts_every_refetch() -> None:
    pages = [{"page": "dashboard", "subscribers": 10}, {"page": "detail", "subscribers": 40}]
    scenario = Scenario().replace({"pages": pages, "fleet.users": 2, "fleet.servers_per_user": 5})
    assert consent.volume_of_load(scenario, 100) == Volume(connections=50, publishes=100, deliveries=1400, requests=1500)


def test_too_few_descriptors_say_the_command() -> None:
    with pytest.raises(BadInput, match=r"1000000000 file descriptors a process, the limit is \d+: run `ulimit -n 1000000000`"):
        limits.require_descriptors(10**9, "subscribers")


def test_too_few_ports_say_how_many_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "local_ports", lambda: 1000)
    limits.require_ports(1000, "h")
    with pytest.raises(BadInput, match="use 3 machines"):
        limits.require_ports(2001, "h")
