"""The evaluation as one call: every plate of a source, every row, one report."""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.example import Example, Source
from data_pipeline.files import explained
from data_pipeline.images import decode_image
from data_pipeline.pipeline import decode_text, eval_batches
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation import partial_results, rows, scoring
from lpdiff_jax.evaluation.judges import Judges
from lpdiff_jax.evaluation.metrics import distribution
from lpdiff_jax.evaluation.other_methods import Folder
from lpdiff_jax.evaluation.reading import analysis
from lpdiff_jax.evaluation.report import summary, write
from lpdiff_jax.evaluation.restored import Restored, restore_batch
from lpdiff_jax.parallel import processes
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.restoring.sheets import write_image

PUBLISHED_SIZE = (112, 224)
Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
      image_size: (H, W) that every image is judged at; figures of other sizes cannot be
        compared.
      samples: the restored samples per plate; more than one give a row of their vote.
      steps: the steps of the sampler; None takes the model's default.
      seed: the seed of the noise.
      batch_size: the plates at a time, over all processes.
      max_frames: the most frames that are used of each plate: the nearest ones.
      limit: the number of plates that are judged, from the first on; 0 judges all.
      sweep: numbers of frames to compare; each of them restores everything again.
      compare: folders of other methods' results.
    """

    image_size: tuple[int, int] = PUBLISHED_SIZE
    samples: int = 1
    steps: int | None = None
    seed: int = 0
    batch_size: int = 16
    max_frames: int = 5
    limit: int = 0
    sweep: tuple[int, ...] = ()
    compare: tuple[Folder, ...] = ()

    def __post_init__(self) -> None:
        for name, most in (("samples", 256), ("batch_size", 65_536), ("max_frames", 1000)):
            if not 1 <= getattr(self, name) <= most:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 1 to {most}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}; seeds are 0 to {2**32 - 1}")
        names = [folder.name for folder in self.compare]
        if len(set(names)) < len(names):
            raise UserError(f"{', '.join(names)}: each folder to compare with has its own name")
        if not all(1 <= count <= self.max_frames for count in self.sweep):
            raise UserError(f"sweep {self.sweep}: must lie in 1..{self.max_frames} (max_frames)")


def evaluate(
    restorer: Restorer | None,
    source: Source,
    output_dir: str | Path,
    *,
    judges: Judges | None = None,
    options: Options | None = None,
    notes: Sequence[str] = (),
    problems: Sequence[str] = (),
    together: bool = False,
    identity: str | None = None,
) -> write.Report:
    """Judges a model's plates, and the rows that need no model, against the ground truth.

    Args:
      restorer: the model; None for the rows without one.
      source: the plates, from `data_pipeline.sources.open_source`.
      output_dir: gets report.json, report.md, report.html, records.jsonl, contact_sheet.png,
        and the plates in restored/ and psi/ (or what the method's first estimate is called).
      judges: the judges; None takes PSNR and SSIM only.
      options: how to evaluate; None takes the defaults.
      notes: what the reader of the report has to know about the data.
      problems: the faults of the data that the caller has found.
      together: whether all processes have called this, each to judge its part; all of them need
        to see `output_dir`, and the first writes the report. Else this process does it alone.
      identity: what tells the model and the judges from others. An evaluation of the same that was
        interrupted is gone on with; None begins anew.

    Returns:
      The report: `rows` (see `summary.summarise`), `sweep`, `plates`, `labelled`, `notes`,
      `problems`, `seconds`; the content of report.json.

    Raises:
      UserError: no plate can be judged.
    """
    run = _Run(restorer, judges or Judges(), options or Options(), Path(output_dir), together)
    usable, faults = check_source(source, run.options.limit)
    if not len(usable):
        raise UserError("no plate can be judged: " + "; ".join(faults[:3] or ["no plates"]))
    run.prepare(identity, usable)
    done_before = run.part.done()
    for batch, model_batch in run.batches(usable):
        if not done_before.issuperset(run.positions(batch, usable)):
            run.judge(batch, model_batch, usable)
    run.wait_for_all("parts of the evaluation")
    done, features = partial_results.gather(run.parts_dir)
    result: write.Report = {
        "image_size": list(run.options.image_size),
        "plates": len(done),
        "labelled": sum(bool(record["text"]) for record in done),
        "rows": summary.summarise(done, features),
        "sweep": summary.summarise_sweep(done),
        "reading": analysis.summarise_reading(done),
        "seconds": run.seconds,
        "notes": [*notes, *run.judges.missing, *_notes(done, run.judges)],
        "problems": [*problems, *faults, *(p for record in done for p in record["problems"])],
    }
    run.wait_for_all("reading of the parts")
    if run.process == 0:
        write.write_report(result, done, source, run.output_dir, run.options.max_frames)
        shutil.rmtree(run.parts_dir)
    return result


@dataclass(frozen=True)
class Subset:
    """Some examples of a source, and the SHA-256 of all that was read of it."""

    source: Source
    indices: tuple[int, ...]
    digest: str = ""

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.indices[index]]


def check_source(source: Source, limit: int = 0) -> tuple[Subset, list[str]]:
    """Finds the plates that can be judged, and says what is wrong with each other one."""
    usable, problems, digest = [], [], hashlib.sha256()
    for index in range(min(len(source), limit or len(source))):
        try:
            example = source[index]
            digest.update(f"{index} {example.name} {example.text}".encode(errors="surrogatepass"))
            for data in (*example.frames, example.target or b""):
                digest.update(data)
            _check_example(example)
            usable.append(index)
        except DataError as error:
            problems.append(str(error))
    return Subset(source, tuple(usable), digest.hexdigest()), problems


def _check_example(example: Example) -> None:
    if example.target is None:
        raise DataError(f"group {example.name!r}: no ground truth")
    decode_image(example.target, f"group {example.name!r}, ground truth")
    for number, frame in enumerate(example.frames, 1):
        decode_image(frame, f"group {example.name!r}, frame {number}")


def _notes(done: list[partial_results.Record], judges: Judges) -> list[str]:
    notes = []
    unlabelled = sum(not record["text"] for record in done)
    if judges.reader is not None and unlabelled:
        notes.append(f"NED and ACC leave out {unlabelled} plates that have no text in labels.json")
    if judges.features is not None and len(done) < distribution.FEW_IMAGES:
        notes.append(
            f"FID of {len(done)} images is biased upwards, the more the fewer they are: compare it "
            "between rows of this table alone; KID has no such bias"
        )
    return notes


@dataclass
class _Run:
    """One process's part of an evaluation."""

    restorer: Restorer | None
    judges: Judges
    options: Options
    output_dir: Path
    together: bool
    seconds: dict[str, float] = field(default_factory=lambda: {"restoring": 0.0, "judging": 0.0})

    def __post_init__(self) -> None:
        self.parts_dir = self.output_dir / "parts"
        self.process = processes.process_index() if self.together else 0
        self.processes = processes.process_count() if self.together else 1
        self.part = partial_results.Part(self.parts_dir, self.process)

    def prepare(self, identity: str | None, source: Subset) -> None:
        """Makes the folder of the parts: empty, or with what a run of the same has left."""
        plan = None
        if identity is not None:
            options = json.loads(json.dumps(dataclasses.asdict(self.options), default=str))
            plan = {"identity": identity, "data": source.digest, "processes": self.processes}
            plan |= {"options": options}
        if self.process == 0:
            partial_results.take_up(self.parts_dir, plan)
        self.wait_for_all("folders of the evaluation")

    def positions(self, batch: Batch, source: Subset) -> list[int]:
        """The places, in the whole source, of a batch's plates, without what fills it up."""
        valid = np.flatnonzero(batch["valid"])
        return [source.indices[int(batch["index"][i])] for i in valid]

    def wait_for_all(self, where: str) -> None:
        """Returns when every process that takes part is there."""
        if self.together:
            processes.wait_for_all(where)

    def batches(self, source: Source) -> Iterator[tuple[Batch, Batch]]:
        """This process's batches at the judged size, each with the same at the model's size."""

        def at(size: tuple[int, int]) -> Iterator[Batch]:
            return eval_batches(
                source,
                image_size=size,
                max_frames=self.options.max_frames,
                batch_size=-(-self.options.batch_size // self.processes) * self.processes,
                process_index=self.process,
                process_count=self.processes,
            )

        judged = at(self.options.image_size)
        if self.restorer is None or self.restorer.image_size == self.options.image_size:
            return ((batch, batch) for batch in judged)
        return zip(judged, at(self.restorer.image_size), strict=True)

    def judge(self, batch: Batch, model_batch: Batch, source: Subset) -> None:
        """Restores a batch, scores every row, and writes what has been found."""
        names = [source[int(i)].name for i in batch["index"]]
        positions = [source.indices[int(i)] for i in batch["index"]]
        texts = [decode_text(codes) for codes in batch["text"]]
        images, restored = self.make_rows(batch, model_batch)
        problems: list[list[str]] = [[] for _ in names]
        for folder in self.options.compare:
            images[folder.name] = folder.read(names, self.options.image_size, problems)
        scores = self.score(images, restored, texts)
        sweep = self.sweep(batch, model_batch, texts)
        valid = np.flatnonzero(batch["valid"])
        self.keep_images(images, names, valid)
        self.keep_features(images, positions, valid)
        self.part.append(
            [
                {
                    "position": positions[i],
                    "name": names[i],
                    "text": texts[i],
                    "rows": scores[i],
                    "sweep": {count: plates[i] for count, plates in sweep.items() if plates[i]},
                    "problems": problems[i],
                }
                for i in valid
            ]
        )

    def make_rows(
        self, batch: Batch, model_batch: Batch
    ) -> tuple[dict[str, rows.Images], Restored | None]:
        """The rows that have images, and what the model has made."""
        images = rows.input_rows(batch)
        if self.restorer is None:
            return images, None
        start = time.perf_counter()
        restored = restore_batch(
            self.restorer,
            model_batch,
            self.options.image_size,
            steps=self.options.steps,
            samples=self.options.samples,
            seed=self.options.seed,
        )
        self.seconds["restoring"] += time.perf_counter() - start
        return images | restored.rows(), restored

    def score(
        self,
        images: Mapping[str, rows.Images],
        restored: Restored | None,
        texts: Sequence[str],
    ) -> list[dict[str, scoring.Scores]]:
        """The scores of each plate, by row."""
        start = time.perf_counter()
        scores = scoring.score_batch(images, restored, texts, self.judges)
        self.seconds["judging"] += time.perf_counter() - start
        return scores

    def sweep(
        self, batch: Batch, model_batch: Batch, texts: Sequence[str]
    ) -> dict[int, list[dict[str, scoring.Scores]]]:
        """{number of frames: scores of each plate}; nothing for a plate that has fewer frames."""
        swept = {}
        for count in self.options.sweep:
            fewer, fewer_model = (rows.with_nearest_frames(b, count) for b in (batch, model_batch))
            scores = self.score(*self.make_rows(fewer, fewer_model), texts)
            enough = fewer["enough"]
            swept[count] = [plate if enough[i] else {} for i, plate in enumerate(scores)]
        return swept

    def keep_features(
        self, images: Mapping[str, rows.Images], positions: list[int], valid: np.ndarray
    ) -> None:
        """Computes and keeps the features of every row's images."""
        if self.judges.features is None:
            return
        kept: partial_results.RowFeatures = {}
        for name, row in images.items():
            here = [i for i in valid if row.present[i]]
            if here:
                features = self.judges.features(row.images)[here]
                kept[name] = np.array([positions[i] for i in here]), features
        if kept:
            self.part.write_features(kept)

    def keep_images(
        self, images: Mapping[str, rows.Images], names: list[str], valid: np.ndarray
    ) -> None:
        """Writes the first estimates and the restored plates."""
        for row in (*rows.FIRST_ESTIMATES, rows.RESTORED):
            for i in valid if row in images else ():
                path = rows.image_path(self.output_dir, row, names[i])
                with explained(path):
                    path.parent.mkdir(exist_ok=True)
                    write_image(path, images[row].images[i])
