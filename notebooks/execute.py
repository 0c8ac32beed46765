"""Execute the notebooks in place on the committed sample runs, as they are to be committed.

    python notebooks/execute.py                        # all
    python notebooks/execute.py 01_choose_a_debounce   # some, by name

What differs from one execution to the next without meaning anything (time stamps, the state of widgets) is left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat

from sim.commands.report import named
from sim.errors import WorkbenchError
from sim.results.answers.execution import execute
from sim.results.answers.page import failures

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks by name; default: all")
    args = parser.parse_args()
    try:
        for path in [named(name) for name in args.names] or sorted(HERE.glob("*.ipynb")):
            print(path.name, flush=True)
            node = execute(path, runs=[], timeout=300)
            if failed := failures(node):
                raise WorkbenchError(f"{path.name}: {'; '.join(failed)}")
            tidy(node)
            nbformat.write(node, path)
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def tidy(node: nbformat.NotebookNode) -> None:
    node.metadata = {"kernelspec": node.metadata["kernelspec"], "language_info": {"name": "python"}}
    for cell in node.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


if __name__ == "__main__":
    sys.exit(main())
