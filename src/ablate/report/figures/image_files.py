"""Images that figures show: opened as images only, whatever a file of this name really is."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

# Pillow knows more: for EPS it starts Ghostscript, which runs what the file says.
FORMATS = ("AVIF", "BMP", "JPEG", "JPEG2000", "MPO", "PNG", "TIFF", "WEBP")

UNREADABLE = (
    OSError,
    ValueError,
    ZeroDivisionError,
    SyntaxError,  # PIL's on a broken image
    ImportError,  # PIL's once Ultralytics has been imported: it then asks for a plugin
    Image.DecompressionBombError,
)


def open_image(path: Path) -> Image.Image:
    """Open an image file; one of `UNREADABLE` is raised where it is missing, no file, or no image."""
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(f"no such image: {path}")
    Image.init()
    return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
