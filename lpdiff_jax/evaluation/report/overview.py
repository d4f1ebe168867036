"""One line per set of plates: the share that is read right, of several evaluations at once."""

from collections.abc import Mapping

from lpdiff_jax.evaluation import rows
from lpdiff_jax.evaluation.report.tables import Report, aligned, format_cell, markdown

# The rows that are shown, where a set has them.
ROWS = (rows.BEST_FRAME, *rows.FIRST_ESTIMATES, rows.RESTORED, rows.READING_HEAD, rows.FUSED)
EXPLANATION = (
    "The share of plates that are read right, without the province character, and its 95 % "
    "interval; the last column: by the reading head, with the province."
)
_WITH_PROVINCE = "with province"


def format_overview(reports: Mapping[str, Report]) -> str:
    """The table for a terminal, without intervals.

    Args:
      reports: name of the set -> its report, see `evaluation.evaluate.evaluate`.
    """
    return "\n".join(aligned(overview_cells(reports, intervals=False)))


def format_overview_markdown(reports: Mapping[str, Report]) -> str:
    """The table with intervals, as Markdown."""
    return f"{markdown(overview_cells(reports))}\n\n{EXPLANATION}\n"


def overview_cells(reports: Mapping[str, Report], *, intervals: bool = True) -> list[list[str]]:
    """A header, then a line per set."""
    shown = [name for name in ROWS if any(name in r["rows"] for r in reports.values())]
    last = [_WITH_PROVINCE] if rows.READING_HEAD in shown else []
    cells = [["set", "plates", *shown, *last]]
    for name, report in reports.items():
        line = [
            format_cell(_figure(report, row, "acc_without_province"), 3, intervals) for row in shown
        ]
        line += [format_cell(_figure(report, rows.READING_HEAD, "acc"), 3, intervals)] * len(last)
        cells.append([name, str(report["plates"]), *line])
    return cells


def _figure(report: Report, row: str, figure: str) -> Mapping[str, float] | None:
    found: Mapping[str, float] | None = report["rows"].get(row, {}).get("figures", {}).get(figure)
    return found
