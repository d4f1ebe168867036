"""The server: a page, an interface for programs, and what operators ask of it."""

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from data_pipeline.errors import DataError
from data_pipeline.files import FULL
from lpdiff_jax import __version__
from lpdiff_jax.errors import UserError
from lpdiff_jax.serving.guard import Guard
from lpdiff_jax.serving.jobs import Busy, Jobs
from lpdiff_jax.serving.metrics import Metrics
from lpdiff_jax.serving.requests import BadRequest, receive
from lpdiff_jax.serving.service import Service, keep
from lpdiff_jax.serving.settings import Settings

_PAGE = Path(__file__).parent / "page"
_STATIC = {"app.js": "text/javascript", "style.css": "text/css", "openapi.json": "application/json"}


def create_app(service: Service, settings: Settings) -> Starlette:
    """The server's application (ASGI).

    Args:
      service: the service that restores.
      settings: the limits and ways of the server.
    """
    server = _Server(service, settings)
    routes = [
        Route("/", server.page),
        Route("/static/{name}", server.static),
        Route("/openapi.json", server.openapi),
        Route("/healthz", server.health),
        Route("/metrics", server.metrics_text),
        Route("/api/info", server.info),
        Route("/api/restore", server.restore, methods=["POST"]),
        Route("/api/preview", server.preview, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, settings=settings, metrics=server.metrics)],
        exception_handlers={
            HTTPException: _http_error,
            BadRequest: _bad_request,
            UserError: _cannot,
            DataError: _cannot,
            Busy: _busy,
            OSError: _no_room,
        },
        lifespan=server.lifespan,
    )


class _Server:
    """The handlers, and what they share."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service = service
        self._settings = settings
        self._jobs = Jobs(settings.queue)
        self.metrics = Metrics()

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        del app
        yield
        self._jobs.close()

    async def page(self, request: Request) -> Response:
        del request
        return FileResponse(_PAGE / "index.html", media_type="text/html; charset=utf-8")

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            raise HTTPException(404)
        return FileResponse(_PAGE / name, media_type=_STATIC[name])

    async def openapi(self, request: Request) -> Response:
        del request
        return FileResponse(_PAGE / "openapi.json", media_type="application/json")

    async def health(self, request: Request) -> Response:
        del request
        return JSONResponse({"status": "ok", "waiting": self._jobs.waiting})

    async def metrics_text(self, request: Request) -> Response:
        del request
        return PlainTextResponse(self.metrics.text(jobs_waiting=self._jobs.waiting))

    async def info(self, request: Request) -> Response:
        """What the page shows of the server."""
        del request
        settings, restorer = self._settings, self._service.restorer
        return JSONResponse(
            {
                "version": __version__,
                "model": dict(self._service.model),
                "image_size": list(restorer.image_size),
                "detector": self._service.detector is not None,
                "keeps": settings.keep is not None,
                "max_upload": settings.max_upload,
                "max_files": settings.max_files,
            }
        )

    async def restore(self, request: Request) -> Response:
        return await self._with_files(request, self._restore)

    async def preview(self, request: Request) -> Response:
        def work(paths: list[Path], wishes: Any, folder: Path) -> dict[str, Any]:
            del folder
            return self._service.preview(paths[0], wishes.at)

        return await self._with_files(request, work)

    def _restore(self, paths: list[Path], wishes: Any, folder: Path) -> dict[str, Any]:
        begun = time.monotonic()
        content = self._service.restore(paths, wishes, folder)
        self.metrics.time("restore", time.monotonic() - begun)
        for plate in content["plates"]:
            verdict = plate.get("reading", {}).get("verdict", "none")
            self.metrics.count("plates", f'verdict="{verdict}"')
        if self._settings.keep is not None:
            keep(folder, self._settings.keep)
        return content

    async def _with_files(self, request: Request, work: Callable[..., dict[str, Any]]) -> Response:
        """Receives a request's files, and works on them when its turn has come."""
        # Before a byte is taken: a client need not send what nobody will look at.
        self._jobs.check()
        settings = self._settings
        with tempfile.TemporaryDirectory(prefix="lpdiff-") as name:
            folder = Path(name)
            (folder / "in").mkdir()
            paths, wishes = await receive(
                request, folder / "in", settings.max_files, settings.patience
            )
            content = await self._jobs.run(lambda: self._told(work, paths, wishes, folder))
            if isinstance(content, Exception):
                raise content
            return await run_in_threadpool(JSONResponse, content)

    def _told(self, work: Callable[..., Any], paths: Any, wishes: Any, folder: Path) -> Any:
        """`work`; what a client shall read comes back as a value, without the folder's name."""
        try:
            return work(paths, wishes, folder)
        except BadRequest as error:
            return error
        except (UserError, DataError) as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
                return error.__cause__
            text = str(error).replace(f"{folder}/in/plate/", "").replace(f"{folder}/in/", "")
            return BadRequest(text.replace(str(folder), ""), 422)
        except MemoryError:
            return BadRequest("too large for this server's memory", 413)


def _http_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


def _bad_request(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, BadRequest)
    return JSONResponse({"error": str(error)}, error.status)


def _cannot(request: Request, error: Exception) -> Response:
    del request
    return JSONResponse({"error": str(error)}, 422)


def _no_room(request: Request, error: Exception) -> Response:
    """A full disk is the server's own trouble; another fault of its files stays one of 500."""
    del request
    if not (isinstance(error, OSError) and error.errno in FULL):
        raise error
    return JSONResponse({"error": "the server's disk is full; ask again later"}, 507)


def _busy(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, Busy)
    headers = {"Retry-After": str(error.seconds)}
    return JSONResponse({"error": str(error)}, 503, headers)
