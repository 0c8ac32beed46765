"""A scenario is read exactly, and what cannot be read is one clear line."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.distributions import Constant, Exponential
from sim.errors import BadInput
from sim.policy import Debounce, Immediate, Polling, Window
from sim.scenario import Api, Pages, Scenario, build, load_scenario, parse_assignments, parse_value, to_dict


def read(tmp_path: Path, text: str) -> Scenario:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path)


def test_an_empty_file_is_the_default_scenario_named_after_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Scenario(name="mine")


def test_variants_are_chosen_by_kind_and_a_number_is_a_constant_duration(tmp_path: Path) -> None:
    scenario = read(
        tmp_path,
        """
        policy = {kind = "immediate"}
        api = {service = 0.01, workers = 4}
        network = {to_api = {kind = "exponential", scale = 0.002}}
        [[pages]]
        page = "dashboard"
        subscribers = 3
        policy = {kind = "debounce", wait = 1}
        """,
    )
    assert scenario.policy == Immediate()
    assert scenario.api == Api(workers=4, service=Constant(0.01))
    assert scenario.network.to_api == Exponential(0.002)
    assert scenario.policy_of(scenario.pages[0]) == Debounce(wait=1.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("polcy = 1", r"unknown key 'polcy' - did you mean 'policy'\?"),
        ("[api]\nworker = 2", r"unknown key 'api\.worker' - did you mean 'workers'\?"),
        ("duration = 'long'", r"duration must be a number, got 'long'"),
        ("seed = 1.5", r"seed must be a whole number, got 1\.5"),
        ("seed = true", r"seed must be a whole number, got True"),
        ("duration = nan", r"duration must be a finite number, got nan"),
        ("api.timeout = 2e9", r"api\.timeout must be a number of at most 1e\+09 in size, got 2000000000\.0"),
        ("duration = -1", r"duration must be >= 0 s, got -1"),
        ("workload = {kind = 'poisson', rate = -2}", r"workload\.rate must be >= 0.*got -2"),
        ("workload = {kind = 'posson'}", r"workload\.kind: no such kind 'posson' - did you mean 'poisson'\?"),
        ("policy = {wait = 1}", r"policy: kind is missing"),
        ("policy = 3", r"policy must be a table with a kind"),
        ("in_flight = 'both'", r"in_flight must be one of 'cancel', 'overlap', 'single_flight', got 'both'"),
        ("pages = 3", r"pages must be a list, got 3"),
        ("[[pages]]\npage = 'blog'", r"pages\[0\]\.page must be one of"),
        ("[[pages]]\nhidden = 2", r"pages\[0\]\.hidden must be a share"),
        ("api = 'fast'", r"api must be a table, got 'fast'"),
        ("thresholds = {delivery_ratio = 1}", r"thresholds\.delivery_ratio must be a text, got 1"),
        ("duration = ", r"not valid TOML"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_file_key_and_remedy(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as caught:
        read(tmp_path, text)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_suggests_the_nearest_scenario() -> None:
    with pytest.raises(BadInput, match="did you mean 'demo'"):
        load_scenario("dmeo")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        load_scenario(tmp_path / "gone.toml")


def test_replace_sets_dotted_keys_and_keeps_the_rest() -> None:
    scenario = Scenario(pages=(Pages(subscribers=1), Pages(page="dashboard", subscribers=2)))
    varied = scenario.replace({"policy.wait": 0.1, "pages.1.subscribers": 9, "policy.max_wait": 0.1})
    assert varied.policy == Debounce(wait=0.1, max_wait=0.1)
    assert [p.subscribers for p in varied.pages] == [1, 9]
    assert varied.replace({"policy.wait": 0.5, "pages.1.subscribers": 2}) == dataclasses.replace(
        scenario, policy=Debounce(wait=0.5, max_wait=0.1)
    )


@pytest.mark.parametrize("key", ["policy.wiat", "nothing", "pages.7.subscribers", "pages.x", "seed.x"])
def test_replace_names_a_key_that_no_scenario_has(key: str) -> None:
    with pytest.raises(BadInput, match=key.split(".")[-1]):
        Scenario().replace({key: 1})


def test_to_dict_and_build_are_inverse() -> None:
    scenario = Scenario(pages=(Pages(policy=Immediate(), session=Exponential(3.0)),), thresholds={"delivery_ratio": "value >= 1"})
    assert build(Scenario, to_dict(scenario), where="here") == scenario


@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=5).filter(lambda c: sum(c) > 0),
    total=st.integers(0, 10_000),
)
def test_scaling_keeps_the_mixture_and_hits_the_total(counts: list[int], total: int) -> None:
    scenario = Scenario(pages=tuple(Pages(subscribers=n) for n in counts)).with_subscribers(total)
    assert scenario.subscribers == total
    for before, after in zip(counts, scenario.pages, strict=True):
        assert abs(after.subscribers - before * total / sum(counts)) < 1


def test_an_empty_fleet_cannot_be_scaled() -> None:
    with pytest.raises(BadInput, match="no subscribers to scale"):
        Scenario(pages=()).with_subscribers(5)


def test_command_line_values_are_read_as_toml_would() -> None:
    assert parse_assignments(["policy.wait=0.1", "in_flight=cancel", "api.workers = 4"]) == {
        "policy.wait": 0.1,
        "in_flight": "cancel",
        "api.workers": 4,
    }
    assert parse_value('{kind = "immediate"}') == {"kind": "immediate"}
    with pytest.raises(BadInput, match="KEY=VALUE"):
        parse_assignments(["policy.wait"])


def test_another_kind_keeps_the_members_that_it_has_as_well() -> None:
    scenario = Scenario().replace({"policy.wait": 0.3, "policy.leading": True})
    assert scenario.replace({"policy.kind": "window"}).policy == Window(wait=0.3)
    assert scenario.replace({"policy.kind": "polling", "policy.interval": 2.0}).policy == Polling(interval=2.0)
    with pytest.raises(BadInput, match="no such kind 'windows'"):
        scenario.replace({"policy.kind": "windows"})


@pytest.mark.parametrize(
    ("channels", "detail", "board"),
    [("both", 0.25, 2.0), ("generic", 0.0, 2.0), ("specific", 0.25, 0.0), ("per_user", 0.25, 0.5)],
)
def test_what_a_page_hears_depends_on_the_channels(channels: str, detail: float, board: float) -> None:
    scenario = Scenario(pages=(Pages("detail", 3), Pages("dashboard", 4))).replace(
        {"fleet.users": 4, "fleet.servers_per_user": 2, "workload.rate": 2.0, "broadcast.channels": channels}
    )
    assert [(pages.subscribers, rate) for pages, rate in scenario.heard()] == [
        (3, pytest.approx(detail)),
        (4, pytest.approx(board)),
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"headers": {"X-Key": "secret\r\nX-Other: 1"}}, "headers: 'X-Key' is no header that can be sent"),
        ({"headers": {"X Key": "1"}}, "headers: 'X Key' is no header that can be sent"),
        ({"headers": {"X-Key": "secret €"}}, "headers: 'X-Key' is no header that can be sent"),
        ({"refetch": "orders"}, "refetch must be a path that begins with /"),
        ({"channels": ("orders.{order}",)}, "may hold {id}, {user} and {n}"),
    ],
)
def test_what_a_page_could_not_send_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        Pages(**values)
    assert "secret" not in str(refused.value)
