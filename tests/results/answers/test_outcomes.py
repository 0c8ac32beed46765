"""JUnit XML and Markdown of a judged run."""

from __future__ import annotations

from xml.etree import ElementTree

from sim.results.answers.outcomes import junit, markdown
from sim.results.thresholds import check, parse_all

SUMMARY = {"delivery_ratio": {"value": 0.5, "n": 9}, "time_to_fresh.p99": {"value": 0.1, "n": 9}}
CHECKS = check(parse_all({"delivery_ratio": "value >= 1", "time_to_fresh_ms": "p(99) < 500"}), SUMMARY)


def test_junit_counts_thresholds_as_failures_and_an_invalid_run_as_an_error() -> None:
    suite = ElementTree.fromstring(junit("demo", CHECKS, ["the load client read late"], 12.5))
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "time")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "time": "12.500",
    }
    assert suite.find("testcase/error").get("message") == "the load client read late"  # type: ignore[union-attr]
    assert suite.find("testcase/failure").get("message") == "delivery_ratio: value >= 1 -> 0.5: FAIL"  # type: ignore[union-attr]


def test_junit_of_a_good_run_has_neither() -> None:
    suite = ElementTree.fromstring(junit("demo", CHECKS[1:], [], 1))
    assert suite.get("failures") == suite.get("errors") == "0"
    assert not suite.findall("testcase/*")


def test_markdown_is_a_table_that_no_cell_can_break() -> None:
    text = markdown("demo", [("time to fresh", "a|b")], CHECKS, "valid")
    assert text.startswith("### Load test `demo`: valid\n")
    assert "| time to fresh | a\\|b |" in text
    assert "| `delivery_ratio: value >= 1` | 0.5 | **FAIL** |" in text
    assert "| `time_to_fresh_ms: p(99) < 500` | 100 ms | pass |" in text
    assert text.index("**FAIL**") < text.index("time to fresh |"), "thresholds come first"
