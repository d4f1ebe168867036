"""`lpdiff serve`: restoring from a web page, on this machine."""

import argparse
import contextlib
import os
import sys

from lpdiff_jax.cli import arguments

HELP = "restore plates from a web page, or over HTTP"
_TOKEN = "LPDIFF_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--model",
        type=arguments.path,
        help="as for lpdiff restore (default: the packaged model)",
    )
    parser.add_argument("--dtype", help="precision: float32, bfloat16 or float16")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine alone)")
    parser.add_argument(
        "--port",
        type=arguments.whole(0, 65_535),
        default=8000,
        help="port (default 8000; 0: any free)",
    )
    parser.add_argument(
        "--token", default=os.environ.get(_TOKEN, ""),
        help=f"what clients must know (default: the variable {_TOKEN}, else nothing)",
    )  # fmt: skip
    parser.add_argument("--detect", metavar="MODEL.onnx", help="as for lpdiff restore")
    parser.add_argument(
        "--keep", type=arguments.path, metavar="DIR", help="keep every result (default: none)"
    )
    parser.add_argument(
        "--max-upload",
        type=arguments.whole(1, 100_000),
        default=200,
        metavar="MB",
        help="of a request (default 200)",
    )
    parser.add_argument(
        "--queue",
        type=arguments.whole(0, 10_000),
        default=4,
        help="requests that wait (default 4)",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted."""
    from lpdiff_jax.errors import UserError

    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing: pip install 'lpdiff-jax[serve]' brings what a server needs"
        ) from None
    from lpdiff_jax.cli.restore import load_named_detector
    from lpdiff_jax.compilation import enable_compilation_cache
    from lpdiff_jax.restoring.provenance import identify_model
    from lpdiff_jax.restoring.restorer import Restorer
    from lpdiff_jax.serving.app import create_app
    from lpdiff_jax.serving.service import Service
    from lpdiff_jax.serving.settings import Settings

    settings = Settings(
        host=args.host,
        port=args.port,
        token=args.token,
        keep=args.keep,
        max_upload=args.max_upload * 1_000_000,
        queue=args.queue,
    )
    if not settings.is_local:
        print(
            f"lpdiff serve: {settings.host} can be reached by others, unencrypted; put a proxy "
            "with TLS before it" + ("" if settings.token else ", and ask for a --token"),
            file=sys.stderr,
        )
    folder = enable_compilation_cache()
    restorer = Restorer.load(args.model, dtype=args.dtype, programs=folder)
    detector = load_named_detector(args.detect) if args.detect else None
    service = Service(restorer, identify_model(args.model, restorer), detector, settings.max_plates)
    service.warm_up()
    config = uvicorn.Config(
        create_app(service, settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        limit_concurrency=64,
        timeout_keep_alive=10,
        server_header=False,
    )
    return _serve(uvicorn, config, settings.host)


def _serve(uvicorn: object, config: object, host: str) -> int:
    """Binds first, so that the line that names the address is true."""
    from lpdiff_jax.errors import Preempted, UserError

    try:
        listener = config.bind_socket()  # type: ignore[attr-defined]
    except SystemExit:
        raise UserError(f"{host}: cannot be bound to; is another server running?") from None
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}/  (stop with Ctrl-C)", flush=True)
    # Ctrl-C and SIGTERM are the ways to stop it, and no interruption.
    with contextlib.suppress(KeyboardInterrupt, Preempted), listener:
        uvicorn.Server(config).run(sockets=[listener])  # type: ignore[attr-defined]
    return 0
