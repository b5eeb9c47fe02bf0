"""The page "Ablations and experiments": what experiments measured, section by section."""

from __future__ import annotations

import pandas as pd
import recipe
from figures import draw_bags
from page_parts import IMAGES, bags_by_data_set, in_order, marked, measured, plain, when

PAGE = """\
# Ablations and experiments

**As read in November 2026, no single part of `sct-mini` decides how good it is: most changes of the recipe cost or gain
less than 0.01 in average precision. Bags of 50 similar cells predict better than single cells by 0.02 on two of four
data sets, and by less than 0.002 on the others. Whitening the embedding by half, and taking depth from the length of
its vectors, raises the accuracy of its nearest neighbours on most data sets.**

![average precision against the size of the bag, one panel per data set, one line per kind of bag](images/bags.png)

The tables come from `benchmarks/results`, one section from each script, and were written by
`scripts/write_results_pages.py`. Experiments that were not run have no section. The data sets in the columns were kept
out of training. Average precision is that of "is this entry detected?", with 15 % of the entries masked unless stated
otherwise. Every network was trained once, with one seed: small differences may be noise. The networks of the ablations
were trained with the recipe of the first edition of `sct-mini`: 64 dimensions of the cell embedding instead of 96, and
fewer tissues; heart CN73 then still held copies of spots, of which one can be predicted from the other, and vectors
were not divided. All else was measured with the second edition or its recipe.

{sections}
"""

NONE_YET = "No experiment has been measured yet; `benchmarks/README.md` names the scripts."

ABLATIONS = """\
## Ablations: one change of the recipe at a time

`python benchmarks/ablations.py` ({when}) trains the recipe of `sct-mini` for {steps:,} steps, with a shorter moving
average of the weights, and the same with one thing changed at a time. The network alone is evaluated (`sct_network`).
All variants are evaluated with the same bags and, for levels, in the same four bins, whatever they were trained with.
The best of each column is bold.

{tables}

As read in November 2026: masking whole genes and panels in training pays where whole genes are masked, and costs a
little elsewhere. Four bins of equal width separate cells better in the embedding, bins of counts predict levels better;
the recipe took the latter. In so short a training the bag correction and attention among cells do not pay. The
correction is added to the finished network instead. Attention stayed in: after the whole training the network relies on
it, as its ablation shows (`python benchmarks/bags.py`), which does not prove that it predicts better because of it."""

WHITENING = """\
## Whitening the embedding

`python benchmarks/whitening.py` ({when}) trains the recipe of `sct-mini` for {steps:,} steps and then makes the
directions of its cell embedding more equal; as for the ablations, with a shorter moving average of the weights. The
rows are powers: 0 leaves the embedding as it is, 1 makes all directions equal over the training data, and `sct-mini`
was made with {power:g}.

{tables}"""

LENGTHS = """\
## The length of a vector

`python benchmarks/lengths.py` ({when}) divides the vectors of cells, as the network computes them, by a power of their
length: 0 leaves them as they are, with 1 all have the same length. The data are those that `sct-mini` was trained on,
since the power was chosen here (their labels were never trained on). The length follows the depth of a cell: among
cells of one label, its rank correlation with the counts of the cell is {least:.2f} to {most:.2f}. `tl.embed`, and
`tl.annotate` with a reference, divide by the power 0.5. It is better than 0 on {n_better} of {n_sets} data sets, by
{gain:.3f} on average and {median:.3f} in the median, and better than 1 by {other:.3f} on average.

{tables}"""

BAGS = """\
## Bags

`python benchmarks/bags.py` ({when}) predicts with bags of each size and kind by the network alone. `spatial`:
neighbours on the tissue; `similar`: cells with similar expression; `random`: any cells of the sample. `ablated` is the
default kind (spatial on sections, else similar) with the output of attention among cells replaced by its mean,
`uncorrected` without the bag correction. The figure at the top of the page shows the same.

{bags}

What attention among cells and the bag correction contribute, in bags of 50 of the default kind:

{without}"""

DEPTH = """\
## Depth

`python benchmarks/depth.py` ({when}) samples the counts of each cell down before entries are masked; cells with fewer
counts keep what they have. The [results](results.md) have the same at full depth.

{tables}"""

EARLIER = """\
## Measured with an earlier version

These experiments were made with the development state of 0.1.0 of November 2026 (2026-11-23, Linux x86_64, 2 cores,
Python 3.11.7), on hybrid networks of convolutions and the parts of the compact network. The hybrid was removed since:
the package has the released architecture, with convolutions, and the compact one, without. Small networks were
trained for 600 steps on the 2,048 genes that are detected most; the figures are average precisions.

- **The order of the genes** matters to convolutions only where neighbours are co-expressed. On four data sets (her2st
  G, H / pbmc3k / breast_wu / heart CN73), a network with genes in the released order reached 0.628 / 0.704 / 0.532 /
  0.812, in random order 0.628 / 0.703 / 0.539 / 0.812, ordered by mean expression 0.629 / 0.705 / 0.538 / 0.813, and
  ordered by co-expression 0.637 / 0.708 / 0.545 / 0.812. The Poisson baseline (`poisson_dataset`) reached 0.631 / 0.698
  / 0.543 / 0.815 on the same genes, the mean of the gene 0.538 / 0.680 / 0.433 / 0.770.
- **The bottleneck transformer** between encoder and decoder is needed by a plain network, which has no other path to
  the other cells: on held-out cells of the training data 0.7311, and 0.7142 with its output replaced by the mean. With
  the bag profile beside the tokens the network was better, and hardly used the transformer: 0.7376 and 0.7369. With
  tokens centred on the profile it was 0.7372 and 0.7368; without skip connections, too, 0.7356 and 0.7263, so that the
  transformer was used again but the network no better. Profile and cell embedding alone, with the convolutions left out
  of these networks, reached 0.7336 to 0.7339. Therefore the compact network has no convolutions."""

