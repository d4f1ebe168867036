import json
import warnings

import pytest

with warnings.catch_warnings():
    # Of its own dependencies.
    warnings.simplefilter("ignore", DeprecationWarning)
    mlc = pytest.importorskip("mlcroissant")

from data_pipeline.croissant import write_croissant
from data_pipeline.prepare import check_tree, write_shards
from data_pipeline.shards import CROISSANT_FILE, read_index, sha256_of, verify

# mlcroissant reads JSON-LD by classes that rdflib has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*ConjunctiveGraph.*:DeprecationWarning")


@pytest.fixture
def shards(make_tree, tmp_path):
    root = make_tree(train={"a": 3, "b": 2, "c": 1}, val={"d": 3})
    out = tmp_path / "shards"
    write_shards(out, check_tree(root).splits, groups_per_shard=2, report=lambda _: None)
    return out


def test_mlcroissant_takes_what_prepare_writes(shards):
    data = mlc.Dataset(jsonld=shards / CROISSANT_FILE)
    assert not data.metadata.issues.errors
    # What only a publisher can know is recommended, and nothing else.
    missing = {w.split('"')[1].rsplit("/", 1)[1] for w in data.metadata.issues.warnings}
    assert missing == {"citeAs", "datePublished", "license", "version"}
    records = {r["splits/name"]: r["splits/groups"] for r in data.records("splits")}
    assert {k.decode() if isinstance(k, bytes) else k: v for k, v in records.items()} == {
        "train": 3,
        "val": 1,
    }


def test_its_checksums_are_those_of_the_files(shards):
    document = json.loads((shards / CROISSANT_FILE).read_text())
    files = [d for d in document["distribution"] if d["@type"] == "cr:FileObject"]
    assert len(files) == 3
    for file in files:
        assert file["sha256"] == sha256_of(shards / file["contentUrl"])
        assert file["contentSize"] == f"{(shards / file['contentUrl']).stat().st_size} B"


def test_it_belongs_to_the_shards(shards):
    assert verify(shards) == []
    before = (shards / CROISSANT_FILE).read_bytes()
    write_croissant(shards, "shards", read_index(shards))
    assert (shards / CROISSANT_FILE).read_bytes() == before
