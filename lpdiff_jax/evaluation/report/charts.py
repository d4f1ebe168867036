"""Small charts as SVG text, for a page that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, MARGIN = 420, 300, 44
# Told apart with any common colour blindness (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

STYLE = """svg .title { font-size: 13px; font-weight: bold; }
.grid { stroke: #ddd; } .ideal { stroke: #999; stroke-dasharray: 4; }
.line { fill: none; stroke-width: 2; }"""

Point = tuple[float, float, int]  # x, y and how many plates are behind it


def line_chart(
    title: str,
    x_label: str,
    lines: Mapping[str, Sequence[Point]],
    x_range: tuple[float, float],
    *,
    diagonal: bool = False,
) -> str:
    """Lines over [x_range] x [0, 1], a legend below; the number of plates shows on hovering."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 16 * len(lines)}" role="img" '
        f'aria-label="{escape(title)}">',
        f'<text x="{WIDTH / 2}" y="16" text-anchor="middle" class="title">{escape(title)}</text>',
        _axes(x_label, x_range),
    ]
    if diagonal:
        start, end = (_place(value, value, x_range) for value in x_range)
        parts.append(f'<path d="M{start} L{end}" class="ideal"/>')
    for number, (name, points) in enumerate(lines.items()):
        colour, dashed = COLOURS[number % len(COLOURS)], number >= len(COLOURS)
        parts.append(_line(points, x_range, colour, dashed))
        parts.append(_legend(name + (" (dashed)" if dashed else ""), number, colour))
    return "".join([*parts, "</svg>"])


def standalone(chart: str) -> str:
    """A chart as the content of a file of its own; in a page it needs the page's `STYLE`."""
    attributes = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11"'
    head, body = chart.removeprefix("<svg ").split(">", 1)
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return f"<svg {attributes} {head}><style>{STYLE}</style>{ground}{body}\n"


def _place(x: float, y: float, x_range: tuple[float, float]) -> str:
    low, high = x_range
    across = MARGIN + (x - low) / max(high - low, 1e-9) * (WIDTH - MARGIN - 16)
    down = HEIGHT - MARGIN - y * (HEIGHT - MARGIN - 30)
    return f"{across:.1f},{down:.1f}"


def _axes(x_label: str, x_range: tuple[float, float]) -> str:
    low, high = x_range
    parts = []
    for tick in range(6):
        place = _place(low, tick / 5, x_range)
        x, y = place.split(",")
        end = _place(high, tick / 5, x_range)
        parts.append(f'<path d="M{place} L{end}" class="grid"/>')
        parts.append(
            f'<text x="{float(x) - 6}" y="{float(y) + 4}" text-anchor="end">{tick / 5}</text>'
        )
    steps = 5 if high <= 1 else int(high - low)
    for tick in range(steps + 1):
        value = low + (high - low) * tick / steps
        x, y = _place(value, 0, x_range).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 16}" text-anchor="middle">{value:g}</text>')
    middle = WIDTH / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return "".join(parts)


def _line(points: Sequence[Point], x_range: tuple[float, float], colour: str, dashed: bool) -> str:
    places = [_place(x, y, x_range) for x, y, _ in points]
    dots = "".join(
        f'<circle cx="{place.split(",")[0]}" cy="{place.split(",")[1]}" r="3.5" fill="{colour}">'
        f"<title>{y:.3f}, {count} plates</title></circle>"
        for place, (_, y, count) in zip(places, points, strict=True)
    )
    dashes = ' stroke-dasharray="5 3"' if dashed else ""
    return f'<path d="M{" L".join(places)}" stroke="{colour}" class="line"{dashes}/>{dots}'


def _legend(name: str, number: int, colour: str) -> str:
    y = HEIGHT + 8 + 16 * number
    box = f'<rect x="{MARGIN}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
    return f'{box}<text x="{MARGIN + 16}" y="{y}">{escape(name)}</text>'
