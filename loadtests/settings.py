"""What the environment says about this run: one frozen value, read once when the locustfile is loaded.

WORKBENCH_TARGET     target.json; without it Laravel's own names (REVERB_APP_KEY ..., a .env file)
WORKBENCH_SCENARIO   scenario, by path or by name; without it the pages of `DEFAULT`
WORKBENCH_PARTS      directory for raw samples; without it Locust's statistics only
WORKBENCH_PROBES     subscribers per process recorded row by row; without it all
WORKBENCH_PROMETHEUS PORT or HOST:PORT for Prometheus to scrape; the web interface has it at /metrics anyway
WORKBENCH_OTLP       address of an OpenTelemetry collector (OTLP over HTTP), as http://127.0.0.1:4318
WORKBENCH_SHAPE      constant, ramp, steps, spike, storm or soak (loadtests.shapes); without it -u, -r and -t
WORKBENCH_AUTH       bearer, cookie, signed; without it bearer, or signed where the target has no application
WORKBENCH_LOGIN      for cookie: the fields of the login form, as email=ada@shop.example&password=secret
WORKBENCH_REFETCH    URL path of a foreign application's resource, as /api/servers/{id}
WORKBENCH_VERSION    JSON path of its version, as data.updated_at
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from sim.errors import BadInput, did_you_mean
from sim.scenario import Pages, Scenario, load_scenario
from sim.target import Target

DEFAULT = Scenario(name="default", pages=(Pages("detail", 800), Pages("dashboard", 200)))
AUTHS = ("bearer", "cookie", "signed")


@dataclass(frozen=True, slots=True)
class Settings:
    """A run as one worker process sees it."""

    scenario: Scenario = DEFAULT
    target: Target | None = None
    parts: Path | None = None
    probes: int | None = None
    shape: str = ""
    prometheus: str = ""
    otlp: str = ""
    auth: str = ""
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    refetch: str = ""
    version: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables that were read."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, need_target: bool = True) -> Settings:
        """Raises `BadInput` that names the variable. Pages that bring their own addresses do without a target."""
        given = {k: v for k, v in (os.environ if environment is None else environment).items() if v}
        path = given.get("WORKBENCH_TARGET")
        auth = given.get("WORKBENCH_AUTH", "")
        if auth and auth not in AUTHS:
            raise BadInput(f"WORKBENCH_AUTH: no such value {auth!r}{did_you_mean(auth, AUTHS)}")
        target = Target.read(path) if path else _laravel_target(environment, need_target)
        if auth == "cookie" and "WORKBENCH_LOGIN" not in given and not (target and any(user.login for user in target.users)):
            raise BadInput(
                "WORKBENCH_AUTH=cookie needs users with a login in the target, or the fields of one login form for everybody in "
                "WORKBENCH_LOGIN (email=...&password=...)"
            )
        return cls(
            scenario=load_scenario(given["WORKBENCH_SCENARIO"]) if "WORKBENCH_SCENARIO" in given else DEFAULT,
            target=target,
            parts=_writable(Path(given["WORKBENCH_PARTS"])) if "WORKBENCH_PARTS" in given else None,
            probes=_whole(given, "WORKBENCH_PROBES"),
            shape=given.get("WORKBENCH_SHAPE", ""),
            prometheus=given.get("WORKBENCH_PROMETHEUS", ""),
            otlp=given.get("WORKBENCH_OTLP", ""),
            auth=auth,
            login=dict(parse_qsl(given.get("WORKBENCH_LOGIN", ""))),
            refetch=given.get("WORKBENCH_REFETCH", ""),
            version=given.get("WORKBENCH_VERSION", ""),
            environment=given,
        )


def _laravel_target(environment: Mapping[str, str] | None, needed: bool) -> Target | None:
    try:
        return Target.from_environment(environment)
    except BadInput as error:
        if needed:
            missing = str(error).partition(" (")[0]
            raise BadInput(
                f"{missing} (set WORKBENCH_TARGET=target.json, or these, in the environment or a .env file)"
            ) from error
        return None


def _writable(directory: Path) -> Path:
    """*directory*, which exists then and can be written to. Raises `BadInput`."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"room for a part")
            probe.flush()
    except OSError as error:
        raise BadInput(f"WORKBENCH_PARTS: cannot write to {directory}: {error.strerror or error}") from error
    return directory


def _whole(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise BadInput(f"{name} must be a whole number >= 0, got {text!r}")
    return int(text)
