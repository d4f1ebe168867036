"""`lpdiff restore`: a user's own frames in, restored plates out."""

import argparse
import json
import sys

HELP = "restore plates from their frames: a folder is a plate, a folder of folders many"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="folder, image or video")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--model",
        help="work directory, model directory or ..._gen.pth (default: the packaged model)",
    )
    parser.add_argument("--steps", type=int, help="denoiser calls (default: the model's)")
    parser.add_argument("--sampler", help="sampler (default: the model's)")
    parser.add_argument("--samples", type=int, default=1, help="restorations a plate (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument(
        "--max-frames", type=int, default=5, help="frames used of each plate (default 5)"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="plates at a time (default 16)")
    parser.add_argument(
        "--dtype", help="precision: float32, bfloat16 or float16 (default: the model's)"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(args: argparse.Namespace) -> int:
    """Restores every group; returns 2 when some could not be, after the others are done."""
    from lpdiff_jax.compilation import enable_compilation_cache
    from lpdiff_jax.restoring.files import restore_files
    from lpdiff_jax.restoring.plates import Options
    from lpdiff_jax.restoring.restorer import Restorer

    enable_compilation_cache()
    options = Options(
        steps=args.steps,
        sampler=args.sampler,
        samples=args.samples,
        seed=args.seed,
        max_frames=args.max_frames,
        batch_size=args.batch_size,
    )
    restorer = Restorer.load(args.model, dtype=args.dtype)
    summary = restore_files(restorer, args.inputs, args.output, options, progress=_progress)
    for problem in summary["problems"]:
        print(f"left out: {problem}", file=sys.stderr)
    plates = len(summary["plates"])
    if args.json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        first = restorer.method.first_picture
        if first and not restorer.draws_vary:
            print(f"this model has nothing yet that goes on from {first}: the plates are {first}")
        folders = "".join(f"{name}/, " for name in ("restored", first, "sheets") if name)
        print(f"{plates} plates in {args.output}: {folders}restore.json")
    return 2 if summary["problems"] else 0


def _progress(done: int, total: int) -> None:
    print(f"{done}/{total} plates", file=sys.stderr, flush=True)
