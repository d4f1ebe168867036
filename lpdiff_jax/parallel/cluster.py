"""Whether a cluster's own environment says that several processes share a run; without jax."""

from collections.abc import Mapping

_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")


def in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether the environment speaks of several processes."""
    return (
        "JAX_COORDINATOR_ADDRESS" in environment
        or any(_is_many(environment.get(name, "")) for name in _COUNTS)
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
        or "MEGASCALE_COORDINATOR_ADDRESS" in environment
    )


def _is_many(count: str) -> bool:
    return count.isdecimal() and int(count) > 1
