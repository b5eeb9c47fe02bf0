"""Write the addresses of the repository: links of README, pyproject.toml, and the files for lists of packages.

    python scripts/absolute_links.py https://github.com/OWNER/REPOSITORY v0.2.0

Where the repository lives is known to the workflow that publishes a release, which runs this before it builds the wheel
(`.github/workflows/release.yml`). All files are changed in place.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTED = ("ecosystem/meta.yaml", "recipe/recipe.yaml")
"""Files with the words REPOSITORY and OWNER in the place of addresses."""
PLACES = {
    "Source": "",
    "Documentation": "/tree/main/docs",
    "Issues": "/issues",
    "Changelog": "/blob/main/CHANGELOG.md",
}


def with_absolute_links(text: str, repository: str, tag: str) -> str:
    """Return a Markdown text whose links and pictures lead to the files of a tag."""

    def absolute(match: re.Match[str]) -> str:
        sign, text, link = match.groups()
        if "://" in link or link.startswith("#"):
            return match.group()
        return f"{sign}[{text}]({repository}/{'raw' if sign else 'blob'}/{tag}/{link})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", absolute, text)


def with_urls(project: str, repository: str) -> str:
    """Return pyproject.toml with the addresses of the repository in `project.urls`."""
    heading = "[project.urls]\n"
    if heading not in project:
        msg = "pyproject.toml has no table [project.urls]"
        raise ValueError(msg)
    lines = "".join(f'{name} = "{repository}{place}"\n' for name, place in PLACES.items())
    return project.replace(heading, heading + lines, 1)


def with_addresses(text: str, repository: str) -> str:
    """Return a text with the address of the repository and the name of its owner in their places."""
    owner = repository.split("/")[-2]
    return re.sub(r"\bOWNER\b", owner, re.sub(r"\bREPOSITORY\b", repository, text))


def main(repository: str, tag: str) -> None:
    """Change the files."""
    readme, project = ROOT / "README.md", ROOT / "pyproject.toml"
    repository = repository.rstrip("/")
    readme.write_text(with_absolute_links(readme.read_text(encoding="utf-8"), repository, tag), encoding="utf-8")
    project.write_text(with_urls(project.read_text(encoding="utf-8"), repository), encoding="utf-8")
    for path in (ROOT / name for name in LISTED):
        path.write_text(with_addresses(path.read_text(encoding="utf-8"), repository), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
