"""Hooks of the documentation site: pages from elsewhere in the repository, and the results page.

README, model card and others stay where people look for them; here they become pages, and links
between them and the documents are turned to where the page is on the site.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
# File of the repository -> page of the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "lpdiff_jax/pretrained/README.md": "model-card.md",
    "data_pipeline/mdlp/README.md": "mdlp.md",
}
DOCS = ROOT / "docs"
# Where results.md gets its tables from, in this order.
RESULTS = (
    *("model-card.md", "limits.md", "evaluation.md", "baselines.md", "published.md"),
    *("training.md", "tutorials/country.md", "sampling.md", "performance.md", "export.md"),
    *("synthetic.md", "data.md", "steps.md"),
)
_LINK = re.compile(r"(!?\[[^\]]*\]\()\s*([^)\s]+)\s*(\))")


def on_config(config: Any) -> Any:
    """Lists notebooks, and documents that the navigation forgot, so that every page is reached."""
    listed = set(re.findall(r"[\w/.-]+\.md", json.dumps(config.nav)))
    here = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    more = sorted((here | set(PAGES.values()) | set(notebooks())) - listed)
    if more:
        config.nav.insert(3, {"More": more})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that lie outside of docs/, and the notebooks."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for page, path in notebooks().items():
        files.append(File.generated(config, page, content=notebook_page(path)))
    return files


def notebooks() -> dict[str, Path]:
    """Page -> notebook."""
    return {f"notebooks/{path.stem}.md": path for path in sorted(DOCS.glob("*.ipynb"))}


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns links to where their targets are on the site; fills the results page."""
    del config
    here = page.file.src_uri
    if here == "results.md":
        markdown = markdown.replace("<!-- tables -->", all_tables(files))
    return turned(markdown, source_of(here), here)


def source_of(page: str) -> str:
    """Where a page's text lies in the repository."""
    if page in notebooks():
        return f"docs/{notebooks()[page].name}"
    return next((source for source, p in PAGES.items() if p == page), f"docs/{page}")


def turned(markdown: str, source: str, page: str) -> str:
    """Links that are right at `source`, in the repository, made right at `page`, on the site."""

    books = {f"docs/{path.name}": page for page, path in notebooks().items()}
    pages = PAGES | books

    def turn(match: re.Match[str]) -> str:
        start, link, end = match.groups()
        path, _, anchor = link.partition("#")
        if not path or ":" in path:
            return match.group()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        on_site = pages.get(target) or target.removeprefix("docs/")
        if on_site == target:  # not on the site: a script, a configuration
            return start[1:].removesuffix("](") if (ROOT / target).exists() else match.group()
        relative = posixpath.relpath(on_site, posixpath.dirname(page) or ".")
        return f"{start}{relative}{'#' * bool(anchor)}{anchor}{end}"

    return _LINK.sub(turn, markdown)


def all_tables(files: Files) -> str:
    """Every table of measured figures in `RESULTS`, under the heading of its section."""
    parts = []
    for name in RESULTS:
        file = files.get_file_from_path(name)
        if file is None:
            continue
        text = turned(file.content_string, source_of(name), name)
        for i, (heading, table) in enumerate(tables_of(text)):
            if not i:
                where = f"[{name.removesuffix('.md')}]({name})"
                parts.append(f"## {title_of(text)}\n\nFrom {where}, which says how.")
            parts.append(f"**{heading}**\n\n{table}" if heading else table)
    return "\n\n".join(parts)


def title_of(markdown: str) -> str:
    """The first heading."""
    return next(line[2:] for line in markdown.splitlines() if line.startswith("# "))


def tables_of(markdown: str) -> Iterator[tuple[str, str]]:
    """The tables of figures of a page, each with the heading, or bold line, before it."""
    heading, rows, fenced = "", [], False
    for line in [*markdown.splitlines(), ""]:
        fenced ^= line.startswith("```")
        if not fenced and (found := re.match(r"#+ (.*)|\*\*([^*]+)\*\*", line)):
            heading = found[1] or found[2]
        if line.startswith("|") and not fenced:
            rows.append(line)
        elif rows:
            if is_measured(rows):
                yield heading, "\n".join(rows)
            rows = []


def is_measured(rows: list[str]) -> bool:
    """Whether most cells but the first column's begin with a number."""
    cells = [cell.strip(" *~") for row in rows[2:] for cell in row.strip("|").split("|")[1:]]
    filled = [cell for cell in cells if cell not in ("", "-")]
    numbers = [cell for cell in filled if re.match(r"[-+<>]?\d", cell)]
    return bool(filled) and len(numbers) > len(filled) / 2


def notebook_page(path: Path) -> str:
    """A notebook as Markdown: its texts, code, printed output and pictures."""
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join(part for cell in cells for part in cell_parts(cell)) + "\n"


def cell_parts(cell: dict[str, Any]) -> Iterator[str]:
    """The Markdown of one cell."""
    text = "".join(cell["source"])
    if cell["cell_type"] != "code":
        yield text
        return
    yield f"```python\n{text}\n```"
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        if "image/png" in data:
            picture = "".join(data["image/png"]).replace("\n", "")
            yield f'<img alt="output" src="data:image/png;base64,{picture}">'
        elif text := "".join(output.get("text", data.get("text/plain", ""))):
            yield f"```text\n{text.rstrip()}\n```"
