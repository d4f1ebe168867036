"""Entry points that read a model: PyTorch files, pickles, model directories, work directories."""

import functools
import hashlib
import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from hypothesis import strategies as st

from lpdiff_jax import Restorer
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.methods.lpdiff.released import released_model
from lpdiff_jax.pytorch.checkpoint import read_checkpoint, to_state_dict
from lpdiff_jax.storage.config import load_config
from lpdiff_jax.storage.model_directory import load_model, save_model
from lpdiff_jax.storage.numpy_pickle import read_numpy_pickle
from lpdiff_jax.storage.torch_archive import read_torch_file, read_torchscript, write_state_dict
from tests.fuzz.mutations import KINDS, NASTY, byte_edits, edited, edited_json, json_edits, put

SIZE = (16, 32)


@functools.cache
def state_dict() -> dict[str, np.ndarray]:
    """The state dict of a network of the published kind, as small as one can be."""
    import jax

    section = released_model(SIZE)
    section["condition"] |= {"features": (8, 8), "strides": (2, 1)}
    section["denoiser"] |= {"features": 8, "multipliers": (1,), "blocks": 1, "norm_groups": 4}
    section["denoiser"] |= {"attention_resolutions": ()}
    section["schedule"] |= {"steps": 5}
    model = build_model(section)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    draw = lambda x: rng.standard_normal(x.shape).astype(np.float32) * 0.1  # noqa: E731
    return to_state_dict(model, jax.tree.map(draw, shapes))


# --- PyTorch ---------------------------------------------------------------------------------

_ARRAYS: list[Any] = [
    np.zeros(()), np.zeros((0, 3), np.float32), np.ones(10**5), np.full(8, np.nan, np.float32),
    np.full((8, 8, 3, 3), np.inf, np.float16), np.zeros((1,) * 8), np.arange(5), np.ones(3, bool),
]  # fmt: skip
_NAMES = [
    "denoise_fn.downs.100001.conv.weight", "denoise_fn.downs.7.res_block.block1.block.3.weight",
    "MTA.encoder.encoder.99.weight", "module.betas", "x" * 5000, "\udcff\udcfe", "", "betas", "²",
    "denoise_fn.downs.²", "MTA.encoder.encoder.6.weight", "denoise_fn.ups.3.attn.qkv.weight",
]  # fmt: skip
_STATE_EDIT = st.one_of(
    st.tuples(st.just("array"), st.integers(0, 500), st.sampled_from(range(len(_ARRAYS)))),
    st.tuples(st.just("delete"), st.integers(0, 500), st.just(0)),
    st.tuples(st.just("rename"), st.integers(0, 500), st.sampled_from(range(len(_NAMES)))),
    st.tuples(st.just("add"), st.integers(0, len(_NAMES) - 1), st.integers(0, len(_ARRAYS) - 1)),
    st.tuples(st.just("prefix"), st.just(0), st.sampled_from(["module.", "_orig_mod.", "x."])),
    st.tuples(st.just("axes"), st.integers(0, 500), st.integers(-1, 3)),
)
_ARGUMENTS = st.fixed_dictionaries(
    {
        "norm_groups": st.sampled_from([4, 4, 4, 32, 0, -1, 3, 10**9]),
        "image_size": st.sampled_from([SIZE, SIZE, SIZE, (0, 0), (-8, 8), (10**9, 8), (15, 31)]),
        "betas": st.sampled_from([None, None, [0.1, 0.2], [], [2.0], [float("nan")]]),
    }
)
state_cases = st.tuples(st.lists(_STATE_EDIT, min_size=1, max_size=3), _ARGUMENTS)
_TOKENS = [
    b"\x80\x02",
    b"}",
    b"]",
    b"(",
    b"u",
    b"t",
    b"R",
    b"Q",
    b".",
    b"0",
    b"2",
    b"a",
    b"e",
    b"s",
    b"b",
    b"K\x01",
    b"J\xff\xff\xff\xff",
    b"\x8a\x0a" + b"\xff" * 10,
    b"L" + b"9" * 4000 + b"L\n",
    b"Vx\n",
    b"X\x03\x00\x00\x00\xff\xfe\xfd",
    b"\x8d" + b"\xff" * 8,
    b"B\xff\xff\xff\x7f",
    b"h\x00",
    b"q\x00",
    b"j\xff\xff\xff\xff",
    b"cos\nsystem\n",
    b"ctorch\nFloatStorage\n",
    b"\x81",
    b"\x85",
    b"\x86",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n",
    b"c__torch__.a\nB\n",
    b"cnumpy\ndtype\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy\nndarray\n",
    b"\x8c\x01\xff",
    b"c_codecs\nencode\n",
    b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nK\x06tQ",
    b"G" + b"\xff" * 8,
    b"S'\\x'\n",
    b"I" + b"1" * 5000 + b"\n",
    b"N",
    b"\x88",
    b")",
    b"l",
    b"d",
    b"\x93",
    b"\x94",
    b"1",
]
pickle_cases = st.tuples(
    st.lists(st.sampled_from(_TOKENS), min_size=1, max_size=30),
    st.sampled_from(["zip", "legacy", "numpy", "script"]),
)


