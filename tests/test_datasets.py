"""BBC Pose, Human3.6M and DeepLabCut's format as clips: numbers by hand, hostile pickles, broken files."""
import builtins, csv, os, pickle, pickletools, shutil, struct
from pathlib import Path
import numpy as np, pytest
from scipy.io import savemat
from ttp_nb import datasets
from test_coco import image, says
from ttp_nb.skeletons import BBC7, H36M16, Skeleton
from ttp_nb.geometry import box_to_center_scale
from ttp_nb.metrics import clip_pck, pck, within_pixels
from ttp_nb.clips import Clip
from ttp_nb.skeleton_files import write_skeleton
from ttp_nb.images import natural
from ttp_nb.datasets import (_dlc_labels, bbc_clips, dlc_clips, frames_apart, hm36_clips, image_frames, image_paths,
                             located, read_hm36_labels, slashed)


# --- BBC Pose

def write_bbc(root, numbers, joints, n=20, fields=7, key='bbcpose', **change):
    "bbcpose.mat in the documented layout; `change` replaces (number of video, field) given as v14_5=value."
    none = np.zeros((0,0))
    table = np.empty((1,n), [(f'f{i}', object) for i in range(fields)])
    for v in range(1, n+1):
        own = [numbers[v][None].astype(np.uint16), joints[v].transpose(2,1,0)]       # (1,T), (2,7,T)
        row = [f'v{v}', 'bbc', 1, *([*own, none, none] if v<11 else [none, none, *own]), 0][:fields]
        for k in range(7):
            if (name := f'v{v}_{k}') in change and k<fields: row[k] = change[name]
        table[0,v-1] = tuple(row)
    root.mkdir(parents=True, exist_ok=True)
    savemat(root/'bbcpose.mat', {key:table})
    return root


@pytest.fixture
def bbc(tmp_path):
    "The data set with images for all twenty videos; joints all over the frame, some beyond it."
    g = np.random.default_rng(0)
    numbers = {v:np.sort(g.choice(5000, 3, replace=False))+1 for v in range(1, 21)}
    joints = {v:g.uniform([-20,-20], [740,500], (3,7,2)) for v in range(1, 21)}
    for v,ids in numbers.items():
        for i in ids: image(tmp_path/'bbc'/str(v)/f'{i}.jpg', value=v)
    return write_bbc(tmp_path/'bbc', numbers, joints), numbers, joints


def test_bbc_centre_and_scale_by_hand(tmp_path):
    kp = np.array([[300,100], [250,300], [350,310], [240,200], [360,210], [280,150], [320,150]], float)
    edge = np.array([[700,20], [650,470], [715,100], [640,200], [710,210], [680,150], [690,150]], float)
    write_bbc(tmp_path, {v:np.array([1,2]) for v in range(1, 21)}, {v:np.stack([kp,edge]) for v in range(1, 21)})
    for i in (1,2): image(tmp_path/'11'/f'{i}.jpg')
    (c,),absent = bbc_clips(tmp_path)
    assert len(absent)==9 and c.skel is BBC7 and c.vis.all() and c.torso.tolist()==[60,60]
    assert np.allclose(c.joints, np.stack([kp,edge])-1, atol=1e-12)
    # first frame: box 180..420, 40..370; s = 331/200
    centre,scale = c.center_scale(0)
    assert centre==pytest.approx([299, 205+15*331/200-1], abs=1e-12) and scale==pytest.approx(1.25*331/200, abs=1e-12)
    # second: 580..720 (cut at 720), 0..480 (cut at both ends); s = 481/200
    centre,scale = c.center_scale(1)
    assert centre==pytest.approx([649, 240+15*481/200-1], abs=1e-12) and scale==pytest.approx(1.25*481/200, abs=1e-12)


def test_bbc_every_crop_is_the_published_one(bbc):
    root,numbers,joints = bbc
    for c in bbc_clips(root, 'all')[0]:
        for i,kp in enumerate(joints[int(c.name)]):
            (x0,y0),(x1,y1) = np.maximum(kp.min(0)-60, 0),np.minimum(kp.max(0)+60, [720,480])
            s = max(x1-x0+1, y1-y0+1)/200
            centre,scale = c.center_scale(i)
            assert centre==pytest.approx([(x0+x1)/2-1, (y0+y1)/2+15*s-1], abs=1e-9)
            assert scale==pytest.approx(1.25*s, abs=1e-12)


def test_bbc_splits_and_images(bbc):
    root,numbers,joints = bbc
    for split,videos in dict(train=range(1,11), test=range(11,21), all=range(1,21)).items():
        clips,absent = bbc_clips(root, split)
        assert [c.name for c in clips]==[str(v) for v in videos] and absent==[]
        for c,v in zip(clips, videos):
            assert np.allclose(c.joints, joints[v]-1)
            assert [os.path.relpath(p, root) for p in image_paths(c.frames)]==[f'{v}/{i}.jpg' for i in numbers[v]]
            assert abs(int(c.frames[2].mean())-v)<=1 and c.size==(64,48) and c[1:].size==(64,48)
    assert [c.name for c in bbc_clips(root)[0]]==[str(v) for v in range(11,21)]
    says("split must be 'test'", bbc_clips, root, 'valid')


def test_bbc_accuracy_is_the_published_one(bbc):
    root,_,joints = bbc
    c,g = bbc_clips(root)[0][0],np.random.default_rng(1)
    pred = c.joints+g.uniform(-16, 16, c.joints.shape)
    pred[0,:3] = c.joints[0,:3]+[[12,0], [0,-12], [12.001,0]]       # on the border, and just outside
    raw = joints[11]
    half = lambda p: .5*(p-1)+1
    published = np.linalg.norm(half(pred+1)-half(raw), axis=-1)<=6
    ours,counted = pck(pred, c.joints, c.vis, c.skel, torso=c.torso)
    assert counted.all() and (ours==published).all() and ours[0,:3].tolist()==[True,True,False] and .2<ours.mean()<.9
    assert (ours==within_pixels(pred, c.joints, pixels=6, scale=.5)[0]).all()
    assert clip_pck(ours, counted)==pytest.approx(100*published.mean())
    assert not pck(pred, c.joints, c.vis, c.skel, thr=.1, torso=c.torso)[0][0,0]


