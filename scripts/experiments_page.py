"""The page "What was tried": what experiments measured, section by section."""

from __future__ import annotations

import pandas as pd
import recipe
from figures import draw_bags
from page_parts import IMAGES, in_order, marked, measured, plain, when
from targets import bags_by_data_set

PAGE = """\
# What was tried

The tables of this page come from `benchmarks/results`, one section from each script, and were written by
`scripts/write_results_pages.py`. Experiments that were not run yet have no section. The data sets in the columns were
kept out of training. Average precision is that of "is this entry expressed?", with 15 % of the entries hidden unless it
says otherwise. Every network was trained once, with one seed: small differences may be chance.

{sections}
"""

NONE_YET = "No experiment has been measured yet; `benchmarks/README.md` names the scripts."

ABLATIONS = """\
## Ablations: one change of the recipe at a time

`python benchmarks/ablations.py` ({when}) trains the recipe of `sct-mini` for {steps:,} steps, with a shorter moving
average of the weights, and the same with one thing changed at a time. The network alone is judged (`sct_network`). All
variants are judged with the same bags and, for levels, in the same four bins, whatever they were trained with. The best
of each column is bold.

{tables}

As read in November 2026: whole genes and panels hidden in training pay where whole genes are hidden, and cost a little
elsewhere. Four bins of equal width tell cells apart better in the embedding, bins of counts tell levels better; the
recipe took the latter. In so short a training the correction by the bag and attention among cells do not pay. The
correction is added to the finished network instead. Attention stayed in: after the whole training the network relies on
it, as its lesion shows (`python benchmarks/bags.py`), which does not prove that it predicts better for it."""

WHITENING = """\
## Whitening the embedding

`python benchmarks/whitening.py` ({when}) trains the recipe of `sct-mini` for {steps:,} steps and then evens out the
directions of its cell embedding, as `sct.train.whiten_embedding` does; as for the ablations, with a shorter moving
average of the weights. The rows are powers: 0 leaves the embedding as it is, 1 makes all directions equal over the
training data, and `sct-mini` was made with {power:g}.

{tables}"""

BAGS = """\
## Bags

`python benchmarks/bags.py` ({when}) predicts with bags of each size and kind by the network alone. `spatial`:
neighbours on the tissue; `similar`: cells with similar expression; `random`: any cells of the sample. `lesion` is the
default kind (spatial on sections, else similar) with the output of the transformer over cells replaced by its mean,
`uncorrected` without the correction of each gene by the bag.

![average precision against the size of the bag, one panel a data set, one line a kind of bag](images/bags.png)

{bags}

What the transformer over cells and the correction by the bag contribute, in bags of 50 of the default kind:

{lacking}"""

DEPTH = """\
## Depth

`python benchmarks/depth.py` ({when}) samples the counts of each cell down before entries are hidden; cells with fewer
counts keep what they have. The [results](results.md) have the same at full depth.

{tables}"""

GENE_ORDER = """\
## The order of the genes

`python benchmarks/gene_order.py` ({when}) trains small networks of convolutions, without any direct path, on the 2,048
genes that are expressed most, for {steps:,} steps. They differ in the order of the genes along the convolutions.
`gene_mean` and `poisson_dataset` are baselines without a network, on the same genes.

{table}

As read in November 2026: ordered by co-expression the networks are the best or as good as any; by mean expression, in
the released order and at random they hardly differ. So it is the neighbours on the convolution that matter, not how
often genes are expressed. `sct-mini` has no convolutions, and its order does not matter."""

TRUNK = """\
## The transformer between the towers

`python benchmarks/trunk.py` ({when}) trains small networks of convolutional towers with a transformer between them, on
the 2,048 genes that are expressed most. The figures are average precisions on held-out cells of the training data:
`auprc_full` of the whole network, `auprc_lesion` with the output of that transformer replaced by its mean,
`auprc_direct` of the direct paths alone. `cell_variance_stem` and `cell_variance_trunk` are the shares of the variance
of activations that are between cells, at the stem of the towers and behind the transformer.

{last}

How the difference that the lesion makes changed in training; below zero, the transformer contributes:

{course}

As read in November 2026: a plain network needs its transformer, having no other way to the other cells. Given the
profile of the bag it does better, and the transformer falls silent. With tokens centered on the profile and without
skip connections it takes part again, and the whole is not better for it. So `sct-mini` does without the towers."""

