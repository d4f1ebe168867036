"""A server with a small untrained model, in a thread of the test's process."""

import threading
import time

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("python_multipart", reason="the extra `serve` is not installed")

from lpdiff_jax.restoring.detectors import Detection  # noqa: E402
from lpdiff_jax.restoring.regions import Region  # noqa: E402
from lpdiff_jax.restoring.restorer import Restorer  # noqa: E402
from lpdiff_jax.serving.app import create_app  # noqa: E402
from lpdiff_jax.serving.service import Service  # noqa: E402
from lpdiff_jax.serving.settings import Settings  # noqa: E402
from tests.restoring.tiny_model import save_tiny_model  # noqa: E402


def find_one(image):
    """A detector that finds a plate in the middle of every picture."""
    height, width = image.shape[:2]
    return [Detection(Region.of_box(width / 4, height / 4, width / 2, height / 4), 0.9)]


class Running:
    """A server, its address, and the folder of its temporary files."""

    def __init__(self, service, temporary, **settings):
        settings = Settings(port=0, **settings)
        config = uvicorn.Config(create_app(service, settings), port=0, log_level="error")
        self.server = uvicorn.Server(config)
        self.temporary = temporary
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """The small model, ready for requests."""
    model = save_tiny_model(tmp_path_factory.mktemp("serving") / "tiny")
    restorer = Restorer.load(model)
    return Service(restorer, {"name": "tiny", "sha256": "0" * 64, "of": "parameters"}, find_one, 3)


@pytest.fixture
def start(service, tmp_path, monkeypatch):
    """Starts servers of given settings; they stop with the test."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    running = []

    def begin(**settings):
        running.append(Running(service, temporary, **settings))
        return running[-1]

    yield begin
    for one in running:
        one.stop()
