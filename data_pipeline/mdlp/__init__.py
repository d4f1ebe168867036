"""MDLP, the data set of LP-Diff: its tree's reader here, its TFDS builder beside it.

`mdlp_dataset_builder` follows the conventions of tensorflow-datasets (README.md, CITATIONS.bib,
TAGS.txt, checksums.tsv, dummy_data) and is imported only by those who have TFDS.
"""

from data_pipeline.mdlp.reader import (
    LABELS_FILE,
    LEFT_OUT_FILE,
    find_groups,
    find_splits,
    read_labels,
    side_files,
    texts_of,
)

__all__ = [
    "LABELS_FILE",
    "LEFT_OUT_FILE",
    "find_groups",
    "find_splits",
    "read_labels",
    "side_files",
    "texts_of",
]
