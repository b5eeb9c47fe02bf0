"""What happens with unusual data: one row a case, from which tests and a page of the documentation are made.

`tests/test_behaviour.py` runs every row, and `scripts/write_edge_cases.py` writes `docs/edge_cases.md`.
"""
