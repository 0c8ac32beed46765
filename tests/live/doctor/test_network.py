"""What the doctor makes of names, connections and clocks, from answers made by hand; real sockets are in `test_checks.py`."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from sim.clock import ns
from sim.live.client import HttpAnswer, HttpOrigin
from sim.live.doctor import network
from sim.live.doctor.checks import Finding, Patient
from sim.live.doctor.listener import Refused
from sim.target import Address, Target
from sim.target.address import Note

TARGET = Target("h", 8080, "http", "a", "k", "s", "http://app")
HTML = {"content-type": "text/html"}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def settings_of(target: Target) -> list[Finding]:
    return asyncio.run(network.browser_settings(Patient(target)))


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({}, "ok", "use the same"),
        ({"browser": Address("h", 443, "http")}, "ok", "port 443 in the page, 8080 on the server"),
        ({"browser": Address("w", 8080, "http", "/r")}, "ok", "host 'w' in the page, 'h' on the server, path '/r' in the page"),
        ({"origin": "https://shop"}, "problem", "would connect without TLS"),
        ({"origin": "https://shop", "browser": Address("h", 443, "https")}, "ok", "scheme 'https' in the page"),
    ],
)
def test_a_page_that_is_built_for_another_place(changes: dict[str, object], status: str, said: str) -> None:
    (found,) = settings_of(dataclasses.replace(TARGET, **changes))  # type: ignore[arg-type]
    assert found.status == status
    assert said in found.detail


def test_what_was_found_in_the_settings_is_said() -> None:
    notes = (Note("a", "b"), Note("c", "d", problem=True))
    found = asyncio.run(network.settings(Patient(dataclasses.replace(TARGET, notes=notes))))
    assert [(finding.status, finding.detail, finding.advice) for finding in found] == [("ok", "a", "b"), ("problem", "c", "d")]
    assert [finding.detail for finding in asyncio.run(network.settings(Patient(TARGET)))] == ["nothing to say"]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (network.PLAIN, "set the scheme to http (REVERB_SCHEME)"),
        (network.TLS, "set the scheme to https (REVERB_SCHEME)"),
        ("certificate: expired", "use the name in the certificate"),
        ("tls: wrong version", "speaks no TLS: set the scheme to http (REVERB_SCHEME)"),
        ("timeout", "a firewall drops the packets"),
        ("refused", "correct REVERB_HOST and its port: nothing accepts connections on port 8080"),
    ],
)
def test_what_to_do_where_nothing_can_connect(reason: str, said: str) -> None:
    assert said in network._remedy(reason, HttpOrigin("h", 8080, tls=False), "broadcaster")


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (HttpAnswer(200), "ok", "application /up: 200"),
        (HttpAnswer(404), "ok", "application has no /up"),
        (HttpAnswer(403), "ok", "application /up: HTTP 403"),
        (HttpAnswer(301, headers={"location": "https://app/up"}), "problem", "application /up: HTTP 301 (to https://app/up)"),
        (HttpAnswer(500), "problem", "application /up: HTTP 500"),
        (HttpAnswer(0, "timeout"), "problem", "application /up: timeout"),
    ],
)
def test_health_by_its_answer(answer: HttpAnswer, status: str, detail: str) -> None:
    (found,) = asyncio.run(network.health(Patient(TARGET, up={"application": answer})))
    assert (found.status, found.detail) == (status, detail)
    assert asyncio.run(network.health(Patient(TARGET, up={"application": answer}, down={"application"}))) == []


@pytest.mark.parametrize(
    ("ahead", "status", "detail"),
    [
        (0.0, "ok", "within 0.5 s of ours (Date header)"),
        (1.9, "ok", "within 2.4 s of ours (Date header)"),
        (-3.0, "problem", "app is -3 s off"),
        (2.6, "problem", "app is +3 s off"),
    ],
)
def test_a_clock_by_the_date_of_an_answer(ahead: float, status: str, detail: str) -> None:
    """The header has whole seconds, cut: half a second more is the best guess. The request took a second."""
    ours = NOON.timestamp() + 0.5 - ahead
    answer = HttpAnswer(200, headers={"date": format_datetime(NOON)}, started_at=ns(ours - 0.5), finished_at=ns(ours + 0.5))
    (found,) = asyncio.run(network.clock(Patient(TARGET, up={"application": answer})))
    assert (found.status, found.detail) == (status, detail)


@pytest.mark.parametrize("headers", [{}, {"date": "yesterday"}])
def test_without_a_date_there_is_no_clock_to_judge(headers: dict[str, str]) -> None:
    answer = HttpAnswer(200, headers=headers)
    (found,) = asyncio.run(network.clock(Patient(TARGET, up={"application": answer})))
    assert (found.status, found.detail) == ("skipped", "app sends no Date header")
    (nobody,) = asyncio.run(network.clock(Patient(TARGET, up={"application": answer}, down={"application"})))
    assert nobody.detail == "nobody answers"


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (Refused("error 4009", code=4009), "refuses the Origin that we sent (http://app)"),
        (Refused("timed out"), "the port is open and silent"),
        (Refused("reset"), "is this the broadcaster's port?"),
        (Refused("", HttpAnswer(200, headers=HTML)), "a web server answers there"),
        (Refused("", HttpAnswer(404)), "no WebSocket server on this path"),
        (Refused("", HttpAnswer(426)), "arrived without its Upgrade"),
        (Refused("", HttpAnswer(500)), "without its Upgrade"),
        (Refused("", HttpAnswer(502)), "does not reach"),
        (Refused("", HttpAnswer(418)), "look at the log of what answers there"),
    ],
)
def test_why_a_page_was_not_let_in(refused: Refused, said: str) -> None:
    assert said in network._advice(Patient(TARGET), refused)
    plain = network._advice(Patient(TARGET), Refused("", HttpAnswer(500, headers=HTML)))
    assert plain == "look at its log"
