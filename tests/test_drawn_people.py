"Drawn people: determinism, sane labels, dressed tracks, Penn's layout, people to measure on."
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from ttp_nb.basics import LazyFrames, TTPError
from ttp_nb.clips import in_memory
from ttp_nb.drawn_bodies import ACTIONS
from ttp_nb.drawn_people import dress_tracks, new_people, synthetic_clip, synthetic_clips, write_synthetic
from ttp_nb.penn import penn_clips
from ttp_nb.skeletons import PENN13

NOBODY = {'1516', '1920'}          # videos in which neither shoulders nor hips are ever visible
REAL = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))/'Penn_Action'/'labels'
WHY = 'no Penn Action labels; TTP_REAL names the folder that has them'
needs_labels = pytest.mark.skipif(not REAL.is_dir(), reason=WHY)


@pytest.fixture(scope='module')
def sixty():
    return [synthetic_clip(2, i, ('train', 'valid', 'test')[i % 3], 24, (0., .5, 1.)[i//20]) for i in range(60)]


def test_a_frame_depends_on_its_address_only():
    a, b = synthetic_clip(1, 7, 'test', 36), synthetic_clip(1, 7, 'test', 20)
    order = [19, 3, 11]
    alone = {t: a.frames[t] for t in order}
    for t in range(20):
        frame = b.frames[t]
        if t in alone: np.testing.assert_array_equal(frame, alone[t])
    np.testing.assert_array_equal(a.joints[:20], b.joints)
    np.testing.assert_array_equal(a.vis[:20], b.vis)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(a)).frames[3], alone[3])
    np.testing.assert_array_equal(a.frames[-1], a.frames[35])
    with pytest.raises(IndexError): a.frames[36]


@pytest.mark.parametrize('i', range(0, 60, 4))
def test_more_frames_do_not_move_the_first_ones(i):
    a, b = synthetic_clip(5, i, 'train', 60), synthetic_clip(5, i, 'train', 2)
    np.testing.assert_array_equal(a.joints[:2], b.joints)
    np.testing.assert_array_equal(a.frames[1], b.frames[1])


def test_seeds_splits_and_people_differ():
    clips = [synthetic_clip(s, i, k, 1, gap=0.) for s in (0, 1) for i in (0, 15) for k in ('train', 'valid', 'test')]
    assert len({c.frames[0].tobytes() for c in clips}) == len({c.joints.tobytes() for c in clips}) == len(clips)


def test_gap_leaves_the_motion_alone_and_training_people_too():
    a, b = (synthetic_clip(0, 3, 'test', 4, gap=g) for g in (0., 1.))
    assert not np.array_equal(a.frames[0], b.frames[0])
    a, b = (synthetic_clip(0, 3, 'train', 4, gap=g) for g in (0., 1.))
    np.testing.assert_array_equal(a.frames[2], b.frames[2])


def test_labels_are_sane(sixty):
    assert {c.action for c in sixty} == set(ACTIONS)
    for c in sixty:
        W, H = c.frames.size
        assert c.joints.shape == (24, 13, 2) and c.vis.shape == (24, 13) and c.boxes.shape == (24, 4)
        assert np.isfinite(c.joints).all() and np.isfinite(c.boxes).all()
        assert (c.boxes >= 0).all() and (c.boxes <= [W - 1, H - 1]*2).all()
        side = c.boxes[:, 2:] - c.boxes[:, :2]
        assert (side.min(1) > 5).all() and (side.max(1) > 25).all(), c.name
        x = c.joints[c.vis]
        assert (x >= 0).all() and (x <= [W - 1, H - 1]).all()
        inside = (c.joints >= c.boxes[:, None, :2] - 1e-6) & (c.joints <= c.boxes[:, None, 2:] + 1e-6)
        assert inside.all(-1)[c.vis].all()
        torso = np.linalg.norm(c.joints[:, 1:3].mean(1) - c.joints[:, 7:9].mean(1), axis=-1)
        assert torso.max() > 15
    step = np.concatenate([np.linalg.norm(np.diff(c.joints, axis=0), axis=-1).ravel() for c in sixty])
    assert np.quantile(step, .995) < 30 and np.median(step) > .5      # people move, and hardly anything jumps
    seen = np.mean([c.vis.mean(0) for c in sixty], 0)
    assert seen[0] > .95 and (seen > .6).all() and seen.mean() < .98


def test_frames_are_frames(sixty):
    for c in sixty[::4]:
        f = c.frames[11]
        assert f.shape == (192, 256, 3) and f.dtype == np.uint8 and f.std() > 12 and 30 < f.mean() < 230
    small = synthetic_clip(0, 3, n_frames=2, size=(96, 128))
    assert small.frames[1].shape == (128, 96, 3) and (small.boxes[:, 2] < 96).all()


def test_right_is_right():
    "Facing the camera, the person's right is on the left of the picture."
    for i in range(5, 200, 15):                                 # golfers face the camera
        c = synthetic_clip(0, i)
        assert (c.joints[:, 7, 0] < c.joints[:, 8, 0]).mean() > .6, c.name
    assert PENN13.pairs[0] == (1, 2) and PENN13.joints[1].startswith('right')


@pytest.mark.parametrize('args,words', [
    (dict(seed=-1, i=0), 'seed'), (dict(seed=0, i=-1), 'from 0'), (dict(seed=0, i=0, n_frames=0), 'at least one'),
    (dict(seed=0, i=0, split='holdout'), 'valid'), (dict(seed=0, i=0, gap=-.1), 'gap'),
    (dict(seed=0, i=0, action='chess'), 'bench_press'), (dict(seed=0, i=0, size=(8, 8)), 'too small')])
def test_what_cannot_be_drawn(args, words):
    with pytest.raises(TTPError, match=words): synthetic_clip(**args)


def test_dressed_tracks_keep_their_joints():
    for i in range(15):
        c = synthetic_clip(4, i, n_frames=10)
        vis = c.vis.copy()
        vis[3:6, 5] = False
        d = dress_tracks(np.where(vis[..., None], c.joints*3 + 40, np.nan), vis, seed=i, gap=0.)
        assert np.isfinite(d.joints).all() and not (d.vis & ~vis).any() and len(d) == 10
        x, y = c.joints[d.vis], d.joints[d.vis]
        s = np.linalg.norm(y - y.mean(0))/np.linalg.norm(x - x.mean(0))
        np.testing.assert_allclose(y - y.mean(0), (x - x.mean(0))*s, atol=1e-6)
        assert d.frames[9].shape == (192, 256, 3)
    again = dress_tracks(np.where(vis[..., None], c.joints*3 + 40, 7.), vis, i, 0.)
    np.testing.assert_array_equal(d.frames[9], again.frames[9])        # what is not visible is not looked at


@pytest.mark.parametrize('lost', [(0,), (7, 8), (9, 10, 11, 12), (1, 3, 5, 7, 9, 11), tuple(range(3, 13)),
                                  (0, 3, 4, 7, 8), (1, 2), (0, 1, 2), (0, 1, 2, 9, 10, 11, 12)])
def test_dressed_tracks_with_joints_never_seen(lost):
    c = synthetic_clip(4, 1, n_frames=5)
    vis = c.vis.copy()
    vis[:, [1, 2, 7, 8]] = True
    vis[:, list(lost)] = False
    d = dress_tracks(np.where(vis[..., None], c.joints, np.nan), vis, seed=0)
    assert np.isfinite(d.joints).all() and not d.vis[:, list(lost)].any()
    assert d.frames[2].dtype == np.uint8
    one = dress_tracks(c.joints[:1], vis[:1], seed=0)               # a single frame is a track too
    assert one.frames[0].shape == (192, 256, 3)


def test_tracks_that_cannot_be_worn():
    c = synthetic_clip(4, 1, n_frames=5)
    with pytest.raises(TTPError, match='neither shoulders nor hips'): dress_tracks(c.joints, np.zeros_like(c.vis), 0)
    with pytest.raises(TTPError, match='13'): dress_tracks(c.joints[:, :9], c.vis, 0)
    with pytest.raises(TTPError, match='T at least 1'): dress_tracks(c.joints[:0], c.vis[:0], 0)
    with pytest.raises(TTPError, match='chess'): dress_tracks(c.joints, c.vis, 0, action='chess')


def test_written_and_read(tmp_path):
    write_synthetic(tmp_path, 2, 3, seed=9, n_frames=3, gap=.5)
    train, gone = penn_clips(tmp_path, 'train')
    test, _ = penn_clips(tmp_path, 'test')
    assert (len(train), len(test), len(gone)) == (2, 3, 0)
    made = synthetic_clips(2, 'train', 9, 3, .5) + synthetic_clips(3, 'test', 9, 3, .5)
    for read, c in zip(train + test, made):
        assert read.action == c.action
        np.testing.assert_array_equal(read.vis, c.vis)
        np.testing.assert_allclose(read.joints[read.vis], c.joints[c.vis], atol=1e-6)
        np.testing.assert_allclose(read.boxes, c.boxes, atol=1e-6)
        for t in range(3): assert np.abs(read.frames[t].astype(float) - c.frames[t]).mean() < 6


def test_a_clip_in_memory_is_the_same():
    c = synthetic_clip(0, 8, n_frames=3)
    m = in_memory(c)
    frames = np.stack(m.frames)
    assert frames.shape == (3, 192, 256, 3) and frames.dtype == np.uint8 and m.action == c.action
    assert isinstance(c.frames, LazyFrames) and not isinstance(m.frames, LazyFrames)
    np.testing.assert_array_equal(m.frames[1], c.frames[1])


@needs_labels
def test_real_tracks_can_be_worn():
    files = [f for f in sorted(REAL.glob('*.mat'))[7::61] if f.stem not in NOBODY]
    for f in files:
        m = loadmat(f)
        J, V = np.stack([m['x'], m['y']], -1).astype(float) - 1, m['visibility'].astype(bool)
        c = dress_tracks(J, V, seed=int(f.stem), action=str(m['action'][0]))
        assert np.isfinite(c.joints).all(), f.stem
        np.testing.assert_array_equal(c.vis, V, err_msg=f.stem)      # everything labelled is inside the frame
        assert c.frames[len(c)//2].std() > 8


@needs_labels
def test_tracks_of_validation_and_test_are_of_different_videos():
    a, b, c = (new_people('tracks', split, 12, labels=REAL, gap=gap) for split, gap in
               (('valid', 1.), ('test', 1.), ('valid', 0.)))
    number = lambda clips: {x.name.rpartition('_')[2] for x in clips}
    assert not number(a) & number(b) and number(a) == number(c) and all(len(x) == 36 for x in a + b)
    assert {x.name for x in a} == {x.name for x in new_people('tracks', 'valid', 12, labels=REAL)}
    assert all(np.array_equal(x.joints, y.joints) for x, y in zip(a, c))  # the same motion, other clothes
    with pytest.raises(TTPError, match='only .* tracks'): new_people('tracks', n=10**4, labels=REAL, frames=400)
