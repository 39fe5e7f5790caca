"MoveNet's network and decoding against stored outputs, odd boxes and frames; real people where they are at hand."
import json, os
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest, torch
from safetensors.torch import load_file, save_file
from tiny import global_state, noise_clip
from ttp_nb.basics import TTPError, shipped
from ttp_nb.clips import Clip
from ttp_nb.fidelity import wave_frame
from ttp_nb.geometry import apply_affine, to_tensor
from ttp_nb.metrics import clip_pck, pck, torso_size
from ttp_nb.penn import penn_clips
from ttp_nb.ready_estimator import (PoseMaps, decode_single, estimate, find_in_frame, first_guess, iou,
                                    middle_cell, peaks, pose_box, pose_score, ready_estimator, square_affine)
from ttp_nb.skeletons import COCO17

REAL = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))
needs_penn = pytest.mark.skipif(not (REAL/'Penn_Action'/'frames').is_dir(),
                                reason=f"needs Penn Action's frames in {REAL} (set TTP_REAL)")
STORED = np.load(Path(__file__).parent/'movenet_outputs.npz')
LIMBS = COCO17.joints[5:]


@pytest.fixture(scope='module')
def net(): return ready_estimator()

@pytest.fixture(scope='module')
def maps(net): return net(to_tensor(np.stack([wave_frame(0, 0, (192,192)), STORED['person']])))


# --- the original's numbers

# From an independent rebuilding of MoveNet SinglePose Lightning v4 that equals the packaged graph to 0.03 pixels.
# It was run on these two images, waves and a person of a few shapes, without normalisation by ImageNet's mean,
# in single precision, and counts from a pixel's corner.

def test_joints_and_confidences_are_the_originals(net, maps):
    found = decode_single(maps, middle_cell(maps.centre, net.centre_weight)).numpy()
    assert found.shape==(2,17,3)
    assert np.abs(found[...,:2]+.5 - STORED['keypoints'][...,:2]).max() < 2e-3
    assert np.abs(found[...,2] - STORED['keypoints'][...,2]).max() < 1e-4
    assert STORED['keypoints'][1,:,2].min() > .5 > STORED['keypoints'][0,:,2].max()   # one is a person

def test_maps_are_the_originals(maps):
    assert np.abs(maps.centre[:,0,::4,::4].numpy() - STORED['centre']).max() < 2e-3
    assert np.abs(maps.heat[:,:,::12,::12].numpy() - STORED['heat']).max() < 2e-3
    assert np.abs(maps.regress[:,:,24,24].numpy() - STORED['regress']).max() < 2e-3
    assert np.abs(maps.offset[:,:,20,28].numpy() - STORED['offset']).max() < 2e-3

def test_the_person_is_where_it_was_drawn(net):
    clip = Clip('drawn', STORED['person'][None], [[50, 18, 142, 182.]])
    kp,conf = estimate(net, clip)
    drawn = dict(left_shoulder=(114,58), right_elbow=(62,84), right_wrist=(56,108), left_knee=(113,140),
                 right_ankle=(78,174))
    for name,xy in drawn.items(): assert np.linalg.norm(kp[0,COCO17.index(name)]-xy) < 12, name
    found = find_in_frame(net, STORED['person'])
    assert len(found)==1 and found[0,4] > .6 and iou(found[:,:4], clip.boxes)[0,0] > .7


# --- decoding by hand

def by_hand(maps, b, middle):
    "Joint by joint, cell by cell."
    h,w = maps.heat.shape[2:]
    out = []
    for j in range(17):
        gy,gx = maps.regress[b,2*j,middle[1],middle[0]]+middle[1],maps.regress[b,2*j+1,middle[1],middle[0]]+middle[0]
        value = lambda y, x, j=j, gx=gx, gy=gy: maps.heat[b,j,y,x].sigmoid()/(((x-gx)**2+(y-gy)**2)**.5+1.8)
        y,x = max(((y,x) for y in range(h) for x in range(w)), key=lambda c: value(*c))
        out.append([4*(x+maps.offset[b,2*j+1,y,x])-.5, 4*(y+maps.offset[b,2*j,y,x])-.5, maps.heat[b,j,y,x].sigmoid()])
    return np.array(out, float)

