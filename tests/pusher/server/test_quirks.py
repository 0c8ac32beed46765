"""Presence with Reverb's two faults."""

from __future__ import annotations

import pytest

from sim.pusher.errors import InvalidMessage
from sim.pusher.server.quirks import roster
from tests.pusher.peers import House, Peer


def test_one_without_a_user_id_empties_the_roster_and_one_without_user_info_breaks_it() -> None:
    house = House(faithful=True)
    house.member("presence-x", {"user_id": "7", "user_info": {"name": "Ada", "tags": {}}})
    channel = house.hub.spaces["1"].channels["presence-x"]
    assert roster(channel) == {"count": 1, "ids": ["7"], "hash": {"7": {"name": "Ada", "tags": []}}}
    other = Peer()
    channel.add(other, {"user_id": "8"})
    with pytest.raises(InvalidMessage):
        roster(channel)
    channel.add(other, {"user_info": {}})
    assert roster(channel) == {"count": 0, "ids": [], "hash": []}
