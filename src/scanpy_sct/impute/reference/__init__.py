"""Impute genes that the data did not measure from a reference that did: matched single cells for a targeted panel.

* :mod:`.model`: predictions of some genes from the genes that both objects measured: neighbours, and a regression.
* :mod:`.weights`: weights of the network and of these two, learnt by leaving measured genes out.
* :mod:`.trust`: the estimated correlation of each gene with what would have been measured.
* :mod:`.fit`, :mod:`.apply`: all that is learnt from the data, and its application to a block of cells.
"""
