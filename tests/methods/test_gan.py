"""A generator and a discriminator on the seam: one gradient, two optimisers."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.cli import main
from lpdiff_jax.errors import Preempted
from lpdiff_jax.images import to_float
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.base import Stage
from lpdiff_jax.methods.regression import Regression
from lpdiff_jax.parallel import devices
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.storage.checkpoint import saved_steps, stage_directory
from lpdiff_jax.training.loop import train
from tests.methods.small_regression import regression_config


class Generator(nn.Module):
    """One convolution on top of the mean frame."""

    @nn.compact
    def __call__(self, x, mean, train=False):
        return mean + nn.Conv(3, (3, 3), name="conv")(x)


class Discriminator(nn.Module):
    """Two convolutions under spectral norm, whose iterations are statistics."""

    @nn.compact
    def __call__(self, x, train=False):
        first, last = nn.Conv(4, (3, 3), name="first"), nn.Conv(1, (3, 3), name="last")
        x = nn.leaky_relu(nn.SpectralNorm(first)(x, update_stats=train))
        return nn.SpectralNorm(last)(x, update_stats=train).mean((1, 2, 3))


@dataclasses.dataclass(frozen=True)
class TinyGan(Regression):
    """A regression whose generator a discriminator judges."""

    critic: Any = dataclasses.field(default_factory=Discriminator)

    def stages(self, config, known):
        del known

        def loss(variables, batch, key, train):
            del key
            target = to_float(batch["target"])
            inputs = self._inputs(to_float(batch["frames"]), batch["frame_mask"])
            fake = self.network.apply(variables["network"], *inputs)
            stop = jax.lax.stop_gradient
            critic = variables["critic"]
            # One gradient of both losses equals theirs taken in turn, at the old parameters.
            to_please = self.critic.apply(stop(critic), fake)
            real, stats = self._judge(critic, target, train)
            made, _ = self._judge(critic, stop(fake), False)
            generator = jnp.abs(fake - target).mean((1, 2, 3)) - 0.1 * to_please
            discriminator = nn.relu(1 - real) + nn.relu(1 + made)
            metrics = {"generator": generator, "discriminator": discriminator}
            return generator + discriminator, metrics, {"critic": stats}

        return (
            Stage(
                "gan", ("network", "critic"), loss, ("network",), self._helpers,
                ("generator", "discriminator"),
            ),
        )  # fmt: skip

    def _judge(self, critic, image, train):
        judged, updated = self.critic.apply(critic, image, train=train, mutable=["batch_stats"])
        return judged, updated["batch_stats"]

    def _helpers(self, key, variables):
        del variables
        return {"critic": self.critic.init(key, jnp.zeros((1, *self.image_size, 3)))}


def tiny_gan(section):
    return TinyGan(tuple(section["image_size"]), Generator(), count=2)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "gan", tiny_gan)


def gan_config(root, parallel="pmap"):
    config = regression_config(root)
    with config.unlocked():
        config.method, config.stages, config.parallel = "gan", ("gan",), parallel
        config.gan = config.regression
        config.gan.own = {"critic": {"learning_rate": 1e-2}}
    return config


@pytest.mark.parametrize("parallel", ["pmap", "jit"])
def test_it_trains_resumes_to_the_bit_and_ships_no_discriminator(
    plates, tmp_path, monkeypatch, capsys, parallel
):
    expected = train(gan_config(plates, parallel), tmp_path / "alone")
    assert expected.keys() == {"network"}
    assert "gan 6/6  generator" in capsys.readouterr().out
    answers = iter([False] * 4 + [True])
    monkeypatch.setattr(devices.StopRequest, "received", lambda self: next(answers, False))
    with pytest.raises(Preempted, match="gan: stopped at step 4"):
        train(gan_config(plates, parallel), tmp_path / "stopped")
    found = train(gan_config(plates, parallel), tmp_path / "stopped")
    assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))
    newest = [sums(tmp_path / name) for name in ("alone", "stopped")]
    assert newest[0] == newest[1] and any("critic" in name for name in newest[0]["training"])
    assert not any("critic" in name for name in newest[0]["networks"])
    assert Restorer.load(tmp_path / "alone").variables.keys() == {"network"}
    assert main(["pack", str(tmp_path / "alone"), str(tmp_path / "packed")]) == 0
    assert Restorer.load(tmp_path / "packed").variables.keys() == {"network"}


def sums(workdir) -> dict:
    """The checksums of the newest checkpoint's arrays, by item."""
    import json

    directory = stage_directory(workdir, "gan")
    path = directory / str(saved_steps(directory)[0]) / "record" / "metadata"
    return json.loads(path.read_text())["arrays"]


def test_both_losses_reach_their_own_network_alone(plates):
    """The gradient of the sum, against the two taken one by one."""
    method = tiny_gan({"image_size": (8, 16)})
    (stage,) = method.stages(gan_config(plates), ())
    key = jax.random.key(0)
    variables = method.init(key, ("network",))
    variables |= stage.helpers(key, variables)
    rng = np.random.default_rng(0)
    batch = {
        "frames": rng.integers(0, 256, (4, 2, 8, 16, 3), np.uint8),
        "frame_mask": np.ones((4, 2), bool),
        "target": rng.integers(0, 256, (4, 8, 16, 3), np.uint8),
    }

    def of(name):
        def value(params):
            own = {n: {**variables[n], "params": params[n]} for n in params}
            loss, metrics, _ = stage.loss(own, batch, key, True)
            return (loss if name == "both" else metrics[name]).mean()

        return jax.grad(value)({n: tree["params"] for n, tree in variables.items()})

    both, generator, discriminator = of("both"), of("generator"), of("discriminator")
    for network, alone, other in (
        ("network", generator, discriminator),
        ("critic", discriminator, generator),
    ):
        assert jax.tree.all(jax.tree.map(np.array_equal, both[network], alone[network]))
        assert max(np.abs(x).max() for x in jax.tree.leaves(other[network])) == 0
