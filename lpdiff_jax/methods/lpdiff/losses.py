"""Losses of single samples, and what is watched beside them."""

import jax
import jax.numpy as jnp
import optax

from lpdiff_jax.models.reading_head import ReadingHead


def psi_loss(
    psi: jax.Array, target: jax.Array, gradient_weight: float, shift: int = 0
) -> jax.Array:
    """L1 of pixels, plus weighted L1 of their gradients: [B].

    Args:
      psi: [B, H, W, 3].
      target: [B, H, W, 3].
      gradient_weight: weight of the gradients' term.
      shift: the smallest loss over all shifts of up to so many pixels counts, for pairs that are
        not aligned; 0 compares in place.
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
    """The reading head's loss a slot, and what share it reads right: [B] each.

    Cross-entropy of the slots, or of all alignments of the columns (CTC).

    Args:
      head: whose logits they are.
      logits: [B, S, C], of columns [B, w, C] with 'ctc'.
      labels: int32 [B, S]; plates that are not labelled, all slots negative, cost nothing.
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


def psnr(images: jax.Array, target: jax.Array) -> jax.Array:
    """PSNR [B] in dB of images in [-1, 1], not rounded to 8 bits: for watching, not reporting."""
    squared = jnp.square(jnp.clip(images, -1, 1) - target).mean((1, 2, 3))
    return 10 * jnp.log10(4 / jnp.maximum(squared, 1e-8))


def by_noise_level(losses: jax.Array, level: jax.Array, bins: int = 4) -> dict[str, jax.Array]:
    """Each sample's loss and a one, [B], under the name of its quarter of the noise level.

    Means of both over any samples, the loss's divided by the one's, are a quarter's mean loss.
    """
    quarter = jnp.minimum((level * bins).astype(jnp.int32), bins - 1)
    metrics: dict[str, jax.Array] = {}
    for i in range(bins):
        member = (quarter == i).astype(losses.dtype)
        metrics |= {f"level_{i}_sum": losses * member, f"level_{i}_count": member}
    return metrics


def fold_levels(means: dict[str, float]) -> dict[str, float]:
    """Turns the means of what `by_noise_level` gives into `loss_level_<quarter>`."""
    folded = {n: v for n, v in means.items() if not n.endswith(("_sum", "_count"))}
    for name, count in means.items():
        if name.endswith("_count") and count:
            level = name.removesuffix("_count")
            folded[f"loss_{level}"] = means[f"{level}_sum"] / count
    return folded
