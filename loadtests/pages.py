"""The pages of the pattern, and how a scenario's `pages` become Locust user classes."""

from __future__ import annotations

from typing import Any, ClassVar

from loadtests.client.auth import Signed
from loadtests.client.inertia import ACCEPT
from loadtests.settings import Settings
from loadtests.users import EchoUser, Identity, auth_of
from sim.errors import BadInput
from sim.scenario import Broadcast, Pages
from sim.target import Target


class PatternPage(EchoUser):
    """A page of the application of the pattern, for the users that the target lists."""

    abstract = True
    announced: ClassVar[tuple[str, ...]] = ("ServerUpdated",)
    """Classes of the events that the page listens to."""
    owned = "servers"

    @classmethod
    def identities(cls, target: Target) -> list[Identity]:
        """Every owned resource, with its owner; every user, where nothing of the page asks for a resource."""
        if not any("{id}" in template for template in (*cls.channels, cls.refetch)):
            return [(user.id, user.token, 0) for user in target.users]
        owned = [(user.id, user.token, id) for user in target.users for id in user.ids(cls.owned)]
        if target.users and not owned:
            raise BadInput(f"target: no user owns any of the {cls.owned} that {cls.__name__} shows")
        return owned

    @classmethod
    def channel_names(cls, broadcast: Broadcast) -> list[str]:
        return [f"private-{cls.owned}" if broadcast.channels == "generic" else f"private-{cls.owned}.{{id}}"]


class DetailPage(PatternPage):
    """One server: `GET /servers/{id}` whenever it changes."""

    abstract = True
    page = "detail"
    resource = "server"
    refetch = "/servers/{id}"


class FirewallPage(PatternPage):
    """The firewall of one server; its rules' changes count as the server's."""

    abstract = True
    page = "firewall"
    resource = "server"
    refetch = "/servers/{id}/firewall"


class ProvisionPage(PatternPage):
    """The progress of one server's provisioning."""

    abstract = True
    page = "provision"
    resource = "server"
    refetch = "/servers/{id}"


class SitePage(PatternPage):
    """One site."""

    abstract = True
    page = "site"
    resource = "site"
    refetch = "/sites/{id}"
    owned = "sites"
    announced = ("ServerSiteUpdated",)


class TaskPage(PatternPage):
    """The task of one server, by the pattern's alternative: the event carries it, and it is fetched only when the page opens."""

    abstract = True
    page = "task"
    resource = "task"
    refetch = "/tasks/{id}"
    announced = ("TaskCompleted",)

    @classmethod
    def channel_names(cls, broadcast: Broadcast) -> list[str]:
        return ["private-tasks.{id}"]


class Dashboard(PatternPage):
    """All servers and sites of one user: two generic channels, one resource."""

    abstract = True
    page = "dashboard"
    resource = "dashboard"
    refetch = "/dashboard"
    announced = ("ServerUpdated", "ServerSiteUpdated")

    @classmethod
    def channel_names(cls, broadcast: Broadcast) -> list[str]:
        if broadcast.channels == "per_user":
            return ["private-users.{user}.servers", "private-users.{user}.sites"]
        return ["private-servers", "private-sites"]


PAGES: dict[str, type[PatternPage]] = {
    cls.page: cls for cls in (DetailPage, FirewallPage, ProvisionPage, SitePage, TaskPage, Dashboard)
}


def user_classes(settings: Settings) -> dict[str, type[EchoUser]]:
    """One user class for each of the scenario's `pages`, by name; weights make Locust keep the mixture."""
    found: dict[str, type[EchoUser]] = {}
    for pages in settings.scenario.pages:
        if pages.subscribers == 0:
            continue
        base = PAGES[pages.page]
        name = base.__name__
        while name in found:
            stem, _, count = name.partition("_")
            name = f"{stem}_{int(count or 1) + 1}"
        found[name] = type(name, (base,), {"abstract": False} | _parameters(base, pages, settings))
    return found


def _parameters(base: type[PatternPage], pages: Pages, settings: Settings) -> dict[str, Any]:
    scenario, target = settings.scenario, settings.target
    policy = scenario.policy_of(pages)
    prefix = "" if scenario.broadcast.broadcast_as else "App\\Events\\"
    parameters: dict[str, Any] = {
        "__module__": base.__module__,
        "__doc__": base.__doc__,
        "weight": pages.subscribers,
        "policy": policy,
        "in_flight": scenario.in_flight_of(pages),
        "channels": [] if policy.kind == "polling" else list(pages.channels) or base.channel_names(scenario.broadcast),
        "events": list(pages.events) or ([] if pages.channels else [prefix + name for name in base.announced]),
        "behaviour": pages.behaviour,
        "session": pages.session,
        "hidden": pages.hidden,
        "refetch_on_reconnect": pages.refetch_on_reconnect,
        "http": scenario.load.http,
        "pool_size": scenario.load.pool_size,
        "timeout": scenario.api.timeout or EchoUser.timeout,
        "host": target.api if target else None,
        # Without a user channels are signed here, and nothing can be refetched.
        "fan_out_alone": bool(target and not target.users and not (settings.login or settings.refetch or pages.refetch)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in pages.headers.items())
    # The scenario's own channels do not name a resource; without `refetch` nothing is refetched then.
    parameters["refetch"] = pages.refetch or settings.refetch or ("" if pages.channels else base.refetch)
    own = {
        # The pattern's own pages have the resource as a prop of its name.
        "version": pages.version or settings.version or (f"props.{base.resource}.version" if pages.inertia else ""),
        "owned": pages.ids,
        "resource": pages.ids,
        "inertia": pages.inertia,
        "only": pages.only,
        "headers": (ACCEPT if pages.inertia else EchoUser.headers) + lines if pages.inertia or lines else "",
    }
    parameters |= {name: value for name, value in own.items() if value}
    if settings.auth == "signed" and target:
        parameters["auth"] = Signed(target.key, target.secret)
    if settings.auth == "cookie" and target:
        parameters["auth"] = auth_of(target, settings.login)
    return parameters
