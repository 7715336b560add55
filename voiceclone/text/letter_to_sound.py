"""How an English word that is in no dictionary is probably said.

A small convolutional network reads the spelling and gives each letter none, one or two phonemes. Its weights
were fitted to CMUdict by `data/make_letter_to_sound.py`. On 5,926 words of families that it never saw, 7.9 % of the
phonemes are wrong (10.3 % with stress) and 66 % of the words wholly right; where `pronounce` may first look for a
known word with an ending and for compounds, 7.0 % of the phonemes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Accuracy:
    """How well the first guess meets any of the dictionary's pronunciations."""

    phoneme_error_rate: float
    phoneme_error_rate_with_stress: float
    words_right: float  # share of words without a wrong phoneme, stress aside


@lru_cache(maxsize=1)
def weights() -> dict[str, np.ndarray]:
    """Arrays of the network: embedding (27, width), block_weight (blocks, kernel, width, width), ..."""
    with np.load(Path(__file__).with_suffix(".npz")) as arrays:
        return {name: a if name == "labels" else a.astype(np.float32) for name, a in arrays.items()}


def predict(word: str) -> tuple[str, ...]:
    """Phonemes with stress of a word.

    Parameters
    ----------
    word : str
        Lower-case letters a to z, at least one.

    Returns
    -------
    tuple of str
        ARPAbet, exactly one vowel with primary stress if there is a vowel.
    """
    net = weights()
    x = net["embedding"][[ord(letter) - 96 for letter in word]]  # (letters, width)
    for weight, bias in zip(net["block_weight"], net["block_bias"], strict=True):
        kernel, length = len(weight), len(word)
        padded = np.pad(_layer_norm(x), ((kernel // 2, kernel // 2), (0, 0)))
        x = x + np.maximum(bias + sum(padded[k:k + length] @ weight[k] for k in range(kernel)), 0)
    scores = _layer_norm(x) @ net["output_weight"].T + net["output_bias"]  # (letters, labels)
    return _one_primary_stress(scores)


def _layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)


def _one_primary_stress(scores: np.ndarray) -> tuple[str, ...]:
    """Best label of every letter; where several vowels got primary stress the surest keeps it, and where none
    did the one that most nearly got it takes it.
    """
    labels = weights()["labels"]
    best = scores.argmax(1)
    stressed = np.array(["1" in label for label in labels])
    vowel = np.array([any(digit in label for digit in "012") for label in labels])
    candidates = [k for k, label in enumerate(best) if vowel[label]]
    phones = [labels[label] for label in best]
    if candidates:
        lead = np.where(stressed, scores, -np.inf).max(1) - np.where(stressed, -np.inf, scores).max(1)
        winner = max(candidates, key=lambda k: lead[k])
        for k in candidates:
            phones[k] = phones[k].replace("1", "2") if k != winner else _stress(phones[k])
    return tuple(" ".join(phones).split())


def _stress(phones: str) -> str:
    return phones.replace("0", "1").replace("2", "1")


def measure(words: Iterable[str]) -> Accuracy:
    """Compare guesses with the dictionary's pronunciations (the nearest, where a word has several).

    Parameters
    ----------
    words : iterable of str
        Lower-case dictionary words of letters only, best ones that the weights never saw.
    """
    from .pronounce import pronunciations

    wrong = wrong_with_stress = total = right = count = 0
    for word in words:
        guess, known = predict(word), pronunciations(word)
        plain = [phone.rstrip("012") for phone in guess]
        errors = min(_distance(plain, [phone.rstrip("012") for phone in phones]) for phones in known)
        wrong, right, count = wrong + errors, right + (errors == 0), count + 1
        wrong_with_stress += min(_distance(guess, phones) for phones in known)
        total += len(known[0])
    return Accuracy(wrong / total, wrong_with_stress / total, right / count)


def _distance(a: Iterable[str], b: Iterable[str]) -> int:
    """Levenshtein distance."""
    b = list(b)
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]