def test_bbc_incomplete_videos_are_named(bbc):
    root,numbers,_ = bbc
    (root/'12'/f'{numbers[12][1]}.jpg').unlink()
    for p in (root/'20').iterdir(): p.unlink()
    (root/'20').rmdir()
    clips,absent = bbc_clips(root)
    assert absent==['12','20'] and [c.name for c in clips]==['11',*map(str, range(13,20))]
    for v in range(11,21):
        for p in (root/str(v)).glob('*'): p.unlink()
    assert f'11/{numbers[11][0]}.jpg' in says('none of the 10 clips', bbc_clips, root)


@pytest.mark.parametrize('change,what', [
    (dict(v14_5=np.array([[1,2.5,3]])), 'video 14.*whole number'), (dict(v14_5=np.array([[1,np.nan,3]])), 'whole'),
    (dict(v14_5=np.array([[1,2]])), r'video 14: joints \(2, 7, 3\) for 2'), (dict(v14_5=np.zeros((1,0))), 'no frame'),
    (dict(v14_6=np.ones((7,2,3))), r'joints \(7, 2, 3\)'), (dict(v14_6=np.ones((3,7,3))), 'joints'),
    (dict(v14_6='text'), 'numbers'), (dict(v14_6=np.full((2,7,3), np.inf)), 'frame .* without coordinates'),
    (dict(v14_6=np.full((2,7,3), 2000.)), 'outside'), (dict(n=19), '20 records'), (dict(fields=6), '7 fields'),
    (dict(key='other'), 'bbcpose')])
def test_bbc_malformed_fields(bbc, change, what):
    root,numbers,joints = bbc
    write_bbc(root, numbers, joints, **change)
    assert str(root/'bbcpose.mat') in says(what, bbc_clips, root)


def test_bbc_one_frame_and_integers(tmp_path):
    "MATLAB drops a last dimension of 1; whole numbers may be 8 bit, where 0-1 would be 255."
    kp = np.tile(np.arange(1, 8)[:,None]*10, (1,1,2)).astype(np.uint8)     # (1,7,2)
    kp[0,0] = 0
    numbers,joints = {v:np.array([7]) for v in range(1, 21)},dict.fromkeys(range(1, 21), kp)
    write_bbc(tmp_path, numbers, joints, v11_6=kp[0].T)
    image(tmp_path/'11'/'7.jpg')
    (c,),_ = bbc_clips(tmp_path)
    assert c.joints.shape==(1,7,2) and c.joints[0,0].tolist()==[-1,-1] and c.joints[0,6].tolist()==[69,69]


def test_bbc_files_that_are_none(tmp_path):
    says('no such file', bbc_clips, tmp_path)
    (tmp_path/'bbcpose.mat').write_bytes(b'half a file')
    says('bbcpose.mat: not a readable MATLAB file', bbc_clips, tmp_path)
    savemat(tmp_path/'bbcpose.mat', {'bbcpose':np.eye(3)})
    says('20 records', bbc_clips, tmp_path)


# --- Human3.6M

def frame(path='../../data/hm36/a/1.jpg', seed=0, **change):
    "One record, as documented."
    g = np.random.default_rng(seed)
    return dict(image=path, joints_3d=np.hstack([g.uniform(100, 900, (16,2)), g.normal(size=(16,1))]),
                joints_3d_vis=np.ones((16,3)), center_x=g.uniform(300, 600), center_y=g.uniform(300, 600),
                width=g.uniform(100, 300), height=g.uniform(100, 600)) | change


def pickle_path(root, name='valid'):
    p = root/f'HM36Vid_{name}full_all_cache'/f'HM36Vid_{name}full_all_w128xh128_keypoint_db_sample-1.pkl'
    p.parent.mkdir(parents=True, exist_ok=True)
    return p


def made_db(subjects=(9,11)):
    "Two videos of two and three frames a subject, the subjects taking turns."
    return {(s,a,1,4): [frame(f'../../data/hm36/{s}_{a}/{t}.jpg', 100*s+10*a+t) for t in range(a)]
            for a in (2,3) for s in subjects}


@pytest.fixture
def hm36(tmp_path):
    root = tmp_path/'hm36'
    for name,subjects in dict(train=(1,5), valid=(9,11)).items():
        db = made_db(subjects)
        pickle_path(root, name).write_bytes(pickle.dumps(db))
        for (s,a,_,_),v in db.items():
            for t in range(len(v)): image(root/f'{s}_{a}'/f'{t}.jpg', (50, 50+2*(a==3)), value=10*s+t)
    return root


def test_hm36_crops_are_the_published_ones(hm36):
    db = made_db()
    for c in hm36_clips(hm36)[0]:
        records = [f for k,v in db.items() if k[0]==int(c.name[1:]) for f in v]
        assert len(records)==len(c)==5 and c.skel is H36M16 and c.notes==()
        for i,f in enumerate(records):
            s = max(f['width'], f['height'])/200
            centre,scale = c.center_scale(i)
            assert centre==pytest.approx([f['center_x'], f['center_y']+15*s], abs=1e-10)
            assert scale==pytest.approx(1.25*s, abs=1e-12)
            assert (c.joints[i]==f['joints_3d'][:,:2]).all() and c.vis[i].all()


def test_hm36_a_test_clip_is_a_subject_and_a_training_clip_a_video(hm36):
    test,absent = hm36_clips(hm36)
    assert [c.name for c in test]==['S9','S11'] and absent==[]
    paths = [os.path.relpath(p, hm36) for p in image_paths(test[1].frames)]
    assert paths==[f'11_{a}/{t}.jpg' for a in (2,3) for t in range(a)]
    assert test[1].frames[2].shape==(52,50,3) and test[1].size==(50,50) and test[1][2:].size==(50,52)
    assert abs(int(test[1].frames[4].mean())-112)<2
    train,_ = hm36_clips(hm36, 'train')
    assert [(c.name, len(c)) for c in train]==[('S1_2_1_4',2), ('S5_2_1_4',2), ('S1_3_1_4',3), ('S5_3_1_4',3)]
    assert [c.name for c in hm36_clips(hm36, 'all')[0]]==[c.name for c in train+test]
    says('split', hm36_clips, hm36, 'validation')


def test_hm36_pck_is_the_direct_formula(hm36):
    c = hm36_clips(hm36)[0][0]
    gt,g = c.joints,np.random.default_rng(2)
    pred = gt+g.normal(size=gt.shape)*60
    torso = np.hypot(*(gt[:,8]-(gt[:,2]+gt[:,3])/2).T)
    ours,counted = pck(pred, gt, c.vis, c.skel, torso=c.torso)
    assert (ours==(np.hypot(*np.moveaxis(pred-gt, -1, 0))<=.2*torso[:,None])).all() and counted.all()
    assert .1<ours.mean()<.9
    assert (ours==pck(pred, gt, c.vis, c.skel)[0]).all()


