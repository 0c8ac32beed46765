"""Which request to the application of the pattern each change of a workload is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sim.workload import SITE_STATUS, Update

RULE = {"installing": "installing", "completed": "active", "failed": "failed"}
CONNECTION = {"completed": "connected", "removed": "disconnected"}
SOFTWARE = {"installing": "installing", "completed": "active", "failed": "failed", "removing": "uninstalling", "removed": None}
"""The application's word for what a change makes of a rule, a connection, a piece of software; null: not installed."""

_PART = re.compile(r"(rule|task) (\d+)")


class ChangeRequests:
    """Requests, and the ids that the application gave to the rules and tasks that they made."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, str, int], int] = {}

    def request(self, update: Update, id: Any) -> tuple[str, str, dict[str, Any]]:
        """Method, path and body of *update* of the resource *id*. A rule or task whose creation was not answered has id 0: it is
        not there (404), and the update fails as it must."""
        server = f"/servers/{id}"
        step, status = update.step, update.status
        if update.resource == "site":
            return "PATCH", f"/sites/{id}", {"status": SITE_STATUS[status]}
        if update.resource == "task":
            return "PATCH", f"/tasks/{id}", {"status": status}
        match update.aspect:
            case "status":
                return "PUT", f"{server}/provision/{step}", {"status": status}
            case "connection":
                return "PATCH", server, {"connection": CONNECTION[status]}
            case "monitoring" | "scheduler" | "supervisor":
                return "PATCH", server, {f"{update.aspect}_status": SOFTWARE[status]}
            case "progress" | "log":
                return "POST", f"{server}/events", {"kind": update.aspect, "message": f"line {step}"}
            case "task" if status == "pending":
                return "POST", f"{server}/tasks", {"name": f"task {step}"}
            case "task":
                return "PATCH", f"/tasks/{self._made.get((id, 'task', step), 0)}", {"status": status}
        rule = f"{server}/firewall/rules"
        if status == "pending":
            return "POST", rule, {"name": f"rule {step}", "port": str(1024 + step % 60_000)}
        made = f"{rule}/{self._made.get((id, 'rule', step), 0)}"
        return ("DELETE", made, {}) if status == "removed" else ("PATCH", made, {"status": RULE[status]})

    def learn(self, answer: Mapping[str, Any]) -> None:
        """Note the id of a rule or task that the application has just made."""
        for kind in ("rule", "task"):
            part, server = answer.get(kind), answer.get("server")
            if isinstance(part, Mapping) and isinstance(server, Mapping):
                named = _PART.fullmatch(str(part.get("name")))
                if named and isinstance(part.get("id"), int):
                    self._made[server.get("id"), kind, int(named[2])] = part["id"]
