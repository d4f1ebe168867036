"""index.html of a folder of results: every plate, worst confidence first, sorted by a click."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.images import read_image
from lpdiff_jax.pages import jpeg_uri, page_foot, page_head, reading_spans
from lpdiff_jax.restoring.output import ResultFile, write_file

# A plate's picture takes about 25 kB of the page; the others are linked.
MAX_PICTURES = 300
_WIDTH = 720
_COLUMNS = ("plate", "text", "confidence", "verdict", "next best texts", "frames", "pictures")
_SORTABLE = 6
_STYLE = """
td img { display: block; max-width: 720px; height: auto; }
td.texts { text-align: left; font-size: 12px; white-space: nowrap; }
.readable { color: #00664b; } .uncertain { color: #8a5a00; } .unreadable { color: #a33000; }
"""


def write_page(folder: Path, results: ResultFile, notes: Sequence[str]) -> None:
    """Writes `index.html` of the plates of a restore.json; raises `OSError`."""
    write_file(folder / "index.html", "".join(_parts(folder, results, notes)).encode())


def _parts(folder: Path, results: ResultFile, notes: Sequence[str]) -> Iterator[str]:
    places = sorted((_confidence(entry), place) for place, entry in results.places())
    yield page_head(f"{len(places)} restored plates", _STYLE)
    yield (
        '<p>Worst confidence first; click on a title to sort. <b class="generated">Restored plates '
        "are generated pictures</b>: they show the characters that the model thinks it read, "
        "whether right or wrong. How sure it is says the confidence, not the picture. Each "
        "character is shaded by the confidence in it.</p>"
    )
    yield "<table><thead><tr>"
    for place, title in enumerate(_COLUMNS):
        yield f"<th{' class=sortable' if place < _SORTABLE else ''}>{title}</th>"
    yield "</tr></thead><tbody>"
    for number, (_, place) in enumerate(places):
        yield _row(folder, results.plate_at(place), number < MAX_PICTURES)
    yield "</tbody></table>"
    if len(places) > MAX_PICTURES:
        yield f"<p>Pictures of the first {MAX_PICTURES} are shown, those of the others linked.</p>"
    if notes:
        yield "<h2>Problems and notes</h2><ul>"
        yield "".join(f"<li>{escape(note)}</li>" for note in notes)
        yield "</ul>"
    yield page_foot()


def _confidence(plate: Mapping[str, Any]) -> float:
    return plate["reading"]["confidence"] if "reading" in plate else -1.0


def _row(folder: Path, plate: Mapping[str, Any], shown: bool) -> str:
    reading = plate.get("reading")
    cells = [f"<td>{escape(plate['name'])}</td>"]
    if reading is None:
        cells += ["<td></td>"] * 4
    else:
        text = reading_spans(reading["text"], reading["character_confidences"]) or "-"
        cells.append(f'<td data-key="{escape(reading["text"])}" class="reading">{text}</td>')
        cells.append(f"<td>{reading['confidence']:.3f}</td>")
        cells.append(f'<td class="{reading["verdict"]}">{reading["verdict"]}</td>')
        cells.append(f'<td class="texts">{_texts(plate.get("hypotheses"))}</td>')
    cells.append(f"<td>{len(plate['frames'])} of {plate['frames_seen']}</td>")
    return f"<tr>{''.join(cells)}<td>{_pictures(folder, plate['sheet'], shown)}</td></tr>"


def _texts(hypotheses: Mapping[str, Any] | None) -> str:
    if not hypotheses:
        return ""
    lines = [
        f"{escape(entry['text'])} {entry['probability']:.3f}" for entry in hypotheses["texts"][:5]
    ]
    return "<br>".join([*lines, f"together {hypotheses['sum']:.3f}"])


def _read(path: Path) -> np.ndarray | None:
    """A picture; None where somebody has removed it in the meantime."""
    try:
        return read_image(path)
    except DataError:
        return None


def _pictures(folder: Path, sheet: str, shown: bool) -> str:
    image = _read(folder / sheet) if shown else None
    link = f'<a href="{escape(sheet)}">'
    if image is None:
        return f"{link}{escape(sheet)}</a>"
    if image.shape[1] > _WIDTH:
        size = (_WIDTH, round(image.shape[0] * _WIDTH / image.shape[1]))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    address = jpeg_uri(image)
    return f'{link}<img alt="frames, first estimate, generated" src="{address}"></a>'
