from __future__ import annotations

from typer.testing import CliRunner

import scanpy_sct as sct
from scanpy_sct.cli.models import DETAILS, models_app


def run(*arguments: str) -> str:
    result = CliRunner().invoke(models_app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_describe_prints_one_page_and_in_full_the_card():
    name = "sct-mini"
    short, full = run("describe", name), run("describe", name, "--full")
    assert len(short.splitlines()) < 40
    for words in ("Trained on", "Good for", "Not good for", "CC BY 4.0", "average precision", f"{name} --full"):
        assert words in short
    assert "## Recipe" not in short
    assert full.split() == sct.models.describe(name).replace(DETAILS, "").split()


def test_a_card_without_details_is_printed_as_it_is():
    card = sct.models.describe("InstaDeepAI/sCellTransformer")
    assert DETAILS not in card
    assert run("describe", "InstaDeepAI/sCellTransformer").strip() == card.strip()
