"""Results on disk: the only writer of zarr stores.

Blocks are stored as parts while they are computed, and merged into one AnnData store at the end. All work happens in a
folder beside the output, so the output appears only when it is complete, and an interrupted call can go on.
"""

from scanpy_sct.store.check import check_storable
from scanpy_sct.store.folder import PartStore, open_layer
from scanpy_sct.store.lock import locked

__all__ = ["PartStore", "check_storable", "locked", "open_layer"]
