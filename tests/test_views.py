"""The live views without a page: what is asked of them, what they answer, and what comes of it in the voice folder."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import soundfile

from voiceclone import Voice, VoiceCloneError, widgets
from voiceclone.levels import loudness
from voiceclone.widgets.comparing import Comparison, Tally, comparisons, keep, tallies
from voiceclone.widgets.following import MOST_POINTS, Printed, thinned

# Live views: what a page asks of them, without a page -----------------------------------------------------------------


class Page:
    """Stands at the other end of a view's line: asks, and notes what it is told."""

    def __init__(self, panel, monkeypatch):
        self.panel, self.told, self.count = panel, [], 0
        monkeypatch.setattr(panel, "tell", lambda kind, **content: self.told.append({"type": kind} | content))

    def ask(self, kind, **content):
        """The answer to a question."""
        self.count += 1
        self.panel.receive({"type": kind, "ask": str(self.count), **content})
        return self.news("reply")

    def news(self, kind):
        """The newest message of a type."""
        return next(message for message in reversed(self.told) if message["type"] == kind)


def heard(buffer):
    return soundfile.read(io.BytesIO(buffer))


def test_what_a_view_shows_at_first_is_plain_values(recorded):
    for panel in (widgets.TranscriptTable(recorded), widgets.CleanPreview(recorded)):
        assert json.loads(json.dumps(panel.state())) == panel.state()


def test_a_view_answers_with_any_problem_and_to_nothing_it_does_not_know(recorded, monkeypatch):
    panel = widgets.TranscriptTable(recorded)
    page = Page(panel, monkeypatch)
    assert "no clip 9999" in page.ask("accept", id="9999")["problem"]
    assert page.ask("accept")["problem"] == "KeyError: 'id'"
    page.told.clear()
    panel.receive({"type": "unheard of"})
    assert not page.told


def test_a_question_that_is_asked_twice_is_answered_twice_and_done_once(recorded, monkeypatch):
    panel = widgets.TranscriptTable(recorded)
    page = Page(panel, monkeypatch)
    question = {"type": "reject", "ask": "a", "id": "0001"}
    panel.receive(question)
    page.ask("accept", id="0001")
    panel.receive(question)  # the page did not hear the first answer
    assert recorded.clip("0001").state == "accepted"
    assert [message["ask"] for message in page.told if message["type"] == "reply"] == ["a", "1", "a"]


# Transcripts ----------------------------------------------------------------------------------------------------------


def test_text_written_into_the_table_is_kept_by_hand(recorded, monkeypatch):
    page = Page(widgets.TranscriptTable(recorded), monkeypatch)
    page.ask("correct", id="0001", text="What I  really said.")
    clip = Voice.open(recorded.path).clip("0001")
    assert (clip.transcript, clip.source, clip.state) == ("What I really said.", "hand", "accepted")
    assert page.news("row")["row"]["transcript"] == "What I really said."


def test_text_that_cannot_be_spoken_is_refused_in_the_table(recorded, monkeypatch):
    before = recorded.clip("0001")
    page = Page(widgets.TranscriptTable(recorded), monkeypatch)
    assert page.ask("correct", id="0001", text="Hello \N{GRINNING FACE}")["problem"]
    assert recorded.clip("0001") == before


def test_leaving_out_and_accepting_change_the_state(recorded, monkeypatch):
    page = Page(widgets.TranscriptTable(recorded), monkeypatch)
    page.ask("reject", id="0002")
    assert recorded.clip("0002").state == "rejected"
    page.ask("accept", id="0002")
    assert recorded.clip("0002").state == "accepted"


