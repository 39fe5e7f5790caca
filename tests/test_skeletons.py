"Edge cases of joint sets and of drawing."
import subprocess, sys
from dataclasses import FrozenInstanceError
import numpy as np, pytest
from ttp_nb.basics import TTPError
from ttp_nb.skeletons import (BBC7, COCO17, H36M16, JHMDB15, LSP14, PENN13, PEOPLE18, Skeleton, draw_pose,
                              joint_colors, ring_joints, show_images)

ALL = [PENN13, BBC7, H36M16, COCO17, JHMDB15, LSP14, PEOPLE18]
IMG = np.full((64,80,3), 60, np.uint8)


@pytest.mark.parametrize('skel', ALL, ids=lambda s: s.name)
def test_constants_are_consistent(skel):
    assert sorted(skel.flip) == list(range(len(skel))) and skel.flip.dtype == np.int64
    assert (skel.flip[skel.flip] == np.arange(len(skel))).all()
    middle = {skel.joints[j] for j in range(len(skel)) if skel.flip[j]==j}
    assert middle <= {'head', 'head_top', 'nose', 'pelvis', 'belly', 'thorax', 'neck'}
    for r,l in skel.pairs: assert skel.joints[r].startswith('right_') and skel.joints[l].startswith('left_')
    assert sorted(i for p in skel.parts.values() for i in p) == list(range(len(skel)))
    limbs = {frozenset(l) for l in skel.limbs}
    assert len(limbs)==len(skel.limbs)
    flip = skel.flip
    assert {frozenset(flip[list(l)]) for l in skel.limbs} == limbs, 'limbs must look the same in the mirror'


def test_torsos_are_those_of_the_metrics():
    assert PENN13.torso == ((1,2), (7,8)) and H36M16.torso == ((8,), (2,3)) and BBC7.torso is None
    assert [H36M16.joints[j] for j in (8,2,12,13)]==['neck', 'right_hip', 'right_shoulder', 'left_shoulder']
    for skel in (COCO17, JHMDB15, LSP14, PEOPLE18): # from the middle of the shoulders to that of the hips
        ends = [{skel.joints[j] for j in group} for group in skel.torso]
        assert ends==[{'right_shoulder', 'left_shoulder'}, {'right_hip', 'left_hip'}], skel.name


def test_orders_are_those_of_the_data_sets():
    "As their read-me files number the joints; a label file says nothing but numbers."
    assert len(JHMDB15)==15 and len(LSP14)==14 and len(PEOPLE18)==18
    assert JHMDB15.joints[:3]==('neck', 'belly', 'head')
    assert JHMDB15.joints[3:]==tuple(f'{side}_{part}' for part in ('shoulder', 'hip', 'elbow', 'knee', 'wrist', 'ankle')
                                     for side in ('right', 'left'))
    leg,arm = ('ankle', 'knee', 'hip'),('wrist', 'elbow', 'shoulder')
    along = lambda limb: tuple(f'right_{part}' for part in limb)+tuple(f'left_{part}' for part in limb[::-1])
    assert LSP14.joints==along(leg)+along(arm)+('neck', 'head_top')


def test_the_joints_of_people_serve_every_data_set():
    assert PEOPLE18.joints==(*COCO17.joints, 'head') and PEOPLE18.pairs==COCO17.pairs and PEOPLE18.limbs==COCO17.limbs
    assert set(PENN13.joints)<set(PEOPLE18.joints)
    assert set(JHMDB15.joints)-set(PEOPLE18.joints)=={'neck', 'belly'}
    assert set(LSP14.joints)-set(PEOPLE18.joints)=={'neck', 'head_top'}


@pytest.mark.parametrize('kw,says', [
    (dict(joints=[]), 'names'), (dict(joints=['a', 3]), 'names'), (dict(joints=['a', 'a']), "'a' occurs twice"),
    (dict(pairs=[[0,0]]), 'different'), (dict(pairs=[[0,1,2]]), 'pairs'),
    (dict(pairs=[[0,1], [1,2]]), "'b' is in more than one"),
    (dict(limbs=[[0,3]]), 'joint number 3'), (dict(limbs=[[-1,0]]), 'joint number -1'),
    (dict(limbs=[[0,1.5]]), '1.5'),
    (dict(torso=[[0]]), 'torso'), (dict(torso=[[0], []]), 'torso'), (dict(torso=[0, 1]), 'torso'),
    (dict(torso=[[0], [9]]), 'joint number 9'), (dict(pairs=[3]), 'pairs'), (dict(joints='abc'), 'names'),
])
def test_wrong_skeletons_are_refused(kw, says):
    with pytest.raises(TTPError, match=says): Skeleton('mine', **(dict(joints=['a', 'b', 'c'])|kw))


