"""The report's tables as text: for a terminal, and in Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lpdiff_jax.evaluation.reading.analysis import worst_confusions
from lpdiff_jax.evaluation.report.summary import FIGURES

Report = dict[str, Any]
EXPLANATION = (
    "Each cell: the figure over all plates and its 95 % interval (bootstrap over plates; KID: "
    "jackknife). PSNR, SSIM, ACC and the confidence gap: more is better; the others: less. LPIPS "
    "with AlexNet unless it says VGG. NED: edit distance over the longer length. w/o prov.: "
    "without the province character. Best frame: for each figure the best of a plate's frames, "
    "chosen with the truth known, so that no choice of one frame can do better. Confidence gap: "
    "mean confidence of right readings minus that of wrong ones. ECE: expected calibration error "
    "of the confidence in whole plates."
)


def format_table(report: Report) -> str:
    """The table for a terminal, without intervals; then speed, notes, problems."""
    table = aligned(table_cells(report["rows"], "figures", intervals=False))
    table += [format_speed(report), *(f"note: {note}" for note in report["notes"])]
    if report["problems"]:
        shown = report["problems"][:5]
        table += [f"{len(report['problems'])} problems, see report.md:", *shown]
    return "\n".join(table)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for a terminal: names to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]


def format_speed(report: Report) -> str:
    """How long it took, in words."""
    seconds, count = report["seconds"], report["plates"]
    parts = [f"{name} {value:.1f} s" for name, value in seconds.items() if value]
    total = sum(seconds.values())
    return f"{count} plates: {', '.join(parts)}; {count / max(total, 1e-9):.1f} plates/s"


def format_markdown(report: Report) -> str:
    """The tables with intervals, what is read how, the notes and the problems."""
    first = next(iter(report["rows"]), "")
    parts = [
        f"# Evaluation: {report['plates']} plates, {report['labelled']} with a text",
        markdown(table_cells(report["rows"], "figures")),
        EXPLANATION,
        format_speed(report),
        f"## Difference to '{first}', plate by plate",
        markdown(table_cells(report["rows"], "difference")),
    ]
    for count, table in report["sweep"].items():
        parts += [f"## The {count} nearest frames", markdown(table_cells(table, "figures"))]
    if report["reading"]:
        parts += ["## Reading by position, and the commonest errors", _reading(report["reading"])]
    for title, key in (("Notes", "notes"), ("Problems", "problems")):
        if report[key]:
            parts += [f"## {title}", "\n".join(f"- {line}" for line in report[key])]
    return "\n\n".join(parts) + "\n"


def table_cells(table: Mapping[str, Any], part: str, *, intervals: bool = True) -> list[list[str]]:
    """The table as text: a header, then a line for each row that has anything to show."""
    shown = {name: row for name, row in table.items() if row[part] or part == "figures"}
    keys = [key for key in FIGURES if any(key in row[part] for row in shown.values())]
    cells = [["row", "images", *(FIGURES[key].title for key in keys)]]
    for name, row in shown.items():
        figures = (
            format_cell(row[part].get(key), FIGURES[key].decimals, intervals) for key in keys
        )
        cells.append([name, str(row["images"]), *figures])
    return cells


def format_cell(figure: Mapping[str, Any] | None, decimals: int, interval: bool) -> str:
    """A figure, with its interval where it is asked for and known; '-' where there is none."""
    if figure is None:
        return "-"
    mean = f"{figure['mean']:.{decimals}f}"
    low, high = figure["low"], figure["high"]
    if not interval or low is None or math.isnan(low):
        return mean
    return f"{mean} [{low:.{decimals}f}, {high:.{decimals}f}]"


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, of a header and its lines."""
    lines = ["| " + " | ".join(line) + " |" for line in cells]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(cells[0]) - 1), *lines[1:]])


def _reading(reading: Mapping[str, Any]) -> str:
    positions = max(len(row["positions"]) for row in reading.values())
    header = ["row", *(str(i + 1) for i in range(positions)), "true > read"]
    lines = []
    for name, row in reading.items():
        shares = [f"{place['accuracy']:.2f}" for place in row["positions"]]
        shares += ["-"] * (positions - len(shares))
        errors = [
            f"{true}>{read or 'nothing'} {times}"
            for true, read, times in worst_confusions(row["confusion"], 5)
        ]
        lines.append([name, *shares, ", ".join(errors) or "-"])
    return markdown([header, *lines])
