"""Sphinx configuration: `sphinx-build -W docs docs/_build/html` in an environment with `.[docs]`."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

info = metadata("scanpy_sct")
project = info["Name"]
author = copyright = "scanpy_sct authors"
version = release = info["Version"]

# A note from Sphinx to the authors of this extension, repeated on each page.
warnings.filterwarnings("ignore", module="sphinx_autodoc_typehints")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints", "generated/commands.md"]
templates_path = ["_templates"]  # class pages show what a class adds, not all it inherits from torch

# Notebooks live in tutorials/ at the top of the repository, where people look for them; Sphinx only sees this folder.
for notebook in (HERE.parent / "tutorials").glob("*.ipynb"):
    shutil.copy2(notebook, HERE / "tutorials" / notebook.name)

# The reference of the command line is made from the commands; docs/cli.md includes it.
(HERE / "generated").mkdir(exist_ok=True)
typer_docs = [sys.executable, "-m", "typer", "scanpy_sct.cli.app", "utils", "docs", "--name", "sct"]
typer_docs += ["--output", str(HERE / "generated" / "commands.md")]
# Sphinx reads this file in its own folder, while PYTHONPATH may be relative to the repository.
subprocess.run(typer_docs, check=True, stdout=subprocess.DEVNULL, cwd=HERE.parent)

# -- pages and notebooks
# The first one is what the generated reference pages are written in.
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Quotes and dots only: two hyphens begin an option, also in the help of the command line.
smartquotes_action = "qe"
nb_execution_mode = "off"

# -- reference pages
autosummary_generate = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False
typehints_defaults = "braces"
always_use_bars_union = True
default_role = "literal"

# -- links to other projects
# Offline (the check before a change lands), links to other projects are left out; links within this project must always
# hold. With DOCS_ONLINE=1, the others are looked up too.
nitpicky = True
# Optional packages that only annotations name need not be installed.
suppress_warnings = ["sphinx_autodoc_typehints.guarded_import"]
online = bool(os.environ.get("DOCS_ONLINE") or os.environ.get("READTHEDOCS"))
intersphinx_mapping = {
    name: (f"https://{place}/", None)
    for name, place in {
        "anndata": "anndata.readthedocs.io/en/stable",
        "distributed": "distributed.dask.org/en/stable",
        "matplotlib": "matplotlib.org/stable",
        "numpy": "numpy.org/doc/stable",
        "pandas": "pandas.pydata.org/pandas-docs/stable",
        "python": "docs.python.org/3",
        "scanpy": "scanpy.readthedocs.io/en/stable",
        "scipy": "docs.scipy.org/doc/scipy",
        "squidpy": "squidpy.readthedocs.io/en/stable",
        "torch": "docs.pytorch.org/docs/stable",
    }.items()
    if online
}
# The inner parts have no pages, but docstrings may name them.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"scanpy_sct\.(read|plan|run|impute|embed|annotate|write|evaluate\.(embedding_methods|embedding_metrics|methods|metrics|observed|registry|source|tasks))\b.*",
    ),
    ("py:.*", r"scanpy_sct\.train\.(census\.CensusSource|sources)\b.*"),
]
if not online:
    nitpick_ignore_regex.append(("py:.*", r"(?!scanpy_sct)[A-Za-z_]\w*(\.\w+)*"))

# -- looks
html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True}


def keep_colons(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading the text before a colon in an attribute's docstring as the attribute's type."""
    if what in {"attribute", "property"} and lines:
        lines[0] = f": {lines[0]}"


def keep_prose(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading sentences in a Returns section, line by line, as names and types."""
    titles = [i - 1 for i in range(1, len(lines)) if lines[i] and set(lines[i]) == {"-"}]
    for start, end in itertools.pairwise([*titles, len(lines)]):
        body = lines[start + 2 : end]
        fields = any(a.startswith("`") and b.startswith("    ") for a, b in itertools.pairwise(body))
        if lines[start] == "Returns" and not fields:
            # As the description of a type, which tidy_returns removes.
            lines[start + 2 : end] = ["PROSE", *("    " + line if line else "" for line in body)]
            return


def tidy_returns(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Show sentences in a Returns section as they are, and its fields, which napoleon sets in bold, as code."""
    lines[:] = [re.sub(r"\*\*`([^`]+)`\*\*", r"``\1``", line.replace("*PROSE* -- ", "")) for line in lines]


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", keep_colons, priority=1)  # before napoleon
    app.connect("autodoc-process-docstring", keep_prose, priority=1)  # before napoleon
    app.connect("autodoc-process-docstring", tidy_returns, priority=900)  # after napoleon
