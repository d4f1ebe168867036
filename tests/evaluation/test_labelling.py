"""Pseudo-labels: what is taken, what is left out, and what stays untouched."""

import json

import numpy as np
import pytest

from data_pipeline.sources import open_source
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.reading import labelling
from lpdiff_jax.plate_text import Reading

READINGS = {
    0: (("京A12345", 0.99), ("京A12345", 0.95)),
    10: (("京A12345", 0.99), ("京A12346", 0.99)),
    20: (("京A12345", 0.99), ("京A12345", 0.5)),
    30: (("12345", 0.99), ("12345", 0.99)),
    40: (("沪AD12345", 0.99), ("沪AD12345", 0.99)),
}


class ByLevel:
    """Reads the first image, in colour, and the second, in grey, as the grey level says."""

    def read(self, images):
        found = READINGS[round(float(images[0].mean()))]
        return [Reading(text, confidence, (confidence,) * len(text)) for text, confidence in found]


@pytest.fixture
def unlabelled(tree):
    (tree / "labels.json").unlink()
    return tree


def make_labels(root):
    found = labelling.label_plates(open_source(root, "val"), ByLevel())
    return labelling.of_split("val", found)


def test_agreement_confidence_and_pattern_decide(unlabelled):
    labels = make_labels(unlabelled)
    texts = [label.text for label in labels]
    assert texts == ["京A12345", "", "", "", "沪AD12345"]
    for label, reason in zip(labels[1:4], ("in grey", "0.50", "no plate"), strict=True):
        assert reason in label.fault


def test_files_and_existing_labels(unlabelled):
    (unlabelled / "labels.json").write_text(json.dumps({"00": "粤B00000"}))
    labelling.write_labels(unlabelled, make_labels(unlabelled))
    written = json.loads((unlabelled / "labels.json").read_text())
    assert written == {"00": "粤B00000", "val/04": "沪AD12345"}
    left_out = json.loads((unlabelled / "labels_left_out.json").read_text())
    assert [entry["name"] for entry in left_out] == ["val/01", "val/02", "val/03"]
    source = open_source(unlabelled, "val")
    assert [source[i].text for i in range(5)] == ["粤B00000", None, None, None, "沪AD12345"]


def test_a_damaged_image_is_left_out_and_named(unlabelled):
    (unlabelled / "val/gt/00/img_9.png").write_bytes(b"")
    labels = make_labels(unlabelled)
    assert "empty" in labels[0].fault
    assert labels[4].text == "沪AD12345"


def test_a_pattern_that_is_none(unlabelled):
    with pytest.raises(UserError, match="not a regular expression"):
        list(labelling.label_plates(open_source(unlabelled, "val"), ByLevel(), pattern="["))


def test_grey_is_read_beside_colour(unlabelled):
    seen = []

    class Keeps:
        def read(self, images):
            seen.append(images)
            return [Reading("", 0.0, ())] * 2

    list(labelling.label_plates(open_source(unlabelled, "val"), Keeps()))
    assert seen[0].shape[0] == 2
    assert (np.ptp(seen[0][1], axis=-1) == 0).all()
