"""Fine-tuning HiFi-GAN to a voice: that it goes on, where it is kept, and what comes of it."""

from __future__ import annotations

import errno
import json
import shutil
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import TINY
from tiny_hifigan import HOP, SMALL, buzz, clip_of, tiny_weights

from voiceclone import Voice, drive, widgets
from voiceclone.__main__ import main
from voiceclone.audio import AudioConfig, log_mel, save
from voiceclone.errors import CheckpointError, TrainingError, VoiceCloneError
from voiceclone.export import export, import_zip
from voiceclone.synthesize import Synthesizer
from voiceclone.tacotron2 import Tacotron2
from voiceclone.tacotron2.checkpoint import load_checkpoint, save_checkpoint
from voiceclone.vocoders import fitting, hifigan, load_vocoder, vocode
from voiceclone.vocoders.aligned import aligned_clips, mel_error
from voiceclone.vocoders.comparison import compare_vocoders
from voiceclone.vocoders.hifigan_training import TuneConfig, tune
from voiceclone.vocoders.tuned import generator_of, tuned_vocoder
from voiceclone.weights import read_weights


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Those of a tiny generator, under the authors' names."""
    return tiny_weights()


@pytest.fixture(scope="module")
def start(weights, tmp_path_factory) -> str:
    """A tiny generator's file, in the place of the universal one."""
    path = tmp_path_factory.mktemp("start") / "g_00000001"
    torch.save({"generator": weights}, path)
    return str(path)


# A voice ----------------------------------------------------------------------------------------------------------


def test_the_spectrograms_are_tacotrons_and_in_time_with_the_clips(trained):
    checkpoint = trained.run_dir("main") / "checkpoints" / "best.pt"
    clips = aligned_clips(trained, checkpoint)
    again = aligned_clips(trained, checkpoint)
    assert [clip.id for clip in clips] == [clip.id for clip in trained.usable()]
    for clip, twin in zip(clips, again, strict=True):
        natural = log_mel(clip.wave)[0]
        assert clip.mel.shape == natural.shape  # frame by frame the clip's
        assert not torch.allclose(clip.mel, natural, atol=0.5)  # but not its own
        assert torch.equal(clip.mel, twin.mel)


def settings(start: str | None, **changes) -> TuneConfig:
    return TuneConfig(**(dict(steps=4, start=start, alone_steps=1) | SMALL | changes))


