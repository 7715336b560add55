"""Clips become batches: which symbol is spoken when, who is in which batch, what is held out."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from voiceclone.audio import AudioConfig
from voiceclone.dataset import (
    Example,
    LengthBuckets,
    Split,
    attention_target,
    clip_example,
    collate,
    split_clips,
)
from voiceclone.errors import TrainingError
from voiceclone.text import symbol_names, to_ids


def an_example(ends, frames, *, symbols=None, speaker=None, seed=0):
    torch.manual_seed(seed)
    count = len(ends) if symbols is None else symbols
    ids = np.arange(1, count + 1, dtype=np.int64)
    ends = None if ends is None else np.array(ends, dtype=np.float32)
    return Example("0001", "text", ids, torch.randn(80, frames), ends, speaker)


def brute_force(example, per_step, *, fine=1000):
    """Sample the time of each step at many moments and count whose each is."""
    steps = -(-example.mel.shape[1] // per_step)
    target = np.zeros((steps, len(example.ids)))
    for step in range(steps):
        for moment in step * per_step - 0.5 + (np.arange(fine * per_step) + 0.5) / fine:
            symbol = int(np.searchsorted(example.ends, moment, side="right"))
            target[step, min(symbol, len(example.ids) - 1)] += 1
    return target / (fine * per_step)


# Attention's truth ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_step", [1, 2, 3])
@pytest.mark.parametrize("frames", [24, 25, 26])
def test_attention_target_is_the_share_of_time_of_each_symbol(per_step, frames):
    example = an_example([3.2, 3.2, 9.75, 10.0, 17.5, 23.1], frames)  # the second symbol has no time of its own
    target = attention_target(example, per_step)
    assert target.shape == (-(-frames // per_step), 6)
    np.testing.assert_allclose(target.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(target, brute_force(example, per_step), atol=2e-3)
    assert not target[:, 1].any()


def test_attention_target_is_diagonal_where_the_clip_was_not_aligned():
    target = attention_target(an_example(None, 60, symbols=20), 3)
    np.testing.assert_allclose(target.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(target.argmax(1), np.arange(20))
    assert target[0, -1] < 1e-6


def test_every_phone_of_a_real_clip_gets_its_time(speech):
    from voiceclone.align import align

    wave, rate, text = speech
    config = AudioConfig()
    example = clip_example("0001", text, wave, config, None)
    spans = align(wave, rate, text).spans
    assert len(spans) == len(example.ids) == len(to_ids(text))
    steps = attention_target(example, 3).sum(0)  # (symbols,) in steps
    spoken = np.array([span.end - span.start for span in spans]) * config.frames_per_second / 3
    np.testing.assert_allclose(steps, spoken, atol=1)
    np.testing.assert_allclose(steps[5:-5], spoken[5:-5], atol=1e-3)  # away from the clip's ends even exactly


def test_vowels_of_a_real_clip_have_a_pitch_and_hisses_and_stops_have_none(speech):
    wave, _, text = speech
    example = clip_example("0001", text, wave, AudioConfig(), None)
    assert example.pitch.shape == (example.mel.shape[1],)
    voiced = {True: [], False: []}  # frames of vowels, and of sounds without voice
    starts = np.concatenate(([0], example.ends[:-1]))
    for symbol, start, end in zip(symbol_names(example.ids), starts, example.ends, strict=True):
        vowel = symbol[-1].isdigit()
        if vowel or symbol in ("@S", "@SH", "@F", "@TH", "@CH", "@P", "@T", "@K"):
            voiced[vowel].extend(example.pitch[int(np.ceil(start)) : int(end)] > 0)
    assert min(map(len, voiced.values())) > 20
    assert np.mean(voiced[True]) > 0.95 and np.mean(voiced[False]) < 0.5
    assert 180 < np.median(example.pitch[example.pitch > 0]) < 320  # a woman's voice


def test_a_clip_that_does_not_say_its_text_is_kept_without_times(speech):
    wave, rate, text = speech
    example = clip_example("0001", text, wave[: rate // 2], AudioConfig(), None)  # too short for so many words
    assert example.ends is None
    assert example.mel.shape[0] == 80


def test_times_that_do_not_fit_are_not_learned(speech, monkeypatch):
    from voiceclone import align

    wave, _, text = speech
    found = replace(align.align(wave, 22050, text), word_score=-1e9)
    assert not found.fits
    monkeypatch.setattr(align, "align", lambda *given: found)
    assert clip_example("0001", text, wave, AudioConfig(), None).ends is None


# Batches ----------------------------------------------------------------------------------------------------------


def test_collate_pads_with_zeros_and_changes_nothing_inside():
    short = an_example([4.0, 10.0], 11, speaker=torch.full((4,), 1.0), seed=1)
    long = an_example([5.0, 9.0, 14.0], 16, speaker=torch.full((4,), 2.0), seed=2)
    batch = collate([short, long], 3)
    assert batch.text.tolist() == [[1, 2, 0], [1, 2, 3]]
    assert batch.text_lengths.tolist() == [2, 3]
    assert batch.mels.shape == (2, 80, 18)  # 16 frames are 6 steps of 3
    assert batch.mel_lengths.tolist() == [11, 16]
    assert batch.attention.shape == (2, 6, 3)
    for row, example in enumerate((short, long)):
        frames = example.mel.shape[1]
        torch.testing.assert_close(batch.mels[row, :, :frames], example.mel)
        assert not batch.mels[row, :, frames:].any()
    np.testing.assert_allclose(batch.attention[0, :4, :2], attention_target(short, 3))
    assert not batch.attention[0, 4:].any() and not batch.attention[0, :, 2].any()
    assert batch.speaker.tolist() == [[1.0] * 4, [2.0] * 4]
    assert collate([an_example([4.0], 5)], 3).speaker is None


def test_collate_pads_pitch_with_unvoiced_frames():
    pitches = [np.linspace(100, 200, frames).astype(np.float32) for frames in (11, 16)]
    short, long = (replace(an_example([4.0], len(pitch)), pitch=pitch) for pitch in pitches)
    batch = collate([short, long], 3)
    assert batch.pitch.shape == (2, 18)
    for row, example in enumerate((short, long)):
        frames = len(example.pitch)
        np.testing.assert_array_equal(batch.pitch[row, :frames], example.pitch)
        assert not batch.pitch[row, frames:].any()
    assert torch.equal(batch.to("cpu").pitch, batch.pitch)
    assert collate([an_example([4.0], 5)], 3).pitch is None


def test_a_batch_comes_apart_into_its_examples():
    examples = [an_example([4.0, 10.0], 11, speaker=torch.full((4,), float(n)), seed=n) for n in range(5)]
    whole = collate(examples, 3)
    parts = whole.split(2)
    assert [len(part.text) for part in parts] == [3, 2]
    for name in ("text", "text_lengths", "mels", "mel_lengths", "attention", "speaker"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
    assert parts[0].pitch is None
    assert len(whole.split(9)) == 5


@pytest.mark.parametrize(("count", "size"), [(1, 32), (3, 32), (25, 6), (25, 12), (7, 3), (40, 4), (100, 1)])
def test_every_clip_comes_once_an_epoch(count, size):
    lengths = np.random.default_rng(0).integers(50, 500, count)
    buckets = LengthBuckets(lengths, size, seed=1)
    batches = iter(buckets)
    assert buckets.batches_per_epoch >= 1
    for _ in range(3):
        epoch = list(islice(batches, buckets.batches_per_epoch))
        assert sorted(index for batch in epoch for index in batch) == list(range(count))
        sizes = set(map(len, epoch))
        assert max(sizes) <= size and max(sizes) - min(sizes) <= 1  # no rest of a clip or two


def test_epochs_differ_and_depend_on_the_seed_alone():
    lengths = list(range(100, 140))
    first, second = (list(islice(LengthBuckets(lengths, 4, seed=5), 20)) for _ in range(2))
    assert first == second
    assert first[:10] != first[10:]
    assert first != list(islice(LengthBuckets(lengths, 4, seed=6), 20))


@pytest.mark.parametrize("step", [0, 1, 9, 10, 23])
def test_resuming_gives_the_batches_that_would_have_come(step):
    lengths = list(range(100, 137))
    whole = list(islice(LengthBuckets(lengths, 4, seed=5), step + 15))
    assert list(islice(LengthBuckets(lengths, 4, seed=5, first_step=step), 15)) == whole[step:]


def test_clips_of_similar_length_come_together():
    lengths = np.random.default_rng(0).integers(50, 500, 64)
    buckets = LengthBuckets(lengths, 8, seed=1)
    padding = np.mean([np.ptp(lengths[batch]) for batch in islice(buckets, buckets.batches_per_epoch)])
    assert padding < 0.25 * np.ptp(lengths)


# The split --------------------------------------------------------------------------------------------------------


def ids(count):
    return [f"{number:04d}" for number in range(1, count + 1)]


def test_the_split_is_disjoint_whole_and_saved(tmp_path):
    split = split_clips(ids(25), tmp_path / "split.json")
    assert len(split.validation) == 2
    assert sorted(split.training + split.validation) == ids(25)
    assert split_clips(ids(25), tmp_path / "split.json", seed=99) == split  # made once, whatever the seed is later


def test_clips_that_come_later_join_the_training(tmp_path):
    before = split_clips(ids(10), tmp_path / "split.json")
    after = split_clips(ids(30), tmp_path / "split.json")
    assert after.validation == before.validation
    assert set(ids(30)[10:]) < set(after.training)


@pytest.mark.parametrize("content", ["", '{"training": ["0001"', '{"training": []}', "[1]", "null"])
def test_a_split_that_cannot_be_read_is_named_and_stays(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(TrainingError, match="split.json.* cannot be read.* delete it"):
        split_clips(ids(25), path)
    assert path.read_text() == content


def test_a_held_out_clip_that_was_rejected_is_gone_from_the_split(tmp_path):
    before = split_clips(ids(25), tmp_path / "split.json")
    left = [i for i in ids(25) if i != before.validation[0]]
    assert split_clips(left, tmp_path / "split.json").validation == before.validation[1:]


@pytest.mark.parametrize(("count", "held_out"), [(1, 0), (4, 0), (5, 1), (25, 2), (2000, 50)])
def test_few_clips_are_all_learned_from(tmp_path, count, held_out):
    assert len(split_clips(ids(count), tmp_path / "split.json").validation) == held_out


def test_clips_are_held_out_once_there_are_enough(tmp_path):
    before = split_clips(ids(4), tmp_path / "split.json")
    assert before.validation == ()
    after = split_clips(ids(25), tmp_path / "split.json")
    assert len(after.validation) == 2
    assert not set(after.validation) & set(before.training)  # what was learned from is no test
    assert split_clips(ids(25), tmp_path / "split.json") == after


def test_only_one_of_several_processes_writes_the_split(tmp_path):
    path = tmp_path / "split.json"
    split = split_clips(ids(25), path, write=False)
    assert not path.exists()
    assert split_clips(ids(25), path) == split == split_clips(ids(25), path, write=False)


def test_a_clip_on_both_sides_is_refused():
    with pytest.raises(TrainingError, match="0002"):
        Split(("0001", "0002"), ("0002",))
