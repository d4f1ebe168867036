"""Files in and out: bounded reading of what may be hostile, and writing that is whole or nothing.

Whatever goes wrong is a `DataError` of one sentence that names the file.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError

MAX_BYTES = 500_000_000
# Labels of a million plates take 40 MB.
MAX_JSON_BYTES = 100_000_000
# What a full disk, a quota or a limit on a file's size say.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def local_path(text: str | Path) -> Path:
    """A place that a user has named; `~` is the user's home.

    Raises:
      DataError: it is an address (`gs://...`), a home that is not known, or no name at all.
    """
    name = str(text)
    if "\0" in name or not name.strip():
        raise DataError(f"{name!r}: no name of a file or folder")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
        raise DataError(f"{name}: files and folders are read from this machine alone; copy it here")
    expanded = os.path.expanduser(name)
    if expanded.startswith("~"):
        raise DataError(f"{name}: no such user's home; give the whole path")
    return Path(expanded)


def read_bytes(path: str | Path, limit: int = MAX_BYTES) -> bytes:
    """Reads a regular file of at most `limit` bytes.

    A pipe would be waited for without end, and a device be read without end: neither is opened.

    Raises:
      DataError: there is no such file, it is none, it is larger, or cannot be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: cannot be read: {_kind(status.st_mode)}, not a file")
        if status.st_size > limit:
            raise DataError(
                f"{path}: {status.st_size:,} bytes are more than the {limit:,} that are read"
            )
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from error
    if len(data) > limit:  # files of /proc claim to be empty
        raise DataError(f"{path}: more than the {limit:,} bytes that are read")
    return data


def parse_json(data: bytes, name: str | Path) -> Any:
    """What JSON text says; a key that stands twice in an object is an error.

    Args:
      data: UTF-8, or UTF-16 or UTF-32 as JSON's own rules tell them apart.
      name: the name for errors.

    Raises:
      DataError: it is no JSON, in another encoding, or nested too deep.
    """
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: {_line_in_another_encoding(data, error)}") from error
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise DataError(f"{name}: not valid JSON: it is nested too deep") from error
    except ValueError as error:
        raise DataError(f"{name}: not valid JSON: {error}") from error


def read_json(path: str | Path, limit: int = MAX_JSON_BYTES) -> Any:
    """Reads a JSON file; see `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, limit), path)


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file under a name of its own, then renames it: whole or not at all.

    A link that lies under the name is replaced, never followed.

    Raises:
      DataError: it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.parent / f".part-{secrets.token_hex(8)}"
    with explained(path):
        # "x" makes a new file or fails: nobody's link can stand in its place.
        try:
            with open(temporary, "xb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def write_json(path: Path, content: Any, **options: Any) -> None:
    """Writes a JSON file, whole or not at all; `options` are of `json.dumps`."""
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1, **options) + "\n")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an OSError of what is done inside into a sentence on writing `path`.

    Raises:
      DataError: in its place.
    """
    try:
        yield
    except OSError as error:
        raise DataError(cannot_write(path, error)) from error


def cannot_write(path: str | Path, error: OSError) -> str:
    """Why a file cannot be written, and what to do."""
    advice = "make room, and run the same command again" if error.errno in FULL else ""
    return f"{path}: cannot be written: {_reason(error)}" + (f"; {advice}" if advice else "")


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError(f"{key!r} stands in it twice")
        found[key] = value
    return found


def _line_in_another_encoding(data: bytes, error: UnicodeDecodeError) -> str:
    """Names the line that is not UTF-8, as GBK has it: that is what it mostly is."""
    start = data.rfind(b"\n", 0, error.start) + 1
    line = data[start : data.find(b"\n", error.start) % (len(data) + 1)]
    number = data.count(b"\n", 0, error.start) + 1
    shown = line[:200].decode("gb18030", "replace").strip()
    return f"not UTF-8: line {number}, in GBK {shown!r}; save the file as UTF-8"
