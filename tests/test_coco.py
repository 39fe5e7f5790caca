"""COCO's format as people have it: films, tracks, photographs, the exports of many tools, and what must be refused."""
import copy, json, os, re
from pathlib import Path
import cv2, numpy as np, pytest
from PIL import Image
from ttp_nb.basics import TTPError
from ttp_nb.skeletons import COCO17, Skeleton
from ttp_nb.metrics import pck
from ttp_nb.skeleton_files import write_skeleton
from ttp_nb.datasets import image_paths
from ttp_nb.coco import _side, coco_clips, coco_stills
from ttp_nb.real_data import read_clips
from ttp_nb.recipe_runs import training_clips
from ttp_nb.recipes import DataConfig

CASES = Path(os.environ.get('TTP_CASES', Path(__file__).parents[2]/'shared'/'cases'))
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason='the handed cases are not here')


def image(path, size=(64,48), value=90):
    "A plain image of this (width, height)."
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1],size[0],3), value, np.uint8))


def says(what, f, *args, **kw):
    "The message of the TTPError that this call must raise: one line."
    with pytest.raises(TTPError, match=what) as e: f(*args, **kw)
    assert '\n' not in str(e.value) and len(str(e.value))<600
    return str(e.value)


# --- videos

def coco(videos, names=('nose','left_hand','right_hand'), skeleton=((1,2),(1,3)), **cat):
    "A json as documented: {folder: (T,J,2)}, every joint labelled."
    d = dict(images=[], annotations=[], categories=[dict(id=1, name='imp', keypoints=list(names),
                                                         skeleton=[list(l) for l in skeleton]) | cat])
    for folder,kps in videos.items():
        for t,kp in enumerate(kps):
            i = len(d['images'])+1
            d['images'].append(dict(id=i, file_name=f'{folder}/{t}.png'))
            d['annotations'].append(dict(id=i, image_id=i, category_id=1, bbox=[10,20,30,40],
                                         keypoints=[float(v) for x,y in kp for v in (x,y,2)]))
    return d


def save(root, d, file='test.json', images=True, missing=()):
    root.mkdir(parents=True, exist_ok=True)
    for im in d['images'] if images else ():
        if im['file_name'] not in missing: image(root/im['file_name'], value=im['id'])
    (root/file).write_text(json.dumps(d))
    return root/file


def two(T=4): return {k:np.random.default_rng(s).uniform(5, 40, (T,3,2)) for s,k in enumerate(('a','b'))}


def test_coco_plain(tmp_path):
    videos = two()
    clips,absent = coco_clips(save(tmp_path, coco(videos)))
    assert [c.name for c in clips]==['a','b'] and absent==[]
    for c,k in zip(clips, 'ab'):
        assert (c.joints==videos[k]).all() and c.vis.all() and c.notes==() and c.size==(64,48)
        assert c.skel.name=='imp' and c.skel.limbs==((0,1),(0,2)) and c.skel.pairs==((2,1),) and c.skel.torso is None
        centre,scale = c.center_scale(0)
        assert centre==pytest.approx([10+15-1, 20+20-1+15*.2]) and scale==pytest.approx(1.25*.2)
        assert c.boxes[0].tolist()==[10,20,39,59]
        assert c.torso==pytest.approx(np.full(4, np.median(np.ptp(videos[k], axis=1).max(1))/4))
    with pytest.raises(TTPError, match='torso'): pck(clips[0].joints, clips[0].joints, skel=clips[0].skel)


def test_coco_reference_without_two_joints_is_of_the_box(tmp_path):
    d = coco(two())
    for a in d['annotations'][:4]: a['keypoints'][5::3] = [0,0]
    one,all3 = coco_clips(save(tmp_path, d))[0]
    assert one.torso.tolist()==[39/4]*4 and (all3.torso!=39/4).all()
    d['annotations'][0]['keypoints'][5] = 2                       # one frame with two joints will do
    some = coco_clips(save(tmp_path, d))[0][0]
    assert some.torso==pytest.approx(np.full(4, np.nanmax(np.ptp(some.joints[0,:2], axis=0))/4))


def test_coco_skeleton_beside_the_json(tmp_path):
    videos = two()
    p = save(tmp_path, coco(videos))
    write_skeleton(Skeleton('mine', ['right_hand', 'nose'], [(0,1)], torso=[[0], [1]]), tmp_path/'skeleton.yaml')
    c,_ = coco_clips(p)[0]
    assert c.skel==Skeleton('mine', ['right_hand', 'nose'], [(0,1)], torso=[[0], [1]]) and c.torso is None
    assert (c.joints==videos['a'][:,[2,0]]).all() and c.boxes[0].tolist()==[10,20,39,59]
    write_skeleton(Skeleton('mine', ['nose', 'tail']), tmp_path/'skeleton.yaml')
    assert "no joint 'tail'; they have: nose, left_hand, right_hand" in says('skeleton.yaml', coco_clips, p)
    (tmp_path/'skeleton.yaml').write_text('joints: [')
    says('skeleton.yaml: line', coco_clips, p)
    (tmp_path/'skeleton.yaml').unlink(); (tmp_path/'skeleton.yaml').mkdir()
    says('cannot be read', coco_clips, p)


