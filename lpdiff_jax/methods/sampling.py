"""How methods that diffuse a residual draw: which sampler is meant."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lpdiff_jax.diffusion.samplers import Sampler
from lpdiff_jax.diffusion.schedule import NoiseSchedule
from lpdiff_jax.errors import UserError, explained_section


def choose_sampler(
    schedule: NoiseSchedule,
    defaults: Mapping[str, Any],
    sampler: str | Sampler | None = None,
    steps: int | None = None,
) -> Sampler:
    """The sampler asked for; what is left open is as the `sampler` section has it.

    Args:
      schedule: what the sampler steps through.
      defaults: the configuration's section `sampler`.
      sampler: a name of `diffusion.samplers`, or a whole `Sampler`.
      steps: the number of calls of the denoiser.

    Raises:
      UserError: a sampler or a number of steps that does not exist.
    """
    with explained_section("sampler"):
        chosen = sampler if isinstance(sampler, Sampler) else Sampler(**defaults)
    changes: dict[str, Any] = {"name": sampler} if isinstance(sampler, str) else {}
    changes |= {} if steps is None else {"steps": steps}
    try:
        chosen = dataclasses.replace(chosen, **changes)
        chosen.steps_of(schedule)
    except ValueError as error:
        raise UserError(str(error)) from error
    return chosen
