"""Run a notebook in a kernel of its own, and store it with its outputs: ``run_notebook.py NOTEBOOK RESULT``.

What differs from run to run for no reason of the notebook (times, versions) is not stored.
"""

from __future__ import annotations

import sys
import tempfile

import nbformat
from nbclient import NotebookClient

TIMEOUT = 60
"""Seconds for a cell."""


def main(path: str, result: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        ).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
