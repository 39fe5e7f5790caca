"Every format read back; hostile numbers, names and folders; faults while writing."
import csv, json, os, re
from dataclasses import dataclass, replace
from pathlib import Path
import numpy as np, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from ttp_nb import exports
from ttp_nb.angles import angles_of, joint_angles, metres_per_pixel
from ttp_nb.exports import (EXPORTS, Result, export, marker_names, mended_result, read_angles, read_coco,
                            read_deeplabcut, read_keypoints, read_npz, read_openpose, read_trc, smoothing_said,
                            to_angles, to_coco, to_deeplabcut, to_npz, to_openpose, to_trc, write_keypoints)
from ttp_nb.gaps import FLAGS, mend
from ttp_nb.motion import butterworth
from ttp_nb.skeletons import BBC7, COCO17, PENN13, PEOPLE18, Skeleton
from ttp_nb.basics import TTPError

rng = np.random.default_rng
ARRAYS = 'index','times','kp','conf','before_kp','before_conf','boxes'
EACH = [word for word in EXPORTS if word!='trc']                           # a .trc file wants a height, and times


def made(T=5, skel=PENN13, seed=0, **new):
    r,J = rng(seed),len(skel)
    kp = r.uniform(-20, 700, (T,J,2)); kp[r.random((T,J))<.2] = np.nan
    boxes = np.sort(r.uniform(0, 400, (T,2,2)), 1).reshape(T, 4)
    f = dict(skeleton=skel, index=np.arange(T)+7, times=np.arange(T)/25, kp=kp, conf=r.random((T,J)), before_kp=kp+1,
             before_conf=r.random((T,J)), boxes=boxes, size=(640,480), about=dict(source='a.mp4', model='m'))
    return Result(**(f | new))


def tall(skel=PENN13, **new): return made(skel=skel, about=dict(source='a.mp4', model='m', height=1.75), **new)


def close(a, b, tol=5.1e-4):
    a,b = np.asarray(a, float),np.asarray(b, float)
    assert a.shape==b.shape and np.allclose(a, b, rtol=1e-12, atol=tol, equal_nan=True)


def strict(path):
    def no(word): raise AssertionError(f'{word} in {path}')
    return json.loads(Path(path).read_bytes().decode('utf-8'), parse_constant=no)


names = st.text(st.characters(blacklist_categories=['Cc']), min_size=1, max_size=12)
numbers = st.one_of(st.floats(-1e4, 1e4), st.sampled_from([np.nan, np.inf, -np.inf, 0., -0., 1e-300, 1e300, -1e300]))


@st.composite
def results(draw):
    T,joints = draw(st.integers(1, 4)),draw(st.lists(names, min_size=1, max_size=5, unique=True))
    J = len(joints)
    arr = lambda *shape: draw(hnp.arrays(float, shape, elements=numbers))
    index = np.cumsum(draw(st.lists(st.integers(1, 10**6), min_size=T, max_size=T)))-1
    before = (arr(T,J,2), arr(T,J)) if draw(st.booleans()) else (None,None)
    about = draw(st.dictionaries(names.filter(lambda k: k not in ('skeleton','size','frames')),
                                 st.one_of(names, st.integers(), st.booleans(), st.none(), st.lists(names, max_size=2)),
                                 max_size=3))
    pairs = ((0,1),) if J>1 else ()
    skel = Skeleton(draw(names), joints, pairs, pairs, ((0,),(1,)) if J>2 else None)
    return Result(skel, index, arr(T), arr(T,J,2), arr(T,J), *before, arr(T,4), (draw(st.integers(1, 9999)), 5), about)