def test_coco_images_elsewhere_and_absent(tmp_path):
    d = coco(two())
    p = save(tmp_path/'pictures', d, missing=['b/2.png']).rename(tmp_path/'labels.json')
    clips,absent = coco_clips(p, tmp_path/'pictures')
    assert [c.name for c in clips]==['a'] and absent==['b'] and abs(int(clips[0].frames[3].mean())-4)<=1
    assert coco_clips(str(p), str(tmp_path/'pictures'))[1]==['b']
    assert 'a/0.png' in says('not one of its 8 images', coco_clips, p)
    (tmp_path/'pictures').rename(tmp_path/'images')                              # where many tools put them
    assert coco_clips(p)[1]==['b']


def test_coco_visibility(tmp_path):
    d = coco(two())
    d['annotations'][0]['keypoints'] = [0,0,0, 7,8,1, 9,9,2]
    d['annotations'][1]['keypoints'] = [5,5,0, 1,2,0, 3,4,0]
    c = coco_clips(save(tmp_path, d))[0][0]
    assert c.vis[:2].tolist()==[[False,True,True],[False]*3] and np.isnan(c.joints[[0,1,1,1],[0,0,1,2]]).all()
    assert c.joints[0,1:].tolist()==[[7,8],[9,9]] and c.notes==()


def test_coco_names_make_pairs_and_torso(tmp_path):
    def skel(names, limbs=()):
        return coco_clips(save(tmp_path, coco({'a':np.ones((1,len(names),2))}, names, limbs)))[0][0].skel
    s = skel(COCO17.joints, [(a+1,b+1) for a,b in COCO17.limbs])
    assert (s.limbs,s.torso)==(COCO17.limbs,COCO17.torso) and (s.flip==COCO17.flip).all()
    s = skel(['Left Hip', 'Right Hip', 'shoulderLeft', 'SHOULDER (RIGHT)', 'left eye', 'eye_right', 'leftover', 'hips'])
    assert set(s.pairs)=={(1,0),(3,2),(5,4)} and s.torso==((2,3),(0,1))
    assert skel(['l_eye', 'r_eye', 'lefteye', 'righteye']).pairs==()
    assert skel(['left_hand', 'right_foot', 'left_right']).pairs==()
    assert skel(['shoulder', 'left_hip']).torso==((0,),(1,)) and skel(['left_shoulder', 'right_shoulder']).torso is None
    assert skel(['left_toe_1', 'left_toe_2', 'right_toe_2', 'right_toe_1']).pairs==((2,1),(3,0))
    assert skel(['a','b']).limbs==()
    assert _side('leftEye2')==('left','eye 2') and _side('LEFT')==('left','') and _side('upright')==(None,'upright')


def test_coco_pck_where_the_torso_is_known(tmp_path):
    names = ['left_shoulder','right_shoulder','left_hip','right_hip']
    kp = np.array([[[10,0],[30,0],[10,50],[30,50]]], float)
    c = coco_clips(save(tmp_path, coco({'a':kp}, names)))[0][0]
    assert [int(pck(c.joints+[d,0], c.joints, c.vis, c.skel, torso=c.torso)[0].sum()) for d in (10, 10.1)]==[4,0]


@pytest.mark.parametrize('cat,what', [
    (dict(keypoints='abc'), 'names'), (dict(keypoints=[1,2,3]), 'names'),
    (dict(keypoints=['a','a','b']), 'twice'), (dict(keypoints=['left_eye','right_eye','eye right']), 'more than one')])
def test_coco_malformed_categories(tmp_path, cat, what):
    d = coco(two()); d['categories'][0] |= cat
    assert 'test.json' in says(what, coco_clips, save(tmp_path, d))


@pytest.mark.parametrize('limbs,what', [
    ([[0,1],[1,2]], 'no joint 0, COCO counts from 1 to 3'), ([[1,2,3]], 'joins two'), ('none', 'joins two'),
    ([[1,1]], 'joins two'), ([[1,'x']], "no joint 'x'"), ({'a':1}, 'joins two'), ([[1,None]], 'no joint'),
    ([[1,-1]], 'no joint -1'), (5, 'joins two'), ([5], 'joins two'), ([[]], 'joins two')])
