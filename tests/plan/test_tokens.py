from __future__ import annotations

import numpy as np
from scipy import sparse

from scanpy_sct.plan.tokens import TokenRules, make_tokens

RULES = TokenRules(np.array(["A", "", "B", "C", "D", "", ""]), mask=5, pad=6)
MEASURED = np.array([True, False, True, True, False, False, False])


def tokens_of(values, masked=None, rules=RULES):
    values = sparse.csr_matrix(np.array(values, dtype=np.float32))
    masked = np.zeros(values.shape, bool) if masked is None else np.array(masked, bool)
    return make_tokens(values, values, masked, MEASURED, rules)


def test_tokens_of_unmeasured_unnamed_and_padded_genes():
    made = tokens_of([[1, 0, 0, 4, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(made.tokens, [[1, 0, 0, 4, 5, 6, 6], [0, 0, 0, 0, 5, 6, 6]])


def test_genes_that_can_be_visible():
    assert RULES.n_bins == 5
    np.testing.assert_array_equal(RULES.visible_genes(MEASURED), [0, 1, 2, 3])


def test_without_named_genes_everything_is_padding():
    rules = TokenRules(np.array(["", "", ""]), mask=5, pad=6)
    np.testing.assert_array_equal(rules.empty_cell(np.zeros(3, dtype=bool)), [6, 6, 6])


def test_masked_entries_influence_nothing():
    masked = [[False, False, False, True, False, False, False]]
    one, other = tokens_of([[1, 0, 2, 4, 0, 0, 0]], masked), tokens_of([[1, 0, 2, 900, 0, 0, 0]], masked)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.tokens, [[1, 0, 4, 5, 5, 6, 6]])


def test_masked_zero_is_masked_too():
    masked = [[False, False, True, False, False, False, False]]
    np.testing.assert_array_equal(tokens_of([[1, 0, 0, 4, 0, 0, 0]], masked).tokens, [[1, 0, 5, 4, 5, 6, 6]])
