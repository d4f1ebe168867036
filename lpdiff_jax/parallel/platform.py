"""The devices that JAX was asked for: whether they are there, in a sentence."""

import os

from lpdiff_jax.errors import UserError


def require_platform() -> None:
    """Starts JAX's backend; call it before a model is loaded, after the processes have met.

    Raises:
      UserError: the environment asks for devices (`JAX_PLATFORMS`) that are not there, or they
        cannot be used.
    """
    import jax

    try:
        jax.devices()
    except Exception as error:  # with the CUDA plugin missing a bare AssertionError
        asked = os.environ.get("JAX_PLATFORMS", "")
        why = (str(error).strip().splitlines() or ["no such device, or no support for it"])[0]
        advice = f"JAX_PLATFORMS is {asked!r}: unset it, or set it to 'cpu'" if asked else "see JAX"
        raise UserError(f"JAX finds no device to compute on ({why[:300]}); {advice}") from error
