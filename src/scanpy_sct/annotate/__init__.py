"""Cell type annotation on arrays."""
