"""Cell type annotation on arrays: annotators behind one protocol, and what they share.

To add an annotator, write a class that follows :class:`scanpy_sct.annotate.registry.Annotator` in a module of its own
and add it to the table in `registry.py`; `tl.annotate` makes it from the user's arguments, and `evaluate.annotation`
measures it.
"""
