"""The memory allocator of a training on a CPU: it starts itself anew with a better one.

Every step of a training takes and returns gigabytes. glibc gives them back to the kernel at once,
which has to clear them for the next step, page by page. Two settings save most of that (figures in
docs/performance.md): tcmalloc, where it is installed, keeps the memory; large pages need no library
and a 512th of the page faults. Both must be in the environment before a process begins.
"""

import ctypes.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE = "LPDIFF_ALLOCATOR"
CHOICES = ("tcmalloc", "large-pages", "off")
# Devices of accelerators, whose training computes little on the CPU.
_ACCELERATORS = ("nvidia0", "accel0", "kfd", "vfio/0")


def settle(argv: Sequence[str]) -> None:
    """Replaces this program by itself with the setting; call it before all else.

    Nothing happens where it would not help or not be safe: away from Linux and glibc, beside an
    accelerator, where the environment has chosen an allocator already, with `LPDIFF_ALLOCATOR=off`,
    and where `argv`, the program's arguments, are not those that this process was started with.
    """
    started, count = sys.orig_argv, len(argv)
    if count == 0 or started[-count:] != list(argv) or not sys.executable:
        return
    change = setting(os.environ)
    if change:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *started[1:]], {**os.environ, **change})


def setting(environment: Mapping[str, str], devices: Path = Path("/dev")) -> dict[str, str]:
    """What to add to the environment; empty where it should stay as it is.

    Args:
      environment: that of this process; `LPDIFF_ALLOCATOR` may name one of `CHOICES`.
      devices: the folder of the machine's devices.
    """
    wanted = environment.get(VARIABLE, "")
    if wanted == "off" or not sys.platform.startswith("linux") or _chosen(environment):
        return {}
    if not _on_cpu(environment, devices):
        return {}
    if wanted != "large-pages":
        library = ctypes.util.find_library("tcmalloc_minimal") or ctypes.util.find_library(
            "tcmalloc"
        )
        if library:
            preloaded = [library, environment.get("LD_PRELOAD", "")]
            return {
                "LD_PRELOAD": " ".join(filter(None, preloaded)),
                "TCMALLOC_RELEASE_RATE": environment.get("TCMALLOC_RELEASE_RATE", "0"),
            }
    return _large_pages(environment) if wanted != "tcmalloc" else {}


def _chosen(environment: Mapping[str, str]) -> bool:
    """Whether somebody has chosen an allocator, or this has."""
    preloaded = environment.get("LD_PRELOAD", "")
    return bool(re.search("malloc", preloaded)) or "hugetlb" in environment.get(
        "GLIBC_TUNABLES", ""
    )


def _on_cpu(environment: Mapping[str, str], devices: Path) -> bool:
    """Whether JAX will compute on the CPU."""
    asked = environment.get("JAX_PLATFORMS", "")
    if asked:
        return asked == "cpu"
    return not any((devices / name).exists() for name in _ACCELERATORS)


def _large_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """glibc's own setting, which it has since version 2.35."""
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return {}  # another C library
    version = re.fullmatch(r"glibc (\d+)\.(\d+).*", name)
    if not version or (int(version[1]), int(version[2])) < (2, 35):
        return {}
    tunables = [environment.get("GLIBC_TUNABLES", ""), "glibc.malloc.hugetlb=1"]
    return {"GLIBC_TUNABLES": ":".join(filter(None, tunables))}
