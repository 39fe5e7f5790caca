"""JHMDB, LSP, LSPET and COCO in their published layouts: tiny files, broken files, and the real ones where they are."""
import os, zlib
from pathlib import Path
import av, cv2, numpy as np, pytest
from scipy.io import savemat
from test_coco import person, photos, write_coco
from ttp_nb.basics import TTPError
from ttp_nb.skeletons import BBC7, COCO17, JHMDB15, LSP14, PENN13, PEOPLE18, Skeleton
from ttp_nb.metrics import pck, torso_size
from ttp_nb.clips import Clip, in_memory
from ttp_nb.video import open_frames
from ttp_nb.penn import write_penn
from ttp_nb.real_data import jhmdb_clips, lsp_clips, read_clips, video_source, with_joints_of

REAL = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))
needs_jhmdb = pytest.mark.skipif(not (REAL/'JHMDB').exists(), reason='JHMDB is not here')
needs_coco = pytest.mark.skipif(not (REAL/'coco_persons').exists(), reason='coco_persons are not here')


def says(what, f, *args, **kw):
    "The message of the TTPError that this call must raise: one line."
    with pytest.raises(TTPError, match=what) as e: f(*args, **kw)
    assert '\n' not in str(e.value)
    return str(e.value)


# --- JHMDB

def write_avi(path, T, empty=()):
    "T frames of brightness 10+t, MPEG-4 at 30 slots a second; the slots `empty` hold no frame."
    path.parent.mkdir(parents=True, exist_ok=True)
    slots = [i for i in range(T+len(empty)) if i not in empty]
    with av.open(str(path), 'w') as c:
        s = c.add_stream('mpeg4', rate=30)
        s.width,s.height,s.pix_fmt = 64,48,'yuv420p'
        for t,slot in enumerate(slots):
            f = av.VideoFrame.from_ndarray(np.full((48,64,3), 10+5*t, np.uint8), format='rgb24')
            f.pts = slot
            for p in s.encode(f): c.mux(p)
        for p in s.encode(): c.mux(p)


def joints_of(T, seed=0): return np.random.default_rng(seed).uniform(5, 40, (T,15,2)).round(2)


def write_video(root, video, action, part=1, T=4, joints=4, frames='avi', line=True):
    "A video of JHMDB: its frames, its joints (of so many frames, or none), its line in the split file."
    (root/'splits').mkdir(parents=True, exist_ok=True)
    if line:
        with open(root/'splits'/f'{action}_test_split1.txt', 'a') as f: f.write(f'{video}.avi {part}\n')
    if frames=='avi': write_avi(root/'ReCompress_Videos'/action/f'{video}.avi', T)
    elif frames:
        folder = root/'Rename_Images'/action/video
        folder.mkdir(parents=True)
        for t in range(T): cv2.imwrite(str(folder/f'{t+1:05d}.png'), np.full((48,64,3), 200+t, np.uint8))
    if joints:
        folder = root/'joint_positions'/action/video
        folder.mkdir(parents=True)
        savemat(folder/'joint_positions.mat', dict(pos_img=joints_of(joints).transpose(2,1,0)+1))


@pytest.fixture
def jhmdb(tmp_path):
    "Ten shows of two actions, one clip each to train on; two clips to test on, one of them without joints."
    for i in range(10): write_video(tmp_path, f'Show{i}_run_f_0', 'run')
    write_video(tmp_path, 'Show3_climb_stairs_f_0', 'climb_stairs', frames='png')
    write_video(tmp_path, 'Other_run_f_0', 'run', part=2)
    write_video(tmp_path, 'Other_run_f_1', 'run', part=2, joints=0)
    return tmp_path


def test_jhmdb_reads_frames_and_joints(jhmdb):
    (c,),left = jhmdb_clips(jhmdb)
    assert (c.name,c.action,len(c),c.skel,c.size,c.torso,c.notes)==('Other_run_f_0','run',4,JHMDB15,(64,48),None,())
    assert left==['Other_run_f_1']
    assert np.allclose(c.joints, joints_of(4), atol=1e-12) and c.vis.all()
    low,high = c.joints.min(1),c.joints.max(1)
    border = .1*(high-low).max(1, keepdims=True)
    assert np.allclose(c.boxes, np.concatenate([low-border, high+border], 1))
    assert [abs(int(c.frames[t].mean())-10-5*t)<=3 for t in range(4)]==[True]*4
    middle = lambda i,j: (c.joints[:,i]+c.joints[:,j])/2
    assert np.allclose(torso_size(c.joints, c.skel), np.linalg.norm(middle(3,4)-middle(5,6), axis=1))


