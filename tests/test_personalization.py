"""Personalization: what moves, what stays, that nothing leaks between clips, from labels or from the future."""
from dataclasses import replace
from functools import partial
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from tiny import briefly_trained, first, global_state, no_joints, noise_clip, person, same_weights, tiny_model, weights
from ttp_nb import guard, personalization
from ttp_nb.clips import Clip, frame_crops, pick, predict
from ttp_nb.geometry import to_tensor, warp
from ttp_nb.guard import guarded
from ttp_nb.pairs import PairConfig, offline_pairs, online_pairs, pair_affine
from ttp_nb.skeletons import Skeleton
from ttp_nb.personalization import (MOVING, VIEWS, Adaptation, Personalized, TTPConfig, adapt, adapt_step, answer,
                                    carried, consensus, freeze, offline, online, self_training, start_copy,
                                    view_heatmaps)
from ttp_nb.basics import TTPError

FAST = TTPConfig(batch=3, lr=1e-2) # large steps: what moves is seen to move
HM_SIZE = (16,16) # of a tiny network
RUNS = {'online': online, 'offline': offline}
both = pytest.mark.parametrize('run', RUNS.values(), ids=RUNS)
both_modes = pytest.mark.parametrize('mode', RUNS)

@pytest.fixture(scope='module')
def model(): return briefly_trained()

def same(a, b, model=True):
    return (np.array_equal(a.kp, b.kp) and np.array_equal(a.conf, b.conf) and np.array_equal(a.losses, b.losses)
            and (not model or same_weights(weights(a.model), weights(b.model))))


def pseudo_labels(model, clip):
    "The network's own answers, asked for one by one, of full weight."
    kp = np.stack([predict(model, clip, [i])[0][0] for i in range(len(clip))])
    return np.concatenate([kp, np.ones_like(kp[..., :1])], -1)

def driven(mode, model, clip, cfg=FAST, between=lambda a: None):
    "What `online` and `offline` do, by hand, with something done after each turn."
    a, answers = Adaptation(model, clip, cfg), []
    for i, losses in enumerate(adapt(a, mode)):
        assert a.done==i+1 and not a.model.training
        if mode=='online': answers.append(predict(a.model, clip, [i]))
        between(a)
    kp, conf = map(np.concatenate, zip(*answers)) if answers else predict(a.model, clip)
    return Personalized(kp, conf, np.array(a.losses), a.model)


# --- what moves

def frozen_names(m):
    norms = {n for n,x in m.named_modules() if isinstance(x, (torch.nn.BatchNorm2d, torch.nn.LayerNorm))}
    return {k for k in weights(m) if k.rpartition('.')[0] in norms or k.split('.')[0] in ('affinity', 'joints')
            or k=='head.bias'}

@both
@pytest.mark.parametrize('shared', [False, True])
def test_what_moves_and_what_stays(run, shared):
    m = tiny_model(shared=shared)
    was,now = weights(m),weights(run(m, person(0), FAST).model)
    moved = {k for k in was if not torch.equal(was[k], now[k])}
    stays = frozen_names(m)
    assert not moved & stays, f'moved: {sorted(moved & stays)}'
    assert moved=={k for k in was if k.split('.')[0] in MOVING and k not in stays} | {'perceptual.mean'}
    assert {k.split('.')[0] for k in moved}=={*MOVING, 'perceptual'} and len(stays)>20

def test_freezing_is_complete():
    m = tiny_model().train()
    params = freeze(m)
    assert not m.training and not any(x.training for x in m.modules())
    moving = {n for n,p in m.named_parameters() if p.requires_grad}
    assert len(params)==len(moving) and {n.split('.')[0] for n in moving}==set(MOVING) and not moving & frozen_names(m)
    assert freeze(m)==params or all(a is b for a,b in zip(freeze(m), params)), 'twice is once'

