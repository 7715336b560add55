"""Running the series: order, parameters, news, failures and interruption, on notebooks of a few cells; the report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import nbformat
import numpy as np
import pytest

from voiceclone import Voice, VoiceCloneError
from voiceclone.audio import save
from voiceclone.log import Log
from voiceclone.suite import run, series
from voiceclone.webpage import latest_run, write_report


def write_notebook(folder, name, parameters, *cells):
    book = nbformat.v4.new_notebook()
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    book.cells = [nbformat.v4.new_markdown_cell(f"# {name}"), first, *map(nbformat.v4.new_code_cell, cells)]
    nbformat.write(book, folder / f"{name}.ipynb")


@pytest.fixture
def folder(tmp_path):
    """Three notebooks; each writes down what it was given."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    note = "from pathlib import Path; _ = (Path(voice_path) / '{0}.txt').write_text(str({1}))"
    write_notebook(folder, "00_first", "voice_path = '.'", note.format("first", "1"))
    write_notebook(
        folder,
        "01_second",
        "voice_path = '.'\nminutes = 5",
        note.format("second", "minutes"),
        "print('half')\nprint('done')",
    )  # noqa: E501
    write_notebook(
        folder,
        "02_third",
        "voice_path = '.'",
        note.format("third", "__import__('os').environ['VOICECLONE_HEADLESS']"),
    )  # noqa: E501
    return folder


def test_series_is_in_order_and_can_be_cut(folder):
    assert [path.stem for path in series(folder=folder)] == ["00_first", "01_second", "02_third"]
    assert [path.stem for path in series(first="1", last="01", folder=folder)] == ["01_second"]


def test_series_says_which_notebooks_there_are(folder, tmp_path):
    with pytest.raises(VoiceCloneError, match="00_first, 01_second, 02_third"):
        series(first="05", folder=folder)
    with pytest.raises(VoiceCloneError, match="clone the repository"):
        series(folder=tmp_path)


