"""Which vocoder suits a voice: the same spectrograms said by each, measured alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..audio import load
from ..device import choose_device
from ..errors import VoiceCloneError
from ..evaluate import SENTENCES, Measures, measure
from ..speaker import embed, mean_embedding
from .aligned import aligned_clips, mel_error
from .hifigan_training import divide
from .tuned import TUNED, load_vocoder_of, tuned_vocoder

if TYPE_CHECKING:
    from ..voice import Voice


@dataclass(frozen=True)
class Compared:
    """What one vocoder makes of a voice."""

    vocoder: str  # what `load_vocoder_of` calls it
    mel_error: float  # nepers, of clips that nothing was learned from; of all where none is held out
    measures: Measures  # of sentences that were never trained on

    def as_dict(self) -> dict[str, Any]:
        """One row of a table."""
        names = ("word_error_rate", "likeness", "opinion_score", "failures")
        figures = {name: value for name, value in asdict(self.measures).items() if name in names}
        return {"vocoder": self.vocoder, "mel_error": self.mel_error, **figures}


def compare_vocoders(
    voice: Voice,
    vocoders: Sequence[str] = (),
    *,
    run: str | None = None,
    checkpoint: str = "best",
    sentences: Sequence[str] = SENTENCES[:8],
    engine: str = "auto",
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Compared, ...]:
    """Let vocoders say the same spectrograms of a trained voice.

    Parameters
    ----------
    voice : Voice
    vocoders : sequence of str
        What `load_vocoder_of` calls them; the universal HiFi-GAN and the run's own unless given.
    run, checkpoint, device
        As for `voiceclone.synthesize.Synthesizer.open`.
    sentences : sequence of str
        What is said.
    engine : str
        Who listens, as for `voiceclone.transcribe.load_transcriber`.
    progress : callable or None
        Called with sentences said and sentences in all.

    Raises
    ------
    VoiceCloneError
        If there is nothing to compare: no vocoder was tuned to the voice and none is given.
    """
    from ..synthesize import Synthesizer, find_checkpoint

    acoustic = find_checkpoint(voice, run, checkpoint)
    folder = acoustic.parent.parent  # of the run
    if not vocoders and tuned_vocoder(voice, folder.name):
        vocoders = ("hifigan", TUNED)
    if not vocoders:
        raise VoiceCloneError(
            f"No vocoder was tuned to {voice.name} yet, so there is nothing to compare with the universal one. "
            "Tune one (python -m voiceclone tune VOICE), or name the vocoders."
        )
    device = choose_device(device)
    clips = aligned_clips(voice, acoustic, device=device)
    clips = divide(clips, folder)[1] or clips
    speaker = mean_embedding([embed(*load(voice.clip_path(clip.id))) for clip in voice.usable()])
    synthesizer = Synthesizer.open(voice, run=folder.name, checkpoint=checkpoint, vocoder=vocoders[0], device=device)
    rows = []
    for vocoder in vocoders:
        synthesizer.vocoder = load_vocoder_of(folder, vocoder, device)
        said = []
        for sentence in sentences:  # the same seed, so the same spectrogram, for every vocoder
            said.append((sentence, synthesizer.say(sentence).wave, synthesizer.sample_rate))
            if progress:
                progress(len(rows) * len(sentences) + len(said), len(vocoders) * len(sentences))
        error = mel_error(synthesizer.vocoder, clips)
        rows.append(Compared(vocoder, error, measure(said, speaker, engine=engine)))
    return tuple(rows)
