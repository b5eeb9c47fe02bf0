"""The annotators by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from scanpy_sct.annotate.label_head import LabelHeadAnnotator
from scanpy_sct.annotate.markers import MarkerAnnotator
from scanpy_sct.annotate.reference import ReferenceAnnotator

if TYPE_CHECKING:
    from scanpy_sct.annotate.labels import Annotation
    from scanpy_sct.checkpoints.checkpoint import Checkpoint
    from scanpy_sct.read.reader import CellReader
    from scanpy_sct.run.options import ComputeOptions


class Annotator(Protocol):
    """Finds the labels of cells; an instance holds what the user gave to learn or read them from."""

    name: ClassVar[str]
    """Its name, recorded as `source` in the details."""
    learns: ClassVar[bool]
    """Whether it learns from labelled cells."""
    calibrated: ClassVar[bool]
    """Whether its probabilities are calibrated; if not, they only rank cells."""

    def annotate(self, checkpoint: Checkpoint, cells: CellReader, options: ComputeOptions) -> Annotation:
        """Annotate all cells; the caller has checked that the network can read them with these options."""
        ...


ANNOTATORS: dict[str, type[Annotator]] = {
    annotator.name: annotator for annotator in (ReferenceAnnotator, MarkerAnnotator, LabelHeadAnnotator)
}
