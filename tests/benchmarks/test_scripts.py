"""The scripts of benchmarks/: they fit the program as it is."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pictures import systems_sheet
from benchmarks.speed import baselines
from benchmarks.studies import samples, study
from benchmarks.studies.variants import STUDIES
from lpdiff_jax import benchmark
from lpdiff_jax.errors import UserError
from lpdiff_jax.methods import registry
from lpdiff_jax.plate_text import Reading

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))
VARIANTS = [(name, variant) for name, study in STUDIES.items() for variant in study.variants]


def asked(tmp_path, name, **fields):
    values = {"data": "set", "workdir": tmp_path, "size": "small", "steps": 40, "seed": 3}
    return argparse.Namespace(**{"study": name, "batch_size": 4, "only": None} | values | fields)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_can_be_imported(path, monkeypatch):
    if path.stem.startswith("torch_"):
        pytest.importorskip("torch")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # scaling.py sets these for itself
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=" ".join)
def test_every_variant_can_be_trained(tmp_path, monkeypatch, name, variant):
    monkeypatch.setattr(study, "mflop", lambda config, stage: 1.0)
    config = study.configure(STUDIES[name], variant, asked(tmp_path, name))
    method = registry.build(config)
    stages = method.stages(config, method.networks)
    assert [stage.name for stage in stages] == list(config.stages)
    assert config.seed == 3
    assert bool(config.init) == bool(STUDIES[name].variants[variant].after)


def test_equal_arithmetic_is_what_a_variant_gets(tmp_path, monkeypatch):
    costs = iter([6.0, 2.0, 4.0])  # the base's diffusion and sketch, the variant's diffusion
    monkeypatch.setattr(study, "mflop", lambda config, stage: next(costs))
    config = study.configure(
        STUDIES["ablation"], "denoiser sees psi alone", asked(tmp_path, "ablation")
    )
    assert config.diffusion.steps == 40 * (6 + 2) / 4


def test_a_study_goes_on_and_puts_the_base_first(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(study, "measure", lambda _, name, __: done.append(name) or {"steps": {}})
    args = asked(tmp_path, "recipe", only=["one noise level per batch"])
    for _ in range(2):
        rows = study.run(STUDIES["recipe"], args)
    assert done == list(rows) == ["our recipe", "one noise level per batch"]
    assert json.loads((tmp_path / "recipe.json").read_text())["rows"] == rows
    with pytest.raises(UserError, match="another --workdir"):
        study.run(STUDIES["recipe"], asked(tmp_path, "recipe", steps=41))


@pytest.mark.parametrize("diverged", [True, False])
def test_a_divergence_is_a_result_and_a_mistake_is_not(tmp_path, monkeypatch, diverged):
    def fail(config, workdir):
        workdir.mkdir()
        if diverged:
            (workdir / "not-finite-psi-1-process-0.json").write_text("{}")
        raise UserError("it failed")

    monkeypatch.setattr(study, "train", fail)
    monkeypatch.setattr(study, "mflop", lambda config, stage: 1.0)
    args = asked(tmp_path, "recipe")
    if diverged:
        assert study.measure(STUDIES["recipe"], "our recipe", args)["failed"] == "it failed"
    else:
        with pytest.raises(UserError, match="it failed"):
            study.measure(STUDIES["recipe"], "our recipe", args)


def test_a_table_leaves_out_what_a_variant_lacks():
    recipe = STUDIES["recipe"]
    rows = {"a": {"steps": {"psi": 3, "diffusion": 4}, "psi, psnr": 14.25}, "b": {"failed": "nan"}}
    lines = study.as_table(recipe, rows).splitlines()
    assert lines[2].startswith("| a | 3 / 4 | 14.25 |  |")
    assert lines[-1] == "b: nan"


def test_samples_are_compared_character_by_character():
    head = Reading("A12", 0.5, (0.99, 0.4, 0.6))
    first, second, third = samples.compare(head, ["A12", "A13", "A1"], "A13")
    assert first == samples.Character(0.99, True, pytest.approx(1 / 3), True)
    assert second.right and third == samples.Character(0.6, False, 0.0, True)
    assert not list(samples.compare(head, ["A1"], "A1"))  # another length: no character in common
    lines = list(samples.rows([first, second, third, first]))
    assert lines[0][:3] == ["0.3 to 0.5", "1", "1.00"]
    assert lines[-1] == ["0.97 to 1", "2", "1.00", "0.33", "1.00"]


def test_a_sheet_of_systems_shows_what_is_read_of_each_picture():
    """Green where it is right, red where it is not, in the column's own cell."""

    class Reads:
        def read(self, images):
            return [Reading("A1" if image.max() else "", 0.5, ()) for image in images]

    white = np.full((2, 8, 16, 3), 255, np.uint8)
    sheet = systems_sheet.make_sheet({"frame 1": 0 * white, "HAT": white}, ["A1", "B2"], Reads())
    height = systems_sheet.CELL[0] + systems_sheet.CAPTION + 4
    lines = [sheet[-2 * height : -height], sheet[-height:]]
    width = sheet.shape[1] // 2

    def caption(part):
        strip = part[systems_sheet.CELL[0] : -4].astype(int)
        redder = (strip[..., 0] - strip[..., 1]).ravel()
        return "red" if redder.max() > 50 else "green" if redder.min() < -50 else "nothing"

    found = [[caption(part) for part in (line[:, :width], line[:, width:])] for line in lines]
    assert found == [["red", "green"], ["red", "red"]]


def test_a_configuration_may_have_an_argument():
    with pytest.raises(UserError, match=r"hat.py:huge: no such configuration \(huge"):
        benchmark.load(f"{ROOT}/configs/baselines/hat.py:huge")
    with pytest.raises(UserError, match=r"nowhere.py: no such configuration"):
        benchmark.load("nowhere.py:compact")
    restorer = benchmark.load(f"{ROOT}/configs/baselines/srcnn.py:compact")
    assert restorer.image_size == (48, 96)


@pytest.mark.parametrize("system", baselines.SYSTEMS)
def test_a_network_is_described_to_pytorch_as_json(system):
    """Of which `benchmarks/speed/torch_baselines.py` builds it."""
    path = f"configs/baselines/{system}.py"
    method = registry.build(benchmark._config_of(ROOT / path, "compact"))
    for part in baselines.PARTS[system]:
        fields = baselines.fields_of(getattr(method, part))
        assert json.loads(json.dumps(fields))["features"]
