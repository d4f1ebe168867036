"""LP-Diff in JAX/Flax: several degraded frames of one licence plate in, the plate restored out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpdiff_jax.restoring.restorer import Restorer

__version__ = "0.1.0"
__all__ = ["Restorer", "__version__"]


def __getattr__(name: str) -> Any:
    # Restorer brings jax and flax with it: loaded on first use, so that the import stays quick.
    if name == "Restorer":
        from lpdiff_jax.restoring.restorer import Restorer

        return Restorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
