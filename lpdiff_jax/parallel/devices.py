"""Devices: the only module that names pmap and meshes."""

import functools
import math
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from lpdiff_jax.errors import UserError, check_choice

# A tree of arrays that goes from step to step, the same on all devices.
State = TypeVar("State")
Batch = Mapping[str, Any]

AXIS = "batch"
MODES = ("pmap", "jit")
# Devices made of a CPU's cores at most: each holds a copy of the state.
_CPU_DEVICES = 4


def use_cores(batch_sizes: Iterable[int]) -> None:
    """Makes devices of a CPU's cores: the most that divide each batch size, up to four.

    XLA leaves a part of a step to one core at a time; two devices of a core each do both halves of
    the batch at once. Call it before anything is computed. It does nothing where `XLA_FLAGS` or
    `JAX_NUM_CPU_DEVICES` say how many devices there are, or this process has joined others.
    """
    said = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if said or jax.config.values["jax_num_cpu_devices"] > 0 or jax.distributed.is_initialized():
        return
    common = math.gcd(*batch_sizes)
    devices = [n for n in range(1, min(os.cpu_count() or 1, _CPU_DEVICES) + 1) if common % n == 0]
    jax.config.update("jax_num_cpu_devices", devices[-1])


def device_count() -> int:
    """Devices of all processes."""
    return jax.device_count()


def split_over_local_devices(array: Any) -> Any:
    """Spreads [B, ...] over this process's devices, where there are several that divide B."""
    devices = jax.local_devices()
    if len(devices) == 1 or len(array) % len(devices):
        return array
    return jax.device_put(array, NamedSharding(_mesh(devices), PartitionSpec(AXIS)))


def describe() -> str:
    """One line on what trains."""
    return (
        f"{jax.process_count()} processes x {jax.local_device_count()} devices "
        f"({jax.devices()[0].device_kind})"
    )


def check_batch_size(name: str, batch_size: int, accumulate: int = 1) -> None:
    """Raises UserError, with all the numbers, when the global batch cannot be divided."""
    devices = jax.device_count()
    if accumulate < 1 or batch_size < 1 or batch_size % (devices * accumulate):
        raise UserError(
            f"{name} = {batch_size} (the global batch) must be a multiple of devices x "
            f"accumulation: {jax.process_count()} processes x {jax.local_device_count()} devices "
            f"= {devices}, x {accumulate} parts = {devices * accumulate}"
        )


class StopRequest:
    """Whether SIGTERM asks this run to stop; all processes get the same answer at the same step.

    The signal to any one process is enough. With several, the answer is of the step before: to wait
    for that of the same step would leave the devices idle until the next one is dispatched.
    """

    def __init__(self) -> None:
        self._received = False
        self._answer: Any = False
        mesh = _mesh(jax.devices())
        self._split = NamedSharding(mesh, PartitionSpec(AXIS))
        self._any = jax.jit(jnp.any, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def __enter__(self) -> "StopRequest":
        self._handles = threading.current_thread() is threading.main_thread()
        if self._handles:
            self._previous = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._previous)

    def _receive(self, *_: object) -> None:
        self._received = True

    def received(self) -> bool:
        """Whether to stop; every process calls this once per step."""
        if jax.process_count() == 1:
            return self._received
        answer, self._answer = self._answer, self._ask_all()
        return bool(answer)

    def _ask_all(self) -> jax.Array:
        """Whether any process was asked; computed in the background, as a step is."""
        own = np.full(jax.local_device_count(), self._received)
        return self._any(jax.make_array_from_process_local_data(self._split, own))