@both
def test_the_trained_model_is_not_changed(run, model):
    model.train(); model.requires_grad_(True)
    was,grads = weights(model),[p.grad for p in model.parameters()]
    try:
        r = run(model, person(0), FAST)
        assert model.training and all(p.requires_grad for p in model.parameters()) and same_weights(weights(model), was)
        assert all(p.grad is g for p,g in zip(model.parameters(), grads))
        assert r.model is not model and not r.model.training
        assert not {p.data_ptr() for p in r.model.parameters()} & {p.data_ptr() for p in model.parameters()}
    finally: model.eval()

@both
def test_each_clip_starts_from_the_trained_weights(run, model):
    "The order of the clips does not matter, nor how often one was seen."
    clips = [person(i) for i in range(3)]
    there = [run(model, c, FAST) for c in clips]
    back = [run(model, c, FAST) for c in reversed(clips)][::-1]
    assert all(same(a, b) for a,b in zip(there, back)) and same(run(model, clips[1], FAST), there[1])
    assert not same_weights(weights(there[0].model), weights(there[1].model))

def test_each_adam_is_fresh(model):
    (m,a),(n,b) = start_copy(model, FAST),start_copy(model, FAST)
    p = offline_pairs(person(0), 0, 0, 3, (32,32))
    adapt_step(m, a, p)
    assert m is not n and a.state and not b.state and not same_weights(weights(m), weights(n))
    assert same_weights(weights(n), weights(model))
    assert a.param_groups[0]['lr']==FAST.lr and a.param_groups[0]['weight_decay']==0

def test_a_step_is_adam_on_the_self_supervised_loss(model):
    m,opt = start_copy(model, FAST)
    p = offline_pairs(person(0), 0, 0, 3, (32,32))
    with torch.no_grad(): loss = start_copy(model, FAST)[0].self_supervised_loss(p.target, p.reference).item()
    was = m.head.weight.detach().clone()
    assert adapt_step(m, opt, p)==pytest.approx(loss, rel=1e-5)
    change = (m.head.weight-was)[m.head.weight.grad!=0].abs()
    assert change.max().item()==pytest.approx(FAST.lr, rel=1e-3), "Adam's first step is as long as its rate"

def test_adapting_learns(model):
    r = offline(model, person(0, frames=8), TTPConfig(batch=8, lr=1e-3, epochs=5))
    assert len(r.losses)==40 and np.isfinite(r.losses).all() and r.losses[-10:].mean()<r.losses[:5].mean()


# --- no labels

@both
def test_labels_are_never_looked_at(run, model):
    c = person(1)
    r,g = run(model, c, FAST),np.random.default_rng(0)
    wrong = replace(c, joints=g.uniform(0, 200, c.joints.shape), vis=g.random(c.vis.shape)>.5)
    for other in (no_joints(c), wrong, replace(c, action='', torso=np.full(len(c), np.nan))):
        assert same(run(model, other, FAST), r)

@both
def test_the_seed_decides_and_the_global_state_does_not(run, model):
    c,was = person(1),global_state()
    a = run(model, c, FAST)
    assert global_state()==was
    state = torch.get_rng_state()
    torch.manual_seed(9); np.random.seed(9)
    b = run(model, c, FAST)
    torch.set_rng_state(state)
    assert same(a, b) and not same(run(model, c, replace(FAST, seed=1)), a)
    assert not same(run(model, replace(c, name='another'), FAST), a), 'two people with the same draws'


# --- online

@settings(max_examples=8, deadline=None, derandomize=True)
@given(n=st.integers(1, 5), per_frame=st.integers(1, 2))
def test_a_frame_does_not_depend_on_later_ones(model, n, per_frame):
    "The clip cut after n frames gives the first n predictions, and the first n steps, of the whole."
    c,cfg = person(2, frames=6),replace(FAST, per_frame=per_frame)
    whole,part = online(model, c, cfg),online(model, first(c, n), cfg)
    assert np.array_equal(part.kp, whole.kp[:n]) and np.array_equal(part.conf, whole.conf[:n])
    assert np.array_equal(part.losses, whole.losses[:n*per_frame]) and len(whole.losses)==6*per_frame

