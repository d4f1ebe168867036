"""`lpdiff label`: texts for a data set without labels, read from its ground truth."""

import argparse

from lpdiff_jax.cli import arguments

HELP = "make labels.json by reading the ground truth, where two readings agree"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("root", type=arguments.path, help="a tree in MDLP's layout")
    parser.add_argument("--split", help="label only this split (default: every split)")
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=0.9,
        help="least confidence of both readings (default 0.9)",
    )
    parser.add_argument(
        "--pattern", help="regular expression of a plate's text (default: Chinese civil plates)"
    )
    parser.add_argument("--weights-dir", type=arguments.path, help="where the reader's weights are")


def run(args: argparse.Namespace) -> None:
    """Adds to ROOT/labels.json, and writes what was left out to ROOT/labels_left_out.json."""
    from data_pipeline.sources import list_splits, open_source
    from lpdiff_jax.evaluation.reading import labelling
    from lpdiff_jax.evaluation.reading.ctc_reader import load_reader

    reader = load_reader(args.weights_dir)
    labels: list[labelling.Label] = []
    for split in [args.split] if args.split else list_splits(args.root):
        found = labelling.label_plates(
            open_source(args.root, split),
            reader,
            min_confidence=args.min_confidence,
            pattern=args.pattern or labelling.CHINESE_PLATE,
        )
        labels += labelling.of_split(split, found)
    written = labelling.write_labels(args.root, labels)
    print(f"{written}: {sum(not label.fault for label in labels)} plates labelled")
    left_out = [label for label in labels if label.fault]
    if left_out:
        print(f"{args.root / labelling.LEFT_OUT_FILE}: {len(left_out)} left out, for example:")
    for label in left_out[:5]:
        print(f"  {label.name}: {label.fault}")
