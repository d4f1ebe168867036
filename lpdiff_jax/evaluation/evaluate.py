"""The evaluation as one call: every plate of a source, every row, one report."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.example import Example, Source
from data_pipeline.images import decode_image
from data_pipeline.pipeline import decode_text, eval_batches
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation import records, report, rows, summary
from lpdiff_jax.evaluation.reading import Reader
from lpdiff_jax.sheets import contact_sheet, write_image

SHEET_PLATES = 24


def evaluate(
    restorer: rows.Restores | None,
    source: Source,
    output_dir: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    reader: Reader | None = None,
    samples: int = 1,
    steps: int | None = None,
    batch_size: int = 16,
    max_frames: int = 5,
    limit: int | None = None,
    seed: int = 0,
) -> report.Report:
    """Judges a model's plates, and the rows that need no model, against the ground truth.

    Args:
      restorer: the model; None for the rows without one.
      source: the plates, from `data_pipeline.sources.open_source`.
      output_dir: gets report.json, report.md, records.jsonl and contact_sheet.png.
      image_size: (H, W) to judge at; default: the restorer's.
      reader: what reads the plates; None leaves NED and ACC out.
      samples: restored samples a plate; with more than one there is a row of their vote.
      steps: of the sampler; default: the restorer's.
      batch_size: plates at a time.
      max_frames: of a plate's frames the last so many are used.
      limit: judge the first so many plates only.
      seed: of the sampler.

    Returns:
      The report: `rows` (see `summary.summarise`), `plates`, `labelled`, `notes`, `problems`,
      `seconds`; the content of report.json.

    Raises:
      UserError: no plate can be judged.
    """
    if image_size is None:
        image_size = restorer.image_size if restorer is not None else (112, 224)
    run = _Run(restorer, reader, Path(output_dir), samples, steps, seed)
    run.output_dir.mkdir(parents=True, exist_ok=True)
    run.records_path.unlink(missing_ok=True)
    usable, problems = check_source(source, limit)
    if not len(usable):
        raise UserError("no plate can be judged: " + "; ".join(problems[:3] or ["no plates"]))
    batches = eval_batches(
        usable, image_size=image_size, max_frames=max_frames, batch_size=batch_size
    )
    for batch in batches:
        run.judge(batch, [usable[int(i)].name for i in batch["index"]])
    run.write_sheet()
    done = list(records.read(run.records_path))
    result = {
        "plates": len(done),
        "labelled": sum(bool(record["text"]) for record in done),
        "rows": summary.summarise(done),
        "seconds": run.seconds,
        "notes": _notes(done, reader),
        "problems": problems,
    }
    report.write_report(result, run.output_dir)
    return result


@dataclass(frozen=True)
class Subset:
    """Some examples of a source."""

    source: Source
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.indices[index]]


def check_source(source: Source, limit: int | None = None) -> tuple[Subset, list[str]]:
    """Finds the plates that can be judged, and says what is wrong with each other one."""
    usable, problems = [], []
    for index in range(min(len(source), limit or len(source))):
        try:
            _check_example(source[index])
            usable.append(index)
        except DataError as error:
            problems.append(str(error))
    return Subset(source, tuple(usable)), problems


def _check_example(example: Example) -> None:
    if example.target is None:
        raise DataError(f"group {example.name!r}: no ground truth")
    decode_image(example.target, f"group {example.name!r}, ground truth")
    for number, frame in enumerate(example.frames, 1):
        decode_image(frame, f"group {example.name!r}, frame {number}")


def _notes(done: list[records.Record], reader: Reader | None) -> list[str]:
    notes = []
    unlabelled = sum(not record["text"] for record in done)
    if reader is None:
        notes.append("NED and ACC are left out: no reader (`lpdiff fetch-weights reader`)")
    elif unlabelled:
        notes.append(f"NED and ACC leave out {unlabelled} plates that have no text in labels.json")
    return notes


@dataclass
class _Run:
    """One evaluation under way: what it was asked for, and what it has gathered."""

    restorer: rows.Restores | None
    reader: Reader | None
    output_dir: Path
    samples: int
    steps: int | None
    seed: int
    seconds: dict[str, float] = field(default_factory=lambda: {"restoring": 0.0, "judging": 0.0})
    sheet: list[dict[str, np.ndarray]] = field(default_factory=list)

    @property
    def records_path(self) -> Path:
        return self.output_dir / "records.jsonl"

    def judge(self, batch: Mapping[str, np.ndarray], names: list[str]) -> None:
        """Restores a batch, scores every row and writes the records."""
        start = time.perf_counter()
        images, samples = rows.input_rows(batch), None
        if self.restorer is not None:
            model = rows.restore_batch(
                self.restorer, batch, steps=self.steps, samples=self.samples, seed=self.seed
            )
            images |= model.rows()
            samples = model.samples if self.samples > 1 else None
        restored = time.perf_counter()
        texts = [decode_text(codes) for codes in batch["text"]]
        scores = records.score_batch(images, samples, texts, self.reader)
        valid = np.flatnonzero(batch["valid"])
        done = [{"name": names[i], "text": texts[i], "rows": scores[i]} for i in valid]
        records.append(self.records_path, done)
        self.seconds["restoring"] += restored - start
        self.seconds["judging"] += time.perf_counter() - restored
        self.keep_for_sheet(images, valid)

    def keep_for_sheet(self, images: Mapping[str, rows.Images], valid: np.ndarray) -> None:
        """Keeps the images of the first plates."""
        for i in valid[: SHEET_PLATES - len(self.sheet)]:
            self.sheet.append({k: row.images[i] for k, row in images.items() if row.present[i]})

    def write_sheet(self) -> None:
        """Writes the contact sheet: frames | psi | restored | ground truth."""
        columns = rows.order(name for plate in self.sheet for name in plate)
        shown = [n for n in columns if rows.is_frame(n) or n in (rows.PSI, rows.RESTORED)]
        shown.append(rows.GROUND_TRUTH)
        missing = np.full_like(self.sheet[0][rows.GROUND_TRUTH], 128)
        plates = [[plate.get(name, missing) for name in shown] for plate in self.sheet]
        write_image(self.output_dir / "contact_sheet.png", contact_sheet(plates, shown))
