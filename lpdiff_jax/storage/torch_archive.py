"""PyTorch's file formats without PyTorch: tensors in, as numpy arrays, and state dicts out.

`torch.save` writes a zip archive of a pickle, which names the tensors, and one uncompressed
member per storage; before 1.6 it wrote pickles and storages one after the other. TorchScript
files are archives of the first kind. Reading executes nothing (see `safe_pickle`), and no array
is made larger than the bytes of the file that hold it.
"""

import io
import math
import mmap
import os
import pickle
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import ml_dtypes
import numpy as np

from data_pipeline.files import cannot_write
from lpdiff_jax.errors import UserError
from lpdiff_jax.storage import safe_pickle

_MAX_FILE_BYTES = 16 * 2**30
_MAX_PICKLE_BYTES = 64 * 2**20
_MAX_MEMBERS = 100_000
_MAX_AXES = 8
_MAX_LENGTH = 2**40  # elements of a storage, along an axis, between two elements
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ALIGNMENT = 64  # torch aligns storages so that a file can be mapped into memory

_STORAGE_DTYPES = {
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}
_STORAGE_NAMES = {dtype: name for name, dtype in _STORAGE_DTYPES.items()}


def read_torch_file(path: str | Path) -> Any:
    """Returns what `torch.save` wrote: Python containers with a numpy array for each tensor.

    Objects of TorchScript modules come as `safe_pickle.Record` with a dict as state.

    Raises:
      UserError: no such file, not PyTorch's, damaged, or it asks for more than data.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: cannot be read (not a file)")
        if status.st_size > _MAX_FILE_BYTES:
            raise UserError(f"{path}: larger than {_MAX_FILE_BYTES >> 30} GiB; not a checkpoint")
        if not status.st_size:
            raise UserError(f"{path}: not a PyTorch checkpoint (the file is empty)")
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _read_zip(file, str(path))
            # Of a mapped file no more can be read than there is, however much a field asks for.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
                return _read_legacy(stream, str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _DAMAGE as error:
        raise UserError(f"{path}: damaged ({safe_pickle.brief(error)})") from error


# What a hostile archive provokes in zipfile, beside its own exception.
_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    RecursionError,
    MemoryError,
    struct.error,
    zlib.error,
)


def read_torchscript(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the parameters and buffers of a TorchScript file, by their dotted names.

    Raises:
      UserError: as `read_torch_file`, or the file holds no module.
    """
    module = read_torch_file(path)
    if not isinstance(module, safe_pickle.Record):
        raise UserError(f"{path}: not a TorchScript module")
    try:
        return dict(_module_arrays(module, ""))
    except (RecursionError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: damaged (a module holds itself, or no entries)") from error


def write_state_dict(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as `torch.save` writes a state dict (zip format, all torch since 1.6).

    The same arrays give the same bytes. The file appears whole or not at all.

    Raises:
      UserError: an array's dtype has no counterpart, or the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            _write_member(archive, f"{path.stem}/data.pkl", _pickle_tensors(tensors))
            _write_member(archive, f"{path.stem}/byteorder", b"little")
            for index, array in enumerate(tensors.values()):
                data = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()
                _write_member(archive, f"{path.stem}/data/{index}", data)
            _write_member(archive, f"{path.stem}/version", b"3\n")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(cannot_write(path, error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _module_arrays(module: safe_pickle.Record, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in module.state.items():
        if isinstance(value, safe_pickle.Record):
            yield from _module_arrays(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray):
            yield prefix + name, value


# --- reading ---------------------------------------------------------------------------------


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
    """Views a storage as a tensor; sizes, strides and offset count elements."""
    if not isinstance(storage, np.ndarray) or len(shape) != len(strides):
        raise ValueError("a tensor without storage")
    if not all(isinstance(n, int) and 0 <= n <= _MAX_LENGTH for n in (offset, *shape, *strides)):
        raise ValueError("a tensor's shape is not made of counts")
    if len(shape) > _MAX_AXES:
        raise ValueError(f"a tensor of {len(shape)} axes")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    count = math.prod(shape)
    # More elements than the storage has would let a small file fill the memory.
    if count and (last >= storage.size or count > storage.size):
        raise ValueError("a tensor reaches beyond its storage")
    if not count:
        return np.zeros(shape, storage.dtype)
    byte_strides = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape=shape, strides=byte_strides, writeable=False
    )


_REBUILDERS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")


def _first(value: Any, *_: Any) -> Any:
    return value


def _constant(*args: Any) -> tuple[Any, ...]:
    return args


_CONSTRUCTORS: dict[str, safe_pickle.Constructor | None] = {
    **dict.fromkeys(_STORAGE_DTYPES),
    "collections.OrderedDict": safe_pickle.ordered_dict,
    **dict.fromkeys(_REBUILDERS, _rebuild_tensor),
    "torch._utils._rebuild_parameter": _first,
    "torch.Size": _constant,
    "torch.device": _constant,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
    "__torch__.*": safe_pickle.Record,
}


@dataclass(frozen=True)
class _StorageId:
    """A pickle's reference to a storage."""

    key: str
    dtype: np.dtype
    size: int  # elements

    @classmethod
    def parse(cls, reference: Any) -> "_StorageId":
        kind, storage_type, key, _, size = reference[:5]
        if kind != "storage" or not isinstance(storage_type, safe_pickle.Global):
            raise ValueError("a reference to something that is not a storage")
        if not (isinstance(key, str) and isinstance(size, int) and 0 <= size <= _MAX_LENGTH):
            raise ValueError("a storage without name or size")
        return cls(key, _STORAGE_DTYPES[storage_type.name], size)

    def array(self, data: bytes, byte_order: Literal["<", ">"], source: str) -> np.ndarray:
        """Returns the storage as a flat array in the machine's byte order."""
        expected = self.size * self.dtype.itemsize
        if len(data) != expected:
            raise UserError(
                f"{source}: truncated: storage {self.key!r} has {len(data)} of {expected} bytes"
            )
        stored = np.frombuffer(data, self.dtype.newbyteorder(byte_order))
        return stored.astype(self.dtype, copy=False)


def _read_zip(stream: BinaryIO, source: str) -> Any:
    try:
        with zipfile.ZipFile(stream) as archive:
            if len(archive.infolist()) > _MAX_MEMBERS:
                raise UserError(f"{source}: more members than any checkpoint has")
            return _read_archive(archive, source)
    except _DAMAGE as error:
        raise UserError(f"{source}: the archive is damaged ({safe_pickle.brief(error)})") from error


def _read_archive(archive: zipfile.ZipFile, source: str) -> Any:
    pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
    if len(pickles) != 1:
        raise UserError(f"{source}: a zip archive, but not one that torch.save wrote")
    root = pickles[0].removesuffix("data.pkl")
    read = _member_reader(archive, source)
    order = read(f"{root}byteorder") if f"{root}byteorder" in archive.namelist() else b"little"
    byte_order: Literal["<", ">"] = ">" if order == b"big" else "<"
    storages: dict[str, np.ndarray] = {}

    def storage(reference: Any) -> np.ndarray:
        wanted = _StorageId.parse(reference)
        if wanted.key not in storages:
            data = read(f"{root}data/{wanted.key}")
            storages[wanted.key] = wanted.array(data, byte_order, source)
        return storages[wanted.key]

    if archive.getinfo(pickles[0]).file_size > _MAX_PICKLE_BYTES:
        raise UserError(f"{source}: its table of tensors is larger than any checkpoint's")
    content = io.BytesIO(read(pickles[0]))
    return safe_pickle.load(content, _CONSTRUCTORS, source=source, persistent_load=storage)


def _member_reader(archive: zipfile.ZipFile, source: str) -> Callable[[str], bytes]:
    """Returns a reader of members that refuses compressed ones: a small file could hold a huge."""

    room = os.fstat(archive.fp.fileno()).st_size if archive.fp else 0

    def read(name: str) -> bytes:
        nonlocal room
        try:
            info = archive.getinfo(name)
        except KeyError:
            raise UserError(f"{source}: truncated: it lacks its member {name[:200]!r}") from None
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise UserError(f"{source}: member {name!r} is compressed, which torch.save never does")
        # Members that lie over each other would let a small file fill the memory.
        room -= info.file_size
        if room < 0:
            raise UserError(f"{source}: its members are larger than the file")
        return archive.read(info)

    return read


def _read_legacy(stream: mmap.mmap, source: str) -> Any:
    """Reads the format before torch 1.6: header pickles, the object, storages in their order."""

    def read_pickle(
        storage: Callable[[Any], Any] | None = None,
        constructors: Mapping[str, safe_pickle.Constructor | None] = _CONSTRUCTORS,
    ) -> Any:
        return safe_pickle.load(
            cast(BinaryIO, stream), constructors, source=source, persistent_load=storage
        )

    magic = stream.read(2)
    if magic == b"PK":
        raise UserError(f"{source}: truncated: the archive's table of contents is not there")
    if magic[:1] != b"\x80":
        raise UserError(f"{source}: not a PyTorch checkpoint (neither of torch.save's formats)")
    stream.seek(0)
    if read_pickle() != _LEGACY_MAGIC:
        raise UserError(f"{source}: a pickle, but not a PyTorch checkpoint")
    read_pickle()  # protocol version
    read_pickle()  # sizes of C types
    # The object comes before the numbers it refers to: once through it for the storages' types,
    # and once more for the tensors.
    start = stream.tell()
    wanted: dict[str, _StorageId] = {}

    def note(reference: Any) -> None:
        storage = _StorageId.parse(reference)
        wanted[storage.key] = storage

    read_pickle(note, _CONSTRUCTORS | dict.fromkeys(_REBUILDERS, _constant))
    storages = _read_legacy_storages(stream, read_pickle(), wanted, source)
    stream.seek(start)
    return read_pickle(lambda reference: storages[_StorageId.parse(reference).key])


def _read_legacy_storages(
    stream: mmap.mmap, keys: Any, wanted: Mapping[str, _StorageId], source: str
) -> dict[str, np.ndarray]:
    known = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not known or sorted(keys) != sorted(wanted):
        raise UserError(f"{source}: damaged: its list of storages does not fit its tensors")
    storages = {}
    for key in keys:
        storage = wanted[key]
        stream.read(8)  # the number of elements, known from the reference
        data = stream.read(storage.size * storage.dtype.itemsize)
        storages[key] = storage.array(data, "<", source)
    return storages


# --- writing ---------------------------------------------------------------------------------


def _write_member(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Adds an uncompressed member whose data start at a multiple of `_ALIGNMENT`."""
    info = zipfile.ZipInfo(name)  # dated 1980: the same content gives the same bytes
    end_of_header = archive.start_dir + 30 + len(name.encode()) + 4
    padding = -end_of_header % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(info, data)


def _pickle_tensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Pickles an OrderedDict of tensors, as instructions: its classes are not to be had here."""
    parts = [b"\x80\x02", _EMPTY_ORDERED_DICT, b"("]
    for index, (name, array) in enumerate(tensors.items()):
        parts += [_literal(name), _pickle_tensor(name, str(index), array)]
    return b"".join([*parts, b"u."])


def _pickle_tensor(name: str, key: str, array: np.ndarray) -> bytes:
    dtype = array.dtype.newbyteorder("=")
    if dtype not in _STORAGE_NAMES:
        raise UserError(f"{name}: PyTorch has no counterpart of dtype {array.dtype}")
    strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
    kind, device = _literal("storage"), _literal("cpu")
    described = [kind, _global(_STORAGE_NAMES[dtype]), _literal(key), device, _literal(array.size)]
    storage = b"".join([b"(", *described, b"tQ"])
    view = [_literal(0), _literal(array.shape), _literal(strides)]
    no_gradient, no_hooks = b"\x89", _EMPTY_ORDERED_DICT
    rebuild = _global("torch._utils._rebuild_tensor_v2")
    return b"".join([rebuild, b"(", storage, *view, no_gradient, no_hooks, b"tR"])


def _global(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def _literal(value: Any) -> bytes:
    """The instructions that push a string, a number or a tuple of numbers."""
    return pickle.dumps(value, protocol=2)[2:-1]  # without the protocol's mark and STOP


_EMPTY_ORDERED_DICT = _global("collections.OrderedDict") + b")R"
