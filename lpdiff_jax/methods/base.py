"""What a stage of training is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from lpdiff_jax.images import to_float
from lpdiff_jax.methods.lpdiff.model import NETWORKS, LPDiff, Variables

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
Params = dict[str, Any]

# A stage that distils keeps its frozen teacher under this name, beside the networks.
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
      name: of its section of the configuration.
      trained: the networks whose parameters it changes.
      loss: (variables, batch, key, train) -> (loss, metrics by name, batch statistics by network);
        losses and metrics are of each sample, [B].
      networks: that are part of its state, as far as the model has them.
      uses_teacher: whether a frozen copy of the denoiser, as the stage finds it, is too.
    """

    name: str
    trained: tuple[str, ...]
    loss: Callable[[Variables, Batch, jax.Array, bool], tuple[jax.Array, Metrics, Params]]
    networks: tuple[str, ...] = NETWORKS
    uses_teacher: bool = False


def apply_condition(
    model: LPDiff, variables: Variables, batch: Batch, train: bool
) -> tuple[jax.Array, jax.Array, Params]:
    """psi [B, H, W, 3] of a batch, the features that the reading head reads, new statistics.

    The last are the condition network's, by its name, if it has any.
    """
    stats = variables["condition"].get("batch_stats")
    (psi, features), updated = model.condition.apply(
        variables["condition"],
        to_float(batch["frames"]),
        batch["frame_mask"],
        train=train and stats is not None,
        mutable=["batch_stats"],
        method="estimate",
    )
    return psi, features, {} if stats is None else {"condition": updated["batch_stats"]}


def guide_of(
    model: LPDiff, variables: Variables, psi: jax.Array, features: jax.Array, batch: Batch
) -> jax.Array:
    """What the denoiser is conditioned on for a batch; see `LPDiff.guide`."""
    frames, mask = to_float(batch["frames"]), batch["frame_mask"]
    return model.guide(variables, psi, features, frames, mask)
