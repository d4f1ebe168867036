"""`lpdiff pack`: a trained model as a small folder that others can restore with."""

import argparse
from typing import TYPE_CHECKING, Any

from lpdiff_jax.cli import arguments
from lpdiff_jax.errors import UserError

if TYPE_CHECKING:
    from lpdiff_jax.methods.base import Variables
    from lpdiff_jax.restoring.restorer import Restorer

HELP = "write a trained model as a model directory: 16-bit weights, calibrated, with checksums"
DTYPES = ("float16", "bfloat16", "float32")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "model",
        type=arguments.path,
        metavar="MODEL",
        help="work directory or checkpoint of train.py",
    )
    parser.add_argument(
        "output", type=arguments.path, metavar="OUT", help="folder to write; new or empty"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float16",
        help="precision of the weights (default: float16)",
    )
    parser.add_argument(
        "--calibrate", type=arguments.path, metavar="DATA",
        help="labelled plates (MDLP tree or shards) to fit the reading head's confidence on",
    )  # fmt: skip
    parser.add_argument("--split", default="val", help="the split of DATA (default: val)")
    parser.add_argument(
        "--steps", type=arguments.STEPS, help="default denoiser calls of the packed model"
    )
    parser.add_argument("--sampler", help="default sampler of the packed model")
    parser.add_argument(
        "--without", action="append", default=[], metavar="NETWORK",
        help="leave a network out, for example denoiser; may be repeated",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Writes the folder and says what is in it."""
    import jax
    import numpy as np

    from lpdiff_jax.methods import registry
    from lpdiff_jax.parallel.platform import require_platform
    from lpdiff_jax.restoring.loading import load_run
    from lpdiff_jax.restoring.restorer import Restorer
    from lpdiff_jax.storage.model_directory import WEIGHTS, save_model

    require_platform()
    if not args.model.is_dir():
        raise UserError(f"{args.model}: no such work directory")
    loaded = load_run(args.model)
    variables = _without(loaded.variables, args.without)
    changes = {"name": args.sampler, "steps": args.steps}
    sampler = {**loaded.defaults, **{name: v for name, v in changes.items() if v is not None}}
    stored: dict[str, Any] = {
        "method": loaded.config.get("method") or registry.DEFAULT,
        "model": dict(loaded.config["model"]),
        "sampler": sampler,
    }
    small = jax.tree.map(lambda x: np.asarray(x).astype(args.dtype), variables)
    restorer = Restorer(loaded.method, _as_float32(small), sampler)
    if args.calibrate:
        found = _calibrate(restorer, args, loaded.config["data"]["num_frames"])
        stored["model"]["reader"] = dict(stored["model"]["reader"]) | found
    save_model(args.output, stored, small)
    count = sum(x.size for x in jax.tree.leaves(small))
    size = (args.output / WEIGHTS).stat().st_size / 1e6
    print(f"{args.output}: {', '.join(small)}; {count:,} parameters, {size:.1f} MB")


def _without(variables: "Variables", left_out: list[str]) -> "Variables":
    if unknown := set(left_out) - set(variables):
        raise UserError(
            f"--without {', '.join(sorted(unknown))}: this model has {', '.join(variables)}"
        )
    return {name: network for name, network in variables.items() if name not in left_out}


def _as_float32(variables: "Variables") -> "Variables":
    import jax
    import numpy as np

    return jax.tree.map(lambda x: np.asarray(x, np.float32), variables)


def _calibrate(restorer: "Restorer", args: argparse.Namespace, max_frames: int) -> dict[str, float]:
    """The reading head's temperature, slope and threshold, fitted on the data given."""
    import dataclasses

    from data_pipeline.sources import open_source
    from lpdiff_jax.evaluation.reading.calibration import calibrate

    source = open_source(args.calibrate, args.split)
    found = dataclasses.asdict(calibrate(restorer, source, max_frames))
    print("calibrated: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    return found
