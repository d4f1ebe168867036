"""The folder that results go to: files appear whole, and what is done stays done."""

import contextlib
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lpdiff_jax.errors import UserError

LOCK = ".lpdiff-lock"
_PLATES = '"plates": ['
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def make_folders(output: Path, names: Sequence[str]) -> None:
    """Makes the output folder and those in it.

    Raises:
      UserError: it cannot be written to, or a folder in it is a link, which would lead elsewhere.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (output / name).is_symlink():
                raise UserError(f"{output / name}: is a link; results are not written through it")
            (output / name).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{output}: cannot be written to ({error.strerror or error})") from error


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keeps other runs out of a folder; the lock ends with the process, however that ends.

    Raises:
      UserError: another run is writing there.
    """
    try:
        file = os.open(output / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(f"{output}: cannot be locked ({error.strerror or error})") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{output}: another run is writing there; wait for its end, or give another "
                "--output"
            ) from None
        yield
    finally:
        os.close(file)


def write_file(path: Path, data: bytes) -> None:
    """Writes a file, whole or not at all; raises `OSError` with the file's name.

    A link in its place is replaced, never written through.
    """
    temporary = path.with_name(f".part-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def append_file(path: Path, data: bytes) -> None:
    """Adds to the end of a file, all or nothing; raises `OSError` with the file's name."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    size = os.fstat(file).st_size
    try:
        while data:
            data = data[os.write(file, data) :]
    except OSError as error:
        os.ftruncate(file, size)
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(file)


@contextlib.contextmanager
def told(done: str = "") -> Iterator[None]:
    """Turns an `OSError` of writing into a `UserError` that says what to do."""
    try:
        yield
    except OSError as error:
        advice = "make room" if error.errno in _NO_ROOM else "see to it"
        raise UserError(
            f"{error.filename or 'output'}: {error.strerror or error}; {advice}, and run the same "
            f"command again{done}"
        ) from error


class ResultFile:
    """restore.json while it grows: it is whole JSON at every moment, one line per plate.

    The end of the file is written over by a further plate and a new end, in one call. A plate that
    was added stays, however the run ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = 0
        self._size = 0
        self._count = 0
        self._tail: bytes = b""

    def start(
        self, head: Mapping[str, Any], plates: Sequence[Mapping[str, Any]], tail: Mapping[str, Any]
    ) -> None:
        """Writes the file anew, with the plates that are there already."""
        lines = ",\n".join(_line(plate) for plate in plates)
        body = f"{_line(head)[:-1]},\n{_PLATES}\n{lines}".encode()
        self._tail = _end(tail)
        write_file(self.path, body + self._tail)
        self._end, self._size = len(body), len(body) + len(self._tail)
        self._count = len(plates)

    def add(self, plate: Mapping[str, Any], tail: Mapping[str, Any]) -> None:
        """Adds a plate."""
        line = ((",\n" if self._count else "") + _line(plate)).encode()
        self._overwrite(line, _end(tail))
        self._end += len(line)
        self._count += 1

    def close(self, tail: Mapping[str, Any]) -> None:
        """Writes the last end, and cuts off what padding there is."""
        self._overwrite(b"", _end(tail))
        self._size = self._end + len(self._tail)
        os.truncate(self.path, self._size)

    def plates(self) -> Iterator[dict[str, Any]]:
        """The plates in it, one in memory at a time."""
        for _, entry in self.places():
            yield entry

    def places(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The plates, and where in the file each begins."""
        with self.path.open("rb") as file:
            for line in file:
                if line.startswith(_PLATES.encode()):
                    break
            begin = file.tell()
            while (line := file.readline()).startswith(b"{"):
                yield begin, json.loads(line.rstrip(b",\n"))
                begin = file.tell()

    def plate_at(self, place: int) -> dict[str, Any]:
        """The plate that begins at a place."""
        with self.path.open("rb") as file:
            file.seek(place)
            entry: dict[str, Any] = json.loads(file.readline().rstrip(b",\n"))
            return entry

    def _overwrite(self, line: bytes, tail: bytes) -> None:
        """Replaces the end; where there is no room, the old one is put back."""
        # Never shorter than before: what a kill leaves behind the end must be white.
        data = line + tail
        data += b"\n" * max(self._size - self._end - len(data), 0)
        file = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(file, data[written:], self._end + written)
        except OSError as error:
            os.pwrite(file, self._tail, self._end)
            os.ftruncate(file, self._end + len(self._tail))
            self._size = self._end + len(self._tail)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        finally:
            os.close(file)
        self._size = self._end + len(data)
        self._tail = tail


def read_results(path: Path) -> dict[str, Any] | None:
    """What an earlier run left in restore.json; None where there is none.

    Of a file that is damaged the plates that can be read are taken.

    Raises:
      UserError: it is not a file of this program.
    """
    try:
        if path.is_symlink() or not path.is_file():
            return None
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give another --output") from error
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(text)
        return content if isinstance(content, dict) else {}
    return _salvaged(text)


def _salvaged(text: str) -> dict[str, Any]:
    head, _, rest = text.partition(_PLATES)
    try:
        content: dict[str, Any] = json.loads(head.rstrip().rstrip(",") + "}")
    except (ValueError, RecursionError):
        return {}
    content["plates"] = []
    for line in rest.splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line.rstrip(","))
            if isinstance(entry, dict) and "name" in entry:
                content["plates"].append(entry)
    return content


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _end(tail: Mapping[str, Any]) -> bytes:
    return f"\n],\n{_line(tail)[1:]}\n".encode()