def _edited_state(edits: list[tuple[str, int, Any]]) -> dict[str, np.ndarray]:
    state = dict(state_dict())
    for kind, place, value in edits:
        name = list(state)[place % len(state)] if state else "x"
        if kind == "array":
            state[name] = _ARRAYS[value]
        elif kind == "delete":
            state.pop(name, None)
        elif kind == "rename":
            state = {_NAMES[value] if n == name else n: a for n, a in state.items()}
        elif kind == "add":
            state[_NAMES[place]] = _ARRAYS[value]
        elif kind == "prefix":
            state = {value + n: a for n, a in state.items()}
        elif kind == "axes" and name in state:
            shape = state[name].shape
            state[name] = np.zeros((*shape[:value], 0 if value < 2 else 2, *shape[value:]))
    return state


def pth_state(case: Any, folder: Path) -> Any:
    """A state dict with other entries, as `torch.save` would write it."""
    edits, arguments = case
    path = folder / "x_gen.pth"
    try:
        write_state_dict(path, _edited_state(edits))
    except UnicodeEncodeError:  # a name that Python's own pickle cannot write: by hand
        path.write_bytes(_zip({"x/data.pkl": b"\x80\x02}X\x02\x00\x00\x00\xff\xfeNs."}))
    return lambda: read_checkpoint(path, **arguments)


def pth_bytes(case: Any, folder: Path) -> Any:
    """A file whose bytes are spoilt."""
    path = folder / "x_gen.pth"
    write_state_dict(path, state_dict())
    path.write_bytes(edited(path.read_bytes(), case))
    return lambda: Restorer.load(path, norm_groups=4, image_size=SIZE)


def pickles(case: Any, folder: Path) -> Any:
    """A pickle of any instructions, where each reader of pickles finds it."""
    tokens, kind = case
    code, path = b"".join(tokens), folder / "x.pth"
    if kind == "numpy":
        path.write_bytes(code)
        return lambda: read_numpy_pickle(path)
    if kind == "legacy":
        head = [pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001, {})]
        path.write_bytes(b"".join(head) + code + pickle.dumps(["0"], 2) + bytes(32))
    else:
        path.write_bytes(_zip({"x/data.pkl": code, "x/data/0": bytes(24)}))
    return (lambda: read_torchscript(path)) if kind == "script" else lambda: read_torch_file(path)


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


# --- model directories -----------------------------------------------------------------------

