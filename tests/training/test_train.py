"""Training end to end, in this process and by the command."""

import pytest

from configs import compact, lpdiff, quickstart, released
from lpdiff_jax.restorer import Restorer
from lpdiff_jax.training.loop import train
from tests.training.tiny import tiny_config


def test_trains_both_stages_and_restores(plates, tmp_path, capsys):
    config = tiny_config(plates)
    train(config, tmp_path)
    printed = capsys.readouterr().out
    print(printed)
    assert "psi 6/6" in printed and "diffusion 6/6" in printed
    restorer = Restorer.load(tmp_path)
    assert restorer.has_diffusion and restorer.image_size == (8, 16)


@pytest.mark.slow
@pytest.mark.parametrize("config", [quickstart, compact, lpdiff, released])
def test_every_configuration_trains_a_few_steps(config, plates, tmp_path, capsys):
    config = config.get_config()
    config.data.root = str(plates)
    config.sheet_plates = 0
    config.update(log_every=1, validation_batches=1)
    for name in config.stages:
        config[name].update(steps=2, batch_size=2)
    train(config, tmp_path)
    printed = capsys.readouterr().out
    for name in config.stages:
        assert f"{name} 2/2  loss" in printed
        assert (tmp_path / "checkpoints" / name / "2").is_dir()