class Arriving:
    "Frames of which those up to `now` are there."
    def __init__(self, frames): self.frames,self.now,self.size = frames,0,frames[0].shape[1::-1]
    def __len__(self): return len(self.frames)
    def __getitem__(self, i):
        assert i<=self.now, f'frame {i} was read when {self.now} had arrived'
        return self.frames[i]

def test_online_reads_no_frame_before_it_arrives(model, monkeypatch):
    c = person(2)
    frames = Arriving(c.frames)
    def arriving(a): frames.now = a.done   # the next frame arrives when a turn is done and its frame is answered
    assert same(driven('online', model, replace(c, frames=frames), between=arriving), online(model, c, FAST))
    assert frames.now==len(c)
    frames.now = 0
    with pytest.raises(AssertionError, match='frame 1 was read when 0 had arrived'):   # it would be noticed
        driven('online', model, replace(c, frames=frames))
    def advancing(a, mode):
        for losses in adapt(a, mode):
            yield losses
            frames.now = a.done
    whole, frames.now = online(model, c, FAST), 0
    monkeypatch.setattr(personalization, 'adapt', advancing)
    assert same(online(model, replace(c, frames=frames), FAST), whole) and frames.now==len(c)

def test_online_predicts_with_the_weights_of_the_moment(model):
    c = person(3)
    m,opt = start_copy(model, FAST)
    kp,losses = [],[]
    for i in range(len(c)):
        pairs = online_pairs(c, i, FAST.seed, FAST.batch, (32,32), pseudo_labels=pseudo_labels(model, c),
                             hm_size=HM_SIZE)
        losses.append(adapt_step(m, opt, pairs, FAST.anchor_weight))
        kp.append(predict(m, c, [i])[0][0])
    r = online(model, c, FAST)
    assert np.array_equal(r.kp, kp) and np.array_equal(r.losses, losses) and same_weights(weights(r.model), weights(m))
    assert not np.array_equal(r.conf, predict(r.model, c)[1]), 'the first frames were predicted with the last weights'

def test_offline_predicts_with_the_final_weights(model):
    c = person(3)
    r = offline(model, c, FAST)
    kp,conf = predict(r.model, c)
    assert np.array_equal(r.kp, kp) and np.array_equal(r.conf, conf) and not np.array_equal(conf, predict(model, c)[1])


# --- how many steps

@pytest.mark.parametrize('epochs,steps', [(0, 0), (.2, 1), (1, 5), (1.6, 8), (2, 10)])
def test_offline_steps(model, epochs, steps):
    r = offline(model, person(0), replace(FAST, epochs=epochs))
    assert r.losses.shape==(steps,) and r.kp.shape==(5,13,2) and r.conf.shape==(5,13)
    if not steps: assert np.array_equal(r.kp, predict(model, person(0))[0])

def test_no_steps_is_before(model):
    c,before = person(0),predict(model, person(0))
    for r in (online(model, c, replace(FAST, per_frame=0)), offline(model, c, replace(FAST, epochs=0)),
              online(model, c, replace(FAST, lr=0.)),
              offline(model, c, replace(FAST, lr=0.))):
        assert r.kp==pytest.approx(before[0], abs=1e-3) and r.conf==pytest.approx(before[1], abs=1e-5)

@both
def test_one_frame(run, model):
    r = run(model, first(person(0), 1), FAST)
    assert r.kp.shape==(1,13,2) and r.losses.shape==(1,) and np.isfinite(r.kp).all()

# --- the loop, driven from outside

