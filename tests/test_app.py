"""The notebooks as an application: pages without cells, whose views answer, and which say what is still missing."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
from importlib.util import find_spec

import nbformat
import pytest
from lab import Chromium, _free_port, busy_machine, needs_browser, wait_until

from voiceclone import app

pytestmark = [
    needs_browser,
    busy_machine,
    pytest.mark.skipif(find_spec("voila") is None, reason="needs the package voila"),
]
VOICE_PATH = 'voice_path = "../voices/my_voice"'


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the pages are served, of a voice of their own."""
    folder = tmp_path_factory.mktemp("pages")
    for page in app.write_pages(folder):
        text = page.read_text(encoding="utf-8")
        own = VOICE_PATH.replace("../voices/my_voice", str(folder / "voices" / "Ada"))
        page.write_text(text.replace(VOICE_PATH.replace('"', '\\"'), own.replace('"', '\\"')), encoding="utf-8")
    port = _free_port()
    process = subprocess.Popen(
        app.command(folder, "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"),
        env=os.environ | {"VOICECLONE_HEADLESS": "0"}, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip

    def answers():
        assert process.poll() is None
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
        except OSError:
            return False

    wait_until(answers, "Voilà", seconds=60)
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def test_a_page_is_its_notebook_with_one_cell_before_all(tmp_path):
    pages = app.write_pages(tmp_path)
    assert [page.stem[:2] for page in pages] == ["00", "01", "02", "03", "04", "05", "06", "07"]
    for page in pages:
        cells = nbformat.read(page, as_version=4).cells
        assert cells[0].source == app.FIRST
        original = nbformat.read(app.NOTEBOOKS / page.name, as_version=4).cells
        assert [cell.source for cell in cells[2:]] == [cell.source for cell in original[1:]]
        title = cells[1].source
        assert "colab" not in title and title.splitlines() == [
            line for line in original[0].source.splitlines() if "colab-badge" not in line
        ]


def test_a_page_has_words_and_live_views_and_says_what_comes_later(address):
    with Chromium() as chromium:
        page = chromium.window().new_page()
        page.goto(f"{address}/voila/render/00_start.ipynb", timeout=120_000)
        agree = page.get_by_role("button", name="Make the voice")
        agree.wait_for(timeout=60_000)
        assert page.get_by_text(app.LATER).count() == 1  # the last cell's check
        assert page.locator(".jp-InputArea-editor, .jp-RenderedText[data-mime-type*=stderr]").count() == 0
        agree.click()
        page.get_by_text("Tick the box").wait_for(timeout=60_000)  # the kernel has answered
        links = page.get_by_role("link").evaluate_all("(links) => links.map((link) => link.href)")
        assert f"{address}/voila/render/01_record.ipynb" in links
