"""Files of weights: written whole or not at all, and read though anyone may have made them.

No code in a file is run, and a wrong file is named for what it is.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import torch

from .errors import CheckpointError
from .files import atomic_write

DTYPES = {  # of the numbers in a file, by the name that torch writes
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
PARAMETERS = ("torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter")  # their first argument is a tensor
TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
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
ReadBytes = Callable[[str], bytes]  # from the key of a block of numbers to the block
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

    To load a pickled module, torch imports whatever the file names and calls it. Nothing of that happens here: each
    class and function that the file names becomes a `StandIn` which only remembers what it was given, and the
    tensors are made afterwards, from the remembered names, shapes and numbers. Code in the file is neither
    run nor missed, and the module's class need not be installed.

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
            content, read = (_open_archive if file.peek(2)[:2] == b"PK" else _open_stream)(file)
            keys = [key for key in under if isinstance(content, dict) and key in content]
            found = content[keys[0]] if keys else content
            return {name: _tensor(record, read) for name, record in _named_tensors(found)}
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


class StandIn:
    """What every object of a pickle becomes: it remembers what it was made from, and can do nothing."""

    __slots__ = ("arguments", "state")
    name = ""  # dotted, of the class or function in whose place it stands

    def __new__(cls, *arguments: object) -> StandIn:
        """Remember the arguments."""
        made = super().__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Leave out the items of special dicts: weights are never in them."""

    def append(self, value: object) -> None:
        """Leave out the items of special lists."""


class _Items(dict):
    """Stands for OrderedDict, without the attributes that a pickle may set on one."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class _Numbers(NamedTuple):
    """Where in the file the numbers of a tensor are."""

    key: str
    dtype: torch.dtype
    start: int = 0  # numbers into the block, where the file says that one block is a part of another


class _Unpickler(pickle._Unpickler):
    """Builds dicts, lists, plain values and stand-ins, nothing else.

    Of pickle's two forms the one written in Python: in the other, one wrong number in a file can fill the memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.dtypes: dict[str, torch.dtype] = {}

    def find_class(self, module: str, name: str) -> type:
        """Look up nothing: give a stand-in for whatever is asked for."""
        if (module, name) == ("collections", "OrderedDict"):
            return _Items
        return type("StandIn", (StandIn,), {"__slots__": (), "name": f"{module}.{name}"})

    def persistent_load(self, saved: tuple) -> object:
        """Note where the numbers are. Before torch 1.6 a class came this way too, with its source text."""
        if saved[0] == "module":
            return saved[1]
        _, kind, key, _, _, *view = saved  # the others are the device and how many numbers
        self.dtypes[key] = dtype = DTYPES[kind.name.rpartition(".")[2]]
        return _Numbers(key, dtype, view[0][1] if view and view[0] else 0)


def _open_archive(file: BinaryIO) -> tuple[Any, ReadBytes]:
    """Content of a file as torch writes it since version 1.6: a zip with the numbers as members of their own."""
    archive = zipfile.ZipFile(file)
    root = next((name for name in archive.namelist() if name.endswith("/data.pkl")), "/data.pkl")[: -len("data.pkl")]
    content = _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()
    return content, lambda key: archive.read(f"{root}data/{key}")


def _open_stream(file: BinaryIO) -> tuple[Any, ReadBytes]:
    """Content of a file of an older torch: five pickles, then each block of numbers after its count."""
    magic, _, _ = (_Unpickler(file).load() for _ in range(3))  # the others are a version and the word sizes
    if magic != torch.serialization.MAGIC_NUMBER:
        raise ValueError("not written by torch.save")
    unpickler = _Unpickler(file)
    content = unpickler.load()
    places = {}
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        size = count * unpickler.dtypes[key].itemsize
        places[key] = file.tell(), size
        file.seek(size, io.SEEK_CUR)

    def read(key: str) -> bytes:
        place, size = places[key]
        file.seek(place)
        return file.read(size)

    return content, read


def _named_tensors(found: object, prefix: str = "") -> Iterator[tuple[str, StandIn]]:
    """Tensors, not yet made, of a state dict or of a module and all in it."""
    if isinstance(found, dict):
        for name, value in found.items():
            if isinstance(value, StandIn) and value.name in TENSORS + PARAMETERS:
                yield f"{prefix}{name}", value
    elif isinstance(found, StandIn) and isinstance(found.state, dict):
        yield from _named_tensors(found.state.get("_parameters"), prefix)
        yield from _named_tensors(found.state.get("_buffers"), prefix)
        for name, module in (found.state.get("_modules") or {}).items():
            yield from _named_tensors(module, f"{prefix}{name}.")


def _tensor(record: StandIn, read: ReadBytes) -> torch.Tensor:
    """Make the tensor that a stand-in remembers; torch checks that it begins and ends within its numbers."""
    while record.name in PARAMETERS:
        record = record.arguments[0]
    numbers, offset, shape, stride = record.arguments[:4]
    block = torch.frombuffer(bytearray(read(numbers.key)), dtype=numbers.dtype)
    if math.prod(shape) > len(block):
        raise ValueError(f"a tensor of shape {shape} made of {len(block)} numbers")
    return block.as_strided(shape, stride, numbers.start + offset)


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
        raise CheckpointError(f"There is no checkpoint {path}.")
    with path.open("rb") as file:
        head = file.read(512).removeprefix(BYTE_ORDER_MARK)
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"{path} is a web page, not a checkpoint: the download failed. Download it again.")
    for start, kind in KINDS.items():
        if head.startswith(start):
            raise CheckpointError(f"{path} is {kind}, not a checkpoint.")
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
                _open_stream(file)
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