def test_jhmdb_splits_are_by_source(jhmdb):
    names = {s:[c.name for c in jhmdb_clips(jhmdb, s)[0]] for s in ('train','valid','test','all')}
    held = lambda name: zlib.crc32(name.split('_')[0].encode())%6==0
    train = ['Show3_climb_stairs_f_0', *(f'Show{i}_run_f_0' for i in range(10))]
    assert any(map(held, train)) and not all(map(held, train))
    assert names['valid']==[n for n in train if held(n)] and names['train']==[n for n in train if not held(n)]
    assert names['all']==[*train, 'Other_run_f_0']
    says("'train', 'valid', 'test' or 'all'", jhmdb_clips, jhmdb, 'val')
    assert video_source('How_to_pour_beer_pour_u_nm_0', 'pour')=='How_to_pour_beer'
    assert video_source('nothing_of_it', 'pour')=='nothing_of_it'


def test_jhmdb_images_come_before_the_video(jhmdb):
    c = next(c for c in jhmdb_clips(jhmdb, 'all')[0] if c.action=='climb_stairs')
    assert c.frames[1].mean()==201
    write_avi(jhmdb/'ReCompress_Videos'/'climb_stairs'/'Show3_climb_stairs_f_0.avi', 4)
    c = next(c for c in jhmdb_clips(jhmdb, 'all')[0] if c.action=='climb_stairs')
    assert c.frames[1].mean()==201


def test_jhmdb_without_joints(jhmdb):
    (c,),left = jhmdb_clips(jhmdb, 'all', labelled=False)
    assert c.name=='Other_run_f_1' and c.joints is None and c.vis is None and left==[]
    assert c.boxes.tolist()==[[0,0,63,47]]*4 and c.notes==('no joints: the box is the whole frame',)
    assert jhmdb_clips(jhmdb, 'train', labelled=False)==([], [])


@pytest.mark.parametrize('T,joints,used', [(6,4,4), (3,5,3)])
def test_jhmdb_lengths_that_differ(tmp_path, T, joints, used):
    write_video(tmp_path, 'A_run_f_0', 'run', 2, T, joints)
    (c,),_ = jhmdb_clips(tmp_path)
    assert len(c)==len(c.frames)==used and c.notes==(f'{T} frames, joints for {joints}: the first {used} used',)
    assert np.allclose(c.joints, joints_of(joints)[:used])


def test_jhmdb_joints_outside_and_not_known(tmp_path):
    write_video(tmp_path, 'A_run_f_0', 'run', 2)
    joints = joints_of(4)
    joints[0,3] = -20,70
    joints[1,4] = np.nan
    joints[2] = np.nan
    path = tmp_path/'joint_positions'/'run'/'A_run_f_0'/'joint_positions.mat'
    savemat(path, dict(pos_img=joints.transpose(2,1,0)+1))
    (c,),_ = jhmdb_clips(tmp_path)
    assert np.allclose(c.joints[0,3], [-20,70]) and c.vis[0].all() and c.vis.sum(1).tolist()==[15,14,0,15]
    assert np.allclose(c.boxes[2], c.boxes[1]) and 'frame' in c.notes[0]
    savemat(path, dict(pos_img=np.full((2,15,4), np.nan)))
    says('joint_positions.mat: no frame has two joints', jhmdb_clips, tmp_path)


def test_jhmdb_absent_videos(jhmdb):
    with open(jhmdb/'splits'/'run_test_split1.txt', 'a') as f: f.write('Gone_run_f_0.avi 2\nGone_run_f_1.avi 1\n\n')
    assert jhmdb_clips(jhmdb)[1]==['Other_run_f_1', 'Gone_run_f_0']
    assert jhmdb_clips(jhmdb, 'all', labelled=False)[1]==['Gone_run_f_0', 'Gone_run_f_1']
    (jhmdb/'ReCompress_Videos'/'run'/'Other_run_f_0.avi').unlink()
    said = says("not one of the 3 videos of 'test' has frames and joints", jhmdb_clips, jhmdb)
    assert 'Other_run_f_0' in said


def test_jhmdb_folders_that_are_none(tmp_path):
    says('neither Rename_Images nor ReCompress_Videos', jhmdb_clips, tmp_path)
    (tmp_path/'Rename_Images').mkdir()
    says('no folder joint_positions', jhmdb_clips, tmp_path)
    (tmp_path/'joint_positions').mkdir()
    says('no split files', jhmdb_clips, tmp_path)
    write_video(tmp_path, 'A_run_f_0', 'run', frames=None, joints=0)
    says('not one of the 0 videos', jhmdb_clips, tmp_path)
    says('not one of the 1 videos', jhmdb_clips, tmp_path, 'all')


