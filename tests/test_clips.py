"""Clips: what is refused, slices that share frames, frames read late or once, crops, predictions in frame pixels."""
from dataclasses import fields, replace
import numpy as np, pytest, torch
from torch import nn
from tiny import no_joints, noise_clip, numbered, read_back, same_weights, tiny_model, used_model, weights
from ttp_nb.basics import LazyFrames, TTPError
from ttp_nb.clips import PER_FRAME, Clip, as_seen, frame_crops, in_memory, pick, predict
from ttp_nb.joint_model import ModelConfig
from ttp_nb.pairs import pair_affine
from ttp_nb.skeletons import BBC7, Skeleton

def made(T=5): return noise_clip('a', T)


# --- the clip

def test_a_clip_refuses_what_does_not_fit():
    c = made()
    kw = dict(frames=c.frames, boxes=c.boxes, joints=c.joints, vis=c.vis)
    for bad,says in ((dict(boxes=c.boxes[:4]), r'boxes.*\(5, 4\)'), (dict(boxes='box'), 'boxes'),
                     (dict(frames=[]), 'no frames'), (dict(vis=c.vis[:3]), 'vis'),
                     (dict(joints=c.joints[:,:7]), r'joints.*\(5, 13, 2\)'),
                     (dict(joints=None), 'no joints'), (dict(joints=c.joints*np.nan), 'frame 0.*visible'),
                     (dict(skel=BBC7), r'\(5, 7, 2\)'), (dict(boxes=[[0,0,9,9],[1,2]]+[[0,0,9,9]]*3), 'numbers')):
        with pytest.raises(TTPError, match=f"'walk'.*{says}|{says}.*'walk'"): Clip('walk', **{**kw, **bad})


@pytest.mark.parametrize('box', [[3,3,3,3], [9,1,3,8], [1,1,np.nan,5], [1,1,0,0], [np.inf,0,np.inf,3]])
def test_a_box_must_span_something(box):
    c = made()
    boxes = c.boxes.copy(); boxes[2] = box
    with pytest.raises(TTPError, match="'a', frame 2"): Clip('a', c.frames, boxes)


def test_a_clip_without_joints_and_a_narrow_box():
    c = Clip('walk', [np.zeros((20,30,3), np.uint8)]*3, [[4,2,4,18]]*3)
    assert c.joints is None and c.vis is None and c.size==(30,20) and c[1:].joints is None
    assert c.center_scale(0)[1] == pytest.approx(1.25*17/200)
    j = np.full((3,13,2), 5.); j[1,4] = np.nan
    assert Clip('walk', c.frames, c.boxes, j).vis.sum()==3*13-1


def test_slices_share_the_frames():
    c = made(10)
    part = c[2:8:2]
    assert part.name=='a_2-8-2' and len(part)==3 and np.shares_memory(part.frames, c.frames)
    assert (part.joints==c.joints[2:8:2]).all() and (part.boxes==c.boxes[2:8:2]).all() and part.skel is c.skel
    assert c[2:4].name!=c[4:6].name and c[:] is c
    with pytest.raises(TypeError): c[3]
    with pytest.raises(TTPError, match='no frames'): c[7:7]
    assert 'squat' in repr(c) and '13 joints' in repr(c)


def test_a_torso_is_one_length_per_frame():
    c = replace(made(), torso=[1,2,3,4,np.nan])
    assert c.torso.dtype==float and c[1:3].torso.tolist()==[2,3] and made()[1:3].torso is None
    for bad in ([1,2,3], np.ones((5,1)), 'long'):
        with pytest.raises(TTPError, match="'a'.*torso"): replace(made(), torso=bad)

def test_weights_say_how_far_joints_are_trusted():
    g = np.random.default_rng(0).random((5,13))
    c = replace(made(), weight=g.tolist())
    assert c.weight.dtype==float and (c.weight==g).all() and made().weight is None
    assert (c[1:4:2].weight==g[1:4:2]).all() and c[::-1].weight[0].tolist()==g[4].tolist() and c[:] is c
    for bad in (g[:4], g[:,:7], g[0], g[...,None], 'much', 1., [[1]*13]*4+[[1]]):
        with pytest.raises(TTPError, match=r"'a'.*weight"): replace(made(), weight=bad)
    with pytest.raises(TTPError, match=r'weight must have shape \(5, 13\), got \(5, 12\)'):
        replace(made(), weight=g[:,:12])

