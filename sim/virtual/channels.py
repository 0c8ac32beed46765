"""Names of channels: those on which an event is sent, and those to which a page subscribes."""

from __future__ import annotations

from sim.scenario import Scenario
from sim.workload import ON_DASHBOARD, RESOURCES


class Channels:
    """Names of the channels of an event, each name made once."""

    def __init__(self, scenario: Scenario) -> None:
        self._kind = scenario.broadcast.channels
        self._per_user = [scenario.fleet.each(resource) for resource in RESOURCES]
        self._known: dict[tuple[int, int], list[str]] = {}

    def __call__(self, resource: int, resource_id: int) -> list[str]:
        names = self._known.get((resource, resource_id))
        if names is None:
            specific, generic = specific_channel(RESOURCES[resource], resource_id), generic_channel(RESOURCES[resource])
            match self._kind if RESOURCES[resource] in ON_DASHBOARD else "specific":
                case "specific":
                    names = [specific]
                case "generic":
                    names = [generic]
                case "per_user":
                    names = [specific, user_channel(owner(resource_id, self._per_user[resource]), RESOURCES[resource])]
                case _:
                    names = [specific, generic]
            self._known[resource, resource_id] = names
        return names


def subscribed(scenario: Scenario, resource: str, resource_id: int, user: int) -> list[str]:
    """Channels of a page that shows this resource, or the dashboard of *user*."""
    if resource != "dashboard":
        return [specific_channel(resource, resource_id)]
    if scenario.broadcast.channels == "per_user":
        return [user_channel(user, name) for name in ON_DASHBOARD]
    return [generic_channel(name) for name in ON_DASHBOARD]


def specific_channel(resource: str, resource_id: int) -> str:
    return f"private-{resource}s.{resource_id}"


def generic_channel(resource: str) -> str:
    return f"private-{resource}s"


def user_channel(user: int, resource: str) -> str:
    return f"private-users.{user}.{resource}s"


def owner(resource_id: int, per_user: int) -> int:
    """Users own equal runs of ids, as the fleet is seeded."""
    return (resource_id - 1) // max(per_user, 1) + 1
