"""Penn Action's layout: there and back, what is refused, what is mended, and the real data set where it is at hand."""
import os
from dataclasses import replace
from pathlib import Path
import cv2, numpy as np, pytest
from scipy.io import loadmat, savemat
from ttp_nb.basics import TTPError
from ttp_nb.clips import Clip, no_extent
from ttp_nb.metrics import pck, torso_size
from ttp_nb.penn import penn_clips, read_penn_label, write_penn
from ttp_nb.skeletons import PENN13

REAL = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))/'Penn_Action'
needs_real = pytest.mark.skipif(not (REAL/'labels').is_dir(), reason=f'needs Penn Action in {REAL} (set TTP_REAL)')


def made(name='a', T=5, seed=0, size=(64,48), **kw):
    "A clip of noise images with joints, some of them hidden."
    g = np.random.default_rng(seed)
    frames = np.repeat(np.repeat(g.integers(0, 255, (T,size[1]//8,size[0]//8,3), dtype=np.uint8), 8, 1), 8, 2)
    joints,vis = g.uniform(5, 40, (T,13,2)),g.random((T,13))>.2
    boxes = np.concatenate([joints.min(1)-1, joints.max(1)+1], 1)
    return Clip(name, frames, boxes, joints, vis, action='squat', **kw)


@pytest.fixture
def root(tmp_path):
    return write_penn([made('a'), made('b', 3, 1), made('c', 4, 2)], tmp_path/'penn', [True,False,False])


def relabel(root, name, **changes):
    "Rewrites a label with some fields changed; None removes a field."
    p = root/'labels'/f'{name}.mat'
    m = {k:v for k,v in loadmat(p).items() if not k.startswith('__')} | changes
    savemat(p, {k:v for k,v in m.items() if v is not None})
    return p


# --- there and back

def test_written_and_read_back(root):
    clips,absent = penn_clips(root, 'all')
    assert [c.name for c in clips]==['0001','0002','0003'] and absent==[]
    for c,o in zip(clips, (made('a'), made('b', 3, 1), made('c', 4, 2))):
        assert (c.vis==o.vis).all() and np.allclose(c.joints[c.vis], o.joints[o.vis], atol=1e-9)
        assert np.isnan(c.joints[~c.vis]).all() and np.allclose(c.boxes, o.boxes, atol=1e-9)
        assert c.action=='squat' and c.size==(64,48) and c.skel is PENN13
        assert abs(c.frames[0].astype(int)-o.frames[0]).mean()<12 and c.frames[-1].shape==(48,64,3)
    assert [c.name for c in penn_clips(root, 'train')[0]]==['0001']
    assert [c.name for c in penn_clips(root, 'all', names=['0003','0001'])[0]]==['0001','0003']
    assert not [p for p in root.rglob('.*')]


def same_score(a, b):
    "Do both clips judge some predictions alike?"
    p = b.joints+np.random.default_rng(5).normal(size=b.joints.shape)*8
    x,y = (pck(p, np.where(c.vis[...,None], c.joints, np.nan), c.vis, torso=c.torso) for c in (a, b))
    return (x[0]==y[0]).all() and (x[1]==y[1]).all() and x[1].any()


def test_the_torso_is_measured_before_anything_is_hidden(root):
    m = loadmat(root/'labels'/'0002.mat')
    x,y,v = np.full((3,13), 9.),np.full((3,13), 9.),np.ones((3,13))
    x[:,[7,8]],y[:,[7,8]] = 9,[[29,29], [29,29], [1,1]]
    x[1,8],v[1,8] = 1,0                                       # one hip a placeholder in x
    x[2,[7,8]],v[2,[7,8]] = 1,0                               # both hips placeholders
    t = read_penn_label(relabel(root, '0002', x=x, y=y, visibility=v, torso=None))['torso']
    assert t==pytest.approx([20, np.hypot(4, 20), np.hypot(8, 8)])
    assert read_penn_label(relabel(root, '0002', x=x, y=y, visibility=v, torso=[[5.,6,7]]))['torso'].tolist()==[5,6,7]
    with pytest.raises(TTPError, match='0002.mat.*torso'): read_penn_label(relabel(root, '0002', torso=[1.,2]))
    assert m['torso'].size==3


def test_what_is_read_back_scores_alike(tmp_path):
    exact,blind,given = made('a', seed=3),made('b', seed=3),made('c', seed=3)
    blind = replace(blind, joints=np.where(blind.vis[...,None], blind.joints, np.nan))   # hidden joints unknown
    given = replace(blind, torso=np.linspace(0, 40, 5))
    back,_ = penn_clips(write_penn([exact,blind,given], tmp_path, [False]*3))
    for c,o in zip(back, (exact,blind,given)):
        assert np.allclose(c.torso, torso_size(o.joints) if o.torso is None else o.torso, equal_nan=True)
    again,_ = penn_clips(write_penn(back, tmp_path/'again', [False]*3))
    for c,o in zip(again, back): assert np.array_equal(c.torso, o.torso, equal_nan=True) and same_score(c, o)
    assert np.array_equal(loadmat(tmp_path/'labels'/'0001.mat')['x'], exact.joints[...,0]+1)   # known though hidden
    assert (loadmat(tmp_path/'labels'/'0002.mat')['x'][~blind.vis]==0).all()


def test_rgb_order_survives(tmp_path):
    red = np.zeros((2,32,32,3), np.uint8); red[...,0] = 230
    write_penn([Clip('red', red, [[1,1,30,30]]*2, np.full((2,13,2), 9.))], tmp_path, [False])
    f = penn_clips(tmp_path)[0][0].frames[1]
    assert f[...,0].mean()>200 and f[...,2].mean()<40


def test_an_interrupted_video_leaves_no_trace(tmp_path):
    class Stops(list):
        def __getitem__(self, i):
            if i==2: raise KeyboardInterrupt
            return list.__getitem__(self, i)
    c,s = made(),made('b', seed=1)
    s.frames = Stops(s.frames)
    with pytest.raises(KeyboardInterrupt): write_penn([c,s], tmp_path, [False,False])
    assert [c.name for c in penn_clips(tmp_path)[0]]==['0001'] and not (tmp_path/'frames'/'0002').exists()
    write_penn([c,made('b', seed=1)], tmp_path, [False,False])        # the second attempt goes through
    assert len(penn_clips(tmp_path)[0])==2
    write_penn([made(T=2),made(T=3)], tmp_path, [False,False])        # and shorter ones replace them whole
    assert [len(c) for c in penn_clips(tmp_path)[0]]==[2,3]


def test_what_cannot_be_written(tmp_path, root):
    with pytest.raises(TTPError, match='one for each'): write_penn([made()], tmp_path, [])
    with pytest.raises(TTPError, match='other videos.*0002'): write_penn([made()], root, [True])
    bare = Clip('walk', made().frames, made().boxes)
    with pytest.raises(TTPError, match="'walk'.*13 joints"): write_penn([bare], tmp_path, [True])
    with pytest.raises(TTPError, match='uint8'):
        write_penn([Clip('f', np.zeros((2,8,8,3)), [[0,0,5,5]]*2, np.ones((2,13,2)))], tmp_path/'x', [True])
    (tmp_path/'file').write_text('')
    with pytest.raises(TTPError, match='could not be written'): write_penn([made()], tmp_path/'file', [True])


# --- broken labels: one TTPError each, naming the file

@pytest.mark.parametrize('change,says', [
    (dict(x=np.zeros((3,12))), 'x has shape'), (dict(y=np.zeros((2,13))), 'y has shape'),
    (dict(visibility=np.ones((3,1))), 'visibility'),
    (dict(x=np.zeros((0,13))), 'x has shape'), (dict(bbox=np.ones((3,3))), 'bbox'), (dict(bbox=np.ones((4,4))), 'bbox'),
    (dict(bbox=np.zeros((0,4))), 'bbox'), (dict(bbox=np.ones((3,4))), 'not one box'), (dict(bbox=None), 'no bbox'),
    (dict(x=None), 'has no x'), (dict(nframes=7.), 'nframes says 7'), (dict(nframes=np.ones((2,2))), 'one number'),
    (dict(dimensions=[1.]), 'dimensions'), (dict(x='left'), 'numbers|shape'),
    (dict(x=np.full((3,13), np.nan), visibility=np.ones((3,13))), 'frame 0.*NaN')])
def test_a_broken_label_is_named(root, change, says):
    p = relabel(root, '0002', **change)
    with pytest.raises(TTPError, match=says) as e: read_penn_label(p)
    assert '0002.mat' in str(e.value)
    with pytest.raises(TTPError, match='0002.mat'): penn_clips(root)


@pytest.mark.parametrize('data', [b'', b'not a mat file', b'MATLAB 5.0 MAT-file'+bytes(200), None])
def test_an_unreadable_label_is_named(root, data):
    p = root/'labels'/'0002.mat'
    p.write_bytes(p.read_bytes()[:300] if data is None else data)
    with pytest.raises(TTPError, match=r'0002\.mat'): penn_clips(root)


def test_a_missing_label_file():
    with pytest.raises(TTPError, match='nowhere.mat'): read_penn_label('nowhere.mat')


def test_nan_under_hidden_joints_is_no_error(root):
    v = np.ones((3,13)); v[1,4] = 0
    x = np.full((3,13), 7.); x[1,4] = np.nan
    m = read_penn_label(relabel(root, '0002', x=x, visibility=v))
    assert np.isnan(m['joints'][1,4]).all() and (m['joints'][...,0][m['vis']]==6).all()
    assert any('1 of 39' in n for n in m['notes'])


def test_unsigned_coordinates_do_not_wrap(root):
    m = read_penn_label(relabel(root, '0002', x=np.zeros((3,13), np.uint8), visibility=np.ones((3,13), np.uint8),
                                bbox=np.array([[0,0,9,9]]*3, np.uint16)))
    assert (m['joints'][...,0]==-1).all() and (m['boxes'][:,0]==-1).all()


def test_missing_and_empty_boxes_are_mended_and_said(root):
    b = np.array([[1,1,1,1], [3,3,20,30.]])
    m = read_penn_label(relabel(root, '0002', bbox=b))
    assert (m['boxes']==[2,2,19,29]).all() and len([n for n in m['notes'] if 'box' in n])==2
    clip = penn_clips(root)[0][0]
    assert clip.notes==m['notes'] and '1 of 3 frames (0)' in ' '.join(clip.notes)


# --- partial and contradictory copies

def test_absent_and_incomplete_frames_are_named(root):
    (root/'frames'/'0002'/'000002.jpg').unlink()
    clips,absent = penn_clips(root)
    assert [c.name for c in clips]==['0003'] and absent==['0002']
    for f in (root/'frames'/'0003').iterdir(): f.unlink()
    with pytest.raises(TTPError, match='2 videos'): penn_clips(root)
    assert [c.name for c in penn_clips(root, 'all')[0]]==['0001'] and penn_clips(root, 'all')[1]==['0002','0003']


def test_more_frames_than_the_label_knows(root):
    f = root/'frames'/'0002'
    (f/'000004.jpg').write_bytes((f/'000001.jpg').read_bytes())
    with pytest.raises(TTPError, match='0002.*4 frames.*label has 3'): penn_clips(root)


def test_resized_frames_are_refused(root):
    for p in (root/'frames'/'0002').iterdir(): cv2.imwrite(str(p), np.zeros((24,32,3), np.uint8))
    with pytest.raises(TTPError, match='0002.*32x24.*64x48'): penn_clips(root)


def test_a_broken_frame_names_itself(root):
    p = root/'frames'/'0002'/'000002.jpg'
    p.write_bytes(p.read_bytes()[:100])
    clip = penn_clips(root)[0][0]
    with pytest.raises(TTPError, match='000002.jpg'): clip.frames[1]


def test_strange_files_are_overlooked(root):
    (root/'labels'/'._0001.mat').write_bytes(b'x'); (root/'labels'/'notes.txt').write_text('x')
    (root/'frames'/'0001'/'._000001.jpg').write_bytes(b'x'); (root/'frames'/'0001'/'Thumbs.db').write_bytes(b'x')
    assert len(penn_clips(root, 'all')[0])==3


def test_nothing_there(tmp_path, root):
    with pytest.raises(TTPError, match='no Penn Action labels'): penn_clips(tmp_path/'void')
    with pytest.raises(TTPError, match="'0009'|0009"): penn_clips(root, names=['0001','0009'])
    with pytest.raises(TTPError, match="'test', 'train' or 'all'"): penn_clips(root, 'valid')
    with pytest.raises(TTPError): penn_clips(root, 'test', names=['0001'])     # a training video


# --- the real labels

@needs_real
def test_all_real_labels():
    ps = sorted((REAL/'labels').glob('*.mat'))
    ms = [read_penn_label(p) for p in ps]
    assert len(ms)==2326 and sum(m['n_frames'] for m in ms)==163841
    assert sum(m['train'] for m in ms)==1258 and len({m['action'] for m in ms})==15
    empty = [np.flatnonzero(no_extent(loadmat(p)['bbox'].astype(float))) for p in ps]
    seen = [m['vis'][t].sum() for m,ts in zip(ms, empty) for t in ts]
    assert len(seen)==185 and sum(n>1 for n in seen)==1                # boxes without extent, joints visible there
    said = {w: [m['name'] for m in ms if any(w in n for n in m['notes'])] for w in ('missing', 'spans nothing')}
    assert said['missing']==['1154','1865'] and len(said['spans nothing'])==10
    for m in ms:
        assert m['boxes'].shape==(m['n_frames'],4) and (m['boxes'][:,2:]-m['boxes'][:,:2]).max(1).min()>0
        assert (np.isfinite(m['joints']).all(-1)==m['vis']).all()


@needs_real
def test_the_real_videos():
    clips,absent = penn_clips(REAL)
    assert [c.name for c in clips]==['0050','0992','1142','1198','1370','2319'] and len(absent)==1062
    assert sum(map(len, clips))==340 and clips[2].action=='jumping_jacks'
    for c in clips:
        assert c.torso.shape==(len(c),) and c.frames[0].shape==(*c.size[::-1],3) and c.frames[len(c)-1].dtype==np.uint8
        inside = (c.joints>=0)&(c.joints<=np.array(c.size))
        assert inside[c.vis].mean()>.95
    with pytest.raises(TTPError, match='1258 videos'): penn_clips(REAL, 'train')
