"""What a release says of itself in several places is the same everywhere."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPE = yaml.safe_load((ROOT / "recipe/recipe.yaml").read_text(encoding="utf-8"))
LISTED = yaml.safe_load((ROOT / "ecosystem/meta.yaml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

CONDA_NAMES = {"dask[array]": "dask-core", "matplotlib": "matplotlib-base", "torch": "pytorch"}
"""Name in pyproject.toml -> name on conda-forge, where they differ."""
MANDATORY = {"name", "description", "project_home", "documentation_home", "install", "license", "tags", "version"}
MANDATORY |= {"contact", "category"}
"""Fields that the schema of the list of scverse ecosystem packages requires."""
OPTIONAL = {"tutorials_home", "publications", "logo", "test_command", "language", "primary_category"}


def newest_version() -> str:
    """The first version of the changelog that has a date."""
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", CHANGELOG, flags=re.MULTILINE)[0]


def as_conda(requirement: str) -> str:
    """Return a requirement as conda-forge writes it."""
    name, bound = re.fullmatch(r"([\w\[\]-]+)(>=[\d.]+)", requirement).groups()
    return f"{CONDA_NAMES.get(name, name)} {bound}"


def test_versions_agree():
    found = {CITATION["version"], LISTED["version"], RECIPE["context"]["version"]}
    assert found == {newest_version()}


def test_without_tags_the_version_is_that_in_preparation():
    """As long as the release is prepared it is the newest one of the changelog, then a later one."""
    version, _, rest = PROJECT["tool"]["hatch"]["version"]["fallback-version"].partition(".dev")
    assert rest == "0"
    assert [int(part) for part in version.split(".")] >= [int(part) for part in newest_version().split(".")]


def test_the_recipe_has_the_requirements_of_the_package():
    project = PROJECT["project"]
    first, *run = RECIPE["requirements"]["run"]
    assert first == "python >=${{ python_min }}"
    assert project["requires-python"] == f">={RECIPE['context']['python_min']}"
    assert sorted(run) == sorted(map(as_conda, project["dependencies"]))
    host = [name for name in RECIPE["requirements"]["host"] if not name.startswith(("python ", "pip"))]
    assert sorted(host) == sorted(map(as_conda, PROJECT["build-system"]["requires"]))


def test_the_recipe_describes_the_package():
    project, about = PROJECT["project"], RECIPE["about"]
    assert (RECIPE["package"]["name"], about["summary"]) == (project["name"], project["description"])
    assert (about["license"], about["license_file"]) == (project["license"], *project["license-files"])
    (command,) = project["scripts"].items()
    assert RECIPE["build"]["python"]["entry_points"] == [" = ".join(command)]


def test_the_entry_for_the_ecosystem_describes_the_package():
    assert MANDATORY <= set(LISTED) <= MANDATORY | OPTIONAL
    project = PROJECT["project"]
    assert (LISTED["name"], LISTED["license"]) == (project["name"], project["license"])
    assert LISTED["install"] == {"pypi": project["name"]}
    assert LISTED["category"] == "ecosystem"  # the only one that is open to entries
    assert len(set(LISTED["tags"])) == len(LISTED["tags"]) > 0
    assert LISTED["test_command"] in README
    for field in ("documentation_home", "tutorials_home"):
        assert (ROOT / LISTED[field].partition("/tree/main/")[2]).is_dir()


@pytest.mark.parametrize("path", ["ecosystem/meta.yaml", "recipe/recipe.yaml"])
def test_addresses_are_filled_in(path):
    from absolute_links import LISTED as changed
    from absolute_links import with_addresses

    assert path in changed
    text = (ROOT / path).read_text(encoding="utf-8")
    filled = with_addresses(text, "https://example.org/owner/name")
    assert "https://example.org/owner/name/tree/main/docs" in filled
    assert "- owner\n" in filled
    assert not re.search("REPOSITORY|OWNER", filled)


def test_the_changelog_keeps_a_place_for_what_comes():
    headings = re.findall(r"^## \[(.+?)\]", CHANGELOG, flags=re.MULTILINE)
    assert headings[:2] == ["Unreleased", newest_version()]
