"""The methods by the name that a configuration calls them: the only list of them."""

from collections.abc import Callable, Mapping
from typing import Any

from lpdiff_jax.errors import UserError, explained_section
from lpdiff_jax.methods.base import Method
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.methods.real_esrgan.model import build_real_esrgan
from lpdiff_jax.methods.regression import build_regression
from lpdiff_jax.methods.resdiff.model import build_resdiff
from lpdiff_jax.methods.resshift.model import build_resshift

# What a configuration or a stored model means that names no method.
DEFAULT = "lpdiff"
# Name -> what makes a method of a configuration's `model` section.
METHODS: dict[str, Callable[[Mapping[str, Any]], Method]] = {
    "lpdiff": build_model,
    "regression": build_regression,
    "real_esrgan": build_real_esrgan,
    "resdiff": build_resdiff,
    "resshift": build_resshift,
}


def build(config: Mapping[str, Any]) -> Method:
    """Builds the method that a configuration, or a stored model's `config.json`, describes.

    Args:
      config: `method`, one of `METHODS` (`DEFAULT` where it is missing), and the section `model`.

    Raises:
      UserError: there is no such method, or its section does not fit.
    """
    name = config.get("method") or DEFAULT
    if name not in list(METHODS):
        raise UserError(f"method is {name!r}; allowed: {', '.join(METHODS)}")
    with explained_section("model"):
        section = config["model"]
    return METHODS[name](section)
