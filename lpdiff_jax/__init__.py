"""LP-Diff in JAX/Flax: several degraded frames of one licence plate in, the plate restored out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpdiff_jax.restoring.files import restore_files
    from lpdiff_jax.restoring.restorer import Restorer

__version__ = "0.1.0"
__all__ = ["Restorer", "__version__", "restore_files"]


def __getattr__(name: str) -> Any:
    # These bring jax and flax with them: loaded on first use, so that the import stays quick.
    if name == "Restorer":
        from lpdiff_jax.restoring.restorer import Restorer

        return Restorer
    if name == "restore_files":
        from lpdiff_jax.restoring.files import restore_files

        return restore_files
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
