"Angles against what a protractor says, any skeleton by its names, signs, flags; metres from heights and lengths."
import json, os
from pathlib import Path
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from ttp_nb.angles import KINDS, angle_flags, angles_of, body_shares, draw_angles, joint_angles, metres_per_pixel
from ttp_nb.basics import TTPError
from ttp_nb.gaps import mend
from ttp_nb.penn import read_penn_label
from ttp_nb.skeletons import BBC7, COCO17, H36M16, JHMDB15, LSP14, PENN13, PEOPLE18, Skeleton

REAL = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))
rng = np.random.default_rng
ALL = [PENN13, COCO17, PEOPLE18, JHMDB15, LSP14, BBC7, H36M16]
LEG = Skeleton('leg', ('right_hip', 'right_knee', 'right_ankle', 'right_big_toe'))


def leg(knee, lean=0., foot=90.):
    "A leg whose thigh points `lean` degrees to the right of down, shank bent by `knee`, foot by `foot`."
    points,way = [np.zeros(2)],np.radians(lean)
    for length,turn in ((50, knee), (45, foot), (20, 0)):
        points.append(points[-1]+length*np.array([np.sin(way), np.cos(way)])); way += np.radians(turn)
    return np.stack(points)[None]


@pytest.mark.parametrize('knee', [0, 1, 30, 89.5, 90, 150, 179, -30, -150])
@pytest.mark.parametrize('lean', [-170, -90, 0, 45, 180])
def test_a_bent_leg(knee, lean):
    a = joint_angles(leg(knee, lean), LEG)
    assert a['right_knee'][0]==pytest.approx(abs(knee), abs=1e-5)
    assert (a['right_thigh'][0]-lean+180)%360==pytest.approx(180)
    assert -180 <= a['right_thigh'][0] <= 180


@pytest.mark.parametrize('foot,dorsi', [(90, 0), (120, 30), (60, -30), (0, -90)])
def test_an_ankle(foot, dorsi):
    assert joint_angles(leg(10, 5, foot), LEG)['right_ankle'][0]==pytest.approx(dorsi, abs=1e-5)


def test_signs_as_the_viewer_sees_them():
    two = Skeleton('two', ('right_hip', 'right_knee', 'right_shoulder', 'left_shoulder'))
    kp = np.array([[[0, 0], [1, 1], [0, 0], [10, -1.]]])                   # y points down
    a = joint_angles(kp, two)
    assert a['right_thigh'][0]==pytest.approx(45)                          # its end lies to the right
    assert a['shoulder_line'][0]==pytest.approx(np.degrees(np.arctan(.1)))     # rises to the right
    assert joint_angles(kp[:,[0,1,3,2]], two)['shoulder_line']==pytest.approx(a['shoulder_line'])   # a line has no ends
    up = joint_angles(np.array([[[0, 0], [0, 1], [0, 0], [0, 5.]]]), two)['shoulder_line'][0]
    assert abs(up)==pytest.approx(90)


@pytest.mark.parametrize('skel', ALL, ids=lambda s: s.name)
def test_every_skeleton_by_its_names(skel):
    there = angles_of(skel)
    kp = rng(0).uniform(0, 100, (7,len(skel),2))
    a = joint_angles(kp, skel)
    assert list(a)==list(there) and all(v.shape==(7,) and np.isfinite(v).all() for v in a.values())
    assert all(kind in KINDS for kind,_ in there.values()) and ('right_elbow' in there)
    order = rng(1).permutation(len(skel))                                  # the order of joints says nothing
    other = Skeleton('other', [skel.joints[j] for j in order])
    for name,v in joint_angles(kp[:,order], other).items(): assert np.allclose(v, a[name])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.floats(-180, 180), st.floats(.01, 100))
def test_turning_moving_and_zooming(seed, turn, zoom):
    "Bends stay; directions turn with the picture; nothing depends on size or place."
    kp = rng(seed).uniform(0, 100, (3,13,2)); r = np.radians(turn)
    R = np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]])
    a,b = joint_angles(kp),joint_angles(kp@R.T*zoom+[9, -700])
    for name,(kind,_) in angles_of(PENN13).items():
        by = dict(bend=0, hang=-turn, rise=turn, tilt=-turn)[kind]
        around = 180 if kind=='tilt' else 360
        assert np.allclose((b[name]-a[name]-by+around/2)%around, around/2, atol=1e-4), name


def test_mirrored_people_have_mirrored_angles():
    kp = rng(3).uniform(0, 100, (5,13,2))
    a,b = joint_angles(kp),joint_angles(kp[:,PENN13.flip]*[-1, 1])
    for name,(kind,_) in angles_of(PENN13).items():
        other = name.replace('right', 'LEFT').replace('left', 'right').replace('LEFT', 'left')
        if 'line' in name: other = name
        assert np.allclose(b[other], a[name] if kind=='bend' else -a[name]), name


def test_unknown_joints_and_joints_at_one_point_make_unknown_angles():
    kp = rng(4).uniform(0, 100, (3,13,2)); kp[1,9] = np.nan; kp[2,9] = kp[2,11]
    a = joint_angles(kp)
    for name in ('right_knee', 'right_shank'): assert np.isnan(a[name]).tolist()==[False, True, True]
    assert np.isfinite(a['left_knee']).all() and np.isnan(a['right_thigh']).tolist()==[False, True, False]
    with pytest.raises(TTPError, match='not the 17'): joint_angles(kp, COCO17)
    with pytest.raises(TTPError, match=r'\(T,J,2\)'): joint_angles(kp[0])


def test_the_worst_joint_flags_the_angle():
    flags = np.zeros((4,13), int); flags[1,9] = 1; flags[2,11] = 2; flags[3,7] = 3
    f = angle_flags(flags)
    assert f['right_knee'].tolist()==[0, 1, 2, 3] and f['right_shank'].tolist()==[0, 1, 2, 0]
    assert not f['left_knee'].any()


