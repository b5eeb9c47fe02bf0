from __future__ import annotations

import pandas as pd
import pytest

from scanpy_sct.read.columns import did_you_mean, read_column


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("celltype", ["batch", "cell_type"], " Did you mean 'cell_type'?"),
        ("SAMPLE", ["Sample", "batch"], " Did you mean 'Sample'?"),
        ("cnts", [None, "counts"], " Did you mean 'counts'?"),  # anndata 0.13 lists X among the layers, as None
        ("donor", ["batch"], ""),
        ("donor", [], ""),
    ],
)
def test_the_most_similar_name_is_offered(name, names, expected):
    assert did_you_mean(name, names) == expected


def test_a_missing_column_is_named_with_what_there_is():
    with pytest.raises(KeyError, match=r"labels_key='celltype' .* there are: 'cell_type'\. Did you mean 'cell_type'\?"):
        read_column(pd.DataFrame({"cell_type": ["B"]}), "celltype", "labels_key", "adata.obs")
