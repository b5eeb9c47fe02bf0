from __future__ import annotations

import numpy as np
from scipy import sparse

from scanpy_sct.plan.tokens import TokenRules, make_tokens

RULES = TokenRules(np.array(["A", "", "B", "C", "D", "", ""]), mask=5, pad=6)
MEASURED = np.array([True, False, True, True, False, False, False])


def tokens_of(values, hidden=None, rules=RULES):
    values = sparse.csr_matrix(np.array(values, dtype=np.float32))
    hidden = np.zeros(values.shape, bool) if hidden is None else np.array(hidden, bool)
    return make_tokens(values, values, hidden, MEASURED, rules)


def test_background_of_unmeasured_unnamed_and_padded_positions():
    made = tokens_of([[1, 0, 0, 4, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(made.tokens, [[1, 0, 0, 4, 5, 6, 6], [0, 0, 0, 0, 5, 6, 6]])


def test_unmeasured_as_zero_when_the_checkpoint_was_trained_so():
    rules = TokenRules(RULES.vocabulary, mask=5, pad=6, unmeasured="zero")
    np.testing.assert_array_equal(tokens_of([[1, 0, 0, 4, 0, 0, 0]], rules=rules).tokens, [[1, 0, 0, 4, 0, 6, 6]])


def test_hidden_entries_influence_nothing():
    hidden = [[False, False, False, True, False, False, False]]
    one, other = tokens_of([[1, 0, 2, 4, 0, 0, 0]], hidden), tokens_of([[1, 0, 2, 900, 0, 0, 0]], hidden)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.tokens, [[1, 0, 4, 5, 5, 6, 6]])


def test_hidden_zero_is_masked_too():
    hidden = [[False, False, True, False, False, False, False]]
    np.testing.assert_array_equal(tokens_of([[1, 0, 0, 4, 0, 0, 0]], hidden).tokens, [[1, 0, 5, 4, 5, 6, 6]])
