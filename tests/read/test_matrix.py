from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scanpy_sct.read.matrix import consecutive, open_matrix, read_matrix

COUNTS = np.array([[0, 1, 0, 3], [2, 0, 0, 0], [0, 0, 0, 0], [0, 5, 1, 0]], dtype=np.float32)


def check(matrix, expected=COUNTS):
    assert type(matrix) is sparse.csr_matrix
    assert matrix.dtype == np.float32
    assert matrix.has_canonical_format
    assert (matrix.data > 0).all()
    np.testing.assert_array_equal(matrix.toarray(), expected)


@pytest.mark.parametrize(
    "make",
    [
        np.asarray,
        np.asfortranarray,
        sparse.csr_matrix,
        sparse.csc_matrix,
        sparse.csr_array,
        sparse.csc_array,
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(np.float64),
        lambda x: sparse.csr_matrix(x.astype(np.int16)),
    ],
)
def test_every_storage_gives_the_same(make):
    check(read_matrix(ad.AnnData(make(COUNTS))))


def test_views():
    for stored in (COUNTS, sparse.csr_matrix(COUNTS), sparse.csc_matrix(COUNTS)):
        view = ad.AnnData(stored)[[3, 0], [1, 3]]
        check(read_matrix(view), COUNTS[np.ix_([3, 0], [1, 3])])
        assert view.is_view


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_backed(make, tmp_path):
    ad.AnnData(make(COUNTS)).write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    check(read_matrix(backed))
    check(read_matrix(backed[1:]), COUNTS[1:])
    assert backed.isbacked


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_dask(make):
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(COUNTS, chunks=(2, 4)).map_blocks(make, dtype=np.float32)
    adata = ad.AnnData(np.zeros_like(COUNTS))
    adata.layers["lazy"] = lazy
    check(read_matrix(adata, "lazy"))


def test_explicit_zeros_duplicates_and_order_are_tidied_in_a_copy():
    stored = sparse.csr_matrix(
        (np.array([3, 1, 0, 1, 1, 1, 5], dtype=np.float32), [3, 1, 2, 0, 0, 2, 1], [0, 3, 5, 5, 7]), shape=(4, 4)
    )
    adata = ad.AnnData(stored)
    before = adata.X.data.copy(), adata.X.indices.copy(), adata.X.indptr.copy()
    check(read_matrix(adata))
    for now, then in zip((adata.X.data, adata.X.indices, adata.X.indptr), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_duplicates_alone_and_zeros_alone_are_tidied():
    twice = sparse.csr_matrix((np.ones(3, dtype=np.float32), [1, 1, 2], [0, 3]), shape=(1, 4))
    check(read_matrix(ad.AnnData(twice)), [[0, 2, 1, 0]])
    zeros = sparse.csr_matrix((np.array([0, 1], dtype=np.float32), [1, 2], [0, 2]), shape=(1, 4))
    check(read_matrix(ad.AnnData(zeros)), [[0, 0, 1, 0]])


def test_values_below_one():
    check(read_matrix(ad.AnnData(COUNTS / 10)), COUNTS / np.float32(10))


def test_pieces_are_all_rows_in_order():
    values = COUNTS[:3]  # not as many cells as genes
    pieces = list(open_matrix(ad.AnnData(values)).pieces())
    assert [rows for rows, _ in pieces] == [slice(0, 3)]
    check(pieces[0][1], values)
    assert consecutive(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_layers():
    adata = ad.AnnData(COUNTS, layers={"double": COUNTS * 2})
    check(read_matrix(adata, "double"), COUNTS * 2)
    with pytest.raises(KeyError, match=r"layer='counts' is not in adata.layers; available: 'double'"):
        read_matrix(adata, "counts")


def test_no_matrix():
    adata = ad.AnnData(layers={"counts": COUNTS})
    with pytest.raises(ValueError, match=r"adata.X is None.*'counts'"):
        read_matrix(adata)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_nan_and_infinite(bad, make):
    values = COUNTS.copy()
    values[3, 2] = bad
    with pytest.raises(ValueError, match=r"adata.layers\['x'\] holds [01] NaN and [01] infinite"):
        read_matrix(ad.AnnData(COUNTS, layers={"x": make(values)}), "x")


def test_too_large_for_float32():
    with pytest.raises(ValueError, match="1 infinite"):
        read_matrix(ad.AnnData(np.array([[1e300, 1.0]])))


def test_scaled_data_with_the_way_out():
    scaled = (COUNTS - COUNTS.mean(axis=0)) / (COUNTS.std(axis=0) + 1)
    adata = ad.AnnData(scaled, layers={"counts": COUNTS})
    with pytest.raises(
        ValueError, match=r"scaled or centred data.*layer=.*'counts'\), or use the object from before scaling"
    ):
        read_matrix(adata)
    adata.raw = ad.AnnData(COUNTS)
    with pytest.raises(ValueError, match=r"adata\.raw\.to_adata\(\)"):
        read_matrix(adata)
    check(read_matrix(adata.raw.to_adata()))


def test_scaled_data_without_another_matrix():
    with pytest.raises(ValueError, match=r"are needed\. Use the object from before scaling\.$"):
        read_matrix(ad.AnnData(COUNTS - 0.7))


def test_a_layer_must_be_a_name():
    with pytest.raises(TypeError, match=r"layer=\['counts'\] must be a string or None, found list"):
        read_matrix(ad.AnnData(COUNTS), ["counts"])


def test_overflown_integers():
    with pytest.raises(ValueError, match="integers below zero, as after an overflow"):
        read_matrix(ad.AnnData(np.array([[1, -32768]], dtype=np.int16)))


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_negative_integers_stored_as_floats(make):
    with pytest.raises(
        ValueError, match=r"integers below zero, .*subtraction .*before .*values were subtracted"
    ) as found:
        read_matrix(ad.AnnData(make(COUNTS - 1.0)))
    assert "scaled" not in str(found.value)


def test_not_numbers():
    adata = ad.AnnData(np.zeros((2, 1), dtype=np.float32))
    adata.layers["names"] = np.array([["a"], ["b"]], dtype=object)
    with pytest.raises(TypeError, match="must be a matrix of numbers"):
        read_matrix(adata, "names")


def missing_in(n_cells, n_genes):
    """Counts of which the first cells have no value of the first genes."""
    values = np.ones((20, 20))
    values[:n_cells, :n_genes] = np.nan
    return ad.AnnData(values)


def test_nan_of_a_join_are_told_from_others():
    with pytest.raises(ValueError, match=r"5 cells have no value of the same 5 or more genes.*join='outer'"):
        read_matrix(missing_in(5, 5))
    for n_cells, n_genes in ((4, 5), (5, 4)):
        with pytest.raises(ValueError, match=f"{n_cells * n_genes} NaN") as found:
            read_matrix(missing_in(n_cells, n_genes))
        assert "join" not in str(found.value)


def test_an_error_names_five_rows():
    with pytest.raises(ValueError, match=r"in rows 0, 1, 2, 3, 4\. Counts"):
        read_matrix(missing_in(5, 1))
    with pytest.raises(ValueError, match=r"in rows 0, 1, 2, 3, 4 and 2 more\. Counts"):
        read_matrix(missing_in(7, 1))
    with pytest.raises(ValueError, match=r"in row 0\. Counts"):
        read_matrix(missing_in(1, 1))


def test_no_entries():
    check(read_matrix(ad.AnnData(np.zeros((3, 2)))), np.zeros((3, 2)))