def test_a_clips_sound_is_sent_when_it_is_played_and_is_its_take(recorded, monkeypatch):
    panel = widgets.TranscriptTable(recorded)
    (buffer,) = Page(panel, monkeypatch).ask("sound", id="0002")["buffers"]
    wave, rate = heard(buffer)
    take, take_rate = soundfile.read(recorded.takes_dir / "0002-1.wav")
    assert len(wave) / rate == pytest.approx(len(take) / take_rate, abs=1e-3)
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(np.sqrt(np.mean(take**2)), rel=0.02)
    assert len(json.dumps(panel.state())) < 1000 * len(recorded.clips)


def test_reading_again_opens_the_recorder_at_the_clip_and_its_take_comes_into_the_table(recorded, monkeypatch, speech):
    from voiceclone.record import add_take

    panel = widgets.TranscriptTable(recorded)
    assert panel.widget
    page = Page(panel, monkeypatch)
    page.ask("retake", id="0002")
    recorder = panel.widget.children[1].children[0].children[0]  # below the table
    assert recorder.prompts[recorder.index] == recorded.clip("0002").prompt
    add_take(recorded, "0002", *speech[:2])
    recorder.refresh()
    assert page.news("row")["row"]["take"] == "0002-2.wav"
    recorder.release()


def test_a_table_that_is_drawn_anew_shows_what_was_edited(recorded, monkeypatch):
    panel = widgets.TranscriptTable(recorded)
    page = Page(panel, monkeypatch)
    page.ask("reject", id="0003")
    assert panel.view.get_state()["state"]["rows"][2]["state"] == "rejected"
    recorded.update(replace(recorded.clip("0001"), transcript="from a spreadsheet"))
    page.ask("refresh")
    assert page.news("row")["row"]["transcript"] == "from a spreadsheet"


# Cleaning -------------------------------------------------------------------------------------------------------------


def settings_of(panel, **changes):
    return panel.state()["settings"] | changes


def test_the_sliders_of_the_preview_say_what_cleaning_will_use(recorded, monkeypatch):
    panel = widgets.CleanPreview(recorded)
    before = panel.config
    page = Page(panel, monkeypatch)
    page.ask("try", id="0001", settings=settings_of(panel, target_lufs=-20.0, denoise_strength=50.0))
    assert panel.config == replace(before, target_lufs=-20.0, denoise_strength=0.5)
    assert panel.view.state["settings"]["target_lufs"] == -20.0  # a page that is drawn anew


def test_what_is_heard_after_is_as_loud_as_the_slider_says(recorded, monkeypatch):
    panel = widgets.CleanPreview(recorded)
    page = Page(panel, monkeypatch)
    levels = []
    for wanted in (-30.0, -24.0):
        _, after, figure = page.ask("try", id="0001", settings=settings_of(panel, target_lufs=wanted))["buffers"]
        levels.append(loudness(*heard(after)))
        assert figure.startswith(b"\x89PNG")
    assert levels == pytest.approx([-30.0, -24.0], abs=0.2)


def test_settings_that_cannot_be_are_refused(recorded, monkeypatch):
    panel = widgets.CleanPreview(recorded)
    said = Page(panel, monkeypatch).ask("try", id="0001", settings=settings_of(panel, margin_seconds=5.0))
    assert "margin_seconds=5.0" in said["problem"]


def test_applying_to_all_cleans_every_clip_as_the_sliders_say(recorded, monkeypatch):
    panel = widgets.CleanPreview(recorded)
    page = Page(panel, monkeypatch)
    said = page.ask("apply", settings=settings_of(panel, target_lufs=-28.0))["said"]
    assert said == "3 clips are clean."
    assert (page.news("progress")["done"], page.news("progress")["total"]) == (3, 3)
    for clip in recorded.clips:
        if clip.take:
            assert loudness(*soundfile.read(recorded.clip_path(clip.id))) == pytest.approx(-28.0, abs=0.2)


# Training -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A training record without a preview."""

    step: int
    epoch: float = 0.0
    loss: float = 1.0
    mel_loss: float = 0.5
    gate_loss: float = 0.3
    attention_loss: float = 0.2
    pitch_loss: float = 0.1
    learning_rate: float = 1e-3
    seconds: float = 61.0
    seconds_left: float | None = None
    validation: dict = field(default_factory=dict)
    preview: object = None
    notes: tuple = ()


