"""Every address of the target is looked at before anything is started."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from sim.errors import Unreachable
from sim.live.probe import places, require_reachable
from sim.target import Address, Target

TARGET = Target("127.0.0.1", 1, "http", "a", "k", "s")


@pytest.mark.loopback
def test_whichever_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_port, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        here, nowhere = open_port.getsockname()[1], taken.getsockname()[1]
        target = dataclasses.replace(TARGET, port=here)
        require_reachable(target)
        with pytest.raises(Unreachable, match=f"^broadcaster for pages 127.0.0.1:{nowhere}: refused"):
            require_reachable(dataclasses.replace(target, browser=Address("127.0.0.1", nowhere)))
        with pytest.raises(Unreachable, match=r"^application"):
            require_reachable(dataclasses.replace(target, api=f"http://127.0.0.1:{nowhere}"))


def test_an_address_of_version_six_is_one_place() -> None:
    found = places(dataclasses.replace(TARGET, host="::1", port=8080, path="/reverb"))
    assert {name: (origin.host, origin.authority, origin.prefix) for name, origin in found.items()} == {
        "broadcaster": ("::1", "[::1]:8080", "/reverb")
    }
