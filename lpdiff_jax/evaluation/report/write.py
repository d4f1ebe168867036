"""Writes the report of an evaluation: a machine's file, tables, a page, pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data_pipeline.example import Source
from data_pipeline.files import write_whole
from lpdiff_jax.evaluation.partial_results import Record
from lpdiff_jax.evaluation.report import html, plate_pictures
from lpdiff_jax.evaluation.report.tables import Report, format_markdown
from lpdiff_jax.restoring.sheets import write_image

SHEET_PLATES = 24


def write_report(
    report: Report, records: Sequence[Record], source: Source, output_dir: Path, max_frames: int
) -> None:
    """Writes report.json, report.md, report.html, records.jsonl and contact_sheet.png."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_whole(output_dir / "records.jsonl", "".join(lines))
    text = json.dumps(_finite(report), ensure_ascii=False, indent=1, allow_nan=False)
    write_whole(output_dir / "report.json", text)
    write_whole(output_dir / "report.md", format_markdown(report))

    def pictures(chosen: Sequence[Record]) -> list[plate_pictures.Plate]:
        return list(plate_pictures.load_plates(chosen, source, output_dir, max_frames))

    sheet = plate_pictures.draw_sheet(pictures(records[:SHEET_PLATES]), report["image_size"])
    write_image(output_dir / "contact_sheet.png", sheet)
    worst = islice(plate_pictures.worst_first(records), html.MAX_PLATES)
    page = html.format_html(report, pictures(list(worst)))
    write_whole(output_dir / "report.html", page)


def _finite(node: Any) -> Any:
    """Replaces NaN and infinities, which JSON has not, by null."""
    if isinstance(node, Mapping):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