@pytest.mark.parametrize('line', ['A_run_f_0.avi', 'A_run_f_0.avi 3', 'A_run_f_0 1', '1', '\x00\xff'])
def test_jhmdb_split_files_that_are_broken(jhmdb, line):
    file = jhmdb/'splits'/'run_test_split1.txt'
    file.write_text(file.read_text()+line)
    says(r'run_test_split1.txt, line 13', jhmdb_clips, jhmdb)


def test_jhmdb_a_video_in_two_lines(jhmdb):
    with open(jhmdb/'splits'/'run_test_split1.txt', 'a') as f: f.write('Other_run_f_0.avi 1\n')
    says('Other_run_f_0 was listed before', jhmdb_clips, jhmdb)


def test_jhmdb_label_files_that_are_broken(jhmdb):
    path = jhmdb/'joint_positions'/'run'/'Other_run_f_0'/'joint_positions.mat'
    for content in [dict(pos_img=np.zeros(shape)) for shape in ((2,14,4), (15,2,4), (2,15,0))]:
        savemat(path, content)
        says(r'joint_positions.mat: pos_img has shape', jhmdb_clips, jhmdb)
    for content in (dict(pos=1), dict(pos_img='text')):
        savemat(path, content)
        says('joint_positions.mat: not a (readable )?MATLAB file', jhmdb_clips, jhmdb)
    path.write_bytes(b'nothing')
    says('joint_positions.mat: not a (readable )?MATLAB file', jhmdb_clips, jhmdb)


def test_jhmdb_a_broken_video_is_named(jhmdb):
    path = jhmdb/'ReCompress_Videos'/'run'/'Other_run_f_0.avi'
    path.write_bytes(path.read_bytes()[:300])
    says('Other_run_f_0.avi', jhmdb_clips, jhmdb)


def test_an_avi_with_empty_slots_is_whole(tmp_path):
    "As JHMDB's are: 25 frames a second in 30 slots; the header counts the slots."
    path = tmp_path/'a.avi'
    write_avi(path, 15, empty=(3,8,13))
    with av.open(str(path)) as c: assert c.streams.video[0].frames==18
    frames = open_frames(path)
    assert len(frames)==15 and np.allclose(frames.times[2:5]*30, [2,4,5])
    assert [abs(int(frames[t].mean())-10-5*t)<=3 for t in (14,3,0)]==[True]*3
    data = path.read_bytes()
    path.write_bytes(data[:data.index(b'idx1')-20])
    says('a.avi: is cut short', open_frames, path)


def open_files(folder):
    "Files of a folder that this process holds open."
    fds = Path('/proc/self/fd')
    if not fds.exists(): pytest.skip('no /proc here')
    held = []
    for fd in os.listdir(fds):
        try: held.append(os.readlink(fds/fd))
        except OSError: pass   # the one that lists them
    return [name for name in held if name.startswith(str(folder))]

def test_jhmdb_keeps_no_file_open(jhmdb):
    clips,_ = jhmdb_clips(jhmdb, 'all')
    assert len(clips)==12 and open_files(jhmdb)==[]
    videos = [c for c in clips if c.action=='run']
    for c in videos: c.frames[0]
    assert len(open_files(jhmdb))==len(videos)>5   # in the middle of each: seen by this test
    for c in videos: in_memory(c)
    assert open_files(jhmdb)==[]                   # read to the end


# --- LSP

def write_lsp(root, joints, numbers, digits=4):
    (root/'images').mkdir(parents=True)
    savemat(root/'joints.mat', dict(joints=joints))
    for n in numbers: cv2.imwrite(str(root/'images'/f'im{n:0{digits}d}.jpg'), np.full((48,64,3), n%200, np.uint8))
    return root


@pytest.fixture
def lsp(tmp_path):
    xy = np.random.default_rng(0).uniform(5, 40, (2000,14,2))
    flags = np.random.default_rng(1).integers(0, 2, (2000,14,1))
    root = write_lsp(tmp_path/'lsp', np.concatenate([xy+1, flags], 2).transpose(2,1,0), (1,1000,1001,2000))
    return root,xy


