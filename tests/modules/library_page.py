"""Write the table of docs/library-modules.md from the files of conf/module: `python tests/modules/library_page.py`."""

from __future__ import annotations

from pathlib import Path

from ablate.settings.option_files import about_module, module_file
from ablate.settings.schema import options

PAGE = Path(__file__).parents[2] / "docs" / "library-modules.md"
LIBRARIES = ("timm", "torch", "torchvision", "ultralytics")
HEAD = "| module | class | kind | default point | paper |"


def names() -> list[str]:
    """Return the modules whose classes are those of a library."""
    return [name for name in options("module") if name.partition("/")[0] in LIBRARIES]


def rows() -> list[str]:
    """Return one line for each module."""
    lines = []
    for name in names():
        content, about = module_file(name), about_module(name)
        leaf = str(content["_target_"]).rpartition(".")[2]
        kinds = ", ".join(about.kinds)
        lines.append(f"| `{name}` | `{leaf}` | {kinds} | `{content['insertion']}` | {about.paper} |")
    return lines


def page(text: str) -> str:
    """Return the text of the page with its table written again."""
    before, _, after = text.partition(HEAD)
    rest = after.partition("\n\n")[2]
    return "\n".join([before + HEAD, "|---|---|---|---|---|", *rows(), "", rest])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