def test_a_skeleton_that_is_only_drawn_refuses_nothing(tmp_path, limbs, what):
    d = coco(two()); d['categories'][0]['skeleton'] = limbs
    clips,_ = coco_clips(save(tmp_path, d))
    assert len(clips)==2 and clips[0].skel.limbs==() and clips[1].notes==clips[0].notes    # it is said of the file
    (note,) = clips[0].notes
    assert note.startswith('test.json: skeleton: ') and re.search(what, note)
    assert note.endswith('; all limbs left out' if 'joint 0' in note else '; 1 limb left out')
    d['categories'][0]['skeleton'] = [['1',2.0],[1,3]]
    assert coco_clips(save(tmp_path, d))[0][0].skel.limbs==((0,1),(0,2))


@pytest.mark.parametrize('limbs,kept,left', [
    ([[1,2],[1,4]], [(0,1)], '1 limb'), ([[32,33],[1,2],[2,3]], [(0,1),(1,2)], '1 limb'),
    ([[1,2,3],[1,3],[2,2]], [(0,2)], '2 limbs')])
def test_one_bad_limb_leaves_the_others(tmp_path, limbs, kept, left):
    d = coco(two()); d['categories'][0]['skeleton'] = limbs
    clips,_ = coco_clips(save(tmp_path, d))
    assert list(clips[0].skel.limbs)==kept and clips[0].notes[-1].endswith(f'; {left} left out')


def test_coco_which_category(tmp_path):
    d = coco(two())
    d['categories'].insert(0, dict(id=7, name='dog'))
    d['annotations'].append(dict(id=99, image_id=1, category_id=7, bbox=[0,0,5,5]))
    clips,_ = coco_clips(save(tmp_path, d))
    assert clips[0].skel.name=='imp' and clips[0].notes==('test.json: 1 annotation left out: another category',)
    d['categories'][0]['keypoints'] = ['tail', 'ear']
    assert len(coco_clips(save(tmp_path, d))[0])==2                       # no annotation of it has any
    d['annotations'][-1]['keypoints'] = [1,2,2,3,4,2]
    says(r'2 categories have keypoints \(dog, imp\)', coco_clips, save(tmp_path, d))
    d['annotations'].pop()
    d['categories'][0]['keypoints'] = d['categories'][1]['keypoints']     # the same joints under two names
    d['annotations'][0]['category_id'] = 7
    assert coco_clips(save(tmp_path, d))[0][0].vis.all()
    d['categories'] = []
    says('its points have no names', coco_clips, save(tmp_path, d))
    for a in d['annotations']: a.pop('keypoints', None)
    says('no category has keypoints', coco_clips, save(tmp_path, d))
    d = coco(two()); del d['categories'][0]['id']
    assert len(coco_clips(save(tmp_path, d))[0])==2


def test_coco_order_and_videos(tmp_path):
    d = coco({'a/x':np.ones((12,3,2))})
    d['images'].reverse()
    base = lambda d: [os.path.basename(p) for p in image_paths(coco_clips(save(tmp_path, d))[0][0].frames)]
    assert base(d)==[f'{i}.png' for i in range(12)]
    for key in ('frame_id','frame_index'):
        e = copy.deepcopy(d)
        for im in e['images']: im[key] = im['id']*7%12
        c = coco_clips(save(tmp_path, e))[0][0]
        order = sorted(range(1, 13), key=lambda i: i*7%12)
        assert [abs(int(c.frames[t].mean())-i)<=1 for t,i in enumerate(order)]==[True]*12
        assert [int(os.path.basename(p)[:-4])+1 for p in image_paths(c.frames)]==order
    del e['images'][0]['frame_index']                      # not for all: names decide
    assert base(e)==[f'{i}.png' for i in range(12)]
    for i,im in enumerate(d['images']): im['video_id'] = 5+i%2
    d['videos'] = [dict(id=6, name='odd')]
    assert [(c.name, len(c)) for c in coco_clips(save(tmp_path, d))[0]]==[('5',6), ('odd',6)]
    d['videos'].append(dict(id=5, name='odd'))
    says('two videos have the same name', coco_clips, save(tmp_path, d))
    d['videos'] = [dict(id=6, name='5')]
    says('two videos have the same name', coco_clips, save(tmp_path, d))
    del d['images'][3]['video_id']
    says('needs .* a video_id', coco_clips, save(tmp_path, d))


def test_coco_images_without_folder(tmp_path):
    d = coco({'a':np.ones((3,3,2))})
    for im in d['images']: im['file_name'] = im['file_name'][2:]
    assert [c.name for c in coco_clips(save(tmp_path, d, 'walk.json'))[0]]==['walk']