# Task, metric, title, which value is best.
ABLATED = (
    ("entries_15", "average_precision", "Average precision", "max"),
    ("entries_15", "gene_pearson", "Correlation of log values within a gene", "max"),
    ("entries_15", "level_mcc", "Matthews correlation of the bins of detected entries", "max"),
    ("entries_15", "rmse", "Root mean squared error of detected entries", "min"),
    ("genes", "average_precision", "Whole genes masked: average precision", "max"),
    ("genes", "rmse", "Whole genes masked: root mean squared error of detected entries", "min"),
    ("embedding", "knn_accuracy", "Accuracy of the 15 nearest neighbours in the embedding", "max"),
)
NEIGHBORLY = {
    "knn_accuracy": "Accuracy of the 15 nearest neighbours",
    "knn_macro_f1": "Macro-F1 of the 15 nearest neighbours",
    "kmeans_ari": "Adjusted Rand index of as many clusters as labels",
}
SHALLOW = {
    "average_precision": ("average precision", "max"),
    "gene_pearson": ("correlation of log values within a gene", "max"),
    "calibration_error": ("expected calibration error", "min"),
}
WITHOUT = {"ablated 50": "attention", "uncorrected 50": "the correction"}


def experiments_page() -> str:
    """Write the page from what was measured, and draw its figure."""
    return PAGE.format(sections="\n\n".join([*(sections(*WRITERS) or [NONE_YET]), EARLIER]))


def sections(*names: str) -> list[str]:
    """Write the sections of those experiments that were measured."""
    found = {name: measured(f"{name}.csv") for name in names}
    return [WRITERS[name](results) for name, results in found.items() if results is not None]


def ablations(results: pd.DataFrame) -> str:
    parts = []
    for task, metric, title, best in ABLATED:
        rows = results[(results["task"] == task) & (results["metric"] == metric)]
        parts.append(marked(in_order(rows, "variant", "data_set"), title, best))
    return ABLATIONS.format(
        when=when(results), steps=int(results["steps"].iloc[0]), tables="\n\n".join(filter(None, parts))
    )


def whitening(results: pd.DataFrame) -> str:
    parts = []
    for metric, title in NEIGHBORLY.items():
        rows = results[results["metric"] == metric]
        parts.append(marked(in_order(rows, "power", "data_set"), title))
    return WHITENING.format(
        when=when(results),
        steps=int(results["steps"].iloc[0]),
        power=recipe.PRETRAINING.whitening,
        tables="\n\n".join(parts),
    )


def lengths(results: pd.DataFrame) -> str:
    rows = results[results["metric"] == "knn_accuracy"]
    by_power = in_order(rows, "data_set", "power")
    gains = by_power[0.5] - by_power[0.0]
    depth = results.loc[results["metric"] == "depth", "value"]
    return LENGTHS.format(
        when=when(results),
        least=depth.min(),
        most=depth.max(),
        n_better=(gains > 0).sum(),
        n_sets=len(gains),
        gain=gains.mean(),
        median=gains.median(),
        other=(by_power[0.5] - by_power[1.0]).mean(),
        tables=plain(by_power, NEIGHBORLY["knn_accuracy"]),
    )


def bags(results: pd.DataFrame) -> str:
    draw_bags(results, IMAGES / "bags.png")
    rows = results[results["metric"] == "average_precision"]
    rows = rows.assign(bags=rows["bags"] + ", " + rows["size"].astype(str))
    wide = bags_by_data_set(results)
    without = pd.DataFrame({"with both": wide["default 50"]})
    for kind, name in WITHOUT.items():
        if kind in wide:
            without[f"without {name}"] = wide[kind]
            without[f"difference: {name}"] = wide["default 50"] - wide[kind]
    return BAGS.format(
        when=when(results),
        bags=marked(in_order(rows, "bags", "data_set"), "Average precision by kind and size"),
        without=plain(without.T, "Average precision", ".4f"),
    )


def depth(results: pd.DataFrame) -> str:
    parts = []
    for metric, (title, best) in SHALLOW.items():
        rows = results[results["metric"] == metric]
        for counts, part in rows.groupby("depth"):
            parts.append(marked(in_order(part, "method", "data_set"), f"{counts:,} counts per cell: {title}", best))
    return DEPTH.format(when=when(results), tables="\n\n".join(parts))


WRITERS = {
    "ablations": ablations,
    "whitening": whitening,
    "lengths": lengths,
    "bags": bags,
    "depth": depth,
}
"""Functions that write the section of each table of results."""
