"""Files of boxes in every format that is read: the same plates out of each."""

import json

import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.boxes import parse_box, read_boxes

# Frame, track, box.
PLATES = [("a.jpg", "1", (10, 20, 30, 12)), ("b.jpg", "1", (12.5, 21, 30, 12))]


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def as_csv(folder):
    lines = [f"{f},{t},{','.join(map(str, box))}" for f, t, box in PLATES]
    return write(folder / "boxes.csv", "\n".join(["Frame, track, x, y, w, h", *lines]))


def as_json(folder):
    return write(
        folder / "b.json", {"boxes": [dict(frame=f, track=t, box=box) for f, t, box in PLATES]}
    )


def as_coco(folder):
    images = [{"id": i, "file_name": f} for i, (f, _, _) in enumerate(PLATES)]
    annotations = [
        {"image_id": i, "bbox": box, "track_id": int(t)} for i, (_, t, box) in enumerate(PLATES)
    ]
    return write(folder / "coco.json", {"images": images, "annotations": annotations})


def as_labelme(folder):
    for frame, track, (x, y, w, h) in PLATES:
        shape = {"points": [[x + w, y], [x, y + h]], "group_id": int(track), "label": "plate"}
        write(folder / f"{frame[0]}.json", {"imagePath": frame, "shapes": [shape]})
    return folder


def as_yolo(folder):
    for frame, track, (x, y, w, h) in PLATES:
        place = ((x + w / 2) / 200, (y + h / 2) / 100, w / 200, h / 100)
        write(folder / f"{frame[0]}.txt", f"0 {' '.join(map(repr, place))} {track}\n")
    return folder


@pytest.mark.parametrize("write_as", [as_csv, as_json, as_coco, as_labelme, as_yolo])
def test_every_format_says_the_same(tmp_path, write_as):
    boxes = read_boxes(write_as(tmp_path / "boxes"))
    assert [str(box.frame)[0] for box in boxes] == ["a", "b"]
    assert [box.track for box in boxes] == ["1", "1"]
    for box, (_, _, expected) in zip(boxes, PLATES, strict=True):
        assert box.region_in(200, 100).box == pytest.approx(expected)


def test_mot_counts_from_one(tmp_path):
    path = write(tmp_path / "gt.txt", "1,7,10,20,30,12,1,-1,-1\n3,-1,11,20,30,12,1,-1,-1\n")
    assert [(box.frame, box.track) for box in read_boxes(path)] == [(0, "7"), (2, None)]


def test_corners_are_read_from_csv_json_labelme_and_yolo(tmp_path):
    corners = [[10, 20], [40, 22], [40, 34], [10, 32]]
    flat = [str(value) for point in corners for value in point]
    names = "frame,x1,y1,x2,y2,x3,y3,x4,y4"
    paths = [
        write(tmp_path / "c.csv", f"{names}\n0,{','.join(flat)}\n"),
        write(tmp_path / "c.json", [{"frame": 0, "corners": corners}]),
        write(tmp_path / "l.json", {"shapes": [{"points": corners}], "imagePath": "0"}),
        write(tmp_path / "y.txt", "0 " + " ".join(str(float(v) / 100) for v in flat)),
    ]
    for path in paths:
        (box,) = read_boxes(path)
        assert not box.region.upright
        flat_found = [v for point in box.region_in(100, 100).corners for v in point]
        assert flat_found == pytest.approx([float(v) for v in flat])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "frame,x\n1,2\n", "columns are frame, x"),
        ("a.csv", "frame,x,y,w,h\n1,2,3,4,zero\n", "entry 2.*zero"),
        ("a.csv", "frame,x,y,w,h\n", "no boxes"),
        ("a.json", "[{]", "JSON"),
        ("a.json", '{"x": 1}', "no format"),
        ("a.json", '[{"box": [1, 2, 3, 4]}]', "entry 1: no 'frame'"),
        ("a.json", '{"images": 3, "annotations": []}', "images is no list"),
        ("a.json", '{"images": [], "annotations": [{"image_id": 9}]}', "image_id 9"),
        ("a.json", "[" * 100_000, "JSON"),
        ("a.txt", "1,2,3\n", "entry 1"),
        ("a.txt", "0 5 5 5 5\n", "shares"),
        ("a.txt", "0 0.5 0.5 0 0.1\n", "no box"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        read_boxes(write(tmp_path / name, content))


def test_a_box_on_the_command_line():
    assert parse_box("10,20,30,12").box == (10, 20, 30, 12)
    assert not parse_box("0,0,9,1,9,5,0,4").upright
    for text in ("1,2,3", "a,b,c,d", "1,2,-3,4"):
        with pytest.raises(UserError, match="--box"):
            parse_box(text)
