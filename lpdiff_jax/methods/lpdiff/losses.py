"""LP-Diff's networks on a training batch, and the losses of single samples."""

import jax
import jax.numpy as jnp
import optax

from lpdiff_jax.images import to_float
from lpdiff_jax.methods.base import Batch, Params, Variables
from lpdiff_jax.methods.lpdiff.model import Guide, LPDiff
from lpdiff_jax.models.condition import Seen
from lpdiff_jax.models.reading_head import ReadingHead
from lpdiff_jax.models.straightening import corners_of
from lpdiff_jax.plate_text import slot_labels


def apply_condition(
    model: LPDiff, variables: Variables, batch: Batch, train: bool
) -> tuple[Seen, Params]:
    """What the condition network sees in a batch, and its new statistics by its name, if any."""
    stats = variables["condition"].get("batch_stats")
    seen, updated = model.condition.apply(
        variables["condition"],
        to_float(batch["frames"]),
        batch["frame_mask"],
        train=train and stats is not None,
        mutable=["batch_stats"],
        method="estimate",
    )
    return Seen(*seen), {} if stats is None else {"condition": updated["batch_stats"]}


def guide_of(model: LPDiff, variables: Variables, seen: Seen, batch: Batch, train: bool) -> Guide:
    """What the denoiser is conditioned on for a batch; see `LPDiff.guide`.

    Training shows the sketch the true texts; a validation judges with what the head reads, as
    restoring has it.
    """
    frames, mask, truth = to_float(batch["frames"]), batch["frame_mask"], None
    if train and model.sketch is not None and model.sketch.text == "likeliest":
        assert model.reader is not None and model.slot_reader is not None  # it draws their text
        truth = slot_labels(batch["text"], model.slot_reader.charset, model.reader.slots)
    return model.guide(variables, seen.psi, seen.features, frames, mask, truth)


def psi_loss(
    psi: jax.Array, target: jax.Array, gradient_weight: float, shift: int = 0
) -> jax.Array:
    """L1 of pixels, plus weighted L1 of their gradients: [B].

    Args:
      psi: [B, H, W, 3].
      target: [B, H, W, 3].
      gradient_weight: the weight of the gradients' term.
      shift: for pairs that are not aligned: the smallest loss over all shifts of up to this number
        of pixels counts; 0 compares in place.
    """
    if shift == 0:
        return _l1_with_gradients(psi, target, gradient_weight)
    height, width = psi.shape[1:3]
    inner = psi[:, shift : height - shift, shift : width - shift]
    losses = [
        _l1_with_gradients(
            inner, target[:, dy : dy + inner.shape[1], dx : dx + inner.shape[2]], gradient_weight
        )
        for dy in range(2 * shift + 1)
        for dx in range(2 * shift + 1)
    ]
    return jnp.stack(losses).min(0)


def _l1_with_gradients(a: jax.Array, b: jax.Array, gradient_weight: float) -> jax.Array:
    error = a - b
    loss = jnp.abs(error).mean((1, 2, 3))
    if gradient_weight:
        rows = jnp.abs(jnp.diff(error, axis=1)).mean((1, 2, 3))
        columns = jnp.abs(jnp.diff(error, axis=2)).mean((1, 2, 3))
        loss = loss + gradient_weight * (rows + columns)
    return loss


def sketch_loss(drawing: jax.Array, residual: jax.Array) -> jax.Array:
    """Mean squared error of a drawn residual: [B]."""
    return jnp.square(drawing - residual).mean((1, 2, 3))


def reading_loss(
    head: ReadingHead, logits: jax.Array, labels: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The reading head's loss per slot, and the share that it reads right: [B] each.

    Cross-entropy of the slots, or of all alignments of the columns (CTC).

    Args:
      head: the reading head that made the logits.
      logits: the logits of the slots [B, S, C]; with 'ctc' of the columns [B, w, C].
      labels: int32 [B, S]; a plate that is not labelled has negative slots and costs nothing.
    """
    labelled = (labels >= 0).all(1)
    known = jnp.maximum(labels, 0)
    if head.alignment == "ctc":
        behind = (known == 0).astype(logits.dtype)
        costs = optax.ctc_loss(logits, jnp.zeros(logits.shape[:2]), known, behind)
        loss = costs / head.slots * labelled
    else:
        costs = optax.softmax_cross_entropy_with_integer_labels(logits, known)
        loss = costs.mean(1) * labelled
    right = head.probabilities(logits).argmax(-1) == labels
    watched = {"characters": right.mean(1), "plates": right.all(1).astype(jnp.float32)}
    return loss, {"reading_loss": loss} | watched


def place_loss(
    places: jax.Array, truth: jax.Array, corners: jax.Array, mask: jax.Array
) -> jax.Array:
    """How far the plate's corners are from where they were found, a coordinate on average: [B].

    Args:
      places: [B, N, 2, 3], found in the frames.
      truth: [B, 2, 3], expected in the ground truth.
      corners: [B, N + 1, 4, 2] in the frames and the ground truth; NaN where they are not known,
        which costs nothing.
      mask: [B, N] bool, False for frames that are padding.
    """
    found = corners_of(jnp.concatenate([places, truth[:, None]], axis=1))
    known = jnp.isfinite(corners).all((2, 3)) & jnp.pad(
        mask, ((0, 0), (0, 1)), constant_values=True
    )
    distance = jnp.abs(found - jnp.where(known[..., None, None], corners, 0)).mean((2, 3))
    return (distance * known).sum(1) / jnp.maximum(known.sum(1), 1)
