from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scanpy_sct.annotate.cells import empty_cells
from scanpy_sct.annotate.label_head import LabelHeadAnnotator
from scanpy_sct.annotate.labels import check_labels, choose_labels
from scanpy_sct.annotate.markers import MarkerAnnotator, read_markers
from scanpy_sct.annotate.reference import ReferenceAnnotator
from scanpy_sct.read.columns import read_column
from scanpy_sct.read.options import ReadOptions
from scanpy_sct.read.reader import CellReader
from scanpy_sct.run.checks import check_computable
from scanpy_sct.run.options import BagPolicy, ComputeOptions, Precision, as_seed
from scanpy_sct.workflow import Result, run_workflow
from scanpy_sct.write import WriteOptions, write_annotation

if TYPE_CHECKING:
    from os import PathLike

    from scanpy_sct.annotate.labels import Annotation
    from scanpy_sct.annotate.markers import Markers
    from scanpy_sct.annotate.registry import Annotator
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
    bags: BagPolicy = "random",
    threshold: float = 0.5,
    key_added: str = "sct_label",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
    rng: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> AnnData | None:
    """Label every cell from a labelled reference, from marker genes, or by the label head of a checkpoint.

    * `reference` and `labels_key`: four classifiers, each on other genes, learn the labels from the expression of the
      reference and, where the two objects look like the same data, from its sCT cell embedding; over the genes that
      both measured. Cells without near neighbours in the reference are flagged as novel.
    * `markers`: no labelled cells are needed. The imputed value of each marker is added to its measured value, and
      cells get the type whose markers are highest. Markers need not have been measured.
    * neither: the label head of the checkpoint, where it has one.

    Parameters
    ----------
    adata
        Cells x genes: counts, or log-normalised values. `X` and all other fields stay as they are.
    reference
        Cells with known labels, of the same kind as those of `adata`. It is not changed.
    labels_key
        Column of `reference.obs` with the labels, one for every cell. Labels of fewer than 3 cells are left out, with
        a warning in the log. Of a label with more than 5,000 cells, 5,000 are drawn.
    markers
        Types and their genes (symbols or Ensembl ids): a dict, or a table with one row for each type and gene, such as
        PanglaoDB's (columns `cell.type` and `official.gene.symbol`, human rows) or with type and gene as the first two
        columns. A type without a gene the model knows is left out, with a warning in the log.
    model
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    layer, reference_layer
        Layer of `adata`, and of `reference`, to read instead of `X`.
    library_key
        Column of `.obs` that names the sample of each cell; a bag never mixes samples. Used for the reference too
        where it has that column: probabilities are then calibrated on whole samples left out in turn, if most labels
        occur in several. Give the donors, and the probabilities hold for new donors.
    gene_names
        Column of `.var` with symbols or Ensembl ids to use instead of `.var_names`. Used for the reference too where
        it has that column.
    bags
        As in :func:`scanpy_sct.tl.impute`. The cells of the reference are always read in random bags.
    threshold
        Cells whose score (below) is smaller, from 0 to 1, are labelled "unknown". So are, always, cells without any
        counts.
    key_added
        Name of the result.
    device, precision, batch_size, copy
        As in :func:`scanpy_sct.tl.impute`.
    rng
        Seed of bags, passes and folds.

    Returns
    -------
    None, or the copy. These fields are written:

    `.obs[key_added]` : categorical
        The label of each cell, or "unknown".
    `.obs[key_added + "_score"]` : float32
        Probability that the most probable label is right, also where the cell is "unknown".
    `.obs[key_added + "_novelty"]` : float32
        From a reference, where both objects have 50 cells or more: probability that no label is right, since the
        reference lacks such cells. It is estimated relative to the other cells in `adata`, of which at least a quarter
        should be of known types, so it changes with them; types of very few cells are missed, and a reference of
        another tissue is not noticed. From markers: probability of "none of these", high where no type's markers are.
        NaN for cells without counts.
    `.obsm[key_added + "_probs"]` : DataFrame of float32
        Probability of every label, given that one of them is right; rows sum to one. The score is the largest of a row,
        times one minus the novelty. Those from a reference are calibrated on cells of the reference left out in turn;
        they are still too high where `adata` differs from it. **Those from markers are not calibrated**: they are a
        softmax of scores, good for ranking. A `/` in a label is a `|` here.
    `.uns[key_added]` : dict
        Arguments, model, weights hash, gene counts and versions.

    Raises
    ------
    ValueError, KeyError, TypeError
        An argument or one of the objects cannot be used; before anything is computed or written.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.annotate(adata, markers={"B": ["CD79A", "MS4A1"], "Myeloid": ["LYZ", "CST3"], "NK": ["NKG7", "GNLY"]})
    >>> sorted(adata.obs["sct_label"].cat.categories)[:2]
    ['B', 'Myeloid']
    """
    _check_source(reference, labels_key, markers)
    _check_threshold(threshold)
    reading = ReadOptions(layer=layer, library_key=library_key, gene_names=gene_names)
    computing = ComputeOptions(bags, device, precision, batch_size, as_seed(rng))
    reference_reading = ReadOptions(layer=reference_layer, library_key=library_key, gene_names=gene_names)

    def compute(checkpoint: Checkpoint, reader: CellReader, options: ComputeOptions) -> Result:
        check_computable(checkpoint, reader, options)
        annotator: Annotator
        if reference is not None and labels_key is not None:
            annotator = _read_reference(reference, labels_key, checkpoint, reference_reading)
        elif markers is not None:
            annotator = MarkerAnnotator(read_markers(markers, checkpoint, reader))
        else:
            annotator = LabelHeadAnnotator()
        annotation = annotator.annotate(checkpoint, reader, options)
        return Result(write_annotation, _fields(annotation, threshold, reader.obs_names), annotation.details)

    return run_workflow(
        adata,
        model,
        (reading, computing, WriteOptions(key_added, copy)),
        compute,
        {"labels_key": labels_key, "reference_layer": reference_layer, "threshold": threshold},
    )


