"""Write the pages of the documentation that show figures, from what the benchmarks measured.

    python benchmarks/imputation.py && python benchmarks/recovery.py && python benchmarks/panels.py
    python scripts/write_results_pages.py

Every figure of docs/results.md, docs/which_genes.md, docs/panels.md and docs/experiments.md is read from
benchmarks/results; the only ones typed in are those of experiments that an earlier version measured. The last has a
section for each of ablations.py, whitening.py, lengths.py, bags.py and depth.py that was run.
"""

from __future__ import annotations

import json

import pandas as pd
from conclusions import of_imputation, of_losses, of_recovery
from experiments_page import experiments_page
from figures import draw_entries, draw_panels, draw_scale
from page_parts import ENTRIES, GENES, IMAGES, RESULTS, ROOT, THINNED, folded, require, tables, when
from panels_page import draw_methods, panels_page

from scanpy_sct.impute.recovery import RIGHT_ON_AVERAGE, TRUSTED

RESULTS_PAGE = """\
# How good is it?

{conclusion}

{losses}

![average precision of each method with 95 % intervals, one panel per data set](images/entries.png)

*"Is this entry detected?", 15 % of the entries masked: average precision of each method, with 95 % intervals.*

## What was measured

Four data sets that `sct-mini` was not trained on, by `python benchmarks/imputation.py` ({when}; seed {seed});
`scripts/write_results_pages.py` wrote this page. All methods see the same values and predict the same masked ones.
Choices were made while looking at these data sets (the weight of the cell embedding, the bag correction, and the blend
of network and data), so expect a little less elsewhere; {{func}}`scanpy_sct.evaluate.imputation` measures the same on
your own data. Each cell is there once: of heart CN73, copies are left out (`sct.pp.check` reports 86 of its 511 spots).

`sct` is {{func}}`scanpy_sct.tl.impute` with its defaults: the network, blended with a low-rank reconstruction of the
data and with similar cells. `sct_network` is the network alone, `sct_finetuned` is `sct` after
{{func}}`scanpy_sct.train.finetune` on the visible entries. `benchmarks/README.md` describes the other methods.

Open a table to see its figures. The best figure of each column is bold, whichever method it is; a dash stands where a
method does not apply or was not run. 95 % intervals, other metrics and strata (zero and non-zero entries, rare and
common genes) are in `benchmarks/results/imputation.csv.gz`.

## Random entries masked

{entries}

## Whole genes masked, or not measured

A masked gene is visible in no cell, so that most methods can only predict zero (`predict_zero`). `training_rates` knows
how often each gene was detected in the training data of the model, and the depth of each cell.

{genes}{panels}

## Thinned counts

Counts are split at random: nine tenths are visible, one tenth is compared with, by the metrics of the denoising task of
Open Problems, mean squared error of log-normalised counts and Poisson loss. `sct` is
`tl.impute(adata, denoise=True, values="counts")`: it may keep what is visible, as all methods may.

{thinned}

A prediction with a small mean squared error lies between the mean of a count and the mean of its logarithm, which costs
Poisson loss.
"""

PANELS = """

Average precision by size of the panel. The genes outside the panel are predicted, so that they are not the same for
each size. The tables above have the other methods.

![average precision against the number of measured genes, a panel per data set, a line per method](images/panels.png)"""

RECOVERY_PAGE = """\
# Which genes can I trust?

{conclusion}

```python
sct.tl.impute(adata)
sct.pl.recovery(adata)
trusted = adata.var_names[adata.var["sct_recovery"] >= {trusted}]
```

![recovery beside the correlation on held-out entries, one panel per data set](images/recovery.png)

{{func}}`scanpy_sct.tl.impute` masks every measured value once and predicts it from the rest. So for every gene it can
compare its predictions with what was measured, without a second data set. The correlation of both is
`.var["sct_recovery"]`. To test it, 15 % of the entries of four data sets were masked in all passes and imputed; the
recovery comes from all other entries. {ranks}.

How to use it:

- **Above {trusted}** the imputed gene follows the measured one.
- **{low} to {trusted}**: right on average, not in single cells. Look at such genes over regions or cell types.
- **Below {low}** the imputed values hardly contain more than the mean of the gene and the depth of the cell. Most rare
  genes are here, whatever the method: look at `.var["sct_recovery"]` before you plot one of them.

A low recovery may also mean that there was little to recover: single counts of a gene that varies at random cannot be
predicted by any method, and yet its mean may be right. `.var["sct_source"]` tells whether the network or the data have
the larger weight in the prediction; requested genes that were not measured have neither recovery nor source.

## The figures

Both correlations are estimates, and the held-out entries are few for rare genes: this causes much of the scatter. Genes
with fewer than {min_detected} detected held-out entries are left out.

:::{{dropdown}} Held-out correlation by recovery: tenth, median and ninetieth of a hundred genes
{table}
:::

Made by `python benchmarks/recovery.py` and `python scripts/write_results_pages.py` ({when}).
"""


def main() -> None:
    imputation = require("imputation.csv.gz", "python benchmarks/imputation.py")
    write("results", results_page(imputation))
    write("which_genes", recovery_page(require("recovery.csv", "python benchmarks/recovery.py")))
    panels = require("panels.csv", "python benchmarks/panels.py")
    write("panels", folded(panels_page(panels)))
    draw_methods(panels, IMAGES / "panels_reference.png")
    write("experiments", folded(experiments_page()))
    draw_entries(imputation, IMAGES / "entries.png")
    draw_panels(imputation, IMAGES / "panels.png")
    # docs/speed.md is written by hand; its figure is drawn here.
    runs = json.loads((RESULTS / "scale.json").read_text(encoding="utf-8"))
    draw_scale([row for run in runs for row in run["rows"]], IMAGES / "scale.png")


def write(name: str, text: str) -> None:
    (ROOT / "docs" / f"{name}.md").write_text(text, encoding="utf-8")


def results_page(imputation: pd.DataFrame) -> str:
    has_panels = imputation["task"].str.startswith("panel_").any()
    page = RESULTS_PAGE.format(
        when=when(imputation),
        seed=imputation["seed"].iloc[0],
        conclusion=of_imputation(imputation),
        losses=of_losses(imputation),
        entries=tables(imputation, ENTRIES),
        genes=tables(imputation, GENES),
        panels=PANELS if has_panels else "",
        thinned=tables(imputation, THINNED, digits=4),
    )
    return folded(page)


def recovery_page(recovery: pd.DataFrame) -> str:
    from recovery import MIN_DETECTED

    whole = recovery[recovery["recovery"] == "all"]
    ranks = "; ".join(f"{row.rank_correlation:.2f} for {row.data_set}" for row in whole.itertuples())
    lines = ["| data set | recovery | genes | tenth, median, ninetieth |", "|---|---|---|---|"]
    for row in recovery[(recovery["recovery"] != "all") & (recovery["n_genes"] > 0)].itertuples():
        spread = f"{row.tenth:.2f}, {row.median:.2f}, {row.ninetieth:.2f}"
        lines.append(f"| {row.data_set} | {row.recovery} | {row.n_genes} | {spread} |")
    return RECOVERY_PAGE.format(
        conclusion=of_recovery(recovery),
        trusted=TRUSTED,
        low=RIGHT_ON_AVERAGE,
        ranks=f"The rank correlation of both over the genes is {ranks}",
        min_detected=MIN_DETECTED,
        table="\n".join(lines),
        when=when(recovery),
    )


if __name__ == "__main__":
    main()
