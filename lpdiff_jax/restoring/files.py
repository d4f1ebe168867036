"""Restoring a user's own files: `lpdiff restore`, as a function."""

import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.tree import printable
from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring import drawing, provenance
from lpdiff_jax.restoring.boxes import Box
from lpdiff_jax.restoring.detectors import Detector
from lpdiff_jax.restoring.entries import TABLE_HEAD, describe, is_entry, table_row
from lpdiff_jax.restoring.inputs import Found, Source, find_sources, local_path
from lpdiff_jax.restoring.names import Names
from lpdiff_jax.restoring.output import (
    ResultFile,
    append_file,
    locked,
    make_folders,
    read_results,
    told,
    write_file,
)
from lpdiff_jax.restoring.page import write_page
from lpdiff_jax.restoring.plate_pictures import plate_pictures
from lpdiff_jax.restoring.plates import Options, RestoredPlate, restore_plates
from lpdiff_jax.restoring.reading import Choice, PlateFrames, check_boxes, digest, read_plates
from lpdiff_jax.restoring.regions import MovingRegion, Region
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.restoring.video import Clip

# Of the content of restore.json; others are not gone on with.
FORMAT = 2
RESULTS, TABLE = "restore.json", "results.csv"
MAX_SAMPLES = 256
# Called with an entry, and what the model made; None where the plate was done already.
OnPlate = Callable[[Mapping[str, Any], RestoredPlate | None], None]
OnProgress = Callable[[int, int | None], None]


@dataclasses.dataclass(frozen=True)
class FileOptions:
    """What is read, and what is written.

    Attributes:
      scale: the factor by which pictures are larger than the model's.
      native: also write the model's own pixels, in a folder `native`.
      hypotheses: texts of each plate, with their probabilities.
      syntax: texts that no plate has are left out.
      overwrite: results of other settings in the folder are removed, not refused.
      clip: which part of videos.
      box: the plate in every picture or frame; or at some moments, between which it moves.
      boxes: plates, frame by frame, see `boxes.read_boxes`.
      detector: the detector that finds the plates.
      force: pictures that do not look like crops are taken for crops all the same.
      deadline: the moment of `time.monotonic` after which nothing is read; None is never.
    """

    scale: int = 4
    native: bool = False
    hypotheses: int = 5
    syntax: bool = True
    overwrite: bool = False
    clip: Clip = dataclasses.field(default_factory=Clip)
    box: Region | MovingRegion | None = None
    boxes: tuple[Box, ...] = ()
    detector: Detector | None = None
    force: bool = False
    deadline: float | None = None

    def __post_init__(self) -> None:
        for name, most in (("scale", 16), ("hypotheses", 1000)):
            if not 1 <= getattr(self, name) <= most:
                raise UserError(f"{name} is {getattr(self, name)}; from 1 to {most} it may be")


def restore_files(
    restorer: Restorer,
    inputs: Sequence[str | Path],
    output: str | Path,
    options: Options | None = None,
    progress: OnProgress | None = None,
    *,
    files: FileOptions | None = None,
    model: Mapping[str, Any] | None = None,
    on_plate: OnPlate | None = None,
) -> dict[str, Any]:
    """Restores every plate that `inputs` name.

    Writes `restored/<name>.png` (`<name>~2.png` and on for further samples), the first estimate
    where the method makes one (`psi/<name>.png`), `sheets/<name>.png` (all of a plate side by
    side), `spread/<name>.png` (where samples differ), `restore.json`, `results.csv` and
    `index.html`. What cannot be read is left out and named; the others are restored all the same.
    Plates that an earlier run of the same settings has restored from the same bytes stay.

    Args:
      restorer: the model, ready to restore.
      inputs: folders, pictures, videos, see `inputs.find_sources`.
      output: a folder, made if need be.
      options: how to restore.
      progress: called with the plates done and their number, None where that is not known.
      files: the choice of what is read and written.
      model: the identity of the model, see `provenance.identify_model`; None takes it from the
        parameters.
      on_plate: called with each plate's entry of restore.json, and what the model made of it.

    Returns:
      The content of restore.json.

    Raises:
      UserError: nothing to restore, a folder that cannot be written, or one that holds the results
        of other settings or is being written by another run.
    """
    restore_to_folder(
        restorer, inputs, output, options, progress, files=files, model=model, on_plate=on_plate
    )
    content = read_results(local_path(output) / RESULTS)
    assert content is not None
    return content


