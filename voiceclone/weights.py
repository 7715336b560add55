"""Files of weights: written whole or not at all, and read though anyone may have made them.

No code in a file is run, and a wrong file is named for what it is.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from .errors import CheckpointError
from .files import atomic_write
from .pickled import open_archive, open_stream, tensors_of

UNREADABLE = (  # what reading a file can raise that was not written by torch.save, or not wholly
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    MemoryError,
    RuntimeError,
    ValueError,
    OverflowError,
    LookupError,
    AttributeError,
    AssertionError,
    TypeError,
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # what some servers and editors put before a text
KINDS = {  # of files that are taken for weights, by their first bytes
    b"version https://git-lfs": "a pointer of Git LFS, in whose place the file itself is to be fetched (git lfs pull)",
    b"{": "a text in JSON, perhaps a server's message",
    b"RIFF": "a wave file",
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
}
MODELS = {  # whose weights begin so, where several models fit the first is meant
    "embedding.weight decoder.attention_rnn.": "a Tacotron 2",
    "conv_pre. resblocks.": "a HiFi-GAN generator",
    "upsample. WN.": "a WaveGlow",
    "enc_p. flow.": "a VITS, as Piper and RVC use",
    "wav2vec2.": "a Wav2Vec2",
    "decoder.blocks. encoder.blocks.": "a Whisper",
    "lstm.weight_ih_l0 linear.": "a speaker encoder",
    "mpd.": "HiFi-GAN's discriminators",
}
Content = TypeVar("Content")
_STEP_NAME = re.compile(r"step-(\d+)\.pt")  # of checkpoints that training goes on from


# Dicts of weights -------------------------------------------------------------------------------------------------


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a file that `torch.save` wrote, refusing code, and say what a wrong file is.

    Raises
    ------
    CheckpointError
        If the file is missing, torn, a web page, or needs code to be run.
    """
    path = Path(path)
    _check_file(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None  # torch's own text tells how to run the code: it is never shown
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a dict of weights.")
    return content


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def write_weights(path: str | Path, content: dict[str, Any]) -> Path:
    """Write a dict of weights with `torch.save`, whole or not at all."""
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's own complaint hides the system's, such as that the disk is full
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    return Path(path)


def newest_whole(
    folder: str | Path, read: Callable[[Path], Content] = read_weights
) -> tuple[Path, Content] | None:
    """The newest of a folder's ``step-<number>.pt`` that can be read; torn ones are passed over. None if there is none.

    Parameters
    ----------
    folder : str or Path
    read : callable
        Reads a file, or raises a CheckpointError.
    """
    matches = ((_STEP_NAME.fullmatch(path.name), path) for path in Path(folder).glob("*.pt"))
    for _, path in sorted(((int(match[1]), path) for match, path in matches if match), reverse=True):
        try:
            return path, read(path)
        except CheckpointError:
            continue
    return None


def what_it_holds(content: dict[str, Any]) -> str:
    """Name a model by its weights, for messages: ``"a WaveGlow"``; unknown ones by the first names in the dict."""
    if {"mpd", "msd"} & content.keys():
        return MODELS["mpd."]
    for found in (content, *(value for value in content.values() if isinstance(value, dict))):
        names = [str(name).removeprefix("module.") for name in found]
        for beginnings, model in MODELS.items():
            if all(any(name.startswith(beginning) for name in names) for beginning in beginnings.split()):
                return model
    return f"something unknown ({', '.join(map(str, list(content)[:6])) or 'nothing'})"


def fold_weight_norm(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Multiply out weight norm: directions ``weight_v`` and lengths ``weight_g`` become one ``weight``.

    Both names of the two are known, those of ``torch.nn.utils.weight_norm`` and of its successor in
    ``torch.nn.utils.parametrizations``. Everything else stays as it is.
    """
    names = {
        name.replace(".parametrizations.weight.original0", ".weight_g").replace(
            ".parametrizations.weight.original1", ".weight_v"
        ): value
        for name, value in weights.items()
    }
    folded = {}
    for name, value in names.items():
        layer = name.removesuffix("_v").removesuffix("_g")
        if name.endswith(".weight_v") and f"{layer}_g" in names:
            length = value.flatten(1).norm(dim=1).view(-1, *[1] * (value.ndim - 1))
            folded[layer] = value * (names[f"{layer}_g"] / length)
        elif not (name.endswith(".weight_g") and f"{layer}_v" in names):
            folded[name] = value
    return folded


# Whole modules ----------------------------------------------------------------------------------------------------


def read_state_dict(path: str | Path, *, under: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """Read the weights of a network from a file that `torch.save` wrote, a whole pickled module too.

    Code in the file is neither run nor missed, and the module's class need not be installed: see `voiceclone.pickled`.

    Parameters
    ----------
    path : str or Path
        A state dict or a module, or a dict that holds one.
    under : tuple of str
        Where in that dict to look: the first of these keys that it has; the whole file if it has none of them.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, named as ``module.state_dict()`` names them. Empty if the file holds no tensors there.

    Raises
    ------
    CheckpointError
        If the file is missing, torn, a web page or another kind of file.
    """
    path = Path(path)
    _check_file(path)
    try:
        with path.open("rb") as file:
            content, read = (open_archive if file.peek(2)[:2] == b"PK" else open_stream)(file)
            keys = [key for key in under if isinstance(content, dict) and key in content]
            found = content[keys[0]] if keys else content
            return tensors_of(found, read)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


# Files ------------------------------------------------------------------------------------------------------------


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as weights: it is torn or another kind of file ({_first_line(error)}). "
        "Use an older one, or get it again."
    )


def _refused(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """What to say where torch refuses a pickle; of its text only the name of the code that the file asks for."""
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code:
        return CheckpointError(
            f"{path} would run code when opened ({code[1]}) and is refused: expected weights alone. Ask who made it "
            "for a file of its state_dict."
        )
    return CheckpointError(
        f"{path} cannot be read as weights: it is torn or another kind of file, or would run code when opened, and is "
        "refused. Use an older one, or get it again."
    )


def _check_file(path: Path) -> None:
    """Refuse what is no file of weights at first sight, or is torn."""
    if not path.is_file():
        what = "is a folder, not a file of weights" if path.is_dir() else "is not there"
        raise CheckpointError(f"The checkpoint {path} {what}. Check the path that was given.")
    with path.open("rb") as file:
        head = file.read(512).removeprefix(BYTE_ORDER_MARK)
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"{path} is a web page, not a checkpoint: the download failed. Download it again.")
    for start, kind in KINDS.items():
        if head.startswith(start):
            raise CheckpointError(f"{path} is {kind}, not a checkpoint.")
    text = " ".join(head.decode("latin-1").split())
    if head.isascii() and text.isprintable():
        what = f"a text that begins with {text[:40]!r}" if text else "empty"
        raise CheckpointError(f"{path} cannot be read as weights: it is {what}. Get it again from where it came.")
    if head.startswith(b"PK"):
        _check_archive(path)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_whole(path: str | Path) -> None:
    """Check that a file can be a whole file of weights, as far as its checksums or its size tell.

    Raises
    ------
    CheckpointError
        If it is torn, or no file of torch or safetensors.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _check_file(path)  # of a zip this compares all checksums
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            start = file.peek(9)[:9]
            if start.startswith(b"\x80"):  # of torch before 1.6, which has no checksums: where should it end?
                open_stream(file)
                if file.tell() > size:
                    raise CheckpointError(f"{path} is torn: {size:,} bytes of at least {file.tell():,}.")
            elif start[8:] == b"{":
                with safe_open(path, "pt"):  # compares the size with what the header says
                    pass
            elif not start.startswith(b"PK"):
                raise CheckpointError(
                    f"{path} is no file of torch or safetensors: it begins with {start!r} and has {size:,} bytes."
                )
    except (SafetensorError, *UNREADABLE) as error:
        raise _unreadable(path, error) from error


def _check_archive(path: Path) -> None:
    """Compare every part of the file with its checksum; torch itself does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            locked = any(member.flag_bits & 1 for member in archive.infolist())
            torn = None if locked else archive.testzip()
            others = not any(name.endswith("data.pkl") for name in archive.namelist())
    except UNREADABLE as error:
        torn, locked, others = _first_line(error), False, False
    if locked:
        raise CheckpointError(f"{path} is a zip with a password, not a checkpoint. If it packs one, unpack it first.")
    if others:
        raise CheckpointError(f"{path} is a zip without weights, not a checkpoint. If it packs one, unpack it first.")
    if torn:
        raise CheckpointError(f"{path} cannot be read: it is torn ({torn}). Use an older one, or get it again.")