def test_a_generator_is_tuned_and_spoken_with(fresh, start):
    steps = list(tune(fresh, settings(start)))
    assert [step.step for step in steps] == [1, 2, 3, 4]
    name = tuned_vocoder(fresh)
    assert name == f"hifigan:{fresh.run_dir('main') / 'vocoder' / 'generator.pt'}"
    mel = log_mel(buzz())[0]
    tuned, untuned = vocode(load_vocoder(name), mel), vocode(load_vocoder("hifigan", start), mel)
    assert tuned.shape == untuned.shape and not np.array_equal(tuned, untuned)
    lines = (fresh.run_dir("main") / "vocoder" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert json.loads(lines[0])["mel_loss"] == pytest.approx(steps[0].learned.mel_loss)
    assert list(tune(fresh, settings(start))) == []  # the budget is spent


def test_the_command_line_says_when_nothing_is_left_to_learn(fresh, start, capsys):
    own = str(fresh.path)
    assert main(["tune", own, "--steps", "1", "--start", start]) == 0
    assert "nothing left" not in capsys.readouterr().out
    assert main(["tune", own, "--steps", "1", "--start", start]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "nothing left to learn" in said[0] and said[1] == f"vocoder: {tuned_vocoder(fresh)}"


def test_a_notebook_tunes_and_says_when_nothing_is_left(fresh, start, capsys):
    widgets.tune_vocoder(fresh, settings(start, steps=1))
    assert "step 1 " in capsys.readouterr().out
    widgets.tune_vocoder(fresh, settings(start, steps=1))
    assert "Nothing left to tune" in capsys.readouterr().out


def test_what_speaks_lies_between_the_start_and_what_was_learned(fresh, start, weights):
    folder = fresh.run_dir("main") / "vocoder"
    list(tune(fresh, settings(start, steps=2, share=0.25)))
    learned = read_weights(folder / "checkpoints" / "step-000002.pt")["generator"]
    speaks = read_weights(folder / "generator.pt")["generator"]
    assert speaks.keys() == weights.keys() and any(not torch.equal(learned[name], weights[name]) for name in weights)
    for name in weights:
        torch.testing.assert_close(speaks[name], 0.75 * weights[name] + 0.25 * learned[name], atol=1e-6, rtol=0)
    assert list(tune(fresh, settings(start, steps=2, share=1.0))) == []  # learns no more, and goes all the way
    speaks = read_weights(folder / "generator.pt")["generator"]
    assert all(torch.equal(speaks[name], learned[name]) for name in weights)
    assert [step.step for step in tune(fresh, settings(start, steps=3, share=1.0))] == [3]  # it is not from there


def test_a_zip_gives_back_the_tuned_vocoder_and_the_voice_speaks_with_it(fresh, start, tmp_path):
    list(tune(fresh, settings(start)))
    archive = export(fresh)
    shutil.move(fresh.runs_dir, tmp_path / "gone")  # nothing but the zip is left
    rebuilt = import_zip(archive, root=tmp_path / "elsewhere")
    there = Synthesizer.open(rebuilt)
    assert there.vocoder.name == "hifigan_tuned"
    mel = log_mel(buzz())[0]
    tuned = load_vocoder("hifigan", tmp_path / "gone" / "main" / "vocoder" / "generator.pt")
    np.testing.assert_array_equal(vocode(there.vocoder, mel), vocode(tuned, mel))
    assert not np.array_equal(vocode(there.vocoder, mel), vocode(load_vocoder("hifigan", start), mel))
    assert there.say("Yes.").wave.size
    assert "tuned to this voice" in (rebuilt.path / "README.md").read_text()
    assert list(tune(rebuilt, settings(start))) == []  # it knows that the budget was spent


def test_tuning_goes_on_from_what_a_zip_tells_of_what_was_learned(fresh, start, weights, tmp_path):
    folder = fresh.run_dir("main") / "vocoder"
    list(tune(fresh, settings(start, learning_rate=1e-3)))
    learned = read_weights(folder / "checkpoints" / "step-000004.pt")["generator"]
    speaks = read_weights(folder / "generator.pt")["generator"]
    assert any((learned[name] - speaks[name]).abs().max() > 1e-3 for name in learned)
    rebuilt = import_zip(export(fresh), root=tmp_path / "elsewhere")
    folder = rebuilt.run_dir("main") / "vocoder"
    (step,) = tune(rebuilt, settings(start, steps=5, learning_rate=1e-12, discriminator_rate=1e-12))
    assert (step.step, step.learned.judges) == (5, 0)  # of the five the last; judges who know nothing say nothing
    state = read_weights(folder / "checkpoints" / "step-000005.pt")
    after = read_weights(folder / "generator.pt")["generator"]
    for name in weights:
        torch.testing.assert_close(state["generator"][name], learned[name], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(after[name], speaks[name], atol=1e-6, rtol=1e-5)
        assert torch.equal(state["begun_with"][name], weights[name])
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5]


def test_the_judges_are_heard_no_less_where_the_budget_is_lengthened(fresh, start, tmp_path):
    how = dict(alone_steps=1000, alone_share=0.25)
    judges = [step.learned.judges for step in tune(fresh, settings(start, **how))]
    assert judges == [0, 0, 1, 1]
    rebuilt = import_zip(export(fresh), root=tmp_path / "elsewhere")
    assert [step.learned.judges for step in tune(fresh, settings(start, steps=12, **how))] == [1] * 8
    anew = [step.learned.judges for step in tune(rebuilt, settings(start, steps=8, **how))]
    assert anew == [0, 0, 0, 0.5]  # of the new budget two steps are a quarter


def test_a_run_speaks_with_its_own_vocoder_where_it_has_one(fresh, start):
    assert Synthesizer.open(fresh).vocoder.name == "hifigan"
    with pytest.raises(CheckpointError, match="No vocoder was tuned to the run 'main'.*voiceclone tune"):
        Synthesizer.open(fresh, vocoder="hifigan_tuned")
    list(tune(fresh, settings(start, steps=1)))
    own = Synthesizer.open(fresh).vocoder
    assert own.name == Synthesizer.open(fresh, vocoder="hifigan_tuned").vocoder.name == "hifigan_tuned"
    assert own.generator.conv_pre.out_channels != hifigan.load_hifigan().generator.conv_pre.out_channels  # the tiny one
    assert Synthesizer.open(fresh, vocoder="hifigan").vocoder.name == "hifigan"
    assert Synthesizer.open(fresh, vocoder=f"hifigan:{start}").vocoder.name == f"hifigan:{start}"
    shutil.copytree(fresh.run_dir("main") / "checkpoints", fresh.run_dir("other") / "checkpoints")
    assert Synthesizer.open(fresh, run="other").vocoder.name == "hifigan"  # which nothing was tuned to


def test_a_run_that_was_trained_on_says_once_that_its_vocoder_was_not(fresh, start, tmp_path, capsys):
    def trained_on(seed: int) -> None:
        torch.manual_seed(seed)
        best = fresh.run_dir("main") / "checkpoints" / "best.pt"
        save_checkpoint(best, replace(load_checkpoint(best), model=Tacotron2(TINY)))

    def warnings_of(voice: Voice, **how: str) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert Synthesizer.open(voice, **how).vocoder.name == how.get("vocoder", "hifigan_tuned")
        return [str(one.message) for one in caught]

    list(tune(fresh, settings(start, steps=1)))
    assert warnings_of(fresh) == warnings_of(import_zip(export(fresh), root=tmp_path / "elsewhere")) == []
    trained_on(1)
    assert warnings_of(fresh, vocoder="hifigan") == []
    (said,) = warnings_of(fresh)
    assert "run 'main' has been trained since" in said and "voiceclone tune VOICE --run main" in said
    assert warnings_of(fresh) == []
    list(tune(fresh, settings(start, steps=1)))
    assert warnings_of(fresh) == []
    trained_on(2)
    capsys.readouterr()
    assert main(["say", str(fresh.path), "Yes.", "-o", str(tmp_path / "yes.wav")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "trained since" in line]
    assert len(lines) == 1 and lines[0].startswith("voiceclone: The run 'main'")


def test_going_on_gives_what_would_have_been(fresh, start, tmp_path):
    shutil.copytree(fresh.path, tmp_path / "twin")
    twin = Voice.open(tmp_path / "twin")
    whole = list(tune(fresh, settings(start)))
    interrupted = tune(twin, settings(start))
    first = [next(interrupted), next(interrupted)]
    interrupted.close()  # as a disconnected notebook does
    kept = twin.run_dir("main") / "vocoder" / "checkpoints"
    assert [path.name for path in kept.iterdir()] == ["step-000002.pt"]
    rest = list(tune(twin, settings(start)))
    assert [step.learned for step in first + rest] == [step.learned for step in whole]
    one, other = (
        read_weights(voice.run_dir("main") / "vocoder" / "generator.pt")["generator"] for voice in (fresh, twin)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_torn_checkpoint_is_passed_over(fresh, start):
    list(tune(fresh, settings(start, steps=2)))
    kept = fresh.run_dir("main") / "vocoder" / "checkpoints"
    (kept / "step-000009.pt").write_bytes((kept / "step-000002.pt").read_bytes()[:-1000])
    assert [step.step for step in tune(fresh, settings(start, steps=3))] == [3]
    assert [path.name for path in kept.iterdir()] == ["step-000003.pt"]
    assert [step.step for step in tune(fresh, settings(start, steps=1, resume=False))] == [1]


def test_checkpoints_are_written_so_many_minutes_apart(fresh, start, monkeypatch):
    seconds, written = [0.0], []
    monkeypatch.setattr(fitting, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    for step in tune(fresh, settings(start, steps=7, save_minutes=10)):
        written.append(step.checkpoint)
        seconds[0] += 300
    assert written == [None, None, "step-000003.pt", None, "step-000005.pt", None, "step-000007.pt"]


def test_what_has_diverged_is_not_gone_on_from(fresh, start):
    diverging = settings(start, steps=9, learning_rate=1e30)
    with pytest.raises(TrainingError, match="with a lower learning rate"):
        list(tune(fresh, diverging))
    assert [step.step for step in tune(fresh, settings(start, steps=2))] == [1, 2]
    with pytest.raises(TrainingError, match="with a lower learning rate"):
        list(tune(fresh, diverging))
    assert [step.step for step in tune(fresh, settings(start, steps=3))] == [3]


def test_what_was_learned_before_memory_ends_is_kept(fresh, start, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    steps = tune(fresh, settings(start, batch_size=1))
    next(steps)
    with monkeypatch.context() as patch:
        patch.setattr(hifigan.Generator, "forward", full)
        with pytest.raises(TrainingError, match="single piece of 6 frames"):
            next(steps)
    assert [step.step for step in tune(fresh, settings(start, steps=2))] == [2]


def test_another_start_is_refused_whatever_its_file_is_called(fresh, start, weights, tmp_path):
    list(tune(fresh, settings(start, steps=2)))
    kept = content(fresh.run_dir("main") / "vocoder")
    other, same = tmp_path / "g_other", tmp_path / "g_moved"
    shutil.copy(start, same)
    for louder in (1.1, 1.2):  # the same name holds another generator the second time
        torch.save({"generator": weights | {"conv_post.bias": weights["conv_post.bias"] + louder}}, other)
        with pytest.raises(TrainingError, match="learned from .*, not from .*g_other as it is now.*--no-resume"):
            list(tune(fresh, settings(str(other))))
        assert content(fresh.run_dir("main") / "vocoder") == kept
        anew = settings(str(other), steps=1, learning_rate=1e-12, resume=False)
        assert [step.step for step in tune(fresh, anew)] == [1]
        speaks = read_weights(fresh.run_dir("main") / "vocoder" / "generator.pt")["generator"]
        torch.testing.assert_close(speaks["conv_post.bias"], weights["conv_post.bias"] + louder, atol=1e-6, rtol=0)
        kept = content(fresh.run_dir("main") / "vocoder")
    list(tune(fresh, settings(start, steps=1, resume=False)))
    assert [step.step for step in tune(fresh, settings(str(same), steps=2))] == [2]
    assert [step.step for step in tune(fresh, settings(None, steps=3))] == [3]  # None is what it began with
    with pytest.raises(VoiceCloneError, match="nowhere"):
        list(tune(fresh, settings(str(tmp_path / "nowhere.pt"))))


def test_of_a_voice_whose_one_clip_was_held_out_that_one_is_learned(fresh, start):
    list(tune(fresh, settings(start, steps=1)))
    held_out = json.loads((fresh.run_dir("main") / "split.json").read_text())["validation"]
    fresh.update(*(replace(clip, state="rejected") for clip in fresh.usable() if clip.id != held_out[0]))
    assert len(list(tune(fresh, settings(start, steps=1)))) == 1
    fresh.update(*(replace(clip, state="rejected") for clip in fresh.usable()))
    with pytest.raises(TrainingError, match="no clip to learn from"):
        list(tune(fresh, settings(start, steps=2)))


def test_a_voice_that_changed_is_learned_with_what_is_known(fresh, start, tmp_path):
    list(tune(fresh, settings(start, steps=2)))
    clip = fresh.clips[0]
    fresh.update(replace(clip, transcript="Another text."))
    assert [step.step for step in tune(fresh, settings(start, steps=1))] == [3]
    rebuilt = import_zip(export(fresh), root=tmp_path / "elsewhere")
    assert [step.step for step in tune(rebuilt, settings(start, steps=2))] == [4]  # one of the new budget was spent


def test_one_short_clip_is_enough(fresh, start):
    first, *others = fresh.usable()
    fresh.update(*(replace(clip, state="rejected") for clip in others))
    save(fresh.clip_path(first.id), buzz(0.3))  # shorter than a piece of 32 frames
    (fresh.run_dir("main") / "split.json").unlink(missing_ok=True)
    steps = list(tune(fresh, settings(start, steps=2, piece=32)))
    assert len(steps) == 2 and all(np.isfinite(step.learned.mel_loss) for step in steps)


# On a drive -------------------------------------------------------------------------------------------------------


class Drive:
    """A drive that refuses every file while it `fails`."""

    def __init__(self) -> None:
        self.fails, self._copy = False, drive._copy_whole

    def copy(self, source: Path, target: Path) -> None:
        if self.fails and target.is_relative_to(drive.DRIVE):
            raise OSError(errno.EIO, "Input/output error")
        self._copy(source, target)


@pytest.fixture
def on_drive(trained, tmp_path, monkeypatch):
    """The trained voice on a drive, and the drive; each machine is a folder beside it."""
    disk = Drive()
    monkeypatch.setattr(drive, "DRIVE", tmp_path / "drive")
    monkeypatch.setattr(drive, "WORK", tmp_path / "machine")
    monkeypatch.setattr(drive, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(drive, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(drive, "_copy_whole", disk.copy)
    shutil.copytree(trained.path, tmp_path / "drive" / "voice")
    yield Voice.open(tmp_path / "drive" / "voice"), disk
    disk.fails = False


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_tuning_is_kept_on_the_drive_and_goes_on_on_another_machine(on_drive, start, tmp_path, monkeypatch):
    voice, _ = on_drive
    there, here = (folder / "voice" / "runs" / "main" / "vocoder" for folder in (drive.DRIVE, drive.WORK))
    assert [step.step for step in tune(voice, settings(start, steps=2))] == [1, 2]
    assert content(there) == content(here)
    assert set(content(there)) == {"generator.pt", "config.json", "log.jsonl", "checkpoints/step-000002.pt"}
    monkeypatch.setattr(drive, "WORK", tmp_path / "other machine")
    assert list(tune(voice, settings(start, steps=2))) == []
    assert tuned_vocoder(voice) == f"hifigan:{there / 'generator.pt'}"
    steps = tune(voice, settings(start))
    assert next(steps).step == 3
    steps.close()  # as an interrupt does
    assert content(there) == content(drive.WORK / "voice" / "runs" / "main" / "vocoder")
    assert list(map(Path, content(there / "checkpoints"))) == [Path("step-000003.pt")]
    lines = (there / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert [step.step for step in tune(voice, settings(start, steps=1, resume=False))] == [1]
    assert [path.name for path in (there / "checkpoints").iterdir()] == ["step-000001.pt"]


def test_a_drive_that_refuses_everything_ends_no_tuning_and_what_was_tuned_speaks(on_drive, start, monkeypatch):
    voice, disk = on_drive
    run = voice.run_dir("main")
    list(tune(voice, settings(start, steps=1)))
    before = content(run / "vocoder")
    monkeypatch.setattr(drive, "PATIENCE", 0.1)
    disk.fails = True
    with pytest.warns(UserWarning) as warned:
        steps = []
        for step in tune(voice, settings(start, steps=6, save_minutes=1e-9)):
            steps.append(step.step)
            time.sleep(0.05)  # for the drive to have its say
    assert steps == [2, 3, 4, 5, 6]
    said = " ".join(str(one.message) for one in warned)
    assert "Input/output error" in said and "could not be copied" in said and "generator.pt" in said
    assert content(run / "vocoder") == before
    here = drive.WORK / "voice" / "runs" / "main" / "vocoder" / "generator.pt"
    assert tuned_vocoder(voice) == f"hifigan:{here}" and generator_of(run) == here
    mel = log_mel(buzz())[0]
    spoken = vocode(Synthesizer.open(voice).vocoder, mel)
    np.testing.assert_array_equal(spoken, vocode(load_vocoder("hifigan", here), mel))
    with zipfile.ZipFile(export(voice)) as archive:
        assert archive.read("runs/main/vocoder/generator.pt") == here.read_bytes()
        assert archive.read("runs/main/vocoder/config.json") == here.with_name("config.json").read_bytes()
    with pytest.warns(UserWarning, match=r"could not be copied.*run the training again"):
        assert list(tune(voice, settings(start, steps=6))) == []  # it knows that the budget was spent


def test_what_did_not_arrive_is_copied_by_the_next_session(on_drive, start):
    voice, _ = on_drive
    folder = voice.run_dir("main") / "vocoder"
    list(tune(voice, settings(start, steps=1)))
    kept = content(folder)
    shutil.rmtree(folder)
    assert list(tune(voice, settings(start, steps=1))) == []
    assert content(folder) == kept


def test_what_is_on_a_drive_that_cannot_be_read_is_not_begun_anew(on_drive, start, tmp_path, monkeypatch):
    voice, disk = on_drive
    list(tune(voice, settings(start, steps=1)))
    kept = content(voice.run_dir("main") / "vocoder")
    monkeypatch.setattr(drive, "WORK", tmp_path / "other machine")

    def unreadable(source, target):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(drive, "_copy_whole", unreadable)
        with pytest.raises(VoiceCloneError, match="Input/output error.*run the training again"):
            next(tune(voice, settings(start, steps=2)))
    assert content(voice.run_dir("main") / "vocoder") == kept


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    kept = fitting.Checkpoints(tmp_path)
    kept.save(1, {"step": 1})

    def full(*_, **__):
        raise VoiceCloneError("The disk is full")

    monkeypatch.setattr(fitting, "write_weights", full)
    with pytest.raises(VoiceCloneError, match="full"):
        kept.save(2, {"step": 2})
    assert kept.newest() == {"step": 1}


def test_without_consent_nothing_is_tuned(fresh, start):
    fresh.consent = replace(fresh.consent, who="")
    with pytest.raises(TrainingError, match="no recorded consent"):
        next(tune(fresh, settings(start)))


def test_vocoders_are_compared_on_the_same_spectrograms(fresh, start):
    with pytest.raises(VoiceCloneError, match="No vocoder was tuned"):
        compare_vocoders(fresh)
    names, done = (f"hifigan:{start}", "griffin_lim"), []
    rows = compare_vocoders(
        fresh, names, sentences=("Yes.",), engine="whisper", progress=lambda *count: done.append(count)
    )
    assert [row.vocoder for row in rows] == list(names) and done == [(1, 2), (2, 2)]
    checkpoint = fresh.run_dir("main") / "checkpoints" / "best.pt"
    split = json.loads((fresh.run_dir("main") / "split.json").read_text())
    held_out = [clip for clip in aligned_clips(fresh, checkpoint) if clip.id in split["validation"]]
    assert len(held_out) == 1
    assert rows[0].mel_error == pytest.approx(mel_error(load_vocoder(names[0]), held_out))
    assert rows[0].as_dict().keys() == {
        "vocoder", "mel_error", "word_error_rate", "likeness", "opinion_score", "failures",
    }  # fmt: skip


def test_the_mel_error_is_nought_for_the_sound_itself():
    class Parrot(hifigan.HifiGan):
        """Says the natural sound, whatever it is given."""

        def __init__(self, wave: np.ndarray) -> None:
            self.audio, self.frame_delay, self.wave = AudioConfig(), 0, torch.from_numpy(wave)

        def _speak(self, mel: torch.Tensor) -> torch.Tensor:
            return self.wave[None]

    wave = buzz()[: 40 * HOP]
    assert mel_error(Parrot(wave), [clip_of(wave)]) == pytest.approx(0, abs=1e-6)
    tenfold = mel_error(Parrot(wave * 0.1), [clip_of(wave)])
    assert 0.3 < tenfold <= np.log(10) + 1e-6  # each band is that much lower, but for those that were silent
