"""Finding a model: what its source is, and its method and variables."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipeline.tree import printable
from lpdiff_jax.errors import UserError
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.base import Method, Variables
from lpdiff_jax.storage.model_directory import StoredModel, is_model_directory, load_model

# The model that comes with the package.
PACKAGED = Path(__file__).parents[1] / "pretrained"


class Loaded(NamedTuple):
    """A model as its source holds it.

    Attributes:
      method: the method of the model.
      variables: the variables of the networks that are trained.
      defaults: the configuration's section `sampler`; empty where there is none.
      config: the whole configuration, or as much of it as the source holds.
    """

    method: Method
    variables: Variables
    defaults: Mapping[str, Any]
    config: Mapping[str, Any]


def load(source: str | Path | None = None, **of_pth: Any) -> Loaded:
    """Loads a model.

    Args:
      source: a work directory of `train.py`, one of its checkpoints, a model directory, or a
        published program's `..._gen.pth`; None takes the model that comes with the package.
      **of_pth: arguments of `pytorch.checkpoint.read_checkpoint`, which only a `.pth` needs.

    Raises:
      UserError: there is no such model, or it cannot be read.
    """
    path = PACKAGED if source is None else Path(source)
    if path.is_file():
        from lpdiff_jax.pytorch.checkpoint import read_checkpoint

        return _of_stored(read_checkpoint(path, **of_pth))
    if is_model_directory(path):
        loaded = _of_stored(load_model(path))
        if path != PACKAGED:  # which a test checks: that takes a second
            check_fits(loaded, path)
        return loaded
    if path.exists():
        return load_run(path)
    raise UserError(
        f"{source}: no such model; expected a work directory, a model directory or a "
        "PyTorch `..._gen.pth`"
    )


def _of_stored(stored: StoredModel) -> Loaded:
    # Stored with 16 bits perhaps, to be small; parameters are float32 all the same.
    variables = jax.tree.map(lambda x: np.asarray(x, np.float32), stored.variables)
    defaults = stored.config.get("sampler") or {}
    return Loaded(registry.build(stored.config), variables, defaults, stored.config)


def check_fits(loaded: Loaded, source: Path) -> None:
    """Raises UserError unless the variables are those that the configuration describes.

    Args:
      loaded: the model that was loaded.
      source: the name of the model in the message.
    """
    method, variables = loaded.method, loaded.variables
    unknown = [name for name in variables if name not in method.networks]
    if unknown or method.networks[0] not in variables:
        raise UserError(
            f"{source}: its weights are of {_listing(variables)}; this kind of model has "
            f"{_listing(method.networks)}"
        )
    # Whatever a file's configuration provokes is its own fault: shapes that cannot be, choices that
    # exclude each other.
    try:
        method.choose(loaded.defaults)
        init = partial(method.init, networks=method.networks)
        expected = jax.eval_shape(init, jax.random.key(0))
        shapes = {name: _shapes(expected[name]) for name in variables}
    except Exception as error:
        why = printable((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
        raise UserError(f"{source}: its configuration describes no model ({why})") from error
    found = {name: _shapes(network) for name, network in variables.items()}
    for name in variables:
        for place in sorted(shapes[name].keys() | found[name].keys()):
            wanted, there = shapes[name].get(place), found[name].get(place)
            if wanted != there:
                raise UserError(
                    f"{source}: its weights are not those of its configuration: {name}{place} is "
                    f"{there or 'missing'}, expected {wanted or 'nothing of that name'}"
                )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {printable(jax.tree_util.keystr(path)): tuple(leaf.shape) for path, leaf in leaves}


def _listing(names: Iterable[str]) -> str:
    return ", ".join(printable(name[:100]) for name in list(names)[:10]) or "nothing"


def load_run(source: Path) -> Loaded:
    """The averaged parameters of a run, or of one checkpoint.

    Args:
      source: a work directory, whose last stage with a checkpoint is taken at its newest step; or
        one checkpoint, `<workdir>/checkpoints/<stage>/<step>`.

    Raises:
      UserError: it holds no configuration, or no checkpoint that can be read.
    """
    from lpdiff_jax.storage.checkpoint import saved_steps, stage_directory  # brings Orbax with it
    from lpdiff_jax.storage.config import FILE_NAME, load_config

    workdir, stages, steps = _sought(source)
    config = load_config(workdir / FILE_NAME)
    method = registry.build(config)
    for name in stages or tuple(reversed(config.stages)):
        directory = stage_directory(workdir, name)
        if saved_steps(directory):
            found = _read_newest(directory, method, steps)
            variables = {name: found[name] for name in method.networks if name in found}
            return Loaded(method, variables, _section(config, "sampler"), config.to_dict())
    raise UserError(f"{source}: no checkpoint yet below {workdir / 'checkpoints'}")


def _section(config: ConfigDict, name: str) -> dict[str, Any]:
    return config[name].to_dict() if name in config else {}


def _sought(source: Path) -> tuple[Path, tuple[str, ...], list[int] | None]:
    """The work directory that is meant, and the stage and step where it is one checkpoint."""
    source = source.absolute()
    if source.parent.parent.name == "checkpoints" and source.name.isdecimal():
        return source.parents[2], (source.parent.name,), [int(source.name)]
    return source, (), None


def _read_newest(directory: Path, method: Method, steps: Sequence[int] | None) -> Variables:
    from lpdiff_jax.storage.checkpoint import newest, read_networks

    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    init = partial(method.init, networks=method.networks)
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one_device),
        jax.eval_shape(init, jax.random.key(0)),
    )
    found, damaged = newest(directory, partial(read_networks, networks=target), steps)
    faults = [f"{directory / str(step)}: damaged ({why})" for step, why in damaged.items()]
    if found is None:
        raise UserError("; ".join(faults))
    for fault in faults:
        logging.getLogger(__name__).warning(f"{fault}; an older checkpoint is used")
    return found[0]