@both_modes
def test_every_turn_is_seen(mode, model):
    a = Adaptation(model, person(0), FAST)
    seen,losses = [(a.done, weights(a.model))],[]
    for new in adapt(a, mode):
        seen.append((a.done, weights(a.model)))
        losses += new
        assert not a.model.training and len(new)==1
    assert [d for d,_ in seen]==list(range(6)) and same_weights(seen[0][1], weights(model))
    for (_,before),(_,after) in zip(seen, seen[1:]): assert not same_weights(before, after)
    r = RUNS[mode](model, person(0), FAST)
    assert same_weights(seen[-1][1], weights(r.model)) and losses==a.losses==r.losses.tolist()
    looked = driven(mode, model, person(0), between=lambda a: weights(a.model))
    assert same(looked, r), 'being watched changed something'

def test_online_counts_frames_not_steps(model):
    a = Adaptation(model, person(0), replace(FAST, per_frame=2))
    assert [(len(new), a.done) for new in adapt(a, 'online')]==[(2, i) for i in range(1, 6)] and len(a.losses)==10

@both_modes
def test_predictions_between_turns_do_not_matter(mode, model):
    c = person(0)
    assert same(driven(mode, model, c, between=lambda a: predict(a.model, noise_clip())), RUNS[mode](model, c, FAST))

@both_modes
def test_it_may_be_left_at_any_turn(mode, model):
    class Enough(Exception): pass
    def leave(a):
        if a.done==2: raise Enough
    was = weights(model)
    with pytest.raises(Enough): driven(mode, model, person(0), between=leave)
    assert same_weights(weights(model), was)

@both_modes
def test_another_loop_goes_on_where_one_was_left(mode, model):
    c = person(0)
    a,whole = Adaptation(model, c, FAST),RUNS[mode](model, c, FAST)
    turns = adapt(a, mode)
    for _ in range(2): next(turns)
    turns.close()
    assert [a.done for _ in adapt(a, mode)]==[3, 4, 5] and a.losses==whole.losses.tolist()
    assert same_weights(weights(a.model), weights(whole.model)) and not [*adapt(a, mode)], 'it was at its end'

@both_modes
def test_what_is_stopped_learns_no_more(mode, model):
    a = Adaptation(model, person(0), FAST)
    turns = adapt(a, mode)
    for _ in range(2): next(turns)
    was,a.stopped = weights(a.model),'enough'
    assert [*turns]==([[]]*3 if mode=='online' else []) and a.done==(5 if mode=='online' else 2)
    assert len(a.losses)==2 and same_weights(weights(a.model), was)

@both_modes
def test_frames_left_out_are_not_learned_from(mode, model):
    "Other pictures there: the same losses and weights. The turns are those of the others, online of all frames."
    c = person(0)
    other = replace(c, frames=[255-f if i in (1, 4) else f for i,f in enumerate(c.frames)])
    a,b = (Adaptation(model, x, FAST, learn=[0, 2, 3]) for x in (c, other))
    got = [[len(new) for new in adapt(x, mode)] for x in (a, b)]
    assert got==[[1, 0, 1, 1, 0] if mode=='online' else [1, 1, 1]]*2
    assert a.losses==b.losses and same_weights(weights(a.model), weights(b.model))

def test_a_restart_keeps_model_and_optimiser_the_same_objects(model):
    "Who watches them goes on watching those that learn."
    a = Adaptation(model, person(0), FAST)
    m,opt = a.model,a.opt
    turns = adapt(a, 'online')
    for _ in range(2): next(turns)
    mean = m.perceptual.mean.clone()
    a.restart()
    assert a.model is m and a.opt is opt and not opt.state_dict()['state'] and torch.equal(m.perceptual.mean, mean)
    for (k,now),start in zip(m.state_dict().items(), model.state_dict().values()):
        assert torch.equal(now, start) or k=='perceptual.mean', k
    next(turns)
    assert not same_weights(weights(a.model), weights(model)) and opt.state_dict()['state']


# --- what cannot be