class Training:
    """Stands for `train`: counts its steps and notes that it was closed."""

    def __init__(self, on_step=lambda step: None):
        self.closed, self.on_step = False, on_step

    def steps(self, count):
        try:
            for step in range(1, count + 1):
                self.on_step(step)
                yield Record(step)
        finally:
            self.closed = True


def quiet(voice, **config):
    """A view of a training that need not happen."""
    from voiceclone.train import TrainConfig

    return widgets.TrainingView(voice, TrainConfig(**{"steps": 10} | config))


def test_the_view_follows_training_to_its_end(voice):
    view, training = quiet(voice), Training()
    view.watch(training.steps(5), Printed())
    assert (view.last.step, view.condition, training.closed) == (5, "done", True)
    assert repr(view).startswith("step 5  epoch 0.0  loss 1.000")
    assert "1:01 min" in repr(view)


def test_an_interrupt_ends_training_and_closes_it(voice):
    def interrupt(step):
        if step == 3:
            raise KeyboardInterrupt

    view, training = quiet(voice), Training(interrupt)
    view.watch(training.steps(100), Printed())
    assert (view.last.step, view.condition, training.closed) == (2, "stopped", True)


def test_errors_of_training_are_not_hidden(voice):
    def fail(step):
        raise VoiceCloneError("the loss is not a number")

    with pytest.raises(VoiceCloneError, match="not a number"):
        quiet(voice).watch(Training(fail).steps(3), Printed())


def test_nothing_left_to_train_is_said(voice):
    view = quiet(voice)
    view.watch(iter(()), Printed())
    assert "Nothing left" in repr(view)


def test_the_share_that_is_done_follows_from_the_time_that_is_left(voice, monkeypatch):
    view = quiet(voice)
    page = Page(view, monkeypatch)
    view._follow(iter([Record(1, seconds=45.0, seconds_left=15.0)]))
    assert page.news("status")["share"] == 0.75
    assert page.news("status")["left"] == 15.0
    assert page.news("status")["cost"] == "" and "less than a minute left" in repr(view)


def test_on_colab_the_view_says_what_the_time_that_is_left_costs(voice, monkeypatch):
    import torch

    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    view = quiet(voice)
    page = Page(view, monkeypatch)
    view._follow(iter([Record(1, seconds=45.0, seconds_left=1800.0)]))
    assert page.news("status")["cost"] == "at most 1.0 compute units"
    assert "about 30 minutes left, at most 1.0 compute units" in repr(view)


def test_a_long_training_is_drawn_with_few_points_and_every_validation():
    rows = [Record(step, validation={"mel": 1.0} if step % 1000 == 1 else {}) for step in range(20_000)]
    shown = thinned(rows)
    assert len(shown) < 2 * MOST_POINTS and shown[-1] is rows[-1]
    assert sum(bool(row.validation) for row in shown) == 20


def test_a_problem_on_the_training_thread_reaches_the_page(voice, monkeypatch):
    view = quiet(voice)  # its voice has no clips to learn from
    page = Page(view, monkeypatch)
    view.resume()
    view._thread.join(60)
    status = page.news("status")
    assert status["condition"] == "failed" and "no clip to learn from" in status["said"]


# Listening ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ready(voice):
    """A voice with two checkpoints of a tiny network."""
    import torch
    from tiny import TINY

    from voiceclone.tacotron2 import Tacotron2
    from voiceclone.tacotron2.checkpoint import Checkpoint, save_checkpoint

    for name in ("best", "step-000002"):
        model, speaker = Tacotron2(TINY), torch.nn.functional.normalize(torch.ones(256), dim=0)
        torch.nn.init.constant_(model.decoder.gate_layer.bias, -9.0)  # it does not stop at once
        save_checkpoint(voice.run_dir("main") / "checkpoints" / f"{name}.pt", Checkpoint(model, 2, speaker))
    return voice