class Parallel:
    """Spreads a step over all devices, by `pmap` or by `jit` over sharded arrays.

    The state is never stacked: it goes in and comes out whole, the same on every device.

    Args:
      mode: one of `MODES`.
      devices: what to compile for, if not for the devices that are here; such as those of a
        `topology.Topology`, for which a step can be lowered and compiled, and not run.
    """

    def __init__(self, mode: str, devices: Sequence[Any] | None = None):
        try:
            check_choice("config.parallel", mode, MODES)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.mode = mode
        self._devices = devices
        mesh = _mesh(jax.devices() if devices is None else devices)
        self.count = mesh.size
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._split = NamedSharding(mesh, PartitionSpec(AXIS))
        # Where the step leaves the state; one that starts elsewhere would be compiled for twice.
        here = mode == "pmap" and devices is None
        home = _mesh(jax.local_devices()) if here else mesh
        self._home = NamedSharding(home, PartitionSpec())

    def compile_train_step(
        self, step: Callable[..., tuple[State, Any]]
    ) -> Callable[[State, Batch], tuple[State, Any]]:
        """step(state, batch, reduce) -> a compiled step(state, batch); the state is donated."""
        if self.mode == "pmap":
            return jax.pmap(
                functools.partial(step, reduce=_mean_over_devices),
                axis_name=AXIS,
                in_axes=(None, 0),
                out_axes=(None, None),
                devices=self._devices,
                donate_argnums=0,
            )
        return jax.jit(
            functools.partial(step, reduce=lambda tree: tree),
            in_shardings=(self._replicated, self._split),
            out_shardings=(self._replicated, self._replicated),
            donate_argnums=0,
        )

    def compile_eval_step(self, step: Callable[..., Any]) -> Callable[[Any, Batch], Any]:
        """step(state, batch, reduce) -> a compiled step(state, batch)."""
        if self.mode == "pmap":
            return jax.pmap(
                functools.partial(step, reduce=_mean_over_devices),
                axis_name=AXIS,
                in_axes=(None, 0),
                out_axes=None,
                devices=self._devices,
            )
        return jax.jit(
            functools.partial(step, reduce=lambda tree: tree),
            in_shardings=(self._replicated, self._split),
            out_shardings=self._replicated,
        )

    def compile_split(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """function(variables, *trees [B, ...]) -> tree [B, ...], compiled; B lies on all devices.

        By `jit` in either mode: nothing is reduced over the devices.
        """
        split = lambda variables, trees: function(variables, *trees)  # noqa: E731
        return jax.jit(
            split, in_shardings=(self._replicated, self._split), out_shardings=self._split
        )

    def abstract_batch(self, batch: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
        """Shapes of the batch that a compiled step takes, of those of one device's part."""

        def whole(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            if self.mode == "pmap":
                return jax.ShapeDtypeStruct((self.count, *x.shape), x.dtype)
            return jax.ShapeDtypeStruct((self.count * x.shape[0], *x.shape[1:]), x.dtype)

        return {name: whole(x) for name, x in batch.items()}

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """This process's part of a global batch, with each sample's `position` in the whole."""
        local = len(batch["index"])
        batch = dict(batch)
        batch["position"] = np.arange(local, dtype=np.int32) + local * jax.process_index()
        if self.mode == "pmap":
            devices = jax.local_device_count()
            return {k: np.reshape(v, (devices, -1, *v.shape[1:])) for k, v in batch.items()}
        return {k: jax.make_array_from_process_local_data(self._split, v) for k, v in batch.items()}

    def put_state(self, state: State) -> State:
        """A state made by this process, or as `restore_target` has it, ready for the step."""
        if self.mode == "pmap" and jax.process_count() > 1:
            state = to_local(state)
        return jax.device_put(state, self._home)

    def to_checkpoint(self, state: State) -> State:
        """The state as global arrays, which is what Orbax saves."""
        if self.mode == "jit" or jax.process_count() == 1:
            return state
        return jax.tree.map(self._to_global, state)

    def _to_global(self, x: jax.Array) -> jax.Array:
        """A replicated array of this process's devices as one of all processes' devices."""
        copies = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, self._replicated, copies)

    def restore_target(self, abstract: State) -> State:
        """Shapes with the placement that a checkpoint is restored to."""
        placement = self._replicated if jax.process_count() > 1 else self._home
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement), abstract
        )


def _mesh(devices: Any) -> jax.sharding.Mesh:
    return jax.make_mesh(
        (len(devices),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=devices
    )


def to_local(tree: Any) -> Any:
    """Replicated arrays as this process's first device has them, for work that it does alone."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _mean_over_devices(tree: Any) -> Any:
    return jax.lax.pmean(tree, AXIS)
