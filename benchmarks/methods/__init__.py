"""Methods and metrics of other people, registered as any third party would; importing this package does it.

Packages are imported when a method runs: what is not installed (see ../requirements.txt) is only left out.
"""

from methods import alra, celltypist, magic, no_imputation, on_tissue, scib, scvi, ulm

__all__ = ["alra", "celltypist", "magic", "no_imputation", "on_tissue", "scib", "scvi", "ulm"]
