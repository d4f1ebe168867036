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

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from data_pipeline.errors import DataError
from data_pipeline.files import cannot_write, parse_json, read_bytes
from data_pipeline.tree import printable
from lpdiff_jax.errors import UserError
from lpdiff_jax.storage.bounds import fault_of_section

CONFIG = "config.json"
WEIGHTS = "weights.safetensors"
MANIFEST = "manifest.json"
_FORMAT = 1
# Bytes of each file that are read at most; the largest published model has 0.4 GB of weights.
_LIMITS = {MANIFEST: 10**6, CONFIG: 10**7, WEIGHTS: 16 * 2**30}
_MAX_ARRAYS = 20_000
_MAX_NAME = 300
_MAX_DEPTH = 20
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
    """Whether the folder claims to hold a model; what it lacks, `load_model` says."""
    return any(os.path.lexists(Path(path) / name) for name in (MANIFEST, WEIGHTS))


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
        raise UserError(cannot_write(directory, error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_model(directory: str | Path) -> StoredModel:
    """Reads a model and checks it against its manifest and against the bounds of any model.

    Raises:
      UserError: a file is missing, unreadable, or differs from what was saved; a section of the
        configuration is missing or out of bounds; weights are no numbers, or NaN or infinite.
    """
    directory = Path(directory)
    manifest = _json_object(_read(directory / MANIFEST), directory / MANIFEST)
    if manifest.get("format") != _FORMAT:
        raise UserError(
            f"{directory / MANIFEST}: format {manifest.get('format')!r} is not known to this "
            f"version, which reads format {_FORMAT}; upgrade lpdiff-jax"
        )
    content = {name: _checked(directory / name, manifest) for name in (CONFIG, WEIGHTS)}
    config = _json_object(content[CONFIG], directory / CONFIG)
    _check_config(config, directory / CONFIG)
    arrays = _arrays(content[WEIGHTS], directory / WEIGHTS)
    extra_prefix = "extra/"
    return StoredModel(
        config=config,
        variables=_unflatten(arrays, directory / WEIGHTS),
        extra={
            name.removeprefix(extra_prefix): array
            for name, array in arrays.items()
            if name.startswith(extra_prefix)
        },
    )


def _check_config(config: Mapping[str, Any], path: Path) -> None:
    """Raises UserError unless the sections are there and within bounds."""
    if not isinstance(config.get("model"), dict):
        raise UserError(f"{path}: lacks the section `model`; it is no configuration of a model")
    sections = [name for name in ("model", "sampler") if config.get(name) is not None]
    for name in sections:
        fault = fault_of_section(config[name], name)
        if fault:
            raise UserError(f"{path}: {fault}")


def _flatten(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for key, value in tree.items():
        if "/" in key:
            raise ValueError(f"{key!r} contains '/'")
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}/{key}")
        else:
            yield f"{prefix}/{key}", np.asarray(value)


def _unflatten(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, Any]:
    """The arrays below `variables/` as nested dicts; raises UserError for what are no weights."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        if not name.startswith("variables/"):
            continue
        _, *parents, leaf = name.split("/")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(f"{path}: {name} is of {array.dtype}, not of floating point")
        if not np.isfinite(array).all():
            raise UserError(
                f"{path}: {name} holds NaN or infinite values; such a model restores nothing: "
                "fetch it again, or pack an earlier checkpoint"
            )
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"{path}: {name}: {parent!r} is an array and holds others, too")
        if leaf in node:
            raise UserError(f"{path}: {name} is an array and holds others, too")
        node[leaf] = array
    return tree


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, _LIMITS[path.name])
    except DataError as error:
        raise UserError(
            f"{error}; a model is a folder with {CONFIG}, {WEIGHTS} and {MANIFEST}"
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
        if len(entries) > _MAX_ARRAYS:
            raise ValueError(f"{len(entries)} arrays")
        odd = [n for n, _ in entries if len(n) > _MAX_NAME or n.count("/") > _MAX_DEPTH]
        if odd:
            raise ValueError(f"a name of {len(odd[0])} characters")
        return {
            name: np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in entries
        }
    except (safetensors.SafetensorError, LookupError, ValueError, TypeError) as error:
        why = printable(str(error)[:300])
        raise UserError(f"{path}: not a safetensors file that we know ({why})") from error


def _json_object(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = parse_json(data, path)
    except DataError as error:
        why = str(error).removeprefix(f"{path}: ")
        raise UserError(f"{path}: not readable as JSON ({why})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
