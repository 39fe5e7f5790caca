"""Training: the learning rate, a step and its losses, validation, the stream of batches, and the loop over them."""
from dataclasses import replace
from itertools import islice
import numpy as np, pytest, torch
from tiny import RECIPE, global_state, noise_clip, people, same_weights, tiny_model, weights
from ttp_nb.clips import as_seen, predict
from ttp_nb.pairs import training_pairs
from ttp_nb.training import (PairStream, TrainConfig, learning_rate, new_optimizer, pair_losses, train, train_step,
                             validate)

KINDS = 'joint','baseline'
SHORT = replace(RECIPE, steps=6)


# --- parts of a step

def test_the_staircase():
    cfg = TrainConfig(steps=140, lr=1., drops=(90/140, 120/140))
    lr = [learning_rate(s, cfg) for s in range(140)]
    assert lr[:90]==[1.]*90 and lr[90:120]==pytest.approx([.1]*30) and lr[120:]==pytest.approx([.01]*20)
    assert learning_rate(0, replace(cfg, steps=1))==1. and learning_rate(5, replace(cfg, drops=()))==1.

@pytest.mark.parametrize('warmup', [1, 2, 7, 100, 140, 500])
def test_the_rise_by_hand(warmup):
    "Whole steps of the same height, up to the rate of that step's stair, which is reached at the last of them."
    cfg = TrainConfig(steps=140, lr=.5, drops=(90/140, 120/140), warmup=warmup)
    plain = [learning_rate(s, replace(cfg, warmup=0)) for s in range(140)]
    lr = [learning_rate(s, cfg) for s in range(140)]
    assert lr==pytest.approx([p*min(1, (s+1)/warmup) for s,p in enumerate(plain)])
    assert lr[0]==pytest.approx(.5/warmup) and lr[warmup-1:]==plain[warmup-1:]
    if warmup<=90: assert all(a<b for a,b in zip(lr[:warmup], lr[1:warmup]))

def test_no_rise_changes_nothing():
    cfg = TrainConfig(steps=140)
    assert cfg.warmup==0 and TrainConfig(steps=140, warmup=0)==cfg
    for c in (cfg, replace(cfg, warmup=1)):
        assert [learning_rate(s, c) for s in (0,89,90,139)]==[c.lr, c.lr, c.lr*c.factor, c.lr*c.factor**2]

def test_the_rise_reaches_the_optimiser():
    "The first step of Adam is as long as the rate: half as long at half the rate."
    pairs,moved = training_pairs(people(2), 0, 0, 3, (32,32), (16,16)),{}
    for warmup in (0,1,4):
        m = tiny_model('baseline')
        was,opt = m.head.weight.detach().clone(),torch.optim.Adam(m.parameters())
        train_step(m, opt, pairs, replace(RECIPE, warmup=warmup), 0)
        assert {g['lr'] for g in opt.param_groups}=={RECIPE.lr/max(warmup, 1)}
        moved[warmup] = (m.head.weight.detach()-was).abs().mean().item()
    assert moved[0]==moved[1]==pytest.approx(4*moved[4], rel=1e-3)

@pytest.mark.parametrize('kind', KINDS)
def test_the_trunks_part_of_the_rate(kind):
    pairs,cfg = training_pairs(people(2), 0, 0, 3, (32,32), (16,16)),replace(RECIPE, trunk_rate=.25, warmup=4)
    m = tiny_model(kind)
    was,opt = weights(m),new_optimizer(m, cfg)
    train_step(m, opt, pairs, cfg, 1)
    assert [g['lr'] for g in opt.param_groups]==pytest.approx([RECIPE.lr/8, RECIPE.lr/2])
    far = {k: (p.detach()-was[k]).abs().max().item() for k,p in m.named_parameters()}
    slow = max(v for k,v in far.items() if k.startswith('trunk.'))
    assert slow<=1.01*RECIPE.lr/8 and far['head.weight']==pytest.approx(RECIPE.lr/2, rel=.01), "Adam's first step"

@pytest.mark.parametrize('kind', KINDS)
def test_a_trunk_that_keeps_its_weights(kind):
    m,cfg = tiny_model(kind),replace(RECIPE, steps=2, trunk_rate=0.)
    was = weights(m)
    list(train(m, people(2), cfg))
    moved = {k for k,p in m.named_parameters() if not torch.equal(p, was[k])}
    assert moved and not [k for k in moved if k.startswith('trunk.')]