def test_hm36_hidden_joints(hm36):
    db = made_db()
    f = db[9,2,1,4][1]
    f['joints_3d_vis'][[2,8],0] = 0                      # what the torso hangs on
    f['joints_3d_vis'][5,1] = 0                          # only the first column counts
    f['joints_3d'][8,2] = np.nan                         # the third number is not used
    pickle_path(hm36).write_bytes(pickle.dumps(db))
    c = hm36_clips(hm36)[0][0]
    assert c.vis[1].tolist()==[j not in (2,8) for j in range(16)] and np.isnan(c.joints[1,[2,8]]).all()
    p = f['joints_3d'][:,:2]
    assert c.torso[1]==pytest.approx(np.linalg.norm(p[8]-(p[2]+p[3])/2)) and '2 of 80' in c.notes[0]
    f['joints_3d'][0,1] = np.nan
    pickle_path(hm36).write_bytes(pickle.dumps(db))
    says(r'\(9, 2, 1, 4\), frame 1: a visible joint', hm36_clips, hm36)


def test_hm36_absent(hm36):
    (hm36/'9_3'/'2.jpg').unlink()
    (hm36/'5_2'/'0.jpg').unlink()
    assert [c.name for c in hm36_clips(hm36)[0]]==['S11'] and hm36_clips(hm36)[1]==['S9']
    assert hm36_clips(hm36, 'train')[1]==['S5_2_1_4'] and hm36_clips(hm36, 'all')[1]==['S5_2_1_4','S9']
    (hm36/'11_2'/'0.jpg').unlink()
    assert '9_3/2.jpg' in says('none of the 2 clips', hm36_clips, hm36)
    pickle_path(hm36).unlink()
    assert 'validfull_all_w128xh128' in says('no such file', hm36_clips, hm36)


def test_hm36_paths_without_the_prefix(hm36, tmp_path):
    image(tmp_path/'elsewhere'/'1.jpg')
    db = {(9,2,1,1): [frame('9_2/0.jpg'), frame(str(tmp_path/'elsewhere'/'1.jpg'))]}
    pickle_path(hm36).write_bytes(pickle.dumps(db))
    assert len(hm36_clips(hm36)[0][0])==2


@pytest.mark.parametrize('change,what', [
    (dict(joints_3d=np.zeros((17,3))), r'joints \(17, 3\)'), (dict(joints_3d=np.zeros((16,2))), r'\(16, 2\)'),
    (dict(joints_3d_vis=np.ones(16)), r'visibility \(16,\)'), (dict(joints_3d=np.full((16,3), np.nan)), 'coordinates'),
    (dict(joints_3d='text'), 'could not convert'), (dict(joints_3d=np.full((16,3), 'a')), 'convert'),
    (dict(joints_3d=None), 'frame 1'), (dict(width=0), 'size 0x'), (dict(height=-3), '-3'), (dict(width=np.nan), 'nan'),
    (dict(width=1, height=1), 'size 1x1'), (dict(center_x=np.inf), 'box'), (dict(center_y=[1,2]), 'frame 1'),
    (dict(image=''), 'path'), (dict(image=3), 'path'), (dict(image=b'a.jpg'), 'path')])
def test_hm36_malformed_frames(tmp_path, change, what):
    p = tmp_path/'labels.pkl'
    p.write_bytes(pickle.dumps({(9,2,1,1): [frame()], (11,3,2,4): [frame(), frame(**change)]}))
    assert r'labels.pkl, video (11, 3, 2, 4), frame 1' in says(what, read_hm36_labels, p)
    p.write_bytes(pickle.dumps({(9,2,1,1): [{k:v for k,v in frame().items() if k not in change}]}))
    says(f'frame 0: has no {next(iter(change))}', read_hm36_labels, p)


@pytest.mark.parametrize('db,what', [
    ([frame()], 'no dict'), ({}, 'no dict'), ({(9,2,1): [frame()]}, 'key 0'), ({'9211': [frame()]}, 'key 0'),
    ({9: [frame()]}, 'key 0'), ({(9,2,1,1.5): [frame()]}, 'key 0'), ({(9,2,1,'1'): [frame()]}, 'key 0'),
    ({(9,2,1,1): []}, 'empty'), ({(9,2,1,1): frame()}, 'not a list'), ({(9,2,1,1): [[1]]}, 'frame 0: is not a dict')])
def test_hm36_malformed_structure(tmp_path, db, what):
    (tmp_path/'x.pkl').write_bytes(pickle.dumps(db))
    assert 'x.pkl' in says(what, read_hm36_labels, tmp_path/'x.pkl')


@pytest.mark.parametrize('protocol', range(6))
def test_hm36_numpy_in_every_protocol(tmp_path, protocol):
    f = frame()
    f |= dict(center_x=np.float64(f['center_x']), width=np.float32(120), height=np.int16(90), image=np.str_('a/b.jpg'),
              joints_3d=np.asfortranarray(f['joints_3d'].astype('>f4')), joints_3d_vis=np.ones((16,3), np.uint8))
    (tmp_path/'x.pkl').write_bytes(pickle.dumps({(np.int64(9),2,1,1): [f]}, protocol))
    (key,v), = read_hm36_labels(tmp_path/'x.pkl').items()
    assert key==(9,2,1,1) and all(type(k) is int for k in key) and v['images']==['a/b.jpg']
    assert (v['joints'][0]==f['joints_3d'][:,:2].astype(float)).all() and v['joints'].dtype==float and v['vis'].all()
    centre,scale = box_to_center_scale(v['boxes'][0])
    assert centre==pytest.approx([f['center_x'], f['center_y']+15*.6]) and scale==pytest.approx(1.25*.6)
    v['joints'][0,0] = 1                                 # belongs to the caller


# Python 2's cPickle, protocol 2: byte strings as text, __builtin__-era names, raw array bytes as a string

def py2_str(s): return b'U'+bytes([len(s)])+s if len(s)<256 else b'T'+struct.pack('<i', len(s))+s
def py2_int(i): return b'K'+bytes([i]) if 0<=i<256 else b'J'+struct.pack('<i', i)
def py2_float(x): return b'G'+struct.pack('>d', x)

