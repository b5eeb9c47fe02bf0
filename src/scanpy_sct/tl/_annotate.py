from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scanpy_sct.annotate import sources
from scanpy_sct.annotate.labels import choose_names
from scanpy_sct.annotate.marker_sets import read_markers
from scanpy_sct.tl._common import as_seed, read, record, refuse_backed_copy, refuse_foreign_key
from scanpy_sct.write import checked_key, write_annotation

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

    from scanpy_sct.annotate.marker_sets import Markers
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
    bags: str = "random",
    threshold: float = 0.5,
    key_added: str = "sct_label",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    rng: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> AnnData | None:
    """Name every cell, from a labelled reference, from marker genes, or by the labels a checkpoint carries.

    * `reference` and `labels_key`: four regressions, each on other genes, learn the labels from the expression of the
      reference and, where the two objects look like the same data, from its sCT cell embedding; over the genes that
      both measured. Cells of a type that the reference lacks are told by their having no kin there.
    * `markers`: no labelled cells are needed. What the network predicts of each marker from all other genes is added to
      what was measured of it, and cells get the type whose markers stand out most. Markers need not have been measured.
    * neither: the checkpoint's own label head, where it has one.

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
        Names of types and their genes (symbols or Ensembl ids): a dict, or a table with one row per type and gene, as
        PanglaoDB's (columns `cell.type` and `official.gene.symbol`, human rows) or with type and gene as the first two
        columns. A type without a gene the model knows is left out, with a warning in the log.
    model
        Name, folder, hub repository, or loaded checkpoint; see :func:`scanpy_sct.load_model`.
    layer, reference_layer
        Layer of `adata`, and of `reference`, to read instead of `X`.
    library_key
        Column of `.obs` that names the sample of each cell; a bag never mixes samples. Used for the reference too
        where it has that column: probabilities are then calibrated on whole samples left out in turn, if most labels
        occur in several. Give the donors, and the names will be as sure as they are right for new donors.
    gene_names
        Column of `.var` with symbols or Ensembl ids to use instead of `.var_names`. Used for the reference too where
        it has that column.
    bags
        As in :func:`scanpy_sct.tl.impute`. The cells of the reference are always read in random bags.
    threshold
        Cells whose most probable name is right with a smaller probability, from 0 to 1, are called "unknown". So are,
        always, cells without any counts.
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
        The name of each cell, or "unknown".
    `.obs[key_added + "_score"]` : float32
        Probability that the most probable name is right, also where the cell is "unknown".
    `.obs[key_added + "_novelty"]` : float32
        From a reference, where both objects have 50 cells or more: probability that no name is right, since the
        reference lacks such cells. It is told from the other cells of `adata`, of which at least a quarter should be of
        known types, so it changes with them; types of very few cells are missed, and a reference of another tissue is
        not noticed. From markers: share of "none of these", a cell in which no type's markers stand out. NaN for cells
        without counts.
    `.obsm[key_added + "_probs"]` : DataFrame of float32
        Probability of every name, given that one of them is right; rows sum to one. The score is the largest of a row,
        times one minus the novelty. Those from a reference are calibrated on cells of the reference left out in turn;
        they still promise too much where `adata` differs from it. **Those from markers are not calibrated**: they are
        a softmax of scores, good for ranking. A `/` in a name is a `|` here.
    `.uns[key_added]` : dict
        Arguments, model, weights hash, gene counts and versions.

    Raises
    ------
    ValueError, KeyError, TypeError
        When an argument or one of the objects cannot be used; before anything is computed or written.

    Examples
    --------
    >>> import scanpy_sct as sct
    >>> adata = sct.datasets.pbmc68k()
    >>> sct.tl.annotate(adata, markers={"B": ["CD79A", "MS4A1"], "Myeloid": ["LYZ", "CST3"], "NK": ["NKG7", "GNLY"]})
    >>> sorted(adata.obs["sct_label"].cat.categories)[:2]
    ['B', 'Myeloid']
    """
    checked_key(key_added)
    refuse_foreign_key(adata, key_added)
    refuse_backed_copy(adata, copy)
    _check_source(reference, labels_key, markers)
    _check_threshold(threshold)
    seed = as_seed(rng)
    names_in = {"library_key": library_key, "gene_names": gene_names}
    checkpoint, expression = read(adata, model, layer=layer, **names_in)
    computing = {"device": device, "precision": precision, "batch_size": batch_size, "rng": seed}
    if reference is not None:
        known = sources.read_reference(reference, labels_key, checkpoint, layer=reference_layer, **names_in)
        answer = sources.by_reference(checkpoint, expression, known, bags, computing)
    elif markers is not None:
        sets = read_markers(markers, checkpoint, expression, adata.var_names)
        answer = sources.by_markers(checkpoint, expression, sets, bags, computing)
    else:
        answer = sources.by_label_head(checkpoint, expression, bags, computing)
    chosen = choose_names(answer.probabilities, answer.names, threshold, answer.empty, answer.novelty)
    target = adata.copy() if copy else adata
    params = {"labels_key": labels_key, "layer": layer, "reference_layer": reference_layer, **names_in}
    write_annotation(
        target,
        key_added,
        labels=chosen.labels,
        score=chosen.score,
        novelty=answer.novelty,
        probabilities=pd.DataFrame(chosen.probabilities, index=adata.obs_names, columns=list(answer.names)),
        params=params | {"bags": bags, "threshold": threshold, "rng": seed},
        details=record(checkpoint, expression, **answer.details),
    )
    return target if copy else None


def _check_source(reference: AnnData | None, labels_key: str | None, markers: Markers | None) -> None:
    if reference is not None and markers is not None:
        msg = "reference and markers are both given; names come from one of them: leave the other out."
        raise ValueError(msg)
    if (reference is None) != (labels_key is None):
        found, missing = ("labels_key", "reference") if reference is None else ("reference", "labels_key")
        msg = f"{found} is given without {missing}: labelled cells, and the column of their .obs with the labels."
        raise ValueError(msg)


def _check_threshold(threshold: float) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number) or not 0 <= threshold <= 1:
        msg = f"threshold={threshold!r} must be a number from 0 to 1."
        raise ValueError(msg)
