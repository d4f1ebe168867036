"""A model on disk: a folder with `config.json`, `weights.safetensors` and `manifest.json`.

The manifest holds the sha256 of the other two, so that a damaged download is not taken for a
model. Arrays keep their dtype and every bit.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from lpdiff_jax.errors import UserError

CONFIG = "config.json"
WEIGHTS = "weights.safetensors"
MANIFEST = "manifest.json"
_FORMAT = 1
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """A model as its folder holds it.

    Attributes:
      config: the model's part of the configuration, as JSON has it.
      variables: nested dicts of arrays, e.g. `variables['condition']['params'][...]`.
      extra: arrays that the model does not use but that travel with it, by name.
    """

    config: dict[str, Any]
    variables: dict[str, Any]
    extra: dict[str, np.ndarray]


def is_model_directory(path: str | Path) -> bool:
    """Whether the folder claims to hold a model."""
    return (Path(path) / MANIFEST).is_file()


def save_model(
    directory: str | Path,
    config: Mapping[str, Any],
    variables: Mapping[str, Any],
    extra: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a model; the folder appears whole or not at all.

    Args:
      directory: a folder that does not exist yet, or is empty.
      config: what JSON can hold.
      variables: nested dicts of arrays; no key may contain '/'.
      extra: further arrays by name.

    Raises:
      UserError: the folder holds something already, or cannot be written.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory}: exists already; give a new or an empty folder")
    arrays = dict(_flatten(variables, "variables"))
    arrays |= {f"extra/{name}": np.asarray(array) for name, array in (extra or {}).items()}
    partial = directory.with_name(f".{directory.name}.partial")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        (partial / CONFIG).write_text(json.dumps(dict(config), indent=2) + "\n")
        (partial / WEIGHTS).write_bytes(
            safetensors.numpy.save({n: np.asarray(a, order="C") for n, a in arrays.items()})
        )
        files = {name: _sha256(partial / name) for name in (CONFIG, WEIGHTS)}
        manifest = {"format": _FORMAT, "sha256": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        os.replace(partial, directory)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_model(directory: str | Path) -> StoredModel:
    """Reads a model and checks it against its manifest.

    Raises:
      UserError: a file is missing, unreadable, or differs from what was saved.
    """
    directory = Path(directory)
    manifest = _json_object(_read(directory / MANIFEST), directory / MANIFEST)
    if manifest.get("format") != _FORMAT:
        raise UserError(
            f"{directory / MANIFEST}: format {manifest.get('format')!r} is not known to this "
            f"version, which reads format {_FORMAT}; upgrade lpdiff-jax"
        )
    content = {name: _checked(directory / name, manifest) for name in (CONFIG, WEIGHTS)}
    arrays = _arrays(content[WEIGHTS], directory / WEIGHTS)
    extra_prefix = "extra/"
    return StoredModel(
        config=_json_object(content[CONFIG], directory / CONFIG),
        variables=_unflatten(arrays).get("variables", {}),
        extra={
            name.removeprefix(extra_prefix): array
            for name, array in arrays.items()
            if name.startswith(extra_prefix)
        },
    )


def _flatten(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for key, value in tree.items():
        if "/" in key:
            raise ValueError(f"{key!r} contains '/'")
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}/{key}")
        else:
            yield f"{prefix}/{key}", np.asarray(value)


def _unflatten(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = array
    return tree


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); a model is a folder with "
            f"{CONFIG}, {WEIGHTS} and {MANIFEST}"
        ) from error


def _checked(path: Path, manifest: Mapping[str, Any]) -> bytes:
    """Reads a file whose hash the manifest holds."""
    data = _read(path)
    hashes = manifest.get("sha256")
    expected = hashes.get(path.name) if isinstance(hashes, dict) else None
    if hashlib.sha256(data).hexdigest() != expected:
        raise UserError(
            f"{path}: differs from what was saved (its sha256 is not the one in {MANIFEST}); "
            "fetch or export the model again"
        )
    return data


def _arrays(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Decodes safetensors; its own numpy reader does not know bfloat16."""
    try:
        entries = safetensors.deserialize(data)
        return {
            name: np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in entries
        }
    except (safetensors.SafetensorError, KeyError) as error:
        raise UserError(f"{path}: not a safetensors file that we know ({error})") from error


def _json_object(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