@both
def test_a_baseline_is_refused(run):
    m = tiny_model('baseline')
    was = weights(m)
    with pytest.raises(TTPError, match='joint model.*baseline'): run(m, person(0), FAST)
    assert same_weights(weights(m), was) and all(p.requires_grad for p in m.parameters())

@both
def test_a_frame_that_cannot_be_read_says_which(run, model):
    class Broken(list):
        def __getitem__(self, i):
            if i==3: raise TTPError('walk/000004.jpg: cannot be read.')
            return super().__getitem__(i)
    with pytest.raises(TTPError, match='000004.jpg'):
        run(model, replace(person(0), frames=Broken(person(0).frames)), FAST)

@both
def test_under_no_grad_it_still_learns(run, model):
    "A caller who predicts under no_grad need not know that there is a backward pass inside."
    with torch.no_grad():
        r = run(model, person(0), FAST)
        assert not torch.is_grad_enabled()
    assert same(r, run(model, person(0), FAST))


# --- what views agree on

SELF = self_training(batch=3, lr=1e-2)

def test_views_of_one_frame_agree_where_the_network_does_not_mind(model):
    "Heatmaps that follow the picture come back to the same place through every view."
    class Bright(torch.nn.Module): # each heatmap is the brightness
        cfg = model.cfg
        def __init__(self): super().__init__(); self.p = torch.nn.Parameter(torch.zeros(1))
        def forward(self, x): return torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True), 2).expand(-1, 13, -1, -1)+2
    img = np.zeros((64,64,3), np.uint8)
    img[30:35,38:43] = 255
    clip = Clip('dot', [img], [[8,8,56,56]], skel=model.cfg.skeleton)
    hm,_ = view_heatmaps(Bright(), clip, [0])
    kp,_ = consensus(Bright(), clip)
    assert hm.shape==(len(VIEWS),1,13,16,16) and np.abs(kp-[40,32]).max()<2
    peaks = [divmod(int(h.argmax()), 16) for h in hm[:,0,0]]
    assert all(abs(y-peaks[0][0])<=1 and abs(x-peaks[0][1])<=1 for y,x in peaks)

def test_left_and_right_change_names_in_mirrored_views(model):
    clip = person(0)
    hm,own = view_heatmaps(model, clip, [1], VIEWS[:2])
    flip = list(model.cfg.skeleton.flip)
    view = np.stack([pair_affine(clip, 1, (32,32), flip=True)])
    crops = to_tensor(np.stack([warp(clip.frames[1], M, (32,32)) for M in (own[0], view[0])]))
    with torch.no_grad(): other = model(crops)[1:, flip]           # both views of the frame are one batch
    assert torch.equal(hm[1], carried(other, view, own, (32,32)))

def test_one_view_is_the_frame_as_it_is(model):
    clip = person(1)
    kp,conf = consensus(model, clip, views=VIEWS[:1])
    assert np.allclose(kp, predict(model, clip)[0], atol=1e-3) and np.allclose(conf, predict(model, clip)[1], atol=1e-5)
    assert np.array_equal(answer(model, clip)[0], predict(model, clip)[0])
    assert np.allclose(answer(model, clip, [2,0], 4)[0], consensus(model, clip, views=VIEWS[:4])[0][[2,0]], atol=1e-3)

def test_without_pairs_nothing_is_mirrored():
    skel = Skeleton("three", ("a", "b", "c"), (), ())
    net = tiny_model(skeleton=skel).eval()
    clip = replace(no_joints(person(0)), skel=skel)
    straight = tuple(v for v in VIEWS if not v[2])
    assert np.array_equal(consensus(net, clip)[0], consensus(net, clip, views=straight)[0])

