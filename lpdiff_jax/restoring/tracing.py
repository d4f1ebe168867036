"""Tracing a network whose parameters are known to fit, without checking each of them again.

On every apply flax traces each parameter's initialiser, to compare shapes. For a packaged model
these are hundreds of traces, a quarter of what `lpdiff restore` computes before the first plate.
`loading.check_fits` has compared all shapes already.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

from flax.core import meta
from flax.core.scope import Scope

# Whether this thread traces a function whose parameters fit.
_thread = threading.local()


def trusting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose parameters are not checked while it runs."""
    _install()

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        before = getattr(_thread, "trusts", False)
        _thread.trusts = True
        try:
            return function(*args, **kwargs)
        finally:
            _thread.trusts = before

    return call


@functools.cache
def _install() -> None:
    """Lets flax's scopes ask whether parameters are trusted; elsewhere they do as ever."""
    checked = Scope.param

    @functools.wraps(checked)
    def param(scope: Scope, name: str, *args: Any, unbox: bool = True, **kwargs: Any) -> Any:
        if not getattr(_thread, "trusts", False) or not scope.has_variable("params", name):
            return checked(scope, name, *args, unbox=unbox, **kwargs)
        scope.reserve(name, "params")
        value = scope.get_variable("params", name)
        return meta.unbox(value) if unbox else value

    setattr(Scope, "param", param)  # noqa: B010  # whose signatures are overloaded
