"""What leaves the voice folder, and what is let in."""

from __future__ import annotations

import json
import stat
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from voiceclone import Clip, Voice, VoiceCloneError
from voiceclone.__main__ import main
from voiceclone.audio import save
from voiceclone.errors import CheckpointError
from voiceclone.export import MOST_FILES, export, import_checkpoint, import_zip
from voiceclone.tacotron2 import Tacotron2, load_nvidia, save_nvidia
from voiceclone.tacotron2.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from voiceclone.tacotron2.config import SMALL, Tacotron2Config
from voiceclone.text import FRONT_END, LETTERS

TINY = dict(
    symbols_embedding_dim=16, attention_rnn_dim=16, attention_dim=8, prenet_dim=8, decoder_rnn_dim=16,
    postnet_embedding_dim=8,
)  # fmt: skip


def tiny(config):
    return Tacotron2(replace(config, **TINY))


def finish(voice, config):
    """Give a voice a clip and a trained run of the smallest model there can be."""
    wave = np.random.default_rng(1).normal(0, 0.05, 4000).astype(np.float32)
    save(voice.takes_dir / "0001-1.wav", wave)
    save(voice.clip_path("0001"), wave)
    voice.update(Clip("0001", "Hello.", "0001-1.wav", transcript="Hello.", source="prompt", state="accepted"))
    folder = voice.run_dir("main")
    speaker = torch.zeros(config.speaker_dim) if config.speaker_dim else None
    save_checkpoint(folder / "checkpoints" / "best.pt", Checkpoint(tiny(config), 7, speaker))
    (folder / "log.jsonl").write_text('{"step": 7}\n')
    return voice


@pytest.fixture
def small(voice):
    return finish(voice, SMALL)


@pytest.fixture
def full(voice):
    return finish(voice, Tacotron2Config())


