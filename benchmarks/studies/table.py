r"""Every row of the published table: trained for the same arithmetic, judged on the same plates.

    lpdiff locate PICTURES
    python -m benchmarks.studies.table --workdir runs/table --budget 16000 \
        --pictures PICTURES --real MDLP

Each system of `benchmarks/studies/systems.py` is trained at compact size for BUDGET TFLOP, on what
the packaged model learns from: drawn plates and, with PICTURES, real lettering before the same
camera, of which 200 texts are held out. All are judged on drawn plates, on the held-out lettering,
and on MDLP's real groups, which are never trained on; sets of your own may stand in for the first
two. 16,000 TFLOP are the compact configurations as they stand: days of two cores.

It may be stopped at any time. The same command goes on: it says what is left, and repeats nothing
that is done. WORKDIR keeps the judged sets, and for each budget a folder with every training
(configuration, seed, curves), every restored plate, the reports, log.txt and table.md.
PSNR and SSIM are always judged; the rest needs `lpdiff fetch-weights reader`, `lpips` and `fid`.
"""

import argparse
import functools
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.studies import systems
from benchmarks.studies.study import train_or_diverge
from benchmarks.studies.systems import DEFAULT, LPDIFF, SYSTEMS
from data_pipeline.errors import DataError
from data_pipeline.files import read_json, write_json, write_whole
from data_pipeline.pipeline import eval_batches
from data_pipeline.sources import open_source
from data_pipeline.synthetic.groups import synthesize
from data_pipeline.synthetic.photographed import PictureSource
from lpdiff_jax import benchmark
from lpdiff_jax.errors import Preempted, UserError
from lpdiff_jax.evaluation import rows
from lpdiff_jax.evaluation.evaluate import PUBLISHED_SIZE, Options, evaluate
from lpdiff_jax.evaluation.judges import PUBLISHED, Judges, load_judges
from lpdiff_jax.evaluation.other_methods import Folder
from lpdiff_jax.evaluation.report.tables import table_cells
from lpdiff_jax.evaluation.restored import restore_batch
from lpdiff_jax.parallel.devices import use_cores
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.restoring.sheets import write_image

HELD_OUT, VALIDATION, FRAMES = 200, 64, 3
SYNTHETIC, LETTERING, REAL = "synthetic", "lettering", "real"
TITLES = {
    SYNTHETIC: "Drawn plates",
    LETTERING: "Held-out real lettering before the drawn camera",
    REAL: "Real groups",
}
# What every evaluation has, by what the table calls it; the systems' rows follow.
INPUTS = {
    rows.GROUND_TRUTH: "ground truth",
    rows.BEST_FRAME: "best frame",
    rows.MEAN_FRAME: "mean of frames",
    rows.FRAMES_VOTED: "frames, voted",
    rows.FRAMES_MULTIPLIED: "frames fused",
}
PSI, HEAD = f"{LPDIFF}: psi", f"{LPDIFF}: reading head"
OWN = {"psi": PSI, rows.READING_HEAD: HEAD, rows.RESTORED: LPDIFF}
FIGURES = ("psnr", "ssim", "lpips_alex", "fid", "kid", "ned", "acc", "ned_without_province",
           "acc_without_province")  # fmt: skip
# What a figure depends on: another value needs another work directory.
SETTINGS = ("budget", "pictures", "batch_size", "rate", "sampler_steps", "seed")


@dataclass(frozen=True)
class Task:
    """A part of the work: whether it is done, and what does it; its TFLOP if they are known."""

    title: str
    done: Callable[[], bool]
    do: Callable[[], None]
    tflop: float = 0.0


