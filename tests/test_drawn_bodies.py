"Bodies and motion: disjoint wardrobes, limbs that keep their lengths, axes that stay square, hidden joints."
import numpy as np
import pytest

from ttp_nb.basics import rng_for
from ttp_nb.drawn_bodies import (
    ACTIONS, ANKLE, ELBOW, FAMILIES, HIP, KNEE, MOTIONS, SHOULDER, WRIST, draw_build, draw_trait, hidden_by_body,
    perform, play_keys, pose_points, project, rotation, wardrobe)

SETS = [dict.fromkeys(FAMILIES, k) for k in (0, 1)]


def test_wardrobes_are_disjoint():
    for f, (A, B) in FAMILIES.items():
        if f == 'pattern': assert not set(A) & set(B)
        else: assert all(a1 < b0 or b1 < a0 for a0, a1 in A for b0, b1 in B), f
        if f == 'hue': assert all(0 <= x < 360 for s in (A, B) for pair in s for x in pair)
    for f in set(FAMILIES) - {'pattern'}:
        a, b = ([draw_trait(rng_for(0, f, k, n), f, sets) for n in range(100)] for k, sets in enumerate(SETS))
        assert not any(lo <= x <= hi for x in b for lo, hi in FAMILIES[f][0])
        assert not any(lo <= x <= hi for x in a for lo, hi in FAMILIES[f][1])
    for i in range(40):
        assert set(wardrobe(0, 'train', i, 1.).values()) == set(wardrobe(0, 'test', i, 0.).values()) == {0}
        assert set(wardrobe(0, 'valid', i, 1.).values()) == {1}


@pytest.mark.parametrize('action', ACTIONS)
def test_every_action_moves(action):
    for n in range(4):
        body = draw_build(rng_for(n), SETS[0])
        figure, phase, _ = perform(rng_for(n, action), action, body, np.arange(48), (256, 192))
        assert np.isfinite(figure.points).all() and np.ptp(figure.points[..., :2], axis=0).max() > 6
        assert (phase >= 0).all() and (phase < len(MOTIONS[action])).all()
        for axes in (figure.chest, figure.head):
            square = axes.transpose(0, 2, 1) @ axes
            np.testing.assert_allclose(square, np.broadcast_to(np.eye(3), square.shape), atol=1e-9)


@pytest.mark.parametrize('sets', SETS)
def test_limbs_keep_their_lengths(sets):
    bones = {'upper_arm': (SHOULDER, ELBOW), 'forearm': (ELBOW, WRIST), 'thigh': (HIP, KNEE), 'shin': (KNEE, ANKLE)}
    for n, action in enumerate(ACTIONS):
        body = draw_build(rng_for(n), sets)
        points, chest, head = pose_points(play_keys(MOTIONS[action], 24., 0., np.arange(24)), body)
        for bone, (a, b) in bones.items():
            for left in (0, 1):
                lengths = np.linalg.norm(points[:, a + left] - points[:, b + left], axis=-1)
                np.testing.assert_allclose(lengths, body[bone], atol=1e-9, err_msg=action)


def test_a_part_and_a_moment_of_a_figure():
    figure, *_ = perform(rng_for(0), 'bowl', draw_build(rng_for(1), SETS[0]), np.arange(9), (256, 192))
    for name in ('points', 'chest', 'head', 'ground'):
        whole = getattr(figure, name)
        np.testing.assert_array_equal(getattr(figure[2:5], name), whole[2:5])
        np.testing.assert_array_equal(getattr(figure[-1], name), whole[-1])
    assert figure[3].height == figure[:3].height == figure.height
    moved = figure.moved(np.tile([3., -4.], (9, 1)))
    np.testing.assert_array_equal(moved.chest, figure.chest)
    for name, step in (('points', [3, -4, 0]), ('ground', [3, -4, 0, 0])):
        was = getattr(figure, name)
        np.testing.assert_allclose(getattr(moved, name), was + step, atol=1e-9)


@pytest.mark.parametrize('yaw', range(-170, 181, 10))
def test_a_view_and_its_mirror_image_hide_mirrored_joints(yaw):
    "A pose that is the same on both sides, seen from the left and from the right."
    body = draw_build(rng_for(3), SETS[0])
    moving = pose_points(play_keys(MOTIONS['squat'], 8., 0., np.arange(8)), body)
    def seen_from(yaw): return project(*moving, rotation(yaw), [0, .5, 0], np.array([60., 60]), 100.)
    hidden = [hidden_by_body(seen_from(a), 1.) for a in (yaw, -yaw)]
    mirror = [0, *(j + (1 if j % 2 else -1) for j in range(1, 13))]
    np.testing.assert_array_equal(hidden[0], hidden[1][:, mirror])
