"""A trained model as files that run without this package: StableHLO and ONNX.

Three functions are exported, weights included, for any batch size: psi, one denoiser step and the
whole restoration. Randomness is an input, so that a caller decides on seeds and each format gives
the same plate.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.samplers import Sampler, coefficients, sample
from lpdiff_jax.errors import UserError
from lpdiff_jax.export.onnx_conversion import to_onnx
from lpdiff_jax.methods.lpdiff.model import LPDiff, Variables, psi_of

FORMATS = ("stablehlo", "onnx")
TOLERANCE = 1e-3  # largest difference, in units of [-1, 1], between an ONNX file and JAX
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of arrays to be exported.

    Attributes:
      name: also the file's.
      call: takes the inputs in their order, returns the output [B, H, W, 3].
      inputs: shape without the batch, and dtype, by name.
      output: the output's name.
    """

    name: str
    call: Callable[..., jax.Array]
    inputs: Mapping[str, tuple[tuple[int, ...], np.dtype]]
    output: str

    def example(self, batch: int, seed: int = 0) -> list[np.ndarray]:
        """Random inputs of a batch size: images, levels and noise in range, masks set."""
        generator = np.random.default_rng(seed)
        return [
            np.ones((batch, *shape), bool)
            if dtype.kind == "b"
            else generator.uniform(0, 1, (batch, *shape)).astype(dtype)
            for shape, dtype in self.inputs.values()
        ]


def exported_functions(
    model: LPDiff, variables: Variables, sampler: Sampler, num_frames: int
) -> list[Function]:
    """psi and, where there is a denoiser, one step of it and the whole restoration.

    Where the denoiser is shown more than psi the first gives its guide: psi, then the rest.

    Args:
      model: the networks and the diffusion process.
      variables: their parameters, embedded as constants.
      sampler: how `restore` samples.
      num_frames: N, frames a plate; fewer are padded and masked.
    """
    image = ((*model.image_size, 3), np.dtype(np.float32))
    frames = {
        "frames": ((num_frames, *model.image_size, 3), np.dtype(np.float32)),
        "mask": ((num_frames,), np.dtype(bool)),
    }
    psi = Function("psi", lambda f, mask: model.psi(variables, f, mask), frames, "psi")
    if "denoiser" not in variables:
        return [psi]
    if model.guide_channels(variables) > 3:
        guide = lambda f, mask: model.estimate(variables, f, mask).guide  # noqa: E731
        psi = Function("psi", guide, frames, "guide")
    denoise = Function(
        "denoise",
        lambda guide, x_t, level: model.predict_noise(variables, guide, x_t, level),
        {
            psi.output: (
                (*model.image_size, model.guide_channels(variables)),
                np.dtype(np.float32),
            ),
            "x_t": image,
            "noise_level": ((), np.dtype(np.float32)),
        },
        "noise",
    )
    draws = number_of_draws(model, sampler)
    noise = ((draws, *model.image_size, 3), np.dtype(np.float32))
    restore = Function(
        "restore", restoring(model, variables, sampler), {**frames, "noise": noise}, "restored"
    )
    return [psi, denoise, restore]


def number_of_draws(model: LPDiff, sampler: Sampler) -> int:
    """Images of noise that a restoration takes: one to start, and one a step if it adds noise."""
    schedule = sampler.visited(model.schedule)
    stochastic = coefficients(schedule.noise_levels, sampler.name, sampler.eta)["noise"].any()
    return 1 + schedule.steps if stochastic else 1


def restoring(
    model: LPDiff, variables: Variables, sampler: Sampler
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """The whole restoration: (frames, mask, noise [B, K, H, W, 3]) -> plates [B, H, W, 3].

    The last of the K images of noise is the start, the others are those of the steps, the last
    step's first; K is `number_of_draws`.
    """
    schedule = sampler.visited(model.schedule)

    def restore(frames: jax.Array, mask: jax.Array, noise: jax.Array) -> jax.Array:
        guide = model.estimate(variables, frames, mask).guide
        x_0 = sample(
            lambda x_t, level: model.predict_x0(variables, guide, x_t, level),
            sampler.first(noise[:, -1], schedule),
            lambda index: jnp.take(noise, index, axis=1),
            schedule,
            sampler.name,
            sampler.eta,
        )
        return jnp.clip(model.compose(x_0, psi_of(guide)), -1, 1)

    return restore


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
    inputs = function.example(batch)
    (theirs,) = session.run(None, dict(zip(function.inputs, inputs, strict=True)))
    return float(np.abs(theirs - np.asarray(jax.jit(function.call)(*inputs))).max())


def export_model(
    directory: str | Path, functions: list[Function], formats: tuple[str, ...] = FORMATS
) -> dict[str, Any]:
    """Writes each function in each format, and `export.json`, which describes them.

    Args:
      directory: a folder that does not exist yet, or is empty; it appears whole or not at all.
      functions: what to export.
      formats: of `FORMATS`.

    Returns:
      What `export.json` holds.

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
        raise UserError(f"{directory}: cannot be written ({error.strerror})") from error
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
        _save_onnx(to_onnx(function.call, function.inputs, function.output), path)
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
