"""The protocol of annotators, and the annotators by name."""

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
    """Predicts the labels of cells; an instance holds the reference or the markers that it uses."""

    name: ClassVar[str]
    """Recorded as `source` in the details."""
    learns: ClassVar[bool]
    """Whether it is fitted to labelled cells."""
    calibrated: ClassVar[bool]
    """Whether its probabilities are calibrated; if not, they can only rank cells."""

    def annotate(self, checkpoint: Checkpoint, cells: CellReader, options: ComputeOptions) -> Annotation:
        """Annotate all cells; the caller has called `check_computable`."""
        ...


ANNOTATORS: dict[str, type[Annotator]] = {
    annotator.name: annotator for annotator in (ReferenceAnnotator, MarkerAnnotator, LabelHeadAnnotator)
}
