"""What the environment says, and what is said about it when it makes no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.settings import DEFAULT, Settings
from sim.errors import BadInput
from sim.target import Target

TREE = {"ws": {"host": "127.0.0.1", "port": 8080}, "app": {"id": "1", "key": "k", "secret": "s"}, "api": "http://127.0.0.1:8000"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "target.json"
    path.write_text(json.dumps(TREE))
    return {"WORKBENCH_TARGET": str(path)}


def test_all_of_it(environment: dict[str, str], tmp_path: Path) -> None:
    scenario = tmp_path / "mine.toml"
    scenario.write_text('[[pages]]\npage = "site"\nsubscribers = 3\n')
    settings = Settings.from_environment(
        environment
        | {
            "WORKBENCH_SCENARIO": str(scenario),
            "WORKBENCH_PARTS": str(tmp_path / "parts"),
            "WORKBENCH_PROBES": "10",
            "WORKBENCH_AUTH": "cookie",
            "WORKBENCH_LOGIN": "email=ada%40shop.example&password=a%26b",
            "WORKBENCH_REFETCH": "/api/servers/{id}",
            "WORKBENCH_VERSION": "data.updated_at",
        }
    )
    assert settings.target == Target.from_dict(TREE)
    assert settings.scenario.pages[0].subscribers == 3
    assert settings.parts == tmp_path / "parts"
    assert settings.probes == 10
    assert settings.login == {"email": "ada@shop.example", "password": "a&b"}
    assert (settings.refetch, settings.version) == ("/api/servers/{id}", "data.updated_at")


def test_little_is_enough(environment: dict[str, str]) -> None:
    settings = Settings.from_environment(environment)
    assert settings.scenario is DEFAULT
    assert settings.parts is settings.probes is None
    laravel = {"REVERB_APP_ID": "1", "REVERB_APP_KEY": "k", "REVERB_APP_SECRET": "s", "APP_URL": "http://app.test"}
    found = Settings.from_environment(laravel).target
    assert found is not None
    assert found.api == "http://app.test"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WORKBENCH_AUTH", "bearre", "did you mean 'bearer'"),
        ("WORKBENCH_AUTH", "cookie", "WORKBENCH_LOGIN"),
        ("WORKBENCH_PROBES", "few", "WORKBENCH_PROBES"),
        ("WORKBENCH_PROBES", "-1", "WORKBENCH_PROBES"),
        ("WORKBENCH_TARGET", "nowhere.json", "nowhere.json"),
        ("WORKBENCH_SCENARIO", "nowhere.toml", "nowhere.toml"),
    ],
)
def test_what_makes_no_sense_is_named(environment: dict[str, str], variable: str, value: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Settings.from_environment(environment | {variable: value})


def test_only_pages_that_bring_their_own_addresses_do_without_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # No .env here.
    with pytest.raises(BadInput, match="no target"):
        Settings.from_environment({})
    assert Settings.from_environment({}, need_target=False).target is None