@dataclass(frozen=True)
class Study:
    """One budget: where its files are, its judged sets by name, and its systems."""

    args: argparse.Namespace
    sets: Mapping[str, Path]
    names: Sequence[str]

    @property
    def directory(self) -> Path:
        """The folder of this budget."""
        return self.args.workdir / f"{self.args.budget:g}-tflop"

    def trained(self, name: str) -> Path:
        """A system's work directory."""
        return self.directory / "systems" / _file_name(name)

    def facts(self, name: str, what: str) -> Path:
        """What is known of a system: 'costs' of a step, its 'training', its 'speed'."""
        return self.trained(name) / f"{what}.json"

    def restored(self, place: str, name: str) -> Path:
        """The folder of a set's plates, restored by a system."""
        return self.directory / "restored" / place / _file_name(name)

    def say(self, line: str) -> None:
        """Prints a line, and keeps it with the time."""
        print(line, flush=True)
        with (self.directory / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def main() -> None:
    """Trains, restores, judges; prints the table."""
    parser = make_parser()
    args = parser.parse_args()
    use_cores([args.batch_size])
    try:
        print(run(args))
    except (UserError, DataError) as error:
        parser.error(str(error))
    except Preempted as error:
        parser.exit(75, f"{error}; the same command goes on\n")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--budget", type=float, required=True, help="TFLOP of each training")
    parser.add_argument("--pictures", default="", help="folders of clean plates, commas between")
    parser.add_argument("--synthetic", type=Path, help="set of drawn plates; drawn if not given")
    parser.add_argument("--lettering", type=Path, help="set of held-out plates; drawn of PICTURES")
    parser.add_argument("--real", type=Path, help="real groups (MDLP tree or shards, split val)")
    parser.add_argument("--plates", type=int, default=500, help="drawn plates that are judged")
    parser.add_argument("--only", action="append", choices=SYSTEMS, help="may be repeated")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.0, help="factor on all learning rates")
    parser.add_argument("--sampler-steps", type=int, default=1000, help="the most of a sampler")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def run(args: argparse.Namespace) -> str:
    """Does what is left, and gives the table, which is also written.

    Raises:
      UserError: the directory belongs to other settings, or a training cannot begin.
      DataError: a set cannot be drawn or opened.
    """
    study = Study(args, {}, args.only or DEFAULT)
    study.directory.mkdir(parents=True, exist_ok=True)
    study = replace(study, sets=make_sets(args))
    check_settings(study)
    configs = {name: make_config(study, name) for name in study.names}
    work_off(study, [training(study, name, configs[name]) for name in study.names])
    able = [
        name for name in study.names if "failed" not in read_json(study.facts(name, "training"))
    ]
    work_off(study, [*_restorations(study, able), *(judging(study, s, able) for s in study.sets)])
    text = as_markdown(study, able)
    write_whole(study.directory / "table.md", text)
    return text


def check_settings(study: Study) -> None:
    """Raises UserError where the directory's figures were measured with other settings."""
    path = study.directory / "settings.json"
    settings = {name: getattr(study.args, name) for name in SETTINGS}
    settings |= {f"set {name}": str(root) for name, root in study.sets.items()}
    found = read_json(path) if path.exists() else {}
    if changed := [key for key in found.keys() & settings if found[key] != settings[key]]:
        before = ", ".join(f"{key} = {found[key]}" for key in sorted(changed))
        raise UserError(f"{path}: measured with {before}; give the same, or another --workdir")
    write_json(path, found | settings)


def make_sets(args: argparse.Namespace) -> dict[str, Path]:
    """The judged sets, and the one that trainings are validated on; draws those not given."""
    own = args.workdir / "sets"
    synthesize(own / "validation", groups=VALIDATION, seed=args.seed + 1, split="val")
    sets = {SYNTHETIC: args.synthetic or own / f"{SYNTHETIC}-{args.plates}"}
    if args.synthetic is None:
        synthesize(sets[SYNTHETIC], groups=args.plates, seed=2026, split="val")
    if args.lettering is not None:
        sets[LETTERING] = args.lettering
    elif args.pictures:
        source = PictureSource(args.pictures.split(",")[0], part="held-out", held_out=HELD_OUT)
        sets[LETTERING], count = own / LETTERING, len(source.pictures)
        synthesize(sets[LETTERING], groups=count, seed=5, split="val", make=source.render)
    return sets | ({} if args.real is None else {REAL: args.real})


