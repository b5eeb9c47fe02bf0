"""Write the pages of the documentation that show figures, from what the benchmarks measured.

    python benchmarks/imputation.py && python benchmarks/recovery.py
    python scripts/write_results_pages.py

Every figure of docs/results.md and docs/which_genes.md is read from benchmarks/results; none is typed in here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "benchmarks"))

# Task, metric, title, which is best.
TABLES = (
    ("entries_15", "average_precision", "Average precision of 'is this entry expressed?'", "max"),
    ("entries_15", "gene_pearson", "Correlation of log values within a gene, mean over genes", "max"),
    ("entries_15", "cell_pearson", "Correlation of log values within a cell, mean over cells", "max"),
    ("entries_15", "bin_mcc", "Matthews correlation of the bins", "max"),
    ("entries_15", "rmse", "Root mean squared error of log values", "min"),
    ("entries_15", "calibration_error", "Expected calibration error", "min"),
    ("entries_50", "average_precision", "Average precision, half of the entries hidden", "max"),
    ("entries_90", "average_precision", "Average precision, nine in ten entries hidden", "max"),
)
GENES = (
    ("genes", "average_precision", "Whole genes hidden: average precision", "max"),
    ("genes", "gene_pearson", "Whole genes hidden: correlation within a gene", "max"),
    ("genes", "ssim", "Whole genes hidden: structural similarity", "max"),
    ("genes", "js_divergence", "Whole genes hidden: Jensen-Shannon divergence", "min"),
    ("panel_300", "average_precision", "Panel of 300 genes: average precision", "max"),
    ("panel_1000", "average_precision", "Panel of 1,000 genes: average precision", "max"),
    ("panel_5000", "average_precision", "Panel of 5,000 genes: average precision", "max"),
)
THINNED = (("thinning", "mse", "Mean squared error", "min"), ("thinning", "poisson", "Poisson loss", "min"))

RESULTS_PAGE = """\
# How good is it?

Everything on this page was measured by `python benchmarks/imputation.py` ({date}, {machine}; seed {seed})
with `sct-mini` on four data sets that its training did not see, and written by `scripts/write_results_pages.py`. All
methods are told the same and asked the same. The best figure of each column is bold, whoever made it; a dash stands
where a method does not apply or was not run. 95 % intervals, other metrics and strata (zero and non-zero entries, rare
and common genes) are in `benchmarks/results/imputation.csv.gz`.
Choices were made while looking at these data sets (how far to follow the cell embedding, and that network and data are
blended), so expect a little less elsewhere; {{func}}`scanpy_sct.evaluate.imputation` tells for your own data.

`sct` is {{func}}`scanpy_sct.tl.impute` with its defaults: the network, blended with a low-rank reconstruction of the
data. `sct_network` is the network alone, `sct_finetuned` is `sct` after {{func}}`scanpy_sct.train.finetune` on the
visible entries. `benchmarks/README.md` tells what the other methods do.

## Random entries hidden

{entries}

## Whole genes hidden, or not measured

Nothing of a hidden gene is visible in any cell, so that most methods can only say zero (`predict_zero`).
`training_rates` knows how often each gene was expressed in the training data of the model, and the depth of each cell.

{genes}

## Thinned counts

Counts are split at random, nine tenths to see and one tenth to judge by, with the metrics of the denoising task of
Open Problems: mean squared error of log-normalised counts, and Poisson loss. `sct` uses `denoise=True` here, on
log-normalised counts: it may keep what was seen, as all methods may.

{thinned}

No method is best in everything: what scores well in mean squared error lies between the mean of a count and the mean of
its logarithm, and gives some of the Poisson loss away for it.
"""

RECOVERY_PAGE = """\
# Which genes can I trust?

{{func}}`scanpy_sct.tl.impute` hides every measured value once and predicts it from the rest. So for every gene it can
compare, without a second data set, what it said with what was measured. The correlation of both is
`.var["sct_recovery"]`.

```python
sct.tl.impute(adata)
adata.var["sct_recovery"].describe()
sct.pl.recovery(adata)
trusted = adata.var_names[adata.var["sct_recovery"] > 0.2]
```

Does that number tell the truth? 15 % of the entries of four data sets were hidden for good and imputed; the recovery
comes from all other entries. {ranks}.

![recovery beside the correlation on held-out entries, one panel a data set](images/recovery.png)

The recovery is itself an estimate, and so is the correlation on the held-out entries, which are few for rare genes:
much of the scatter is theirs. Genes with fewer than {min_expressed} expressed held-out entries are left out.

{table}

What to make of it:

- **Above 0.3** the imputed gene follows the measured one: nine in ten of these genes reach the first of the three
  figures above.
- **0.1 to 0.3**: right on the whole, not in the single cell. Look at such genes over regions or cell types.
- **Below 0.1** the imputed values hardly say more than the mean of the gene and the depth of the cell. Most rare genes
  are here, whatever the method: look at `.var["sct_recovery"]` before you plot one of them.

A low recovery may also mean that there was little to recover: of a gene that varies by chance alone, no method can
foresee a single count, and yet its mean may be right. `.var["sct_source"]` says whether the network or the data
themselves carried the prediction; genes you asked for that were not measured have neither recovery nor source.

Made by `python benchmarks/recovery.py` and `python scripts/write_results_pages.py` ({date}, {machine}).
"""


def main() -> None:
    imputation = pd.read_csv(RESULTS / "imputation.csv.gz")
    recovery = pd.read_csv(RESULTS / "recovery.csv")
    write(
        "results",
        RESULTS_PAGE.format(
            date=imputation["date"].max(),
            machine=imputation["machine"].iloc[0],
            seed=imputation["seed"].iloc[0],
            entries=tables(imputation, TABLES),
            genes=tables(imputation, GENES),
            thinned=tables(imputation, THINNED, digits=4),
        ),
    )
    write("which_genes", recovery_page(recovery))


def write(name: str, text: str) -> None:
    (ROOT / "docs" / f"{name}.md").write_text(text, encoding="utf-8")


def tables(results: pd.DataFrame, wanted: tuple, digits: int = 3) -> str:
    from common import as_markdown

    parts = []
    for task, metric, title, best in wanted:
        rows = results[(results["task"] == task) & (results["metric"] == metric) & (results["stratum"] == "all")]
        if len(rows):
            table = rows.pivot(index="method", columns="data_set", values="value")
            table = table.loc[rows["method"].unique(), rows["data_set"].unique()]
            better = "higher is better" if best == "max" else "lower is better"
            parts.append(as_markdown(table, f"{title} ({better})", best, digits))
    return "\n\n".join(parts)


def recovery_page(recovery: pd.DataFrame) -> str:
    from recovery import MIN_EXPRESSED

    whole = recovery[recovery["recovery"] == "all"]
    ranks = ", ".join(f"{row.rank_correlation:.2f} for {row.data_set}" for row in whole.itertuples())
    lines = ["| data set | recovery | genes | held-out correlation: tenth, median, ninetieth |", "|---|---|---|---|"]
    for row in recovery[(recovery["recovery"] != "all") & (recovery["n_genes"] > 0)].itertuples():
        spread = f"{row.tenth:.2f}, {row.median:.2f}, {row.ninetieth:.2f}"
        lines.append(f"| {row.data_set} | {row.recovery} | {row.n_genes} | {spread} |")
    return RECOVERY_PAGE.format(
        ranks=f"The rank correlation of both over the genes is {ranks}",
        min_expressed=MIN_EXPRESSED,
        table="\n".join(lines),
        date=recovery["date"].max(),
        machine=recovery["machine"].iloc[0],
    )


if __name__ == "__main__":
    main()
