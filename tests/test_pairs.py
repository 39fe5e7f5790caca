"""Pairs: draws that depend on (seed, stage, clip, step) alone, whole epochs, references, labels that fit the crops."""
from dataclasses import replace
import cv2, numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from tiny import Numbered, global_state, no_joints, noise_clip, numbered, read_back
from ttp_nb.basics import TTPError, rng_for
from ttp_nb.clips import Clip, frame_crops
from ttp_nb.geometry import crop_affine, flip_image, to_image, to_tensor, warp
from ttp_nb.heatmaps import decode_argmax
from ttp_nb.pairs import (Augmentation, PairConfig, Pairs, add_labels, bend_stills, draw_augmentation, draw_bend,
                          jitter_colors, make_pairs, near, no_augmentation, offline_pairs, online_pairs, pair_affine,
                          pair_affines, training_pairs)
from ttp_nb.skeletons import PENN13

quick = settings(max_examples=30, deadline=None, derandomize=True)


def same(a, b):
    ts = [(getattr(a, k), getattr(b, k)) for k in ('target', 'reference', 'kp', 'vis', 'heatmaps', 'weight')]
    known = lambda x: None if x is None else np.nan_to_num(np.asarray(x), nan=-1)
    return all(np.array_equal(known(x), known(y)) for x,y in ts)

SMALL = dict(size=(16,16), hm_size=(8,8))


# --- draws

def test_no_batch_touches_the_global_random_state():
    c,was = noise_clip(),global_state()
    training_pairs([c], 0, 1, 4, **SMALL); online_pairs(c, 2, 0, 4, (16,16)); offline_pairs(c, 1, 0, 4, (16,16))
    frame_crops(c, [0], (16,16))
    assert global_state()==was

def test_a_training_batch_depends_on_seed_and_step_only():
    clips = [noise_clip('a', 4, 0), noise_clip('b', 3, 1)]
    wanted = {s: training_pairs(clips, 5, s, 6, **SMALL) for s in (0,1,7)}
    for s in (7,0,1): assert same(training_pairs(clips, 5, s, 6, **SMALL), wanted[s])
    assert not same(wanted[0], wanted[1]) and not same(training_pairs(clips, 6, 0, 6, **SMALL), wanted[0])

def test_adaptation_batches_depend_on_seed_name_frame_and_step_only():
    c = noise_clip('a', 5)
    same_frames = replace(c, name='b')
    for draw in (lambda c, seed=0, step=2: online_pairs(c, 4, seed, 6, (16,16), step),
                 lambda c, seed=0, step=2: offline_pairs(c, step, seed, 6, (16,16))):
        first_time = draw(c)
        draw(same_frames); draw(c, 1)
        assert same(draw(c), first_time) and same(draw(replace(c, frames=list(c.frames))), first_time)
        for other in (draw(same_frames), draw(c, seed=1), draw(c, step=3)): assert not same(other, first_time)
        assert same(draw(no_joints(c)), first_time), 'labels had a say'
    assert not same(online_pairs(c, 3, 0, 6, (16,16), 2), online_pairs(c, 4, 0, 6, (16,16), 2))


# --- which frame with which