def py2_array(a):
    a = np.ascontiguousarray(a, '<f8')
    dtype = (b'cnumpy\ndtype\n' + py2_str(b'f8') + py2_int(0) + py2_int(1) + b'\x87R(' + py2_int(3) + py2_str(b'<') +
             b'NNN' + py2_int(-1) + py2_int(-1) + py2_int(0) + b'tb')
    return (b'cnumpy.core.multiarray\n_reconstruct\n' + b'cnumpy\nndarray\n' + py2_int(0) + b'\x85' + py2_str(b'b') +
            b'\x87R(' + py2_int(1) + py2_int(a.shape[0]) + py2_int(a.shape[1]) + b'\x86' + dtype + b'\x89' +
            py2_str(a.tobytes()) + b'tb')

def py2_record(f):
    body = b''.join(py2_str(k.encode()) + (py2_str(v.encode()) if isinstance(v, str) else
                    py2_array(v) if isinstance(v, np.ndarray) else py2_float(v)) for k,v in f.items())
    return b'}(' + body + b'u'

def test_hm36_written_by_python_2(hm36):
    db = {k:v for k,v in made_db().items() if k[0]==9}
    data = b'\x80\x02}(' + b''.join(b'('+b''.join(map(py2_int, k))+b't](' + b''.join(map(py2_record, v))+b'e'
                                    for k,v in db.items()) + b'u.'
    with pytest.raises(UnicodeDecodeError): pickle.loads(data)          # it is Python 2's: not readable as it is
    ops = [o.name for o,_,_ in pickletools.genops(data)]
    assert 'BINSTRING' in ops and 'SHORT_BINSTRING' in ops
    pickle_path(hm36).write_bytes(data)
    (c,),_ = hm36_clips(hm36)
    records = [f for v in db.values() for f in v]
    assert len(c)==5 and all((j==f['joints_3d'][:,:2]).all() for j,f in zip(c.joints, records))


def test_hm36_a_real_protocol_2_pickle_spells_bytes_as_text(tmp_path):
    data = pickle.dumps({(9,2,1,1): [frame()]}, protocol=2)
    assert b'_codecs\nencode' in data
    (tmp_path/'x.pkl').write_bytes(data.replace(b'numpy._core.multiarray', b'numpy.core.multiarray'))
    assert read_hm36_labels(tmp_path/'x.pkl')[9,2,1,1]['joints'][0].tolist()==frame()['joints_3d'][:,:2].tolist()


# --- hostile pickles

class Calls:
    "Pickles as a call."
    def __init__(self, f, *args): self.call = f,args
    def __reduce__(self): return self.call


class Thing:
    "An object of a class of ours."
    def __init__(self): self.a = 1


def hostile(marker):
    "Payloads that would create `marker`, and some that would only make an object."
    touch = f"open({str(marker)!r}, 'w').close()"
    shell = Calls(os.system, f'touch {marker}')
    yield 'system',shell
    yield 'eval',Calls(builtins.eval, touch)
    yield 'exec',Calls(builtins.exec, touch)
    yield 'open',Calls(builtins.open, str(marker), 'w')
    yield 'getattr',Calls(builtins.getattr, shell, 'x')
    yield 'Thing',Thing()
    yield 'loads',Calls(pickle.loads, pickle.dumps(shell))
    yield 'system',np.array([shell, None], object)
    yield 'system',np.array([[shell]]*3, object).reshape(3,1)
    yield 'numpy.load',Calls(np.load, str(marker), 'r', True)
    yield 'record',np.rec.array([(1,2.)], dtype='i4,f8')[0]
    yield 'bytearray|system',Calls(bytearray, 3)


def places(bad):
    "A label dict with the payload in each place where something is expected."
    yield bad
    yield {(9,2,1,1): bad}
    yield {(9,2,1,1): [bad]}
    yield {(9,2,1,1): [frame(), frame(extra=bad)]}
    for k in frame(): yield {(9,2,1,1): [frame(**{k:bad})]}
    yield [{(9,2,1,1): [frame()]}, bad]


@pytest.mark.parametrize('protocol', (0, 2, 4, 5))
def test_a_hostile_pickle_is_named_and_nothing_runs(tmp_path, protocol):
    p,marker,seen = tmp_path/'x.pkl',tmp_path/'marker',set()
    for what,bad in hostile(marker):
        for db in places(bad):
            p.write_bytes(pickle.dumps(db, protocol))
            seen.add(says('x.pkl: it asks for .* nothing was run', read_hm36_labels, p).split("'")[1])
            assert not marker.exists(), what
    assert {'builtins.eval','builtins.exec'}<={n.replace('__builtin__', 'builtins') for n in seen}
    assert any(n.endswith('.system') for n in seen) and any(n.endswith(('Thing','_reconstructor')) for n in seen)


def test_the_payloads_are_real(tmp_path):
    for k,(what,bad) in enumerate(hostile(tmp_path/'marker')):
        if what in ('system','eval','exec','open','loads'):
            pickle.loads(pickle.dumps(bad))
            assert (tmp_path/'marker').exists(), what
            (tmp_path/'marker').unlink()


def raw(*ops): return b'\x80\x04'+b''.join(ops)+b'.'
def name(module, n): return f'c{module}\n{n}\n'.encode()
def text(s): return b'X'+struct.pack('<I', len(s))+s.encode()

RECONSTRUCT = name('numpy.core.multiarray', '_reconstruct')+name('numpy', 'ndarray')+b'K\x00\x85C\x01b\x87R'
SCALAR = name('numpy.core.multiarray', 'scalar')

def DTYPE(code, order='<'):
    return (name('numpy', 'dtype')+text(code)+b'\x89\x88\x87R(K\x03'+text(order)+b'NNNK\x08K\x08K\x00tb')

def ARRAY(dtype, shape, data): return RECONSTRUCT+b'(K\x01'+shape+dtype+b'\x89'+data+b'tb'

ONE,A8 = b'K\x01\x85',b'C\x08'+b'A'*8                  # shape (1,), eight bytes
BUFFER = name('numpy._core.numeric', '_frombuffer')
NO_NUMBERS = [
    ARRAY(DTYPE('O8'), ONE, b'](Ne'), ARRAY(DTYPE('O8'), ONE, A8), ARRAY(DTYPE('f8', 'O,<'), ONE, b'C\x10'+b'A'*16),
    ARRAY(DTYPE('f8,O'), ONE, b'C\x10'+b'A'*16), ARRAY(DTYPE('V8'), ONE, A8), ARRAY(DTYPE('M8'), ONE, A8),
    ARRAY(b'N', ONE, A8), SCALAR+DTYPE('O8')+A8+b'\x86R', BUFFER+b'('+A8+DTYPE('O8')+ONE+text('C')+b'tR']
