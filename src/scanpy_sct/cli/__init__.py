"""The command `sct`."""