@pytest.mark.parametrize('kind', KINDS)
def test_two_groups_are_one_where_the_rates_are_alike(kind):
    clips,two,one = people(2),tiny_model(kind),tiny_model(kind)
    losses = list(train(two, clips, SHORT))
    opt = torch.optim.Adam(one.parameters(), SHORT.lr)
    assert list(train(one, clips, SHORT, opt))==losses and same_weights(weights(one), weights(two))
    parts = [p for g in new_optimizer(one, SHORT).param_groups for p in g['params']]
    assert len(parts)==len(set(parts)) and set(parts)==set(one.parameters())

def test_a_rise_goes_on_where_the_loop_was_left():
    cfg,clips = replace(RECIPE, steps=4, warmup=3),people(2)
    whole,halves = tiny_model(),tiny_model()
    losses = list(train(whole, clips, cfg))
    opt = new_optimizer(halves, cfg)
    seen = list(islice(train(halves, clips, cfg, opt), 2))
    seen += train(halves, clips, cfg, opt, start=2)
    assert seen==losses and same_weights(weights(whole), weights(halves))
    assert list(train(tiny_model(), clips, replace(cfg, warmup=0)))!=losses

def test_joints_that_are_trusted_less_teach_less():
    "Half the trust is a quarter of the loss: the weight stands inside of the square."
    clips = [noise_clip('a', 4, 0)]
    doubted = [replace(c, weight=np.full((4,13), .5)) for c in clips]
    loss = lambda clips: pair_losses(tiny_model('baseline').eval(), training_pairs(clips, 0, 0, 4, (32,32), (16,16)))
    assert 4*loss(doubted)['supervised'].item()==pytest.approx(loss(clips)['supervised'].item(), rel=1e-5)

def test_photographs_train_both_branches():
    "Clips of one frame: the reference is bent, so that there is something to reconstruct."
    clips = [noise_clip(f'{i}', 1, i) for i in range(4)]
    m = tiny_model()
    history = list(train(m, clips, replace(RECIPE, steps=3)))
    assert all(0<h['supervised']<1 and 0<h['self_supervised']<100 for h in history)
    assert list(train(tiny_model(), clips, replace(RECIPE, steps=3)))==history

def test_a_step_learns_and_the_baseline_has_one_loss():
    pairs = training_pairs(people(2), 0, 0, 3, (32,32), (16,16))
    for kind in KINDS:
        m = tiny_model(kind)
        opt = torch.optim.Adam(m.parameters(), 1e-3)
        first = train_step(m, opt, pairs, RECIPE, 0)
        for s in range(15): last = train_step(m, opt, pairs, replace(RECIPE, lr=1e-3), s)
        assert last['supervised']<first['supervised']
        assert first.keys()=={'supervised'} | ({'self_supervised'} if kind=='joint' else set())
        assert all(isinstance(v, float) for v in last.values())

def test_the_weight_of_the_self_supervised_loss():
    "With weight 0 the branch that only reconstructs stays where it was."
    pairs = training_pairs(people(2), 0, 0, 3, (32,32), (16,16))
    for weight in (0., .1):
        m = tiny_model()
        was = m.renderer.to_rgb.weight.detach().clone(),m.trunk.conv1.weight.detach().clone()
        train_step(m, torch.optim.Adam(m.parameters(), 1e-3), pairs, replace(RECIPE, weight=weight), 0)
        assert torch.equal(m.renderer.to_rgb.weight, was[0])==(weight==0)
        assert not torch.equal(m.trunk.conv1.weight, was[1])

def test_validation_pools_joints_and_leaves_the_mode():
    m,clips = tiny_model().train(),[noise_clip('a', 3, 0), noise_clip('b', 2, 1, hidden=.9)]
    from ttp_nb.metrics import pck
    hits = [pck(predict(m, c)[0], c.joints, c.vis, c.skel) for c in clips]
    assert validate(m, clips)==pytest.approx(100*sum(h.sum() for h,_ in hits)/sum(n.sum() for _,n in hits))
    assert m.training

def test_validation_uses_the_torso_of_the_data_set():
    "As published, PCK on Penn Action is relative to lengths that come with the clip."
    c = noise_clip('a', 4)
    torso = np.array([30., 1e4, 1e-3, np.nan]) # all right in frame 1, none in 2, 3 does not count
    hits = validate(tiny_model(), [replace(c, torso=torso)])
    d = np.linalg.norm(predict(tiny_model(), c)[0]-c.joints, axis=-1)
    assert hits==pytest.approx(100*((d<=.2*torso[:,None]) & c.vis)[:3].sum()/c.vis[:3].sum())