@pytest.mark.parametrize('value', [-.01, 1.01, np.nan, np.inf, -np.inf])
def test_weights_out_of_range_are_refused(value):
    g = np.ones((5,13)); g[3,2] = value
    with pytest.raises(TTPError, match="'a': weights of joints must lie between 0 and 1"): replace(made(), weight=g)
    for good in (0., 1.): replace(made(), weight=np.full((5,13), good))

def test_weights_stay_with_their_frames():
    c = replace(made(), weight=np.linspace(0, 1, 65).reshape(5,13))
    for same in (in_memory(c), as_seen(c, ModelConfig(bgr=True, origin=1)), replace(c, name='b')):
        assert (same.weight==c.weight).all()
    assert pick(c, [1,3]).weight is None, 'it has no joints either'
    assert no_joints(c).joints is None, 'weights without joints are no trouble'
    assert (predict(used_model(), c)[0]==predict(used_model(), made())[0]).all()

def test_a_slice_takes_every_field_that_has_an_entry_a_frame():
    c = replace(made(6), torso=np.arange(6.), weight=np.full((6,13), .5))
    assert set(PER_FRAME)=={f.name for f in fields(Clip)}-{'name', 'skel', 'action', 'notes'}
    for name in PER_FRAME:
        assert np.array_equal(np.asarray(getattr(c[1:5:3], name)), np.asarray(getattr(c, name))[1:5:3]), name


# --- frames on disk and in memory

def counted(n=6, keep=0):
    "Lazy frames that say what was read."
    reads = []
    def read(number):
        reads.append(number)
        return np.full((4,5,3), number, np.uint8)
    return LazyFrames(read, range(10, 10+n), (5,4), keep),reads

def test_lazy_frames_are_read_when_asked_for():
    frames,reads = counted()
    part = frames[4:0:-2]
    assert len(frames)==6 and len(part)==2 and part.size==(5,4) and reads==[]
    assert [f[0,0,0] for f in part]==[14,12]==reads and frames[-1][0,0,0]==15
    assert [f[0,0,0] for f in frames[::2][1:]]==[12,14]
    for bad,error in ((6, IndexError), (-7, IndexError), (1.5, TypeError), ('1', TypeError)):
        with pytest.raises(error): frames[bad]
    assert len(list(frames))==6 and reads[-1]==15 # an iteration ends

@pytest.mark.parametrize('keep', [0, 1, 3])
def test_lazy_frames_remember_as_many_as_they_may(keep):
    frames,reads = counted(keep=keep)
    for i in (0,0,1,2,0): frames[i]
    assert reads=={0: [10,10,11,12,10], 1: [10,11,12,10], 3: [10,11,12]}[keep] and len(frames.kept)==keep

def test_in_memory_reads_each_frame_once_unless_they_are_too_many():
    frames,reads = counted()
    c = Clip('walk', frames, [[0,0,3,3]]*6)
    assert in_memory(c, most=6*4*5*3-1) is c and reads==[]
    kept = in_memory(c, most=6*4*5*3)
    assert reads==list(range(10, 16)) and isinstance(kept.frames, list) and kept.name=='walk'
    for i in (3,3,0): assert kept.frames[i][0,0,0]==10+i
    assert len(reads)==6 and kept.size==c.size==(5,4) and kept[2:].frames[0] is kept.frames[2]

def test_picked_frames_keep_name_and_box_and_lose_their_labels():
    c = numbered(1, 6)
    few = pick(c, [5,0])
    assert c.frames.reads==[] and few.name==c.name and few.joints is few.vis is None and few.skel is c.skel
    assert (few.boxes==c.boxes[[5,0]]).all() and few.size==c.size
    assert (few.frames[0]==c.frames[5]).all() and len(few)==2


# --- crops

def test_frame_crops_are_the_frames_asked_for():
    c = numbered(2, 6)
    x,Ms = frame_crops(c, [4,0,4], (8,8))
    assert x.shape==(3,3,8,8) and Ms.shape==(3,2,3) and read_back(x).tolist()==[[2,4],[2,0],[2,4]]
    assert Ms==pytest.approx(np.stack([pair_affine(c, i, (8,8)) for i in (4,0,4)]))
    assert c.frames.reads==[4,0,4], 'others were read'


# --- predictions

