"""The seam: what a system is (`Method`), what it knows of a plate before it draws (`Estimate`), and
what one stage of its training is (`Stage`). All other rooms know systems through these alone.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from jax import export

from lpdiff_jax.plate_text import SlotReader

# By network: {'condition': {'params': ..., 'batch_stats': ...}, ...}.
Variables = dict[str, Any]
# Parameters or statistics by network.
Params = dict[str, Any]
Batch = Mapping[str, jax.Array]
# By name: values of single samples [B]; or, where not every sample counts, a `clu.metrics.Average`
# of two such arrays, whose quotient is meant.
Metrics = dict[str, Any]
# How plates are drawn: what a method's `choose` gives; hashable, opaque to everyone else.
How = Any
# (variables, batch, key, train) -> (loss [B], metrics, new statistics by network).
Loss = Callable[[Variables, Batch, jax.Array, bool], tuple[jax.Array, Metrics, Params]]
# (key, variables) -> what a stage trains or uses beside the networks, and never ships.
Helpers = Callable[[jax.Array, Variables], Variables]


_Tree = TypeVar("_Tree", bound=type)


def storable(kind: _Tree) -> _Tree:
    """Lets a NamedTuple stand in programs that are kept on disk; its own name is its name there."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    export.register_namedtuple_serialization(kind, serialized_name=name)
    return kind


@storable
class Estimate(NamedTuple):
    """What is known of a batch of plates before one of them is drawn.

    Attributes:
      image: a first picture [B, H, W, 3], not clipped; None in a method that has none.
      slots: a reading head's probabilities [B, S, C]; None where there is no reading head.
      guide: what `Method.draw` takes: a tree of arrays [B, ...], opaque to everyone else.
    """

    image: jax.Array | None
    slots: jax.Array | None
    guide: Any


def no_helpers(key: jax.Array, variables: Variables) -> Variables:
    """The helpers of a stage that needs none."""
    del key, variables
    return {}


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
      name: the name of its section in the configuration.
      trained: the networks and helpers whose parameters it changes.
      loss: losses, metrics and new statistics of a batch; see `Loss`.
      networks: the networks that are part of its state, as far as the method has them.
      helpers: makes what is trained or kept frozen with the stage and never shipped: a teacher, a
        discriminator.
      watch: the metrics that a line of progress shows.
    """

    name: str
    trained: tuple[str, ...]
    loss: Loss
    networks: tuple[str, ...]
    helpers: Helpers = no_helpers
    watch: tuple[str, ...] = ("loss",)


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of arrays that can be exported for other programs.

    Attributes:
      name: the function's name, and its file's.
      call: takes the inputs in their order, returns the output [B, ...].
      inputs: the shape without the batch, and the dtype, of each input by its name.
      output: the name of the output.
    """

    name: str
    call: Callable[..., jax.Array]
    inputs: Mapping[str, tuple[tuple[int, ...], np.dtype]]
    output: str


class Method(Protocol):
    """A system that restores plates: frozen, hashable, without arrays of its own.

    Attributes:
      image_size: the (height, width) that it works at.
      dtype: the precision of its computation.
      networks: the networks that inference needs, in the order of computation; nothing else is
        ever shipped. A model may lack the last ones while they are not trained yet.
      first_picture: what `Estimate.image` is called ('psi'); empty where there is none.
      slot_reader: spells the reading head's slots; None where there is no reading head.
    """

    def __hash__(self) -> int: ...
    @property
    def image_size(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def networks(self) -> tuple[str, ...]: ...
    @property
    def first_picture(self) -> str: ...
    @property
    def slot_reader(self) -> SlotReader | None: ...

    def init(self, key: jax.Array, networks: Sequence[str]) -> Variables:
        """Fresh variables of those of the networks that the method has; jit this."""

    def estimate(
        self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None
    ) -> Estimate:
        """What is known of plates from frames [B, N, H, W, 3] in [-1, 1], mask bool [B, N]."""

    def draw(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, how: How
    ) -> jax.Array:
        """Restored plates [B, H, W, 3], clipped to [-1, 1]; the noise of each by its key [B]."""

    def draws_vary(self, variables: Variables) -> bool:
        """Whether `draw` gives another plate for another key."""

    def choose(
        self, defaults: Mapping[str, Any], *, sampler: Any = None, steps: int | None = None
    ) -> How:
        """How to draw: what is asked for, or else the defaults (a `sampler` section).

        Raises:
          UserError: what is asked for does not exist in this method.
        """

    def stages(self, config: Any, known: Sequence[str]) -> tuple[Stage, ...]:
        """The stages that a configuration names; `known` are the networks it begins with.

        Raises:
          UserError: what cannot be.
        """

    def exports(self, variables: Variables, how: How, num_frames: int) -> list[Function]:
        """The functions that can be exported; one of them is `restore`."""

    def with_dtype(self, dtype: str) -> "Method":
        """The same method, computing in another precision."""


@runtime_checkable
class DrawsInSteps(Protocol):
    """A method whose `draw` can be taken step by step, each of which has a picture to show."""

    def count_steps(self, how: How) -> int:
        """The number of steps."""

    def begin(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, how: How
    ) -> tuple[Any, Any]:
        """Before the first step: what all steps share, and what one hands on to the next."""

    def step(
        self, estimate: Estimate, keys: jax.Array, how: How, shared: Any, state: Any, index: Any
    ) -> tuple[Any, jax.Array]:
        """One step; `index` is `count_steps` - 1 in the first, and 0 in the last.

        Returns:
          What is handed on; and the plates [B, H, W, 3] as they are now, after the last step those
          that `draw` gives.
        """


@runtime_checkable
class Supposes(Protocol):
    """A method whose further samples of a plate suppose something else than its first."""

    def suppose(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, numbers: jax.Array
    ) -> Estimate:
        """What is supposed for samples of these numbers [B], by keys [B]; 0: what is likeliest."""


@runtime_checkable
class Denoises(Protocol):
    """A method with a denoiser that can be called alone."""

    def guide_of(self, variables: Variables, image: jax.Array) -> Any:
        """A guide that knows of nothing but a first picture [B, H, W, 3]."""

    def predict_noise(
        self, variables: Variables, guide: Any, x_t: jax.Array, noise_level: jax.Array
    ) -> jax.Array:
        """The noise in x_t [B, H, W, 3] at noise_level [B], given a guide."""


def frozen(section: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's section as fields of a module, which must be hashable: lists are tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in section.items()
    }