def zip_of(path, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_zip_rebuilds_the_voice_elsewhere(small, tmp_path):
    made = export(small)
    assert made.parent == small.exports_dir
    copy = import_zip(made, root=tmp_path / "elsewhere")
    assert copy.path == tmp_path / "elsewhere" / "Test Voice"
    assert (copy.name, copy.consent, copy.clips) == (small.name, small.consent, small.clips)
    for path in ("takes/0001-1.wav", "clips/0001.wav", "runs/main/checkpoints/best.pt"):
        assert (copy.path / path).read_bytes() == (small.path / path).read_bytes()
    assert load_checkpoint(copy.run_dir("main") / "checkpoints" / "best.pt").step == 7
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["Test Voice"], (
        "nothing temporary stays"
    )


def test_the_command_line_rebuilds_a_voice_from_its_zip(small, tmp_path, capsys):
    made, target = export(small), tmp_path / "elsewhere" / "again"
    assert main(["import", str(target), str(made)]) == 0
    assert capsys.readouterr().out == f"voice: {target}\n"
    assert Voice.open(target).clips == small.clips
    assert main(["import", str(target), str(made)]) == 1
    assert "There is a voice at" in capsys.readouterr().err
    for option in (["--run", "more"], ["--trained-on", "letters"]):
        assert main(["import", str(tmp_path / "other"), str(made), *option]) == 1
        assert "leave --run and --trained-on out" in capsys.readouterr().err


def test_zip_holds_a_model_card_with_measures_and_consent(small):
    measures = dict(word_error_rate=0.25, likeness=0.8, opinion_score=3.0, failures=1, count=20)
    small.samples_dir.mkdir()
    result = dict(voice=measures, natural=measures | {"word_error_rate": 0.05}, rows=[], engine="whisper")
    (small.samples_dir / "evaluation.json").write_text(json.dumps(result))
    with zipfile.ZipFile(export(small)) as archive:
        card = archive.read("README.md").decode()
    assert "| word error rate | 0.250 | 0.050 |" in card and "7 steps" in card
    assert "Test Person" in card and small.consent.agreed in card


def test_a_card_says_when_nothing_was_measured(small):
    with zipfile.ZipFile(export(small)) as archive:
        assert "Nothing was measured" in archive.read("README.md").decode()


def test_without_recorded_consent_nothing_is_exported(small):
    for nothing in ("", "  "):
        content = json.loads((small.path / "voice.json").read_text())
        content["consent"]["who"] = nothing
        (small.path / "voice.json").write_text(json.dumps(content))
        with pytest.raises(VoiceCloneError, match="consent"):
            export(Voice.open(small.path))
    assert not small.exports_dir.exists()


def test_an_untrained_voice_says_what_to_do(voice):
    with pytest.raises(VoiceCloneError, match="notebook 05"):
        export(voice)


def test_an_unknown_format_is_refused_with_the_known_ones(small):
    with pytest.raises(VoiceCloneError, match="zip or fakeyou"):
        export(small, format="rar")


def test_fakeyou_checkpoint_of_a_full_run_has_the_same_weights(full):
    made = export(full, format="fakeyou")
    ours = load_checkpoint(full.run_dir("main") / "checkpoints" / "best.pt").model.state_dict()
    theirs = load_nvidia(made).state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.load(made, weights_only=True)["iteration"] == 7
    assert full.consent.who in made.with_suffix(".md").read_text()


def test_a_card_says_what_the_model_reads(full):
    assert "- Reads: phonemes" in export(full, format="fakeyou").with_suffix(".md").read_text()
    best = full.run_dir("main") / "checkpoints" / "best.pt"
    save_checkpoint(best, replace(load_checkpoint(best), front_end=LETTERS))
    assert "- Reads: letters" in export(full, format="fakeyou").with_suffix(".md").read_text()


def test_what_was_exported_comes_back_as_a_run_and_goes_out_again(full, tmp_path):
    made = export(full, format="fakeyou")
    other = Voice.create("Other", root=tmp_path, consent="Test Person")
    assert import_checkpoint(other, made, run="theirs").front_end == FRONT_END  # though weights look like FakeYou's
    with zipfile.ZipFile(export(other)) as archive:  # of a voice that has no run of its own
        assert "runs/theirs/checkpoints/best.pt" in archive.namelist()
    again = torch.load(export(other, format="fakeyou"), weights_only=True)
    before = torch.load(made, weights_only=True)
    assert again["iteration"] == before["iteration"] == 7
    assert all(torch.equal(again["state_dict"][name], before["state_dict"][name]) for name in before["state_dict"])


def test_the_card_of_an_imported_run_says_that_others_trained_it(full, tmp_path):
    made = export(full, format="fakeyou")
    assert "- Trained on: 1 clips, 7 steps" in made.with_suffix(".md").read_text()
    other = Voice.create("Other", root=tmp_path, consent="Test Person")
    import_checkpoint(other, made)
    card = export(other, format="fakeyou").with_suffix(".md").read_text()
    assert f"- Trained elsewhere: {made}, 7 steps" in card and "1 clips" not in card


@pytest.mark.parametrize(
    ("config", "said"),
    [(Tacotron2Config(n_mels=40), "40 bands"), (Tacotron2Config(n_symbols=100), "100 symbols have no names")],
    ids=["bands", "symbols"],
)
def test_what_cannot_speak_here_is_not_taken_in(voice, tmp_path, config, said):
    path = save_nvidia(tiny(config), tmp_path / "theirs")
    with pytest.raises(CheckpointError, match=said):
        import_checkpoint(voice, path)
    assert not voice.run_dir("imported").exists()


def test_an_import_that_was_cut_short_can_be_done_again(full, tmp_path):
    made = export(full, format="fakeyou")
    folder = full.run_dir("imported")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text("{}")  # as a full disk leaves it
    import_checkpoint(full, made)
    assert load_checkpoint(folder / "checkpoints" / "best.pt").step == 7


def test_a_small_run_is_not_exported_for_fakeyou(small):
    with pytest.raises(VoiceCloneError, match="preset='full'"):
        export(small, format="fakeyou")
    assert not list(small.exports_dir.glob("*"))


VOICE_JSON = json.dumps(
    {"schema": 1, "name": "Evil", "language": "en", "created": "now", "consent": {"who": "x", "when": "now"}}
)
OUTSIDE = (
    "../out.txt",
    "/out.txt",
    "clips/../../out.txt",
    "clips\\..\\..\\out.txt",
    "C:/out.txt",
    "bin/out.txt",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_zip_that_leads_outside_is_refused_whole(name, tmp_path):
    bad = zip_of(tmp_path / "bad.zip", **{"voice.json": VOICE_JSON, "clips/0001.wav": "x", name: "x"})
    with pytest.raises(VoiceCloneError, match="refused, nothing was unpacked"):
        import_zip(bad, root=tmp_path / "voices")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.zip", "voices"]


def test_a_link_in_a_zip_is_refused(tmp_path):
    bad = zip_of(tmp_path / "bad.zip", **{"voice.json": VOICE_JSON})
    link = zipfile.ZipInfo("clips/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(bad, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(VoiceCloneError, match="a link"):
        import_zip(bad, root=tmp_path / "voices")


def test_a_zip_of_absurd_size_is_refused_by_what_it_declares(tmp_path, monkeypatch):
    monkeypatch.setattr("voiceclone.export.MOST_BYTES", 1000)
    bad = zip_of(tmp_path / "bad.zip", **{"voice.json": VOICE_JSON, "clips/0001.wav": b"\0" * 2000})
    with pytest.raises(VoiceCloneError, match="2,1.. bytes"):
        import_zip(bad, root=tmp_path / "voices")
    monkeypatch.undo()
    many = zip_of(tmp_path / "many.zip", **{f"clips/{number}": "" for number in range(MOST_FILES + 1)})
    with pytest.raises(VoiceCloneError, match="at most"):
        import_zip(many, root=tmp_path / "voices")


def test_damaged_and_foreign_files_are_no_voices(small, tmp_path):
    (tmp_path / "page.zip").write_text("<html>not found</html>")
    whole = export(small).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (tmp_path / "flipped.zip").write_bytes(
        whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    )
    zip_of(tmp_path / "other.zip", **{"README.md": "hello"})
    for name in ("page", "cut", "flipped", "other"):
        with pytest.raises(VoiceCloneError):
            import_zip(tmp_path / f"{name}.zip", root=tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_voice_that_is_there_is_not_overwritten(small):
    made = export(small)
    before = (small.path / "clips.csv").read_bytes()
    with pytest.raises(VoiceCloneError, match="already"):
        import_zip(made, root=small.path.parent)
    assert (small.path / "clips.csv").read_bytes() == before