class FindsDots(nn.Module):
    "A `model` that finds dots: the heatmap of joint j is colour channel j, at a quarter of the resolution."
    def __init__(self, size=(64,64)):
        super().__init__()
        three = Skeleton('dots', ('red', 'green', 'blue'))
        self.cfg,self.w,self.seen = ModelConfig(size=size, skeleton=three),nn.Parameter(torch.ones(1)),[]
    def forward(self, x):
        assert not self.training and not torch.is_grad_enabled()
        self.seen.append(len(x))
        mean = x.new_tensor([.485,.456,.406])[:,None,None]/x.new_tensor([.229,.224,.225])[:,None,None]
        return nn.functional.avg_pool2d((x+mean)*self.w, 4)

def dots(T=5, size=(200,160)):
    "Three dots, one a channel, that wander, and boxes that wander otherwise."
    g = np.random.default_rng(0)
    at = g.uniform(60, 100, (T,3,2))
    y,x = np.mgrid[:size[1],:size[0]]
    frames = np.stack([np.stack([255*np.exp(-((x-p[0])**2+(y-p[1])**2)/18) for p in f], -1)
                       for f in at]).astype(np.uint8)
    corner = g.uniform(30, 50, (T,2))
    return Clip('dots', frames, np.concatenate([corner, corner+g.uniform(65, 90, (T,2))], 1)),at

@pytest.mark.parametrize('size', [(64,64), (64,96), (96,64)])
def test_predictions_are_in_frame_pixels(size):
    clip,at = dots()
    kp,conf = predict(FindsDots(size), clip)
    assert kp.shape==(5,3,2) and conf.shape==(5,3) and conf.min()>.5
    cell = max(200*clip.center_scale(t, size[0]/size[1])[1]/size[0]*4 for t in range(5)) # in frame pixels
    error = np.linalg.norm(kp-at, axis=-1)
    assert error.max()<cell and error.mean()<.6*cell, f'off by {error.max():.1f} px, a cell has {cell:.1f}'

def test_predictions_move_with_the_frame():
    clip,_ = dots()
    pad = np.pad(clip.frames, ((0,0),(13,0),(29,0),(0,0)))
    moved = Clip('moved', pad, clip.boxes+[29,13,29,13])
    assert predict(FindsDots(), moved)[0]==pytest.approx(predict(FindsDots(), clip)[0]+[29,13])

def test_frames_and_batches():
    clip,m,model = dots(7)[0],FindsDots(),used_model()
    kp,conf = predict(m, clip, batch=3)
    assert m.seen==[3,3,1]
    for frames in ([6], [2,0,2], range(3, 6), np.array([5,1])):
        assert np.array_equal(predict(m, clip, frames)[0], kp[list(frames)])
        assert np.array_equal(predict(m, clip, frames)[1], conf[list(frames)])
    c = noise_clip(T=6)
    a,b = predict(model, c),predict(model, c, batch=1)
    assert a[0].shape==(6,13,2) and np.isfinite(a[0]).all() and a[1]==pytest.approx(b[1], abs=1e-5)

def test_no_frames_no_joints():
    kp,conf = predict(FindsDots(), dots()[0], [])
    assert kp.shape==(0,3,2) and conf.shape==(0,3)

def test_predicting_changes_nothing():
    c,was = noise_clip(),torch.get_rng_state()
    for mode in (True, False):
        m = tiny_model().train(mode)
        before = weights(m)
        a,b = predict(m, c),predict(m, no_joints(c))
        assert m.training is mode and same_weights(weights(m), before) and torch.equal(torch.get_rng_state(), was)
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]), 'dropout or labels had a say'

def test_a_frame_that_cannot_be_read_leaves_the_model_as_it_was():
    class Broken(list):
        def __getitem__(self, i):
            if i==2: raise TTPError('walk/000003.jpg: cannot be read.')
            return super().__getitem__(i)
    m = tiny_model().train()
    with pytest.raises(TTPError, match='000003.jpg'):
        predict(m, replace(noise_clip(), frames=Broken(noise_clip().frames)))
    assert m.training and torch.is_grad_enabled()

def test_as_seen_is_lazy_and_leaves_the_clip_alone():
    c = noise_clip(T=5)
    seen = as_seen(c, ModelConfig(bgr=True, origin=1))
    assert np.array_equal(seen.frames[3], c.frames[3][...,::-1]) and len(seen.frames)==5
    assert np.array_equal(seen[1:4:2].frames[1], c.frames[3][...,::-1]) and seen.name==c.name
    assert np.array_equal(seen.joints, c.joints+1) and np.array_equal(seen.boxes, c.boxes)
    assert as_seen(no_joints(c), ModelConfig(origin=1)).joints is None
