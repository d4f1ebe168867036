"""Evaluates a tree with a simple model, alone or as one of several processes: for a test.

evaluate_tree.py ROOT OUT [PORT COUNT INDEX]
"""

import sys
from types import SimpleNamespace

import numpy as np

from lpdiff_jax.methods.base import Estimate


class FirstFrame:
    image_size = (24, 48)
    method = SimpleNamespace(first_picture="psi", slot_reader=None)

    def estimate(self, frames, mask=None):
        return Estimate(frames[:, 0], None, frames[:, 0])

    def draw(self, estimate, *, samples=1, **_):
        return estimate.guide[:, None].repeat(samples, axis=1)


def main(root: str, out: str, *process: str) -> None:
    from lpdiff_jax.parallel.processes import initialize

    if process:
        port, count, index = process
        initialize(f"localhost:{port}", int(index), int(count))
    from data_pipeline.sources import open_source
    from lpdiff_jax.evaluation.evaluate import Options, evaluate
    from lpdiff_jax.evaluation.judges import Judges

    evaluate(
        FirstFrame(),
        open_source(root, "val"),
        out,
        judges=Judges(features=lambda images: images.mean(axis=(1, 2), dtype=np.float32) / 255),
        options=Options(image_size=(24, 48), batch_size=4, sweep=(1, 2)),
        together=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
