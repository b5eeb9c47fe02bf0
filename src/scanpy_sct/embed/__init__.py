"""Cell embeddings."""
