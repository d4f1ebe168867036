"""A trained model as files that run without this package: StableHLO and ONNX.

A method says which of its functions can be exported (LP-Diff: psi, one denoiser step and the whole
restoration); each is written with its weights, for any batch size. Randomness is an input, so that
a caller decides on seeds and each format gives the same plate.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from data_pipeline.files import cannot_write
from lpdiff_jax.errors import UserError
from lpdiff_jax.export.median import CONVERTERS
from lpdiff_jax.export.onnx_conversion import to_onnx
from lpdiff_jax.methods.base import Function

FORMATS = ("stablehlo", "onnx")
TOLERANCE = 1e-3  # largest difference, in units of [-1, 1], between an ONNX file and JAX
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def example(function: Function, batch: int, seed: int = 0) -> list[np.ndarray]:
    """Random inputs of a batch size: images, levels and noise in range, masks set."""
    generator = np.random.default_rng(seed)
    return [
        np.ones((batch, *shape), bool)
        if dtype.kind == "b"
        else generator.uniform(0, 1, (batch, *shape)).astype(dtype)
        for shape, dtype in function.inputs.values()
    ]


def to_stablehlo(function: Function) -> bytes:
    """Serialises a function with `jax.export`, for any batch and every platform.

    `jax.export.deserialize(data).call(...)` runs it; nothing of this package is needed for that.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    specs = [
        jax.ShapeDtypeStruct((batch, *shape), dtype) for shape, dtype in function.inputs.values()
    ]
    exported = jax.export.export(jax.jit(function.call), platforms=PLATFORMS)(*specs)
    return bytes(exported.serialize())


def onnx_error(path: Path, function: Function, batch: int = 2) -> float:
    """The largest difference between an ONNX file in onnxruntime and the function in JAX."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = example(function, batch)
    (theirs,) = session.run(None, dict(zip(function.inputs, inputs, strict=True)))
    return float(np.abs(theirs - np.asarray(jax.jit(function.call)(*inputs))).max())


def export_model(
    directory: str | Path, functions: list[Function], formats: tuple[str, ...] = FORMATS
) -> dict[str, Any]:
    """Writes each function in each format, and `export.json`, which describes them.

    Args:
      directory: a folder that does not exist yet, or is empty; it appears whole or not at all.
      functions: the functions to export.
      formats: names of `FORMATS`.

    Returns:
      The content of `export.json`.

    Raises:
      UserError: the folder is in use or cannot be written; an ONNX file does not agree with JAX.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory}: exists already; give a new or an empty folder")
    partial = directory.with_name(f".{directory.name}.partial")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        report = {f.name: _export_function(partial, f, formats) for f in functions}
        (partial / "export.json").write_text(json.dumps(report, indent=2) + "\n")
        os.replace(partial, directory)
    except OSError as error:
        raise UserError(cannot_write(directory, error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _export_function(
    directory: Path, function: Function, formats: tuple[str, ...]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "inputs": {
            name: {"shape": ["batch", *shape], "dtype": dtype.name}
            for name, (shape, dtype) in function.inputs.items()
        },
        "output": function.output,
    }
    if "stablehlo" in formats:
        path = directory / f"{function.name}.stablehlo"
        path.write_bytes(to_stablehlo(function))
        described["stablehlo"] = path.name
    if "onnx" in formats:
        path = directory / f"{function.name}.onnx"
        _save_onnx(to_onnx(function.call, function.inputs, function.output, CONVERTERS), path)
        described["onnx"] = path.name
        described["onnx_largest_difference"] = error = onnx_error(path, function)
        if not error <= TOLERANCE:
            raise UserError(f"{path.name} differs from JAX by {error:.1e}, above {TOLERANCE}")
    return described


def _save_onnx(proto: Any, path: Path) -> None:
    """Protocol buffers end at 2 GiB; weights beyond that go into a file beside."""
    import onnx

    external = proto.ByteSize() > 2**31 - 2**20
    onnx.save(proto, str(path), save_as_external_data=external, location=f"{path.name}.data")