def restore_to_folder(
    restorer: Restorer,
    inputs: Sequence[str | Path],
    output: str | Path,
    options: Options | None = None,
    progress: OnProgress | None = None,
    *,
    files: FileOptions | None = None,
    model: Mapping[str, Any] | None = None,
    on_plate: OnPlate | None = None,
) -> list[str]:
    """`restore_files`, returning the problems alone: memory does not grow with the plates."""
    options, files = options or Options(), files or FileOptions()
    if options.samples > MAX_SAMPLES:
        raise UserError(f"samples is {options.samples}; at most {MAX_SAMPLES} are drawn of a plate")
    folder = local_path(output)
    found = find_sources(inputs, folder)
    choice = Choice(
        max_frames=options.max_frames,
        size=restorer.image_size,
        clip=files.clip,
        box=files.box,
        boxes=files.boxes,
        detector=files.detector,
        force=files.force,
        deadline=files.deadline,
    )
    check_boxes(found.sources, choice)
    names = ("restored", restorer.method.first_picture, "sheets")
    make_folders(folder, [name for name in names if name])
    with locked(folder):
        run = _Run(restorer, folder, options, files, choice, found, model)
        return run.all(progress or _no_progress, on_plate or _no_plate)


def _no_progress(done: int, total: int | None) -> None:
    del done, total


def _no_plate(entry: Mapping[str, Any], plate: RestoredPlate | None) -> None:
    del entry, plate