# Task, metric, title, which value is best.
ABLATED = (
    ("entries_15", "average_precision", "Average precision", "max"),
    ("entries_15", "gene_pearson", "Correlation of log values within a gene", "max"),
    ("entries_15", "level_mcc", "Matthews correlation of the bins of expressed entries", "max"),
    ("entries_15", "rmse", "Root mean squared error of expressed entries", "min"),
    ("genes", "average_precision", "Whole genes hidden: average precision", "max"),
    ("genes", "rmse", "Whole genes hidden: root mean squared error of expressed entries", "min"),
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
LACKING = {"lesion 50": "the transformer", "uncorrected 50": "the correction"}
TRUNK_FIGURES = ("auprc_full", "auprc_lesion", "auprc_direct", "cell_variance_stem", "cell_variance_trunk")


def experiments_page() -> str:
    """Write the page from what was measured, and draw its figure."""
    return PAGE.format(sections="\n\n".join(sections(*WRITERS)) or NONE_YET)


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
        power=recipe.WHITENING,
        tables="\n\n".join(parts),
    )


def bags(results: pd.DataFrame) -> str:
    draw_bags(results, IMAGES / "bags.png")
    rows = results[results["metric"] == "average_precision"]
    rows = rows.assign(bags=rows["bags"] + ", " + rows["size"].astype(str))
    wide = bags_by_data_set(results)
    lacking = pd.DataFrame({"with both": wide["default 50"]})
    for kind, name in LACKING.items():
        if kind in wide:
            lacking[f"without {name}"] = wide[kind]
            lacking[f"difference: {name}"] = wide["default 50"] - wide[kind]
    return BAGS.format(
        when=when(results),
        bags=marked(in_order(rows, "bags", "data_set"), "Average precision by kind and size"),
        lacking=plain(lacking.T, "Average precision", ".4f"),
    )


def depth(results: pd.DataFrame) -> str:
    parts = []
    for metric, (title, best) in SHALLOW.items():
        rows = results[results["metric"] == metric]
        for counts, part in rows.groupby("depth"):
            parts.append(marked(in_order(part, "method", "data_set"), f"{counts:,} counts a cell: {title}", best))
    return DEPTH.format(when=when(results), tables="\n\n".join(parts))


def gene_order(results: pd.DataFrame) -> str:
    rows = results[results["metric"] == "average_precision"]
    is_network = rows["method"] == "sct_network"
    network = rows[is_network].assign(name=rows["order"])
    # The baselines do not depend on the order: the rows of the first tell all.
    baselines = rows[~is_network & (rows["order"] == rows["order"].iloc[0])].assign(name=rows["method"])
    table = marked(in_order(pd.concat([network, baselines]), "name", "data_set"), "Average precision")
    return GENE_ORDER.format(when=when(results), steps=int(results["steps"].iloc[0]), table=table)


def trunk(results: pd.DataFrame) -> str:
    last = results.groupby("network", sort=False).tail(1).set_index("network")
    course = results.assign(value=results["auprc_lesion"] - results["auprc_full"])
    course = in_order(course.sort_values("step", kind="stable"), "step", "network")
    return TRUNK.format(
        when=when(results),
        last=plain(last.reindex(columns=list(TRUNK_FIGURES)), "At the last step", ".4f"),
        course=plain(course[last.index], "auprc_lesion - auprc_full, by step", "+.4f"),
    )


WRITERS = {
    "ablations": ablations,
    "whitening": whitening,
    "bags": bags,
    "depth": depth,
    "gene_order": gene_order,
    "trunk": trunk,
}
"""What writes the section of each table of results."""
