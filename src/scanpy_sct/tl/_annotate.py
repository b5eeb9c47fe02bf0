from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scanpy_sct.annotate.label_head import LabelHeadAnnotator
from scanpy_sct.annotate.labels import check_labels, choose_labels, empty_cells
from scanpy_sct.annotate.marker_genes import read_markers
from scanpy_sct.annotate.markers import MarkerAnnotator
from scanpy_sct.annotate.reference import ReferenceAnnotator
from scanpy_sct.read.checks import check_is_anndata
from scanpy_sct.read.columns import check_is_name, read_column
from scanpy_sct.read.options import GivenScale, ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.run.checks import check_computable
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision, as_seed
from scanpy_sct.workflow import Result, run_workflow
from scanpy_sct.write import WriteOptions, write_annotation

if TYPE_CHECKING:
    from os import PathLike

    from distributed import Client

    from scanpy_sct.annotate.annotators import Annotator
    from scanpy_sct.annotate.marker_table import Markers
    from scanpy_sct.checkpoints.checkpoint import Checkpoint


def annotate(
    adata: AnnData,
    *,
    reference: AnnData | None = None,
    labels_key: str | None = None,
    markers: Markers | None = None,
    model: str | PathLike[str] | Checkpoint = "sct-mini",
    layer: str | None = None,
    reference_layer: str | None = None,
    library_key: str | None = None,
    gene_names: str | None = None,
    reference_gene_names: str | None = None,
    scale: GivenScale = "auto",
    reference_scale: GivenScale = "auto",
    bags: BagPolicy = "random",
    threshold: float = 0.5,
    key_added: str = "sct_label",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
    rng: int | np.random.Generator | None = 0,
    copy: bool = False,
    client: Client | None = None,
) -> AnnData | None:
    """Annotate cells with labels from a reference, from marker genes, or from the label head of a checkpoint.

    * `reference` and `labels_key`: an ensemble of four classifiers, each on different genes, learns the labels from the
      genes that both objects measured. Where the objects are hard to distinguish, it reads the sCT cell embedding too;
      where they are not, a classifier of few genes, which transfers better between protocols, counts as much as the
      ensemble. Where both have coordinates, these may be read instead, see Notes. Cells without near neighbours in the
      reference are flagged by a novelty score.
    * `markers`: no labelled cells are needed. Cells get the type with the highest mean marker expression, measured plus
      imputed. Markers need not be measured.
    * neither: the label head of the checkpoint, if it has one (see :func:`scanpy_sct.train.fit_label_head`). That of
      `sct-mini` knows six types of blood. Cells unlike those that it was fitted to are flagged by a novelty score.

    Parameters
    ----------
    adata
        Cells x genes: counts, or log-normalised values. `.X` and all other fields stay as they are.
    reference
        Labelled cells of the same species and, as far as possible, tissue. It is not changed.
    labels_key
        Column of `reference.obs` with one label per cell. Labels of fewer than 3 cells are left out, with a warning in
        the log; at most 5,000 cells per label are used.
    markers
        Genes of each type, as symbols, Ensembl ids, or names of proteins (`CD20`, `PD-1`; several genes for `CD3`): a
        dict, or a table. A table may be long (a column of types and one of genes, also as in PanglaoDB and CellMarker,
        of which human rows are used), wide (a column of genes per type), or binary (genes x types, or types x genes). A
        warning in the log lists names that are not used, and types that are left out because the model knows none of
        their genes.
    model
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    layer, reference_layer
        Layer of `adata`, and of `reference`, to read instead of `.X`.
    library_key
        Column of `.obs` with the sample of each cell; no bag mixes samples. If the reference has the column too, the
        probabilities are calibrated on held-out samples, provided that most labels occur in several: pass the donor, so
        that they hold for new donors, and the section for cells with coordinates.
    gene_names
        Column of `adata.var` with symbols or Ensembl ids, to use instead of `.var_names`.
    reference_gene_names
        The same of `reference.var`. None: the column `gene_names` if the reference has it, else its `.var_names`.
    scale, reference_scale
        What the values of `adata`, and of `reference`, are, as in :func:`scanpy_sct.tl.impute`.
    bags
        As in :func:`scanpy_sct.tl.impute`. The cells of the reference are always read in random bags.
    threshold
        Cells with a smaller score (0 to 1) are labelled `"unknown"`, as are all cells without counts.
    key_added
        Name of the result.
    device, precision, batch_size, copy
        As in :func:`scanpy_sct.tl.impute`.
    rng
        Seed, or generator, of bags, passes and folds. `None`: a new seed, which is recorded.

    Returns
    -------
    `None`, or the copy. These fields are written:

    `.obs[key_added]` : categorical
        Label of the cell, or `"unknown"`.
    `.obs[key_added + "_score"]` : float32
        Probability that the most probable label is right (also if the cell is `"unknown"`): the largest value of its
        row in `_probs`, times one minus its novelty.
    `.obs[key_added + "_novelty"]` : float32
        Probability that no label is right. From a reference: that the reference lacks cells of this type. It is
        estimated relative to the other cells in `adata`, at least a quarter of which should be of known types; it
        misses types of very few cells, and a reference of another tissue. It needs 50 cells in both objects. From
        markers: high if no type has high markers. From a label head: that the cell is unlike all cells that the head
        was fitted to; heads that were fitted before this was recorded have none. NaN for cells without counts.
    `.obsm[key_added + "_probs"]` : DataFrame of float32, (cells, labels)
        Probability of each label, given that one of them is right; rows sum to one. From a reference: calibrated on
        held-out cells of the reference, and too high if `adata` differs from it. From markers: a softmax of scores,
        which ranks cells and is **not calibrated**. A `/` in a label is a `|` in the column name.
    `.uns[key_added]` : dict
        `"params"` (arguments), `"model"`, `"genes"`, `"scale"` and `"versions"`; `"source"` (`"reference"`,
        `"markers"` or `"label_head"`), and under that name what was used (numbers of cells and genes, ...). From a
        reference: whether `"embedding"`, `"few_genes"` and `"coordinates"` were used.

    Raises
    ------
    KeyError
        There is no such layer or column.
    TypeError
        An argument has the wrong type, or an object is not an AnnData.
    ValueError
        An argument has a value that is not possible, or the values, labels or markers cannot be used. All errors are
        raised before anything is computed or written, and say how to fix them.

    Notes
    -----
    Regions of a tissue are contiguous, and sections differ in ways that are easily confused with regions. So, with
    `.obsm["spatial"]` in both objects and labels in several samples of the reference (`library_key`), a second ensemble
    is fitted to expression relative to the sample (minus half of its mean), and the probabilities of each cell are
    multiplied by the mean ones of its 12 nearest cells. It is used if its log loss on held-out samples of the reference
    is smaller. It expects sections of similar composition: sections of a single region, from a reference of many, are
    better annotated without coordinates (remove `.obsm["spatial"]` from a copy of `adata`).

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.annotate(adata, markers={"B": ["CD79A", "MS4A1"], "Myeloid": ["LYZ", "CST3"], "NK": ["NKG7", "GNLY"]})
    >>> sorted(adata.obs["sct_label"].cat.categories)[:2]
    ['B', 'Myeloid']
    """
    _check_arguments(reference, labels_key, markers, threshold)
    check_is_name("reference_gene_names", reference_gene_names)
    reference_options = ReadOptions(
        reference_layer, library_key, reference_gene_names, scale=reference_scale, owner="reference"
    )

    def compute(checkpoint: Checkpoint, reader: CellReader, options: ComputeOptions) -> Result:
        check_computable(checkpoint, reader, options)
        annotator: Annotator
        if reference is not None and labels_key is not None:
            annotator = _read_reference(reference, labels_key, checkpoint, reference_options, gene_names)
        elif markers is not None:
            found = read_markers(markers, checkpoint, reader)
            annotator = MarkerAnnotator(found.genes, found.details)
        else:
            annotator = LabelHeadAnnotator()
        annotation = annotator.annotate(checkpoint, reader, options)
        labels, score, probabilities = choose_labels(annotation, threshold)
        fields = {
            "labels": labels,
            "score": score,
            "novelty": annotation.novelty,
            "probabilities": pd.DataFrame(probabilities, reader.obs_names, list(annotation.labels)),
        }
        return Result(write_annotation, fields, annotation.details)

    return run_workflow(
        adata,
        model,
        (
            ReadOptions(layer, library_key, gene_names, scale=scale),
            ComputeOptions(bags, device, precision, batch_size, as_seed(rng), client=client),
            WriteOptions(key_added, copy, "annotation"),
        ),
        compute,
        {
            "labels_key": labels_key,
            "reference_layer": reference_layer,
            "reference_scale": reference_scale,
            "reference_gene_names": reference_gene_names,
            "threshold": threshold,
        },
    )