def test_lsp(lsp):
    root,xy = lsp
    for split,numbers in dict(train=(1,1000), test=(1001,2000), all=(1,1000,1001,2000)).items():
        clips,left = lsp_clips(root, split)
        assert [c.name for c in clips]==[f'im{n:04d}' for n in numbers]
        assert len(left)==(2000 if split=='all' else 1000)-len(clips) and 'im0001' not in left
        for c,n in zip(clips, numbers):
            assert c.skel is LSP14 and np.allclose(c.joints[0], xy[n-1]) and c.vis.all() and len(c)==1
            assert abs(int(c.frames[0].mean())-n%200)<=1
    assert lsp_clips(root)[0][0].name=='im1001'
    says("'train', 'test' or 'all'", lsp_clips, root, 'valid')


def test_lspet(tmp_path):
    labels = np.random.default_rng(0).uniform(5, 40, (14,3,4))
    labels[:,2] = 1
    labels[3:5,2,1] = 0
    labels[:,2,2] = 0
    root = write_lsp(tmp_path, labels, (1,2,3), 5)
    for split in ('train','all'):
        clips,left = lsp_clips(root, split)
        assert [c.name for c in clips]==['im00001','im00002'] and left==['im00003','im00004']
    assert np.allclose(clips[1].joints[0,5:], labels[5:,:2,1]-1)
    assert (~clips[1].vis[0]).nonzero()[0].tolist()==[3,4] and np.isnan(clips[1].joints[0,3:5]).all()
    says("not one image of 'test'", lsp_clips, root)


def test_lsp_files_that_are_broken(tmp_path):
    says('joints.mat: no such file', lsp_clips, tmp_path)
    for content in (dict(j=1), dict(joints='a')):
        savemat(tmp_path/'joints.mat', content)
        says('joints.mat: not a (readable )?MATLAB file', lsp_clips, tmp_path)
    for shape in ((2,14,9), (3,16,9), (14,3), (16,3,9)):
        savemat(tmp_path/'joints.mat', dict(joints=np.zeros(shape)))
        says('joints has shape', lsp_clips, tmp_path)
    savemat(tmp_path/'joints.mat', dict(joints=np.ones((3,14,1002))))
    says("not one image of 'test' is there; the first is images/im1001.jpg", lsp_clips, tmp_path)


# --- joint sets

def clip_of(skel, T=2, **kw):
    joints = np.random.default_rng(3).uniform(5, 40, (T,len(skel),2))
    return Clip('c', np.zeros((T,50,50,3), np.uint8), [[0,0,49,49]]*T, joints, skel=skel, **kw)


def test_joints_by_name():
    c = clip_of(JHMDB15, torso=np.array([7.,8]), action='run', notes=('a',))
    for skel in (PENN13, COCO17, LSP14, PEOPLE18, BBC7):
        d = with_joints_of(c, skel)
        assert d.skel is skel and d.torso is c.torso and d.action=='run'
        assert d.notes==('a',) and (d.boxes==c.boxes).all()
        for j,name in enumerate(skel.joints):
            if name in JHMDB15.joints:
                assert (d.joints[:,j]==c.joints[:,JHMDB15.index(name)]).all() and d.vis[:,j].all()
            else: assert np.isnan(d.joints[:,j]).all() and not d.vis[:,j].any()
    assert with_joints_of(c, JHMDB15) is c
    back = with_joints_of(with_joints_of(c, PENN13), JHMDB15)
    assert back.vis.all(0).tolist()==[False]*2+[True]*13 and (back.joints[:,2:]==c.joints[:,2:]).all()
    ok,counted = pck(np.nan_to_num(back.joints), back.joints, back.vis, back.skel, torso=back.torso)
    assert counted.sum()==26 and ok[counted].all()


def test_a_head_between_the_ears():
    c = clip_of(COCO17)
    c.vis[1,4] = False
    d = with_joints_of(c, PEOPLE18)
    assert np.allclose(d.joints[0,17], (c.joints[0,3]+c.joints[0,4])/2) and d.vis[:,17].tolist()==[True,False]
    assert (d.joints[:,:17]==c.joints).all() and (d.vis[:,:17]==c.vis).all()
    head = with_joints_of(clip_of(PENN13), PEOPLE18)
    assert head.vis[0].tolist()==[False]*5+[True]*13
    only_head = with_joints_of(clip_of(COCO17), Skeleton('top', ('head',)))
    assert only_head.vis.all()


