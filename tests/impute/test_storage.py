from __future__ import annotations

import numpy as np
import pytest

from scanpy_sct.impute import Imputer, ImputeSettings, apply_imputation, load_fit, save_fit
from scanpy_sct.run.options import ComputeOptions


@pytest.mark.parametrize(
    "settings", [ImputeSettings(denoise=True), ImputeSettings(blend=False), ImputeSettings(calibrate=False)]
)
def test_a_fit_that_was_saved_gives_the_same_values(pbmc, open_cells, compact_checkpoint, settings, tmp_path):
    reader = open_cells(pbmc[:60])
    imputer = Imputer(compact_checkpoint, reader, ComputeOptions(seed=3), settings)
    fit = imputer.fit()
    save_fit(fit, tmp_path / "fit.npz")
    loaded = load_fit(tmp_path / "fit.npz")
    assert loaded.settings == settings
    assert (loaded.plan.seed, loaded.plan.policy, loaded.cell_weight) == (3, fit.plan.policy, fit.cell_weight)
    rows = np.arange(5, 45)
    block = imputer.read(rows)
    one, other = (apply_imputation(imputer.runner, each, block, units=np.ones(40)) for each in (fit, loaded))
    np.testing.assert_allclose(one.values, other.values, atol=1e-5)


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    with pytest.raises(ValueError, match="must be a fit of format version 4; found None"):
        load_fit(tmp_path / "other.npz")
