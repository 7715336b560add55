"""The views in JupyterLab and Chromium: what a person does in a page, and what comes of it in the voice folder."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lab import Chromium, Lab, Notebook, busy_machine, needs_browser, wait_until

from voiceclone import Voice
from voiceclone.levels import loudness

pytestmark = [needs_browser, busy_machine]

MANY = 300  # clips of the long table
SETUP = """
import sys
sys.path.insert(0, {tests!r})
from dataclasses import replace
import numpy as np
import voiceclone.listen
from tiny import QUICK, TINY
from voiceclone import Voice, widgets
from voiceclone.synthesize import Synthesizer
from voiceclone.tacotron2 import PRESETS, Tacotron2
from voiceclone.tacotron2.checkpoint import Checkpoint, save_checkpoint
from voiceclone.train import TrainConfig
import torch

PRESETS["small"] = TINY  # a step takes milliseconds
voiceclone.listen.PREVIEW_SENTENCES = ("Go.", "No.")
voice = Voice.open({voice!r})
for seed, name in enumerate(("best", "step-000002")):
    torch.manual_seed(seed)
    model, speaker = Tacotron2(TINY), torch.nn.functional.normalize(torch.ones(256), dim=0)
    torch.nn.init.constant_(model.decoder.gate_layer.bias, -9.0)  # it does not stop at once
    save_checkpoint(voice.run_dir("ready") / "checkpoints" / f"{{name}}.pt", Checkpoint(model, 2, speaker))
quick = dict(start="scratch", listener="", vocoder="griffin_lim", learn=QUICK)
"""
CELLS = {
    "setup": SETUP,
    "review": "review = widgets.TranscriptTable(voice)\nreview",
    "many": "many = widgets.TranscriptTable(Voice.open({many!r}))\nmany",
    "cleaning": "cleaning = widgets.CleanPreview(voice)\ncleaning",
    "training": (
        'training = widgets.TrainingView(voice, TrainConfig(run="new", steps=100_000, previews=1, **quick))\n'
        "training.train()"
    ),
    "speaking": (
        'synthesizer = Synthesizer.open(voice, run="ready", vocoder="griffin_lim")\n'
        'speaking = widgets.SpeakingBox(synthesizer, text="Go.")\nspeaking'
    ),
    "comparing": 'comparing = widgets.BlindTest(voice, ["Go.", "No."], run="ready", seed=0)\ncomparing',
}
HEARD = """async (audio) => {
  const bytes = new Uint8Array(await (await fetch(audio.src)).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
}"""


@pytest.fixture(scope="module")
def voice(sample_voice, tmp_path_factory):
    """Five cleaned clips; one of them was misheard."""
    voice = Voice.open(shutil.copytree(sample_voice.path, tmp_path_factory.mktemp("voices") / "Sample"))
    one = voice.clip("0003")
    voice.update(replace(one, heard="she usually takes the late train", state="review", confidence="0.41"))
    return voice


@pytest.fixture(scope="module")
def notebook(voice, tmp_path_factory):
    """A notebook with a view in each cell, in a page of 1024 pixels."""
    many = Voice.create("Many", root=voice.path.parent, consent="Test Person")
    shutil.copytree(voice.takes_dir, many.takes_dir, dirs_exist_ok=True)
    clip = voice.clip("0001")
    many.update(*(replace(clip, id=f"{number:04d}") for number in range(1, MANY + 1)))
    paths = {"tests": str(Path(__file__).parent), "voice": str(voice.path), "many": str(many.path)}
    with Lab(tmp_path_factory.mktemp("lab"), environment={"OMP_NUM_THREADS": "1"}) as lab, Chromium() as chromium:
        lab.write("views.ipynb", [cell.format(**paths) for cell in CELLS.values()])
        with Notebook(lab, chromium.window(size=(1024, 900)), "views.ipynb") as notebook:
            notebook.run(0)
            yield notebook
            assert not notebook.problems


def shown(notebook, name):
    """Run a view's cell once, and give the view."""
    number = list(CELLS).index(name)
    view = notebook.output(number).locator(".vc-view")
    if not view.count():
        notebook.run(number)
        view.wait_for()
    return view


def until(notebook, condition, what):
    return wait_until(condition, what, pause=lambda seconds: notebook.page.wait_for_timeout(1000 * seconds))


def heard(audio):
    """The sound that a page's player holds."""
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(audio.evaluate(HEARD))))
    return wave, rate


