"""What results are called: one name a group, good as a file name everywhere, never given twice."""

import hashlib
import unicodedata
from collections.abc import Iterator

# Stands between a name and the number of a sample, and therefore in no name.
SAMPLE_MARK = "~"
# Names of files hold 255 bytes; a mark, a number, an ending and a temporary prefix want room.
_LONGEST = 180
_FORBIDDEN = frozenset('<>:"/\\|?*' + SAMPLE_MARK)
# Windows opens devices by these names, whatever the ending.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul"] + [f"{kind}{k}" for kind in ("com", "lpt") for k in range(10)]
)


class Names:
    """The names given so far.

    Two groups get two names, also where the file system does not tell upper from lower case.
    """

    def __init__(self) -> None:
        self._source: dict[str, str] = {}

    def give(self, wanted: str, source: str) -> str:
        """A name for the group of a source; the same source is given the same name again.

        Args:
          wanted: what it would be called by itself.
          source: what tells the group from others, such as the path of its folder.

        Returns:
          `safe_name(wanted)`, with `-2`, `-3`, ... behind it where another source has that.
        """
        for name in _variants(safe_name(wanted)):
            owner = self._source.setdefault(name.casefold(), source)
            if owner == source:
                return name
        raise AssertionError("the variants have no end")


def safe_name(wanted: str) -> str:
    """`wanted` as a file name of at most 180 bytes; what was cut off lives on as eight digits."""
    text = unicodedata.normalize("NFC", wanted)
    text = "".join("_" if c in _FORBIDDEN or not c.isprintable() else c for c in text)
    text = text.strip(" .") or "unnamed"
    if text.partition(".")[0].lower() in _DEVICES:
        text = f"_{text}"
    whole = text.encode()
    if len(whole) <= _LONGEST:
        return text
    digest = hashlib.sha256(wanted.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{whole[: _LONGEST - 9].decode(errors='ignore')}-{digest}"


def sample_name(name: str, number: int) -> str:
    """What sample `number` (1, 2, ...) of a group is called: `name`, `name~2`, `name~3`, ..."""
    return name if number == 1 else f"{name}{SAMPLE_MARK}{number}"


def _variants(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
