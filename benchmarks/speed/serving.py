"""`lpdiff serve` under load: latency of several clients, malformed uploads, a soak.

    lpdiff serve --port 8000 & python -m benchmarks.speed.serving --pid $! load malformed soak

It starts nothing and asks no other address than --url, which is this machine's. Memory is the
resident set of --pid, from /proc.
"""

import argparse
import http.client
import random
import re
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np

from data_pipeline.synthetic.groups import render_group

_BOUNDARY = "----lpdiff"


def main() -> None:
    """Runs what is asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=("load", "malformed", "soak"))
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pid", type=int, help="the server's process")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=50, help="of each client")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    args = parser.parse_args()
    server = Server(args.url, args.pid)
    for what in args.what:
        print(f"== {what}", flush=True)
        if what == "load":
            load(server, args.clients, args.requests)
        elif what == "malformed":
            malformed(server, 300)
        else:
            soak(server, args.minutes)


class Server:
    """A server that is asked, and its memory."""

    def __init__(self, url: str, pid: int | None) -> None:
        address = urlsplit(url)
        if address.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise SystemExit("this machine's own server is asked, and no other")
        self._place = address.hostname, address.port or 80
        self._pid = pid

    def post(self, body: bytes, path: str = "/api/restore", **headers: str) -> tuple[int, bytes]:
        """Status and body of an answer; status 0 where the connection broke."""
        connection = http.client.HTTPConnection(*self._place, timeout=600)
        kind = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
        try:
            connection.request("POST", path, body, kind | headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def lives(self) -> bool:
        """Whether it answers."""
        connection = http.client.HTTPConnection(*self._place, timeout=600)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def memory(self) -> str:
        """Its resident set, MB."""
        if self._pid is None:
            return "?"
        status = Path(f"/proc/{self._pid}/status").read_text()
        now, most = (
            int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ("VmRSS", "VmHWM")
        )
        return f"{now:.0f} MB now, {most:.0f} MB at most"


def form(files: list[tuple[str, bytes]], **fields: str) -> bytes:
    """A form of files and fields."""
    parts = []
    for name, value in fields.items():
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts.append(head.encode() + value.encode() + b"\r\n")
    for name, data in files:
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"'
        parts.append(f"{head}\r\n\r\n".encode() + data + b"\r\n")
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


def plate_form(seed: int) -> bytes:
    """Three frames of a synthetic plate."""
    frames = render_group(seed)[0]
    files = [
        (f"{k}.png", cv2.imencode(".png", f[..., ::-1])[1].tobytes()) for k, f in enumerate(frames)
    ]
    return form(files, samples="3", steps="8", zip="1")


def load(server: Server, clients: int, count: int) -> None:
    """Latency of clients that ask at once, each as soon as it has its answer."""
    bodies = [plate_form(seed) for seed in range(16)]
    server.post(bodies[0])  # compiled before the clock runs
    seconds: list[float] = []
    statuses: Counter[int] = Counter()
    waits: list[float] = []

    def client(number: int) -> None:
        for k in range(count):
            begun = time.monotonic()
            while True:
                status, _ = server.post(bodies[(number * count + k) % len(bodies)])
                statuses[status] += 1
                if status != 503:
                    break
                waits.append(1.0)
                time.sleep(1.0)
            seconds.append(time.monotonic() - begun)

    begun = time.monotonic()
    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = time.monotonic() - begun
    marks = np.percentile(seconds, (50, 90, 99, 100))
    rate = len(seconds) / total
    print(f"{clients} clients x {count} requests in {total:.0f} s, {rate:.2f} a second")
    print("latency, s: median {:.2f}, 90 % {:.2f}, 99 % {:.2f}, longest {:.2f}".format(*marks))
    print(f"statuses {dict(statuses)}; memory {server.memory()}")


def malformed(server: Server, count: int) -> None:
    """Uploads that no server should mind."""
    rng = random.Random(0)
    statuses: Counter[int] = Counter()
    odd = []
    kinds = list(_KINDS)
    longest = 0.0
    for number in range(count):
        kind = kinds[number % len(kinds)]
        body, headers = _KINDS[kind](rng)
        begun = time.monotonic()
        status, _ = server.post(body, **headers)
        longest = max(longest, time.monotonic() - begun)
        statuses[status] += 1
        if not 400 <= status < 500:
            odd.append((kind, status))
    print(f"{count} malformed uploads: statuses {dict(statuses)}; longest answer {longest:.2f} s")
    print(f"not 4xx: {odd}; lives: {server.lives()}; memory {server.memory()}")


def soak(server: Server, minutes: float) -> None:
    """Requests of all kinds for a while; memory once a minute."""
    end = time.monotonic() + 60 * minutes
    rng = random.Random(1)
    bodies = [plate_form(seed) for seed in range(8)]
    next_mark, answered = time.monotonic(), 0
    while time.monotonic() < end:
        server.post(bodies[answered % len(bodies)])
        body, headers = rng.choice(list(_KINDS.values()))(rng)
        server.post(body, **headers)
        answered += 2
        if time.monotonic() >= next_mark:
            print(f"{answered} answered, {server.memory()}", flush=True)
            next_mark += 60
    print(f"{answered} answered, {server.memory()}")


def _png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG that says that it is so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return len(data).to_bytes(4, "big") + kind + data + crc.to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _jpeg(rng: random.Random) -> bytes:
    image = np.random.default_rng(rng.randrange(2**31)).integers(0, 255, (40, 96, 3), np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def _cut(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    data = _jpeg(rng)
    return form([("a.jpg", data[: rng.randrange(1, len(data) - 2)])]), {}


def _cut_with_end(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    data = _jpeg(rng)
    cut = data[: rng.randrange(len(data) // 2, len(data) * 9 // 10)].rstrip(b"\xff")
    return form([("a.jpg", cut + b"\xff\xd9")]), {}


def _lying_size(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return form([("a.png", _png(rng.choice((2**31 - 1, 60_000)), 60_000))]), {}


def _bomb(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    side = rng.choice((12_000, 20_000))
    return form([("a.png", _png(side, side, bytes(50_000_000)))]), {}


def _text(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return form([("a.png", rng.randbytes(rng.randrange(1, 5000)))]), {}


def _video(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return form([("a.mp4", b"\0\0\0\x18ftypmp42" + rng.randbytes(3000))]), {}


def _playlist(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    name = rng.choice(("a.mp4", "a.ts", "a.mkv"))
    return form([(name, b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")]), {}


def _no_boundary(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return rng.randbytes(500), {}


def _wrong_boundary(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return form([("a.png", b"x")]), {"content-type": "multipart/form-data; boundary=other"}


def _missing_boundary(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return form([("a.png", b"x")]), {"content-type": "multipart/form-data"}


def _other_type(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return b"{}", {"content-type": rng.choice(("application/json", "text/plain", ""))}


def _path(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    name = rng.choice(("../../../tmp/evil", "/etc/passwd", "..\\\\evil.exe", "a.png/../../b.sh"))
    return form([(name, _jpeg(rng))]), {}


def _field(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    name = rng.choice(("samples", "steps", "seed", "boxes", "start", "max_frames"))
    value = rng.choice(("-1", "nan", "1e999", "²", "[" * 5000, '{"a":', "\x00", "9" * 5000))
    return form([("a.jpg", _jpeg(rng))], **{name: value}), {}


def _many_fields(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return form([("a.jpg", _jpeg(rng))], **{f"field{k}": "x" for k in range(500)}), {}


def _many_files(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return form([(f"{k}.png", b"x") for k in range(400)]), {}


def _unended(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return form([("a.jpg", _jpeg(rng))])[:-20], {}


def _long_head(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    return form([("a" * 100_000 + ".png", b"x")]), {}


def _other_site(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    name = rng.choice(({"origin": "http://evil.example"}, {"host": "evil.example"}))
    return form([("a.jpg", _jpeg(rng))]), name


_KINDS: dict[str, Callable[[random.Random], tuple[bytes, dict[str, str]]]] = {
    function.__name__: function
    for function in (
        _cut, _cut_with_end, _lying_size, _bomb, _text, _video, _playlist, _no_boundary,
        _wrong_boundary, _missing_boundary, _other_type, _path, _field, _many_fields, _many_files,
        _unended, _long_head, _other_site,
    )
}  # fmt: skip


if __name__ == "__main__":
    main()
