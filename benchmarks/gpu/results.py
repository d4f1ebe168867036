"""Results of the GPU kit: a line of JSON each, written as they come, and a table at the end.

python -m benchmarks.gpu.results FOLDER     # prints the table of FOLDER/results.jsonl
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any


def arguments(description: str | None) -> argparse.Namespace:
    """What every part of the kit is told: `folder`, `seconds`, `rehearse`."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="gets the results")
    parser.add_argument("seconds", type=float, help="after which nothing new is begun")
    parser.add_argument("--rehearse", action="store_true", help="at tiny sizes, on a CPU")
    return parser.parse_args()


class Results:
    """Appends rows to a file; a row that is written stays, whatever happens to the run.

    Args:
      folder: gets `results.jsonl`.
      part: the part of the kit, which is in every row.
      seconds: after so many, `in_time` says no.
    """

    def __init__(self, folder: Path, part: str, seconds: float):
        self._path, self._part = folder / "results.jsonl", part
        self._end = time.monotonic() + seconds

    def add(self, **row: Any) -> None:
        """Writes a row, and prints it."""
        line = json.dumps({"part": self._part} | row)
        with self._path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def in_time(self, needs: float = 0.0) -> bool:
        """Whether something that takes so many seconds can still be done."""
        return time.monotonic() + needs < self._end


def table(rows: list[dict[str, Any]]) -> str:
    """What is to be seen at a glance: parts, checks, and times beside PyTorch's."""
    lines = ["| part | status | seconds |", "|---|---|---|"]
    ends = [row for row in rows if "status" in row]
    lines += [f"| {row['part']} | {row['status']} | {row['seconds']} |" for row in ends]
    lines += ["", "| check | measured | bound | passed |", "|---|---|---|---|"]
    checks = [row for row in rows if "passed" in row]
    lines += [
        f"| {row['check']} | {row['error']:.2e} | {row['bound']:.0e} | {row['passed']} |"
        for row in checks
    ]
    limits = [row for row in rows if "limit" in row]
    lines += ["", "| limit | measured |", "|---|---|"]
    lines += [f"| {row['limit']} | {row['value']:.3g} {row['unit']} |" for row in limits]
    lines += [
        "",
        "| network | program | precision | batch | ours, ms | of peak | of bandwidth | eager, ms "
        "| compiled, ms | times eager | times compiled |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += _speeds([row for row in rows if "program" in row])
    lines += ["", "| kernel | ms a step | share |", "|---|---|---|"]
    kernels = [row for row in rows if "kernel" in row]
    lines += [
        f"| `{row['kernel'][:80]}` | {row['ms']:.3f} | {row['share']:.1%} |" for row in kernels
    ]
    return "\n".join(lines)


def _speeds(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each of our measurements, with PyTorch's of the same beside it."""
    key = lambda row: tuple(row[k] for k in ("network", "program", "precision", "batch"))  # noqa: E731
    others = {(row["by"], *key(row)): row["ms"] for row in rows}
    lines = []
    for row in rows:
        if row["by"] != "ours":
            continue
        eager, compiled = (others.get((by, *key(row))) for by in ("eager", "compiled"))
        cells = [*map(str, key(row)), f"{row['ms']:.3f}"]
        cells += [f"{row['of_peak']:.1%}", f"{row['of_bandwidth']:.1%}"]
        cells += [f"{ms:.3f}" if ms else "" for ms in (eager, compiled)]
        cells += [f"{ms / row['ms']:.2f}" if ms else "" for ms in (eager, compiled)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run."""
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    print(table(read(Path(sys.argv[1]))))