def test_dropout_is_a_function_of_seed_and_step():
    pairs = training_pairs(people(2), 0, 0, 3, (32,32), (16,16))
    def losses(step, seed=0, manual=0):
        m = tiny_model(dropout=.5); torch.manual_seed(manual)
        return train_step(m, torch.optim.Adam(m.parameters()), pairs, replace(RECIPE, seed=seed), step)['supervised']
    assert losses(3)==losses(3, manual=8)!=losses(4) and losses(3)!=losses(3, seed=1)


# --- the loop

@pytest.mark.parametrize('kind', KINDS)
def test_the_loop_goes_on_where_it_was_left(kind):
    "Three steps, then a new loop with the same optimiser from step 3 on: as if nobody had stopped."
    clips,whole,halves = people(3),tiny_model(kind),tiny_model(kind)
    losses = list(train(whole, clips, SHORT))
    opt = new_optimizer(halves, SHORT)
    seen = list(islice(train(halves, clips, SHORT, opt), 3))
    assert not same_weights(weights(whole), weights(halves))
    seen += train(halves, clips, SHORT, opt, start=3)
    assert seen==losses and len(seen)==6 and same_weights(weights(whole), weights(halves))
    assert list(train(halves, clips, SHORT, opt, start=6))==[]

def test_the_loop_is_steps_on_the_streams_batches():
    clips,a,b = people(2),tiny_model(dropout=.2),tiny_model(dropout=.2).to(memory_format=torch.channels_last)
    opt = torch.optim.Adam(b.parameters(), SHORT.lr)
    stream = PairStream(clips, SHORT, (32,32), (16,16))
    by_hand = [train_step(b, opt, stream[i], SHORT, i) for i in range(6)]
    assert list(train(a, clips, SHORT))==by_hand and same_weights(weights(a), weights(b))

@pytest.mark.parametrize('workers', [0, 1])
def test_the_loop_leaves_the_callers_random_state_alone(workers):
    was = global_state()
    for _ in train(tiny_model(), people(2), replace(SHORT, steps=2), workers=workers): assert global_state()==was
    assert global_state()==was

def test_the_loop_shows_clips_as_the_network_sees_them():
    "A network of the authors' conventions learns from reversed channels and joints counted from 1."
    clips,m,n = people(2),tiny_model(bgr=True, origin=1),tiny_model()
    turned = [as_seen(c, m.cfg) for c in clips]
    assert list(train(m, clips, SHORT))==list(train(n, turned, SHORT)) and same_weights(weights(m), weights(n))
    assert list(train(tiny_model(), clips, replace(SHORT, steps=1)))!=list(train(n, turned, replace(SHORT, steps=1)))


# --- which pairs the self-supervised loss sees, and in which colours

def test_self_supervised_pairs_are_the_first_of_the_batch():
    draw = lambda: training_pairs(people(), 0, 0, 6, (32,32), (16,16))
    def losses(n, pairs):
        m = tiny_model().eval()
        m.perceptual.mean = torch.ones_like(m.perceptual.mean) # else the first loss is one a term, whatever is seen
        return [pair_losses(m, pairs, n)[k].item() for k in ('supervised', 'self_supervised')]
    p,few = draw(),draw()
    few.target,few.reference,few.heatmaps,few.weight = (x[:2] for x in (p.target, p.reference, p.heatmaps, p.weight))
    assert losses(2, p)[1]==pytest.approx(losses(0, few)[1], rel=1e-5) and losses(2, p)[0]==losses(0, p)[0]
    assert losses(9, p)==losses(0, p) and losses(2, p)[1]!=losses(0, p)[1]

def test_colour_jitter_belongs_to_the_step():
    stream = lambda c,i: PairStream(people(), TrainConfig(batch=8, color_jitter=c), (32,32), (16,16))[i]
    plain,half = stream(0., 3),stream(.5, 3)
    assert torch.equal(plain.target, training_pairs(people(), 0, 3, 8, (32,32), (16,16)).target)
    changed = (plain.target!=half.target).flatten(1).any(1)
    assert 0<changed.sum()<8 and torch.equal(half.target, stream(.5, 3).target)
    assert torch.equal(plain.heatmaps, half.heatmaps)
