"""Devices and processes: the only module that names pmap, meshes or process indices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

from lpdiff_jax.errors import UserError, check_choice
from lpdiff_jax.training.stages import Batch, Metrics
from lpdiff_jax.training.state import TrainState

AXIS = "batch"
MODES = ("pmap", "jit")


def process_index() -> int:
    """This process, 0-based."""
    return jax.process_index()


def process_count() -> int:
    """Processes that train together."""
    return jax.process_count()


def is_main() -> bool:
    """Whether this process writes logs and pictures."""
    return jax.process_index() == 0


def check_batch_size(name: str, batch_size: int, accumulate: int = 1) -> None:
    """Raises UserError, with all the numbers, when the global batch cannot be divided."""
    devices = jax.device_count()
    if batch_size < 1 or batch_size % (devices * accumulate):
        raise UserError(
            f"{name} = {batch_size} (the global batch) must be a multiple of devices x "
            f"accumulation: {jax.process_count()} processes x {jax.local_device_count()} devices "
            f"= {devices}, x {accumulate} parts = {devices * accumulate}"
        )


def wait_for_all(name: str) -> None:
    """Returns once every process has come here; `name` tells such places apart."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def split_over_local_devices(array: np.ndarray) -> jax.Array:
    """Spreads [B, ...] over this process's devices, where they divide B; else one holds it all."""
    devices = jax.local_devices()
    if len(array) % len(devices):
        devices = devices[:1]
    mesh = jax.sharding.Mesh(np.array(devices), (AXIS,), (jax.sharding.AxisType.Auto,))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(AXIS)))


class Parallel:
    """Spreads a step over all devices, by `pmap` or by `jit` over sharded arrays.

    The state is never stacked: it goes in and comes out whole, the same on every device.
    """

    def __init__(self, mode: str):
        check_choice("config.parallel", mode, MODES)
        self.mode = mode
        mesh = jax.make_mesh(
            (jax.device_count(),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,)
        )
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._split = NamedSharding(mesh, PartitionSpec(AXIS))

    def compile_train_step(
        self, step: Callable[..., tuple[TrainState, Metrics]]
    ) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
        """step(state, batch, reduce) -> a compiled step(state, batch); the state is donated."""
        if self.mode == "pmap":
            return jax.pmap(
                functools.partial(step, reduce=_mean_over_devices),
                axis_name=AXIS,
                in_axes=(None, 0),
                out_axes=(None, None),
                donate_argnums=0,
            )
        return jax.jit(
            functools.partial(step, reduce=lambda tree: tree),
            in_shardings=(self._replicated, self._split),
            out_shardings=(self._replicated, self._replicated),
            donate_argnums=0,
        )

    def compile_eval_step(
        self, step: Callable[[TrainState, Batch], Metrics]
    ) -> Callable[[TrainState, Batch], Metrics]:
        """step(state, batch) -> a compiled step whose metrics are means over all devices."""
        if self.mode == "pmap":
            return jax.pmap(
                lambda state, batch: _mean_over_devices(step(state, batch)),
                axis_name=AXIS,
                in_axes=(None, 0),
                out_axes=None,
            )
        return jax.jit(step, in_shardings=(self._replicated, self._split))

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """This process's part of a global batch, with each sample's `position` in the whole."""
        local = len(batch["index"])
        batch = dict(batch)
        batch["position"] = np.arange(local, dtype=np.int32) + local * jax.process_index()
        if self.mode == "pmap":
            devices = jax.local_device_count()
            return {k: np.reshape(v, (devices, -1, *v.shape[1:])) for k, v in batch.items()}
        return {k: jax.make_array_from_process_local_data(self._split, v) for k, v in batch.items()}

    def put_state(self, state: TrainState) -> TrainState:
        """A state made on the host, or as `restore_target` has it, ready for the step."""
        if self.mode == "jit":
            return jax.device_put(state, self._replicated)
        if jax.process_count() == 1:
            return state
        return jax.tree.map(lambda x: x.addressable_data(0), state)

    def to_checkpoint(self, state: TrainState) -> TrainState:
        """The state as global arrays, which is what Orbax saves."""
        if self.mode == "jit" or jax.process_count() == 1:
            return state
        return jax.tree.map(ocp.utils.fully_replicated_host_local_array_to_global_array, state)

    def restore_target(self, abstract: TrainState) -> TrainState:
        """Shapes with the placement that a checkpoint is restored to."""
        one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        several = self.mode == "jit" or jax.process_count() > 1
        placement = self._replicated if several else one_device
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement), abstract
        )


def _mean_over_devices(tree: Any) -> Any:
    return jax.lax.pmean(tree, AXIS)
