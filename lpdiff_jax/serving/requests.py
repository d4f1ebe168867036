"""A request's files and wishes, checked."""

import asyncio
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.files import FileOptions
from lpdiff_jax.restoring.inputs import PICTURE_SUFFIXES
from lpdiff_jax.restoring.names import safe_name
from lpdiff_jax.restoring.plates import Options
from lpdiff_jax.restoring.regions import MovingRegion, Region
from lpdiff_jax.restoring.video import VIDEO_SUFFIXES, Clip

_FIELDS = (
    "samples", "steps", "seed", "max_frames", "boxes", "start", "stop", "every", "detect", "force",
    "group", "zip", "syntax", "at",
)  # fmt: skip
_MAX_SAMPLES, _MAX_STEPS, _MAX_BOXES = 16, 100, 1000
_TYPES = (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)


class BadRequest(Exception):
    """A request that cannot be meant; the message says why."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Wishes:
    """What a client wants.

    Attributes:
      options: how to restore.
      files: where the plates are.
      together: all pictures are frames of one plate.
      detect: plates are to be found.
      zip: the results also as an archive.
      at: seconds into a video, for a preview.
    """

    options: Options
    files: FileOptions
    together: bool
    detect: bool
    zip: bool
    at: float


async def receive(
    request: Request, folder: Path, max_files: int, patience: float
) -> tuple[list[Path], Wishes]:
    """Reads a request's files into a folder, under names of our own, and its fields.

    Raises:
      BadRequest: it is no form, or holds what cannot be meant.
    """
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise BadRequest("send a form (multipart/form-data) with `files`", 415)
    try:
        async with asyncio.timeout(patience):
            form = await request.form(max_files=max_files, max_fields=50, max_part_size=1_000_000)
    except MultiPartException as error:
        raise BadRequest(f"not a form that can be read: {error.message}") from None
    except ClientDisconnect:
        raise BadRequest("the request broke off") from None
    except TimeoutError:
        raise BadRequest("the request came too slowly", 408) from None
    except (ValueError, KeyError, UnicodeError) as error:
        raise BadRequest(f"not a form that can be read: {error}") from None
    try:
        fields, uploads = _sorted(form.multi_items())
        paths = [await _save(upload, folder, number) for number, upload in enumerate(uploads, 1)]
    finally:
        await form.close()
    if not paths:
        raise BadRequest("no files: send pictures or a video as `files`")
    return paths, parse_wishes(fields)


def _sorted(items: Sequence[tuple[str, Any]]) -> tuple[dict[str, str], list[UploadFile]]:
    """A form's fields, and its files."""
    fields: dict[str, str] = {}
    uploads: list[UploadFile] = []
    for key, value in items:
        if key == "files":
            if not isinstance(value, UploadFile):
                raise BadRequest("`files` are files, with a file name")
            uploads.append(value)
            continue
        if key not in _FIELDS or not isinstance(value, str) or key in fields:
            raise BadRequest(
                f"field {key[:50]!r} is not known, or there twice; known: {', '.join(_FIELDS)}"
            )
        fields[key] = value
    return fields, uploads


async def _save(upload: UploadFile, folder: Path, number: int) -> Path:
    """Writes one file; of its name the last part remains, made safe, behind a number."""
    given = (upload.filename or "").replace("\\", "/").rpartition("/")[2]
    suffix = Path(safe_name(given)).suffix.lower()
    if suffix not in _TYPES:
        raise BadRequest(f"{given[:80]!r}: neither a picture nor a video by its name", 415)
    path = folder / f"{number:03d}-{safe_name(Path(given).stem)[:60]}{suffix}"

    def write() -> None:
        with path.open("xb") as target:
            shutil.copyfileobj(upload.file, target)

    await asyncio.to_thread(write)
    return path


def parse_wishes(fields: Mapping[str, str]) -> Wishes:
    """The wishes that a form's fields say.

    Raises:
      BadRequest: a field that does not fit.
    """
    try:
        options = Options(
            steps=_whole(fields, "steps", None, 1, _MAX_STEPS),
            samples=_whole(fields, "samples", 1, 1, _MAX_SAMPLES) or 1,
            seed=_whole(fields, "seed", 0, 0, 2**32 - 1) or 0,
            max_frames=_whole(fields, "max_frames", 5, 1, 16) or 5,
            batch_size=1,
        )
        clip = Clip(
            _number(fields, "start", 0.0),
            _number(fields, "stop", None),
            _number(fields, "every", 0),
        )
        files = FileOptions(
            clip=clip,
            box=_boxes(fields.get("boxes", "")),
            force=_switch(fields, "force"),
            syntax=_switch(fields, "syntax", True),
        )
    except UserError as error:
        raise BadRequest(str(error)) from None
    group = fields.get("group", "one")
    if group not in ("one", "each"):
        raise BadRequest(f"group is {group[:50]!r}; 'one' (all frames of a plate) or 'each'")
    return Wishes(
        options,
        files,
        together=group == "one",
        detect=_switch(fields, "detect"),
        zip=_switch(fields, "zip"),
        at=_number(fields, "at", 0.0) or 0.0,
    )


def _whole(
    fields: Mapping[str, str], name: str, default: int | None, least: int, most: int
) -> int | None:
    text = fields.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 12:
        raise BadRequest(f"{name} is {text[:50]!r}; a whole number is wanted")
    if not least <= int(text) <= most:
        raise BadRequest(f"{name} is {text}; from {least} to {most} it may be")
    return int(text)


def _number(fields: Mapping[str, str], name: str, default: float | None) -> Any:
    text = fields.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1e6:
        raise BadRequest(f"{name} is {text[:50]!r}; seconds are wanted")
    return value


def _switch(fields: Mapping[str, str], name: str, default: bool = False) -> bool:
    text = fields.get(name, "")
    if text not in ("", "0", "1"):
        raise BadRequest(f"{name} is {text[:50]!r}; 0 or 1")
    return default if text == "" else text == "1"


def _boxes(text: str) -> Region | MovingRegion | None:
    """A list of {box: [x, y, w, h]} or {corners: ...}, each with `time` or `frame` or neither."""
    if not text.strip():
        return None
    try:
        entries = json.loads(text)
        if not isinstance(entries, list) or not 1 <= len(entries) <= _MAX_BOXES:
            raise ValueError(f"a list of 1 to {_MAX_BOXES} boxes is wanted")
        keys = [_key(entry) for entry in entries]
        return keys[0][1] if len(keys) == 1 else MovingRegion.of(keys)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadRequest(f"boxes: {error}") from None


def _key(entry: Any) -> tuple[float, Region]:
    if not isinstance(entry, dict):
        raise ValueError("each box is an object")
    moment = float(entry["time"] if "time" in entry else entry.get("frame", 0))
    if not 0 <= moment <= 1e6:
        raise ValueError("time is in seconds, frame counts from 0")
    if "corners" in entry:
        return moment, Region.of_corners([[float(v) for v in p] for p in entry["corners"]])
    x, y, w, h = (float(value) for value in entry["box"])
    return moment, Region.of_box(x, y, w, h)