def test_decoding_is_the_formula():
    g = torch.Generator().manual_seed(0)
    r = lambda n: torch.randn(2, n, 5, 7, generator=g)
    maps = PoseMaps(r(1), r(17), 2*r(34), r(34))
    middle = torch.tensor([[6,1],[2,4]])
    found = decode_single(maps, middle).numpy()
    for b in range(2): assert np.allclose(found[b], by_hand(maps, b, middle[b]), atol=1e-4)
    guess = first_guess(maps, middle)
    assert np.allclose(guess[1,3], [2+maps.regress[1,7,4,2], 4+maps.regress[1,6,4,2]])

def test_the_middle_of_the_crop_counts_more(net):
    centre = torch.full((1,1,48,48), -5.)
    centre[0,0,3,44],centre[0,0,24,23] = 3,2
    assert middle_cell(centre, net.centre_weight).tolist()==[[23,24]]
    assert middle_cell(centre, torch.ones(64,64)).tolist()==[[44,3]]
    assert peaks(centre).tolist()==[[44,3],[23,24]] and peaks(centre, least=.9).tolist()==[[44,3]]

def test_a_crop_does_not_depend_on_its_batch_and_odd_sizes_work(net, maps):
    x = to_tensor(STORED['person'][None])
    assert torch.allclose(net(x).heat, maps.heat[1:], atol=1e-3)
    wide = net(x[:,:,32:160,:])
    assert wide.heat.shape==(1,17,32,48) and middle_cell(wide.centre, net.centre_weight).shape==(1,2)


# --- boxes

def test_boxes_of_poses():
    kp = np.array([[0,0],[100,40],[50,20],[20,30],[300,300.]])
    conf = np.array([.9,.8,.7,.6,.1])
    assert np.allclose(pose_box(kp, conf), [-8,-8,108,48]) and np.allclose(pose_box(kp, conf, margin=0), [0,0,100,40])
    assert np.allclose(pose_box(kp, conf, least=.05, margin=0), [0,0,300,300])
    assert np.allclose(pose_box(kp, conf, least=.99, margin=0), [0,0,100,40])   # the four surest in any case
    assert np.allclose(pose_box(kp[:2], conf[:2], margin=0), [0,0,100,40])      # as many as there are
    one = pose_box(np.full((17,2), 7.), np.ones(17))
    assert (one[2:] > one[:2]).all()
    assert pose_score(np.r_[np.ones(6), np.zeros(11)])==1 and pose_score(np.zeros((3,17))).shape==(3,)

def test_the_square_around_a_box():
    for box in ([10,10,19,49], [0,0,300,20], [-50,-20,30,90.5]):
        M = square_affine(box, 96, 1.5)
        middle = (np.array(box[:2])+box[2:])/2
        assert np.allclose(apply_affine(M, middle), 47.5)
        side = max(box[2]-box[0], box[3]-box[1])+1
        assert np.isclose(M[0,0], 96/side/1.5) and M[0,1]==0


# --- clips and frames

def test_a_clip_frame_by_frame(net):
    clip = noise_clip(T=5)
    kp,conf = estimate(net, clip, batch=2)
    assert kp.shape==(5,17,2) and conf.shape==(5,17) and np.isfinite(kp).all() and (0<conf).all() and (conf<1).all()
    some,_ = estimate(net, clip, [3,1])
    assert np.allclose(some, kp[[3,1]], atol=.05)
    unlabelled = replace(clip, joints=None, vis=None)                 # labels are not looked at
    assert np.allclose(estimate(net, unlabelled)[0], kp, atol=.05)
    assert estimate(net, clip, [])[0].shape==(0,17,2)

