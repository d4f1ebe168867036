"""`lpdiff restore`: a user's own frames in, restored plates out."""

import argparse
import json
import sys
from typing import Any

from lpdiff_jax.cli import arguments

HELP = "restore plates from frames: one folder per plate, a picture or a video"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "inputs", type=arguments.path, nargs="+", metavar="INPUT", help="folder, image or video"
    )
    parser.add_argument(
        "--output",
        type=arguments.path,
        required=True,
        metavar="DIR",
        help="where the results go",
    )
    parser.add_argument(
        "--model",
        type=arguments.path,
        help="work directory, model directory or ..._gen.pth (default: the packaged model)",
    )
    _add_places(parser.add_argument_group("where the plates are"))
    _add_drawing(parser.add_argument_group("how to restore"))
    _add_results(parser.add_argument_group("what comes out"))


def _add_places(group: Any) -> None:
    group.add_argument(
        "--box",
        action="append",
        metavar="X,Y,W,H[@TIME]",
        help="where the plate is, pixels, or its 8 corners; several with times: it moves",
    )
    group.add_argument(
        "--boxes",
        type=arguments.path,
        metavar="FILE",
        help="plates, frame by frame: CSV, JSON, MOT, COCO, LabelMe, YOLO",
    )
    group.add_argument(
        "--detect", metavar="MODEL.onnx",
        help="find plates with a detector; 'fetched' takes that of lpdiff fetch-weights detector",
    )  # fmt: skip
    group.add_argument("--from", dest="start", metavar="TIME", help="first moment of videos")
    group.add_argument("--to", dest="stop", metavar="TIME", help="last moment of videos (1:02.5)")
    group.add_argument("--every", metavar="TIME", help="seconds between frames of videos")
    group.add_argument(
        "--force", action="store_true", help="restore what does not look like a plate's crop, too"
    )
    group.add_argument(
        "--max-frames",
        type=arguments.whole(1, 1000),
        default=5,
        help="most frames used per plate: the nearest ones (default 5)",
    )


def _add_drawing(group: Any) -> None:
    group.add_argument(
        "--steps", type=arguments.STEPS, help="denoiser calls (default: the model's)"
    )
    group.add_argument("--sampler", help="sampler (default: the model's)")
    group.add_argument(
        "--samples",
        type=arguments.whole(1, 256),
        default=1,
        help="restorations per plate (default 1)",
    )
    group.add_argument(
        "--seed", type=arguments.seed, default=0, help="seed of the noise (default 0)"
    )
    group.add_argument(
        "--batch-size",
        type=arguments.whole(1, 4096),
        default=16,
        help="plates at a time (default 16)",
    )
    group.add_argument(
        "--dtype", help="precision: float32, bfloat16 or float16 (default: the model's)"
    )


def _add_results(group: Any) -> None:
    group.add_argument(
        "--scale",
        type=arguments.whole(1, 16),
        default=4,
        help="enlargement of the pictures (default 4)",
    )
    group.add_argument(
        "--native", action="store_true", help="also write the model's own pixels, unmarked"
    )
    group.add_argument(
        "--hypotheses",
        type=arguments.whole(1, 1000),
        default=5,
        metavar="N",
        help="likeliest texts (default 5)",
    )
    group.add_argument(
        "--no-syntax", action="store_true", help="hypotheses may be texts that no plate has"
    )
    group.add_argument(
        "--overwrite", action="store_true", help="remove results of other settings in DIR"
    )
    group.add_argument("--quiet", action="store_true", help="say nothing but what went wrong")
    group.add_argument("--json", action="store_true", help="print restore.json")


def run(args: argparse.Namespace) -> int:
    """Restores every plate; returns 2 when some could not be, after the others are done."""
    from lpdiff_jax.compilation import enable_compilation_cache
    from lpdiff_jax.restoring.files import RESULTS, restore_to_folder
    from lpdiff_jax.restoring.plates import Options
    from lpdiff_jax.restoring.provenance import identify_model
    from lpdiff_jax.restoring.restorer import Restorer
    from lpdiff_jax.restoring.terminal import make_progress, plate_line, say

    folder = enable_compilation_cache()
    options = Options(
        steps=args.steps,
        sampler=args.sampler,
        samples=args.samples,
        seed=args.seed,
        max_frames=args.max_frames,
        batch_size=args.batch_size,
    )
    files = _file_options(args)
    restorer = Restorer.load(args.model, dtype=args.dtype, programs=folder)
    progress = make_progress(args.quiet)
    speaks = not (args.quiet or args.json)
    counts = {"plates": 0}

    def on_plate(entry: Any, plate: Any) -> None:
        del plate
        counts["plates"] += 1
        if speaks:
            say(plate_line(entry))

    try:
        problems = restore_to_folder(
            restorer,
            args.inputs,
            args.output,
            options,
            progress,
            files=files,
            model=identify_model(args.model, restorer),
            on_plate=on_plate,
        )
    finally:
        progress.close()
    for problem in problems:
        say(f"left out: {problem}", sys.stderr)
    if args.json:
        say_json((args.output / RESULTS).read_text(encoding="utf-8"))
    elif speaks:
        first = restorer.method.first_picture
        if first and not restorer.draws_vary:
            say(f"this model has nothing yet that goes on from {first}: the plates are {first}")
        say(
            f"{counts['plates']} plates in {args.output}: index.html, restored/, sheets/, {RESULTS}"
        )
    return 2 if problems else 0


def say_json(text: str) -> None:
    """Prints JSON; what the terminal's encoding lacks is escaped as JSON has it."""
    try:
        print(text, end="")
    except UnicodeEncodeError:
        print(json.dumps(json.loads(text)))


def _file_options(args: argparse.Namespace) -> Any:
    from lpdiff_jax.restoring.boxes import parse_boxes, read_boxes
    from lpdiff_jax.restoring.files import FileOptions
    from lpdiff_jax.restoring.video import Clip, parse_time

    clip = Clip(
        parse_time(args.start) if args.start else 0.0,
        parse_time(args.stop) if args.stop else None,
        parse_time(args.every) if args.every else 0.0,
    )
    return FileOptions(
        scale=args.scale,
        native=args.native,
        hypotheses=args.hypotheses,
        syntax=not args.no_syntax,
        overwrite=args.overwrite,
        clip=clip,
        box=parse_boxes(args.box) if args.box else None,
        boxes=tuple(read_boxes(args.boxes)) if args.boxes else (),
        detector=load_named_detector(args.detect) if args.detect else None,
        force=args.force,
    )


def load_named_detector(name: str) -> Any:
    """The detector of a file, or the one that was fetched."""
    from lpdiff_jax.restoring.detectors import load_detector
    from lpdiff_jax.restoring.inputs import local_path
    from lpdiff_jax.storage import weights

    if name == "fetched":
        return load_detector(weights.locate(weights.DETECTOR))
    return load_detector(local_path(name))
