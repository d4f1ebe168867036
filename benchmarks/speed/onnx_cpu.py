"""One denoiser call on this CPU: XLA against onnxruntime, in float32, int8 and bfloat16.

    python benchmarks/speed/onnx_cpu.py --size compact --batch 1

Fresh weights (the time does not depend on them). The variants take turns, so that a change of the
machine's load meets all of them; the ratio is that of the medians.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from configs import compact, lpdiff
from lpdiff_jax.export.files import example
from lpdiff_jax.export.median import CONVERTERS
from lpdiff_jax.export.onnx_conversion import to_onnx
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.base import Function

CONFIGS = {"compact": compact, "lpdiff": lpdiff}
Call = Callable[[], np.ndarray]


def main() -> None:
    """Prints a row for each variant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=CONFIGS, default="compact")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    config = CONFIGS[args.size].get_config().to_dict()
    with TemporaryDirectory() as folder:
        variants = make_variants(config, args.batch, Path(folder))
        outputs = {name: call() for name, call in variants.items()}
        times: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(args.rounds):
            for name, call in variants.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    base = float(np.median(times["XLA float32"]))
    print("| denoiser call | ms (median) | times XLA float32 | relative error |")
    print("|---|---|---|---|")
    truth = outputs["XLA float32"]
    for name, seconds in times.items():
        median = float(np.median(seconds))
        error = np.linalg.norm(outputs[name] - truth) / np.linalg.norm(truth)
        print(f"| {name} | {1e3 * median:.1f} | {base / median:.2f} | {error:.1e} |")


def make_variants(config: dict[str, Any], batch: int, folder: Path) -> dict[str, Call]:
    """The same call, computed in several ways."""
    function = denoise_function(config, "float32")
    inputs = example(function, batch)
    variants = {
        "XLA float32": in_xla(function, inputs),
        "XLA bfloat16": in_xla(denoise_function(config, "bfloat16"), inputs),
    }
    path = folder / "float32.onnx"
    onnx.save(to_onnx(function.call, function.inputs, function.output, CONVERTERS), str(path))
    variants["onnxruntime float32"] = in_onnxruntime(path, function, inputs)
    int8 = folder / "int8.onnx"
    quantize_dynamic(path, int8, weight_type=QuantType.QUInt8)
    variants["onnxruntime int8, dynamic"] = in_onnxruntime(int8, function, inputs)
    return variants


def denoise_function(config: dict[str, Any], dtype: str) -> Function:
    """The denoiser step with random weights, none of them zero."""
    method = registry.build(config).with_dtype(dtype)
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: method.init(key, method.networks), jax.random.key(0))

    def draw(leaf: Any) -> np.ndarray:
        fan_in = max(int(np.prod(leaf.shape[:-1])), 1)
        weight = generator.standard_normal(leaf.shape, np.float32) / np.float32(fan_in**0.5)
        kept = weight if len(leaf.shape) > 1 else np.ones(leaf.shape, np.float32)
        return kept.astype(dtype) if len(leaf.shape) > 1 else kept

    variables = jax.tree.map(draw, shapes)
    functions = method.exports(variables, method.choose(config["sampler"]), 3)
    return next(function for function in functions if function.name == "denoise")


def in_xla(function: Function, inputs: list[np.ndarray]) -> Call:
    """Compiled by JAX."""
    compiled = jax.jit(function.call).lower(*inputs).compile()
    return lambda: np.asarray(compiled(*inputs), np.float32)


def in_onnxruntime(path: Path, function: Function, inputs: list[np.ndarray]) -> Call:
    """Run by onnxruntime on the CPU with its own choice of threads."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = dict(zip(function.inputs, inputs, strict=True))
    return lambda: session.run(None, feed)[0]


if __name__ == "__main__":
    main()