def test_a_shifted_frame_shifts_the_joints(net):
    big = np.full((300,320,3), 128, np.uint8)
    big[40:232,70:262] = STORED['person']
    at,there = Clip('a', STORED['person'][None], [[50,18,142,182.]]),Clip('b', big[None], [[120,58,212,222.]])
    a,b = (estimate(net, c, enlarge=1.)[0] for c in (at, there))
    assert np.abs(b-a-[70,40]).max() < .1

def test_nothing_of_the_callers_changes(net):
    before = global_state()
    estimate(net, noise_clip()); find_in_frame(net, STORED['person'])
    assert global_state()==before

@pytest.mark.parametrize('shape', [(192,192), (31,400), (400,31), (2,2), (1080,1920)])
def test_frames_of_any_shape_and_nobody_in_them(net, shape):
    for shade in (0, 255):
        found = find_in_frame(net, np.full((*shape,3), shade, np.uint8))
        assert found.shape[1]==5 and np.isfinite(found).all() and (found[:,4] < .35).all()
        assert (found[:,2:4] > found[:,:2]).all()

def test_two_people_and_a_small_one(net):
    a = STORED['person']
    two = np.concatenate([a, a], 1)
    found = find_in_frame(net, two)
    assert len(found)==2 and (np.diff(found[:,4])<=0).all() and (found[:,4] > .5).all()
    assert sorted((found[:,0]+found[:,2]).round(-2)/2 > 192)==[False, True]
    h = 600
    far = np.full((h,h,3), (150,170,160), np.uint8)
    far[300:492,350:542] = a
    assert iou(find_in_frame(net, far)[:1,:4], [[400,318,492,482.]])[0,0] > .5
    assert len(find_in_frame(net, two, sizes=(192,)))>=1


# --- files

def test_files_that_are_none(tmp_path):
    with pytest.raises(TTPError, match='x.safetensors cannot be read'): ready_estimator(tmp_path/'x.safetensors')
    (tmp_path/'half.safetensors').write_bytes(shipped('movenet_lightning').read_bytes()[:5000])
    with pytest.raises(TTPError, match='half.safetensors cannot be read'): ready_estimator(tmp_path/'half.safetensors')
    state = load_file(shipped('movenet_lightning'))
    for change in ({'heads.heat.1.bias': torch.zeros(16)}, {'more': torch.zeros(1)}):
        save_file({**state, **change}, tmp_path/'other.safetensors')
        with pytest.raises(TTPError, match='other.safetensors holds no weights of MoveNet'):
            ready_estimator(tmp_path/'other.safetensors')

def test_what_others_made_is_named():
    notice = (Path(__file__).parents[1]/'NOTICE').read_text('utf-8')
    file = shipped('movenet_lightning')
    card = json.loads(file.with_suffix('.json').read_text('utf-8'))
    learned = sum(v.numel() for k,v in load_file(file).items() if k!='centre_weight')
    assert card['licence']=='Apache-2.0' and card['parameters']==learned and card['changes']
    for said in (f'models/{file.name}', 'apache.org/licenses/LICENSE-2.0', 'Changes were made'): assert said in notice


# --- real people

@needs_penn
def test_real_people(net):
    "Every fourth frame of the six clips: what the page's table says of all frames, and the boxes."
    scores,found = [],[]
    for clip in penn_clips(REAL/'Penn_Action', 'all')[0]:
        at = range(0, len(clip), 4)
        kp,_ = estimate(net, clip, at)
        coco,own = ([s.index(name) for name in LIMBS] for s in (COCO17, clip.skel))
        known = np.where(clip.vis[...,None], clip.joints, np.nan)[at]
        scores.append(clip_pck(*pck(kp[:,coco], known[:,own], torso=torso_size(known, clip.skel))))
        found += [iou(find_in_frame(net, clip.frames[i])[:,:4], clip.boxes[i:i+1]).max(initial=0) for i in at[::3]]
    assert np.mean(scores) > 76, scores
    assert (np.array(found) >= .5).mean() > .8, np.round(found, 2)
