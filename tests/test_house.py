"""The rules of the house: which room may import which."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted(path.parent.name for path in (ROOT / "lpdiff_jax").glob("*/__init__.py"))
# What nobody but the commands and the loop of training may bring along: slow to import, or heavy.
HEAVY = ("tensorflow", "grain", "lpdiff_jax.training", "lpdiff_jax.evaluation", "orbax")
# Room -> the rooms that it may import, besides itself; other rooms than these are free.
ALLOWED = {
    "ahead": ("methods", "parallel", "training"),
    "models": (),
    "diffusion": (),
    "parallel": (),
    "methods": ("models", "diffusion", "storage"),
    "storage": (),
    "export": ("methods", "models"),
    "pytorch": ("methods", "models", "diffusion", "storage"),
    "restoring": ("methods", "parallel", "storage", "pytorch"),
    "training": ("methods", "parallel", "storage", "restoring"),
    "evaluation": ("methods", "models", "parallel", "storage", "restoring"),
    "serving": ("restoring", "methods", "storage", "evaluation"),
}


def modules() -> list[Path]:
    return [
        path
        for folder in ("lpdiff_jax", "data_pipeline", "configs")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def imports_of(path: Path, whole: bool = True) -> set[str]:
    """Dotted names of what a module imports; `whole` counts imports within functions, too."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if whole else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def room_of(name: str) -> str | None:
    """The room of lpdiff_jax that a dotted name lies in."""
    package, _, rest = name.partition(".")
    room = rest.partition(".")[0]
    return room if package == "lpdiff_jax" and room in ROOMS else None


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_no_import_runs_back_up(room):
    for path in sorted((ROOT / "lpdiff_jax" / room).rglob("*.py")):
        used = {room_of(name) for name in imports_of(path)} - {None, room}
        assert used <= set(ALLOWED[room]), f"{path} imports {used - set(ALLOWED[room])}"


def test_every_room_has_its_rule():
    assert set(ROOMS) <= {*ALLOWED, "cli"}


def test_nothing_imports_the_commands():
    for path in modules():
        if "cli" not in path.parts and path.name != "__main__.py":
            assert not any(room_of(name) == "cli" for name in imports_of(path)), path


def test_data_pipeline_knows_neither_jax_nor_the_package():
    for path in sorted((ROOT / "data_pipeline").rglob("*.py")):
        roots = {name.partition(".")[0] for name in imports_of(path)}
        assert not roots & {"jax", "flax", "lpdiff_jax"}, path


@pytest.mark.parametrize("room", ["training", "restoring", "evaluation"])
def test_methods_are_known_by_the_seam_alone(room):
    """By `methods.base` and `methods.registry`; no room imports a system."""
    for path in sorted((ROOT / "lpdiff_jax" / room).rglob("*.py")):
        used = {name for name in imports_of(path) if name.startswith("lpdiff_jax.methods.")}
        seam = ("lpdiff_jax.methods.base", "lpdiff_jax.methods.registry")
        assert all(name.startswith(seam) for name in used), path


def test_one_module_names_pmap():
    for path in sorted((ROOT / "lpdiff_jax").rglob("*.py")):
        tree = ast.walk(ast.parse(path.read_text()))
        names = {node.attr for node in tree if isinstance(node, ast.Attribute)}
        if path.name != "devices.py":
            assert not names & {"pmap", "make_mesh", "shard_map"}, path


@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("orbax", "storage/checkpoint.py"),
        ("wandb", "training/trackers.py"),
        ("tensorboardX", "training/writer.py"),
        ("grain", "../data_pipeline/pipeline.py"),
        ("array_record", "../data_pipeline/shards.py"),
    ],
)
def test_a_library_that_changes_is_behind_one_module(library, module):
    """So that its next version is the work of one file."""
    package = ROOT / "lpdiff_jax"
    paths = [*package.rglob("*.py"), *(ROOT / "data_pipeline").rglob("*.py")]
    word = re.compile(rf"""(import|from) {library}\b|import_?\w*\("{library}""")
    found = {path for path in paths if word.search(path.read_text())}
    assert found == {(package / module).resolve()}


def test_restoring_brings_nothing_heavy():
    """What `lpdiff restore` imports at once: no TensorFlow, grain, Orbax, training."""
    code = (
        f"import sys, lpdiff_jax.restoring.files\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout


# Import name -> the package's name in setup.cfg, where they differ.
PACKAGES = {
    "absl": "absl-py",
    "array_record": "array-record",
    "cv2": "opencv-python-headless",
    "ml_collections": "ml-collections",
    "ml_dtypes": "ml-dtypes",
    "orbax": "orbax-checkpoint",
    "PIL": "pillow",
    "python_multipart": "python-multipart",
    "tensorflow_datasets": "tensorflow-datasets",
}
# Used where they are there, and asked for by nothing.
OPTIONAL = {"tensorflow"}


def test_every_library_that_is_imported_is_declared():
    """Else it is there in a checkout's environment, by chance, and not beside a wheel."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    names = {re.split(r"[\[<>=;]", line)[0].strip() for text in listed for line in text.split("\n")}
    own = {"lpdiff_jax", "data_pipeline", "configs", *sys.stdlib_module_names}
    for package in ("lpdiff_jax", "data_pipeline", "configs"):
        for path in sorted((ROOT / package).rglob("*.py")):
            used = {name.split(".")[0] for name in imports_of(path)} - own - OPTIONAL
            missing = {name for name in used if PACKAGES.get(name, name) not in names}
            assert not missing, f"{path} imports {missing}, which setup.cfg does not name"
