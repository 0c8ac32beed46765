"""A node's own tasks go on when one of their turns fails."""

from __future__ import annotations

import asyncio

import pytest

from sim.live.broadcaster.bus import NoMember, _hand_over
from sim.live.broadcaster.node import Node


def test_a_timer_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []

    def fails() -> None:
        turns.append(1)
        raise KeyError("a bug")

    async def three_turns() -> None:
        timer = asyncio.create_task(Node._every(0.001, fails))
        while len(turns) < 3:
            assert not timer.done()
            await asyncio.sleep(0.001)
        timer.cancel()

    asyncio.run(asyncio.wait_for(three_turns(), 10))
    assert "a bug" in caplog.text


def test_a_message_that_fails_does_not_end_the_hearing(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(NoMember):
        def receive(self, text: str) -> None:
            raise KeyError(text)

    _hand_over(Failing(), "a bug")
    assert "a bug" in caplog.text
