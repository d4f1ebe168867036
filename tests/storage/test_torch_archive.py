"""PyTorch's files, with torch itself as the judge where it can be imported."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.storage.torch_archive import read_torch_file, read_torchscript, write_state_dict

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?", ml_dtypes.bfloat16]


def tensors():
    """One array of each dtype, and the shapes that go wrong first."""
    values = np.arange(-3, 9).reshape(3, 4)
    arrays = {f"layer.{np.dtype(dtype)}": values.astype(dtype) for dtype in DTYPES}
    transposed = values.astype(np.float32).T
    return arrays | {
        "scalar": np.array(7),
        "empty": np.zeros((0, 2), np.float32),
        "transposed": transposed,
        "a name in 中文 and 2^16 numbers": np.arange(2**16, dtype=np.float32),
    }


def assert_same(read, written):
    assert list(read) == list(written)
    for name, array in written.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape), name
        assert read[name].tobytes() == array.tobytes(), name


@pytest.fixture
def path(tmp_path):
    write_state_dict(tmp_path / "x_gen.pth", tensors())
    return tmp_path / "x_gen.pth"


def rewritten(path, edit, compression=zipfile.ZIP_STORED):
    """Writes the archive anew with its members, a dict of bytes by name, edited."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_round_trip(path):
    assert_same(read_torch_file(path), tensors())


def test_the_same_arrays_give_the_same_bytes_and_nothing_else_is_left(path, tmp_path):
    before = path.read_bytes()
    write_state_dict(path, tensors())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x_gen.pth"]


def test_storages_are_aligned_as_torch_aligns_them(path):
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            archive.fp.seek(info.header_offset + 26)
            name, extra = np.frombuffer(archive.fp.read(4), "<u2")
            assert (info.header_offset + 30 + int(name) + int(extra)) % 64 == 0


def test_big_endian_files(path):
    def swap(members):
        members["x_gen/byteorder"] = b"big"
        index = str(list(tensors()).index("layer.float32"))
        members[f"x_gen/data/{index}"] = tensors()["layer.float32"].astype(">f4").tobytes()

    read = read_torch_file(rewritten(path, swap))["layer.float32"]
    np.testing.assert_array_equal(read, tensors()["layer.float32"])


def test_a_truncated_file(path):
    data = path.read_bytes()
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"x_gen\.pth: "):
            read_torch_file(path)


def test_flipped_bytes_are_noticed(path):
    data = bytearray(path.read_bytes())
    data[data.index(tensors()["layer.float64"].tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda members: members.pop("x_gen/data/3"), "lacks its member 'x_gen/data/3'"),
        (lambda members: members.update({"x_gen/data/0": b"12"}), "storage '0' has 2 of 96"),
        (lambda members: members.pop("x_gen/data.pkl"), "not one that torch.save wrote"),
        (lambda members: members.update({"y/data.pkl": b""}), "not one that torch.save wrote"),
        (lambda members: members.update({"x_gen/data.pkl": b"cos\nsystem\n."}), "os.system"),
    ],
)
def test_damaged_archives(path, edit, message):
    with pytest.raises(UserError, match=message):
        read_torch_file(rewritten(path, edit))


def pickle_only(path, code):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", code)
    return path


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"\x80\x02L" + b"9" * 10**6 + b"L\n.", "pickle cannot be read"),
        (b"\x80\x02\x8b" + np.int32(10**6).tobytes() + b"\x7f" * 10**6 + b".", "7,999,999 bits"),
        (b"\x80\x02" + b"K\x01" * 2_100_000 + b".", "more than 2,000,000 instructions"),
        (b"\x80\x02\x8d" + b"\xff" * 8 + b"x.", "pickle cannot be read"),
        (b"\x80\x02cos\n\xff\xfe\n.", "pickle cannot be read"),
        (b"\x80\x02X\x03\x00\x00\x00\xff\xfe\xfd.", "pickle cannot be read"),
    ],
)
def test_hostile_pickles_end_in_a_sentence(tmp_path, code, message):
    with pytest.raises(UserError, match=f"x.pth: .*{message}") as error:
        read_torch_file(pickle_only(tmp_path / "x.pth", code))
    assert len(str(error.value)) < 600 and str(error.value).isprintable()


def test_a_storage_of_2_to_the_70_is_not_asked_for(path):
    def huge(members):
        members["x_gen/data.pkl"] = members["x_gen/data.pkl"].replace(
            pickle.dumps(2**16, 2)[2:-1] + b"t", pickle.dumps(2**70, 2)[2:-1] + b"t"
        )

    with pytest.raises(UserError, match="a storage without name or size"):
        read_torch_file(rewritten(path, huge))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_torch_file(path)