BROKEN = [
    ARRAY(DTYPE('f8'), b'K\x09K\x09\x86', A8), ARRAY(DTYPE('f8'), ONE, b'C\x07'+b'A'*7),
    ARRAY(DTYPE('f3'), ONE, b'C\x03AAA'), ARRAY(DTYPE('f8'), ONE, b'K\x05'),
    ARRAY(name('numpy', 'dtype')+text('f8')+b'\x85R', ONE, A8),
    RECONSTRUCT, RECONSTRUCT+b'K\x05b', RECONSTRUCT+b'(K\x01tb', SCALAR+DTYPE('f8')+b'\x85R', SCALAR+b')R',
    name('_codecs', 'encode')+b'K\x01\x85R', name('_codecs', 'encode')+b')R',
    RECONSTRUCT+b'\x94(K\x01K\x01\x85'+DTYPE('f8')+b'\x89h\x00tb']     # its bytes are the array itself
ODD = [DTYPE('f8'), name('numpy', 'ndarray'), name('_codecs', 'encode')+text('a')+text('rot13')+b'\x86R']


@pytest.mark.parametrize('array', NO_NUMBERS+BROKEN)
def test_arrays_that_are_none(tmp_path, array):
    p = tmp_path/'x.pkl'
    p.write_bytes(raw(array))
    what = 'not of numbers' if array in NO_NUMBERS else ''
    with pytest.raises(Exception, match=what or None): datasets._plain(datasets._unpickle(p))
    p.write_bytes(raw(ARRAY(DTYPE('f8'), ONE, A8)))                    # the same spelling, and right
    assert datasets._plain(datasets._unpickle(p)).tolist()==np.frombuffer(b'A'*8).tolist()


@pytest.mark.parametrize('array', NO_NUMBERS+BROKEN+ODD)
def test_where_an_array_that_is_none_stands(tmp_path, array):
    p = tmp_path/'x.pkl'
    key,rest = b'(K\x09K\x02K\x01K\x01t',set(frame())-{'joints_3d'}
    record = b'}('+text('joints_3d')+array+b''.join(text(k)+b'K\x05' for k in rest)+b'u'
    p.write_bytes(raw(b'}(', key, b'](', record, b'eu'))
    assert 'x.pkl' in says(r'video \(9, 2, 1, 1\), frame 0', read_hm36_labels, p)
    p.write_bytes(raw(b'}(', b'(', array, b'K\x02K\x01K\x01t](Neu'))    # as a part of a key
    says('key 0', read_hm36_labels, p)


@pytest.mark.parametrize('data', [
    b'', b'half', pickle.dumps({(9,2,1,1): [frame()]})[:-40], b'\x80\x04}', raw(text('id'), b'Q'), raw(b'Ppid\n'),
    raw(b'\x82\x01'), raw(name('numpy', 'ndarray'), b'N}', text('__setstate__'), b'Ns\x86b'),
    raw(name('numpy', 'dtype'), b'}', text('x'), b'Nsb'), raw(b')', b'}', text('x'), b'Nsb'),
    raw(name('numpy', 'dtype'), b')}', text('a'), b'Ns\x92'), b'\x80\x05\x97.', raw(name('numpy', 'dtype'), b'Na')])
def test_broken_and_odd_pickles(tmp_path, data):
    (tmp_path/'x.pkl').write_bytes(data)
    known = {k:dict(vars(v)) for k,v in datasets._NAMES.items()}
    assert 'x.pkl' in says('not a readable pickle|asks for', read_hm36_labels, tmp_path/'x.pkl')
    assert {k:dict(vars(v)) for k,v in datasets._NAMES.items()}==known       # our own classes are as they were


def test_tuples_that_stand_for_a_billion(tmp_path):
    "Nine references to nine references ...: in a frame's record they were once written out."
    bomb = ('x',)*9
    for _ in range(11): bomb = (bomb,)*9
    for key in frame():
        (tmp_path/'x.pkl').write_bytes(pickle.dumps({(9,2,1,1): [frame(**{key:bomb})]}))
        says('frame 0', read_hm36_labels, tmp_path/'x.pkl')
    (tmp_path/'x.pkl').write_bytes(pickle.dumps(bomb))
    says('no dict', read_hm36_labels, tmp_path/'x.pkl')


@pytest.mark.parametrize('module,n', [
    ('os','system'), ('builtins','eval'), ('numpy','load'), ('numpy.core.multiarray','fromfile'),
    ('numpy','_reconstruct'), ('numpy.core.multiarray','_reconstruct.__globals__'), ('numpy','ndarray.tofile'),
    ('_codecs','open'), ('codecs','encode'),
    ('_codecs','encode.__self__'), ('ttp_nb.datasets','Clip'), ('numpy.core.multiarray ','scalar')])
def test_names_are_matched_whole(tmp_path, module, n):
    for data in (raw(name(module, n), b')R'), raw(text(module), text(n), b'\x93', b')R')):
        (tmp_path/'x.pkl').write_bytes(data)
        says(f"asks for '{module}.{n}'", read_hm36_labels, tmp_path/'x.pkl')


def test_no_numpy_function_is_handed_out():
    assert all(issubclass(c, datasets._Record) and not hasattr(c('x'), '__dict__') for c in datasets._NAMES.values())


def test_natural_order():
    assert sorted(['a10/b2', 'a9/b10', 'a9/b9', 'B1', '7'], key=natural)==['7', 'a9/b9', 'a9/b10', 'a10/b2', 'B1']


# --- images that cannot be read

def test_a_broken_image_is_named(hm36):
    (hm36/'9_2'/'1.jpg').write_bytes(b'no image')
    c = hm36_clips(hm36)[0][0]
    assert c.frames[0].shape==(50,50,3)
    says('9_2/1.jpg', lambda: c.frames[1])
    with pytest.raises(IndexError): c.frames[5]
    assert [f.shape for f in c.frames[3:]]==[(52,50,3)]*2 and len(pickle.loads(pickle.dumps(c.frames)))==5


# --- DeepLabCut

NAMES = ('nose','paw','tail')

def labels(T=12, seed=0): return np.random.default_rng(seed).uniform(5, 40, (T,3,2)).round(3)

