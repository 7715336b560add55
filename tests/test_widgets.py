"""The notebooks' panels: what they show with and without a browser, and what their controls do to a voice folder."""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile

from voiceclone import Voice, widgets
from voiceclone.voice import CONSENT_STATEMENT
from voiceclone.widgets.panel import HEADLESS_VARIABLE
from voiceclone.widgets.takes import uploaded_files

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def find(widget, kind, text=""):
    """The first widget of a kind, and with this description, in a tree of them."""
    if type(widget).__name__ == kind and text in getattr(widget, "description", ""):
        return widget
    found = (find(child, kind, text) for child in getattr(widget, "children", ()))
    return next((one for one in found if one is not None), None)


# Showing --------------------------------------------------------------------------------------------------------------


def test_headless_panels_show_a_table_and_make_no_widgets(recorded, monkeypatch):
    monkeypatch.setenv(HEADLESS_VARIABLE, "1")
    panel = widgets.TakePanel(recorded)
    bundle, _ = panel._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "widget" not in vars(panel)
    assert bundle["text/html"].count("<tr>") == 1 + 3  # heading and three takes


def test_where_nobody_can_record_it_is_said_how_takes_come_in(voice, monkeypatch):
    monkeypatch.setenv(HEADLESS_VARIABLE, "1")
    bundle, _ = widgets.TakePanel(voice)._repr_mimebundle_()
    assert all("takes_from" in bundle[kind] for kind in ("text/plain", "text/html"))


def test_panels_in_a_browser_carry_the_widget_and_the_table_beside_it(recorded, monkeypatch):
    monkeypatch.setenv(HEADLESS_VARIABLE, "0")
    bundle, _ = widgets.TakePanel(recorded)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", WIDGET_VIEW}
    assert bundle["text/plain"].startswith("3 of 25 prompts recorded")


def test_a_process_without_a_kernel_is_headless(monkeypatch):
    monkeypatch.delenv(HEADLESS_VARIABLE, raising=False)
    assert widgets.headless()


def test_texts_of_panels_are_stable_from_run_to_run(recorded):
    makers = (widgets.TakePanel, widgets.TranscriptTable, widgets.CleanPreview)
    for make in makers:
        assert repr(make(recorded)) == repr(make(recorded))
        assert " at 0x" not in repr(make(recorded))


def test_tables_escape_what_they_are_given():
    shown = widgets.table([("name", "<script>alert(1)</script>")])
    assert "<script>" not in shown._repr_html_()
    assert "&lt;script&gt;" in shown._repr_html_()


def test_tables_are_made_of_rows_of_dicts_or_of_one_dict():
    assert repr(widgets.table([{"id": "0001", "s": 2.5}])) == "id  s\n0001  2.5"
    assert repr(widgets.table({"clips": 3, "minutes": 1.23456})) == "clips  3\nminutes  1.235"
    assert repr(widgets.table([])) == "nothing yet"


def test_facts_lists_a_records_fields_without_arrays():
    @dataclass
    class Record:
        word_error_rate: float = 1 / 3
        problems: tuple = ()
        wave: object = None

    shown = repr(widgets.facts(Record(wave=np.zeros(9))))
    assert shown.splitlines() == ["word error rate  0.3333", "problems  none"]


def test_a_player_holds_the_same_sound():
    rate = 16000
    wave = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    html = widgets.player(wave, rate, label="a <tone>")._repr_html_()
    data = re.search(r"base64,([^\"]+)", html)[1]
    heard, heard_rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert heard_rate == rate
    assert np.abs(heard - wave).max() < 1e-4
    assert "a &lt;tone&gt;" in html


def test_a_player_of_a_high_rate_is_brought_down_to_half_the_bytes():
    html = widgets.player(np.zeros(48000, np.float32), 48000)._repr_html_()
    data = re.search(r"base64,([^\"]+)", html)[1]
    assert soundfile.info(io.BytesIO(base64.b64decode(data))).samplerate == 22050


# Consent --------------------------------------------------------------------------------------------------------------


def test_nobody_agrees_by_running_the_cell(tmp_path):
    form = widgets.ConsentForm(tmp_path / "alice")
    assert form.voice is None
    assert not (tmp_path / "alice").exists()
    assert "nobody yet" in form.text()
    assert CONSENT_STATEMENT in form.text()


