"""Ways to predict hidden entries, to stand beside the network; importing this package registers them all.

Every method takes an :class:`~scanpy_sct.evaluate.observed.Observed` and says what it expects of the entries that are
wanted. All follow one rule: a method may use everything that it sees. An entry that is hidden from it therefore has no
part in the guess about itself; where nothing is hidden (thinned counts), the cell's own visible count has.
"""

from scanpy_sct.evaluate.methods import constant, low_rank, magic, neighbors, poisson, sct, scvi

__all__ = ["constant", "low_rank", "magic", "neighbors", "poisson", "sct", "scvi"]