def test_what_is_heard_and_kept_is_what_was_asked_for(ready, monkeypatch):
    from voiceclone.synthesize import Synthesizer

    box = widgets.SpeakingBox(Synthesizer.open(ready, vocoder="griffin_lim"))
    page, chosen = Page(box, monkeypatch), box.state()["chosen"]
    assert (chosen["checkpoint"], chosen["vocoder"]) == ("main/best", "griffin_lim")
    answer = page.ask("speak", text="No.", **chosen | {"checkpoint": "main/step-000002", "takes": 1})
    assert box.utterance.text == "No." and "main/step-000002 with griffin_lim, best of 1" in answer["label"]
    sound, alignment, spectrogram = answer["buffers"]
    assert np.abs(heard(sound)[0] - box.utterance.wave).max() < 1e-3
    assert alignment.startswith(b"\x89PNG") and spectrogram.startswith(b"\x89PNG")
    page.ask("keep", number=answer["number"])
    assert np.abs(soundfile.read(ready.samples_dir / "no.wav")[0] - box.utterance.wave).max() < 1e-3
    assert "nothing to say" in page.ask("speak", text=" ", **chosen)["problem"]


def test_a_pair_is_judged_once_and_only_then_revealed(ready, monkeypatch):
    panel = widgets.BlindTest(ready, ["No."])
    page, pair = Page(panel, monkeypatch), [f"main/{name} with griffin_lim" for name in ("best", "step-000002")]
    answer = page.ask("pair", pair=pair)
    assert len(answer["buffers"]) == 2 and not any(name in str(answer) for name in pair)
    said = page.ask("verdict", trial=answer["trial"], verdict="second")["revealed"]
    (kept,) = comparisons(ready)
    assert said == f"The first was {kept.first}, the second {kept.second}." and {kept.first, kept.second} == set(pair)
    assert "judged already" in page.ask("verdict", trial=answer["trial"], verdict="first")["problem"]
    assert "are the same" in page.ask("pair", pair=[pair[0], pair[0]])["problem"]


# Comparing ------------------------------------------------------------------------------------------------------------


def verdicts(*rows):
    return tuple(Comparison("2026-01-01T00:00:00+00:00", "Hi.", *row) for row in rows)


def test_a_tally_counts_for_whom_it_was_whichever_was_first():
    (tally,) = tallies(verdicts(("a", "b", "first"), ("b", "a", "second"), ("b", "a", "first"), ("a", "b", "same")))
    assert (tally.one, tally.for_one, tally.other, tally.for_other, tally.same) == ("a", 2, "b", 1, 1)


def test_a_tally_says_when_it_could_be_chance():
    def said(for_one, for_other):
        return Tally("a", "b", for_one, for_other, 0).said

    assert "Too few" in said(3, 1)
    assert "could be chance" in said(6, 4)
    assert said(0, 10) == "You prefer b: by chance alone a result as clear comes 0.2 times in 100."  # 2 / 2 ** 10


def test_verdicts_are_kept_in_the_voice_folder_and_read_back(voice):
    rows = verdicts(("a", "b", "first"), ('with "quotes", and commas', "b", "same"))
    for row in rows:
        keep(voice, row)
    assert comparisons(Voice.open(voice.path)) == rows
    (voice.samples_dir / "comparisons.csv").write_text("something,else\n1,2\n", encoding="utf-8")
    with pytest.raises(VoiceCloneError, match="comparisons.csv is no table"):
        keep(voice, rows[0])


def test_a_voice_without_checkpoints_has_nothing_to_compare(voice, monkeypatch):
    panel = widgets.BlindTest(voice, ["Hi."])
    assert "train it first" in Page(panel, monkeypatch).ask("pair", pair=[])["problem"]
    assert "0 blind comparisons" in repr(panel)
