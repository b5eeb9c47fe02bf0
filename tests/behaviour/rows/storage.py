"""How a matrix is stored, and what is passed as an object."""

from __future__ import annotations

import warnings
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from behaviour.plain import Scene
from behaviour.row import EVERYWHERE, Group

ROWS = Group(
    "Storage",
    notes=(
        "Of a matrix that is not in memory, only the cells at hand are read ([large data](large_data.md)); what is "
        "wrong far down in it is found when it is read, and the object stays as it was.",
    ),
)


@ROWS.same("a dense array")
def dense(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray()


@ROWS.same("a dense array in column-major order")
def fortran(scene: Scene) -> None:
    scene.adata.X = np.asfortranarray(scene.adata.X.toarray())


@ROWS.same("CSC")
def csc(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.tocsc()


@ROWS.same("scipy's `csr_array` and `csc_array`", on=("impute",))
def sparse_array(scene: Scene) -> None:
    scene.adata.X = sparse.csc_array(scene.adata.X)


@ROWS.same("zeros that are stored", "they are zeros")
def explicit_zeros(scene: Scene) -> None:
    matrix = scene.adata.X.toarray()
    rows, columns = np.indices(matrix.shape)
    scene.adata.X = sparse.csr_matrix((matrix.ravel(), (rows.ravel(), columns.ravel())), matrix.shape)


@ROWS.same("columns of a row in no order, and several entries for one value", "entries are summed")
def not_canonical(scene: Scene) -> None:
    matrix = scene.adata.X
    halves = [np.floor(matrix.data / 2), np.ceil(matrix.data / 2)]
    data = np.stack(halves, axis=1).ravel()
    columns = np.repeat(matrix.indices, 2)
    for start, end in zip(2 * matrix.indptr[:-1], 2 * matrix.indptr[1:], strict=True):
        data[start:end], columns[start:end] = data[start:end][::-1], columns[start:end][::-1]
    scene.adata.X = sparse.csr_matrix((data, columns, 2 * matrix.indptr), matrix.shape)


@ROWS.same("arrays that must not be written to")
def read_only(scene: Scene) -> None:
    for array in (scene.adata.X.data, scene.adata.X.indices, scene.adata.X.indptr):
        array.flags.writeable = False


@ROWS.same(
    "a view (`adata[mask]`)",
    "anndata turns it into an object of its own, with a warning; the parent does not get the result",
)
def view(scene: Scene) -> None:
    more = ad.concat([scene.adata, scene.reference], merge="same")
    scene.adata = more[: scene.adata.n_obs]


@ROWS.same("a backed h5ad file")
def backed(scene: Scene) -> None:
    scene.adata.write_h5ad(scene.folder / "cells.h5ad")
    scene.adata = ad.read_h5ad(scene.folder / "cells.h5ad", backed="r")


@ROWS.same("a backed h5ad file with a dense matrix", on=("embed",))
def backed_dense(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.toarray()
    backed(scene)


@ROWS.same("a backed h5ad file with CSC", "loaded as a whole", on=("embed",))
def backed_csc(scene: Scene) -> None:
    scene.adata.X = scene.adata.X.tocsc()
    backed(scene)


@ROWS.warns(
    "from 20,000 cells on: a matrix on disk of which no rows can be read (CSC, or a dask array that is one chunk along "
    "the cells)",
    "loaded as a whole; the warning says how to convert it",
    r"stored by columns \(CSC\)",
    "Write it as CSR",
    on=("embed",),
)
def large_csc(scene: Scene) -> None:
    scene.patch.setattr("scanpy_sct.read.storage.LARGE", 10)
    backed_csc(scene)


@ROWS.same("`anndata.experimental.read_lazy`, h5ad or zarr", "only the cells at hand are read", on=("impute", "embed"))
def lazy(scene: Scene) -> None:
    scene.adata.write_zarr(scene.folder / "cells.zarr")
    scene.adata = ad.experimental.read_lazy(scene.folder / "cells.zarr")


@ROWS.refused(
    "`read_lazy(..., load_annotation_index=False)`",
    "results need the names of the cells",
    ValueError,
    "adata",
    r"without the names of its cells \(load_annotation_index=False\)",
    "open it with load_annotation_index=True",
    on=("impute", "embed", "annotate"),
)
def lazy_without_names(scene: Scene) -> None:
    scene.adata.write_zarr(scene.folder / "cells.zarr")
    scene.adata = ad.experimental.read_lazy(scene.folder / "cells.zarr", load_annotation_index=False)


@ROWS.same("a dask array with any chunks")
def dask_array(scene: Scene) -> None:
    import dask.array as da

    scene.adata.X = da.from_array(scene.adata.X.toarray(), chunks=((7, 1, scene.adata.n_obs - 8), (100, 60)))


@ROWS.same("a dask array of sparse chunks", on=("embed",))
def dask_sparse(scene: Scene) -> None:
    import dask.array as da

    array = da.from_array(scene.adata.X.toarray(), chunks=(13, scene.adata.n_vars))
    scene.adata.X = array.map_blocks(sparse.csr_matrix, dtype=array.dtype, meta=sparse.csr_matrix((0, 0)))


@ROWS.same("a zarr array as `X`", on=("embed",))
def zarr_array(scene: Scene) -> None:
    import zarr

    array = zarr.create_array(scene.folder / "x.zarr", shape=scene.adata.shape, chunks=(9, 50), dtype="float32")
    array[:] = scene.adata.X.toarray()
    scene.adata.X = array


@ROWS.same("another matrix in `X`, and the counts in a layer", "read with `layer=`")
def layer(scene: Scene) -> None:
    scene.adata.layers["counts"] = scene.adata.X
    scene.adata.X = np.full(scene.adata.shape, -1.5)
    scene.arguments["layer"] = "counts"


@ROWS.same("a layer, and no `X`", on=("embed",))
def no_x_but_layer(scene: Scene) -> None:
    layer(scene)
    scene.adata.X = None


@ROWS.refused(
    "`layer` is not among the layers",
    "lists the layers",
    KeyError,
    "layer='cnts'",
    "available: 'counts'",
    "layer=None reads adata.X",
    on=EVERYWHERE,
)
def no_such_layer(scene: Scene) -> None:
    scene.adata.layers["counts"] = scene.adata.X
    scene.arguments["layer"] = "cnts"


@ROWS.refused("`X` is `None`", "", ValueError, r"adata\.X", "is None", "pass one of the layers as `layer=`")
def no_x(scene: Scene) -> None:
    scene.adata.layers["counts"] = scene.adata.X
    scene.adata.X = None


@ROWS.refused("no cells", "", ValueError, "adata", "0 cells and 160 genes", "at least one of each is needed")
def no_cells(scene: Scene) -> None:
    scene.adata = scene.adata[:0].copy()


@ROWS.refused("no genes", "", ValueError, "adata", "40 cells and 0 genes", "at least one of each is needed")
def no_genes(scene: Scene) -> None:
    scene.adata = scene.adata[:, :0].copy()


@ROWS.refused(
    "a transposed object (genes x cells)",
    "use `adata.T`",
    ValueError,
    r"adata\.var_names",
    "0 of 40",
    r"use adata\.T",
    on=EVERYWHERE,
)
def transposed(scene: Scene) -> None:
    scene.adata = scene.adata.T.copy()


@ROWS.refused(
    "a path instead of an object",
    "read the file first",
    TypeError,
    "adata must be an AnnData",
    "found str",
    r"scanpy\.read_h5ad\('cells\.h5ad'\)",
    on=EVERYWHERE,
)
def path(scene: Scene) -> None:
    scene.adata = "cells.h5ad"


@ROWS.refused(
    "a DataFrame or an array instead of an object",
    "convert it with `anndata.AnnData`",
    TypeError,
    "adata must be an AnnData",
    "found DataFrame",
    r"anndata\.AnnData\(df\)",
)
def data_frame(scene: Scene) -> None:
    scene.adata = pd.DataFrame(scene.adata.X.toarray(), columns=scene.adata.var_names)


@ROWS.refused(
    "`SpatialData`",
    "names its tables, one of which is to be passed",
    TypeError,
    "adata must be an AnnData",
    "found SpatialData",
    r"Pass one of its tables: `sdata\.tables\['cells'\]`",
)
def spatialdata(scene: Scene) -> None:
    scene.adata = in_spatialdata(scene)


@ROWS.refused(
    "`MuData`",
    "names its modalities, one of which is to be passed",
    TypeError,
    "adata must be an AnnData",
    "found MuData",
    r"Pass one of its modalities: `mdata\.mod\['prot'\]` or `mdata\.mod\['rna'\]`",
)
def mudata(scene: Scene) -> None:
    modalities = {"prot": scene.adata, "rna": scene.adata}
    scene.adata = type("MuData", (), {"__module__": "mudata", "mod": modalities, "__repr__": lambda self: "MuData"})()


@ROWS.same("a table of a `SpatialData`")
def table_of_spatialdata(scene: Scene) -> None:
    scene.adata = in_spatialdata(scene).tables["cells"]


def in_spatialdata(scene: Scene) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says about its own packages, and about tables without regions
        from spatialdata import SpatialData

        made = SpatialData(tables={"cells": scene.adata})
        repr(made)  # imports more
    return made