def test_notebooks_run_with_their_parameters_and_tell_how_far_they_are(folder, voice):
    news = list(run(voice.path, parameters={"minutes": 0.5}, folder=folder))
    made = {path.stem: path.read_text() for path in voice.path.glob("*.txt")}
    assert made == {"first": "1", "second": "0.5", "third": "1"}
    assert [progress.notebook for progress in news if progress.path] == ["00_first", "01_second", "02_third"]
    assert "done" in [progress.said for progress in news if progress.notebook == "01_second"]
    assert all(progress.cell == progress.cells for progress in news if progress.path)
    assert [progress.cells for progress in news if progress.path] == [3, 4, 3]  # with the injected parameters
    executed = nbformat.read(voice.path / "notebooks" / "01_second.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "half\ndone\n"
    assert voice.report_path.exists()


def test_a_parameter_that_no_notebook_has_is_refused_before_anything_runs(folder, voice):
    with pytest.raises(VoiceCloneError, match="parameter minuets; they have minutes, voice_path"):
        list(run(voice.path, parameters={"minuets": 1}, folder=folder))
    assert not (voice.path / "notebooks").exists()


def test_a_series_that_does_not_begin_at_00_needs_a_voice(folder, tmp_path):
    with pytest.raises(VoiceCloneError, match="no voice"):
        list(run(tmp_path / "nobody", first="01", folder=folder))


def test_a_failing_cell_is_named_with_its_reason(tmp_path, voice):
    write_notebook(
        tmp_path, "03_bad", "voice_path = '.'", "1 + 1", "raise ValueError('much\\nthe clips are empty')"
    )
    write_notebook(tmp_path, "04_never", "voice_path = '.'", "open(voice_path + '/never', 'w')")
    with pytest.raises(
        VoiceCloneError, match=r"03_bad stopped in cell 4: the clips are empty\. The executed .*--from 03"
    ) as raised:
        list(run(voice.path, folder=tmp_path))
    assert not (voice.path / "never").exists()
    assert str(voice.path / "notebooks" / "03_bad.ipynb") in str(raised.value)


def test_a_kernel_that_dies_is_reported(tmp_path, voice):
    write_notebook(tmp_path, "03_dies", "voice_path = '.'", "import os; os._exit(1)")
    with pytest.raises(VoiceCloneError, match="03_dies, cell .*: its Python died"):
        list(run(voice.path, folder=tmp_path))


SLOW = """
import os, time
from pathlib import Path
Path(voice_path, 'kernel').write_text(str(os.getpid()))
try:
    time.sleep(60)
except KeyboardInterrupt:
    Path(voice_path, 'saved').write_text('whole')
"""


def gone(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(condition, seconds=40):
    for _ in range(seconds * 20):
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_closing_the_run_lets_the_cell_save_then_ends_the_kernel_and_runs_nothing_more(tmp_path, voice):
    write_notebook(tmp_path, "03_slow", "voice_path = '.'", SLOW, "open(voice_path + '/never', 'w')")
    news = run(voice.path, folder=tmp_path)
    for progress in news:
        if progress.cell == 3:  # parameters, the injected ones, SLOW
            break
    assert wait_for((voice.path / "kernel").exists) and wait_for((voice.path / "kernel").read_text)
    news.close()
    assert (voice.path / "saved").read_text() == "whole"
    assert not (voice.path / "never").exists()
    assert wait_for(lambda: gone(int((voice.path / "kernel").read_text())))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_a_run_with_130_and_leaves_no_kernel(tmp_path, voice):
    write_notebook(tmp_path, "03_slow", "voice_path = '.'", SLOW)
    code = f"""
import sys; from pathlib import Path; import voiceclone.suite as suite
suite.run.__kwdefaults__['folder'] = Path({str(tmp_path)!r})
from voiceclone.__main__ import main
sys.exit(main(['run', {str(voice.path)!r}, '--from', '03']))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert wait_for((voice.path / "kernel").exists)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "voiceclone: interrupted" in errors and "Traceback" not in errors
    assert wait_for(lambda: gone(int((voice.path / "kernel").read_text())))


# The report -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page shows: its words, its images and sounds, and tags left open."""

    def __init__(self, text):
        super().__init__()
        self.words, self.images, self.sounds, self.open = "", [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "img":
            self.images.append(found)
        elif tag == "audio":
            self.sounds.append(found["src"])
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture
def trained(voice):
    """A voice with something at every stage: noise as sound, invented figures."""
    wave = np.random.default_rng(0).normal(0, 0.05, 22050).astype(np.float32)
    save(voice.samples_dir / "hello.wav", wave)
    measures = dict(
        word_error_rate=0.25, likeness=0.8125, opinion_score=3.0, real_time_factor=0.5, failures=1, count=2
    )
    row = dict(
        text="A <b>bold</b> test.", heard="a test", word_error_rate=0.5, likeness=0.8, opinion_score=3.0
    )
    result = dict(voice=measures, natural=measures | {"likeness": 0.9}, rows=[row, row], engine="whisper")
    (voice.samples_dir / "evaluation.json").write_text(json.dumps(result))
    folder = voice.run_dir("main")
    save(folder / "previews" / "step-000002.wav", wave)
    mel = np.zeros((80, 50), np.float32)
    np.savez(
        folder / "previews" / "step-000002.npz",
        alignment=np.eye(3),
        mel_predicted=mel,
        mel_true=mel,
        text="Hi.",
        heard="high",
        symbols=["@HH", "@AY1", "."],
    )
    step = dict(
        mel_loss=1.0, gate_loss=0.1, attention_loss=0.5, learning_rate=1e-3, validation=None, seconds=90.0
    )
    lines = [json.dumps(step | {"step": number}) for number in (1, 2)]
    (folder / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 3, "mel_')
    return voice


def test_report_of_a_new_voice_states_the_consent(voice):
    page = Page(write_report(voice).read_text(encoding="utf-8"))
    assert page.open == [] and page.images == []
    assert voice.consent.agreed in page.words and "Test Person" in page.words


def test_report_shows_what_was_measured_and_carries_figures_and_sounds(trained):
    text = write_report(trained).read_text(encoding="utf-8")
    page = Page(text)
    assert "25 %" in page.words and "0.81" in page.words and "0.90" in page.words
    assert "The recogniser heard: “high”" in page.words
    assert "A <b>bold</b> test." in page.words, "text is escaped, not run"
    assert len(page.images) == 4 and all(image["alt"] for image in page.images)
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.images)
    assert len(page.sounds) == 2 and all(sound.startswith("data:audio/flac;base64,") for sound in page.sounds)
    assert not re.search(r"(?:src|href)=\"https?:", text), "nothing is fetched from elsewhere"
    assert len(text) < 3_000_000


def test_sounds_in_the_report_are_the_samples(trained):
    import base64
    import io

    import soundfile

    page = Page(write_report(trained).read_text(encoding="utf-8"))
    inside, _ = soundfile.read(io.BytesIO(base64.b64decode(page.sounds[0].split(",")[1])), dtype="int16")
    outside, _ = soundfile.read(trained.samples_dir / "hello.wav", dtype="int16")
    assert np.array_equal(inside, outside)


def test_report_lists_every_clip_with_its_sound(sample_voice, tmp_path):
    import shutil

    shutil.copytree(sample_voice.path, tmp_path / "Sample")
    copy = Voice.open(tmp_path / "Sample")
    copy.update(replace(copy.clips[0], state="review", checks="clipped"))
    page = Page(write_report(copy).read_text(encoding="utf-8"))
    assert set(page.sounds) == {f"clips/{clip.id}.wav" for clip in sample_voice.usable()}
    assert len(page.sounds) == 5
    assert all((clip.transcript or clip.prompt) in page.words for clip in copy.clips)
    assert "review" in page.words and "clipped" in page.words
    assert len(page.images) == 2


def test_a_log_that_a_crash_cut_short_is_read_up_to_there(trained):
    assert latest_run(trained) == "main"
    assert [row["step"] for row in Log(trained.run_dir("main") / "log.jsonl").read()] == [1, 2]
