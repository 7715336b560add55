"""Draw the README's pictures from a trained voice: ``python docs/make_pictures.py voices/sample``."""

from __future__ import annotations

import sys
from pathlib import Path

from voiceclone import Voice, plots
from voiceclone.synthesize import Synthesizer

TEXT = "This voice was made from twenty five sentences, and it never said this one."


def main(voice_path: str) -> None:
    """Say `TEXT` and keep its spectrogram and alignment."""
    synthesizer = Synthesizer.open(Voice.open(voice_path))
    said = synthesizer.say(TEXT)
    figures = {
        "spectrogram": plots.spectrogram(said.mel, title="What the clone says: log-mel spectrogram"),
        "alignment": plots.alignment(
            said.alignment,
            said.symbols,
            seconds_per_step=synthesizer.seconds_a_step,
            title="Which sound it speaks when: attention",
        ),
    }
    for name, figure in figures.items():
        path = Path(__file__).with_name(f"{name}.png")
        figure.savefig(path, dpi=110)
        print(path)


if __name__ == "__main__":
    main(sys.argv[1])