def make_config(study: Study, name: str) -> ConfigDict:
    """A system's configuration, with as many steps as the budget pays."""
    args = study.args
    config = systems.configure(
        name,
        pictures=args.pictures,
        validation=str((args.workdir / "sets" / "validation").absolute()),
        seed=args.seed,
        batch_size=args.batch_size,
        rate=args.rate,
        most=args.sampler_steps,
    )
    path = study.facts(name, "costs")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, systems.step_costs(config))
    systems.fit(config, read_json(path), args.budget)
    return config


def work_off(study: Study, tasks: Sequence[Task]) -> None:
    """Does the tasks that are not done, in order, and says before each what is left."""
    left = [task for task in tasks if not task.done()]
    started, spent = time.perf_counter(), 0.0
    for number, task in enumerate(left):
        ahead = sum(other.tflop for other in left[number:])
        line = f"{task.title}; left: {len(left) - number} of {len(tasks)} tasks, {ahead:.3g} TFLOP"
        if spent:
            line += f", about {ahead / spent * (time.perf_counter() - started) / 60:.0f} min"
        study.say(line)
        task.do()
        spent += task.tflop


def training(study: Study, name: str, config: ConfigDict) -> Task:
    """Trains a system and measures its speed; one that diverges is a result, too."""
    path, workdir = study.facts(name, "training"), study.trained(name)
    costs = read_json(study.facts(name, "costs"))
    tflop = systems.training_cost(config, costs)

    def do() -> None:
        fact: dict[str, Any] = {
            "tflop": tflop, "steps": {stage: config[stage].steps for stage in config.stages},
            "resumed": (workdir / "checkpoints").exists(),
        }  # fmt: skip
        write_json(path, fact | train_or_diverge(config, workdir))

    return Task(f"training {name}", path.exists, do, tflop)


def _restorations(study: Study, names: Sequence[str]) -> list[Task]:
    """Speed and plates of each system; LP-Diff's plates are made while they are judged."""
    tasks = []
    for name in names:
        path = study.facts(name, "speed")
        do = functools.partial(measure_speed, study, name)
        tasks.append(Task(f"speed of {name}", path.exists, do))
        for place in study.sets if name != LPDIFF else ():
            folder = study.restored(place, name)
            do = functools.partial(restore, study, place, name)
            tasks.append(Task(f"restoring {place} by {name}", folder.exists, do))
    return tasks


def measure_speed(study: Study, name: str) -> None:
    """Writes parameters, GFLOP and milliseconds of restoring one plate, by row of the table."""
    restorer = Restorer.load(study.trained(name))
    measured = {name: speed(restorer)}
    if name == LPDIFF:
        kept = ("condition", "reader")
        early = {key: value for key, value in restorer.variables.items() if key in kept}
        measured[PSI] = measured[HEAD] = speed(replace(restorer, variables=early))
    write_json(study.facts(name, "speed"), measured)


def speed(restorer: Restorer) -> dict[str, float]:
    """Parameters, GFLOP and milliseconds (median) of a plate alone."""
    frames = np.zeros((1, FRAMES, *restorer.image_size, 3), np.float32)
    timing = benchmark.time_calls(lambda: restorer.restore(frames), repeats=10, seconds=10)
    return {
        "parameters": sum(x.size for x in jax.tree.leaves(restorer.variables)),
        "gflop": benchmark.operations(restorer, 1) / 1e9,
        "ms": 1e3 * timing.quantile(0.5),
    }