_FILES = ("config.json", "manifest.json", "weights.safetensors")
directory_cases = st.one_of(
    st.tuples(st.just("config"), json_edits),
    st.tuples(st.just("config"), json_edits),
    st.tuples(st.just("manifest"), json_edits),
    st.tuples(st.just("header"), json_edits),
    st.tuples(st.just("weights"), st.lists(_STATE_EDIT, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(_FILES), byte_edits),
    st.tuples(st.just("kind"), st.tuples(st.sampled_from(_FILES), st.sampled_from(KINDS))),
)


@functools.cache
def _stored() -> Any:
    from lpdiff_jax.pytorch.checkpoint import from_state_dict

    return from_state_dict(state_dict(), norm_groups=4, image_size=SIZE)


def model_directory(case: Any, folder: Path) -> Any:
    """A model directory: one file spoilt, or all consistent and hostile."""
    what, edits = case
    root, stored = folder / "model", _stored()
    shutil.rmtree(root, ignore_errors=True)
    save_model(root, stored.config, stored.variables)
    if what == "kind":
        put(edits[1], root / edits[0])
    elif what == "config":
        text = edited_json(json.loads((root / "config.json").read_bytes()), edits)
        (root / "config.json").write_text(text, errors="surrogatepass")
    elif what == "manifest":
        text = edited_json(json.loads((root / "manifest.json").read_bytes()), edits)
        (root / "manifest.json").write_text(text, errors="surrogatepass")
    elif what == "header":
        data = (root / "weights.safetensors").read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = edited_json(json.loads(data[8:end]), edits).encode(errors="surrogatepass")
        body = len(header).to_bytes(8, "little") + header + data[end:]
        (root / "weights.safetensors").write_bytes(body)
    elif what == "weights":
        (root / "weights.safetensors").write_bytes(_edited_weights(root, edits))
    else:
        (root / what).write_bytes(edited((root / what).read_bytes(), edits))
    if what in ("config", "header", "weights"):
        _sign(root)
    return lambda: _load_and_describe(root)


def _load_and_describe(root: Path) -> None:
    load_model(root)
    Restorer.load(root)


def _edited_weights(root: Path, edits: list[tuple[str, int, Any]]) -> bytes:
    arrays = safetensors.numpy.load((root / "weights.safetensors").read_bytes())
    for kind, place, value in edits:
        name = list(arrays)[place % len(arrays)]
        if kind in ("array", "add"):
            arrays[name] = np.array(_ARRAYS[value])
        elif kind == "delete":
            del arrays[name]
        elif kind == "rename":
            arrays[_NAMES[value].encode(errors="replace").decode() or "x"] = arrays.pop(name)
        elif kind == "prefix":
            arrays = {f"variables/{value}{n}": a for n, a in arrays.items()}
        elif kind == "axes":
            arrays[f"{name}/inside"] = arrays[name][..., None]
    return safetensors.numpy.save(arrays)


def _sign(root: Path) -> None:
    """Makes the manifest fit the files: whoever is hostile can do that, too."""
    names = ("config.json", "weights.safetensors")
    sums = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names}
    (root / "manifest.json").write_text(json.dumps({"format": 1, "sha256": sums}))


config_cases = st.one_of(
    st.tuples(st.just("json"), json_edits),
    st.tuples(st.just("bytes"), byte_edits),
    st.tuples(st.just("kind"), st.sampled_from(KINDS)),
)


def work_directory(case: Any, folder: Path) -> Any:
    """The configuration of a work directory."""
    kind, edits = case
    path = folder / "config.json"
    content = {"stages": ["psi"], "model": _stored().config["model"], "sampler": {"steps": 3}}
    put("missing", path)
    text = edited_json(content, edits) if kind == "json" else json.dumps(content)
    path.write_text(text, errors="surrogatepass")
    if kind == "bytes":
        path.write_bytes(edited(path.read_bytes(), edits))
    elif kind == "kind":
        put(edits, path)

    def call() -> None:
        load_config(path)
        Restorer.load(folder)

    return call


assert NASTY  # re-exported for the other modules