def test_members_that_lie_over_each_other_do_not_fill_the_memory(tmp_path):
    path = tmp_path / "x.pth"
    code = (
        b"\x80\x02}("
        + b"".join(
            b"Vt%d\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nByteStorage\n"
            b"V%d\nVcpu\nJ\x40\x42\x0f\x00tQK\x00K\x01\x85K\x01\x85\x89NtR" % (k, k)
            for k in range(200)
        )
        + b"u."
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", code)
        archive.writestr("x/data/0", bytes(10**6))
        first = archive.getinfo("x/data/0")
        for k in range(1, 200):
            copy = zipfile.ZipInfo(f"x/data/{k}")
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copy, field, getattr(first, field))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True
    with pytest.raises(UserError, match=r"damaged|larger than the file"):
        read_torch_file(path)


def test_compressed_members_are_refused(path):
    with pytest.raises(UserError, match="compressed"):
        read_torch_file(rewritten(path, lambda _: None, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    "view",
    [
        (0, (7,), (1,)),  # one element too many
        (1, (6,), (1,)),
        (0, (2**40,), (0,)),  # a small storage, endlessly repeated
        (0, (2, 3), (1, 2**40)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 3), (3,)),
        (0, (2.0,), (1,)),
        (0, "ab", "cd"),
    ],
)
def test_views_beyond_the_storage(tmp_path, view):
    offset, shape, strides = (pickle.dumps(part, 2)[2:-1] for part in view)
    code = (
        b"\x80\x02}Vname\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\n"
        b"V0\nVcpu\nK\x06tQ" + offset + shape + strides + b"\x89NtRs."
    )
    path = tmp_path / "view.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("view/data.pkl", code)
        archive.writestr("view/data/0", np.arange(6, dtype=np.float32).tobytes())
    with pytest.raises(UserError, match=r"view\.pth: damaged"):
        read_torch_file(path)


def test_files_of_other_kinds(tmp_path):
    for name, content in (("text", b"hello"), ("pickle", pickle.dumps([1])), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: "):
            read_torch_file(tmp_path / name)
    with pytest.raises(UserError, match="No such file"):
        read_torch_file(tmp_path / "absent.pth")


def test_a_dtype_without_counterpart(tmp_path):
    with pytest.raises(UserError, match="no counterpart of dtype uint16"):
        write_state_dict(tmp_path / "x.pth", {"a": np.zeros(2, np.uint16)})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_state_dict(tmp_path / "absent" / "x.pth", {"a": np.zeros(2)})


def legacy_file(arrays):
    """What torch before 1.6 writes of float32 arrays."""
    literal = lambda value: pickle.dumps(value, 2)[2:-1]  # noqa: E731
    code = b"\x80\x02ccollections\nOrderedDict\n)R("
    for name, array in arrays.items():
        code += literal(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\n"
        code += b"ctorch\nFloatStorage\n" + literal(name) + b"Vcpu\n" + literal(array.size)
        code += b"NtQ" + literal(0) + literal(array.shape) + literal((1,)) + b"\x89NtR"
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)]
    parts += [code + b"u.", pickle.dumps(list(arrays), 2)]
    for array in arrays.values():
        parts += [np.int64(array.size).tobytes(), array.tobytes()]
    return b"".join(parts)


def test_the_format_before_torch_1_6(tmp_path):
    arrays = {"a": np.arange(3, dtype=np.float32), "b": np.ones(2, np.float32)}
    path = tmp_path / "old.pth"
    path.write_bytes(legacy_file(arrays))
    assert_same(read_torch_file(path), arrays)
    path.write_bytes(legacy_file(arrays)[:-1])
    with pytest.raises(UserError, match="truncated: storage 'b' has 7 of 8 bytes"):
        read_torch_file(path)


def test_torchscript(tmp_path):
    """A module with a parameter and a submodule, spelt out as TorchScript's pickler does."""
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nK\x02tQ"
        b"K\x00K\x02\x85K\x01\x85\x89NtR"
    )
    inner = b"c__torch__.nets\nInner\n)\x81}Vweight\n" + tensor + b"sb"
    outer = b"c__torch__.nets\nNet\n)\x81}(Vtraining\n\x89Vinner\n" + inner + b"ub."
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02" + outer)
        archive.writestr("net/data/0", np.float32([1, 2]).tobytes())
    assert_same(read_torchscript(path), {"inner.weight": np.float32([1, 2])})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}.")
    with pytest.raises(UserError, match="not a TorchScript module"):
        read_torchscript(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torch_reads_what_we_write_and_we_what_it_writes(path, tmp_path):
    torch = pytest.importorskip("torch")
    loaded = torch.load(path, weights_only=True)
    assert list(loaded) == list(tensors())
    torch.save(loaded, tmp_path / "back.pth")
    assert_same(read_torch_file(tmp_path / "back.pth"), tensors())
    torch.save(loaded, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(read_torch_file(tmp_path / "old.pth"), tensors())

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    buffer = io.BytesIO()
    torch.save({"state_dict": network.state_dict()}, buffer)  # an OrderedDict with attributes
    (tmp_path / "network.pth").write_bytes(buffer.getvalue())
    expected = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    assert_same(read_torch_file(tmp_path / "network.pth")["state_dict"], expected)
    torch.jit.script(network).save(tmp_path / "script.pt")
    assert read_torchscript(tmp_path / "script.pt").keys() == expected.keys()
