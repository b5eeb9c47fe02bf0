"""Cell embeddings on arrays."""
