"""Run a network over bags of cells: device, precision, batches. Knows no AnnData."""