def whole(path):
    """A notebook's file; None while it is being written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def clip_row(voice, number):
    return rows_of(voice.path / "clips.csv")[number - 1]


@pytest.mark.parametrize("name", ["review", "cleaning", "speaking", "comparing"])
def test_a_view_fits_a_page_of_1024_pixels_and_names_every_control(notebook, name):
    view = shown(notebook, name)
    wide = "(view) => [view, ...view.querySelectorAll('*')].some((e) => e.getBoundingClientRect().right > innerWidth)"
    assert not view.evaluate(wide)
    unnamed = view.evaluate("""(view) => [...view.querySelectorAll('button, select, input, textarea, [role=textbox]')]
        .filter((e) => !(e.textContent.trim() && e.tagName === 'BUTTON') && !e.ariaLabel && !e.labels?.length)
        .map((e) => e.outerHTML)""")
    assert unnamed == []


# Review ---------------------------------------------------------------------------------------------------------------


def test_the_table_can_be_worked_through_by_keys_alone(notebook, voice):
    view, keys = shown(notebook, "review"), notebook.page.keyboard
    cells = notebook.page.locator(".jp-Notebook .jp-Cell").count()
    view.locator(".vc-tab").last.focus()
    keys.press("Tab")  # into the table
    assert notebook.page.evaluate("document.activeElement.dataset.clip") == "0001"
    keys.press("ArrowDown")
    keys.press("x")
    until(notebook, lambda: clip_row(voice, 2)["state"] == "rejected", "clip 0002 to be left out")
    until(notebook, lambda: notebook.page.evaluate("document.activeElement.dataset.clip") == "0003", "the next clip")
    keys.press("a")
    until(notebook, lambda: clip_row(voice, 3)["state"] == "accepted", "clip 0003 to be accepted")
    assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == cells, "the keys were the notebook's too"


def test_what_is_typed_into_the_table_is_in_the_file(notebook, voice):
    view, keys = shown(notebook, "review"), notebook.page.keyboard
    view.locator("[data-clip='0004']").focus()
    keys.press("Enter")
    keys.press("Control+a")
    keys.type("Jeffrey said so.")
    keys.press("Enter")
    until(notebook, lambda: clip_row(voice, 4)["transcript"] == "Jeffrey said so.", "the text in clips.csv")
    assert (clip_row(voice, 4)["source"], clip_row(voice, 4)["state"]) == ("hand", "accepted")
    before = clip_row(voice, 5)
    view.locator("[data-clip='0005'] .vc-text").fill("Hello \N{GRINNING FACE}")
    keys.press("Enter")
    view.locator("[data-clip='0005'] [aria-invalid=true]").wait_for()
    assert view.locator(".vc-problem").inner_text()
    assert clip_row(voice, 5) == before


def test_differences_are_marked_and_a_clip_is_heard_as_it_was_taken(notebook, voice):
    view = shown(notebook, "review")
    assert view.locator("[data-clip='0003'] del").first.inner_text() == "early"
    view.locator("[data-clip='0003'] .vc-round").click()
    audio = view.locator("audio")
    until(notebook, lambda: audio.evaluate("(audio) => !audio.paused && audio.currentTime > 0"), "the sound")
    wave, rate = heard(audio)
    take, take_rate = soundfile.read(voice.takes_dir / "0003-1.wav")
    assert len(wave) / rate == pytest.approx(len(take) / take_rate, abs=1e-3)
    audio.evaluate("(audio) => audio.pause()")


def test_a_table_of_hundreds_of_clips_holds_no_sounds_and_its_last_row_is_a_key_away(notebook):
    view = shown(notebook, "many")
    assert view.locator(".vc-rows .vc-row").count() == MANY
    assert view.locator("audio").evaluate("(audio) => audio.src") == ""
    assert notebook.ask("len(str(many.view.get_state()['state']))") < 1000 * MANY
    view.locator("[data-clip='0001']").focus()
    notebook.page.keyboard.press("End")
    assert notebook.page.evaluate("document.activeElement.dataset.clip") == f"{MANY:04d}"


def test_reading_again_by_key_leads_into_the_recorder_and_its_take_into_the_table(notebook):
    view, many = shown(notebook, "many"), Voice.open(notebook.ask("str(many.voice.path)"))
    view.locator("[data-clip='0007']").focus()
    notebook.page.keyboard.press("r")
    recorder = notebook.page.locator(".vcr:focus[data-index='6']")
    recorder.wait_for()
    assert recorder.evaluate("(recorder) => recorder.scrollWidth <= recorder.clientWidth"), "300 sentences fit"
    for phase in ("review", "recording", "review"):  # the room and the take that is there, a new one, its end
        notebook.page.keyboard.press("Space")
        notebook.page.locator(f".vcr[data-phase={phase}]").wait_for()
    until(notebook, lambda: many.clip("0007").take == "0007-1.wav", "the take")
    until(notebook, lambda: view.locator("[data-clip='0007'] .vc-note").text_content(), "what is wrong with it")


# Cleaning -------------------------------------------------------------------------------------------------------------


def test_a_slider_changes_what_is_heard(notebook):
    view = shown(notebook, "cleaning")
    after = view.locator(".vc-player").nth(1)
    slider = view.locator("[data-setting=target_lufs]")

    def level(wanted):
        """Set the slider, and measure what the page plays then."""
        slider.evaluate("(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", str(wanted))
        asked = f'"target_lufs":{wanted}'
        until(notebook, lambda: asked in (after.get_attribute("data-heard") or ""), f"{wanted} LUFS")
        return loudness(*heard(after.locator("audio")))

    assert [level(-30), level(-24)] == pytest.approx([-30, -24], abs=0.2)
    assert view.locator(".vc-picture").evaluate("(image) => image.naturalWidth") == 1000
    assert notebook.ask("cleaning.config.target_lufs") == -24


# Training -------------------------------------------------------------------------------------------------------------


def test_training_is_watched_stopped_and_resumed(notebook, voice):
    view, run = shown(notebook, "training"), voice.run_dir("new")

    def become(condition):
        until(notebook, lambda: view.get_attribute("data-condition") == condition, f"training to be {condition}")

    def steps():
        return [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]

    become("training")
    number = view.locator(".vc-measures .vc-value").first
    first = number.inner_text()
    until(notebook, lambda: number.inner_text() not in ("–", first), "another step")
    view.get_by_role("button", name="Stop").click()
    become("stopped")
    saved = steps()[-1]
    assert (run / "checkpoints" / f"step-{saved:06d}.pt").exists()
    notebook.execute(f"training.config = replace(training.config, steps={saved + 10})")
    view.get_by_role("button", name="Go on").click()
    become("done")
    assert steps() == list(range(1, saved + 11)), "every step is there once: none was lost, none taken twice"
    for label in ("Losses and learning rate", "Alignment of the spoken sample", "Spectrogram, predicted and recorded"):
        image = view.get_by_role("img", name=label)
        until(notebook, lambda image=image: image.evaluate("(image) => image.naturalWidth") == 1000, label)
    view.locator(".vc-previews .vc-round").first.click()
    audio = view.locator(".vc-previews audio").first
    until(notebook, lambda: audio.evaluate("(audio) => audio.src"), "the spoken sample")
    spoken, _ = soundfile.read(run / "previews" / f"step-{saved + 10:06d}.wav")
    assert np.abs(heard(audio)[0] - spoken).max() < 1e-3


def test_a_notebook_that_is_saved_after_training_shows_its_end_and_stays_small(notebook):
    shown(notebook, "training")
    notebook.save()
    content = until(notebook, lambda: whole(notebook.lab.notebooks / notebook.name), "the whole file")
    (output,) = content["cells"][list(CELLS).index("training")]["outputs"]
    html = "".join(output["data"]["text/html"])
    assert html.count("<img") == 3 and "step" in html
    assert len(json.dumps(content)) < 2_000_000


# Listening ------------------------------------------------------------------------------------------------------------


def test_what_is_heard_is_what_the_model_says(notebook):
    view = shown(notebook, "speaking")
    view.get_by_label("Text", exact=True).fill("No.")
    view.get_by_label("Best of").fill("1")
    view.get_by_role("button", name="Speak").click()
    until(notebook, lambda: view.locator(".vc-said li").count() == 1, "the voice")
    wave, rate = heard(view.locator(".vc-player audio").first)
    said = np.array(notebook.ask("np.round(speaking.utterance.wave * 32768).astype(int).tolist()")) / 32768
    assert notebook.ask("speaking.utterance.text") == "No." and rate == 22050
    assert len(wave) == len(said) and np.abs(wave - said).max() < 1e-3 and np.abs(said).max() > 0.01
    assert view.get_by_role("img", name="Alignment").evaluate("(image) => image.naturalWidth") == 1000


def test_a_kept_utterance_is_a_sound_in_the_voice_folder(notebook, voice):
    view = shown(notebook, "speaking")
    before = view.locator(".vc-said li").count()
    view.get_by_role("button", name="Speak").click()
    until(notebook, lambda: view.locator(".vc-said li").count() == before + 1, "the voice")
    keep = view.get_by_role("button", name="Keep").first
    keep.click()
    until(notebook, keep.is_disabled, "the sound to be kept")
    (path,) = voice.samples_dir.glob("*.wav")
    assert np.abs(soundfile.read(path)[0] - heard(view.locator(".vc-player audio").first)[0]).max() < 1e-3


def test_blind_verdicts_are_counted_and_kept(notebook, voice):
    view, table = shown(notebook, "comparing"), voice.samples_dir / "comparisons.csv"
    for name, checkpoint in (("A", "best"), ("B", "step-000002")):
        view.locator(f"[data-choice={name}]").select_option(f"ready/{checkpoint} with griffin_lim")
    better = view.get_by_role("button", name="The first is better")
    assert not better.is_enabled()
    for count, key in enumerate("12", 1):
        view.get_by_role("button", name="Play a pair").click()
        for number in (0, 1):  # a verdict can only be given on what was heard
            player = view.locator(".vc-player").nth(number)
            until(notebook, lambda player=player: player.locator("audio").evaluate("(a) => a.src"), "the sound")
            player.locator("audio").evaluate("(audio) => audio.play()")
        until(notebook, better.is_enabled, "both to be heard")
        view.locator("select").first.evaluate("(select) => select.blur()")
        better.focus()
        notebook.page.keyboard.press(key)
        until(notebook, lambda count=count: table.exists() and len(rows_of(table)) == count, "the verdict")
        row = rows_of(table)[-1]
        assert row["verdict"] == {"1": "first", "2": "second"}[key]
        revealed = f"The first was {row['first']}, the second {row['second']}."
        until(notebook, lambda revealed=revealed: view.get_by_text(revealed).count() == 1, "who they were")
    names = {name for row in rows_of(table) for name in (row["first"], row["second"])}
    assert names == {"ready/best with griffin_lim", "ready/step-000002 with griffin_lim"}
    assert view.locator(".vc-tally-row").count() == 1