def dlc(path, kps, folder='labeled-data/a', split=False, names=NAMES, first=0, pictures=None, likelihood=False):
    "A table of (T,J,2) labels; images named t.png, or none; `split`: three columns name the image."
    xy = ['x','y','likelihood'] if likelihood else ['x','y']
    n = 3 if split else 1
    rows = [[k, *['']*(n-1), *v] for k,v in (('scorer', ['me']*len(xy)*len(names)),
                                             ('bodyparts', [p for p in names for _ in xy]), ('coords', xy*len(names)))]
    for t,kp in enumerate(kps, first):
        image_name = f'{folder}/{t}.png'.lstrip('/')
        values = ['' if np.isnan(v) else v for j in kp for v in (*j, *([.9] if likelihood else []))]
        rows.append([*(image_name.split('/') if split else [image_name]), *values])
        if pictures: image(Path(pictures)/image_name, value=t)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as f: csv.writer(f).writerows(rows)
    return path


def test_dlc_plain(tmp_path):
    kps = labels()
    kps[3] = np.nan; kps[5,1] = np.nan
    dlc(tmp_path/'CollectedData_me.csv', kps, pictures=tmp_path)
    (c,),absent = dlc_clips(tmp_path, 'all')
    assert c.name=='a' and absent==[] and np.array_equal(c.joints, kps, equal_nan=True)
    assert (c.vis==~np.isnan(kps).any(2)).all() and c.skel==Skeleton('labels', NAMES) and c.size==(64,48)
    assert (c.boxes==[0,0,63,47]).all() and c.notes==('4 of 36 joints not visible: no coordinates',)
    extents = [*np.ptp(np.delete(kps, [3,5], 0), axis=1).max(1), np.ptp(kps[5][[0,2]], axis=0).max()]
    assert c.torso==pytest.approx(np.full(12, np.median(extents)/4))
    assert [int(c.frames[t].mean()) for t in (2,10)]==[2,10]
    test,train = (dlc_clips(tmp_path, s)[0][0] for s in ('test','train'))
    assert [p.name for p in image_paths(test.frames)]==['4.png','9.png']
    assert len(train)==10 and test.name==train.name=='a'
    assert (test.torso==c.torso[0]).all() and (train.torso==c.torso[0]).all()
    assert np.array_equal(train.joints, np.delete(kps, [4,9], 0), equal_nan=True)
    assert len(dlc_clips(tmp_path)[0][0])==2
    assert len(dlc_clips(tmp_path/'CollectedData_me.csv', 'train')[0][0])==10
    says("split must be 'test'", dlc_clips, tmp_path, 'valid')


def test_dlc_project_of_several_videos(tmp_path):
    for v,T,split in (('b', 6, True), ('a', 3, True)):
        dlc(tmp_path/'labeled-data'/v/'CollectedData_me.csv', labels(T), f'labeled-data/{v}', split, pictures=tmp_path)
    clips,_ = dlc_clips(tmp_path, 'all')
    assert [(c.name, len(c)) for c in clips]==[('a', 3), ('b', 6)]
    assert [(c.name, len(c)) for c in dlc_clips(tmp_path)[0]]==[('b', 1)]
    assert [(c.name, len(c)) for c in dlc_clips(tmp_path, 'train')[0]]==[('a', 3), ('b', 5)]
    (one,),_ = dlc_clips(tmp_path/'labeled-data'/'b'/'CollectedData_me.csv', 'all')   # paths start two folders above
    assert one.name=='b' and len(one)==6
    dlc(tmp_path/'labeled-data'/'c'/'CollectedData_me.csv', labels(2), 'labeled-data/c', names=('nose','tail','paw'))
    assert 'other parts' in says('c/CollectedData_me.csv', dlc_clips, tmp_path, 'all')
    dlc(tmp_path/'labeled-data'/'c'/'CollectedData_me.csv', labels(2), 'labeled-data/a')
    says('0.png is labelled in another table too', dlc_clips, tmp_path, 'all')


def test_dlc_too_few_to_test_on(tmp_path):
    dlc(tmp_path/'CollectedData.csv', labels(4), pictures=tmp_path)
    says('no folder has five labelled frames', dlc_clips, tmp_path)
    assert len(dlc_clips(tmp_path, 'train')[0][0])==4


def test_dlc_parts_of_your_own(tmp_path):
    dlc(tmp_path/'train.csv', labels(7), 'x', pictures=tmp_path)
    dlc(tmp_path/'test.csv', labels(2), 'y', pictures=tmp_path)
    dlc(tmp_path/'CollectedData.csv', labels(3), 'z', pictures=tmp_path)                 # does not count then
    names = {s:[(c.name, len(c)) for c in dlc_clips(tmp_path, s)[0]] for s in ('train','test','all')}
    assert names==dict(train=[('x',7)], test=[('y',2)], all=[('x',7),('y',2)])
    (tmp_path/'test.csv').unlink()
    says('test.csv: cannot be read', dlc_clips, tmp_path)


def test_dlc_images_moved_or_absent(tmp_path):
    p = dlc(tmp_path/'CollectedData.csv', labels(6), pictures=tmp_path)
    (tmp_path/'labeled-data'/'a'/'2.png').unlink()
    (c,),_ = dlc_clips(tmp_path, 'all')
    assert len(c)==5 and c.notes==('1 of 6 labelled images are not there (labeled-data/a/2.png, ...): left out',)
    image(tmp_path/'labeled-data'/'a'/'2.png')
    (tmp_path/'labeled-data'/'a').rename(tmp_path/'frames')
    assert len(dlc_clips(tmp_path, 'all')[0][0])==6
    shutil.copytree(tmp_path/'frames', tmp_path/'more')                                  # which folder is meant?
    assert 'labeled-data/a/0.png' in says('not one of its images', dlc_clips, p)
    (tmp_path/'more'/'3.png').unlink()
    assert {f.parent.name for f in image_paths(dlc_clips(tmp_path, 'all')[0][0].frames)}=={'frames'}
    (tmp_path/'frames'/'3.png').unlink()
    says('not one of its images', dlc_clips, p)


