"""The notebook runs from its first cell to its last, and shows what it says."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra `notebook` is not installed")
    nbformat = pytest.importorskip("nbformat", reason="the extra `notebook` is not installed")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(ROOT / "docs/restore.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=1800, resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    outputs = [str(cell.get("outputs", "")) for cell in notebook.cells]
    assert "is read" in outputs[3] and "image/png" in outputs[5]
    assert "'export.json'" in outputs[-1]
