"""Read an AnnData into plain arrays."""
