"""How functions are compiled: kept on disk for the next start, and with a CPU's own options."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "LPDIFF_COMPILATION_CACHE"
# On a CPU jaxlib 0.10 gives convolutions to YNNPACK, which computes those of few channels in one
# thread; without it they use every core. Sums stay with YNNPACK, where they are faster.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` of these options, whose convolutions use every core where the device is a CPU."""
    import jax

    cpu = jax.default_backend() == "cpu"
    return jax.jit(function, compiler_options=_CPU_OPTIONS if cpu else None, **options)


def enable_compilation_cache() -> Path | None:
    """Turns JAX's persistent compilation cache on; call it before anything is compiled.

    The folder is that of the environment variable `LPDIFF_COMPILATION_CACHE` ('off': no cache),
    else JAX's own `JAX_COMPILATION_CACHE_DIR`, else `lpdiff/compiled` in the user's cache folder.

    Returns:
      The folder, or None without a cache.
    """
    wanted = os.environ.get(VARIABLE, "")
    import jax

    if wanted.lower() == "off":
        jax.config.update("jax_enable_compilation_cache", False)  # JAX's own variable may name one
        return None
    try:
        folder = Path(wanted or jax.config.values["jax_compilation_cache_dir"] or default_folder())
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None  # a read-only home, or none: slower starts are no reason to refuse the work
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A start runs through dozens of small functions, each quicker than JAX's threshold of 1 s.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def default_folder() -> Path:
    """`lpdiff/compiled` in the user's cache folder, as the XDG specification has it."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "lpdiff" / "compiled"