def test_coco_boxes_that_are_not_there(tmp_path):
    d = coco({'a':np.ones((8,3,2)), 'b':np.ones((2,3,2))})
    a = d['annotations']
    a[1]['bbox'] = None; a[1]['keypoints'] = [10,20,2, 30,60,1, 500,500,0]       # around two joints
    a[2]['bbox'] = [5,5,0,0]; a[2]['keypoints'] = [10,20,2, 0,0,0, 0,0,0]        # one joint: the frame before
    del a[4]['bbox'], a[4]['keypoints']                                          # nothing at all
    a[6]['bbox'] = [1,2,3,4]
    del a[7]                                                                     # no annotation: the nearest is frame 6
    c = coco_clips(save(tmp_path, d))[0][0]
    assert c.boxes[1]==pytest.approx([6,16,34,64]) and (c.boxes[2]==c.boxes[1]).all()
    assert c.boxes[4].tolist()==[10,20,39,59] and c.boxes[7].tolist()==[1,2,3,5]
    assert np.isnan(c.joints[[4,7]]).all() and not c.vis[[4,7]].any()
    assert c.notes==('1 of 8 frames without annotation (7): joints unknown',
                     '1 of 8 frames without bbox (1): a box around the joints',
                     "3 of 8 frames without bbox and joints (2, 4, 7): the nearest frame's box")


def test_coco_nobody_in_a_video(tmp_path):
    d = coco(two())
    d['annotations'] = d['annotations'][:4]
    clips,absent = coco_clips(save(tmp_path, d))
    assert [c.name for c in clips]==['a'] and absent==['b']
    for a in d['annotations']: a['bbox'] = [0,0,0,0]; a['keypoints'] = [1,1,0]*3
    says('not one person can be used .*nobody labelled: 2', coco_clips, save(tmp_path, d))
    d['annotations'] = []
    says('not one person .*no annotations', coco_clips, save(tmp_path, d))


def test_every_track_is_a_clip(tmp_path):
    d = coco(two())
    more = copy.deepcopy(d['annotations'][:3])
    for a in d['annotations']: a['track_id'] = 3
    for k,a in enumerate(more): a |= dict(id=50+k, attributes=dict(track_id='8', occluded=False), bbox=[0,0,9,9])
    d['annotations'] += more
    p = save(tmp_path, d)
    clips,absent = coco_clips(p)
    assert [(c.name,len(c)) for c in clips]==[('a_3',4),('a_8',3),('b',4)] and absent==[]
    assert clips[1].boxes.tolist()==[[0,0,8,8]]*3 and (clips[0].joints==two()['a']).all()
    assert [(c.name,len(c)) for c in coco_clips(p, person=3)[0]]==[('a',4),('b',4)]
    (c,),absent = coco_clips(p, person=8.)
    assert absent==['b'] and c.boxes[0].tolist()==[0,0,8,8]
    says('not one person', coco_clips, p, person=4)
    for a in d['annotations']: a['instance_id'] = a.pop('track_id', 8)
    assert [c.name for c in coco_clips(save(tmp_path, d))[0]]==['a_3','a_8','b']


def test_tracks_that_tell_nobody_apart_are_none(tmp_path):
    d = coco(two())
    more = copy.deepcopy(d['annotations'][:3])
    for k,a in enumerate(more): a['id'] = 50+k
    d['annotations'] += more
    for track in (None, 0, -1):                                    # what a tool writes that follows nobody
        for a in d['annotations']: a['track_id'] = track
        clips,_ = coco_clips(save(tmp_path, d))
        assert [len(c) for c in clips]==[1]*7+[4] and clips[-1].name=='b' and clips[0].name=='0_1'


def test_one_person_after_the_other_are_two(tmp_path):
    d = coco(two())
    for a in d['annotations'][:4]: a['track_id'] = 1 if a['id']<3 else 2
    assert [(c.name,len(c)) for c in coco_clips(save(tmp_path, d))[0]]==[('a_1',2),('a_2',2),('b',4)]


def test_passers_by_without_joints_make_no_crowd_of_a_film(tmp_path):
    d = coco(two())
    d['annotations'] += [dict(id=90+k, image_id=1+k, category_id=1, bbox=[0,0,9,9]) for k in range(2)]
    d['annotations'].append(dict(id=99, image_id=3, category_id=1, iscrowd=1, bbox=[0,0,64,9],
                                 keypoints=[0]*9, segmentation=dict(counts=[1,2], size=[48,64])))
    clips,_ = coco_clips(save(tmp_path, d))
    assert [(c.name,len(c)) for c in clips]==[('a',4),('b',4)] and (clips[0].boxes[0]==[10,20,39,59]).all()
    for c in clips: assert set(c.notes)=={'test.json: 1 annotation left out: a crowd',
                                          'test.json: 2 annotations left out: no joint labelled'}


