"""What results say of one plate: its entry of restore.json, and its line of results.csv."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from data_pipeline.tree import printable
from lpdiff_jax.plate_text import SlotReader
from lpdiff_jax.restoring.hypotheses import syntax_of
from lpdiff_jax.restoring.plates import RestoredPlate
from lpdiff_jax.restoring.reading import PlateFrames
from lpdiff_jax.restoring.verdicts import marked, verdict, weak_places

_COLUMNS = (
    "name", "text", "confidence", "verdict", "weak_characters", "second_text",
    "second_probability", "frames", "frames_seen", "first_time", "last_time", "source", "restored",
)  # fmt: skip
# A byte order mark, without which spreadsheets read Chinese as something else.
TABLE_HEAD = ("\ufeff" + ",".join(_COLUMNS) + "\r\n").encode()
_WANTED = ("name", "source", "input_sha256", "restored", "sheet", "frames", "frames_seen")


def is_entry(entry: Any) -> bool:
    """Whether a value of a file has what an entry of restore.json needs."""
    return isinstance(entry, dict) and all(key in entry for key in _WANTED)


def describe(
    frames: PlateFrames,
    plate: RestoredPlate,
    reader: SlotReader | None,
    hypotheses: int,
    syntax: bool,
) -> dict[str, Any]:
    """A plate's entry of restore.json, but for its files.

    Args:
      frames: where it comes from.
      plate: what the model made of it.
      reader: the model's; None where it does not read.
      hypotheses: the number of texts.
      syntax: texts that no plate has are left out.
    """
    entry: dict[str, Any] = {
        "name": frames.name,
        "source": printable(frames.source),
        "input_sha256": frames.digest,
        "inputs": list(dict.fromkeys(printable(str(o.path)) for o in frames.origins)),
        "frames": [origin.describe() for origin in frames.origins],
        "frames_seen": frames.seen,
    }
    reading = plate.reading
    if reading is None or reader is None or plate.slots is None:
        return entry
    entry["reading"] = {
        "text": reading.text,
        "confidence": reading.confidence,
        "character_confidences": list(reading.character_confidences),
        "readable": plate.readable,
        "verdict": verdict(reading, plate.readable),
        "marked": marked(reading),
        "weak": weak_places(reading),
    }
    found = syntax_of(reader.charset, syntax).best(plate.slots, hypotheses)
    entry["hypotheses"] = {
        "texts": [
            {"text": text, "probability": round(share, 6)}
            for text, share in zip(found.texts, found.probabilities, strict=True)
        ],
        "sum": round(found.total, 6),
        "syntax": "plates" if syntax else "any",
        "allowed": round(found.allowed, 6),
    }
    return entry


def table_row(entry: Mapping[str, Any]) -> str:
    """A line of results.csv."""
    reading = entry.get("reading") or {}
    texts = (entry.get("hypotheses") or {}).get("texts", [])
    second = texts[1] if len(texts) > 1 else {}
    times = [frame["time"] for frame in entry["frames"] if "time" in frame]
    values = (
        entry["name"],
        reading.get("text", ""),
        f"{reading['confidence']:.6f}" if reading else "",
        reading.get("verdict", ""),
        " ".join(str(place + 1) for place in reading.get("weak", [])),
        second.get("text", ""),
        second.get("probability", ""),
        len(entry["frames"]),
        entry["frames_seen"],
        times[0] if times else "",
        times[-1] if times else "",
        entry["source"],
        entry["restored"][0],
    )
    buffer = io.StringIO()
    csv.writer(buffer).writerow([_harmless(value) for value in values])
    return buffer.getvalue()


def _harmless(value: Any) -> Any:
    """Spreadsheets take a text that begins like a formula for one."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
