"""Pages that need no other file: the style and the script that all of them share."""

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #111; background: #fff; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { border: 1px solid #ccc; padding: 3px 7px; text-align: right; vertical-align: middle; }
th:first-child, td:first-child { text-align: left; }
th { background: #f0f0f0; position: sticky; top: 0; }
th.sortable { cursor: pointer; } th.sortable::after { content: " \\2195"; color: #888; }
.reading { font: 16px monospace; white-space: nowrap; }
.generated { color: #D55E00; }
"""

SORT_SCRIPT = """
for (const head of document.querySelectorAll("th.sortable")) head.onclick = () => {
  const table = head.closest("table"), body = table.tBodies[0];
  const column = [...head.parentNode.children].indexOf(head);
  const key = row => row.cells[column].dataset.key ?? row.cells[column].textContent;
  const up = head.dataset.up !== "1"; head.dataset.up = up ? "1" : "0";
  const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
  const sorted = [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b)));
  body.append(...sorted);
};
"""


def page(title: str, body: str, style: str = "", language: str = "en") -> str:
    """A page of HTML; `title` is escaped here, `body` is HTML."""
    return page_head(title, style, language) + body + page_foot()


def page_head(title: str, style: str = "", language: str = "en") -> str:
    """What comes before a page's body."""
    return (
        f'<!DOCTYPE html>\n<html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>"
        f"<body><h1>{escape(title)}</h1>"
    )


def page_foot() -> str:
    """What comes behind it."""
    return f"<script>{SORT_SCRIPT}</script></body></html>\n"


def jpeg_uri(image: np.ndarray, quality: int = 80) -> str:
    """uint8 RGB [H, W, 3] as the address of a picture that lies in the page itself."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), options)[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def reading_spans(text: str, confidences: Sequence[float]) -> str:
    """A text as HTML, each character shaded by the confidence in it."""
    return "".join(
        f'<span style="background: hsl({120 * confidence:.0f} 80% 80%)" '
        f'title="{confidence:.3f}">{escape(character)}</span>'
        for character, confidence in zip(text, confidences, strict=True)
    )
