"""What a report has to say about the data: bad groups, and plates that training has seen."""

from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.layouts import detect_layout
from data_pipeline.shards import is_shards
from data_pipeline.sources import open_source

_SHOWN = 5


def group_problems(root: Path, split: str) -> list[str]:
    """What keeps groups of a split from being used, and labels of groups that are not there."""
    if is_shards(root):
        return []  # `lpdiff prepare` has left such groups out, and said so
    return [str(problem) for problem in detect_layout(root).find_groups(root, split)[1]]


def seen_in_training(root: Path, split: str, training_root: Path) -> list[str]:
    """A warning when plates of the split that is judged are in the training split too.

    Args:
      root: the data that are judged.
      split: the split that is judged.
      training_root: the data that the model was trained on; without them there is no warning.
    """
    if (root, split) == (training_root, "train"):
        return ["these are the plates that the model was trained on"]
    try:
        known = plate_texts(training_root, "train")
    except DataError:
        return []
    texts = plate_texts(root, split)
    shared = sorted(set(texts) & set(known))
    if not shared:
        return []
    count = sum(text in shared for text in texts)
    return [
        f"{count} of {len(texts)} labelled plates carry a text that is in the training split too, "
        f"so that a model may have learned it by heart: {', '.join(shared[:_SHOWN])}"
        + (", ..." if len(shared) > _SHOWN else "")
    ]


def plate_texts(root: Path, split: str) -> list[str]:
    """The texts of a split's labelled groups; a raw tree's images are not opened."""
    if not is_shards(root):
        groups = detect_layout(root).find_groups(root, split)[0]
        return [group.text for group in groups if group.text]
    source = open_source(root, split)
    return [text for i in range(len(source)) if (text := source[i].text)]
