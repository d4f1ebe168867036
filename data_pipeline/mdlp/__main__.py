"""MDLP as a TFDS data set, built without TensorFlow: `python -m data_pipeline.mdlp --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_pipeline.errors import DataError


def main(argv: Sequence[str] | None = None) -> int:
    """Builds the data set, or records a checksum; returns 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m data_pipeline.mdlp", description=__doc__)
    parser.add_argument("--manual-dir", type=Path, help="has MDLP.zip, or the unpacked MDLP/")
    parser.add_argument("--data-dir", type=Path, help="where to write (default: TFDS's own place)")
    parser.add_argument(
        "--download", action="store_true", help="try the authors' file, if it is not there yet"
    )
    parser.add_argument(
        "--register-checksum", type=Path, metavar="ARCHIVE",
        help="build nothing: record size and sha256 of the authors' file in checksums.tsv",
    )  # fmt: skip
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except (DataError, AssertionError) as error:  # the latter of TFDS, for an empty manual folder
        print(f"data_pipeline.mdlp: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError("TFDS is not installed: pip install 'lpdiff-jax[data]'") from error
    from data_pipeline.mdlp.mdlp_dataset_builder import Builder, register_checksum

    if args.register_checksum:
        print(register_checksum(args.register_checksum), end="")
        return 0
    builder = Builder(data_dir=args.data_dir, allow_download=args.download)
    config = tfds.download.DownloadConfig(manual_dir=args.manual_dir)
    builder.download_and_prepare(download_config=config)
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    print(f"{builder.data_dir}: {', '.join(f'{s}: {n} groups' for s, n in counts.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
