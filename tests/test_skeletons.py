"Edge cases of joint sets and of drawing."
import subprocess, sys
from dataclasses import FrozenInstanceError
import numpy as np, pytest
from ttp_nb.skeletons import BBC7, COCO17, H36M16, PENN13, Skeleton, draw_pose, joint_colors, show_images
from ttp_nb.basics import TTPError
from ttp_nb.skeleton_files import read_skeleton, safe_load, write_skeleton

ALL = [PENN13, BBC7, H36M16, COCO17]
IMG = np.full((64,80,3), 60, np.uint8)


@pytest.mark.parametrize('skel', ALL, ids=lambda s: s.name)
def test_constants_are_consistent(skel):
    assert sorted(skel.flip) == list(range(len(skel))) and skel.flip.dtype == np.int64
    assert (skel.flip[skel.flip] == np.arange(len(skel))).all()
    middle = {skel.joints[j] for j in range(len(skel)) if skel.flip[j]==j}
    assert middle <= {'head', 'nose', 'pelvis', 'thorax', 'neck'}
    for r,l in skel.pairs: assert skel.joints[r].startswith('right_') and skel.joints[l].startswith('left_')
    assert sorted(i for p in skel.parts.values() for i in p) == list(range(len(skel)))
    limbs = {frozenset(l) for l in skel.limbs}
    assert len(limbs)==len(skel.limbs)
    flip = skel.flip
    assert {frozenset(flip[list(l)]) for l in skel.limbs} == limbs, 'limbs must look the same in the mirror'


def test_torsos_are_those_of_the_metrics():
    assert PENN13.torso == ((1,2), (7,8)) and H36M16.torso == ((8,), (2,3)) and BBC7.torso is None
    assert [H36M16.joints[j] for j in (8,2,12,13)]==['neck', 'right_hip', 'right_shoulder', 'left_shoulder']


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


# --- files

MOUSE = Skeleton('mouse', ['nose', 'paw_r', 'paw_l', 'tail'], [[1,2]], [[0,3], [1,3]], [[1,2], [3]])


