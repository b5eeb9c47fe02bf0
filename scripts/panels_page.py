"""The page of targeted panels, from what `benchmarks/panels.py` measured."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from page_parts import in_order, marked, plain, when

from scanpy_sct.impute.recovery import TRUSTED

AP, BY_GENE = "average precision, all entries", "average precision, mean over genes"
PEARSON, NORMALISED = "gene Pearson, log counts", "gene Pearson, log-normalised"
RANK, ERROR = "trust: rank correlation with the true correlation", "trust: mean absolute error"
OURS, ALONE = "sct", "sct, without reference"
COLOURS = ("#999999", "#009E73", "#CC79A7", "#0072B2", "#D55E00")

PAGE = """\
# Panels with a reference

**With matched single cells as a reference, `tl.impute` predicted the genes that a panel lacks with a mean average
precision of {ours:.3f} over {n_pairs} pairs of data and reference; the best other method reached {best:.3f} ({name}),
and the network without a reference {alone:.3f}.** {losses} Each gene comes with an estimated *trust*.

```python
sct.tl.impute(xenium, genes=["PDCD1", "CXCL13"], reference=single_cells)  # or genes="all"

xenium.obsm["sct_unmeasured"]["PDCD1"]  # expected expression in each cell
xenium.uns["sct"]["unmeasured"]  # for each gene: trust, detection in the reference, source
xenium.obs["sct_similarity"]  # low: cells of a type that the reference may lack
sct.pl.imputed(xenium, "PDCD1")  # on the tissue, with the trust in the title
```

![average precision of each method, one point per pair of data and reference](images/panels_reference.png)

*Genes that a panel of 300 genes lacks: average precision of "is this gene detected in this cell?".*

## What is a good reference?

Dissociated cells of the same tissue and disease, best of the same donors, with counts or log-normalised counts. Symbols
and Ensembl ids can be mixed. At least 20 genes must be measured in both, and more are better. A log message says when
the reference, or the model, does not fit your data. The figures behind it are in
`adata.uns["sct"]["reference"]["explained"]`: the fraction of the deviance that each explains in measured genes that
were left out.

## How far can a gene be believed?

There is nothing to compare an unmeasured gene with. Instead, measured genes are left out, predicted, and compared; what
distinguishes those that are predicted well (how often the reference detects them, how well they are predicted within
the reference, how much the prediction varies) then gives the **trust** of the others: the expected correlation of
prediction and measurement. Over the genes of a pair, trust and true correlation had a rank correlation of {ranks}, and
the trust was wrong by {errors} on average.

- A trust of {trusted} or more: the map of the gene is worth a look.
- Below: compare regions or cell types, not single cells. Genes whose source is `"network"` were in no reference.
- Trust says nothing about a cell type that the reference lacks. Look at `.obs["sct_similarity"]` for that.

## How it works

Three predictions are combined: that of the network, which sees the whole panel; the mean of the 50 nearest cells of the
reference, in 30 principal components of the shared genes, at the depth of the cell; and a regression of the counts of
the reference on these components. Each says how often a gene is detected on average (its *level*), and in which cells
more or less (the *deviations*). Six weights combine levels and deviations; they are estimated on measured genes that
are left out, a third at a time, and moved towards typical weights where a panel has fewer than 100 genes. So a
reference of another protocol, which is wrong about levels, can still say in which cells a gene is high.

At most 20,000 cells of the reference are used. Memory grows with cells x requested genes (the result); with `out=`,
predictions are computed block by block.

## The figures

`python benchmarks/panels.py` ({when}) keeps a panel of 300 genes (half markers, half variable genes, chosen on the
reference) in 300 cells, and predicts 1,500 others, detected in at least 5 % of the cells, from up to 2,500 reference
cells. In one pair, the counts of each gene are thinned by a factor of its own, as probes would do. One reference is of
another technology and disease, on purpose.

{tables}

Tangram, gimVI and SpaGE were not run.
"""


def panels_page(results: pd.DataFrame) -> str:
    """Write the page."""
    wide = {metric: _table(results, metric) for metric in (AP, BY_GENE, PEARSON, NORMALISED)}
    mean = wide[AP].mean(axis=1)
    others = mean.drop([OURS, ALONE])
    single = wide[AP].drop(OURS).max()
    behind = single - wide[AP].loc[OURS]
    trust = results[results["method"] == OURS].groupby("metric")["value"]
    rank, error = (trust.get_group(metric) for metric in (RANK, ERROR))
    losses = "No single prediction was better on any pair."
    if behind.max() > 0.0005:
        losses = f"On single pairs, the best single prediction was better by {behind.max():.3f} at most."
    titles = ((AP, "Average precision"), (BY_GENE, "Average precision, mean over genes"))
    titles += ((PEARSON, "Correlation within a gene, log counts"), (NORMALISED, "The same, log-normalised values"))
    return PAGE.format(
        trusted=TRUSTED,
        ours=mean[OURS],
        best=others.max(),
        name=others.idxmax(),
        alone=mean[ALONE],
        n_pairs=wide[AP].shape[1],
        losses=losses,
        ranks=f"{rank.min():.2f} to {rank.max():.2f}",
        errors=f"{error.min():.2f} to {error.max():.2f}",
        when=when(results),
        tables="\n\n".join(
            [marked(wide[metric], title) for metric, title in titles]
            + [plain(in_order(_mean(results[results["metric"].isin((RANK, ERROR))]), "metric", "pair"), "Trust")]
        ),
    )


def _mean(results: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds, in the order of the rows."""
    return results.groupby(["pair", "method", "metric"], sort=False, as_index=False)["value"].mean()


def _table(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    return in_order(_mean(results[results["metric"] == metric]), "method", "pair")


def draw_methods(results: pd.DataFrame, file: Path) -> None:
    """Draw one line of points per method, and their mean."""
    wide = _table(results, AP)
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
    for height, (method, colour) in enumerate(zip(wide.index, COLOURS, strict=True)):
        axis.scatter(wide.loc[method], [height] * wide.shape[1], color=colour, alpha=0.6, linewidths=0)
        axis.plot(wide.loc[method].mean(), height, "|", color="black", markersize=18, markeredgewidth=2)
    # Half a row above the first and below the last, so that the frame cuts no mark.
    axis.set(yticks=range(len(wide)), ylim=(-0.5, len(wide) - 0.5), xlabel="average precision (line: mean over pairs)")
    axis.set_yticklabels(wide.index)
    figure.savefig(file, dpi=120)
    plt.close(figure)