@pytest.mark.parametrize('run', (offline, online, partial(guarded, mode='offline'), partial(guarded, mode='online')))
def test_a_configuration_that_mirrors_nothing_asks_for_no_mirrored_view(run, model, monkeypatch):
    cfg = replace(SELF, answer_views=4, pairs=PairConfig(flip=False))
    asked, plain = set(), personalization.pair_affine
    def watched(clip, i, size, scale=1., rot=0., flip=False):
        asked.add(bool(flip))
        return plain(clip, i, size, scale, rot, flip)
    for module in (personalization, guard): monkeypatch.setattr(module, 'pair_affine', watched)
    run(model, person(0), cfg=cfg)
    assert asked=={False}
    run(model, person(0), cfg=replace(cfg, pairs=PairConfig()))
    assert asked=={False, True}

@both
def test_self_training_moves_what_finds_keypoints_only(run, model):
    was,r = weights(model),run(model, person(0), SELF)
    moved = {k.split('.')[0] for k,v in weights(r.model).items() if not torch.equal(v, was[k])}
    assert moved=={'trunk', 'head'} and np.isfinite(r.kp).all() and (r.losses>0).all()
    assert same(run(model, person(0), SELF), r)

@both
def test_a_trunk_that_rests(run, model):
    "Only the head moves; a step is the same as of a trunk with a learning rate too small to matter."
    was,resting = weights(model),run(model, person(0), replace(SELF, trunk_rate=0.))
    moved = {k.split('.')[0] for k,v in weights(resting.model).items() if not torch.equal(v, was[k])}
    assert moved=={'head'}
    slow = run(model, person(0), replace(SELF, trunk_rate=1e-12))
    assert np.allclose(slow.losses, resting.losses, rtol=1e-4)

@both
def test_self_training_does_not_look_at_labels_or_weights_of_the_clip(run, model):
    c = person(2)
    assert same(run(model, no_joints(c), SELF), run(model, replace(c, weight=np.full(c.vis.shape, .1)), SELF))

def test_a_joint_is_weighed_by_the_height_of_its_peak(model):
    c, a = person(0), Adaptation(model, person(0), SELF)
    a.label([0,3])
    kp,height = consensus(model, c, [0,3])
    assert np.array_equal(a.pseudo_labels[[0,3]], np.dstack([kp, height.clip(0, 1)]))
    assert np.isnan(a.pseudo_labels[1]).all()

def test_self_training_learns_what_the_views_agreed_on(model):
    losses = offline(model, person(4, frames=8), replace(SELF, batch=8, lr=3e-3, epochs=10.)).losses
    assert len(losses)==80 and losses[-20:].mean()<.95*losses[:20].mean()


# --- the authors' variants

def by_hand(model, clip, cfg, restart=lambda i: False, step=lambda i: True):
    "Online personalization written out."
    m,opt = start_copy(model, cfg)
    kp,losses = [],[]
    for i in range(len(clip)):
        for s in range(cfg.per_frame if step(i) else 0):
            pairs = online_pairs(clip, i, cfg.seed, cfg.batch, (32,32), 0 if cfg.authors_rules else s,
                                 pseudo_labels=pseudo_labels(model, clip), hm_size=HM_SIZE)
            losses.append(adapt_step(m, opt, pairs, cfg.anchor_weight))
        kp.append(predict(m, clip, [i])[0])
        if restart(i):
            mean = m.perceptual.mean
            m,opt = start_copy(model, cfg)
            m.perceptual.mean = mean
    return np.concatenate(kp),losses

@pytest.mark.parametrize('change,rule', [
    (dict(reset_every=2), dict(restart=lambda i: i%2==1)), (dict(first_only=True), dict(step=lambda i: i==0)),
    (dict(per_frame=2, authors_rules=True, anchor_weight=0.), {}), (dict(per_frame=2, anchor_weight=0.), {}),
    (dict(per_frame=2), {})],
    ids=['reset', 'first only', 'authors', 'alone', 'ours'])