class _Run:
    """One run into one folder."""

    def __init__(
        self,
        restorer: Restorer,
        folder: Path,
        options: Options,
        files: FileOptions,
        choice: Choice,
        found: Found,
        model: Mapping[str, Any] | None,
    ) -> None:
        self.restorer, self.folder = restorer, folder
        self.options, self.files, self.choice = options, files, choice
        self.found = found
        self.problems = list(found.problems)
        self.size = 0
        self.model = dict(model or _anonymous(restorer))
        self.settings = _settings(options, files)
        self.names = Names()
        self.results = ResultFile(folder / RESULTS)
        self.seconds = {"reading": 0.0, "restoring": 0.0, "writing": 0.0}
        self.complete = False
        self.kept = self._earlier()

    def all(self, progress: OnProgress, on_plate: OnPlate) -> list[str]:
        """Restores all that is not done yet; what is done stays, however it ends."""
        with told():
            self.results.start(self._head(), list(self.kept.values()), self._tail())
            self._write_table()
        total = None if self.choice.finds_plates else len(self.found.sources)
        done = 0
        try:
            for batch, kept in self._batches():
                for entry, plate in itertools.chain(
                    ((e, None) for e in kept), self._restore(batch)
                ):
                    on_plate(entry, plate)
                    done += 1
                progress(done, total)
            self.complete = True
        finally:
            with told(f" ({done} plates are done)"):
                self.results.close(self._tail())
        with told():
            write_page(self.folder, self.results, [*self.problems, *self.found.notes])
        return self.problems

    def _earlier(self) -> dict[str, dict[str, Any]]:
        """Entries of an earlier run of the same settings, by name."""
        content = read_results(self.folder / RESULTS)
        if content is None:
            return {}
        if content.get("format") != FORMAT or any(
            content.get(key) != value for key, value in self._fixed().items()
        ):
            if not self.files.overwrite:
                raise UserError(
                    f"{self.folder}: holds results of other settings "
                    f"({_difference(content, self)}); give another --output, or --overwrite to "
                    "remove them"
                )
            _remove(self.folder, content)
            return {}
        entries = [e for e in content.get("plates", []) if is_entry(e)]
        for entry in entries:
            self.names.give(entry["name"], entry["source"])
        return {entry["name"]: entry for entry in entries}

    def _fixed(self) -> dict[str, Any]:
        return {"model": self.model, "settings": self.settings}

    def _head(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "date": provenance.date(),
            "versions": provenance.versions(),
            **self._fixed(),
            "options": _plain(dataclasses.asdict(self.options)),
            "sampler": _plain(dict(self.restorer.defaults)),
            "draws_vary": self.restorer.draws_vary,
            "generated": "restored pictures are made by a model; they are no photographs",
        }

    def _tail(self) -> dict[str, Any]:
        seconds = {name: round(value, 3) for name, value in self.seconds.items()}
        return {
            "problems": self.problems,
            "notes": self.found.notes,
            "complete": self.complete,
            "seconds": None if provenance.is_repeatable() else seconds,
        }

    def _batches(self) -> Iterator[tuple[list[PlateFrames], list[dict[str, Any]]]]:
        """The plates that are restored together, and entries that stay."""
        total = len(self.found.sources)
        most = self.options.batch_size
        # Equal parts, so that few of the places in them stay empty.
        size = most if self.choice.finds_plates else -(-total // -(-total // most))
        batch: list[PlateFrames] = []
        kept: list[dict[str, Any]] = []
        for item in self._read():
            if isinstance(item, PlateFrames):
                batch.append(item)
            else:
                kept.append(item)
            if len(batch) == size or len(kept) > 100:
                yield batch, kept
                batch, kept = [], []
        if batch or kept:
            yield batch, kept

    def _read(self) -> Iterator[PlateFrames | dict[str, Any]]:
        """Every plate of every source: its frames, or its entry where it is done."""
        for source in self.found.sources:
            begun = time.monotonic()
            try:
                mark = digest(source)
            except DataError as error:
                self.problems.append(printable(str(error)))
                continue
            entry = None if self.choice.finds_plates else self._done_source(source, mark)
            if entry is not None:
                self.problems += _said_before(entry)
                yield entry
                continue
            before = len(self.problems)
            for plate in read_plates(source, self.choice, self.names, self.problems):
                self.seconds["reading"] += time.monotonic() - begun
                plate.digest = mark
                if not self.choice.finds_plates:  # scenes are read again, and say it again
                    plate.problems = self.problems[before:]
                done = self._done(plate.name, mark)
                yield plate if done is None else done
                begun = time.monotonic()

    def _done_source(self, source: Source, mark: str) -> dict[str, Any] | None:
        return self._done(self.names.give(source.name, str(source.path)), mark)

    def _done(self, name: str, mark: str) -> dict[str, Any] | None:
        """The entry of a plate that is restored already from the same bytes."""
        entry = self.kept.get(name)
        if entry is None or entry["input_sha256"] != mark:
            return None
        files = [*entry["restored"], entry["sheet"]]
        return entry if all((self.folder / file).is_file() for file in files) else None

    def _restore(self, batch: list[PlateFrames]) -> Iterator[tuple[dict[str, Any], RestoredPlate]]:
        if not batch:
            return
        begun = time.monotonic()
        groups = [plate.frames for plate in batch]
        # A last, smaller batch is filled up: cheaper than to compile another size.
        self.size = max(self.size, len(groups))
        groups += [groups[-1]] * (self.size - len(groups))
        plates = restore_plates(self.restorer, groups, self.options)
        self.seconds["restoring"] += time.monotonic() - begun
        for frames, plate in zip(batch, plates, strict=False):
            begun = time.monotonic()
            with told():
                entry = self._write(frames, plate)
                self._record(entry)
            self.seconds["writing"] += time.monotonic() - begun
            yield entry, plate

    def _record(self, entry: dict[str, Any]) -> None:
        """Adds an entry; one that takes an older one's place has the files written anew."""
        if self.kept.pop(entry["name"], None) is not None:
            others = [e for e in self.results.plates() if e["name"] != entry["name"]]
            self.results.start(self._head(), [*others, entry], self._tail())
            self._write_table()
            return
        self.results.add(entry, self._tail())
        append_file(self.folder / TABLE, table_row(entry).encode())

    def _write_table(self) -> None:
        rows = (table_row(entry).encode() for entry in self.results.plates())
        write_file(self.folder / TABLE, TABLE_HEAD + b"".join(rows))

    def _write(self, frames: PlateFrames, plate: RestoredPlate) -> dict[str, Any]:
        """Writes one plate's pictures, and returns its entry."""
        reader = self.restorer.method.slot_reader
        entry = describe(frames, plate, reader, self.files.hypotheses, self.files.syntax)
        facts = {
            "model": self.model,
            "input_sha256": frames.digest,
            "name": frames.name,
            "seed": self.options.seed,
        }
        first = self.restorer.method.first_picture
        pictures = list(
            plate_pictures(
                frames.name,
                plate,
                first,
                self.files.scale,
                self.files.native,
                self.restorer.draws_vary,
            )
        )
        for picture in pictures:
            made = facts | picture.facts
            target = self.folder / picture.path
            target.parent.mkdir(exist_ok=True)
            image = picture.image
            if picture.mark:
                note = f"lpdiff {self.model['sha256'][:8]}, {picture.mark}, seed {facts['seed']}"
                image = drawing.with_mark(image, note)
            write_file(target, drawing.encode_png(image, made))
        entry["restored"] = [p.path for p in pictures if p.path.startswith("restored/")]
        for kind in (first, "spread"):
            paths = [p.path for p in pictures if kind and p.path.startswith(f"{kind}/")]
            if paths:
                entry[kind] = paths[0]
        if self.files.native:
            entry["native"] = [p.path for p in pictures if p.path.startswith("native/")]
        entry["sheet"] = f"sheets/{frames.name}.png"
        if frames.problems:
            entry["problems"] = frames.problems
        return entry


def _said_before(entry: Mapping[str, Any]) -> list[str]:
    """The problems of a plate that is not read again."""
    found = entry.get("problems")
    return [printable(str(line)) for line in found] if isinstance(found, list) else []


def _anonymous(restorer: Restorer) -> dict[str, Any]:
    return {"name": "in memory", "sha256": provenance.digest_of(restorer), "of": "parameters"}


def _settings(options: Options, files: FileOptions) -> dict[str, Any]:
    """All that a plate's results depend on beside its frames and the model."""
    chosen = {k: v for k, v in dataclasses.asdict(options).items() if k != "batch_size"}
    boxes = json.dumps([_plain(dataclasses.asdict(box)) for box in files.boxes])
    chosen |= {
        "scale": files.scale,
        "native": files.native,
        "hypotheses": files.hypotheses,
        "syntax": files.syntax,
        "clip": dataclasses.asdict(files.clip),
        "box": files.box.describe() if files.box else None,
        "boxes_sha256": hashlib.sha256(boxes.encode()).hexdigest() if files.boxes else None,
        "detector_sha256": getattr(files.detector, "sha256", None),
        "force": files.force,
    }
    return _plain(chosen)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value, default=str))


def _difference(content: Mapping[str, Any], run: _Run) -> str:
    """What differs from an earlier run, in a few words."""
    if content.get("format") != FORMAT:
        return "of another version of this program"
    if content.get("model") != run.model:
        before = (content.get("model") or {}).get("sha256", "unknown")
        return f"model {str(before)[:8]}, here {run.model['sha256'][:8]}"
    before = content.get("settings") or {}
    differing = [k for k, v in run.settings.items() if before.get(k) != v]
    return ", ".join(f"{k} {before.get(k)!r}, here {run.settings[k]!r}" for k in differing[:3])


def _remove(folder: Path, content: Mapping[str, Any]) -> None:
    """Removes the pictures that a restore.json names, as far as they lie in the folder."""
    for entry in content.get("plates", []):
        if not isinstance(entry, dict):
            continue
        for value in entry.values():
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, str) and path.endswith(".png") and path.count("/") == 1:
                    target = folder / path
                    if ".." not in path and target.parent.parent == folder:
                        target.unlink(missing_ok=True)