def test_several_people_without_tracks(tmp_path):
    d = coco(two())
    d['annotations'] += [a|dict(id=a['id']+20) for a in d['annotations'][:2]]
    clips,_ = coco_clips(save(tmp_path, d))
    assert sorted(c.name for c in clips)==['0_1','0_21','1_2','1_22','2_3','3_4','b']
    for a in d['annotations']: del a['id']
    assert len(coco_clips(save(tmp_path, d))[0])==7
    for a in d['annotations']: a['id'] = 4
    says('two clips would be called', coco_clips, save(tmp_path, d))


@pytest.mark.parametrize('change,what', [
    (dict(keypoints=[1,2,2]), 'annotation 2 of a/1.png.*must be 9 numbers .* found 3'), (dict(keypoints='text'),
        'a/1.png'),
    (dict(keypoints=[float('nan'),1,2]*3), 'no coordinates'), (dict(keypoints=[[1,2,2]]*3), 'must be 9'),
    (dict(keypoints=[1,1,float('nan')]*3), 'no coordinates'), (dict(keypoints={'a':1}), 'a/1.png'),
    (dict(keypoints=[10**400,1,2]*3), 'a number of 401 digits'), (dict(bbox=[1,2,3]), 'bbox must be'),
    (dict(bbox=[1,2,3,float('inf')]), 'bbox must be'), (dict(bbox='wide'), 'a/1.png'),
    (dict(image_id=77), 'image 77, which'), (dict(image_id=[1]), 'listed'), (dict(image_id=None), 'listed')])
def test_coco_malformed_annotations(tmp_path, change, what):
    d = coco(two()); d['annotations'][1] |= change
    assert 'test.json' in says(what, coco_clips, save(tmp_path, d))


@pytest.mark.parametrize('change', [dict(id=1), dict(id=None), dict(id=[2]), dict(file_name=None), dict(file_name='')])
def test_coco_malformed_images(tmp_path, change):
    d = coco(two()); d['images'][1] |= change
    says('needs a file_name, an id', coco_clips, save(tmp_path, d, images=False))
    d = coco(two())
    for im in d['images']: im['frame_id'] = str(im['id'])
    assert len(coco_clips(save(tmp_path, d))[0])==2                                 # '1' is a number
    d['images'][0]['frame_id'] = 'one'
    says("a/0.png: frame_id 'one' is not a number", coco_clips, save(tmp_path, d))


def test_coco_files_that_are_none(tmp_path):
    says('no such json', coco_clips, tmp_path/'x.json')
    says('no such json', coco_clips, tmp_path)
    for text_ in ('', '{', '['*100000, '\x00'):
        (tmp_path/'x.json').write_text(text_)
        says('x.json: not a readable json', coco_clips, tmp_path/'x.json')
    (tmp_path/'x.json').write_bytes(b'\xff\xfe"')
    says('not a readable json', coco_clips, tmp_path/'x.json')
    for key in ('images','annotations','categories'):
        for value in (None, {}, [1], 'x'):
            d = coco(two()) | {'images':[]} | {key:value}
            says(f"no list of records '{key}'", coco_clips, save(tmp_path, d, images=False))
    says("'videos'", coco_clips, save(tmp_path, coco(two()) | {'videos':3}))
    (tmp_path/'x.json').write_text('[]')
    says("'categories'", coco_clips, tmp_path/'x.json')


# --- photographs

def person(i, image=1, seed=0, v=2, **more):
    xy = np.random.default_rng(seed).uniform(5, 40, (17,2)).round(1)
    return dict(id=i, image_id=image, category_id=1, bbox=[10,5,30,40], iscrowd=0, num_keypoints=17,
                keypoints=np.c_[xy, np.full(17, v)].ravel().tolist()) | more


def photos(people, images=2, sizes=True, names=COCO17.joints):
    records = [dict(id=i, file_name=f'{i:012d}.jpg') | (dict(width=60+i, height=50) if sizes else {})
               for i in range(1, images+1)]
    return dict(images=records, annotations=people, categories=[dict(id=1, name='person', keypoints=list(names))])


