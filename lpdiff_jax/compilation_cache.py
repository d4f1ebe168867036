"""Compiled functions are kept on disk, so that the next start does not compile again."""

import os
from pathlib import Path

VARIABLE = "LPDIFF_COMPILATION_CACHE"


def enable_compilation_cache() -> Path | None:
    """Turns JAX's persistent compilation cache on; call it before anything is compiled.

    The folder is that of the environment variable `LPDIFF_COMPILATION_CACHE` ('off': no cache),
    else JAX's own `JAX_COMPILATION_CACHE_DIR`, else `lpdiff/compiled` in the user's cache folder.

    Returns:
      The folder, or None without a cache.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted.lower() == "off":
        return None
    import jax

    folder = Path(wanted or jax.config.values["jax_compilation_cache_dir"] or default_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a read-only home: slower starts are no reason to refuse the work
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A start runs through dozens of small functions, each quicker than JAX's threshold of 1 s.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def default_folder() -> Path:
    """`lpdiff/compiled` in the user's cache folder, as the XDG specification has it."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "lpdiff" / "compiled"
