"""Synthetic pictures and videos for the tests of this folder."""

import struct

import cv2
import numpy as np

from data_pipeline.synthetic.groups import render_group


def picture(path, grey=128, size=(20, 43)):
    """Writes an even picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), grey, np.uint8))
    return path


def street(seed=0, size=(360, 640)):
    """A scene without a plate: a lawn, a road and a sky of coarse and fine texture, uint8 RGB."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = np.zeros((height, width, 3), np.float32)
    for scale in (4, 16, 64, 256):
        shape = (max(height // scale, 2), max(width // scale, 2), 3)
        noise = rng.normal(0, 12 * scale**0.3, shape).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    image += np.linspace(200, 60, height, dtype=np.float32)[:, None, None]
    return np.clip(image, 0, 255).astype(np.uint8)


def plate(seed=0, width=90):
    """A near picture of a plate, uint8 RGB."""
    image = render_group(seed)[1]
    return cv2.resize(image, (width, round(width * image.shape[0] / image.shape[1])))


def write_video(path, images, rate=10, codec="MJPG"):
    """Writes uint8 RGB frames as a video."""
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate, (width, height)
    )
    assert writer.isOpened()
    for image in images:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    return path


def change_boxes(path, name, change):
    """Rewrites the content of the MP4 boxes of a name, and the sizes of those around them.

    The index of `cv2.VideoWriter` lies behind the pictures, so that no offset changes.
    """

    def rewritten(data):
        out, at = b"", 0
        while at < len(data):
            size, kind = struct.unpack(">I4s", data[at : at + 8])
            body = data[at + 8 : at + size]
            if kind == name:
                body = change(body)
            elif kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"):
                body = rewritten(body)
            out += struct.pack(">I4s", len(body) + 8, kind) + body
            at += size
        return out

    path.write_bytes(rewritten(path.read_bytes()))
    return path


def with_frame_durations(path, durations):
    """Gives the frames of an MP4 these durations, in ticks of its own clock."""
    entries = b"".join(struct.pack(">II", 1, ticks) for ticks in durations)
    change_boxes(path, b"stts", lambda body: body[:4] + struct.pack(">I", len(durations)) + entries)
    # The edit list would cut off what lasts longer than it says.
    long = struct.pack(">I", 10_000_000)
    return change_boxes(path, b"elst", lambda body: body[:8] + long + body[12:])


def turned(path):
    """Notes in an MP4 that its pictures are to be turned by 90 degrees."""
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    # Version 0 of the track's header has its matrix behind 40 bytes.
    return change_boxes(path, b"tkhd", lambda body: body[:40] + matrix + body[76:])