def test_joint_sets_that_share_nothing():
    says("no joint of 'mouse'", with_joints_of, clip_of(PENN13), Skeleton('mouse', ('tail',)))
    bare = Clip('c', np.zeros((2,50,50,3), np.uint8), [[0,0,49,49]]*2, skel=JHMDB15)
    assert with_joints_of(bare, COCO17).skel is COCO17 and with_joints_of(bare, COCO17).joints is None


# --- one function for all

def test_read_clips(tmp_path, jhmdb, lsp):
    root = tmp_path/'coco'
    write_coco(root/'test.json', photos([person(1), person(2)]), root)
    write_coco(root/'train.json', photos([person(3)]), root)
    names = {s:[c.name[-1] for c in read_clips('coco', root, s)[0]] for s in ('train','test','all')}
    assert names==dict(train=['3'], test=['1','2'], all=['3','1','2'])
    assert len(read_clips('coco', root/'test.json', 'train')[0])==2
    assert [c.name for c in read_clips('jhmdb', jhmdb)[0]]==['Other_run_f_0']
    assert len(read_clips('jhmdb', jhmdb, 'valid')[0])==len(jhmdb_clips(jhmdb, 'valid')[0])
    assert len(read_clips('lsp', lsp[0], 'train')[0])==2
    p = Clip('p', np.zeros((2,32,32,3), np.uint8), [[1,1,30,30]]*2, np.full((2,13,2), 9.))
    write_penn([p], tmp_path/'penn', [False])
    assert [c.name for c in read_clips('penn', tmp_path/'penn')[0]]==['0001']
    for kind in ('mpii', '', None, ['bbc']): says('penn, bbc, hm36, coco, dlc, jhmdb, lsp', read_clips, kind, root)
    for kind in ('coco', 'lsp'): says("split must be", read_clips, kind, root, 'val')
    (root/'train.json').write_text((root/'test.json').read_text())
    says('share the name', read_clips, 'coco', root, 'all')
    (root/'train.json').unlink()
    says('train.json: there is no such', read_clips, 'coco', root, 'train')


def test_read_clips_of_coco_itself(tmp_path):
    for part,n in (('train',1), ('val',2)):
        write_coco(tmp_path/'annotations'/f'person_keypoints_{part}2017.json',
                   photos([person(10*n+i) for i in range(n+1)]), tmp_path/f'{part}2017')
    assert {s:len(read_clips('coco', tmp_path, s)[0]) for s in ('train','test','all')}==dict(train=2, test=3, all=5)
    (tmp_path/'annotations'/'person_keypoints_train2017.json').unlink()
    says('person_keypoints_train2017.json', read_clips, 'coco', tmp_path, 'train')


# --- the real ones

@needs_jhmdb
def test_real_jhmdb():
    parts = {s:jhmdb_clips(REAL/'JHMDB', s)[0] for s in ('train','valid','test')}
    assert [len(parts[s]) for s in ('train','valid','test')]==[71,14,47]   # 7 of 92 are of the test part's sources
    bare = {s:jhmdb_clips(REAL/'JHMDB', s, labelled=False)[0] for s in ('train','valid','test')}
    count = lambda s: len(parts[s])+len(bare[s])
    assert (count('train')+count('valid'), count('test'))==(254,142)       # 24 of 278
    sources = {s:{video_source(c.name, c.action) for c in parts[s]+bare[s]} for s in parts}
    assert not sources['train']&sources['valid'] and not (sources['train']|sources['valid'])&sources['test']
    clips = [c for s in parts for c in parts[s]]
    assert len({c.name for c in clips})==132 and all(c.notes==() and c.vis.all() for c in clips)
    assert all(c.size==(320,240) and 15<=len(c)<=40 for c in clips)
    assert np.median(np.concatenate([torso_size(c.joints, c.skel) for c in clips]))>20
    c = parts['test'][0]
    assert c.frames[len(c)-1].shape==(240,320,3)


@needs_coco
@pytest.mark.parametrize('file,n', [('free_train',625), ('measure',900)])
def test_real_coco(file, n):
    clips,left = read_clips('coco', REAL/'coco_persons'/f'{file}.json')
    assert len(clips)==n and left==[] and {len(c) for c in clips}=={1} and all(c.skel is COCO17 for c in clips)
    within = [(c.joints[0]>=c.boxes[0,:2]-3) & (c.joints[0]<=c.boxes[0,2:]+3) for c in clips]
    inside = np.concatenate([w.all(1)[c.vis[0]] for w,c in zip(within, clips)])
    assert inside.mean()>.95
    heads = [with_joints_of(c, PENN13).vis[0,0] for c in clips]
    assert 0<np.mean(heads)<1