def test_dlc_images_of_another_folder_are_not_taken(tmp_path):
    for v in 'ab':
        dlc(tmp_path/'labeled-data'/v/'CollectedData_me.csv', labels(5), f'labeled-data/{v}', pictures=tmp_path)
    for f in (tmp_path/'labeled-data'/'b').glob('*.png'): f.unlink()
    clips,absent = dlc_clips(tmp_path, 'all')
    assert [c.name for c in clips]==['a'] and absent==['b']
    a,b = ((tmp_path/'labeled-data'/v/'CollectedData_me.csv').read_text().splitlines(True) for v in 'ab')
    (tmp_path/'CollectedData.csv').write_text(''.join(a+b[3:]))                            # one table of both
    clips,absent = dlc_clips(tmp_path, 'all')
    assert [c.name for c in clips]==['a'] and absent==['b']


def test_dlc_skeleton_and_boxes(tmp_path):
    kps = labels()
    kps[2,:2] = np.nan
    dlc(tmp_path/'CollectedData.csv', kps, pictures=tmp_path)
    write_skeleton(Skeleton('two', ['tail', 'nose'], torso=[[0], [1]]), tmp_path/'skeleton.yaml')
    (c,),_ = dlc_clips(tmp_path, 'all', margin=.25)
    assert c.skel.name=='two' and c.torso is None and np.array_equal(c.joints, kps[:,[2,0]], equal_nan=True)
    lo,hi = c.joints[0].min(0),c.joints[0].max(0)
    m = .25*(hi-lo).max()
    assert c.boxes[0]==pytest.approx([*(lo-m), *(hi+m)]) and (c.boxes[2]==c.boxes[1]).all() and len(c.notes)==2
    write_skeleton(Skeleton('one', ['tail']), tmp_path/'skeleton.yaml')
    says('no frame has two joints', dlc_clips, tmp_path, 'all', .25)
    assert (dlc_clips(tmp_path, 'all')[0][0].torso==63/4).all()
    write_skeleton(Skeleton('x', ['tail', 'ear']), tmp_path/'skeleton.yaml')
    says("skeleton.yaml: the labels have no joint 'ear'", dlc_clips, tmp_path)


def test_dlc_frames_of_several_sizes(tmp_path):
    dlc(tmp_path/'CollectedData.csv', labels(5), pictures=tmp_path)
    image(tmp_path/'labeled-data'/'a'/'3.png', (80,30))
    (tmp_path/'labeled-data'/'a'/'4.png').write_bytes(b'no image')
    says('4.png', dlc_clips, tmp_path, 'all')
    image(tmp_path/'labeled-data'/'a'/'4.png')
    assert dlc_clips(tmp_path, 'all')[0][0].boxes[3].tolist()==[0,0,79,29]


HEAD = 'scorer,me,me\nbodyparts,nose,nose\ncoords,x,y\n'

@pytest.mark.parametrize('text,what', [
    ('', 'not a table'), ('a,b\n1,2', 'not a table'), (HEAD.replace(',', '|'), 'not a table'), (HEAD.replace(',',
        ';'), 'labels no image'),
    ('scorer,me,me\nbodyparts,nose\ncoords,x,y', 'not a table'), (HEAD.replace('coords', 'coord'), 'not a table'),
    (HEAD, 'labels no image'), (HEAD+'\n\n,,\n', 'labels no image'), (HEAD+',1,2', 'line 4: 3 fields'),
    (HEAD+'a.png,1', 'line 4: 2 fields, 3'), (HEAD+'a.png,1,2,3', 'line 4: 4 fields'),
    (HEAD+'a.png,1,2\n\nb.png,1,two', "line 6: .*'two'"), (HEAD+'a.png,1,', 'line 4: nose has half'),
    (HEAD+'a.png,inf,inf', 'half a position'), (HEAD+'a.png,nan,2', 'half'),
    (HEAD+'a.png,1,2\na.png,1,2', 'line 5.*twice'),
    (HEAD.replace('x,y', 'x,x')+'a.png,1,2', "column 3 is 'x' of 'nose'"),
    (HEAD.replace('x,y', 'x,z'), "'z' of 'nose'"),
    (HEAD.replace('nose,nose', 'nose,tail'), 'nose has x alone'),
    (HEAD.replace('x,y', 'x,likelihood'), 'predictions'),
    ('scorer,m,m,m,m\nindividuals,a,a,b,b\nbodyparts,n,n,n,n\ncoords,x,y,x,y\n', r'several animals \(a, b\)'),
    (b'\xff\xfe\x00', 'cannot be read as text'), (b'\xe4', 'cannot be read as text'),
    (HEAD+'a'*200000+',1,2', 'not a readable csv'), (HEAD+'"a.png,1,2', 'fields'),
])
def test_dlc_wrong_tables(text, what, tmp_path):
    p = tmp_path/'CollectedData.csv'
    p.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert str(p) in says(what, dlc_clips, tmp_path, 'all')


def test_dlc_tables_that_are_fine(tmp_path):
    p = tmp_path/'t.csv'
    kp = lambda text: _dlc_labels(p)[1] if p.write_text(text, encoding='utf-8') else None
    assert kp('\ufeff'+HEAD+'a\\b.png, 1 ,2e0\n')['a/b.png'].tolist()==[[1,2]]
    assert np.isnan(kp(HEAD+'a.png,NaN,nan\n')['a.png']).all()
    one = 'scorer,m,m,m,m\nindividuals,a,a,a,a\nbodyparts,n,t,n,t\ncoords,y,x,x,y\n'    # any order of columns
    assert kp(one+'a.png,1,2,3,4\n')['a.png'].tolist()==[[3,1],[2,4]]


def test_dlc_tables_as_excel_saves_them(tmp_path):
    p = tmp_path/'t.csv'
    def kp(text, code='utf-8'):
        p.write_bytes(text.encode(code))
        return _dlc_labels(p)[1]['a/b.png'].tolist()
    semicolons = HEAD.replace(',', ';')+'a\\b.png;1,5;-,25e1\n'
    assert kp(semicolons)==kp(semicolons, 'utf-8-sig')==kp(semicolons.replace('\n', '\r\n'))==[[1.5,-2.5]]
    assert kp(semicolons.replace(',', '.'))==[[1.5,-2.5]]
    assert kp((HEAD+'a/b.png,1.5,-2.5\n').replace(',', '\t'), 'utf-16')==[[1.5,-2.5]]
    empty = (HEAD+'a/b.png,1.5,-2.5\n').replace('\n', ',,,\n')+',,,,,\n'
    assert kp(empty)==[[1.5,-2.5]]
    assert kp(empty.replace(',', ';'))==[[1.5,-2.5]]
    assert kp('scorer,me,,me\nbodyparts,nose,,nose\ncoords,x,,y\na/b.png,1.5,,-2.5')==[[1.5,-2.5]]
    assert kp(HEAD+'a/b.png, 1.5 ,-2.5,\n')==[[1.5,-2.5]]
    says("column 4 is '' of ''", kp, HEAD.replace('\n',
        ',\n')+'a/b.png,1,2,blurred\n')     # what is there is not dropped


