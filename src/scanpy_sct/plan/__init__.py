"""Plans made before the network runs: bins, bags, passes. Pure functions on arrays."""
