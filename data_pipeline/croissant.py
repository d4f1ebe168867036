"""Croissant metadata of shards: what a data set holds, for catalogues and search engines.

Format: Croissant 1.0 (MLCommons, http://mlcommons.org/croissant/1.0), JSON-LD over schema.org. What
`prepare` cannot know (licence, citation, date) is left out; whoever publishes the data adds it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.files import write_json
from data_pipeline.shards import CROISSANT_FILE, Shard

_ENCODING = "application/x-array-record"
# Its keys and their places are the specification's own, word for word.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {
    key: f"cr:{key}"
    for key in (
        *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject"),
        *("fileProperty", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key"),
        *("md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace"),
        *("samplingRate", "separator", "source", "subField", "transform"),
    )
}
# Of a record (`shards.pack`): name, type, whether there are several, meaning.
_FIELDS = (
    ("name", "sc:Text", False, "Name of the group."),
    ("frames", "sc:ImageObject", True, "Degraded frames as encoded images, far to near."),
    ("target", "sc:ImageObject", False, "The ground truth as an encoded image; may be missing."),
    ("text", "sc:Text", False, "Text of the plate; missing where it is not known."),
)


def describe(name: str, splits: Mapping[str, Sequence[Shard]]) -> dict[str, Any]:
    """Croissant metadata of a shard directory.

    Args:
      name: the name of the data set.
      splits: the shards of each split.

    Returns:
      The JSON-LD document.
    """
    counts = {split: sum(shard.groups for shard in shards) for split, shards in splits.items()}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": (
            "Groups of frames of one licence plate each, with a ground truth where there is one; "
            "ArrayRecord files whose records are msgpack maps."
        ),
        "distribution": [_file(s) for shards in splits.values() for s in shards] + [_file_set()],
        "recordSet": [_splits(counts), _groups()],
    }


def write_croissant(root: Path, name: str, splits: Mapping[str, Sequence[Shard]]) -> None:
    """Writes `croissant.json` into a shard directory, whole or not at all."""
    write_json(root / CROISSANT_FILE, describe(name, splits))


def _file(shard: Shard) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": shard.file,
        "name": shard.file,
        "contentUrl": shard.file,
        "contentSize": f"{shard.bytes} B",
        "encodingFormat": _ENCODING,
        "sha256": shard.sha256,
    }


def _file_set() -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "shards",
        "name": "shards",
        "encodingFormat": _ENCODING,
        "includes": "*.array_record",
    }


def _splits(counts: Mapping[str, int]) -> dict[str, Any]:
    fields = [("name", "sc:Text", "Name of the split."), ("groups", "sc:Integer", "Its groups.")]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [_field("splits", *field) for field in fields],
        "data": [{"splits/name": s, "splits/groups": count} for s, count in counts.items()],
    }


def _groups() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "groups",
        "name": "groups",
        "key": {"@id": "groups/name"},
        "field": [
            _field("groups", name, kind, meaning)
            | {"source": {"fileSet": {"@id": "shards"}, "extract": {"column": name}}}
            | ({"repeated": True} if several else {})
            for name, kind, several, meaning in _FIELDS
        ],
    }


def _field(record_set: str, name: str, kind: str, meaning: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "description": meaning,
        "dataType": kind,
    }
