"""The report of an evaluation: a machine's file, tables for a reader, and a contact sheet."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpdiff_jax.evaluation.summary import FIGURES

Report = dict[str, Any]


def write_report(report: Report, output_dir: Path) -> None:
    """Writes report.json and report.md."""
    text = json.dumps(_finite(report), ensure_ascii=False, indent=1, allow_nan=False)
    write_text(output_dir / "report.json", text)
    write_text(output_dir / "report.md", format_markdown(report))


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or nothing."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _finite(node: Any) -> Any:
    """Replaces NaN and infinities, which JSON has not, by null."""
    if isinstance(node, Mapping):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def format_table(report: Report) -> str:
    """The table for a terminal: a row a line, means only."""
    figures = _figures_present(report)
    lines = [["row", "images", *(FIGURES[key][0] for key in figures)]]
    for name, row in report["rows"].items():
        means = (_mean(row["figures"].get(key), FIGURES[key][1]) for key in figures)
        lines.append([name, str(row["images"]), *means])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([*table, *(f"note: {note}" for note in report["notes"])])


def format_markdown(report: Report) -> str:
    """The tables with intervals, the notes and the problems."""
    parts = [
        f"# Evaluation: {report['plates']} plates, {report['labelled']} with a text",
        _markdown_table(report, "figures"),
        "Each cell: the mean over plates and its 95 % interval (bootstrap). PSNR, SSIM and ACC: "
        "more is better; NED: less is better. 'w/o prov.': without the province character.",
        f"## Difference to '{next(iter(report['rows']), '')}', plate by plate",
        _markdown_table(report, "difference"),
    ]
    for title, key in (("Notes", "notes"), ("Left out", "problems")):
        if report[key]:
            parts += [f"## {title}", "\n".join(f"- {line}" for line in report[key])]
    return "\n\n".join(parts) + "\n"


def _markdown_table(report: Report, part: str) -> str:
    figures = _figures_present(report)
    arrows = {key: f"{FIGURES[key][0]} {'↑' if FIGURES[key][2] else '↓'}" for key in figures}
    lines = ["| row | images | " + " | ".join(arrows.values()) + " |"]
    lines.append("|---|---:|" + "---:|" * len(figures))
    for name, row in report["rows"].items():
        if row[part]:
            cells = (_interval(row[part].get(key), FIGURES[key][1]) for key in figures)
            lines.append(f"| {name} | {row['images']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _figures_present(report: Report) -> list[str]:
    rows = report["rows"].values()
    return [key for key in FIGURES if any(key in row["figures"] for row in rows)]


def _mean(figure: Mapping[str, float] | None, decimals: int) -> str:
    return "-" if figure is None else f"{figure['mean']:.{decimals}f}"


def _interval(figure: Mapping[str, float] | None, decimals: int) -> str:
    if figure is None:
        return "-"
    return (
        f"{_mean(figure, decimals)} [{figure['low']:.{decimals}f}, {figure['high']:.{decimals}f}]"
    )