def test_lists_become_tuples_and_are_frozen():
    s = Skeleton('s', ['a', 'b'], [[0,1]], [[0,1]], [[0], [1]])
    assert s == Skeleton('s', ('a', 'b'), ((0,1),), ((0,1),), ((0,), (1,))) and hash(s)
    with pytest.raises(FrozenInstanceError): s.name = 'other'


@pytest.mark.parametrize('skel', ALL, ids=lambda s: s.name)
def test_colours_are_distinct_on_each_side(skel):
    c = joint_colors(skel)
    assert c.shape == (len(skel),3) and c.dtype == np.uint8
    for side in (0,1): assert len({tuple(c[p[side]]) for p in skel.pairs}) == len(skel.pairs)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e12])
def test_positions_that_cannot_be_drawn_leave_no_trace(value):
    assert (draw_pose(IMG, np.full((13,2), value)) == IMG).all()


def test_half_a_position_is_no_position():
    kp = np.full((13,2), np.nan); kp[0] = 5, np.nan
    assert (draw_pose(IMG, kp) == IMG).all()


def test_drawing_is_sub_pixel_and_at_pixel_centres():
    kp = np.full((13,2), np.nan); kp[0] = 30,20
    ys,xs = np.nonzero((draw_pose(IMG, kp, r=3.) != IMG).any(-1))
    assert (xs.min()+xs.max(), ys.min()+ys.max()) == (60,40)
    assert (draw_pose(IMG, kp, r=3.) != draw_pose(IMG, kp+.25, r=3.)).any()


def test_outside_and_tiny_images():
    kp = np.stack([np.linspace(-500, 500, 13), np.linspace(900, -900, 13)], 1)
    assert draw_pose(IMG, kp).shape == IMG.shape
    assert draw_pose(np.zeros((1,1,3), np.uint8), kp).shape == (1,1,3)


def test_views_can_be_drawn_on_and_stay_untouched():
    big = np.zeros((64,80,3), np.uint8); view = big[::2,::-2]
    out = draw_pose(view, np.full((13,2), 10.))
    assert out.any() and not big.any()


@pytest.mark.parametrize('img,kp,vis', [
    (IMG.astype(float), np.zeros((13,2)), None), (IMG[...,0], np.zeros((13,2)), None),
    (np.zeros((8,8,4), np.uint8), np.zeros((13,2)), None), (IMG, np.zeros((12,2)), None),
    (IMG, np.zeros((13,3)), None), (IMG, np.zeros((13,2)), np.ones(12)),
])
def test_drawing_refuses_what_does_not_fit(img, kp, vis):
    with pytest.raises(TTPError, match='draw_pose'): draw_pose(img, kp, vis)


def test_show_images_makes_a_grid():
    import matplotlib; matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    axs = show_images([IMG, IMG[...,0], IMG[:10]], titles='abc', cols=2)
    assert len(axs)==3 and axs[2].get_title()=='c' and len(plt.gcf().axes)==4
    plt.close('all')
    with pytest.raises(TTPError): show_images([])


def test_colours_without_pairs_tell_joints_apart():
    s = Skeleton('worm', [f'b{i}' for i in range(30)], limbs=[[i,i+1] for i in range(29)])
    assert len({tuple(c) for c in joint_colors(s)})==30
    kp = np.stack([np.linspace(5, 75, 30), np.full(30, 30.)], 1)
    assert (draw_pose(IMG, kp, skel=s)!=IMG).any()


def test_parts_follow_pairs_whose_names_say_no_side():
    s = Skeleton('s', ['nose', 'pawR', 'pawL', 'right_ear', 'left_ear'], [[1,2], [3,4]])
    assert s.parts=={'nose': (0,), 'pawR/pawL': (1,2), 'ear': (3,4)}
    assert Skeleton('s', s.joints).parts=={'nose': (0,), 'pawR': (1,), 'pawL': (2,), 'ear': (3,4)}


def test_rings_lie_where_they_are_asked_for():
    from matplotlib.figure import Figure
    ax = Figure().subplots()
    ring_joints(ax, np.zeros((0, 2)))
    assert all(len(rings.get_offsets())==0 for rings in ax.collections)
    ring_joints(ax, [[3., 4.], [5., 6.]], scale=.5)
    rim,ring = ax.collections[-2:]
    assert (ring.get_offsets()==[[3, 4], [5, 6]]).all() and (rim.get_offsets()==ring.get_offsets()).all()
    assert rim.get_linewidth()[0]>ring.get_linewidth()[0] and tuple(ring.get_edgecolor()[0])==(1, 1, 1, 1)
    assert (rim.get_linewidth()[0], ring.get_linewidth()[0], ring.get_sizes()[0])==(2, 1, 27.5)


def test_import_is_light():
    code = "import sys, ttp_nb.skeletons as _; sys.exit(bool({'matplotlib', 'torch', 'torchvision'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
