"""Tensors from pickles that anyone may have made, without running what they ask for.

To load a pickled module, torch imports whatever the file names and calls it. Nothing of that happens here: each class
and function that the file names becomes a `StandIn` which only remembers what it was given, and the tensors are made
afterwards, from the remembered names, shapes and numbers.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import torch

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
ReadBytes = Callable[[str], bytes]  # from the key of a block of numbers to the block


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


def open_archive(file: BinaryIO) -> tuple[Any, ReadBytes]:
    """Content of a file as torch writes it since version 1.6: a zip with the numbers as members of their own."""
    archive = zipfile.ZipFile(file)
    root = next((name for name in archive.namelist() if name.endswith("/data.pkl")), "/data.pkl")[: -len("data.pkl")]
    content = _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()
    return content, lambda key: archive.read(f"{root}data/{key}")


def open_stream(file: BinaryIO) -> tuple[Any, ReadBytes]:
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


def tensors_of(found: object, read: ReadBytes) -> dict[str, torch.Tensor]:
    """Make the tensors of a state dict, or of a module and all in it.

    Parameters
    ----------
    found : object
        What `open_archive` or `open_stream` gave, or a part of it.
    read : callable
        What they gave with it.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, named as ``module.state_dict()`` names them. Empty if there are none.
    """
    return {name: _tensor(record, read) for name, record in _named_tensors(found)}


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