def test_dlc_unique_parts(tmp_path):
    head = 'scorer,m,m,m,m,m,m\nindividuals,{0},{0},{0},{0},single,single\n'
    head += 'bodyparts,n,n,t,t,corner,corner\ncoords,x,y,x,y,x,y\n'
    p = tmp_path/'CollectedData.csv'
    p.write_text(head.format('person1')+'a/0.png,1,2,3,4,5,5\n')
    image(tmp_path/'a'/'0.png')
    (c,),_ = dlc_clips(tmp_path, 'all')
    assert c.skel.joints==('n','t') and c.joints.tolist()==[[[1,2],[3,4]]]
    assert c.notes==('1 unique parts left out, which belong to no animal (corner)',)
    p.write_text(head.format('single')+'a/0.png,1,2,3,4,5,5\n')                    # all belong together then
    (c,),_ = dlc_clips(tmp_path, 'all')
    assert c.skel.joints==('n','t','corner') and c.notes==()
    p.write_text(head.format('person1').replace('m,m,m\nind', 'm,m,n\nind')+'a/0.png,1,2,3,4,,\n')
    assert len(dlc_clips(tmp_path, 'all')[0][0].skel)==2


def test_dlc_visible(tmp_path):
    p = tmp_path/'t.csv'
    head = 'scorer,m,m,m,m,m,m\nbodyparts,n,n,n,t,t,t\ncoords,x,y,visible,x,y,visible\n'
    p.write_text(head+'a,1,2,2,3,4,1\nb,1,2,0,,,0\nc,,,1,3,4,\nd,1,2,2.0,3,4,2\n')
    names,kp,notes = _dlc_labels(p)
    assert names==['n','t'] and notes==[] and kp['a'].tolist()==kp['d'].tolist()==[[1,2],[3,4]]
    assert np.isnan(kp['b']).all() and np.isnan(kp['c'][0]).all() and kp['c'][1].tolist()==[3,4]
    p.write_text(head.replace('x,y,visible,x,y', 'x,y,visible,x,visible')+'a,1,2,2,3,4,1\n')
    says("'visible' of 't'", _dlc_labels, p)


def test_dlc_paths_of_another_computer(tmp_path):
    for before in ('C:\\Users\\me\\mice\\', '/home/me/mice/', '../../mice/'):
        for v in 'ab':
            table = dlc(tmp_path/'labeled-data'/v/'CollectedData_me.csv', labels(5), f'labeled-data/{v}',
                pictures=tmp_path)
            table.write_text('\n'.join(before+line if line.startswith('labeled') else line
                                       for line in table.read_text().split('\n')))
        clips,absent = dlc_clips(tmp_path, 'all')
        assert [(c.name,len(c)) for c in clips]==[('a',5),('b',5)] and absent==[]


def test_where_images_are_looked_for(tmp_path):
    for f in ('a/1.png', 'a/2.png', 'b/1.png'): image(tmp_path/f)
    def at(*names): return [os.path.relpath(f, tmp_path) for f in located(map(slashed, names), [tmp_path]).values()]
    assert at('a/1.png', 'b/1.png')==at('x/a/1.png', 'x/b/1.png')==at('x\\a\\1.png', 'x\\b\\1.png')==['a/1.png',
        'b/1.png']
    assert at('x/a/1.png', 'y/2.png')==['a/1.png', '2.png']           # as many as can be
    assert at('1.png')==at()==[] and at('a//1.png')==['a/1.png']
    assert slashed(' C:\\a\\b.png')=='C:/a/b.png' and slashed('/data/local-files/?d=x/b.png')=='x/b.png'


CASES = Path(os.environ.get('TTP_CASES', Path(__file__).parents[2]/'shared'/'cases'))

@pytest.mark.skipif(not CASES.is_dir(), reason='the handed cases are not here')
@pytest.mark.parametrize('case,notes', [
    ('16-dlc-unique-bodyparts', ('1 unique parts left out, which belong to no animal (corner)',)),
    ('19-lightning-pose-visible', ())])
def test_dlc_handed_cases(case, notes):
    (c,),absent = dlc_clips(CASES/case, 'all')
    assert len(c)>=20 and absent==[] and c.skel.joints==('snout','leftear','rightear','tailbase')
    assert tuple(note for note in c.notes if 'unique' in note)==notes and c.joints[0,0].tolist()==[21.764,30.4]


def test_dlc_nothing_there(tmp_path):
    says('no labels here', dlc_clips, tmp_path)
    says('no labels here', dlc_clips, tmp_path/'none')


def test_frames_apart_keeps_all_once():
    files = [Path(f'{t}.png') for t in range(7)]
    boxes,skel = np.tile([0,0,9,9.], (7,1)),Skeleton('s', NAMES)
    c = Clip('c', image_frames(files), boxes, labels(7), skel=skel, notes=('n',))
    for n,kept in ((2, [1,3,5]), (3, [2,5]), (7, [6])):
        some,others = frames_apart(c, n)
        paths = image_paths(some.frames)
        assert [files.index(p) for p in paths]==kept and some.name==others.name=='c' and some.notes==('n',)
        assert sorted(paths+image_paths(others.frames))==files and (some.joints==c.joints[kept]).all()
    assert frames_apart(c, 8)[0] is None and image_paths(frames_apart(c[:0+1], 8)[1].frames)==files[:1]


MICE = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))/'animals_mirror_mouse'

@pytest.mark.skipif(not MICE.is_dir(), reason='needs animals_mirror_mouse in TTP_REAL')
def test_dlc_real_mouse():
    (c,),absent = dlc_clips(MICE, 'all')
    assert len(c)==90 and len(c.skel)==17 and c.size==(396,406) and absent==[]
    assert c.vis.mean()==pytest.approx(.912, abs=.001)
    assert c.joints[0,0].tolist()==[77.25,36.25] and not c.vis[0,4] and (c.boxes==[0,0,395,405]).all()
    assert [len(dlc_clips(MICE, s)[0][0]) for s in ('train','test')]==[72,18]
    inside = (c.joints>=-.5)&(c.joints<=np.array(c.size)-.5)
    assert inside[c.vis].mean()>.99
