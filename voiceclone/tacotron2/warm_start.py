"""Warm start: beginning with what another checkpoint knows, wherever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..download import fetch
from ..errors import CheckpointError
from ..text import ARPABET, FAKEYOU, FRONT_END, FRONT_ENDS, IDS, LETTERS, SYMBOLS
from ..weights import read_weights
from .checkpoint import FORMAT, load_base, load_checkpoint, model_of, with_dropouts
from .config import DROPOUTS, PRESETS, Tacotron2Config
from .model import Tacotron2

UNLEARNED = 0.2  # of the letters' length in the embedding: phonemes below it were never read in training


@dataclass(frozen=True)
class WarmStart:
    """A model to train on from, or to speak with."""

    model: Tacotron2
    step: int = 0  # optimiser steps that it has taken
    front_end: str = FRONT_END  # how texts became symbols when it was trained
    notes: tuple[str, ...] = ()  # what was not taken over, and what else the user should know
    symbols_known: bool = True  # whether it knows any of our symbols; otherwise it is there to be trained on only


def warm_start(source: str | Path, config: Tacotron2Config | None = None) -> WarmStart:
    """Read what to start from, of whatever form.

    Parameters
    ----------
    source : str or Path
        Anything that `voiceclone.download.fetch` takes: a base's folder, a checkpoint of ours or in NVIDIA's form (of
        FakeYou too), its URL, its place on the hub, or a known name such as ``"nvidia-ljspeech"``.
    config : Tacotron2Config, optional
        The model to be trained; without it the sizes are its own, for speaking. Only the symbols may be others, since
        each symbol's embedding goes with its name, and the dropouts, which become those of `config`.

    Raises
    ------
    CheckpointError
        If it is another model, or one of other sizes.
    VoiceCloneError
        If it cannot be fetched.
    """
    fetched = fetch(source)
    started, symbols = _read(fetched.path)
    if config is not None:
        _check_sizes(started.model.config, config, fetched.path)
        started = replace(started, model=with_dropouts(started.model, config))
    started = replace(started, notes=fetched.notes + started.notes)
    if symbols is None or tuple(symbols) != SYMBOLS or started.model.config.n_symbols != len(SYMBOLS):
        started = _with_our_symbols(started, symbols, fetched.path)
    if config is None or started.front_end != LETTERS:
        return started
    note = f"{fetched.path.name} was trained on letters: what phonemes are is yet to be learned, which takes longer."
    return replace(started, notes=(*started.notes, note))


def _read(path: Path) -> tuple[WarmStart, Sequence[str] | None]:
    """What a file or folder holds, and the names of its symbols where they are known."""
    if path.is_dir():
        return WarmStart(load_base(path)), SYMBOLS
    content = read_weights(path)
    if content.get("format") == FORMAT:
        checkpoint = load_checkpoint(path)
        return WarmStart(checkpoint.model, checkpoint.step, checkpoint.front_end), SYMBOLS
    model = model_of(content, path)
    front_end = content.get("front_end")  # in what we exported
    if front_end not in FRONT_ENDS:
        front_end = LETTERS if trained_on_letters(model) else FAKEYOU
    symbols = content.get("symbols", SYMBOLS if model.config.n_symbols == len(SYMBOLS) else None)
    return WarmStart(model, int(content.get("iteration", 0)), front_end), symbols


def trained_on_letters(model: Tacotron2) -> bool:
    """Whether the model never read phonemes.

    Weight decay with Adam shrinks the embedding of a symbol that training never meets to nearly nothing within some
    hundred steps, as 1e-6 of it is all the gradient that there is.
    """
    length = model.embedding.weight.detach().norm(dim=1)
    if len(length) != len(SYMBOLS):
        return False
    letters = length[[IDS[letter] for letter in "abcdefghijklmnopqrstuvwxyz"]].median()
    return bool(length[[IDS[f"@{phone}"] for phone in ARPABET]].median() < UNLEARNED * letters)


def _check_sizes(known: Tacotron2Config, config: Tacotron2Config, path: Path) -> None:
    differ = [
        f"{field.name} is {getattr(known, field.name)}, expected {getattr(config, field.name)}"
        for field in fields(config)
        if field.name not in ("n_symbols", *DROPOUTS) and getattr(known, field.name) != getattr(config, field.name)
    ]
    if differ:
        preset = next((repr(name) for name, sizes in PRESETS.items() if sizes == config), "asked for")
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise CheckpointError(
            f"{path} has other sizes than the preset {preset}: {'; '.join(differ[:3])}{more}. "
            "Choose the preset that it was made with, or another file."
        )


def _with_our_symbols(started: WarmStart, symbols: Sequence[str] | None, path: Path) -> WarmStart:
    """The same weights but for the embedding, of which each row goes to the symbol of its name; others stay random."""
    known = started.model
    count = known.config.n_symbols
    if symbols is not None and len(symbols) != count:
        raise CheckpointError(
            f"{path} names {len(symbols)} symbols but has {count}. Get it again, or ask who made it."
        )
    model = Tacotron2(replace(known.config, n_symbols=len(SYMBOLS)))
    places = {str(symbol): place for place, symbol in enumerate(symbols or ())}
    shared = [symbol for symbol in SYMBOLS if symbol in places]
    rows = model.embedding.weight.detach().clone()
    rows[[IDS[symbol] for symbol in shared]] = known.embedding.weight.detach()[[places[symbol] for symbol in shared]]
    model.load_state_dict(known.state_dict() | {"embedding.weight": rows})
    if symbols is None:
        said = f"its {count} symbols have no names, so that none is known again; all {len(SYMBOLS)} begin anew"
    else:
        new = [symbol for symbol in SYMBOLS if symbol not in places]
        left = [symbol for symbol in places if symbol not in IDS]
        said = f"{len(shared)} of its {count} symbols are kept"
        said += f"; begin anew: {_few(new)}" if new else ""
        said += f"; left out: {_few(left)}" if left else ""
    has_phonemes = symbols is None or any(symbol.startswith("@") for symbol in shared)
    front_end = started.front_end if has_phonemes and not trained_on_letters(model) else LETTERS
    note = f"{path.name}: {said}. All its other weights are kept."
    notes = (*started.notes, note)
    return replace(started, model=model.eval(), front_end=front_end, notes=notes, symbols_known=bool(shared))


def _few(symbols: Sequence[str]) -> str:
    return " ".join(map(repr, symbols[:12])) + (f" and {len(symbols) - 12} more" if len(symbols) > 12 else "")
