from __future__ import annotations

import numpy as np

from edgeprune.graph.balance import equations, parts


def test_halves_of_one_tensor_give_one_equation():
    runs = [np.array([0, 1, 2]), np.array([3, 4, 5])]
    rows = equations([runs], np.ones(6, dtype=bool))
    assert rows.toarray().tolist() == [[-1, -1, -1, 1, 1, 1]]


def test_locked_channels_take_no_part_and_trivial_equations_go():
    runs = [np.array([0, 1]), np.array([0, 1])]
    assert equations([runs], np.ones(2, dtype=bool)).shape == (0, 2)
    runs = [np.array([0, 1]), np.array([2, 3])]
    assert equations([runs], np.array([True, False, True, True])).toarray().tolist() == [[-1, 0, 1, 1]]


def test_two_equal_runs():
    ((length, counts),) = parts(np.array([4, 4]), np.array([[-1, 1]]))
    assert (length, counts.tolist()) == (4, [1, 1])


def test_runs_of_unequal_size_are_used_as_far_as_the_shorter_goes():
    # 10 channels of two entries against 12 of one: each of the ten balances two of the twelve, so six of the ten go in.
    ((length, counts),) = parts(np.array([10, 12]), np.array([[-2, 1]]))
    assert counts[1] == 2 * counts[0]
    assert length * counts[1] == 12


def test_the_stage_of_a_shufflenet():
    # Channels 0..28, 29..57, 58..115, 116..231 of stage 4: 8a = 8b, 4a + 4b = 4c, 2a + 2b + 2c = 2d.
    coefficients = np.array([[8, -8, 0, 0], [4, 4, -4, 0], [2, 2, 2, -2]])
    ((length, counts),) = parts(np.array([29, 29, 58, 116]), coefficients)
    assert (length, counts.tolist()) == (29, [1, 1, 2, 4])


def test_independent_pairs_are_solved_apart_and_free_runs_left_out():
    found = parts(np.array([3, 3, 7, 5, 5]), np.array([[1, -1, 0, 0, 0], [0, 0, 0, 1, -1]]))
    assert [(length, counts.tolist()) for length, counts in found] == [(3, [1, 1, 0, 0, 0]), (5, [0, 0, 0, 1, 1])]


def test_no_solution_locks_all():
    assert parts(np.array([3, 3]), np.array([[1, 1]])) == []
