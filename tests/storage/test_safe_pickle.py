"""Pickles read as data: what they may hold, and what happens to those that want more."""

import io
import os
import pickle
import pickletools
from collections import OrderedDict

import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.storage import safe_pickle
from lpdiff_jax.storage.numpy_pickle import read_numpy_pickle

ALLOWED = {
    "collections.OrderedDict": safe_pickle.ordered_dict,
    "package.Storage": None,
    "__torch__.*": safe_pickle.Record,
}


def load(data, **arguments):
    return safe_pickle.load(io.BytesIO(data), ALLOWED, source="x.pth", **arguments)


class Hostile:
    """Unpickled by Python, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


PLAIN = [
    None, True, False, 0, -1, 2**80, 1.5, "ü", b"bytes", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4),
    [1, [2]], {"a": {"b": [1]}, 5: "x"}, OrderedDict(a=1, b=2), ["same"] * 3,
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol):
    data = pickle.dumps([value for value in PLAIN if protocol > 2 or value != b"bytes"], protocol)
    assert load(data) == pickle.loads(data)


def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path):
    victim = tmp_path / "made"
    data = pickle.dumps({"weight": Hostile(victim)})
    with pytest.raises(UserError, match=r"x\.pth: .*posix\.mkdir.*nothing of it was executed"):
        load(data)
    assert not victim.exists()
    pickle.loads(data)
    assert victim.exists()  # the pickle was a hostile one


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"\x80\x02\x82\x01.",  # EXT1
        b"cpackage\nStorage\n)R.",  # may be mentioned, not called
        b"cpackage\nStorage\n}b.",  # sets the attributes of a class
        b"\x80\x02]}b.",  # or of a list
        b"Vname\n)R.",  # calls text
        b"\x80\x02Vreference\nQ.",  # a persistent id where none is expected
        b"\x80\x02}))s.",  # a tuple for a key
        b"\x80\x02(]Vx\nK\x01s.",  # sets an item of a list
        b"\x80\x02}K\x01a.",  # appends to a dict
        b"\x80\x02h\x07.",  # an unknown memo entry
        b"t.", b"0.", b"2.", b".", b"", b"\x80\x02]", b"\xff", b"X\xff\xff\xff\x7fx.",
    ],
)  # fmt: skip
def test_what_is_not_data_is_refused(code):
    with pytest.raises(UserError, match=r"^x\.pth: "):
        load(code)


def test_every_prefix_of_a_pickle_is_refused():
    data = pickle.dumps(OrderedDict(a=[1, 2.5, "text"], b=(None, {"c": 2**40})), 2)
    for length in range(len(data)):
        with pytest.raises(UserError):
            load(data[:length])


def test_a_bomb_of_references_stays_small():
    # Thirty times a pair of itself: small in memory, endless to print, hash or copy.
    bomb = b"\x80\x02)" + b"q\x00h\x00\x86" * 30
    assert isinstance(load(bomb + b"."), tuple)
    with pytest.raises(UserError, match="a key is neither text nor a number"):
        load(b"\x80\x02}" + bomb[2:] + b"Ns.")


def test_objects_of_an_admitted_package_come_as_records():
    record = load(b"c__torch__.nets\nNet\n)\x81}Vname\nK\x07sb.")
    assert isinstance(record, safe_pickle.Record) and record.state == {"name": 7}


def test_persistent_ids_go_to_the_caller():
    assert load(b"\x80\x02(Vstorage\ncpackage\nStorage\ntQ.", persistent_load=list) == [
        "storage",
        safe_pickle.Global("package.Storage"),
    ]


def test_only_known_instructions_are_executed():
    known = safe_pickle._VALUES | set(safe_pickle._HANDLERS) | set(safe_pickle._TUPLES)
    known |= set(safe_pickle._CONSTANTS) | set(safe_pickle._CONTAINERS)
    assert known <= {opcode.name for opcode in pickletools.opcodes}
    assert not known & {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX", "NEXT_BUFFER"}


ARRAYS = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float16),
    "zero-dimensional": np.array(1.5),
    "scalar": np.float64(2.5),
    "nested": [(np.ones(2), "text")],
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_pickles(tmp_path, protocol):
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps(ARRAYS, protocol))
    read = read_numpy_pickle(path)
    assert list(read) == list(ARRAYS)
    for name in set(ARRAYS) - {"nested"}:
        assert read[name].dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(read[name], ARRAYS[name])
    np.testing.assert_array_equal(read["nested"][0][0], np.ones(2))


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.array(["text"]), {1, 2}, OrderedDict, np.zeros(3, "M8[s]")]
)
def test_other_objects_are_not_read(tmp_path, value):
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(UserError, match=r"other\.pkl"):
        read_numpy_pickle(path)


def test_numpy_pickle_with_too_few_bytes(tmp_path):
    path = tmp_path / "short.pkl"
    array = np.arange(1000, dtype=np.uint8)
    whole = pickle.dumps(array, 4)
    assert array.tobytes() in whole
    path.write_bytes(whole.replace((1000).to_bytes(2, "little") + b"\x85", b"\xe9\x03\x85", 1))
    with pytest.raises(UserError, match=r"short\.pkl.*cannot reshape"):
        read_numpy_pickle(path)


def test_missing_pickle(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_numpy_pickle(tmp_path / "absent.pkl")
