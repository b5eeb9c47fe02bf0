"""Methods to compare the network with in imputation; importing this package registers them all.

Every method takes an :class:`~scanpy_sct.evaluate.observed.Observed` and predicts its target entries from everything
that is visible. A masked entry therefore never informs its own prediction; where nothing is masked (thinned counts),
the cell's own visible count does.
"""

from scanpy_sct.evaluate.methods import baselines, sct

__all__ = ["baselines", "sct"]
