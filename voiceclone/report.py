"""What a voice's clips together are worth for training, and what to mend before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .audio import load
from .check import SNR_DB
from .levels import loudness, measure

if TYPE_CHECKING:
    from .prompts import Coverage
    from .voice import Clip, Voice

FEW_CLIPS = 20  # below it a voice still trains, but held-out sentences fail audibly more often
FEW_SECONDS = 60.0
LENGTH_SECONDS = (1.0, 12.0)  # shorter says too little, longer strains memory and attention
LEVEL_SPREAD_LU = 2.0  # a difference that is heard when clips are played in a row
RATE_SPREAD = 1.6  # times the median speaking rate: faster or slower clips seldom say their text
LEAST_PHONES = 2  # a sound heard once is learnt by accident only


@dataclass(frozen=True)
class DatasetReport:
    """The clips that training may use. The sequences have one figure a clip, in the order of `ids`."""

    ids: tuple[str, ...]
    minutes: float
    lengths: tuple[float, ...]  # s
    levels: tuple[float, ...]  # LUFS
    snr_db: tuple[float, ...]
    speaking_rate: tuple[float, ...]  # phones a second of speech
    coverage: Coverage
    problems: tuple[str, ...]  # what to mend, most important first; empty when all is well

    @property
    def count(self) -> int:
        """Number of clips."""
        return len(self.ids)

    def as_dict(self) -> dict[str, object]:
        """The whole in a few figures, for a table."""
        if not self.ids:
            return {"clips": 0, "minutes": 0.0}
        return {
            "clips": self.count,
            "minutes": round(self.minutes, 2),
            "shortest s": round(min(self.lengths), 2),
            "longest s": round(max(self.lengths), 2),
            "LUFS": round(float(np.mean(self.levels)), 1),
            "lowest SNR dB": round(min(self.snr_db), 1),
            "phones/s": round(float(np.median(self.speaking_rate)), 1),
            "phonemes missing": len(self.coverage.missing),
        }


def dataset_report(voice: Voice) -> DatasetReport:
    """Measure the clips that training may use, and say what to mend.

    Parameters
    ----------
    voice : Voice
        The voice folder; its clips are cleaned (notebook 03).

    Returns
    -------
    DatasetReport
        With no clips and the reasons in ``problems`` when none can be used.
    """
    from .prompts import coverage
    from .text import parse

    usable = voice.usable()
    lengths, levels, noise, rates = [], [], [], []
    for clip in usable:
        wave, sample_rate = load(voice.clip_path(clip.id), sample_rate=None)
        measured = measure(wave, sample_rate)
        phones = sum(len(token.phones) for token in parse(clip.transcript))
        lengths.append(len(wave) / sample_rate)
        levels.append(loudness(wave, sample_rate))
        noise.append(measured.snr_db)
        rates.append(phones / max(measured.speech_seconds, 0.1))
    covered = coverage([clip.transcript for clip in usable])
    ids = tuple(clip.id for clip in usable)
    problems = [*_clip_problems(voice.clips, ids)]
    if ids:
        problems += _sound_problems(ids, lengths, levels, noise, rates)
        problems += _amount_problems(ids, sum(lengths), covered)
    return DatasetReport(
        ids, sum(lengths) / 60, tuple(lengths), tuple(levels), tuple(noise), tuple(rates), covered, tuple(problems)
    )


def _clip_problems(clips: tuple[Clip, ...], usable: tuple[str, ...]) -> list[str]:
    problems = []
    for clip in clips:
        if not clip.take:
            problems.append(f"Clip {clip.id} is not recorded: read its prompt in notebook 01.")
        elif clip.state == "review":
            reason = clip.checks or f"it was heard as {clip.heard!r}"
            problems.append(f"Clip {clip.id} is left out until someone looks at it: {reason}.")
        elif clip.state == "accepted" and clip.id not in usable:
            missing = "has no transcript (notebook 02)" if not clip.transcript else "is not cleaned (notebook 03)"
            problems.append(f"Clip {clip.id} {missing}.")
    if not usable:
        problems.insert(0, "No clip is ready for training: record, transcribe and clean some (notebooks 01 to 03).")
    return problems


def _sound_problems(
    ids: tuple[str, ...], lengths: list[float], levels: list[float], noise: list[float], rates: list[float]
) -> list[str]:
    problems = []
    level, rate = float(np.median(levels)), float(np.median(rates))
    for clip_id, length, lufs, snr, speed in zip(ids, lengths, levels, noise, rates, strict=True):
        name = f"Clip {clip_id}"
        if not LENGTH_SECONDS[0] <= length <= LENGTH_SECONDS[1]:
            low, high = LENGTH_SECONDS
            problems.append(f"{name} lasts {length:.1f} s, {low:.0f} to {high:.0f} s train best: record it again.")
        if abs(lufs - level) > LEVEL_SPREAD_LU:
            problems.append(
                f"{name} is at {lufs:.1f} LUFS, the others at {level:.1f}: a loud sound in it holds it down, or it "
                "was cleaned with other settings. Clean again (notebook 03), or record it again."
            )
        if snr < SNR_DB:
            problems.append(
                f"{name} is {snr:.0f} dB above its room, {SNR_DB:.0f} are expected: "
                "record it in a quieter place, or clean with denoise=True."
            )
        if not rate / RATE_SPREAD <= speed <= rate * RATE_SPREAD:
            problems.append(
                f"{name} has {speed:.1f} phones a second, the others {rate:.1f}: "
                "does it say its transcript? Listen to it in notebook 02."
            )
    return problems


def _amount_problems(ids: tuple[str, ...], seconds: float, covered: Coverage) -> list[str]:
    problems = []
    if len(ids) < FEW_CLIPS or seconds < FEW_SECONDS:
        problems.append(
            f"{len(ids)} clips of {seconds:.0f} s together are few: {FEW_CLIPS} clips and {FEW_SECONDS:.0f} s or more "
            "give a voice that reads new sentences reliably. Record more prompts in notebook 01."
        )
    rare = {phone: count for phone, count in covered.counts.items() if count < LEAST_PHONES}
    if rare:
        listed = ", ".join(f"{phone} ({count})" for phone, count in sorted(rare.items()))
        problems.append(f"Sounds that are said fewer than {LEAST_PHONES} times: {listed}. Record the missing prompts.")
    return problems
