"""How far a reading can be relied on, in words and marks."""

from lpdiff_jax.plate_text import PROVINCES, Reading

READABLE, UNCERTAIN, UNREADABLE = "readable", "uncertain", "unreadable"
# Of 122 plates below, synthetic and real ones, none was read right (docs/restoring.md).
HOPELESS = 0.03
# Of characters below, 38 % are right on synthetic plates and 36 % on real ones.
WEAK = 0.6


def verdict(reading: Reading, readable: bool) -> str:
    """`readable`, `uncertain` or `unreadable`.

    Args:
      reading: the reading to judge.
      readable: whether the model's calibration lets one rely on it.
    """
    if readable:
        return READABLE
    return UNREADABLE if not reading.text or reading.confidence < HOPELESS else UNCERTAIN


def weak_places(reading: Reading) -> list[int]:
    """The places, from 0, of characters that are no more likely right than wrong."""
    return [k for k, sure in enumerate(reading.character_confidences) if sure < WEAK]


def marked(reading: Reading) -> str:
    """The text as it is shown: weak characters as ?, and the dot of Chinese plates: `苏E·9?5L1`."""
    weak = set(weak_places(reading))
    text = "".join("?" if k in weak else c for k, c in enumerate(reading.text))
    return with_dot(text, reading.text)


def with_dot(text: str, pattern: str | None = None) -> str:
    """A text with the dot behind the province and its letter, where it has these."""
    pattern = text if pattern is None else pattern
    if len(text) > 2 and pattern[0] in PROVINCES:
        return f"{text[:2]}·{text[2:]}"
    return text
