"""Distillation: a student whose one DDIM step does what several of its teacher's do.

The stages' names begin with 'distill'. The teacher is the denoiser as the stage found it, frozen;
psi is frozen too. A chain of stages, each of which halves the steps, is progressive distillation.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.objective import broadcast_level, diffuse, sigma, to_x0
from lpdiff_jax.diffusion.samplers import Sampler
from lpdiff_jax.errors import UserError, check_choice
from lpdiff_jax.images import to_float
from lpdiff_jax.methods.base import Batch, Metrics, Params, Stage, Variables
from lpdiff_jax.methods.lpdiff.losses import apply_condition, guide_of
from lpdiff_jax.methods.lpdiff.model import NETWORKS, Guide, LPDiff
from lpdiff_jax.methods.metrics import psnr
from lpdiff_jax.methods.noise import noise_of, sample_keys
from lpdiff_jax.models.dropout import per_sample_dropout

METHODS = ("progressive", "consistency")
# A stage that distils keeps its frozen teacher under this name, beside the networks.
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The levels that teacher and student visit.

    Attributes:
      levels: float32 [students * ratio + 1], the teacher's, falling from 1.
      ratio: the teacher's steps in one of the student's.
    """

    levels: np.ndarray
    ratio: int

    def segment_end(self, index: jax.Array) -> jax.Array:
        """Where the student's step from level `index` (1 and up) leads."""
        return (index - 1) // self.ratio * self.ratio


def make_plan(model: LPDiff, sampler: Any, student_steps: int, ratio: int) -> Plan:
    """The plan for a configuration's `sampler`, whose spacing and start are kept."""
    visited = Sampler(
        steps=student_steps * ratio, spacing=sampler["spacing"], start=sampler["start"]
    ).visited(model.schedule)
    return Plan(visited.noise_levels.astype(np.float32), ratio)


def distillation_stage(name: str, model: LPDiff, config: Any, sampler: Any) -> Stage:
    """Builds a stage.

    Args:
      name: the name of the stage.
      model: the method of teacher and student.
      config: the stage's section: `method`, `student_steps`, and `teacher_steps` (the teacher's in
        one of the student's).
        'progressive' (Salimans & Ho 2022): the student's step leads where the teacher's lead.
        'consistency' (multistep, Heek et al. 2024): the student's steps to a segment's end agree
        along the teacher's trajectory, one of the teacher's steps at a time.
      sampler: the configuration's section `sampler`.

    Raises:
      UserError: a choice that does not exist.
    """
    try:
        check_choice("method", config.method, METHODS)
        plan = make_plan(model, sampler, config.student_steps, config.teacher_steps)
    except ValueError as error:
        raise UserError(f"config.{name}: {error}") from error
    targets = progressive_target if config.method == "progressive" else consistency_target
    count = config.student_steps * (1 if config.method == "progressive" else plan.ratio)
    stride = plan.ratio if config.method == "progressive" else 1

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Params]:
        plate = to_float(batch["target"])
        seen, stats = apply_condition(model, variables, batch, False)
        psi, guide = seen.psi, guide_of(model, variables, seen, batch, train)
        keys = sample_keys(key, batch["position"])
        index = stride * draw_index(keys, batch["position"], config.batch_size, count)
        noise = noise_of(keys, plate.shape[1:])(1)
        level = jnp.asarray(plan.levels)[index]
        x_t = diffuse(model.residual(plate, psi), noise, level)
        wanted = jax.lax.stop_gradient(targets(model, variables, plan, guide, x_t, index))
        with per_sample_dropout(keys):
            output = model.denoise(variables, guide, x_t, level, train)
        error = jnp.abs(to_x0(model.prediction, output, x_t, level) - wanted).mean((1, 2, 3))
        # Salimans & Ho's truncated SNR, for an absolute instead of a squared error.
        value = error * jnp.maximum(level / sigma(level), 1)
        return value, {"psnr": psnr(psi, plate), "distillation_error": error}, stats

    return Stage(name, ("denoiser",), loss, NETWORKS, keep_teacher, ("loss", "psnr"))


def keep_teacher(key: jax.Array, variables: Variables) -> Variables:
    """The denoiser as the stage finds it."""
    del key
    # A copy: the step donates the state's arrays, none of which may be there twice.
    return {TEACHER: jax.tree.map(jnp.copy, variables["denoiser"])}


def draw_index(keys: jax.Array, position: jax.Array, batch: int, count: int) -> jax.Array:
    """An integer in 1..count a sample, spread evenly over the global batch: [B]."""
    jitter = jax.vmap(jax.random.uniform)(keys)
    share = (position + jitter) / batch
    return jnp.minimum(jnp.floor(share * count).astype(jnp.int32), count - 1) + 1


def progressive_target(
    model: LPDiff,
    variables: Variables,
    plan: Plan,
    guide: Guide,
    x_t: jax.Array,
    index: jax.Array,
) -> jax.Array:
    """The x_0 with which one step from x_t leads where the teacher's steps lead."""
    x = x_t
    for done in range(plan.ratio):
        x = _denoiser_step(
            model, variables[TEACHER], plan, guide, x, index - done, index - done - 1
        )
    return implied_x0(x_t, x, *_levels(plan, index, index - plan.ratio))


def consistency_target(
    model: LPDiff,
    variables: Variables,
    plan: Plan,
    guide: Guide,
    x_t: jax.Array,
    index: jax.Array,
) -> jax.Array:
    """The x_0 with which one step leads where the student itself leads from one step further on."""
    end = plan.segment_end(index)
    x = _denoiser_step(model, variables[TEACHER], plan, guide, x_t, index, index - 1)
    # At the segment's end already, there is no further step (from level 1 one would divide by 0).
    arrived = index - 1 == end
    further = _denoiser_step(
        model, variables["denoiser"], plan, guide, x, jnp.where(arrived, index, index - 1), end
    )
    x = jnp.where(broadcast_level(arrived, x), x, further)
    return implied_x0(x_t, x, *_levels(plan, index, end))


def ddim_step(x: jax.Array, x_0: jax.Array, level: jax.Array, after: jax.Array) -> jax.Array:
    """A deterministic step of each sample from its level [B] < 1 to its level `after` [B]."""
    ratio = sigma(after) / sigma(level)
    return broadcast_level(ratio, x) * x + broadcast_level(after - ratio * level, x) * x_0


def implied_x0(x: jax.Array, x_after: jax.Array, level: jax.Array, after: jax.Array) -> jax.Array:
    """The x_0 with which `ddim_step` leads from x to x_after."""
    ratio = sigma(after) / sigma(level)
    return (x_after - broadcast_level(ratio, x) * x) / broadcast_level(after - ratio * level, x)


def _denoiser_step(
    model: LPDiff, denoiser: Any, plan: Plan, guide: Guide, x: jax.Array,
    index: jax.Array, after: jax.Array,
) -> jax.Array:  # fmt: skip
    levels = _levels(plan, index, after)
    x_0 = model.predict_x0({"denoiser": denoiser}, guide, x, levels[0])
    return ddim_step(x, x_0, *levels)


def _levels(plan: Plan, *indices: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(plan.levels)[index] for index in indices)
