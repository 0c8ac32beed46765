"""Whose machine is it, what would be sent, and who says yes."""

from __future__ import annotations

import copy
import dataclasses
import io

import pytest

from sim.errors import BadInput
from sim.live.capacity import consent, limits
from sim.live.capacity.consent import Volume
from sim.scenario import Scenario
from sim.target import Account, Target
from sim.virtual import reference

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


SIZES = {"dashboard": 10, "detail": 40, "site": 5, "task": 5}
PATTERN = [{"page": page, "subscribers": count} for page, count in SIZES.items()]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"policy.wait": 0.0, "policy.kind": "immediate"},
        {"policy": {"kind": "polling", "interval": 0.7}},
        {"broadcast.channels": "generic"},
        {"broadcast.channels": "per_user"},
        {"pages.1.session": {"kind": "exponential", "scale": 2.0}, "pages.0.session": 1.0, "pages.0.refetch_on_reconnect": True},
        {"pages.1.hidden": 0.5, "api.retries": 2, "api.queue_limit": 0, "api.service": 0.2},
        {"workload": {"kind": "bursty"}},
        {"workload": {"kind": "constant", "rate": 30.0, "site_share": 0.5}},
        {"workload": {"kind": "tasks", "takes": 0.5, "per_minute": 600, "parts": 1}},
    ],
)
def test_what_is_announced_is_never_exceeded_by_a_simulated_run(changes: dict[str, object]) -> None:
    scenario = Scenario(duration=6.0).replace(
        {"pages": copy.deepcopy(PATTERN), "fleet.users": 3, "fleet.servers_per_user": 2} | changes
    )
    users = tuple(Account(i, "t", (2 * i - 1, 2 * i), (i,)) for i in range(1, 4))
    volume = consent.volume_of_load(scenario, dataclasses.replace(HERE, users=users))
    run = reference.run(scenario)
    lives = len(run.pages)
    listening = [p for p in scenario.pages if scenario.policy_of(p).kind != "polling"]
    channels = {"dashboard": 2}
    assert volume.publishes >= len(run.updates)
    assert volume.connections == sum(p.subscribers for p in listening)
    assert len(run.notifications) <= volume.deliveries
    attempts = len(run.refetches) * (1 + scenario.api.retries)
    authorisations = sum(channels.get(page, 1) for page in run.pages["page"]) if listening else 0
    assert attempts + lives + authorisations <= volume.requests


def test_a_live_application_s_own_changes_cannot_be_announced() -> None:
    scenario = Scenario().replace({"publisher.via": "none", "pages": [{"subscribers": 10, "behaviour": "reconnect_loop"}]})
    volume = consent.volume_of_load(scenario, HERE)
    assert (volume.connections, volume.publishes, volume.deliveries) == (10, 0, 0)
    assert volume.requests > 10 * 2 * scenario.duration
    assert "the application's own changes" in consent.describe(volume, ["shop.example"])


def test_without_an_application_nothing_is_asked_of_it() -> None:
    volume = consent.volume_of_load(Scenario(), METERED)
    assert volume.requests == volume.connections


def test_too_few_descriptors_say_the_command() -> None:
    with pytest.raises(BadInput, match=r"1000000000 file descriptors a process, the limit is \d+: run `ulimit -n 1000000000`"):
        limits.require_descriptors(10**9, "subscribers")


def test_too_few_ports_say_how_many_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "local_ports", lambda: 1000)
    limits.require_ports(1000, "h")
    with pytest.raises(BadInput, match=r"use 3 machines$"):
        limits.require_ports(2001, "h", processes=3)
    # On loopback each process has an address, and so ports, of its own.
    limits.require_ports(3000, "127.0.0.1", processes=3)
    with pytest.raises(BadInput, match=r"use 2 machines or processes \(--processes 6\)$"):
        limits.require_ports(3001, "127.0.0.1", processes=3)
