"""Write `docs/edge_cases.md` from the rows that the tests run.

python scripts/write_edge_cases.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from behaviour.page import make_page  # noqa: E402
from behaviour.rows import GROUPS  # noqa: E402

if __name__ == "__main__":
    (ROOT / "docs" / "edge_cases.md").write_text(make_page(GROUPS), encoding="utf-8")
