"""The server over HTTP: what it gives, what it refuses, and that nothing remains."""

import base64
import errno
import http.client
import io
import json
import threading
import zipfile
from types import SimpleNamespace

import cv2
import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from data_pipeline.errors import DataError
from lpdiff_jax.cli import serve
from lpdiff_jax.errors import Preempted
from tests.restoring.scenes import plate, street, write_video


def png(image):
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def frames(count=3):
    return [("files", (f"{k}.png", png(plate(k, 60)))) for k in range(count)]


def post(server, files, path="/api/restore", headers=None, **fields):
    return httpx.post(
        server.address + path, files=files, data=fields, headers=headers or {}, timeout=120
    )


def test_frames_of_a_plate_are_restored_and_nothing_remains(start):
    server = start()
    answer = post(server, frames(), samples="2", steps="3", zip="1")
    assert answer.status_code == 200
    content = answer.json()
    (entry,) = content["plates"]
    assert entry["name"] == "plate" and len(entry["frames"]) == 3
    assert entry["reading"]["verdict"] in ("readable", "uncertain", "unreadable")
    pictures = entry["pictures"]
    assert [len(pictures[k]) for k in ("frames", "steps", "restored")] == [3, 3, 2]
    head, _, data = pictures["restored"][0].partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == "data:image/png;base64" and json.loads(image.text["lpdiff"])["generated"]
    # No word of the server's folders.
    assert "lpdiff-" not in json.dumps([content["plates"][0]["frames"], content["problems"]])
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(content["zip"])))
    names = archive.namelist()
    assert "lpdiff/index.html" in names and "lpdiff/restored/plate~2.png" in names
    assert str(server.temporary) not in archive.read("lpdiff/restore.json").decode()
    assert not list(server.temporary.iterdir())


def test_the_answer_is_as_openapi_says(start):
    server = start()
    document = httpx.get(server.address + "/openapi.json").json()
    schemas = document["components"]["schemas"]
    content = post(server, frames(1)).json()
    assert set(schemas["Result"]["required"]) <= set(content)
    entry = content["plates"][0]
    assert set(schemas["Plate"]["required"]) <= set(entry)
    for part in ("reading", "hypotheses", "pictures"):
        assert set(schemas["Plate"]["properties"][part]["required"]) <= set(entry[part])
    form = document["paths"]["/api/restore"]["post"]["requestBody"]["content"]
    fields = form["multipart/form-data"]["schema"]["properties"]
    from lpdiff_jax.serving import requests

    assert set(fields) == {*requests._FIELDS, "files"} - {"at"}


def test_boxes_on_a_video_move(start, tmp_path):
    scene = street()
    clip = write_video(tmp_path / "clip.avi", [scene] * 8)
    boxes = [{"time": 0, "box": [100, 50, 60, 20]}, {"time": 0.4, "box": [180, 50, 60, 20]}]
    answer = post(
        start(),
        [("files", (clip.name, clip.read_bytes()))],
        boxes=json.dumps(boxes),
        max_frames="16",
    )
    (entry,) = answer.json()["plates"]
    assert [frame["box"][0] for frame in entry["frames"]] == [
        100,
        120,
        140,
        160,
        180,
        180,
        180,
        180,
    ]


def test_a_detector_finds_plates(start):
    scene = png(street())
    files = [("files", (f"{k}.png", scene)) for k in range(3)]
    answer = post(start(), files, detect="1", group="each").json()
    assert [entry["name"] for entry in answer["plates"]] == ["001-0_1", "002-1_1", "003-2_1"]


def test_a_preview_shows_a_frame(start, tmp_path):
    server = start()
    images = [np.full((32, 64, 3), 20 * k, np.uint8) for k in range(10)]
    clip = write_video(tmp_path / "clip.avi", images)
    answer = post(
        server, [("files", (clip.name, clip.read_bytes()))], "/api/preview", at="0.5"
    ).json()
    assert (answer["width"], answer["height"], answer["video"]) == (64, 32, True)
    assert answer["time"] == pytest.approx(0.5) and answer["duration"] == pytest.approx(1.0)
    picture = base64.b64decode(answer["image"].partition(",")[2])
    assert np.asarray(Image.open(io.BytesIO(picture))).mean() == pytest.approx(100, abs=4)


