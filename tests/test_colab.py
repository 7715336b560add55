"""The recorder among Colab's packages, which are older than a notebook's of today, and shown in Colab's own way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from lab import Chromium, Lab, needs_browser, wait_until
from recorder_page import RecorderOnPage, record_as_played, write_chirps

from voiceclone import Voice

TESTS = Path(__file__).parent
CELL = "from voiceclone import Voice, widgets\npanel = widgets.TakePanel(Voice.open({path!r}))\npanel"
COLAB = ("ipykernel==6.17.1", "ipython==7.34.0", "ipywidgets==7.7.1", "anywidget==0.9.21", "traitlets==5.7.1")
# JupyterLab's page draws widgets of ipywidgets 8 alone. The notebook before it draws those of 7, as Colab does.
PAGE = "nbclassic==1.3.3"
FIRST = """import anywidget, ipykernel, ipywidgets
assert (ipykernel.__version__, ipywidgets.__version__, anywidget.__version__) == ("6.17.1", "7.7.1", "0.9.21")
ipywidgets.HTML("<i class='first'>drawn</i>")"""
PATIENCE = 300  # s for the packages to come


@pytest.fixture(scope="module")
def packages():
    """Folder of Colab's versions, which go before the installed ones; made once, where packages can be fetched."""
    folder = Path(sys.prefix, "colab-packages")
    done, wanted = folder / "done.txt", (*COLAB, PAGE)
    if not done.exists() or done.read_text() != " ".join(wanted):
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(folder), *wanted]
        made = subprocess.run(install, capture_output=True, text=True, timeout=PATIENCE)
        if made.returncode:
            pytest.skip("Colab's versions cannot be fetched: " + made.stderr.strip().splitlines()[-1])
        done.write_text(" ".join(wanted))
    return folder


def test_the_kernels_side_works_with_colabs_versions(packages):
    kernels_side = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS / "test_recorder.py")]
    environment = os.environ | {"PYTHONPATH": str(packages)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(kernels_side, env=environment, capture_output=True, text=True, cwd=TESTS.parent)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


@needs_browser
def test_a_take_comes_whole_through_colabs_versions(packages, tmp_path):
    voice = Voice.create("Test Voice", root=tmp_path, consent="Test Person")
    chirps = write_chirps(tmp_path / "chirps.wav")
    environment = {
        "PYTHONPATH": os.pathsep.join((str(packages), str(TESTS.parent))),
        "JUPYTER_CONFIG_PATH": str(packages / "etc" / "jupyter"),
        "JUPYTER_PATH": str(packages / "share" / "jupyter"),
    }
    with Lab(tmp_path / "lab", environment=environment) as lab, Chromium() as chromium:
        lab.write("recorder.ipynb", [FIRST, CELL.format(path=str(voice.path)), "import time; time.sleep(4)"])
        page = chromium.window(wav=chirps, size=(1024, 900)).new_page()
        page.goto(lab.url("nbclassic/notebooks/recorder.ipynb"))
        page.wait_for_function("window.Jupyter?.notebook?.kernel?.is_connected()")

        def drawn():  # a page that has just been opened draws no widgets yet
            page.evaluate("Jupyter.notebook.execute_cells([0])")
            page.wait_for_timeout(1000)
            return page.locator(".first").is_visible()

        wait_until(drawn, "the page to draw widgets", pause=page.wait_for_timeout)
        page.evaluate("Jupyter.notebook.execute_cells([1])")
        recorder = RecorderOnPage(page)
        recorder.ready()
        record_as_played(recorder, voice.takes_dir, chirps)
        page.evaluate("Jupyter.notebook.execute_cells([2])")  # and this kernel hears nothing until its end
        recorder.take(1, f"0001-{len(voice.takes('0001')) + 1}.wav", key="r")


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
