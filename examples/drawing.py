"""Maps of class probabilities as text and as SVG."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator

from torch import Tensor

# Ten hues of similar lightness, told apart on black.
COLOURS = (
    "#4e9af1", "#f28e2b", "#e15759", "#76d7c4", "#59c15f",
    "#edc948", "#c678dd", "#ff9da7", "#c49a6c", "#d0d0d0",
)  # fmt: skip
_GAP = 8
_CENTRE = 14  # of a window of 28 pixels


def printed(probabilities: Tensor, threshold: float) -> str:
    """Return a map `[classes, H, W]` as text: each cell's class where it is clear, else a dot."""
    highest, digits = probabilities.max(dim=0)
    rows = zip(highest.tolist(), digits.tolist(), strict=True)
    return "\n".join(
        "".join(str(d) if p > threshold else "·" for p, d in zip(*row, strict=True)) for row in rows
    )


def drawn(
    image: Tensor, probabilities: Tensor, peaks: Iterable[tuple[int, int, int]], stride: int
) -> str:
    """Return an SVG: the image, and beside it the map over the image.

    Args:
        image: `[1, H, W]`, 0 to 1.
        probabilities: `[10, H', W']`.
        peaks: row and column of windows' corners in pixels, and the digit.
        stride: pixels from cell to cell.
    """
    height, width = image.shape[1:]
    picture = f'<image width="{width}" height="{height}" href="{_png(image)}"/>'
    wide = 2 * width + _GAP
    size = f'viewBox="0 0 {wide} {height}" width="{2 * wide}" height="{2 * height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace">',
            "<title>Scattered digits, and the class map that slides over them</title>",
            picture,
            f'<g transform="translate({width + _GAP})">',
            picture,
            *_cells(probabilities, stride),
            *_labels(peaks),
            "</g>",
            "</svg>\n",
        ]
    )


def _cells(probabilities: Tensor, stride: int) -> Iterator[str]:
    """Yield a square at the middle of each cell's window, the clearer the more certain it is."""
    highest, digits = probabilities.max(dim=0)
    classes = len(probabilities)
    for row, (values, found) in enumerate(zip(highest.tolist(), digits.tolist(), strict=True)):
        for column, (value, digit) in enumerate(zip(values, found, strict=True)):
            certain = (value - 1 / classes) / (1 - 1 / classes)
            if certain < 0.02:
                continue  # not to be seen, and most cells are like that
            x, y = (_CENTRE + place * stride - stride / 2 for place in (column, row))
            yield (
                f'<rect x="{x:g}" y="{y:g}" width="{stride}" height="{stride}" '
                f'fill="{COLOURS[digit]}" fill-opacity="{0.85 * certain:.2f}"/>'
            )


def _labels(peaks: Iterable[tuple[int, int, int]]) -> Iterator[str]:
    for row, column, digit in peaks:
        x, y = column + _CENTRE + 8, row + _CENTRE - 5
        yield (
            f'<text x="{x}" y="{y}" font-size="12" font-weight="bold" '
            f'fill="{COLOURS[digit]}">{digit}</text>'
        )


def _png(image: Tensor) -> str:
    """Return a grey image `[1, H, W]` as a data address: four chunks, rows without a filter."""
    height, width = image.shape[1:]
    rows = (image[0] * 255).round().byte().tolist()
    pixels = b"".join(b"\0" + bytes(row) for row in rows)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels, 9)),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts
    )
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()
    return f"data:image/png;base64,{data}"
