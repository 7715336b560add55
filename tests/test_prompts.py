from __future__ import annotations

import re

import pytest

from voiceclone.errors import TextError
from voiceclone.prompts import PROMPTS, coverage
from voiceclone.text import PHONEMES, normalise, parse
from voiceclone.text.pronounce import dictionary


def test_there_are_25_different_prompts_of_8_to_16_words():
    assert len(PROMPTS) == len(set(PROMPTS)) == 25
    assert all(8 <= len(prompt.split()) <= 16 for prompt in PROMPTS)


def test_prompts_are_plain_words_that_the_dictionary_knows():
    for prompt in PROMPTS:
        assert not re.search(r"\d", prompt)
        assert normalise(prompt) == prompt
        assert prompt[0].isupper() and prompt[-1] in ".?!"
        assert all(token.text.lower() in dictionary() for token in parse(prompt) if token.phones)
    assert {prompt[-1] for prompt in PROMPTS} == set(".?!")


def test_prompts_hold_every_phoneme_at_least_twice():
    covered = coverage()
    assert tuple(covered.counts) == PHONEMES and len(PHONEMES) == 39
    assert covered.least >= 2 and covered.missing == ()
    assert covered.least == min(covered.counts.values())


def test_coverage_counts_the_sounds_of_a_text():
    covered = coverage(["Go, go!", "", "boy"])
    assert (covered.counts["G"], covered.counts["OW"], covered.counts["OY"]) == (2, 2, 1)
    assert covered.least == 0 and "ZH" in covered.missing
    assert len(covered.missing) == 39 - 4
    with pytest.raises(TextError):
        coverage(["你好"])
