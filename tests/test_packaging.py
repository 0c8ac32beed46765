"""What a clone, a wheel and another environment must find."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from sim import cli, shipped
from sim.scenario import SCENARIO_DIR
from sim.workload import TRACE_DIR

ROOT = Path(__file__).resolve().parents[1]


def test_no_clone_changes_the_bytes_of_a_sample_run() -> None:
    """`core.autocrlf=true` rewrites every file whose attributes do not forbid it; checksums are over bytes."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "data" / "runs").rglob("*") if path.is_file())
    try:
        asked = subprocess.run(
            ["git", "check-attr", "text", "--", *files], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout here")
    assert len(files) > 0
    assert [line for line in asked.splitlines() if not line.endswith(": text: unset")] == []


def test_what_comes_with_the_workbench_is_found_in_a_checkout_and_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shipped.shipped("data") == ROOT / "data"
    assert (SCENARIO_DIR, TRACE_DIR) == (ROOT / "data" / "scenarios", ROOT / "data" / "traces")
    monkeypatch.setattr(shipped, "CHECKOUT", None)
    assert shipped.shipped("notebooks") == ROOT / "sim" / "files" / "notebooks"


def test_every_dependency_is_pinned() -> None:
    """What an extra of pyproject.toml names has its version in constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    names = {re.split(r"[\[<>=; ]", name)[0].lower() for name in wanted}
    assert names - pinned == set()


def test_containers_are_made_of_what_is_here_and_run_commands_that_exist() -> None:
    yaml = pytest.importorskip("yaml")
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1] if word[:2] != "--"]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    needed = {"pyproject.toml", "setup.py", "MANIFEST.in", "constraints.txt", "sim", "loadtests", "data", "notebooks"}
    assert needed <= set(copied)
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"target", "loadtest", "lab"}
    for service in services.values():
        assert "build" in service or service["image"] == services["target"]["image"]
        program, *arguments = service["command"].split()
        if program == "workbench":
            cli.build_parser(arguments[0]).parse_args(arguments)
    inside = services["loadtest"]
    assert inside["network_mode"] == "service:target"
    assert services["target"]["volumes"][0] in inside["volumes"]
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["postCreateCommand"].split()[1] in (ROOT / "Makefile").read_text(encoding="utf-8")