@settings(deadline=None, max_examples=30,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(results())
def test_round_trips(tmp_path, r):
    export(r, tmp_path, EACH)
    ours,npz = read_keypoints(tmp_path/'keypoints.json'),read_npz(tmp_path/'keypoints.npz')
    for k in ARRAYS:
        a,b,c = (getattr(x, k) for x in (r, ours, npz))
        if a is None: assert b is None and c is None
        else: close(b, a); close(c, a, 0)
    for x in (ours, npz): assert (x.skeleton, x.size, x.about) == (r.skeleton, r.size, r.about)
    known = np.isfinite(r.kp).all(-1)
    coco,pose = read_coco(tmp_path/'coco.json'),read_openpose(tmp_path/'openpose')
    dlc = read_deeplabcut(tmp_path/'deeplabcut.csv')
    for d in (coco, pose, dlc): assert d['index'].tolist() == r.index.tolist()
    tiny = known & (np.abs(np.nan_to_num(r.kp)).max(-1)<5.1e-4)            # rounds to 0,0: known only by its confidence
    for d in (coco, pose):
        close(np.where(tiny[...,None], 0, d['kp']), np.where(tiny[...,None], 0, r.kp))
        close(d['conf'], np.where(known, np.nan_to_num(r.conf), 0))
    close(dlc['kp'], r.kp); close(dlc['conf'], r.conf)
    assert dlc['joints'] == r.skeleton.joints
    for p in [tmp_path/'keypoints.json', tmp_path/'coco.json', *(tmp_path/'openpose').iterdir()]: strict(p)


@pytest.mark.parametrize('skel', [PENN13, COCO17, BBC7], ids=lambda s: s.name)
def test_the_same_result_gives_the_same_bytes(tmp_path, skel):
    for out in ('a', 'b'): export(tall(skel), tmp_path/out, EXPORTS)
    files = [p.relative_to(tmp_path/'a') for p in sorted((tmp_path/'a').rglob('*')) if p.is_file()]
    assert len(files) == 6+5
    for f in files: assert (tmp_path/'a'/f).read_bytes() == (tmp_path/'b'/f).read_bytes()
    export(tall(skel), tmp_path/'a', EXPORTS)                              # over an earlier one
    for f in files: assert (tmp_path/'a'/f).read_bytes() == (tmp_path/'b'/f).read_bytes()
    assert len([p for p in (tmp_path/'a').rglob('*') if p.is_file()]) == 11


def test_the_layout_of_keypoints_json(tmp_path):
    r = made(2, BBC7, about=dict(source='ä b.mp4', guard=dict(kept='after', score=np.float32('nan')), n=np.int64(3)))
    write_keypoints(r, tmp_path/'k.json')
    d = strict(tmp_path/'k.json')
    assert list(d) == ['skeleton', 'size', 'source', 'guard', 'n', 'frames'] and d['size'] == [640,480]
    assert d['skeleton'] == dict(name='bbc7', joints=list(BBC7.joints), pairs=[list(p) for p in BBC7.pairs],
                                 limbs=[list(p) for p in BBC7.limbs], torso=None)
    assert d['guard'] == {'kept':'after', 'score':None} and d['n'] == 3
    f = d['frames'][1]
    assert list(f) == ['index', 'time', 'box', 'keypoints', 'before'] and f['index'] == 8 and f['time'] == .04
    assert len(f['keypoints']) == 7 and len(f['keypoints'][0]) == 3
    text = (tmp_path/'k.json').read_text('utf-8')
    assert len(text.splitlines()) == 6+2+1 and 'ä b.mp4' in text


def test_unknown_in_each_format(tmp_path):
    r = made(1, Skeleton('two', ['a', 'b']), kp=[[[np.nan,3],[4,5]]], conf=[[.9,np.nan]], boxes=[[np.nan]*4],
             before_kp=None, before_conf=None)
    export(r, tmp_path, EACH)
    f = strict(tmp_path/'keypoints.json')['frames'][0]
    assert f['keypoints'] == [[None,None,.9], [4,5,None]] and f['box'] == [None]*4 and 'before' not in f
    c = strict(tmp_path/'coco.json')[0]
    assert c['keypoints'] == [0,0,0,4,5,0] and c['bbox'] == [0]*4 and c['score'] == 0 and c['category_id'] == 1
    p = strict(tmp_path/'openpose'/'a_000000000007_keypoints.json')
    assert p['version'] == 1.3 and len(p['people']) == 1 and p['people'][0]['person_id'] == [-1]
    assert p['people'][0]['pose_keypoints_2d'] == [0,0,0,4,5,0]
    assert (tmp_path/'deeplabcut.csv').read_text().splitlines()[-1] == '7,,,0.9,4.0,5.0,'
    with np.load(tmp_path/'keypoints.npz') as z: assert np.isnan(z['kp'][0,0]).all() and 'before_kp' not in z


def test_boxes_of_coco_are_whole_pixels(tmp_path):
    to_coco(made(1, boxes=[[10,20,10,29]]), tmp_path/'c.json')              # one column of ten pixels
    assert strict(tmp_path/'c.json')[0]['bbox'] == [10,20,1,10]
    assert read_coco(tmp_path/'c.json')['boxes'].tolist() == [[10,20,10,29]]


def test_deeplabcut_header(tmp_path):
    to_deeplabcut(made(3, Skeleton('s', ['nose, left', 'sch"wanz'])), tmp_path/'d.csv')
    with open(tmp_path/'d.csv', newline='', encoding='utf-8') as f: rows = list(csv.reader(f))
    assert rows[0] == ['scorer']+['ttp_nb_m']*6 and rows[2] == ['coords']+['x','y','likelihood']*2
    assert rows[1] == ['bodyparts']+['nose, left']*3+['sch"wanz']*3
    assert [r[0] for r in rows[3:]] == ['7','8','9'] and {len(r) for r in rows} == {7}


@pytest.mark.parametrize('source,name', [
    ('/videos/My run.MOV', 'My_run'), ('C:\\x\\run.mp4', None), ('../../etc/passwd', 'passwd'), (None, 'video'),
    ('', 'video'), ('...', 'video'), ('跑步.mp4', '跑步'), ('a'*300+'.mp4', 'a'*50), ('x\udcff\n/y*?.avi', 'y'),
    (17, '17')])
def test_file_names_are_harmless(tmp_path, source, name):
    to_openpose(made(1, about=dict(source=source)), tmp_path/'o')
    p, = (tmp_path/'o').iterdir()
    assert p.parent == tmp_path/'o' and int(re.split(r'(\d+)', p.name)[-2]) == 7      # as Pose2Sim finds the frame
    if name: assert p.name == f'{name}_000000000007_keypoints.json'


def test_text_that_utf8_cannot_hold(tmp_path):
    r = made(2, Skeleton('s', ['a\ud800', 'b\u2028']), about=dict(source='v\udce4.mp4', model='\udcff'))
    export(r, tmp_path, EACH)
    for x in (read_keypoints(tmp_path/'keypoints.json'), read_npz(tmp_path/'keypoints.npz')):
        assert x.about == r.about and x.skeleton == r.skeleton
    strict(tmp_path/'keypoints.json'); (tmp_path/'deeplabcut.csv').read_text('utf-8')


@dataclass
class Config:
    steps:int = 3
    out:Path = Path('x/y')


def test_about_is_translated():
    a = dict(c=Config(), p=Path('a/b'), t=(1,(2,)), x=np.arange(2), k={1:np.bool_(True)}, f=float('inf'))
    a = made(about=a).about
    assert a == dict(c=dict(steps=3, out=os.path.join('x', 'y')), p=os.path.join('a', 'b'), t=[1,[2]], x=[0,1],
                     k={'1':True}, f=None)


@pytest.mark.parametrize('new,says', [
    (dict(kp=np.zeros((5,12,2))), 'kp must have shape'), (dict(conf='x'), 'conf is not'), (dict(times=[1,2]), 'times'),
    (dict(boxes=np.zeros((5,3))), 'boxes'), (dict(before_conf=None), 'None for both'),
    (dict(before_kp=np.zeros((1,13,2))), 'before_kp'), (dict(index=[1,1,2,3,4]), 'increasing'),
    (dict(index=[-1,0,1,2,3]), 'from 0'), (dict(index=[0.,1,2,3,4]), 'whole'), (dict(index=[]), 'at least one'),
    (dict(size=(0,5)), 'size'), (dict(size=(5,)), 'size'), (dict(about={'size':3}), "'size'"),
    (dict(about={'a':{'b':1j}}), 'about.a.b is a complex'), (dict(about={'b':b'x'}), 'bytes'),
])
def test_what_does_not_fit_is_refused(new, says):
    with pytest.raises(TTPError, match=says): made(**new)


@pytest.mark.parametrize('before', [True, False])
def test_joints_of_another_set(before):
    r = made(skel=PEOPLE18, **({} if before else dict(before_kp=None, before_conf=None)))
    for skel in (COCO17, PENN13, PEOPLE18):
        s, at = r.in_joints_of(skel), [PEOPLE18.index(j) for j in skel.joints]
        assert s.skeleton==skel and s.about==r.about and (s.before_kp is None)!=before
        for k in ('kp', 'conf', 'before_kp', 'before_conf'):
            if getattr(r, k) is not None: close(getattr(s, k), getattr(r, k)[:,at], 0)
        for k in ('index', 'times', 'boxes'): close(getattr(s, k), getattr(r, k), 0)
    with pytest.raises(TTPError, match="coco17' has no joint 'head'"): made(skel=COCO17).in_joints_of(PENN13)


def test_a_result_does_not_share_its_arrays():
    kp = np.zeros((5,13,2)); r = made(kp=kp); kp[:] = 9
    assert (r.kp==0).all() and '5 frames' in repr(r) and len(r) == 5
    assert len(replace(r, about={}).about) == 0


WRITERS = dict(angles=(to_angles, read_angles, 'a.csv'),
               keypoints=(write_keypoints, read_keypoints, 'k.json'), coco=(to_coco, read_coco, 'c.json'),
               dlc=(to_deeplabcut, read_deeplabcut, 'd.csv'), npz=(to_npz, read_npz, 'k.npz'))


@pytest.mark.parametrize('kind', WRITERS)
def test_truncated_and_other_files_are_refused_by_name(tmp_path, kind):
    write,read,name = WRITERS[kind]
    path = tmp_path/name
    with pytest.raises(TTPError, match=name): read(path)                   # missing
    write(made(), path)
    data = path.read_bytes()
    bad = [b'', b'\x00\xff\xfe', b'{}', b'[1]', b'null', b'{"frames": []}', b'a,b\nc,d\n', data[:len(data)//3]]
    for text in bad:
        path.write_bytes(text)
        with pytest.raises(TTPError, match=name): read(path)
    path.unlink(); path.mkdir()
    with pytest.raises(TTPError, match=name): read(path)
    with pytest.raises(TTPError, match=name): write(made(), path)          # a folder is in the way


def test_nan_in_a_json_file_is_refused(tmp_path):
    write_keypoints(made(), tmp_path/'k.json')
    text = (tmp_path/'k.json').read_text().replace('null', 'NaN')
    (tmp_path/'k.json').write_text(text)
    with pytest.raises(TTPError, match='NaN is not json'): read_keypoints(tmp_path/'k.json')


def test_no_pickle_is_opened(tmp_path):
    np.savez(tmp_path/'k.npz', kp=np.array([{}, None], dtype=object))
    with pytest.raises(TTPError, match='k.npz'): read_npz(tmp_path/'k.npz')


@pytest.mark.parametrize('kind', [*WRITERS, 'openpose'])
def test_a_fault_while_writing_leaves_what_was_there(tmp_path, kind, monkeypatch):
    write,_,name = WRITERS.get(kind, (to_openpose, read_openpose, 'openpose'))
    path = tmp_path/name
    write(made(), path)
    def state(): return {p.relative_to(tmp_path):p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    before,calls = state(),[]
    def full(*args, **kw):
        calls.append(1)
        if len(calls)>2: raise OSError(28, 'No space left on device')
        return real(*args, **kw)
    where,what = (np,'savez_compressed') if kind=='npz' else (exports, '_number')
    if kind=='npz': calls += [1,1]
    real = getattr(where, what); monkeypatch.setattr(where, what, full)
    with pytest.raises(TTPError, match='No space left'): write(made(seed=1), path)
    assert state() == before and not list(tmp_path.rglob('*.part'))
    def stop(*args, **kw): raise KeyboardInterrupt
    monkeypatch.setattr(where, what, stop)
    with pytest.raises(KeyboardInterrupt): write(made(seed=1), path)
    assert state() == before and not list(tmp_path.rglob('*.part'))


def test_openpose_leaves_other_folders_alone(tmp_path):
    (tmp_path/'o').mkdir(); (tmp_path/'o'/'notes.txt').write_text('mine')
    with pytest.raises(TTPError, match='notes.txt'): to_openpose(made(), tmp_path/'o')
    assert [p.name for p in (tmp_path/'o').iterdir()] == ['notes.txt']
    (tmp_path/'real').mkdir()
    (tmp_path/'real'/'run_000000000000_keypoints.json').write_text('{"version":1.3,"people":[]}')
    with pytest.raises(TTPError, match='run_000000000000'): to_openpose(made(), tmp_path/'real')
    assert len(list((tmp_path/'real').iterdir())) == 1                     # OpenPose's own output
    (tmp_path/'file').write_text('x')
    with pytest.raises(TTPError, match='file'): to_openpose(made(), tmp_path/'file')
    assert (tmp_path/'file').read_text() == 'x'
    (tmp_path/'empty').mkdir(); to_openpose(made(), tmp_path/'empty')
    (tmp_path/'empty'/'.DS_Store').write_text('Finder was here'); to_openpose(made(4), tmp_path/'empty')
    assert len(list((tmp_path/'empty').iterdir())) == 4
    to_openpose(made(), tmp_path/'deep'/'er'/'o')
    with pytest.raises(TTPError, match='no .*keypoints.json'): read_openpose(tmp_path/'nothing')
    p = next((tmp_path/'empty').iterdir()); p.write_text('{"people": []}')
    with pytest.raises(TTPError, match='not an OpenPose file'): read_openpose(tmp_path/'empty')


def test_frames_that_were_left_out_keep_their_numbers(tmp_path):
    r = made(3, index=[2,30,999999])
    export(r, tmp_path, EACH)
    for read,name in ((read_coco,'coco.json'), (read_openpose,'openpose'), (read_deeplabcut,'deeplabcut.csv')):
        d = read(tmp_path/name)
        assert d['index'].tolist() == [2,30,999999]


def test_names_of_images_come_through(tmp_path):
    "Every format carries them; commas, quotes and lone surrogates included; folders in between are kept."
    names = ('a.jpg', 'b,"c".png', '\udcff.tif')
    r = made(3, names=names)
    export(r, tmp_path, EACH)
    for x in (read_keypoints(tmp_path/'keypoints.json'), read_npz(tmp_path/'keypoints.npz'), r.in_joints_of(PENN13)):
        assert x.names==names and x.index.tolist()==[7,8,9]
    assert [c['file_name'] for c in strict(tmp_path/'coco.json')]==list(names)
    assert [strict(p)['file_name'] for p in sorted((tmp_path/'openpose').iterdir())]==list(names)
    dlc = read_deeplabcut(tmp_path/'deeplabcut.csv')
    assert dlc['names'][:2]==names[:2] and 'index' not in dlc
    close(dlc['kp'], r.kp)

def test_names_that_say_nothing_or_do_not_fit():
    assert made(3, names=['000007', '8', '09']).names is None and made(3, names=['000000', '1', '2']).names
    with pytest.raises(TTPError, match='2 names for 3 frames'): made(3, names=['a', 'b'])

def test_confidences_are_between_0_and_1(tmp_path):
    r = made(1, Skeleton('s', ['a', 'b', 'c']), kp=[[[1,2],[3,4],[5,6]]], conf=[[1.017,-.2,np.nan]], before_kp=None,
             before_conf=None)
    export(r, tmp_path, EACH)
    assert np.array_equal(r.conf, [[1,0,np.nan]], equal_nan=True)
    assert strict(tmp_path/'coco.json')[0]['keypoints']==[1,2,1,3,4,0,5,6,0]
    assert strict(tmp_path/'keypoints.json')['frames'][0]['keypoints']==[[1,2,1],[3,4,0],[5,6,None]]

def test_export_writes_what_is_asked(tmp_path):
    assert [p.name for p in export(made(), tmp_path/'a')] == ['keypoints.json']
    two = export(made(), tmp_path/'b', ['dlc', 'coco'])
    assert [p.name for p in two] == ['keypoints.json', 'deeplabcut.csv', 'coco.json'] and all(p.is_file() for p in two)
    with pytest.raises(TTPError, match="no export 'csv'; there are coco, openpose, dlc, npz, angles, trc"):
        export(made(), tmp_path/'c', ['csv'])
    assert not (tmp_path/'c').exists()


# --- mended and filtered

def test_a_mended_result_keeps_what_was_answered(tmp_path):
    "Flags and raw values come through json and npz, and with a choice of joints."
    r = made(30, seed=3)
    m = mended_result(r, fill=.2, smooth=('butterworth', 5.), least=.2)
    direct = mend(r.kp, r.conf, r.times, least=.2)
    close(m.kp, butterworth(direct.kp, r.times, 5.), 1e-9); close(m.raw_kp, r.kp, 0); close(m.raw_conf, r.conf, 0)
    assert (m.flags==direct.flags).all() and (m.conf[m.flags>1]==0).all() and {*np.unique(m.flags)} >= {0, 2}
    assert m.about['smoothing']==smoothing_said(('butterworth', 5.))
    assert m.about['smoothing']=='Butterworth filter, 4th order, zero phase, cut-off 5 Hz'
    assert m.about['mending']['fill']==.2 and m.about['mending']['least']==.2
    n = sum(count.get('filled', 0) for count in m.about['mending']['joints'].values())
    assert n==(m.flags==FLAGS.index('filled')).sum()
    export(m, tmp_path, EACH)
    for back,tol in ((read_keypoints(tmp_path/'keypoints.json'), 5.1e-4), (read_npz(tmp_path/'keypoints.npz'), 0)):
        for k in ('kp', 'raw_kp', 'raw_conf', 'conf'): close(getattr(back, k), getattr(m, k), tol)
        assert (back.flags==m.flags).all() and back.about==m.about
    few = m.in_joints_of(Skeleton('few', ('left_knee', 'head')))
    assert (few.flags==m.flags[:,[10,0]]).all(); close(few.raw_kp, m.raw_kp[:,[10,0]], 0)
    f = strict(tmp_path/'keypoints.json')['frames'][0]
    assert len(f['flags'])==len(f['raw'])==13 and {*f['flags']} <= {*FLAGS}


def test_formats_without_flags_show_a_filled_joint_by_its_confidence(tmp_path):
    kp = np.tile(rng(0).uniform(50, 90, (1,13,2)), (9,1,1)); kp[4,5] = np.nan
    m = mended_result(made(9, kp=kp, conf=np.full((9,13), .8)), fill=.2)
    export(m, tmp_path, ['coco', 'dlc', 'openpose'])
    readers = (read_coco, 'coco.json'), (read_openpose, 'openpose'), (read_deeplabcut, 'deeplabcut.csv')
    for d in (read(tmp_path/name) for read,name in readers):
        assert d['conf'][4,5]==0 and d['conf'][3,5]==.8
        close(d['kp'], m.kp)


def test_a_filter_alone_flags_nothing_and_nothing_is_nothing():
    r = made(20)
    for smooth in (('butterworth', 4.), ('savgol', 4.), ('one_euro', 1.)):
        m = mended_result(r, smooth=smooth)
        assert m.flags is None and 'mending' not in m.about and m.about['smoothing'].endswith(f'{smooth[1]:g} Hz')
        assert (np.isnan(m.kp)==np.isnan(r.kp)).all() and not np.allclose(m.kp, r.kp, equal_nan=True)
    assert mended_result(r) is r and smoothing_said(None)==''
    with pytest.raises(TTPError, match='12.5 Hz needs more than 25 frames'):
        mended_result(r, smooth=('butterworth', 12.5))
    none = made(4, kp=np.full((4,13,2), 7.), conf=np.ones((4,13)))         # all joints at one point
    close(mended_result(none, .2, ('one_euro', 1.)).kp, none.kp, 1e-9)


@pytest.mark.parametrize('new,says', [
    (dict(flags=np.zeros((5,12), int)), 'flags must be'), (dict(flags=np.full((5,13), 4)), 'flags must be'),
    (dict(flags=np.zeros((5,13))), 'flags must be'), (dict(raw_kp=np.zeros((5,13,2))), 'raw_kp and raw_conf'),
    (dict(raw_kp=np.zeros((5,12,2)), raw_conf=np.zeros((5,13))), 'raw_kp must have shape')])
def test_flags_and_raw_values_must_fit(new, says):
    with pytest.raises(TTPError, match=says): made(**new)


def test_unknown_flags_in_a_file_are_refused(tmp_path):
    write_keypoints(mended_result(made(5), .2), tmp_path/'k.json')
    text = (tmp_path/'k.json').read_text()
    (tmp_path/'k.json').write_text(text.replace('"seen"', '"guessed"', 1))
    with pytest.raises(TTPError, match='k.json: is not a keypoints.json'): read_keypoints(tmp_path/'k.json')


# --- angles

@pytest.mark.parametrize('skel', [PENN13, COCO17, BBC7], ids=lambda s: s.name)
def test_angles_as_they_are_written(tmp_path, skel):
    r = made(6, skel, seed=2)
    to_angles(r, tmp_path/'a.csv')
    back,angles = read_angles(tmp_path/'a.csv'),joint_angles(r.kp, skel)
    assert list(back['angles'])==list(angles) and back['index'].tolist()==r.index.tolist() and back['flags']=={}
    for name in angles: close(back['angles'][name], angles[name])
    close(back['times'], r.times)
    lines = (tmp_path/'a.csv').read_text('utf-8').splitlines()
    assert [line.partition(':')[0] for line in lines[1:len(angles)+1]]==[f'# {name}' for name in angles]
    assert 'degrees in the plane of the image' in lines[0] and lines[len(angles)+1].startswith('frame,time,')


def test_angles_carry_flags_and_say_when_there_are_none(tmp_path):
    kp = np.tile(rng(0).uniform(50, 90, (1,13,2)), (9,1,1)); kp[4,9] = np.nan; kp[8,9] = np.nan
    to_angles(mended_result(made(9, kp=kp, conf=np.ones((9,13))), .2), tmp_path/'a.csv')
    flags = read_angles(tmp_path/'a.csv')['flags']
    assert flags['right_knee']==('seen',)*4+('filled',)+('seen',)*3+('empty',) and {*flags['left_knee']}=={'seen'}
    to_angles(made(3, Skeleton('a\nmouse', ('snout', 'tail'))), tmp_path/'m.csv')
    assert 'form none of the angles' in (tmp_path/'m.csv').read_text().splitlines()[1]
    assert read_angles(tmp_path/'m.csv')['angles']=={}


# --- .trc

def strict_trc(path):
    "The published layout, read as strictly as it is stated: five lines of head, tabs, counts, axes, numbers."
    lines = Path(path).read_text('utf-8').split('\n')
    assert lines.pop()=='' and not any(line.endswith(' ') for line in lines)
    rows = [line.split('\t') for line in lines]
    assert rows[0]==['PathFileType', '4', '(X/Y/Z)', Path(path).name]
    assert rows[1]==['DataRate', 'CameraRate', 'NumFrames', 'NumMarkers', 'Units', 'OrigDataRate', 'OrigDataStartFrame',
                     'OrigNumFrames']
    rate,camera,T,J,units,orig,first,n = rows[2]
    T,J = int(T),int(J)
    assert units=='m' and float(rate)==float(camera)==float(orig) and int(n)==T==len(rows)-5
    names = rows[3][2::3]
    assert rows[3][:2]==['Frame#', 'Time'] and len(names)==len({*names})==J
    assert all(cell=='' for k in (3, 4) for cell in rows[3][k::3])
    assert rows[4]==['', '']+[f'{axis}{i+1}' for i in range(J) for axis in 'XYZ']
    assert all(len(row)==2+3*J for row in rows[3:])
    data = np.array([[float(v) if v else np.nan for v in row] for row in rows[5:]])
    assert int(first)==data[0,0] and (np.diff(data[:,0])>0).all() and (np.diff(data[:,1])>0).all()
    return names, float(rate), data[:,0].astype(int), data[:,1], data[:,2:].reshape(T,J,3)


@pytest.mark.parametrize('skel', [PENN13, COCO17, BBC7], ids=lambda s: s.name)
@pytest.mark.parametrize('T', [1, 2, 40])
def test_a_trc_file_is_as_published(tmp_path, skel, T):
    r = tall(skel, T=T)
    to_trc(r, tmp_path/'m.trc')
    names,rate,index,times,xyz = strict_trc(tmp_path/'m.trc')
    assert names==marker_names(skel) and index.tolist()==r.index.tolist() and rate==(25 if T>1 else 1)
    scale = metres_per_pixel(r.kp, skel, 1.75)
    close(times, r.times, 1e-6); close(xyz[...,0], r.kp[...,0]*scale, 6e-7)
    close(xyz[...,1], (479-r.kp[...,1])*scale, 6e-7)
    assert (np.nan_to_num(xyz[...,2])==0).all()
    ours = read_trc(tmp_path/'m.trc')
    assert (ours['markers'], ours['rate'], ours['units'])==(names, rate, 'm')
    close(ours['xyz'], xyz, 0); close(ours['times'], times, 0)


def test_marker_names():
    assert marker_names(COCO17)[:7]==['Nose', 'LEye', 'REye', 'LEar', 'REar', 'LShoulder', 'RShoulder']
    assert marker_names(Skeleton('t', ('a_b c', 'aBC')))==['a_b_c', 'aBC']
    assert marker_names(Skeleton('u', ('left', 'x\ty')))==['Left', 'XY']
    assert marker_names(Skeleton('v', ('right_big_toe', 'head top', 'Neck')))==['RBigToe', 'HeadTop', 'Neck']


@pytest.mark.parametrize('new,how,says', [
    ({}, {}, 'state the height'), ({}, dict(height=-1.), 'metres above 0'),
    ({}, dict(height=1.8, length=('a', 'b', 1)), 'give one'),
    ({}, dict(length=('tail', 'head', 1.)), "no joint 'tail'"),
    (dict(times=[0, 2, 1, 3, 4]), dict(height=1.8), 'must increase'),
    (dict(kp=np.full((5,13,2), 4.)), dict(height=1.8), 'show nothing')])
def test_what_cannot_become_metres_is_refused(tmp_path, new, how, says):
    with pytest.raises(TTPError, match=says): to_trc(made(**new), tmp_path/'m.trc', **how)
    assert not (tmp_path/'m.trc').exists()


def test_broken_trc_files_are_refused(tmp_path):
    to_trc(tall(), tmp_path/'m.trc')
    text = (tmp_path/'m.trc').read_text()
    lines = text.split('\n')
    for bad in ('', 'x', text[:200], '\n'.join(lines[:-2]), text.replace('\t5\t', '\t6\t', 1),
                text.replace('PathFileType', 'Path')):
        (tmp_path/'b.trc').write_text(bad)
        with pytest.raises(TTPError, match='b.trc'): read_trc(tmp_path/'b.trc')


# --- read back by the libraries they are for, where these are installed

def a_result(**new):
    kp = np.cumsum(rng(4).normal(0, 2, (40,13,2)), 0)+rng(5).uniform(50, 300, (1,13,2))
    kp[10:12,5] = np.nan; kp[20:35,6] = np.nan
    return mended_result(tall(T=40, kp=kp, conf=np.full((40,13), .9), index=np.arange(40), **new), fill=.2)


def test_pose2sim_reads_the_markers(tmp_path):
    common = pytest.importorskip('Pose2Sim.common')
    r = a_result(); to_trc(r, tmp_path/'m.trc')
    q,frames,times,markers,head = common.read_trc(str(tmp_path/'m.trc'))
    assert markers==marker_names(PENN13) and frames.tolist()==r.index.tolist()
    close(times, r.times, 1e-6); close(q.to_numpy(float).reshape(40,13,3), read_trc(tmp_path/'m.trc')['xyz'], 1e-9)
    assert head[2].split()==['25.0', '25.0', '40', '13', 'm', '25.0', '0', '40']


def test_movement_reads_the_table(tmp_path):
    load = pytest.importorskip('movement.io.load_poses')
    r = a_result(); to_deeplabcut(r, tmp_path/'d.csv')
    data = load.from_dlc_file(tmp_path/'d.csv', fps=25)
    assert data.position.dims==('time', 'space', 'keypoints', 'individuals')
    assert data.coords['keypoints'].values.tolist()==list(PENN13.joints)
    close(data.position.values[...,0].transpose(0, 2, 1), r.kp); close(data.confidence.values[...,0], r.conf)


def test_sleap_io_reads_the_table_beside_the_images(tmp_path):
    "It reads DeepLabCut's tables of images, and only where these are."
    sio,cv2 = pytest.importorskip('sleap_io'),pytest.importorskip('cv2')
    names = [f'img{i:03d}.png' for i in range(40)]
    for name in names: cv2.imwrite(str(tmp_path/name), np.zeros((48,64,3), np.uint8))
    r = a_result(names=names); to_deeplabcut(r, tmp_path/'d.csv')
    labels = sio.load_dlc(str(tmp_path/'d.csv'))
    at = [labels.skeletons[0].node_names.index(name) for name in PENN13.joints]
    assert len(labels)==40
    close(labels.numpy()[:,0][:,at], r.kp)


def test_pandas_reads_the_angles(tmp_path):
    pandas = pytest.importorskip('pandas')
    r = a_result(); to_angles(r, tmp_path/'a.csv')
    table = pandas.read_csv(tmp_path/'a.csv', comment='#')
    assert list(table)==['frame', 'time', *angles_of(PENN13), *(f'{name}_flag' for name in angles_of(PENN13))]
    close(table.right_elbow, joint_angles(r.kp)['right_elbow']); assert table.right_elbow_flag[10]=='filled'