def restore(study: Study, place: str, name: str) -> None:
    """Writes a system's plates of a set; the folder appears when it is whole."""
    folder, source = study.restored(place, name), open_source(study.sets[place], "val")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    restorer = Restorer.load(study.trained(name))
    size, batch_size = restorer.image_size, restorer.max_batch
    for batch in eval_batches(source, image_size=size, max_frames=FRAMES, batch_size=batch_size):
        plates = restore_batch(restorer, batch, PUBLISHED_SIZE, seed=study.args.seed).samples
        for i in np.flatnonzero(batch["valid"]):
            write_image(partial / f"{source[int(batch['index'][i])].name}.png", plates[i, 0])
    partial.rename(folder)


def judging(study: Study, place: str, names: Sequence[str]) -> Task:
    """Judges all systems' plates of a set, the frames beside them."""
    output = study.directory / "judged" / place
    others = [name for name in names if name != LPDIFF]

    def done() -> bool:
        report = output / "report.json"
        wanted = {*others, *([rows.RESTORED] if LPDIFF in names else [])}
        return report.exists() and wanted <= read_json(report)["rows"].keys()

    def do() -> None:
        evaluate(
            Restorer.load(study.trained(LPDIFF)) if LPDIFF in names else None,
            open_source(study.sets[place], "val"),
            output,
            judges=judges(),
            options=Options(
                max_frames=FRAMES,
                seed=study.args.seed,
                compare=tuple(Folder(name, study.restored(place, name)) for name in others),
            ),
            # All that is judged is trained and restored once; so what a kill has left is good.
            identity=f"{list(names)}, {study.args.budget:g} TFLOP, not there: {judges().missing}",
        )

    return Task(f"judging {place}", done, do)


@functools.cache
def judges() -> Judges:
    """All judges of the published table whose weights are there."""
    return load_judges(PUBLISHED)


def as_markdown(study: Study, names: Sequence[str]) -> str:
    """What each system costs, then a table for each set."""
    parts = [f"{study.args.budget:g} TFLOP each, seed {study.args.seed}", _costs(study, names)]
    for place in study.sets:
        report = read_json(study.directory / "judged" / place / "report.json")
        parts += [f"{TITLES[place]}: {report['plates']}", figures(report, names)]
    failed = [name for name in study.names if name not in names]
    parts += [f"{n}: {read_json(study.facts(n, 'training'))['failed']}" for n in failed]
    return "\n\n".join(parts) + "\n"


def figures(report: Mapping[str, Any], names: Sequence[str]) -> str:
    """A set's table: the frames' rows, then the systems in the study's order."""
    own = OWN if LPDIFF in names else {}
    others = {name: name for name in names if name != LPDIFF}
    shown = {
        title: _chosen(report["rows"][row])
        for row, title in (INPUTS | others | own).items()
        if row in report["rows"]
    }
    header, *lines = table_cells(shown, "figures")
    # The number of images is that of the set.
    return _markdown([[line[0], *line[2:]] for line in (header, *lines)])


def _chosen(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: row["figures"][name] for name in FIGURES if name in row["figures"]}
    return {**row, "figures": kept}


def _costs(study: Study, names: Sequence[str]) -> str:
    lines = [["system", "parameters", "GFLOP a plate", "ms a plate", "steps", "TFLOP", "minutes"]]
    for name in names:
        fact = read_json(study.facts(name, "training"))
        minutes = "-" if fact["resumed"] else f"{fact['seconds'] / 60:.1f}"
        paid = [" + ".join(map(str, fact["steps"].values())), f"{fact['tflop']:.3g}", minutes]
        for row, own in read_json(study.facts(name, "speed")).items():
            costs = [f"{own['parameters'] / 1e6:.2f} M", f"{own['gflop']:.3g}", f"{own['ms']:.0f}"]
            lines.append([row, *costs, *(paid if row == name else [""] * len(paid))])
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([text[0], "|---|" + "---:|" * (len(lines[0]) - 1), *text[1:]])


if __name__ == "__main__":
    main()
