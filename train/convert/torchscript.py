"""Tensors out of a TorchScript archive without running it.

Such an archive is code and a pickle, and `torch.jit.load` runs both. Here the pickle's opcodes are read as data:
nothing is imported, constructed or called; what would be an object is a record of its attributes, and what would be a
call is a note of what was to be called with what.
"""

import pickletools
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ...deploy.errors import UserError

TENSOR = "torch._utils _rebuild_tensor_v2"
DTYPES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "GLOBAL"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OverflowError, MemoryError)


@dataclass
class Record:
    """What would be an object: the name of its class and its attributes."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """What would be the result of a call."""

    name: str
    given: tuple


@dataclass(frozen=True)
class Storage:
    """What would be a block of numbers kept elsewhere in the archive."""

    given: tuple


def is_torchscript(file: BinaryIO) -> bool:
    """Is this a TorchScript archive? Leaves the file where it was."""
    here = file.tell()
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
    finally:
        file.seek(here)


def read_torchscript(file: BinaryIO, source: str) -> dict[str, Tensor]:
    """Return the tensors of a TorchScript module by their dotted names; UserError where the archive is another one."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _tensors_of(archive)
    except (*_BROKEN, ValueError, LookupError, TypeError, AttributeError, RuntimeError, StopIteration) as error:
        raise UserError(
            f"{source} is no TorchScript archive that can be read without running it ({error}): load it once where you "
            "trust it and save its state dict, torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        ) from error


def _tensors_of(archive: zipfile.ZipFile) -> dict[str, Tensor]:
    root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
    module = Reader().read(archive.read(f"{root}data.pkl"))
    if not isinstance(module, Record):
        raise ValueError("it holds no module")
    return {
        name: _tensor(archive, root, call)
        for name, call in _attributes(module)
        if isinstance(call, Call) and call.name == TENSOR
    }


def _attributes(module: Record, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in module.state.items():
        path = f"{prefix}{name}"
        found += _attributes(value, f"{path}.") if isinstance(value, Record) else [(path, value)]
    return found


def _tensor(archive: zipfile.ZipFile, root: str, call: Call) -> Tensor:
    storage, offset, shape, stride = call.given[:4]
    _, kind, key, _, _ = storage.given
    numbers = torch.frombuffer(bytearray(archive.read(f"{root}data/{key}")), dtype=DTYPES[kind])
    return torch.as_strided(numbers, shape, stride, offset).clone()


class Reader:
    """The stack machine of a pickle, for the opcodes that TorchScript writes, with no way out to Python."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, data: bytes) -> Any:
        """Return what the pickle describes; ValueError for an opcode that TorchScript does not write."""
        for opcode, given, _ in pickletools.genops(data):
            name = opcode.name
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _LITERALS:
                self.stack.append(given)
            elif name in _TUPLES:
                self.stack.append(tuple(self._pop(_TUPLES[name])))
            elif name not in ("PROTO", "STOP", "FRAME"):
                getattr(self, f"_{name.lower()}", self._unknown(name))(given)
        return self.stack.pop()

    def _pop(self, count: int) -> list[Any]:
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        place = max(i for i, item in enumerate(self.stack) if item is _MARK)
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    @staticmethod
    def _unknown(name: str) -> Any:
        def refuse(given: Any) -> None:
            raise ValueError(f"it has the opcode {name}")

        return refuse

    def _mark(self, given: Any) -> None:
        self.stack.append(_MARK)

    def _empty_list(self, given: Any) -> None:
        self.stack.append([])

    def _empty_dict(self, given: Any) -> None:
        self.stack.append({})

    def _tuple(self, given: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _append(self, given: Any) -> None:
        item = self.stack.pop()
        self.stack[-1].append(item)

    def _appends(self, given: Any) -> None:
        items = self._since_mark()
        self.stack[-1].extend(items)

    def _setitem(self, given: Any) -> None:
        key, value = self._pop(2)
        self.stack[-1][key] = value

    def _setitems(self, given: Any) -> None:
        items = self._since_mark()
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _binput(self, given: int) -> None:
        self.memo[given] = self.stack[-1]

    def _binget(self, given: int) -> None:
        self.stack.append(self.memo[given])

    _long_binput, _long_binget = _binput, _binget

    def _binpersid(self, given: Any) -> None:
        self.stack.append(Storage(self.stack.pop()))

    def _newobj(self, given: Any) -> None:
        kind, _ = self._pop(2)
        self.stack.append(Record(kind))

    def _reduce(self, given: Any) -> None:
        name, arguments = self._pop(2)
        self.stack.append(Call(name, arguments))

    def _build(self, given: Any) -> None:
        state = self.stack.pop()
        self.stack[-1].state.update(state)
