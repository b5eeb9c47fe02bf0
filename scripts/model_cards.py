"""Sentences of the model cards; every figure is filled in from results, settings or the checkpoint."""

from __future__ import annotations

LICENCES = """\
The 10x Genomics data are CC BY 4.0, so are the articles of Andersson 2021 and Asp 2019, whose authors publish the
sections without a licence of their own; for the other files no licence is stated. The package holds none of the data.
The weights are CC BY 4.0."""

MINI = """\
# sct-mini

A small single-cell transformer that comes with scanpy_sct, for single cells and everything else.

- **Trained on** 37,255 human cells and spots: breast tumours (Spatial Transcriptomics), blood (10x Genomics), brain
  cortex (Visium), liver, lymphoma, a little lung tumour and developing heart, and cells differentiated from stem cells.
- **Good for** imputing and embedding cells on a laptop, offline; for genes that a panel lacks; and for annotating
  cells, blood with its label head, and other tissues with a reference or markers.
- **Not good for** species other than human; for joining batches, since its embedding hardly mixes chemistries; and for
  labels of other tissues than blood without a reference or markers. In tissues other than those above, look at the
  recovery of each gene.
- **Licence** of the weights: CC BY 4.0, for any use, also commercial.

{short}

Average precision of "is this entry detected?" on data that it was not trained on; 15 % of the entries were masked, or
one gene in ten in all cells. {annotated}`X_sct` does not replace PCA: compare both on your data.

<!-- details -->

## Facts

{facts}

## Data and licence

37,255 human cells and spots, raw counts: 10,521 spots of HER2-positive breast tumours (patients A-F of Andersson 2021),
3,529 spots of prefrontal cortex (10x Visium), 956 spots of a developing heart (Asp 2019), 15,019 blood cells (10x
Genomics v1, v2, v3 and 5'; Zheng 2017, Hao 2021), 2,500 cells of liver (He 2020), 2,100 of a MALT lymphoma (10x
Genomics), 1,203 of lung tumours and blood (Zilionis 2019), and 1,427 cells differentiated from stem cells (heart,
midbrain). {watched} of the cells were held out to watch the training. It
was trained on no cell of the data sets below, except for two of the three files of `blood chemistries`; whether the
blood donors differ from those of pbmc3k is not known.
{licences}

## Recipe

```bash
{command}
```

`DATA` is the folder of the data sets. The settings are in `scripts/recipe.py`: {steps:,} steps of one bag each, of
{sizes} cells; AdamW, a learning rate of {rate:g} after {warmup:,} steps of warm-up, then half a cosine; the weights are
a moving average. According to its log the training showed {cells:,} cells and took {hours:.1f} hours on one or two
cores. The run was begun with 60,000 steps and shortened at step 22,500, where the learning rate dropped to the
schedule of the shorter run: a new run gives similar weights, not the same. The curve of held-out cells was nearly flat
at the end.

In each bag {low} to {high} of the entries are masked. In {genes} of the bags a quarter of the genes is masked in all
cells, {panel} see only a panel of genes, {thin} are thinned, {near} hold neighbours on the tissue or similar cells and
the others any cells.

After training, the bag correction was added, with a prior of {prior:g} expected cells, near what shorter trainings with
the correction learnt; and the embedding was whitened (power {whitening:g}) on cells of the training. Both were decided
while looking at the data sets below: these columns are a little optimistic.

## How well masked entries are predicted

15 % of the measured entries are masked, zeros and others alike; all methods see the same visible values and predict the
same masked ones (`python benchmarks/imputation.py`, seed {seed}, {when}).

{tables}

`sct_network` is this checkpoint alone; `sct` is what `sct.tl.impute` makes of it by default, a blend with a low-rank
reconstruction of the data themselves; `sct_finetuned` is that blend after `sct.train.finetune` on the visible entries.
That the weight of the cell embedding is fitted to the data, and how both are blended, was decided after looking at
these data sets, so that the columns are a little optimistic. `poisson_bag` uses the same bags as the network. The
fraction of detected entries differs between the data sets, so that columns cannot be compared with each other.

Genes that are masked in all cells are predicted by the network alone. One gene in ten was masked in every cell;
`training_rates` knows how often each gene was detected in the training data, and how deeply each cell was sequenced:

{genes_tables}

{bags}## How well the embedding separates cells

Accuracy and macro-F1 of labels predicted by the 15 nearest neighbours, five-fold cross-validation, with 95 % bootstrap
intervals over cells (`python benchmarks/embedding.py`, which has more metrics). `pca` and `scvi` are fitted to the data
set itself, `sct` is not. scVI was run on three small sections only.

{embedding}

{mixing}

{annotation}## Ablations and experiments

Every network of these tables was trained once, for a short while, with one seed and with the recipe of the first
edition (64 dimensions, fewer tissues): small differences may be noise. The page "Ablations and experiments" of the
documentation has more of them.

{ablations}

## Limits

- Few tissues and few cells: those above. How well the network predicts in other tissues was not measured; the weight of
  its cell embedding is fitted to your data (`cell_weight` in `.uns`).
- {labels}
- {levels}
- {parts}
"""