def write_coco(path, content, folder, missing=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for im in content['images']:
        if im['id'] not in missing:
            cv2.imwrite(str(folder/im['file_name']), np.full((50,im.get('width', 60),3), 50*im['id']%256, np.uint8))
    path.write_text(json.dumps(content))
    return path


def test_coco_stills(tmp_path):
    people = [person(1), person(2, seed=2, v=1), person(3, iscrowd=1), person(4, v=0, num_keypoints=0),
              person(5, 2), person(6, 3), person(7, category_id=2), person(8, bbox=[1,1,0,0])]
    content = photos(people, 3)
    content['annotations'][4]['keypoints'][2] = 0
    clips,left = coco_stills(write_coco(tmp_path/'a.json', content, tmp_path, missing=(3,)))
    n = '000000000001'
    assert [c.name for c in clips]==[f'{n}_1', f'{n}_2', '000000000002_5', f'{n}_8']
    assert left=={'a crowd':[f'{n}_3'], 'no joint labelled':[f'{n}_4'], 'image not there':['000000000003_6'],
                  'another category':[f'{n}_7']}
    for c,p in zip(clips, (people[0],people[1],people[4],people[7])):
        xy = np.reshape(p['keypoints'], (17,3))
        assert len(c)==1 and c.skel is COCO17 and c.torso is None and (c.vis[0]==(xy[:,2]>0)).all()
        assert (c.joints[0][c.vis[0]]==xy[c.vis[0],:2]).all() and np.isnan(c.joints[0][~c.vis[0]]).all()
    assert clips[0].boxes.tolist()==[[10,5,39,44]] and clips[3].boxes[0,0]<clips[3].joints[0,:,0].min()
    assert abs(int(clips[2].frames[0].mean())-100)<=1 and clips[2].size==(62,50)
    assert all(len(image_paths(c.frames))==1 for c in clips)


@pytest.mark.parametrize('json_at,images_at', [('a.json','.'), ('a.json','images'),
    ('annotations/person_keypoints_val2017.json','val2017'),
    ('annotations/person_keypoints_val2017.json','images/val2017')])
def test_coco_folders_of_images(tmp_path, json_at, images_at):
    file = write_coco(tmp_path/json_at, photos([person(1), person(2)]), tmp_path/images_at)
    clips,left = coco_stills(file)
    assert len(clips)==2 and left=={}
    assert Path(image_paths(clips[0].frames)[0]).parent.resolve()==(tmp_path/images_at).resolve()
    assert len(coco_stills(file, tmp_path/images_at)[0])==2
    says('not one of its 2 images', coco_stills, file, tmp_path/'nowhere')


def test_coco_another_skeleton(tmp_path):
    people = [person(1, keypoints=[1,2,2,30,40,1,5,6,2]), person(2, keypoints=[0]*9)]
    file = write_coco(tmp_path/'a.json', photos(people, names=('nose','left_hand','right_hand')), tmp_path)
    (c,),left = coco_stills(file)
    assert c.skel.joints==('nose','left_hand','right_hand') and c.skel.pairs==((2,1),) and c.torso.tolist()==[9.5]
    assert left=={'no joint labelled':['000000000001_2']}
    (tmp_path/'skeleton.yaml').write_text('joints: [right_hand, nose]')
    (c,),_ = coco_stills(file)
    assert c.skel.joints==('right_hand','nose') and c.joints.tolist()==[[[5,6],[1,2]]]


def test_coco_files_that_are_broken(tmp_path):
    def bad(what, people, **kw): says(what, coco_stills, write_coco(tmp_path/'a.json', photos(people, **kw), tmp_path))
    bad('not one person can be used .*no joint labelled: 2', [person(1, v=0), person(2, v=0)])
    bad('not one person can be used .*no annotations', [])
    bad('two annotations of one id', [person(1), person(1)])
    bad('annotation 1 is of image 9', [person(1, 9)])
    bad('annotation 1 of 000000000001.jpg: keypoints must be 51 numbers', [person(1, keypoints=[1,2,2])])
    bad('annotation 1 of 000000000001.jpg: bbox must be four', [person(1, bbox=[1,2])])
    bad('its points have no names', [person(1)], names=())
    content = photos([person(1)]); del content['annotations'][0]['keypoints']
    says('no joint labelled: 1', coco_stills, write_coco(tmp_path/'a.json', content, tmp_path))
    says('no such json', coco_stills, tmp_path/'b.json')


def test_coco_stills_or_videos(tmp_path):
    def kind(content):
        clips,_ = coco_clips(write_coco(tmp_path/'a.json', content, tmp_path))
        return len(clips),{len(c) for c in clips}
    several,sizes = photos([person(1), person(2)], sizes=False),photos([person(1), person(2, 2)])
    assert kind(several)==kind(sizes)==(2,{1})
    video = photos([person(1), person(2, 2)], sizes=False)
    assert kind(video)==(1,{2})
    for im in sizes['images']: im['video_id'] = 4
    assert kind(sizes)==(1,{2})
    for a in several['annotations']: a['track_id'] = a['id']
    assert kind(several)==(2,{1})


# --- as tools write it

def test_ids_of_any_kind(tmp_path):
    d = coco(two())
    plain = coco_clips(save(tmp_path, d))[0]
    for text in ({1:str}, {1:float}, {2:str}, {1:str,2:float}):
        e = copy.deepcopy(d)
        for im in e['images']: im['id'] = text.get(1, int)(im['id'])
        for a in e['annotations']: a['image_id'] = text.get(2, int)(a['image_id']); a['category_id'] = '1'
        for c,p in zip(coco_clips(save(tmp_path, e, images=False))[0], plain, strict=True):
            assert c.name==p.name and (c.joints==p.joints).all()
    e['images'][0]['id'] = '2'                                     # of image 2 there are two now
    says('an id that no other image has', coco_clips, save(tmp_path, e, images=False))


@pytest.mark.parametrize('code', ['utf-8-sig', 'utf-16', 'utf-16-le', 'utf-32'])
def test_encodings(tmp_path, code):
    p = save(tmp_path, coco(two(), ('näse','left_hand','right_hand')))
    p.write_bytes(json.dumps(json.loads(p.read_text()), ensure_ascii=False).encode(code))
    assert coco_clips(p)[0][0].skel.joints[0]=='näse'


@pytest.mark.parametrize('before,clips', [
    ('C:\\Users\\me\\set\\', ['a','b']), ('/srv/data/', ['a','b']), ('../../server/', ['a','b']), ('./', ['a','b']),
    ('/data/local-files/?d=', ['a','b']), ('s3://bucket/x/', ['a','b']), ('\\\\nas\\share\\', ['a','b'])])
def test_names_of_another_computer(tmp_path, before, clips):
    d = coco(two())
    p = save(tmp_path, d)
    for im in d['images']:
        im['file_name'] = before+(im['file_name'].replace('/', '\\') if '\\' in before else im['file_name'])
    p.write_text(json.dumps(d))
    found,absent = coco_clips(p)
    assert [c.name for c in found]==clips and absent==[]
    for c,k in zip(found,
        'ab'): assert [Path(f) for f in image_paths(c.frames)]==[tmp_path/k/f'{t}.png' for t in range(4)]


def test_names_that_would_be_mixed_up_are_not_shortened(tmp_path):
    "Of x/0.png and y/0.png, 0.png could be either."
    d = coco(two())
    p = save(tmp_path, d)
    for k in range(4): (tmp_path/'a'/f'{k}.png').rename(tmp_path/f'{k}.png')
    (clip,),absent = coco_clips(p)
    assert clip.name=='b' and absent==['a']


def test_absolute_names_that_are_there(tmp_path):
    d = coco(two())
    for im in d['images']: im['file_name'] = str(tmp_path/'far'/im['file_name'])
    for im in d['images']: image(Path(im['file_name']))
    (tmp_path/'labels').mkdir()
    (tmp_path/'labels'/'x.json').write_text(json.dumps(d))
    assert [c.name for c in coco_clips(tmp_path/'labels'/'x.json')[0]]==['a','b']


def turned(path, orientation, size=(64,48)):
    "A jpg of this stored size with a word on how to turn it."
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif(); exif[274] = orientation
    Image.new('RGB', size, (90,80,70)).save(path, exif=exif)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_labels_of_unturned_photographs(tmp_path, orientation):
    d = coco(two())
    for im in d['images']:
        im |= dict(file_name=im['file_name'].replace('png', 'jpg'), width=64, height=48)
        turned(tmp_path/im['file_name'], orientation)
    p = save(tmp_path, d, images=False)
    if orientation>4: assert 'a/0.jpg is 48x64, and the labels are for 64x48' in says('8 of 8.*EXIF', coco_clips, p)
    else: assert coco_clips(p)[0][0].size==(64,48)
    for im in d['images']: im |= dict(width=48, height=64)
    if orientation>4: assert coco_clips(save(tmp_path, d, images=False))[0][0].size==(48,64)
    else: says('resized', coco_clips, save(tmp_path, d, images=False))


def test_labels_of_resized_images(tmp_path):
    d = coco(two())
    for im in d['images']: im |= dict(width=64, height=48)
    assert len(coco_clips(save(tmp_path, d))[0])==2
    image(tmp_path/'b'/'2.png', (32,24))
    assert 'b/2.png is 32x24, and the labels are for 64x48' in says('1 of 8 images', coco_clips, tmp_path/'test.json')
    for odd in (dict(width=None), dict(width=0, height=0), dict(width='64', height='48'), dict(width='?')):
        assert len(coco_clips(save(tmp_path, dict(d,
            images=[im|odd for im in d['images']])))[0])==2   # not said, or fine


def test_points_without_names(tmp_path):
    d = coco(two()); d['categories'][0]['keypoints'] = []
    says("points have no names.*export 'COCO Keypoints'", coco_clips, save(tmp_path, d))
    d['categories'] = [dict(id=k, name=f'p{k}', keypoints=[f'p{k}']) for k in range(8)]
    says('each of 8 categories is a single point', coco_clips, save(tmp_path, d))


def test_roboflow(tmp_path):
    for part,n in dict(train=6, valid=3).items():
        d = coco({'x':np.random.default_rng(0).uniform(5, 40, (n,3,2))})
        d['categories'].insert(0, dict(id=0, name='objects', supercategory='none'))
        for im in d['images']: im['file_name'] = f"{im['id']}_jpg.rf.00ff.png"
        save(tmp_path/part, d, '_annotations.coco.json')
    assert {s:[(c.name,len(c)) for c in read_clips('coco', tmp_path, s)[0]] for s in ('train','test','all')}==dict(
        train=[('train',6)], test=[('valid',3)], all=[('train',6),('valid',3)])


@pytest.mark.parametrize('json_at,images_at', [
    ('annotations/person_keypoints_default.json', 'images'), ('annotations/person_keypoints_default.json',
        'images/default'),
    ('annotations/person_keypoints_Train.json', '.'), ('result.json', 'images'), ('result.json', '.')])
def test_one_json(tmp_path, json_at, images_at):
    "CVAT, Label Studio, and others: no parts."
    d = coco({'x':np.random.default_rng(0).uniform(5, 40, (12,3,2))})
    for im in d['images']: im['file_name'] = f"../../data/upload/1/{im['id']}.png"
    for im in d['images']: image(tmp_path/images_at/f"{im['id']}.png", value=im['id'])
    save((tmp_path/json_at).parent, d, Path(json_at).name, images=False)
    train,test,both = (read_clips('coco', tmp_path, s)[0] for s in ('train','test','all'))
    files = lambda clips: [int(Path(f).stem) for c in clips for f in image_paths(c.frames)]
    assert files(test)==[5,10] and sorted(files(train)+files(test))==files(both)==list(range(1, 13))


def test_one_json_of_photographs(tmp_path):
    "People of one photograph are in one part."
    d = photos([person(10*i+k, i) for i in range(1, 12) for k in range(2)], 11)
    write_coco(tmp_path/'mine.json', d, tmp_path)
    parts = {s:{c.name[:12] for c in read_clips('coco', tmp_path, s)[0]} for s in ('train','test')}
    assert len(parts['test'])==2 and len(parts['train'])==9 and not parts['test']&parts['train']
    write_coco(tmp_path/'mine.json', photos([person(k) for k in range(2)], 1), tmp_path)
    says('fewer than five', read_clips, 'coco', tmp_path)


def test_one_film_to_train_on(tmp_path):
    "Every tenth labelled frame is held out, and said."
    d = coco({'images':np.random.default_rng(0).uniform(5, 40, (24,3,2))})
    del d['annotations'][1]
    save(tmp_path, d, 'train.json')
    said = []
    train,valid = training_clips(DataConfig('coco', str(tmp_path)), said.append)
    assert [len(c) for c in train]==[22] and [len(c) for c in valid]==[2] and valid[0].vis.all()
    assert any('held out' in line for line in said)
    assert [len(c) for c in training_clips(DataConfig('coco', str(tmp_path)), hold_out=False)[0]]==[24]
    d['annotations'] = d['annotations'][:9]
    save(tmp_path, d, 'train.json')
    with pytest.raises(TTPError, match='one of ten labelled'): training_clips(DataConfig('coco', str(tmp_path)))


@pytest.mark.parametrize('name', ['../../../evil', '/somewhere/x', '..', 'a/../../b', 'x'*300])
def test_names_that_lead_elsewhere(tmp_path, name):
    d = coco(two())
    for im in d['images']: im['video_id'] = 1
    d['videos'] = [dict(id=1, name=name)]
    save(tmp_path, d)
    says('cannot be the name|too long', read_clips, 'coco', tmp_path)


# --- the handed cases

@needs_cases
@pytest.mark.parametrize('case,train,valid', [
    ('08-coco-several-people', 28, 4), ('10-coco-windows-names', 8, 8), ('12-coco-string-ids', 8, 8),
    ('13-coco-skeleton-out-of-range', 8, 8), ('09-coco-one-folder', 22, 2)])
def test_handed_cases_are_trained_on(case, train, valid):
    parts = training_clips(DataConfig('coco', str(CASES/case)))
    assert [sum(map(len, part)) for part in parts]==[train, valid]
    for clip in parts[0]+parts[1]:
        inside = (clip.joints>=clip.boxes[:,None,:2]-9) & (clip.joints<=clip.boxes[:,None,2:]+9)
        assert inside.all() and clip.vis.all()


@needs_cases
@pytest.mark.parametrize('case,what', [('11-coco-exif', 'v0/0000.jpg.*EXIF'), ('17-cvat-points',
    'points have no names')])
def test_handed_cases_are_refused(case, what):
    says(what, training_clips, DataConfig('coco', str(CASES/case)))
