"""The 148 symbols that the model reads, in the order of NVIDIA's Tacotron 2, so that checkpoints interchange."""

from __future__ import annotations

PAD = "_"
MARKS = "-!'(),.:;?"  # in the order of the table

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N",
    "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH",
)
PHONEMES = tuple(sorted(VOWELS + CONSONANTS))  # 39, without stress

# Every vowel comes plain and with stress 0 (none), 1 (primary) and 2 (secondary): 15 * 4 + 24 = 84.
ARPABET = tuple(sorted(CONSONANTS + tuple(vowel + stress for vowel in VOWELS for stress in ("", "0", "1", "2"))))

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

SYMBOLS = (PAD, *MARKS, " ", *_LETTERS, *(f"@{phone}" for phone in ARPABET))
IDS = {symbol: number for number, symbol in enumerate(SYMBOLS)}