def test_variants_by_hand(model, change, rule):
    cfg = replace(FAST, **change)
    done = online(model, person(0), cfg)
    kp,losses = by_hand(model, person(0), cfg, **rule)
    assert np.array_equal(done.kp, kp) and np.array_equal(done.losses, losses)
    if 'first_only' in change: assert len(losses)==1
    else: assert len(losses)==len(person(0))*cfg.per_frame

@both
def test_every_second_frame_is_all_frames_of_a_clip_without_the_others(run, model):
    c, cfg = person(0), replace(FAST, learn_every=2)
    done, half = run(model, c, cfg), run(model, pick(c, range(0, len(c), 2)), FAST)
    assert np.array_equal(done.losses, half.losses) and len(half.losses)==(len(c)+1)//2
    assert all(torch.equal(a, b) for a, b in zip(done.model.state_dict().values(), half.model.state_dict().values()))
    assert np.array_equal(done.kp[::2], half.kp)
    if run is online: assert np.array_equal(done.kp[1], predict(model_after_one(model, c), c, [1])[0][0])

def model_after_one(model, c):
    a = Adaptation(model, c, FAST)
    next(adapt(a, 'online'))
    return a.model

def test_the_authors_steps_repeat_the_batch(model):
    a,b = (online(model, person(0), replace(FAST, per_frame=2, authors_rules=p)).losses for p in (True, False))
    assert a[0]==b[0] and a[1]!=b[1]

@both
def test_the_bias_drifts_only_by_the_authors_rules(run, model):
    for authors_rules in (False, True):
        done = run(model, person(0), replace(FAST, authors_rules=authors_rules))
        assert torch.equal(done.model.head.bias, model.head.bias)!=authors_rules

def test_reversed_channels_and_an_origin_change_nothing_for_a_network_used_to_them(model):
    "A network whose first layers expect blue first, counting from 1, finds the same joints one pixel less."
    c = person(0)
    blue = replace(c, frames=np.ascontiguousarray(np.stack(c.frames)[...,::-1]))
    m,n = tiny_model(bgr=True, origin=1).eval(),tiny_model().eval()
    n.load_state_dict(m.state_dict())
    for run in RUNS.values():
        a,b = run(m, c, FAST),run(n, blue, FAST)
        assert np.allclose(a.kp, b.kp-1, atol=1e-9) and np.array_equal(a.losses, b.losses)


# --- what holds the joints

def drift(model, r, clip):
    "How far an adapted network's heatmaps are from the trained one's."
    x,_ = frame_crops(clip, range(len(clip)), (32,32))
    with torch.no_grad(): return (r.model(x)-model(x)).abs().mean().item()

@both
def test_the_anchor_holds_the_heatmaps(run, model):
    c = person(0)
    loose,held = (drift(model, run(model, c, replace(FAST, lr=3e-3, anchor_weight=a)), c) for a in (0., 1e7))
    assert held<loose, (held, loose)

@both
@pytest.mark.parametrize('anchor_weight', [0., 2e4])
def test_labels_play_no_part(run, model, anchor_weight):
    c,cfg = person(1),replace(FAST, anchor_weight=anchor_weight)
    wrong = replace(c, joints=c.joints[::-1]+9, vis=~c.vis)
    r,was = run(model, c, cfg),wrong.joints.copy()
    assert same(r, run(model, no_joints(c), cfg)) and same(r, run(model, wrong, cfg))
    assert np.array_equal(wrong.joints, was), "the clip's own labels were written over"

def test_the_anchor_follows_the_conventions_of_a_network():
    "A network that counts pixels from 1 and sees BGR adapts as one that does neither, on the clip as it sees it."
    theirs,ours = (tiny_model(bgr=b, origin=o) for b,o in ((True, 1), (False, 0)))
    c = person(0)
    as_they_see = replace(c, frames=np.stack(c.frames)[...,::-1].copy())
    for run in RUNS.values(): assert run(theirs, c, FAST).kp+1==pytest.approx(run(ours, as_they_see, FAST).kp, abs=1e-6)
