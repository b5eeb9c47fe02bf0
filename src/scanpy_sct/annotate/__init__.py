"""Cell type annotation on arrays, without AnnData.

To add an annotator, write a class that follows :class:`scanpy_sct.annotate.annotators.Annotator` and add it to
`ANNOTATORS` there, so that `evaluate.annotation` compares it; `tl.annotate` creates it from the user's arguments.
"""