def test_the_form_needs_both_the_tick_and_the_name(tmp_path):
    form = widgets.ConsentForm(tmp_path / "alice")
    press = find(form.widget, "Button", "Make the voice").click
    find(form.widget, "Text", "I am").value = "Alice Example"
    press()
    assert form.voice is None
    assert "Tick the box" in form.message.value
    find(form.widget, "Checkbox").value = True
    press()
    assert Voice.open(tmp_path / "alice").consent.who == "Alice Example"


def test_the_form_without_a_name_says_what_is_missing(tmp_path):
    form = widgets.ConsentForm(tmp_path / "alice")
    find(form.widget, "Checkbox").value = True
    find(form.widget, "Button", "Make the voice").click()
    assert form.voice is None
    assert "consent" in form.message.value


def test_a_name_given_as_a_parameter_makes_the_voice_once(tmp_path):
    first = widgets.ConsentForm(tmp_path / "alice", who_agrees="Alice Example")
    again = widgets.ConsentForm(tmp_path / "alice", who_agrees="Somebody Else")
    assert again.voice.consent == first.voice.consent


# Takes ----------------------------------------------------------------------------------------------------------------


def test_takes_from_a_folder_come_in_at_once(voice, sample_takes, tmp_path):
    for number in (1, 2):
        name = f"{number:04d}-1.flac"
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / name).write_bytes((sample_takes / name).read_bytes())
    panel = widgets.TakePanel(voice, takes_from=tmp_path / "own")
    assert [clip.id for clip in panel.recorded] == ["0001", "0002"]
    assert panel.missing == tuple(range(3, 26))


def test_one_bad_file_in_a_folder_is_named_and_the_good_ones_are_in(voice, sample_takes, tmp_path):
    (tmp_path / "0001-1.flac").write_bytes((sample_takes / "0001-1.flac").read_bytes())
    (tmp_path / "0002-1.wav").write_text("no sound")
    panel = widgets.TakePanel(voice, takes_from=tmp_path)
    assert [clip.id for clip in panel.recorded] == ["0001"]
    assert "0002-1.wav" in panel.summary()


def test_an_uploaded_file_becomes_a_take_of_the_prompt_in_view(voice, sample_takes):
    panel = widgets.TakePanel(voice)
    find(panel.widget, "IntSlider").value = 4
    content = memoryview((sample_takes / "0004-1.flac").read_bytes())
    panel._uploaded({"new": ({"name": "memo.flac", "content": content},)})
    assert [clip.id for clip in panel.recorded] == ["0004"]
    assert "<audio" in panel._view.value


def test_an_uploaded_file_that_is_no_sound_is_said_in_the_panel(voice):
    panel = widgets.TakePanel(voice)
    assert panel.widget
    panel._uploaded({"new": ({"name": "memo.wav", "content": b"text"},)})
    assert not panel.recorded
    assert "0001-1.wav" in panel.message.value


def test_uploads_of_both_ipywidgets_generations_are_read():
    seven = {"a.wav": {"metadata": {}, "content": b"12"}}
    eight = ({"name": "a.wav", "content": memoryview(b"12")},)
    assert uploaded_files(seven) == uploaded_files(eight) == [("a.wav", b"12")]


# Transcripts ----------------------------------------------------------------------------------------------------------


def test_differences_mark_what_was_not_heard_and_what_was_added():
    html = widgets.differences("the cat sat", "the dog sat down")._repr_html_()
    assert re.sub(r' style="[^"]*"', "", html) == "the <del>cat</del> <ins>dog</ins> sat <ins>down</ins>"


def test_the_word_error_rate_counts_what_was_heard_against_the_prompts(voice):
    from voiceclone import Clip

    voice.update(Clip("0001", prompt="one two three four", heard="one two three five"))
    voice.update(Clip("0002", prompt="nobody heard this"))
    assert widgets.TranscriptTable(voice).word_error_rate == pytest.approx(0.25)


# Progress -------------------------------------------------------------------------------------------------------------


def test_progress_says_what_is_done_out_of_all(capsys):
    progress = widgets.Progress("clips heard")
    for done in (1, 2, 3):
        progress(done, 3)
    assert capsys.readouterr().out.splitlines()[-1] == "clips heard: 3 of 3"


def test_a_warning_is_one_line_at_once_and_without_where_it_arose(capsys):
    with widgets.plain_warnings():
        warnings.warn("The drive is full.", stacklevel=1)
        assert capsys.readouterr().out == "The drive is full.\n"
        with warnings.catch_warnings():  # as libraries have it, after which Python forgets what was said
            warnings.warn("The drive is full.", stacklevel=1)
        assert capsys.readouterr().out == ""
    with pytest.warns(UserWarning, match="again"):
        warnings.warn("As they are shown again.", stacklevel=1)
