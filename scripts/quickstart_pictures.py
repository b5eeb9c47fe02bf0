"""Run the Python block of README and keep its two figures for `docs/quickstart.md`.

python scripts/quickstart_pictures.py
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import matplotlib as mpl
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("imputed", "labels")
WIDTH = 900


def main() -> None:
    """Write docs/images/start_imputed.png and docs/images/start_labels.png."""
    mpl.use("Agg")
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exec(block, {})
        for name in NAMES:
            picture = Image.open(f"{name}.png").convert("RGB")
            picture.thumbnail((WIDTH, WIDTH))
            file = ROOT / "docs" / "images" / f"start_{name}.png"
            picture.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(file, optimize=True)
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
