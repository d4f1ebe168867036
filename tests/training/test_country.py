"""A configuration for the plates of a style: its characters are those that the head can read."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs import country
from data_pipeline.errors import DataError
from data_pipeline.example import encode_text
from data_pipeline.sources import open_source
from data_pipeline.synthetic.styles import STYLE_DIRECTORY, load_style, style_names
from data_pipeline.synthetic.texts import alphabet, matches, sample_text
from lpdiff_jax.evaluation.report.summary import score_reading
from lpdiff_jax.methods import registry
from lpdiff_jax.plate_text import UNKNOWN, slot_labels
from lpdiff_jax.training.data import data_root


@pytest.mark.parametrize("name", style_names())
def test_the_head_can_read_every_plate_of_the_style(name):
    reader = country.get_config(name).model.reader
    rng = np.random.default_rng(0)
    texts = [sample_text(load_style(name), rng, uniform=True) for _ in range(200)]
    labels = slot_labels(
        jnp.stack([encode_text(text) for text in texts]), reader.charset, reader.slots
    )
    assert not (labels == UNKNOWN).any()
    assert set("".join(texts)) <= set(alphabet(load_style(name)))


def test_a_style_file_is_drawn_and_its_stages_are_built(tmp_path):
    path = tmp_path / "mine.json"
    style = json.loads((STYLE_DIRECTORY / "eu-france.json").read_text())
    path.write_text(json.dumps(style | {"patterns": {"dddddss": 1}}))
    config = country.get_config(str(path))
    assert config.model.reader.charset == "0123456789ABCDEFGHJKLMNPQRSTVWXYZ"
    assert [s.name for s in registry.build(config).stages(config, ())] == list(config.stages)
    config.data.synthetic.update(groups=1, val_groups=3)
    source = open_source(data_root(config.data, tmp_path), "val")
    assert all(matches(load_style(str(path)), source[i].text) for i in range(3))


def test_the_size_is_a_second_part():
    small, large = (country.get_config(f"br-mercosur{s}") for s in ("", ",compact"))
    assert small.data.synthetic.styles == large.data.synthetic.styles == ("br-mercosur",)
    assert small.psi.steps < large.psi.steps


def test_a_style_that_is_not_there_is_named():
    with pytest.raises(DataError, match="atlantis: no such plate style; choose of"):
        country.get_config("atlantis")
    with pytest.raises(DataError, match="'huge': no such size; choose of quickstart, compact"):
        country.get_config("eu-france,huge")


def test_a_plate_without_a_province_counts_whole():
    assert score_reading("AB123CD", "AB123CD")["acc_without_province"] == 1
    wrong = score_reading("XB123CD", "AB123CD")
    assert wrong["acc_without_province"] == 0
    assert wrong["ned_without_province"] == pytest.approx(1 / 7)
    assert score_reading("京A12345", "皖A12345")["acc_without_province"] == 1
