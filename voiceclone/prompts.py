"""The sentences that a voice is recorded with, written for this project, and a measure of the sounds they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .text import PHONEMES, parse

# 8 to 16 words each, in everyday words that are said in one way only: no figures, no rare names. Together every
# phoneme of American English comes often enough to be learnt (a test counts them).
PROMPTS: tuple[str, ...] = (
    "The morning sun rose slowly over the quiet fishing village.",
    "Would you like another cup of coffee before we go outside?",
    "She usually takes the early train and reads a good book.",
    "My youngest brother enjoys cooking noodles with garlic, ginger, and fresh herbs.",
    "What a beautiful garden you have behind that old stone house!",
    "The children found a treasure map hidden under the wooden stairs.",
    "Please turn down the noise, because the baby has just fallen asleep.",
    "Both of my parents were born in the north, beside a wide river.",
    "How long does it usually take to walk around the whole lake?",
    "We bought apples, oranges, cheese, a jar of honey, and warm brown bread.",
    "Her voice was calm and clear, even when the crowd began to shout.",
    "I think the path through the forest is shorter than the road.",
    "The judge asked each witness a simple question and waited for the answer.",
    "Could you hold the ladder while I change the light in the kitchen?",
    "A cold breeze pushed the yellow leaves across the empty playground.",
    "It gives me great pleasure to welcome all of you here tonight.",
    "He put his hands in his pockets and looked up at the clouds.",
    "The old engine coughed twice, shook a little, and then began to hum.",
    "They measured the room with care and chose a smooth, soft carpet.",
    "Look out, there is a huge puddle in front of your left shoe!",
    "Nothing tastes better than hot vegetable soup on a rainy day.",
    "The boy pointed at the moon and asked his father how far it was.",
    "Why did the musicians stop playing before the end of the song?",
    "Every evening the shepherd and his dog brought the sheep safely home.",
    "Thank you for listening; I truly hope that we will meet again soon.",
)


@dataclass(frozen=True)
class Coverage:
    """How often each of the 39 phonemes, stress aside, is said in some texts."""

    counts: dict[str, int]

    @property
    def missing(self) -> tuple[str, ...]:
        """Phonemes that never come."""
        return tuple(phoneme for phoneme, count in self.counts.items() if not count)

    @property
    def least(self) -> int:
        """Count of the rarest phoneme."""
        return min(self.counts.values())


def coverage(texts: Iterable[str] = PROMPTS) -> Coverage:
    """Count the phonemes of texts as the voice will be trained to say them.

    Parameters
    ----------
    texts : iterable of str
        Sentences, for example the transcripts of the clips.

    Returns
    -------
    Coverage
        With every phoneme in its counts, in alphabetical order, also those that never come.
    """
    counts = Counter(
        phone.rstrip("012") for text in texts if text.strip() for token in parse(text) for phone in token.phones)
    return Coverage({phoneme: counts[phoneme] for phoneme in PHONEMES})
