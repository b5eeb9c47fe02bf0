"""Draw how `tl.impute` works, from a bag of cells to AnnData, as `docs/images/method.svg`.

python scripts/draw_method.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FILE = Path(__file__).resolve().parents[1] / "docs" / "images" / "method.svg"
WIDTH, HEIGHT = 760, 500
INK, GREY, PALE = "#222222", "#666666", "#F3F5F8"
# Colours of Okabe and Ito; the bins are shades of one blue, so that more is darker.
BLUE, ORANGE = "#0072B2", "#D55E00"
BINS = ("#FFFFFF", "#CFE3F1", "#86BADC", "#3C8DC4", "#0B4F82")


def main() -> None:
    """Write the picture."""
    shown = np.random.default_rng(3).choice(5, p=(0.55, 0.2, 0.12, 0.08, 0.05), size=(7, 11))
    masked = np.random.default_rng(5).random(shown.shape) < 0.2
    parts = [
        bag(shown),
        tokens(shown, masked),
        network(),
        blend(),
        result(shown),
        arrow(216, 130, 266, 130),
        arrow(486, 130, 536, 130),
        arrow(636, 216, 636, 248, 440, 248, 440, 276),
        arrow(492, 372, 536, 372),
        arrow(108, 216, 108, 276),
    ]
    text = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"
 font-family="Helvetica, Arial, sans-serif" font-size="14" fill="{INK}">
<title>From a bag of cells to imputed values in AnnData</title>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 L10 5 L0 10 z" fill="{GREY}"/></marker></defs>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#FFFFFF"/>
{"".join(parts)}</svg>
"""
    FILE.write_text(text, encoding="utf-8")


def bag(shown: np.ndarray) -> str:
    """Draw the counts of a bag."""
    counts = np.array([0, 1, 3, 7, 21])[shown]
    numbers = "".join(
        write(38 + 22 * column, 76 + 18 * row, str(counts[row, column]), size=12, anchor="middle")
        for row in range(7)
        for column in range(8)
    )
    return box(10, 10, 206, 206, "1  Bag", "50 cells, near or alike, x genes") + numbers


def tokens(shown: np.ndarray, masked: np.ndarray) -> str:
    """Draw bins, some of them masked."""
    fills = np.where(masked, ORANGE, np.array(BINS)[shown])
    legend = swatch(284, 194, BINS[3]) + write(302, 205, "bins", size=12)
    legend += swatch(352, 194, ORANGE) + write(370, 205, "masked", size=12)
    return box(270, 10, 216, 206, "2  Tokens", "bins; a part is masked") + grid(302, 62, fills, 14, 17) + legend


def network() -> str:
    """Draw the parts of the network."""
    layers = ("genes of each cell", "cells of the bag", "masked entries")
    bars = "".join(
        f'<rect x="556" y="{66 + 44 * row}" width="160" height="32" rx="6" fill="{BLUE}"/>'
        + write(636, 87 + 44 * row, name, fill="#FFFFFF", size=13, anchor="middle")
        for row, name in enumerate(layers)
    )
    note = write(636, 206, "probability of each bin", size=12, anchor="middle")
    return box(540, 10, 206, 206, "3  Network", "predicts what is masked") + bars + note


def blend() -> str:
    """Draw what is added from the data."""
    lines = (
        ("Calibrate", "detection rate and mean of genes, on visible values"),
        ("Blend", "with a low-rank reconstruction of your data"),
        ("Repeat", "until each value was masked once, in K passes"),
        ("Compare", "predicted with measured: the recovery of each gene"),
    )
    rows = "".join(
        write(30, 344 + 40 * row, head, weight="bold", size=13) + write(112, 344 + 40 * row, body, size=13)
        for row, (head, body) in enumerate(lines)
    )
    title = box(10, 280, 482, 208, "4  Blend with your data", "weights are learnt from masked values")
    return title + rows


def result(shown: np.ndarray) -> str:
    """Draw the fields that are written."""
    smooth = np.clip(shown.mean(axis=0)[None] + (shown - shown.mean(axis=0)) * 0.4 + 0.3, 0, 4).round().astype(int)
    fields = ('.layers["sct"]', '.var["sct_recovery"]', '.uns["sct"]')
    names = "".join(
        write(560, 446 + 17 * row, name, size=12, family="Menlo, Consolas, monospace")
        for row, name in enumerate(fields)
    )
    return (
        box(540, 280, 206, 208, "5  AnnData", "X stays as it is")
        + grid(560, 332, np.array(BINS)[smooth], 15, 13)
        + names
    )


def box(x: int, y: int, width: int, height: int, title: str, note: str) -> str:
    """Draw a frame with a title and a line below it."""
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="{PALE}" stroke="#B8C2CC"/>'
    return (
        frame + write(x + 14, y + 22, title, weight="bold", size=16) + write(x + 14, y + 40, note, fill=GREY, size=12)
    )


def grid(x: int, y: int, fills: np.ndarray, width: int, height: int) -> str:
    """Draw a table of coloured cells."""
    return "".join(
        f'<rect x="{x + width * column}" y="{y + height * row}" width="{width - 1}" height="{height - 1}" '
        f'fill="{fill}" stroke="#B8C2CC" stroke-width="0.5"/>'
        for (row, column), fill in np.ndenumerate(fills)
    )


def swatch(x: int, y: int, fill: str) -> str:
    """Draw one cell of a legend."""
    return f'<rect x="{x}" y="{y}" width="12" height="12" fill="{fill}" stroke="#B8C2CC"/>'


def arrow(*points: int) -> str:
    """Draw a line through points x, y, ... with a head at its end."""
    pairs = " ".join(f"{x},{y}" for x, y in zip(points[::2], points[1::2], strict=True))
    return f'<polyline points="{pairs}" fill="none" stroke="{GREY}" stroke-width="2" marker-end="url(#head)"/>'


def write(x: int, y: int, text: str, *, size: int = 14, anchor: str = "start", **style: str) -> str:
    """Write a line of text."""
    extra = "".join(f' {"font-" * (name != "fill")}{name}="{value}"' for name, value in style.items())
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{extra}>{text}</text>\n'


if __name__ == "__main__":
    main()
