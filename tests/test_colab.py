"""The recorder where the kernel is Colab's: its older packages, and its own way of showing widgets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from voiceclone import Voice

TESTS = Path(__file__).parent
CELL = "from voiceclone import Voice, widgets\npanel = widgets.TakePanel(Voice.open({path!r}))\npanel"
COLAB = ("ipykernel==6.17.1", "ipython==7.34.0", "ipywidgets==7.7.1", "anywidget==0.9.21", "traitlets==5.7.1")
PATIENCE = 300  # s for the packages to come


@pytest.fixture(scope="module")
def packages():
    """Folder of Colab's versions, which go before the installed ones; made once, where packages can be fetched."""
    folder = Path(sys.prefix, "colab-packages")
    done = folder / "done.txt"
    if not done.exists() or done.read_text() != " ".join(COLAB):
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(folder), *COLAB]
        made = subprocess.run(install, capture_output=True, text=True, timeout=PATIENCE)
        if made.returncode:
            pytest.skip("Colab's versions cannot be fetched: " + made.stderr.strip().splitlines()[-1])
        done.write_text(" ".join(COLAB))
    return folder


def test_the_kernels_side_works_with_colabs_versions(packages):
    kernels_side = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS / "test_recorder.py")]
    environment = os.environ | {"PYTHONPATH": str(packages)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(kernels_side, env=environment, capture_output=True, text=True, cwd=TESTS.parent)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_the_recorder_asks_colab_to_show_widgets(tmp_path):
    import papermill

    voice = Voice.create("Test Voice", root=tmp_path, consent="Test Person")
    cells = ["import google.colab\n" + CELL.format(path=str(voice.path)), "print(google.colab.output.calls)"]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)), metadata=metadata)
    nbformat.write(book, tmp_path / "in.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS / "colab_stub"))
        patch.setenv("VOICECLONE_HEADLESS", "0")
        out = papermill.execute_notebook(
            tmp_path / "in.ipynb", tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False
        )
    assert "enable_custom_widget_manager" in out.cells[1].outputs[0].text
    shown = out.cells[0].outputs[-1]
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    assert "custom_widget_manager" in json.dumps(shown.metadata)