def _read_reference(
    reference: AnnData, labels_key: str, checkpoint: Checkpoint, options: ReadOptions
) -> ReferenceAnnotator:
    """Read and check the reference; columns that it lacks are not used."""
    if not isinstance(reference, AnnData):
        msg = f"reference must be an AnnData, found {type(reference).__name__}."
        raise TypeError(msg)
    options = replace(
        options,
        library_key=options.library_key if options.library_key in reference.obs else None,
        gene_names=options.gene_names if options.gene_names in reference.var else None,
    )
    values = read_column(reference.obs, labels_key, "labels_key", "reference.obs")
    try:
        cells = CellReader(reference, checkpoint.genes, checkpoint.tokens.scale, options).block()
    except (KeyError, TypeError, ValueError) as error:
        error.add_note("This is about the reference.")
        raise
    labels, usable = check_labels(values, f"reference.obs[{labels_key!r}]", ~empty_cells(cells))
    return ReferenceAnnotator(cells, labels, usable)


def _fields(annotation: Annotation, threshold: float, obs_names: pd.Index) -> dict[str, Any]:
    """Return what is written of an annotation."""
    chosen = choose_labels(annotation, threshold)
    return {
        "labels": chosen.labels,
        "score": chosen.score,
        "novelty": annotation.novelty,
        "probabilities": pd.DataFrame(chosen.probabilities, index=obs_names, columns=list(annotation.labels)),
    }


def _check_source(reference: AnnData | None, labels_key: str | None, markers: Markers | None) -> None:
    if reference is not None and markers is not None:
        msg = "reference and markers are both given; labels come from one of them: leave the other out."
        raise ValueError(msg)
    if (reference is None) != (labels_key is None):
        found, missing = ("labels_key", "reference") if reference is None else ("reference", "labels_key")
        msg = f"{found} is given without {missing}: labelled cells, and the column of their .obs with the labels."
        raise ValueError(msg)


def _check_threshold(threshold: float) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number) or not 0 <= threshold <= 1:
        msg = f"threshold={threshold!r} must be a number from 0 to 1."
        raise ValueError(msg)