@pytest.mark.parametrize(
    ("files", "fields", "status", "message"),
    [
        ([("files", ("a.txt", b"x"))], {}, 415, "neither a picture nor a video"),
        ([("files", ("a.png", b"not a png"))], {}, 422, "001-a.png: not an image"),
        ([("files", ("a.mp4", b"not a video"))], {}, 422, "001-a.mp4: not a video"),
        ([("other", ("a.png", b"x"))], {}, 400, "not known"),
        (None, {"samples": "1"}, 415, "send a form"),
        (frames(1), {"samples": "99"}, 400, "samples"),
        (frames(1), {"samples": "²"}, 400, "samples"),
        (frames(1), {"seed": "-1"}, 400, "seed"),
        (frames(1), {"steps": "30"}, 422, "steps"),
        (frames(1), {"boxes": "[{}]"}, 400, "boxes"),
        (frames(1), {"boxes": "[" * 100_000}, 400, "boxes"),
        (frames(1), {"boxes": '[{"box": [900, 0, 50, 20]}]'}, 422, "outside"),
        (frames(1), {"start": "nan"}, 400, "start"),
        (frames(1), {"group": "some"}, 400, "group"),
        (frames(1), {"colour": "red"}, 400, "not known"),
        ([("files", ("a.png", png(street())))], {}, 422, "look like a scene"),
        ([("files", (f"{k}.png", png(plate(k, 60)))) for k in range(4)], {"group": "each"}, 400,
         "more than 3 plates"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(start, files, fields, status, message):
    server = start()
    answer = post(server, files, **fields)
    assert answer.status_code == status and message in answer.json()["error"]
    assert not list(server.temporary.iterdir())
    assert httpx.get(server.address + "/healthz").json() == {"status": "ok", "waiting": 0}


def test_names_of_files_lead_nowhere(start):
    server = start()
    for name in (
        "../../evil.png",
        "..\\evil.png",
        "/etc/evil.png",
        "a\x00b.png",
        "." * 300 + ".png",
    ):
        answer = post(server, [("files", (name, png(plate())))])
        assert answer.status_code in (200, 400, 415), name
    assert not list(server.temporary.parent.rglob("*evil*"))


def test_bytes_are_counted_whatever_the_headers_say(start):
    server = start(max_upload=20_000)
    big = [("files", ("a.png", bytes(50_000)))]
    assert post(server, big).status_code == 413

    def chunks():
        yield b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
        for _ in range(100):
            yield bytes(1000)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = httpx.post(server.address + "/api/restore", content=chunks(), headers=headers)
    assert answer.status_code == 413
    assert not list(server.temporary.iterdir())


def test_only_its_own_pages_may_ask(start):
    server = start()
    for headers, status in (
        ({"host": "evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": server.address}, 200),
    ):
        assert post(server, frames(1), headers=headers).status_code == status
    answer = httpx.get(server.address + "/")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_token_is_asked_for(start):
    server = start(token="secret")
    assert httpx.get(server.address + "/").status_code == 200
    assert httpx.get(server.address + "/metrics").status_code == 401
    assert post(server, frames(1)).status_code == 401
    assert post(server, frames(1), headers={"authorization": "Bearer wrong"}).status_code == 401
    assert post(server, frames(1), headers={"authorization": "Bearer secret"}).status_code == 200


def test_one_job_at_a_time_and_a_bounded_queue(start, service, monkeypatch):
    server = start(queue=1)
    go, begun, running = threading.Event(), threading.Event(), []
    restore = type(service).restore

    def slow(self, *arguments):
        running.append(1)
        assert len(running) == 1
        begun.set()
        go.wait(30)
        try:
            return restore(self, *arguments)
        finally:
            running.pop()

    monkeypatch.setattr(type(service), "restore", slow)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(server, frames(1)).status_code))
        for _ in range(2)
    ]
    threads[0].start()
    begun.wait(30)
    threads[1].start()
    while httpx.get(server.address + "/healthz").json()["waiting"] < 2:
        pass
    refused = post(server, frames(1))
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
    go.set()
    for thread in threads:
        thread.join(60)
    assert answers == [200, 200]


def test_results_are_kept_where_that_is_asked_for(start, tmp_path):
    server = start(keep=tmp_path / "kept")
    post(server, frames(1))
    (kept,) = (tmp_path / "kept").iterdir()
    assert (kept / "restore.json").is_file() and (kept / "restored/plate.png").is_file()


@pytest.mark.parametrize("place", ["upload", "results"])
def test_a_full_disk_is_the_servers_trouble(place, start, service, monkeypatch):
    server = start()
    full = OSError(errno.ENOSPC, "No space left on device")

    def fails(*_):
        if place == "upload":
            raise full
        raise DataError("restored/plate.png: cannot be written") from full

    with monkeypatch.context() as broken:
        if place == "upload":
            broken.setattr("lpdiff_jax.serving.requests.shutil.copyfileobj", fails)
        else:
            broken.setattr(type(service), "restore", fails)
        answer = post(server, frames(1))
    assert answer.status_code == 507 and "disk is full" in answer.json()["error"]
    assert httpx.get(server.address + "/healthz").status_code == 200


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, Preempted])
def test_a_server_that_is_stopped_has_done_its_work(stopped_by, capsys):
    """As uvicorn does it: it serves to the end, then lets the signal have its way."""

    class Server:
        def __init__(self, config):
            self.config = config

        def run(self, sockets):
            raise stopped_by

    config = uvicorn.Config("no:app", port=0, log_config=None)
    assert serve._serve(SimpleNamespace(Server=Server), config, "127.0.0.1") == 0
    assert "http://127.0.0.1:" in capsys.readouterr().out


def test_metrics_count(start):
    server = start()
    post(server, frames(1))
    post(server, [("files", ("a.txt", b"x"))])
    text = httpx.get(server.address + "/metrics").text
    assert 'lpdiff_requests_total{status="200"} 1' in text
    assert 'lpdiff_requests_total{status="415"} 1' in text
    assert "lpdiff_restore_seconds_count 1" in text and "lpdiff_plates_total" in text


def test_a_client_that_leaves_does_no_harm(start):
    server = start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("POST", "/api/restore")
    connection.putheader("content-type", "multipart/form-data; boundary=x")
    connection.putheader("content-length", "100000")
    connection.endheaders(b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n")
    connection.close()
    assert post(server, frames(1)).status_code == 200
    while httpx.get(server.address + "/healthz").json()["waiting"]:
        pass
    assert not list(server.temporary.iterdir())