@pytest.mark.parametrize('skel', [PENN13, BBC7, Skeleton('m', ('a', 'b'))], ids=lambda s: s.name)
def test_the_figure_shows_what_there_is(skel):
    from matplotlib.figure import Figure
    fig,kp = Figure(),rng(0).uniform(0, 9, (6,len(skel),2))
    draw_angles(fig, np.arange(6.), joint_angles(kp, skel), flags=angle_flags(np.full((6,len(skel)), 2), skel))
    panels = [ax.get_ylabel() for ax in fig.axes]
    names = {'penn13': ['knee', 'hip', 'elbow', 'shoulder', 'trunk'], 'bbc7': ['elbow']}.get(skel.name)
    assert panels==([f'{name} (°)' for name in names] if names else [''])


# --- metres

def tall(height=1.8, scale=100, skel=PENN13, T=20):
    "Somebody of this height at so many pixels a metre."
    share = dict(head=.97, nose=.93, shoulder=.818, elbow=.632, wrist=.486, hip=.530, knee=.285, ankle=.039)
    kp = np.full((T,len(skel),2), np.nan)
    for j,name in enumerate(skel.joints):
        side,_,part = name.partition('_')
        x,high = dict(right=40, left=60).get(side, 50),share.get(part or side)
        if high: kp[:,j] = [x, 500-scale*height*high]
    return kp


@pytest.mark.parametrize('skel', [PENN13, COCO17, LSP14, JHMDB15, BBC7, H36M16], ids=lambda s: s.name)
@pytest.mark.parametrize('height', [.9, 1.5, 2.1])
def test_a_height_gives_the_scale(skel, height):
    assert metres_per_pixel(tall(height, 100, skel), skel, height)==pytest.approx(.01)
    assert metres_per_pixel(tall(height, 37, skel), skel, height)==pytest.approx(1/37)


def test_what_is_hidden_is_not_needed():
    kp = tall()
    for gone in (range(9, 13), range(7, 13), (0, 1, 2), (7, 9, 11)):
        part = kp.copy(); part[:,list(gone)] = np.nan
        if 8 not in gone: assert metres_per_pixel(part, PENN13, 1.8)==pytest.approx(.01)
        else:
            with pytest.raises(TTPError, match='show nothing'): metres_per_pixel(part, PENN13, 1.8)
    assert set(body_shares(PENN13))=={('hip', 'knee'), ('knee', 'ankle'), ('shoulder', 'hip')}
    assert set(body_shares(BBC7))=={('shoulder', 'elbow'), ('elbow', 'wrist')}
    assert body_shares(Skeleton('m', ('a',)))=={}


def test_a_known_length():
    kp = tall()
    assert metres_per_pixel(kp, PENN13, length=('right_wrist', 'left_wrist', .2))==pytest.approx(.01)
    with pytest.raises(TTPError, match="no joint 'tail'"): metres_per_pixel(kp, PENN13, length=('tail', 'head', 1.))


@pytest.mark.parametrize('how,says', [({}, 'give one'), (dict(height=1.8, length=('head', 'right_hip', 1)), 'give one'),
    (dict(height=0), 'above 0'), (dict(height=float('nan')), 'above 0'), (dict(height='1.8'), 'above 0'),
    (dict(length=('head', 'right_hip', -1)), 'above 0')])
def test_heights_that_are_none(how, says):
    with pytest.raises(TTPError, match=says): metres_per_pixel(tall(), PENN13, **how)
    with pytest.raises(TTPError, match='show nothing'): metres_per_pixel(np.full((4,13,2), 3.), PENN13, 1.8)


@pytest.mark.skipif(not (REAL/'Penn_Action'/'labels').is_dir(),
                    reason=f'needs Penn Action labels in {REAL} (set TTP_REAL)')
def test_errors_of_angles_on_real_movement():
    "Noise of 3 % of a torso, jumps and gaps in labels of real people: the mean error of a knee, before and after."
    was,now = [],[]
    files = sorted((REAL/'Penn_Action'/'labels').glob('[!.]*.mat'))
    for k in rng(11).permutation(len(files))[:30]:
        m = read_penn_label(files[k]); true,size = m['joints'],float(np.nanmedian(m['torso']))
        if len(true)<25 or not size>15: continue
        r,t,conf = rng(k),np.arange(len(true))/30,np.ones(true.shape[:2])
        kp = true+r.normal(0, .03*size, true.shape)
        for j in range(1, 13):
            for i in r.integers(4, len(kp)-6, 2): kp[i,j] += 1.5*size*r.choice([-1,1], 2)
            i = r.integers(4, len(kp)-6); kp[i:i+3,j] += .8*size; conf[i:i+3,j] = .1
        mended = mend(kp, conf, t, size=size).kp
        a,b,c = (joint_angles(x) for x in (true, kp, mended))
        for name in ('right_knee', 'left_knee', 'right_elbow', 'left_elbow'):
            both = np.isfinite(a[name]) & np.isfinite(c[name])
            was += np.abs(b[name]-a[name])[both].tolist(); now += np.abs(c[name]-a[name])[both].tolist()
    assert len(now)>2000 and np.mean(now)<.75*np.mean(was)


def test_the_numbers_that_the_page_shows():
    found = json.loads((Path(__file__).parents[1]/'experiments'/'angles_valid.json').read_text())
    for parts in found.values():
        for part,(median,after,mean,mean_after,n) in parts.items():
            assert n>400 and after<median+1 and mean_after<mean+.5 and median<15
        assert parts['trunk'][0]<5 and parts['thigh'][0]<7
