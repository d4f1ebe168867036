"""Training end to end, in this process and by the command."""

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
    assert restorer.has_diffusion and restorer.image_size == (16, 32)
