"""The command `sct`."""

from __future__ import annotations

import sys
from pathlib import Path

READING = ("check", "impute", "embed", "annotate")


def main() -> None:
    """Start the command. A missing input is reported before anything slow is imported."""
    for number, arg in enumerate(sys.argv[1:-1], start=1):
        following = sys.argv[number + 1]
        if arg in READING and not following.startswith("-") and not Path(following).exists():
            sys.stderr.write(f"Error: {following} does not exist; check the path.\n")
            raise SystemExit(1)
        if not arg.startswith("-"):
            break
    from scanpy_sct.cli.app import app

    app()