def read(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_skeleton(path)


ODD = [Skeleton('one', ['a']), Skeleton('1', ['no', '2', '~', 'a: [b', 'ß', '1e3']),
       Skeleton('long', [f'joint number {i}, left' for i in range(200)])]


@pytest.mark.parametrize('skel', [*ALL, MOUSE, *ODD], ids=lambda s: s.name)
def test_files_come_back(skel, tmp_path):
    write_skeleton(skel, tmp_path/'deep'/'s.yaml')
    assert read_skeleton(str(tmp_path/'deep'/'s.yaml'))==skel
    assert [p.name for p in (tmp_path/'deep').iterdir()]==['s.yaml']


def test_a_file_may_say_it_by_number_and_leave_things_out(tmp_path):
    f = tmp_path/'mouse.yaml'
    assert read(f, 'joints: [nose, paw_r, paw_l, tail]\npairs: [[1, paw_l]]\nlimbs: [[nose, 3], [1, tail]]\n'
                   'torso: [[paw_r, 2], tail]')==MOUSE
    bare = read(f, 'joints: [a, b]\npairs:\nlimbs: []\ntorso: null')
    assert bare==Skeleton('mouse', ['a', 'b'])
    assert read(f, '\ufeffname: x y\njoints: ["1", "2"]\npairs: [["2", "1"]]').pairs==((1,0),)
    assert read(f, '{"name": "j", "joints": ["a"]}').name=='j'                         # json is yaml


@pytest.mark.parametrize('text,says', [
    ('', 'names no joints'), ('[a, b]', 'names no joints'), ('name: x', 'names no joints'),
    ('joints: a', 'list of names'),
    ('joints: []', 'at least one'), ('joints: {a: 1}', 'list of names'), ('joints: [a, 3]', 'quotes'),
    ('joints: [a, on]', 'quotes'), ('joints: [a, ~]', 'quotes'), ('joints: [a, " "]', 'quotes'),
    ('joints: [a, [b]]', 'quotes'), ('name: 3\njoints: [a]', 'quotes'), ('name: [a]\njoints: [a]', 'quotes'),
    ('joints: [a, b, a]', "'a' occurs twice"), ('joints: [a, b]\nlimb: [[a, b]]', "no key 'limb'"),
    ('joints: [a, b]\n3: 4', "no key '3'"),
    ('joints: [paw_r, paw_l]\npairs: [[paw_r, paw_left]]', "pairs: there is no joint 'paw_left'; did you mean 'paw_l'"),
    ('joints: [a, b]\nlimbs: [[a, zzzz]]', "limbs: there is no joint 'zzzz'"),
    ('joints: [a, b]\ntorso: [a, c]', "torso: there is no joint 'c'"),
    ('joints: [a, b, c]\npairs: [[a, b], [b, c]]', "'b' is in more than one"),
    ('joints: [a, b]\npairs: [[a, a]]', 'two different'), ('joints: [a, b, c]\npairs: [[a, b, c]]', 'two different'),
    ('joints: [a, b]\npairs: [a, b]', 'not a list of joint names'), ('joints: [a, b]\npairs: {a: b}', 'list of groups'),
    ('joints: [a, b]\nlimbs: a', 'list of groups'), ('joints: [a, b]\nlimbs: [[a, 1.5]]', 'not a list of joint names'),
    ('joints: [a, b]\nlimbs: [[a, true]]', 'no joint True'), ('joints: [a, b]\nlimbs: [[a, [b]]]', 'not a list'),
    ('joints: [a, b]\nlimbs: [[0, 2]]', 'joint number 2'), ('joints: [a, b]\nlimbs: [[0, -1]]', 'joint number -1'),
    ('joints: [a, b]\ntorso: [a]', 'two non-empty'), ('joints: [a, b]\ntorso: [a, []]', 'two non-empty'),
    ('joints: [a, b]\nlimbs: &x [*x]', 'not a list'), ('joints: &x [*x]', 'quotes'),
    ('joints: [a,\nb: c', 'line 2'), ('joints: [\xff]'.encode('latin1'), 'no yaml'),
    (b'\x00\x01', 'no yaml'),
    ('joints: !!python/object/apply:os.getcwd []', 'no yaml'), ('['*5000, 'no yaml'),
    ('joints: [2021-13-45]', 'no yaml'),
    ('joints: [a, b]\npairs: [[a, 2021-01-01]]', 'not a list'),
])
def test_wrong_files_are_named(text, says, tmp_path):
    with pytest.raises(TTPError, match=says) as e: read(tmp_path/'s.yaml', text)
    assert str(e.value).startswith(str(tmp_path/'s.yaml')) and len(str(e.value))<500


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(TTPError, match='none.yaml: cannot be read'): read_skeleton(tmp_path/'none.yaml')
    with pytest.raises(TTPError, match='cannot be read'): read_skeleton(tmp_path)
    (tmp_path/'file').write_text('')
    with pytest.raises(TTPError, match='cannot be written'): write_skeleton(MOUSE, tmp_path/'file'/'s.yaml')
    (tmp_path/'folder').mkdir()
    with pytest.raises(TTPError, match='cannot be written'): write_skeleton(MOUSE, tmp_path/'folder')
    assert sorted(p.name for p in tmp_path.iterdir())==['file', 'folder']


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    f = tmp_path/'s.yaml'
    write_skeleton(MOUSE, f)
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('os.replace', full)
    with pytest.raises(TTPError, match='No space'): write_skeleton(PENN13, f)
    assert read_skeleton(f)==MOUSE and [p.name for p in tmp_path.iterdir()]==['s.yaml']


def test_safe_load_runs_nothing(tmp_path):
    with pytest.raises(TTPError, match='no yaml'): safe_load(f'!!python/object/apply:os.mkdir [{tmp_path}/made]')
    assert not (tmp_path/'made').exists() and safe_load('a: [1, b]')=={'a': [1, 'b']}


def test_import_is_light():
    code = "import sys, ttp_nb.skeletons as _; sys.exit(bool({'matplotlib', 'torch', 'torchvision'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