@quick
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 13), st.integers(0, 1000))
def test_each_epoch_sees_each_frame_once(lengths, batch, seed):
    "Also where an epoch ends within a batch, or a batch holds several epochs."
    clips,total = [numbered(v, n) for v,n in enumerate(lengths)],sum(lengths)
    steps = -(-3*total//batch)
    seen,refs = [],[]
    for s in range(steps):
        p = training_pairs(clips, seed, s, batch, (8,8), (4,4))
        assert p.target.shape==p.reference.shape==(batch,3,8,8)
        seen += read_back(p.target).tolist(); refs += read_back(p.reference).tolist()
    for e in range(3):
        assert sorted(seen[e*total:(e+1)*total])==[[v,t] for v,n in enumerate(lengths) for t in range(n)], f'epoch {e}'
    for (v,_),(rv,rt) in zip(seen, refs): assert rv==v and rt<lengths[v]
    if total>=8: assert seen[:total]!=seen[total:2*total], 'two epochs have the same order'

def test_training_references_come_from_the_whole_clip():
    c,n = numbered(0, 5),np.zeros((5,5), int)
    for s in range(120):
        p = training_pairs([c], 0, s, 10, (8,8), (4,4))
        for t,r in zip(read_back(p.target)[:,1], read_back(p.reference)[:,1]): n[t,r] += 1
    assert (n.sum(1)==240).all()
    assert n.min()>25 and n.max()<75, f'48 of each pair are expected:\n{n}' # 6 standard deviations are 37

def test_online_references_are_from_the_past():
    seen = np.zeros((5,5), int)
    for i in range(5):
        for s in range(12):
            c = numbered(0, 5, last=i) # reading a later frame fails
            p = online_pairs(c, i, 0, 8, (8,8), s)
            assert (read_back(p.target)==[0,i]).all()
            for r in read_back(p.reference)[:,1]: seen[i,r] += 1
    assert not np.triu(seen, 1).any() and (seen[np.tril_indices(5)]>0).all()
    for i in range(5): assert seen[i,:i+1].max()<2.5*96/(i+1), f'frame {i}: {seen[i]} is not uniform'

def test_online_pairs_are_rotated_but_for_the_last():
    c = noise_clip('a', 4)
    for step in (0,3):
        p = online_pairs(c, 2, 1, 9, (16,16), step)
        still = frame_crops(c, [2], (16,16))[0][0]
        assert torch.equal(p.target[-1], still)
        assert not any(torch.equal(t, still) for t in p.target[:-1])
        assert any(torch.equal(p.reference[-1], frame_crops(replace(c, boxes=c.boxes[[2]*4]), [r], (16,16))[0][0])
                   for r in range(3))
    assert p.kp is p.vis is p.heatmaps is p.weight is None

def test_offline_pairs_come_from_the_whole_clip():
    n,alike = np.zeros((2,5), int),0
    for s in range(80):
        p = offline_pairs(numbered(0, 5), s, 0, 10, (8,8))
        t,r = read_back(p.target)[:,1],read_back(p.reference)[:,1]
        n[0] += np.bincount(t, minlength=5); n[1] += np.bincount(r, minlength=5); alike += (t==r).sum()
    assert n.min()>100 and n.max()<220, n # 160 expected
    assert 100<alike<220, f'{alike} of 800 pairs show one frame twice, 160 are expected'
    assert p.kp is p.vis is p.heatmaps is p.weight is None

def test_one_frame_is_enough():
    c = noise_clip('a', 1)
    for p in (online_pairs(c, 0, 0, 5, (16,16)), offline_pairs(c, 4, 0, 5, (16,16))):
        assert torch.equal(p.target, p.reference) and p.target.std()>.1
    p = training_pairs([c], 0, 3, 5, **SMALL) # whose references are bent
    assert (p.target!=p.reference).flatten(1).any(1).all() and p.target.std()>.1

def test_frames_are_read_once_a_batch():
    c = numbered(0, 3)
    offline_pairs(c, 0, 0, 30, (8,8))
    assert sorted(c.frames.reads)==[0,1,2]

def test_an_unreadable_frame_says_which():
    class Broken(Numbered):
        def __getitem__(self, i):
            if i==1: raise TTPError('walk/000002.jpg: cannot be read.')
            return super().__getitem__(i)
    c = replace(numbered(0, 2), frames=Broken(0, 2))
    with pytest.raises(TTPError, match='000002.jpg'): training_pairs([c], 0, 0, 8, **SMALL)


# --- augmentation

def test_augmentations_are_as_published():
    s = draw_augmentation(np.random.default_rng(0), 20000)
    assert s.scale.shape==s.rot.shape==s.flip.shape==(20000,) and s.flip.dtype==bool
    assert s.scale.min()==.75 and s.scale.max()==1.25 and abs(s.scale.mean()-1)<.01
    assert np.mean((s.scale>.75) & (s.scale<1.25))==pytest.approx(.683, abs=.02) # within one standard deviation
    turned = s.rot[s.rot!=0]
    assert len(turned)/20000==pytest.approx(.6, abs=.02) and abs(turned).max()==60 and abs(turned.mean())<1
    assert np.mean(abs(turned)<30)==pytest.approx(.683, abs=.02)
    assert s.flip.mean()==pytest.approx(.5, abs=.02)
    assert abs(np.corrcoef([s.scale, s.rot, s.flip])[np.triu_indices(3, 1)]).max()<.03
    assert (draw_augmentation(np.random.default_rng(0), 500, 1.).rot!=0).all()
    assert not draw_augmentation(np.random.default_rng(0), 500, 0.).rot.any()
    still = no_augmentation(3)
    assert (still.scale==1).all() and not still.rot.any() and not still.flip.any() and len(still.scale)==3

AUGMENTATIONS = dict(scale=st.floats(.75, 1.25), rot=st.floats(-60, 60), flip=st.booleans())

@quick
@given(**AUGMENTATIONS, size=st.sampled_from([(32,32), (32,64), (64,32)]))
def test_the_box_stays_in_the_middle(scale, rot, flip, size):
    c = noise_clip()
    center,s = c.center_scale(1, size[0]/size[1])
    M = pair_affine(c, 1, size, scale, rot, flip)
    assert M@[*center,1]==pytest.approx(np.array(size)/2)
    assert np.linalg.det(M[:,:2])==pytest.approx((-1 if flip else 1)*(size[0]/(200*s*scale))**2)
    if not flip: assert M==pytest.approx(crop_affine(center, s*scale, size, rot))

@quick
@given(**AUGMENTATIONS)
def test_a_flip_is_the_mirrored_frame(scale, rot, flip):
    "A flipped crop of a clip is the plain crop of the clip whose frames and boxes are mirrored."
    c,W = noise_clip(),64
    mirrored = replace(c, frames=np.stack([flip_image(f) for f in c.frames]),
                       boxes=c.boxes[:,[2,1,0,3]]*[-1,1,-1,1]+[W,0,W,0]) # the crop's centre goes to W-1-centre
    a = warp(c.frames[0], pair_affine(c, 0, (32,32), scale, rot, not flip), (32,32))
    b = warp(mirrored.frames[0], pair_affine(mirrored, 0, (32,32), scale, rot, flip), (32,32))
    assert abs(a.astype(int)-b).mean()<1.5 and np.mean(abs(a.astype(int)-b)>40)<.02

@quick
@given(st.lists(st.builds(lambda **k: k, **AUGMENTATIONS), min_size=1, max_size=6))
def test_target_and_reference_go_through_one_map(drawn):
    "Red and green say where a pixel was, blue which frame it is."
    y,x = np.mgrid[:96,:96]*2
    frames = np.stack([np.stack([x+20, y+20, np.full_like(x, 60*t)], -1) for t in range(4)]).astype(np.uint8)
    boxes = [[30,30,60,60], [35,30,60,66], [20,30,60,62], [30,25,70,60]]
    c = Clip('a', frames, boxes)
    augmentation = Augmentation(*(np.array([d[k] for d in drawn]) for k in ('scale', 'rot', 'flip')))
    items = [(c, k%4, (k+1)%4) for k in range(len(drawn))]
    p = make_pairs(items, augmentation, (24,24))
    a,b = to_image(p.target).astype(int),to_image(p.reference).astype(int)
    inside = (a[...,0]>=20) & (a[...,1]>=20)
    assert inside.mean()>.8 and abs(a-b)[inside][:,:2].max()<=1
    for k,(_,t,r) in enumerate(items): assert (a[k,12,12,2], b[k,12,12,2])==(60*t, 60*r)
    affines = pair_affines(items, augmentation, (24,24))
    expected = np.stack([warp(frames[t], M, (24,24)) for (_,t,_),M in zip(items, affines)])
    assert torch.equal(p.target, to_tensor(expected))

def test_frames_of_different_sizes_share_a_batch():
    clips = [numbered(0, 3, size=(64,48)), numbered(1, 4, size=(100,80))]
    p = training_pairs(clips, 0, 0, 14, (16,32), (4,8))
    assert p.target.shape==(14,3,32,16) and p.heatmaps.shape==(14,13,8,4) and p.weight.shape==(14,13)
    twice = 2*[[v,t] for v,n in ((0,3), (1,4)) for t in range(n)]
    assert sorted(read_back(p.target).tolist())==sorted(twice)


# --- labels

DOT_COLORS = np.array([[255*(k>>b & 1) for b in range(3)] for k in range(1, 8)]) # seven that differ by a whole channel

def dotted(joints):
    "A clip whose joints 1..6 are dots of different colours; the other joints are not visible."
    frames = np.zeros((1,120,160,3), np.uint8)
    y,x = np.mgrid[:120,:160]
    for j in range(1, 7): frames[0][np.hypot(x-joints[j][0], y-joints[j][1])<5] = DOT_COLORS[j]
    kp = np.full((1,13,2), np.nan); kp[0,1:7] = joints[1:7]
    return Clip('dots', frames, [[20,20,140,100]], kp)

@quick
@given(**AUGMENTATIONS)
def test_mirrored_joints_change_names_and_stay_on_their_pixels(scale, rot, flip):
    at = np.array([(0,0), (60,45), (95,45), (55,65), (105,65), (70,85), (90,85)], float)
    c = dotted(at)
    augmentation,items = Augmentation(np.array([scale]), np.array([rot]), np.array([flip])),[(c,0,0)]
    p = add_labels(make_pairs(items, augmentation, (128,128)), items, augmentation, (128,128), (32,32))
    img = to_image(p.target)[0]
    for j in range(1, 7):
        x,y = np.rint(p.kp[0,j]).astype(int)
        assert (img[y,x]==DOT_COLORS[PENN13.flip[j] if flip else j]).all(), f'{PENN13.joints[j]} is at the wrong dot'
    assert p.vis[0].tolist()==[False]+[True]*6+[False]*6 # pairs are hidden together here
    peak = decode_argmax(p.heatmaps)[0][0]
    assert (abs(peak[1:7]*4-torch.from_numpy(p.kp[0,1:7]))<=2.001).all()
    assert p.weight[0].tolist()==[0]+[1]*6+[0]*6 and not p.heatmaps[0,7:].any() and torch.isfinite(p.heatmaps).all()

def test_visibility_changes_sides_with_the_joint():
    c = noise_clip(T=1, hidden=0.)
    vis = c.vis.copy(); vis[0,[1,6]] = False # right shoulder, left wrist
    joints = c.joints.copy(); joints[0,1] = np.nan
    c = replace(c, joints=joints, vis=vis)
    for flip,hidden in ((False,[1,6]), (True,[2,5])):
        augmentation,items = Augmentation(np.ones(1), np.zeros(1), np.array([flip])),[(c,0,0)]
        p = add_labels(make_pairs(items, augmentation, (32,32)), items, augmentation, (32,32), (16,16))
        assert np.flatnonzero(~p.vis[0]).tolist()==hidden and not p.weight[0][hidden].any() and p.weight.sum()==11
        assert not p.heatmaps[0][hidden].any() and torch.isfinite(p.heatmaps).all()
    assert c.vis[0,[1,6]].tolist()==[False,False] and np.isnan(c.joints[0,1]).all(), 'the clip itself was changed'

def test_all_joints_hidden_is_no_trouble():
    c = replace(noise_clip(T=2), joints=np.full((2,13,2), np.nan), vis=np.zeros((2,13), bool))
    p = training_pairs([c], 0, 0, 4, **SMALL)
    assert not p.weight.any() and not p.heatmaps.any() and torch.isfinite(p.target).all()

def test_pairs_move_with_what_they_have():
    plain = Pairs(torch.zeros(1), torch.ones(1)).to('meta')
    assert plain.target.device.type==plain.reference.device.type=='meta'
    assert plain.heatmaps is plain.weight is plain.kp is None
    full = training_pairs([noise_clip()], 0, 0, 2, **SMALL)
    moved = full.to('meta')
    assert {moved.heatmaps.device.type, moved.weight.device.type}=={'meta'} and moved.kp is full.kp
    assert full.target.device.type=='cpu'


# --- how far labels are trusted

def weighted(T=3, seed=0, **kw):
    c = noise_clip('w', T, seed, **kw)
    return replace(c, weight=np.random.default_rng(seed).uniform(.1, 1, (T,13)))

def test_trust_multiplies_the_weights_of_the_targets():
    c = weighted(hidden=.3)
    items,augmentation = [(c,t,0) for t in (0,1,2,1)],no_augmentation(4)
    bare = make_pairs(items, augmentation, (32,32))
    p = add_labels(bare, items, augmentation, (32,32), (16,16))
    plain = [(replace(c, weight=None),t,0) for t in (0,1,2,1)]
    q = add_labels(bare, plain, augmentation, (32,32), (16,16))
    assert p.weight.dtype==q.weight.dtype and torch.equal(p.heatmaps, q.heatmaps) and np.array_equal(p.vis, q.vis)
    assert p.weight.numpy()==pytest.approx(q.weight.numpy()*c.weight[[0,1,2,1]]) and 0<q.weight.mean()<1
    ones = [(replace(c, weight=np.ones((3,13))),t,0) for t in (0,1,2,1)]
    assert torch.equal(add_labels(bare, ones, augmentation, (32,32), (16,16)).weight, q.weight)

def test_trust_changes_sides_with_its_joint():
    c = weighted(T=1, hidden=0.)
    at = np.full((1,13,2), 32.); c = replace(c, joints=at) # all in the middle, so that all of them count
    for flip in (False, True):
        augmentation,items = Augmentation(np.ones(1), np.zeros(1), np.array([flip])),[(c,0,0)]
        p = add_labels(make_pairs(items, augmentation, (32,32)), items, augmentation, (32,32), (16,16))
        order = list(PENN13.flip) if flip else list(range(13))
        assert p.weight[0].numpy()==pytest.approx(c.weight[0][order])
    assert list(PENN13.flip)!=list(range(13)) and len(set(c.weight[0]))==13

def test_a_joint_without_trust_teaches_nothing():
    c = weighted(hidden=0.)
    weight = c.weight.copy(); weight[:,[4,5]] = 0
    p = training_pairs([replace(c, weight=weight)], 0, 0, 12, **SMALL)
    for k in range(12):
        untaught = np.flatnonzero(p.weight[k].numpy()==0)
        assert {3,6} <= set(untaught) or {4,5} <= set(untaught), 'in a mirrored crop the other sides'

def test_clips_with_and_without_weights_share_a_batch():
    half,whole = replace(noise_clip('a', 4, 0, hidden=0.), weight=np.full((4,13), .5)),noise_clip('b', 4, 1, hidden=0.)
    values = set()
    for s in range(4): values |= set(training_pairs([half, whole], 0, s, 8, **SMALL).weight.unique().tolist())
    assert values <= {0., .5, 1.} and {.5, 1.} <= values

def trusted(joints, weight=1.):
    "Pseudo-labels (T,J,3): places, and one weight for all."
    return np.concatenate([joints, np.full((*joints.shape[:2], 1), weight)], -1)

def test_pseudo_labels_of_personalization_have_their_own_weight():
    "They are another network's: what the clip says of its own joints has no say."
    c = weighted(hidden=0.)
    labels = dict(pseudo_labels=trusted(c.joints), hm_size=(8,8))
    p,q = (online_pairs(x, 2, 0, 6, (16,16), **labels) for x in (c, replace(c, weight=None)))
    assert same(p, q) and set(p.weight.unique().tolist()) <= {0., 1.}
    labels['pseudo_labels'] = trusted(c.joints, .25)
    less = online_pairs(c, 2, 0, 6, (16,16), **labels)
    assert torch.equal(less.weight, p.weight/4) and torch.equal(less.heatmaps, p.heatmaps)


# --- photographs

class Still:
    "Gives of every draw the middle of its distribution, or for the n-th draw what it is told."
    def __init__(self, **told): self.told,self.n = told,-1
    def normal(self, mean, std, size=None):
        self.n += 1
        shape = np.shape(std) if size is None else size
        return np.broadcast_to(np.asarray(self.told.get(f'draw{self.n}', 0.)), shape)+0.

def places(size):
    x,y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return np.stack([x, y], -1)

@pytest.mark.parametrize('size', [(32,32), (64,48), (33,70), (17,16), (5,6)])
def test_a_bend_by_hand(size):
    "Without any draw it is the identity; shift, turn and growth are affine maps, which a spline keeps as they are."
    W,H = size
    far = np.array(size)-1.
    still = draw_bend(Still(), size)
    assert still.shape==(H,W,2) and still.dtype==np.float32 and still==pytest.approx(places(size), abs=1e-3)
    shifted = draw_bend(Still(draw1=(.1,-.2)), size)
    assert shifted==pytest.approx(places(size)+far*(.1,-.2), abs=1e-3)
    turned = draw_bend(Still(draw0=(np.pi/2, np.log(2))), size)
    x,y = np.moveaxis(places(size)-far/2, -1, 0)
    assert turned==pytest.approx(np.stack([-2*y, 2*x], -1)+far/2, abs=1e-3)

def test_a_bend_moves_its_control_points():
    moved = np.zeros((16,2)); moved[5] = .1,-.05 # one of the four in the middle, and no other
    bend = (draw_bend(Still(draw2=moved), (49,49))-places((49,49)))/48
    at = [0,16,32,48]
    grid = bend[at][:,at]
    assert grid[1,1]==pytest.approx(moved[5], abs=.006) # the spline is worked out on 17x17 places, lines between
    grid[1,1] = 0
    assert abs(grid).max()<.003 and .01<bend[16,22,0]<.095

def test_bends_are_small_and_depend_on_their_generator_alone():
    was,g = global_state(),np.random.default_rng
    a,b,c = draw_bend(g(3), (64,48)),draw_bend(g(3), (64,48)),draw_bend(g(4), (64,48))
    assert np.array_equal(a, b) and not np.array_equal(a, c) and global_state()==was
    bends = [draw_bend(g(i), (64,48))-places((64,48)) for i in range(60)]
    mean = np.mean(bends, 0)
    assert abs(mean).max()<4 and .5<np.std([b.mean((0,1))[0] for b in bends])/(.05*63)<1.5
    assert 1<np.median([abs(b).mean() for b in bends])<10, 'pixels'

def stills(n, size=(64,48), seed=0): return [noise_clip(f's{i}', 1, seed+i, size) for i in range(n)]

@pytest.mark.parametrize('size', [(32,32), (32,64), (48,32), (33,17)])
def test_only_photographs_are_bent_and_their_references_alone(size):
    clips = [*stills(2), noise_clip('video', 3, 7), *stills(1, seed=9)]
    items = [(clips[0],0,0), (clips[2],1,2), (clips[1],0,0), (clips[2],0,0), (clips[3],0,0)]
    augmentation = no_augmentation(5)
    hm_size = max(size[0]//2, 1),max(size[1]//2, 1)
    p = add_labels(make_pairs(items, augmentation, size), items, augmentation, size, hm_size)
    before = {k: np.copy(getattr(p, k)) for k in ('target', 'reference', 'kp', 'vis', 'heatmaps', 'weight')}
    q = bend_stills(p, items, rng_for(0, 'x'))
    assert all(np.array_equal(getattr(p, k), v, equal_nan=k=='kp') for k,v in before.items()), 'the batch was changed'
    for k in ('target', 'kp', 'vis', 'heatmaps', 'weight'): assert getattr(q, k) is getattr(p, k)
    changed = (q.reference!=p.reference).flatten(1).any(1)
    assert changed.tolist()==[True,False,True,False,True] and q.reference.shape==p.reference.shape
    assert q.reference.dtype==torch.float32 and q.reference.isfinite().all()
    assert q.reference.min()>=p.reference.min()-1e-5 and q.reference.max()<=p.reference.max()+1e-5 # no new colours

def test_a_bent_reference_is_the_remapped_target():
    items,augmentation = [(c,0,0) for c in stills(2)],no_augmentation(2)
    p = make_pairs(items, augmentation, (40,24))
    q,g = bend_stills(p, items, rng_for(1, 'x')),rng_for(1, 'x')
    for k in range(2): # one after the other from the same generator
        crop = p.reference[k].permute(1, 2, 0).numpy().copy()
        bent = cv2.remap(crop, draw_bend(g, (40,24)), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        assert torch.equal(q.reference[k], torch.from_numpy(bent).permute(2, 0, 1))

def test_bends_depend_on_the_generator_and_nothing_else():
    items,augmentation = [(c,0,0) for c in stills(2)],no_augmentation(2)
    p,was = make_pairs(items, augmentation, (32,32)),global_state()
    a,b,c = (bend_stills(p, items, rng_for(s, 'x')).reference for s in (0,0,1))
    assert torch.equal(a, b) and not torch.equal(a, c) and global_state()==was
    g = rng_for(0, 'x')
    video = [(noise_clip('v', 2), 0, 1)]*2
    assert bend_stills(p, video, g) is p and g.random()==rng_for(0, 'x').random(), 'a batch of videos draws nothing'

def test_a_batch_of_photographs_is_bent_and_one_of_videos_as_before():
    mixed = [*stills(3), noise_clip('v', 4, 5)]
    p = training_pairs(mixed, 0, 0, 14, **SMALL)
    assert same(p, training_pairs(mixed, 0, 0, 14, **SMALL)) and not same(p, training_pairs(mixed, 0, 1, 14, **SMALL))
    alone = training_pairs(stills(3), 0, 0, 9, (32,32), (16,16))
    assert ((alone.target!=alone.reference).flatten(1).float().mean(1)>.2).all()
    assert torch.isfinite(alone.reference).all() and alone.weight.sum()>0

def test_personalization_bends_nothing():
    "One frame of a user's own is a video of one frame: the rules of the paper."
    c = stills(1)[0]
    for p in (online_pairs(c, 0, 0, 3, (16,16)), offline_pairs(c, 0, 0, 3, (16,16))):
        assert torch.equal(p.target, p.reference)


# --- the rules of `PairConfig`

def test_a_reference_lies_within_reach():
    for reach in (0, 1, 3):
        cfg,far = PairConfig(reach=reach),set()
        for s in range(25):
            p = training_pairs([numbered(0, 9)], 0, s, 6, (8,8), (4,4), cfg)
            far |= {abs(int(a)-int(b)) for a,b in zip(read_back(p.target)[:,1], read_back(p.reference)[:,1])}
            p = online_pairs(numbered(0, 9, last=6), 6, 0, 6, (8,8), s, cfg)
            far |= {6-int(r) for r in read_back(p.reference)[:,1]}
        assert far==set(range(reach+1)), reach

@pytest.mark.parametrize('t,n,reach,wanted', [(0,5,2,(0,3)), (4,5,2,(2,5)), (2,5,0,(2,3)), (3,5,None,(0,5)),
                                              (3,5,99,(0,5))])
def test_near(t, n, reach, wanted): assert near(t, n, PairConfig(reach=reach))==wanted

def test_the_authors_variants_of_online_pairs():
    seen = lambda cfg,last: [read_back(getattr(online_pairs(numbered(0, 8, last=last), 3, 0, 9, (8,8), s, cfg), k))[:,1]
                             for s in range(20) for k in ('target', 'reference')]
    ahead = seen(PairConfig(ahead=True), None)
    assert {int(x) for r in ahead[1::2] for x in r}==set(range(8)) and all((t==3).all() for t in ahead[::2])
    mixed = seen(PairConfig(mixed=True), 3)
    assert {int(x) for t in mixed[::2] for x in t}=={0,1,2,3}=={int(x) for r in mixed[1::2] for x in r}
    assert all(t[-1]==3 for t in mixed[::2]) # the frame that has come is there, unaugmented
    p = online_pairs(numbered(0, 8), 3, 0, 9, (16,16), cfg=PairConfig(mixed=True))
    assert torch.equal(p.target[-1], frame_crops(numbered(0, 8), [3], (16,16))[0][0])

def test_defaults_draw_what_they_always_drew():
    c = noise_clip()
    wide = PairConfig(reach=1000, ahead=False)
    assert same(online_pairs(c, 3, 0, 5, (16,16)), online_pairs(c, 3, 0, 5, (16,16), cfg=wide))
    assert same(training_pairs([c], 0, 2, 5, **SMALL), training_pairs([c], 0, 2, 5, **SMALL, cfg=wide))

@pytest.mark.parametrize('scale,rot', [(0., 0.), (.1, 5.), (.4, 90.)])
def test_strength_of_the_augmentation(scale, rot):
    s = draw_augmentation(np.random.default_rng(0), 4000, 1., PairConfig(scale=scale, rot=rot, flip=False))
    assert s.scale.min()==pytest.approx(1-scale) and s.scale.max()==pytest.approx(1+scale) and not s.flip.any()
    assert abs(s.rot).max()==pytest.approx(2*rot) and s.rot.std()==pytest.approx(.96*rot, rel=.05)

def test_targets_sigma_and_edges():
    c = numbered(0, 1)
    c.joints[0,:,0] = 32-32*np.arange(13)/12*3 # from the middle to far left of the crop
    items,augmentation = [(c, 0, 0)],no_augmentation(1)
    a,b,wide = (add_labels(make_pairs(items, augmentation, (128,128)), items, augmentation, (128,128), (32,32), k)
                for k in (PairConfig(), PairConfig(authors_edges=True), PairConfig(sigma=3.)))
    differ = a.weight!=b.weight
    assert torch.equal(a.heatmaps, b.heatmaps) and (b.weight[differ]==1).all() and not b.heatmaps[differ].any()
    assert wide.heatmaps[0,0].sum()>1.8*a.heatmaps[0,0].sum()


# --- pseudo-labels

def draws_of(pairs): return [getattr(pairs, k) for k in ('target', 'reference')]

@pytest.mark.parametrize('draw', [lambda c, **kw: online_pairs(c, 2, 0, 6, (16,16), 1, **kw),
                                  lambda c, **kw: offline_pairs(c, 3, 0, 6, (16,16), **kw)], ids=['online', 'offline'])
def test_pseudo_labels_stand_for_the_clips_joints(draw):
    "The same crops as without, labelled as the joints say and not as the clip does; only what is known counts."
    c = noise_clip('a', 4, hidden=0.)
    joints = trusted(c.joints+3.)
    joints[:,4] = np.nan
    plain, p = draw(c), draw(c, pseudo_labels=joints, hm_size=(8,8))
    assert all(map(torch.equal, draws_of(plain), draws_of(p))) and plain.kp is plain.heatmaps is None
    assert same(p, draw(no_joints(c), pseudo_labels=joints, hm_size=(8,8))), "the clip's labels had a say"
    annotated = draw(c, pseudo_labels=trusted(c.joints), hm_size=(8,8))
    assert not torch.equal(annotated.heatmaps, p.heatmaps) and annotated.vis.all()
    unknown = ~p.vis
    assert (unknown.sum(1)==1).all() and (unknown[:,3] | unknown[:,4]).all() # its name where mirrored: the other elbow
    assert not p.weight[torch.from_numpy(unknown)].any() and torch.isfinite(p.heatmaps).all()
    assert p.heatmaps.shape==(6,13,8,8) and p.weight.sum()>0

def test_adding_labels_leaves_the_unlabelled_batch_alone():
    c = noise_clip('a', 2)
    items,augmentation = [(c,0,1)]*3,no_augmentation(3)
    bare = make_pairs(items, augmentation, (16,16))
    full = add_labels(bare, items, augmentation, (16,16), (8,8))
    assert bare.kp is bare.vis is bare.heatmaps is bare.weight is None
    assert full.target is bare.target and full.heatmaps.shape==(3,13,8,8)


# --- colour jitter

@pytest.mark.parametrize('share', [0., .4, 1.])
def test_target_and_reference_share_the_jitter(share):
    "A pair of equal crops stays one, but for the noise; what is not chosen is not touched, nor is the argument."
    g = torch.Generator().manual_seed(0)
    x = torch.rand(40, 3, 16, 16, generator=g)-.5
    was = Pairs(x.clone(), x.clone())
    p = jitter_colors(was, rng_for(0, 'film'), share)
    assert torch.equal(was.target, x) and torch.equal(was.reference, x), 'the batch itself was changed'
    changed = (p.target!=x).flatten(1).any(1)
    assert torch.equal(changed, (p.reference!=x).flatten(1).any(1))
    assert changed.float().mean()==pytest.approx(share, abs=.2) and (changed.all() if share==1 else True)
    assert (share==0)==(not changed.any())
    assert (p.target-p.reference).abs().mean()<.3*(p.target-x)[changed].abs().mean() if share else True
    again = jitter_colors(Pairs(x.clone(), x.clone()), rng_for(0, 'film'), share)
    assert torch.equal(again.target, p.target) and torch.equal(again.reference, p.reference)

def test_labels_stay_in_any_colours():
    p = training_pairs([noise_clip(T=3)], 0, 1, 4, **SMALL)
    q = jitter_colors(p, rng_for(1, 'film'), 1.)
    assert torch.equal(p.heatmaps, q.heatmaps) and torch.equal(p.weight, q.weight)
    assert not torch.equal(p.target, q.target)
    assert torch.isfinite(q.target).all() and q.target.shape==p.target.shape
