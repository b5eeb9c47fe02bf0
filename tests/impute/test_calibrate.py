from __future__ import annotations

import numpy as np

from scanpy_sct.impute.calibrate import calibrate_detection, calibrate_level


def test_detection_meets_the_visible_rate_and_keeps_the_order():
    rng = np.random.default_rng(0)
    detection = rng.uniform(0.01, 0.9, 3000).astype(np.float32)
    group = rng.integers(0, 3, 3000)
    seen = np.array([1e5, 3e5, 9.9e5])
    result = calibrate_detection(detection, group, seen, np.full(3, 1e6))
    for number in range(3):
        mine = group == number
        np.testing.assert_allclose(result[mine].mean(), seen[number] / 1e6, atol=1e-4)
        assert (np.diff(result[mine][np.argsort(detection[mine])]) >= -1e-6).all()


def test_without_visible_cells_nothing_changes():
    detection = np.array([0.1, 0.5, 0.8], dtype=np.float32)
    result = calibrate_detection(detection, np.zeros(3, int), np.zeros(1), np.zeros(1))
    np.testing.assert_allclose(result, detection, atol=1e-5)


def test_gene_never_seen_is_not_predicted_away_completely():
    result = calibrate_detection(np.full(10, 0.5, np.float32), np.zeros(10, int), np.zeros(1), np.full(1, 8.0))
    np.testing.assert_allclose(result, 0.1, atol=1e-4)  # 2 * 0.5 / (8 + 2)


def test_level_meets_the_visible_mean():
    level = np.array([1, 2, 3, 5], dtype=np.float32)
    detection = np.array([0.5, 0.5, 1, 1], dtype=np.float32)
    group = np.array([0, 0, 1, 1])
    result = calibrate_level(level, detection, group, np.array([3e6, 4e6]), np.array([1e6, 1e6]))
    np.testing.assert_allclose(result, [2, 4, 3, 5], rtol=1e-4)