ANNOTATION = """\
## Annotation

`python benchmarks/annotation.py`: labels from other studies and donors, from the other half of the same data set (means
of three divisions), and from markers. `unknown` is the area under the ROC curve of detecting cells of a type that was
left out of the reference, mean over types; 0.5 is random. `sct.tl.annotate` does not use the embedding where reference
and data differ in it. Its rules were chosen on sets of sorted blood and cardiac cells that `sct-mini` was trained on,
and while looking at some of these data sets: expect a little less elsewhere. The labels of the sections are regions of
a tissue, not cell types.

{table}

"""

LABEL_HEAD = """\
### The label head

It was fitted to four studies of sorted blood cells (10x v1), and reads the expression of few markers
(`python benchmarks/label_head.py`). `sct_label_head_embedding` is a head that reads the embedding of the same cells
instead, and `sct` is `tl.annotate` with these cells as its reference; all methods learned from the same cells. pbmc3k
has the labels of its authors, five types. Of the other blood (10x v1, v2, 5' and v3), these are cells that express the
best known markers of one type and none of another, which favours methods that read few markers. (The network saw this
other blood in training, without labels; the label head does not read the network.) For the last rows, the head was
fitted to the other three studies. How many markers a head reads, and how much it is regularised, was chosen
while looking at these data sets.

{label_head}

Other protocols change the level of most genes, which misleads methods that read all genes, or the embedding.

The head knows how the cells of its fit express their genes, and labels cells that are unlike them `unknown`. Of some
data sets, the fraction of the cells that are unknown to it, and that are new to it (novelty above 0.5). `pbmc` and
`blood_hao` are blood; liver and lymphoma hold many of its types. The limit of the novelty was chosen while looking at
these data sets.

{outside}

"""

BAGS = """\
## What a bag contributes

Average precision of the network alone, 15 % of the entries masked (`python benchmarks/bags.py`): bags of 50 cells,
neighbours on the tissue where there is one, else similar cells; the same bags without attention among cells; 50 random
cells of the sample; and each cell by itself.

{table}

"""

MIXING = """\
Batches: the embedding does not mix files of blood cells of different chemistries. iLISI, from 0 (apart) to 1 (mixed),
is {values}."""

PARTS = """\
What its parts contributed before the bag correction was added, on held-out cells of the training data at the last
  report of the training log (step {step:,}, average precision): {network:.4f} for the whole network; {ablated:.4f} with
  the output of attention among cells replaced by its mean, a difference of {by_cells:+.4f}; {alone:.4f} with every cell
  in a bag of its own, a difference of {by_bag:+.4f}. Baselines there: {constant:.4f} by the detection rates in the
  training data, {mean:.4f} by the other cells of the bag, {knn:.4f} by the most similar of them."""
