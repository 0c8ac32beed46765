"""Which status may follow which: one table per field. A move that the table does not have is an `IllegalMove`.

A status written over itself is no move: nothing changes, nothing is broadcast.
"""

from __future__ import annotations

from collections.abc import Mapping

from sim.workload import NEXT, STATUSES

_INSTALLABLE = {
    "": {"installing"},
    "installing": {"active", "failed"},
    "active": {"uninstalling", "failed"},
    "uninstalling": {"", "failed"},
    "failed": {"installing", "uninstalling", ""},
}
"""Monitoring, scheduler, supervisor: software on a server; the empty status means "not installed"."""

TRANSITIONS: Mapping[str, Mapping[str, set[str]]] = {
    # The workload's own table, so that every trace can be replayed; and an interrupted step may be taken back.
    "provision": {status: set(NEXT[status]) | ({"pending"} if status == "installing" else set()) for status in STATUSES},
    "provision_status": {
        "pending": {"connecting", "installing", "failed"},
        "connecting": {"installing", "failed"},
        "installing": {"completed", "failed"},
        "completed": {"installing"},
        "failed": {"pending", "installing"},
    },
    "connection": {
        "pending": {"connected", "failed"},
        "connected": {"disconnected", "failed"},
        "disconnected": {"connected", "failed"},
        "failed": {"pending", "connected"},
    },
    "monitoring_status": _INSTALLABLE,
    "scheduler_status": _INSTALLABLE,
    "supervisor_status": _INSTALLABLE,
    "site status": {
        "pending": {"provisioning", "failed"},
        "provisioning": {"active", "failed"},
        "active": {"deploying", "disabled", "failed"},
        "deploying": {"active", "failed"},
        "disabled": {"active"},
        "failed": {"provisioning", "deploying", "active"},
    },
    "health": {
        "unknown": {"healthy", "unhealthy"},
        "healthy": {"unhealthy", "unknown"},
        "unhealthy": {"healthy", "unknown"},
    },
    "git_status": {
        "": {"installing"},
        "installing": {"installed", "failed"},
        "installed": {"updating", "failed"},
        "updating": {"installed", "failed"},
        "failed": {"installing", "updating"},
    },
    "firewall status": {
        "pending": {"installing"},
        "installing": {"active", "failed"},
        "active": {"disabled", "installing"},
        "disabled": {"active", "installing"},
        "failed": {"installing"},
    },
    "task status": {
        "pending": {"running", "completed", "failed"},
        "running": {"completed", "failed"},
        "completed": set(),
        "failed": set(),
    },
    "rule status": {
        "pending": {"installing", "deleting"},
        "installing": {"active", "failed"},
        "active": {"deleting", "installing"},
        "failed": {"installing", "deleting"},
        "deleting": {"failed"},
    },
}


class IllegalMove(ValueError):
    """A status that does not exist, or that may not follow the present one."""


def move(field: str, present: str, wanted: str) -> str:
    """*wanted*, if *field* may go there from *present*. Raises `IllegalMove` that says what may follow."""
    table = TRANSITIONS[field]
    if wanted not in table:
        raise IllegalMove(f"{field} must be one of {_words(table)}, got {wanted!r}")
    if wanted != present and wanted not in table[present]:
        raise IllegalMove(f"{field} cannot go from {present!r} to {wanted!r} (only to {_words(table[present])})")
    return wanted


def _words(statuses: object) -> str:
    return ", ".join(repr(s) for s in sorted(statuses))  # type: ignore[call-overload]
