"""How a run went, for continuous integration: JUnit XML, and Markdown for a pull request. Text in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

import pandas as pd

from sim.results.answers.sections import Section, to_markdown
from sim.results.thresholds import Check


def junit(name: str, checks: Sequence[Check], invalid: Sequence[str], seconds: float) -> str:
    """One test case per threshold, and one for the validity of the run itself (an *error*, not a failure, when it is not)."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"workbench.{name}",
        tests=str(len(checks) + 1),
        failures=str(sum(not check.ok for check in checks)),
        errors=str(int(bool(invalid))),
        time=f"{seconds:.3f}",
    )
    validity = ElementTree.SubElement(suite, "testcase", classname=f"workbench.{name}", name="the run can be trusted")
    if invalid:
        ElementTree.SubElement(validity, "error", message=invalid[0]).text = "\n".join(invalid)
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", classname=f"workbench.{name}", name=str(check.threshold))
        if not check.ok:
            ElementTree.SubElement(case, "failure", message=check.text)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def markdown(name: str, rows: Sequence[tuple[str, str]], checks: Sequence[Check], verdict: str) -> str:
    """A heading with the verdict, the thresholds, and the short table."""
    judged = [(check.got, "pass" if check.ok else "**FAIL**") for check in checks]
    names = pd.Index([f"`{check.threshold}`" for check in checks], name="threshold")
    thresholds = pd.DataFrame(judged, names, columns=["got", ""]) if checks else None
    figures = pd.DataFrame([words for _, words in rows], pd.Index([label for label, _ in rows]), columns=[""])
    return to_markdown(
        [Section(f"Load test `{name}`: {verdict}", table=thresholds), *([Section("Figures", table=figures)] * bool(rows))]
    )
