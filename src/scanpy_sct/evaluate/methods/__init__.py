"""Methods to compare the network with in imputation; importing this package registers them all.

Every method takes an :class:`~scanpy_sct.evaluate.observed.Observed` and predicts its target entries. All follow one
rule: a method may use everything that is visible. A masked entry therefore has no part in its own prediction; where
nothing is masked (thinned counts), the cell's own visible count has.
"""

from scanpy_sct.evaluate.methods import constant, low_rank, neighbors, poisson, sct

__all__ = ["constant", "low_rank", "neighbors", "poisson", "sct"]
