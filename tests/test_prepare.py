"""Preparing a corpus: what is found of a clip, what is kept, what is skipped, and that engines agree."""

from __future__ import annotations

import shutil
from contextlib import suppress

import numpy as np
import pytest

from voiceclone import prepare as preparing
from voiceclone.align import align
from voiceclone.audio import load, save
from voiceclone.errors import UnavailableError, VoiceCloneError
from voiceclone.levels import loudness
from voiceclone.pitch import track_pitch
from voiceclone.prepare import UNALIGNED, Prepared, Store, clip_features, prepare, read_corpus
from voiceclone.prompts import PROMPTS
from voiceclone.speaker import embed, likeness

GOOD = ("clip-1", "clip-2", "clip-3")


@pytest.fixture(scope="module")
def corpus(sample_takes, tmp_path_factory):
    """Three good clips of two speakers, a wrong text, silence, a torn file, and a clip without text."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for number in (1, 2, 3):
        wave, _ = load(sample_takes / f"{number:04d}-1.flac")
        save(folder / "wavs" / f"clip-{number}.wav", wave * (0.1 if number == 3 else 1.0))
        rows.append(f"clip-{number}|{'ab'[number % 2]}|{PROMPTS[number - 1]}\n")
    save(folder / "wavs" / "other.wav", load(sample_takes / "0001-1.flac")[0])
    save(folder / "wavs" / "silent.wav", np.zeros(22050, np.float32))
    save(folder / "wavs" / "mute.wav", load(sample_takes / "0002-1.flac")[0])
    (folder / "wavs" / "torn.wav").write_bytes((folder / "wavs" / "clip-1.wav").read_bytes()[:2000])
    rows += [f"other|a|{PROMPTS[7]}\n", "silent|a|Nothing.\n", "torn|b|Half a sound.\n", "mute|a|\n"]
    (folder / "metadata.csv").write_text("".join(rows))
    return folder


@pytest.fixture(scope="module")
def here(corpus, tmp_path_factory) -> tuple[Prepared, object]:
    """The corpus prepared in this process, and the folder of the shards."""
    out = tmp_path_factory.mktemp("shards")
    return prepare(corpus, out=out, engine="none"), out


@pytest.fixture
def nothing_to_do(monkeypatch):
    def refuse(*given, **more):
        raise AssertionError("asked again")

    monkeypatch.setattr(preparing, "clip_features", refuse)


def assert_same(found: Prepared, expected: Prepared) -> None:
    assert found.problems == expected.problems
    assert found.features.keys() == expected.features.keys()
    for name, features in found.features.items():
        other = expected.features[name]
        assert features.text == other.text and features.gain == other.gain
        for part in ("ends", "pitch", "speaker"):
            np.testing.assert_array_equal(getattr(features, part), getattr(other, part))


def test_a_clips_features_are_those_of_the_parts(corpus):
    row = read_corpus(corpus)[2]
    features = clip_features(row)
    wave, rate = load(row.path)
    expected = [span.end for span in align(wave, rate, row.text).spans]
    np.testing.assert_allclose(features.ends, expected, rtol=1e-6)
    np.testing.assert_array_equal(features.pitch, track_pitch(wave))
    assert loudness(wave * features.gain, rate) == pytest.approx(-23, abs=0.3)
    assert likeness(features.speaker, embed(wave, rate)) > 0.99
    assert features.text == PROMPTS[2]


def test_what_cannot_be_used_is_named_and_the_rest_is_done(here):
    prepared, _ = here
    assert set(GOOD) <= set(prepared.features) and all(prepared.features[name].ends.size for name in GOOD)
    assert set(prepared.problems) == {"other", "silent", "torn", "mute"}
    assert prepared.problems["other"] == UNALIGNED and prepared.features["other"].ends.size == 0
    assert "torn.wav" in prepared.problems["torn"] and "no text" in prepared.problems["mute"]
    assert (prepared.made, prepared.unchanged) == (7, 0)


def test_what_is_done_is_not_done_again(corpus, here, nothing_to_do):
    prepared, out = here
    again = prepare(corpus, out=out, engine="none")
    assert (again.made, again.unchanged) == (0, 7)
    assert_same(again, prepared)


def test_a_clip_that_changed_is_done_again_and_no_other(corpus, here, tmp_path, monkeypatch):
    shutil.copytree(corpus, tmp_path / "corpus")
    shutil.copytree(here[1], tmp_path / "out")
    table = tmp_path / "corpus" / "metadata.csv"
    table.write_text(table.read_text().replace(f"other|a|{PROMPTS[7]}", f"other|a|{PROMPTS[0]}"))
    shutil.copy(tmp_path / "corpus" / "wavs" / "clip-2.wav", tmp_path / "corpus" / "wavs" / "silent.wav")
    asked, find = [], preparing.clip_features
    monkeypatch.setattr(
        preparing, "clip_features", lambda row, *a, **k: asked.append(row.id) or find(row, *a, **k)
    )
    prepared = prepare(tmp_path / "corpus", out=tmp_path / "out", engine="none")
    assert asked == ["other", "silent"]  # another text, another sound
    assert "other" not in prepared.problems and prepared.features["other"].ends.size
    assert "silent" in here[0].problems and "silent" not in here[0].features and "silent" in prepared.features


def test_a_shard_says_again_what_was_written(tmp_path):
    features = preparing.Features(
        np.float32([0.1, 0.2]), np.float32([0, 110]), np.full(256, 1 / 16, np.float32), 1.5, "Hi."
    )
    silent = preparing.Features(np.zeros(0, np.float32), np.zeros(3, np.float32), features.speaker, 2.0, "Ho.")
    written = [
        preparing.Outcome("a", "1", features),
        preparing.Outcome("b", "2", problem="it is silent"),
        preparing.Outcome("c", "3", silent, UNALIGNED),
    ]
    store = Store(tmp_path)
    store.write(written)
    store.write([preparing.Outcome("d", "4", problem="it is torn")])  # a shard of which no clip could be read
    store.write([preparing.Outcome("a", "5", problem="it was changed")])
    read = store.read()
    assert [(o.id, o.content, o.problem) for o in read.values()] == [
        ("a", "5", "it was changed"), ("b", "2", "it is silent"), ("c", "3", UNALIGNED), ("d", "4", "it is torn"),
    ]  # fmt: skip
    assert read["a"].features is None and read["c"].features.text == "Ho." and read["c"].features.gain == 2.0
    np.testing.assert_array_equal(read["c"].features.pitch, silent.pitch)
    np.testing.assert_array_equal(read["c"].features.speaker, silent.speaker)
    assert read["c"].features.ends.size == 0


def test_a_crash_loses_only_what_was_in_flight(corpus, tmp_path, monkeypatch):
    find, features = preparing.clip_features, {}

    def quick(row, *given, **more):
        if row.id == "clip-3" and not features.get("go"):
            raise KeyboardInterrupt
        features[row.id] = features.get(row.id, 0) + 1
        return find(row, *given, **more) if row.id == "silent" else one

    one = clip_features(read_corpus(corpus)[0])
    monkeypatch.setattr(preparing, "clip_features", quick)
    monkeypatch.setattr(preparing, "LARGEST_SHARD", 1)
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, out=tmp_path, engine="none")
    assert sorted(Store(tmp_path).read()) == ["clip-1", "clip-2"]
    (tmp_path / ".00000002-x.npz").write_bytes(b"half a shard")  # what a crash while writing leaves
    features["go"] = 1
    prepared = prepare(corpus, out=tmp_path, engine="none")
    assert prepared.unchanged == 2 and features["clip-1"] == features["clip-2"] == 1


def test_a_pool_finds_the_same(corpus, here, tmp_path):
    seen = []
    prepared = prepare(corpus, out=tmp_path, workers=2, progress=lambda *done: seen.append(done))
    assert_same(prepared, here[0])
    assert seen[-1] == (7, 7)


def test_a_clip_without_text_is_heard(corpus):
    (row,) = [row for row in read_corpus(corpus) if row.id == "mute"]
    features = clip_features(row, transcriber="whisper")
    assert features.text and features.ends.size


def test_what_the_machine_lacks_is_not_kept_as_the_clips_fault(corpus, tmp_path, monkeypatch):
    def away(engine):
        raise UnavailableError("the hub cannot be reached")

    with monkeypatch.context() as patch, pytest.raises(UnavailableError, match="hub"):
        patch.setattr(preparing, "_ears", away)
        prepare(corpus, out=tmp_path, engine="none", transcriber="wav2vec2")
    assert "mute" not in Store(tmp_path).read()
    with pytest.raises(VoiceCloneError, match="no engine 'nonsense'"):
        prepare(corpus, out=tmp_path, engine="none", transcriber="nonsense")


# A cluster --------------------------------------------------------------------------------------------------------


def test_without_ray_it_is_said_how_to_get_it(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UnavailableError, match=r"pip install 'voiceclone\[cluster\]'"):
        prepare(corpus, out=tmp_path, engine="ray")


def test_a_ray_cluster_finds_the_same_though_a_worker_is_killed(corpus, here, tmp_path):
    pytest.importorskip("ray", reason="the optional extra 'cluster' is not installed")
    psutil = pytest.importorskip("psutil")
    killed = []

    def kill_one(done: int, total: int) -> None:
        """The worker that is doing something now."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # others of Ray's may end while one looks
                if not killed and "ray::work" in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(process.pid)

    prepared = prepare(corpus, out=tmp_path, engine="ray", workers=2, progress=kill_one)
    assert killed
    assert_same(prepared, here[0])
    assert sorted(Store(tmp_path).read()) == sorted(row.id for row in read_corpus(corpus))