def _read_reference(
    reference: AnnData, labels_key: str, checkpoint: Checkpoint, options: ReadOptions, gene_names: str | None
) -> ReferenceAnnotator:
    """Read and check the reference; columns that are named for the query are used where it has them, too."""
    check_is_anndata(reference, "reference")
    if options.gene_names is None and gene_names in reference.var:
        options = replace(options, gene_names=gene_names)
    if options.library_key not in reference.obs:
        options = replace(options, library_key=None)
    values = read_column(reference.obs, labels_key, "labels_key", "reference.obs")
    try:
        reader = CellReader(reference, checkpoint.genes, checkpoint.tokens.scale, options)
        cells = reader.block()
    except (KeyError, TypeError, ValueError) as error:
        if "reference" not in str(error):
            error.add_note("This is about the reference.")
        raise
    labels, usable = check_labels(values, f"reference.obs[{labels_key!r}]", ~empty_cells(cells))
    return ReferenceAnnotator(cells, labels, usable, reader.partly_measured)


def _check_arguments(
    reference: AnnData | None, labels_key: str | None, markers: Markers | None, threshold: float
) -> None:
    if reference is not None and markers is not None:
        msg = "reference and markers are both given; labels come from one of them: omit the other."
        raise ValueError(msg)
    if (reference is None) != (labels_key is None):
        found, missing = ("labels_key", "reference") if reference is None else ("reference", "labels_key")
        msg = f"{found} is given without {missing}; give labelled cells and the column of their .obs with the labels."
        raise ValueError(msg)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number) or not 0 <= threshold <= 1:
        msg = f"threshold={threshold!r} must be a number from 0 to 1."
        raise ValueError(msg)
