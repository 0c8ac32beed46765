"""What a transaction has gathered."""

from __future__ import annotations

from sim.brokeforge.domain.change_set import ChangeSet, ResourceChange


def test_the_first_lock_counts() -> None:
    instants = iter((5, 9))
    changes = ChangeSet(now=lambda: next(instants))
    changes.lock_taken()
    changes.lock_taken()
    assert changes.locked_at == 5
    untimed = ChangeSet()
    untimed.lock_taken()
    assert untimed.locked_at is None


def test_a_rollback_forgets_what_was_not_committed() -> None:
    change = ResourceChange("saved", "server", 2)  # type: ignore[arg-type]
    changes = ChangeSet(flushed=[change], pending=[change], committed=[change])
    changes.forget()
    assert (changes.flushed, changes.pending, changes.committed) == ([], [], [change])
