"""The report as one page that needs no other file: tables, charts, plates to sort by a click."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from lpdiff_jax.evaluation import rows
from lpdiff_jax.evaluation.report import charts, tables
from lpdiff_jax.evaluation.report.plate_pictures import Plate, columns
from lpdiff_jax.pages import jpeg_uri, page, reading_spans

# A plate takes about 30 kB of the page.
MAX_PLATES = 300
# Rows whose readings the plates' table shows, where they are there.
_READ_ROWS = (
    rows.BEST_FRAME,
    rows.FRAMES_VOTED,
    *rows.FIRST_ESTIMATES,
    rows.RESTORED,
    rows.GROUND_TRUTH,
)

_STYLE = """
td img { width: 168px; height: 84px; image-rendering: auto; display: block; }
.charts { display: flex; flex-wrap: wrap; gap: 1em; }
svg { width: 460px; font-size: 11px; }
.wrong { outline: 2px solid #D55E00; }
"""


def format_html(report: tables.Report, plates: Sequence[Plate]) -> str:
    """The page; `plates` in the order in which it lists them, worst first."""
    title = f"Evaluation: {report['plates']} plates, {report['labelled']} with a text"
    first = next(iter(report["rows"]), "")
    parts = [
        _table(tables.table_cells(report["rows"], "figures")),
        f"<p>{escape(tables.EXPLANATION)}</p><p>{escape(tables.format_speed(report))}</p>",
        *(f"<p><b>Note:</b> {escape(note)}</p>" for note in report["notes"]),
        _charts(report["reading"]),
        f"<h2>Difference to '{escape(first)}', plate by plate</h2>",
        _table(tables.table_cells(report["rows"], "difference")),
    ]
    for count, table in report["sweep"].items():
        parts.append(f"<h2>The {count} nearest frames</h2>")
        parts.append(_table(tables.table_cells(table, "figures")))
    parts += [_confusion(report["reading"]), _plates(plates, report["plates"])]
    if report["problems"]:
        problems = "".join(f"<li>{escape(problem)}</li>" for problem in report["problems"])
        parts.append(f"<h2>Problems</h2><ul>{problems}</ul>")
    return page(title, "".join(parts), _STYLE + charts.STYLE)


def _table(cells: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in cells[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>"
        for line in cells[1:]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _charts(reading: Mapping[str, Any]) -> str:
    """Calibration, and accuracy by position, of the rows that are about the whole plate."""
    shown = {name: row for name, row in reading.items() if not rows.is_frame(name)}
    if not shown:
        return ""
    calibration = {
        name: [(b["confidence"], b["accuracy"], b["count"]) for b in row["calibration"]]
        for name, row in shown.items()
    }
    positions = {
        name: [(p["position"], p["accuracy"], p["count"]) for p in row["positions"]]
        for name, row in shown.items()
    }
    last = max(point[0] for line in positions.values() for point in line)
    pictures = [
        charts.line_chart(
            "Calibration: share of plates read right", "confidence", calibration, (0, 1),
            diagonal=True,
        ),
        charts.line_chart("Accuracy by position", "character", positions, (1, last)),
    ]  # fmt: skip
    return f'<div class="charts">{"".join(pictures)}</div>'


def _confusion(reading: Mapping[str, Any]) -> str:
    """The confusion matrix of the last row, which is the restored plate where there is a model."""
    names = [
        name
        for name in (rows.RESTORED, *rows.FIRST_ESTIMATES, rows.GROUND_TRUTH)
        if name in reading
    ]
    if not names:
        return ""
    confusion = reading[names[0]]["confusion"]
    read = sorted({character for reads in confusion.values() for character in reads})
    cells = [["true \\ read", *(character or "nothing" for character in read)]]
    for true, reads in confusion.items():
        cells.append([true, *(str(reads.get(character, "")) for character in read)])
    title = f"Confusion of characters: {escape(names[0])}"
    return f"<details><summary>{title}</summary>{_table(cells)}</details>"


def _plates(plates: Sequence[Plate], total: int) -> str:
    images = columns(plates)
    read = [n for n in _READ_ROWS if any("reading" in p.record["rows"].get(n, {}) for p in plates)]
    titles = ["plate", "truth", *images, *(f"{name} is read" for name in read), "NED", "PSNR"]
    sortable = [title not in images for title in titles]
    head = "".join(
        f"<th{' class=sortable' if sort else ''}>{_title(title)}</th>"
        for title, sort in zip(titles, sortable, strict=True)
    )
    body = "".join(_plate(plate, images, read) for plate in plates)
    count = f"{len(plates)} of {total} plates, worst first; click on a title to sort."
    return (
        f"<h2>Plates</h2><p>{count} Each character is shaded by the reader's confidence in it; "
        "wrong readings are framed.</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _title(title: str) -> str:
    # Who looks at a plate must not take what a model made up for a photograph.
    generated = ' <span class="generated">generated</span>' if title == rows.RESTORED else ""
    return escape(title) + generated


def _plate(plate: Plate, images: Sequence[str], read: Sequence[str]) -> str:
    record = plate.record
    cells = [f"<td>{escape(record['name'])}</td>", f"<td>{escape(record['text'])}</td>"]
    cells += [f"<td>{_image(plate.images.get(name))}</td>" for name in images]
    cells += [_reading(record["rows"].get(name, {}), record["text"]) for name in read]
    judged = next(
        (n for n in (rows.RESTORED, *rows.FIRST_ESTIMATES, rows.BEST_FRAME) if n in record["rows"]),
        "",
    )
    scores = record["rows"].get(judged, {})
    cells += [_number(scores.get("ned"), 3), _number(scores.get("psnr"), 2)]
    return f"<tr>{''.join(cells)}</tr>"


def _image(image: np.ndarray | None) -> str:
    if image is None:
        return ""
    return f'<img alt="" src="{jpeg_uri(image)}">'


def _reading(scores: Mapping[str, Any], text: str) -> str:
    if "reading" not in scores:
        return "<td></td>"
    confidences = scores["character_confidences"]
    characters = reading_spans(scores["reading"], confidences)
    wrong = " wrong" if text and scores["reading"] != text else ""
    confidence = scores["confidence"]
    return (
        f'<td data-key="{confidence:.6f}"><span class="reading{wrong}">{characters or "-"}</span>'
        f"<br>{confidence:.3f}</td>"
    )


def _number(value: float | None, decimals: int) -> str:
    return "<td></td>" if value is None else f"<td>{value:.{decimals}f}</td>"
