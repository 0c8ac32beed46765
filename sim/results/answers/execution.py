"""A notebook executed on runs. `sim.results.answers.page` makes a page of it.

The reader's own settings change nothing: the kernel is this interpreter, with Matplotlib's and IPython's own defaults. A cell
whose assertion fails stays in the report with what it says, and the cells behind it are executed; any other error ends it.
"""

from __future__ import annotations

import ast
import asyncio
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from sim.errors import BadInput, Interrupted, WorkbenchError, did_you_mean
from sim.results.answers.report import VARIABLE
from sim.results.run import Run

PARAMETERS = "parameters"
"""Tag of the cell whose assignments `report --set` replaces, as papermill has it."""

STANDING = "from sim.results.answers import report\n\nreport.standing(report.runs())"
"""What a report begins with: thresholds, validity, the target's health. A notebook that does not say it itself is given it."""


def execute(notebook: Path, runs: Sequence[Run], timeout: float, parameters: Mapping[str, Any] | None = None) -> Any:
    """The notebook with outputs, run on *runs* (none: its samples), each cell within *timeout* seconds.

    Raises `WorkbenchError` with the failing cell's last line, `BadInput` for a parameter that the notebook does not have,
    `Interrupted` where a signal ended it.
    """
    from matplotlib import get_data_path
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from tqdm import tqdm

    try:
        node = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError) as error:
        raise BadInput(f"{notebook}: not a notebook: {str(error).splitlines()[0]}") from error
    _set(node, notebook.name, parameters or {})
    if runs and not any("report.standing(" in cell.source for cell in node.cells):
        node.cells.insert(min(1, len(node.cells)), nbformat.v4.new_code_cell(STANDING))
    variables = os.environ | {
        VARIABLE: os.pathsep.join(str(found.directory.resolve()) for found in runs),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": os.path.join(get_data_path(), "matplotlibrc"),
    }
    cells = sum(cell.cell_type == "code" for cell in node.cells)
    progress = tqdm(total=cells, desc=notebook.stem, unit="cell", disable=not sys.stderr.isatty(), leave=False)
    with tempfile.TemporaryDirectory(prefix="workbench-") as profile, progress as bar:
        client = _client(node, timeout, notebook.parent.resolve(), profile, bar.update)
        try:
            asyncio.run(_until_signalled(client, variables))
        except CellExecutionError as error:
            last = str(error.evalue or error.ename).strip().splitlines()
            if error.ename == BadInput.__name__ and last:
                raise BadInput(last[0]) from error
            raise WorkbenchError(f"{notebook.name}: {error.ename}: {last[0] if last else 'a cell failed'}") from error
        except (CellTimeoutError, DeadKernelError) as error:
            raise WorkbenchError(f"{notebook.name}: {str(error).splitlines()[0]}") from error
    _require_figures(node, notebook.name)
    return node


def _client(node: Any, timeout: float, directory: Path, profile: str, done: Any) -> Any:
    """The client of a kernel that is this interpreter, whatever kernel is installed under its name."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class ThisInterpreter(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

    return NotebookClient(
        node,
        timeout=math.ceil(timeout),
        allow_error_names=[AssertionError.__name__],
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisInterpreter()),
        extra_arguments=["--log-level=ERROR", f"--ipython-dir={profile}"],
        resources={"metadata": {"path": str(directory)}},
        on_cell_executed=lambda **_: done(),
    )


async def _until_signalled(client: Any, variables: Mapping[str, str]) -> None:
    """Execute; SIGINT and SIGTERM end the kernel and then this program as they end any other."""
    from nbclient.exceptions import DeadKernelError

    loop = asyncio.get_running_loop()
    # What a kernel prints besides its cells' output is of its own end, and no line for the reader.
    run = client.async_execute(env=variables, cleanup_kc=True, stderr=subprocess.DEVNULL)
    task = asyncio.ensure_future(run)
    came: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        came.append(number)
        task.cancel()

    def listen(**_: Any) -> None:
        # nbclient puts handlers of its own there when its kernel starts; those end the kernel and say nothing.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)

    loop.call_soon(listen)  # after the first step of the task; a kernel takes seconds to start
    client.on_cell_start = listen
    try:
        await task
    except (asyncio.CancelledError, DeadKernelError) as stopped:
        if not came:
            raise KeyboardInterrupt from stopped  # in the moment between nbclient's handlers and ours
        raise Interrupted(came[0]) from None


def _set(node: Any, name: str, parameters: Mapping[str, Any]) -> None:
    """Write *parameters* into a cell behind the one tagged `parameters`."""
    if not parameters:
        return
    at = next((i for i, cell in enumerate(node.cells) if PARAMETERS in cell.metadata.get("tags", ())), None)
    if at is None:
        raise BadInput(f"{name} has no parameters (--set is for a notebook with a cell tagged {PARAMETERS!r})")
    body = ast.parse(node.cells[at].source).body
    known = [
        target.id for line in body if isinstance(line, ast.Assign) for target in line.targets if isinstance(target, ast.Name)
    ]
    for key in parameters:
        if key not in known:
            raise BadInput(f"{name} has no parameter {key!r}{did_you_mean(key, known)}")
    source = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    node.cells.insert(at + 1, cell)


def _require_figures(node: Any, name: str) -> None:
    """Raise `WorkbenchError` where a cell asked for a figure and none was drawn: IPython reports that as text only."""
    for cell in node.cells:
        if cell.cell_type != "code" or "plots.plot_" not in cell.source:
            continue
        if any(output.output_type == "error" for output in cell.outputs):
            continue
        if not any("image/png" in output.get("data", {}) for output in cell.outputs):
            printed = [line for output in cell.outputs for line in str(output.get("text", "")).strip().splitlines()]
            why = printed[-1] if printed else "no picture came of it"
            raise WorkbenchError(f"{name}: a figure was not drawn ({cell.source.strip().splitlines()[-1].strip()[:60]}): {why}")
