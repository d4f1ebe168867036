"""Plate texts as people write them, and as the model learns and evaluation compares them.

`苏A·5L231`, `苏A 5L231`, `苏a5l231` in full width and `苏A5L231` with a line's end are one plate.
Every text that enters the program goes through `plate_text`, so that training, evaluation and
`lpdiff prepare` see one spelling.
"""

import unicodedata

PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
# Every character of Chinese plates, in the order of the reading head's classes.
CHARSET = PROVINCES + "使领警学港澳挂应急民航" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
# Bytes of UTF-8 that a text may take.
TEXT_BYTES = 32

# What stands between the groups of a plate's characters: dots of all kinds. Spaces, dashes and
# invisible characters are known by their Unicode category.
_DOTS = frozenset("·•・‧∙⋅●◦‣.,'`、。")
_BETWEEN = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Pd", "Pc"))
# What people write where a plate cannot be read.
_NO_TEXT = frozenset(
    ("UNKNOWN", "UNREADABLE", "NONE", "NULL", "NAN", "NA", "TODO", "未知", "无牌", "无")
)


class NotAPlate(ValueError):
    """Why a label cannot be a plate's text."""


def plate_text(label: object) -> str:
    """A label in the one spelling: NFKC, upper case, without separators.

    Args:
      label: what a file says; text, if it is right.

    Returns:
      Letters and digits, 1 to 32 bytes of UTF-8.

    Raises:
      NotAPlate: the label is no text, empty, too long, or has other characters.
    """
    if not isinstance(label, str):
        raise NotAPlate(f"{_shown(label)} is not a text")
    text = normalise(label)
    if not text:
        raise NotAPlate("the text is empty")
    if text in _NO_TEXT:
        raise NotAPlate(f"{_shown(label)} says that there is no text; leave the label out")
    strange = [c for c in text if unicodedata.category(c)[0] not in "LNM"]
    if strange:
        raise NotAPlate(f"{_shown(label)} cannot be a plate: {describe(strange[0])}")
    if len(text.encode()) > TEXT_BYTES:
        raise NotAPlate(f"plate text {_shown(label)} is longer than {TEXT_BYTES} bytes of UTF-8")
    return text


def text_or_none(label: object) -> str | None:
    """`plate_text`, and None for what is none: of a file that was checked when it was written."""
    try:
        return plate_text(label)
    except NotAPlate:
        return None


def normalise(text: str) -> str:
    """A text in NFKC and upper case, without spaces, dashes, dots and invisible characters.

    What a reader reads is compared with a label in this form, too.
    """
    kept = (c for c in unicodedata.normalize("NFKC", text) if not _separates(c))
    return unicodedata.normalize("NFKC", "".join(kept).upper())


def describe(character: str) -> str:
    """A character and its name, since many look alike."""
    return f"{character!a} ({unicodedata.name(character, 'without a name')})"


def unknown_to(charset: str, text: str) -> str | None:
    """The first character of a text that a charset has not; None where it has all."""
    return next((c for c in text if c not in charset), None)


def _separates(character: str) -> bool:
    return character in _DOTS or unicodedata.category(character) in _BETWEEN


def _shown(label: object) -> str:
    """A label as a message can have it: in one line, and not endless."""
    if isinstance(label, str):
        return repr(label if len(label) <= 50 else f"{label[:50]}...")
    names = {type(None): "null", dict: "an object", list: "a list"}
    return names.get(type(label)) or repr(label)
