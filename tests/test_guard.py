"""The guard: what it rolls back, what it holds, when it stops, and that what was saved and taken up ends the same."""
import copy, io
from dataclasses import replace
from types import SimpleNamespace
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from tiny import first, noise_clip, person, same_weights, tiny_model, weights
from ttp_nb.clips import Clip, pick, predict
from ttp_nb.guard import (Guard, GuardConfig, GuardedAdaptation, Quality, got_worse, guarded, quality, set_apart,
                          spread)
from ttp_nb.personalization import TTPConfig, offline, online, self_training
from ttp_nb.skeletons import Skeleton

FAST, RULE = TTPConfig(batch=3, lr=1e-2), GuardConfig(apart=4, every=4)
BLACK = replace(noise_clip(T=9), joints=None, vis=None, frames=np.zeros((9,48,64,3), np.uint8))

@pytest.fixture(scope='module')
def model(): return tiny_model().eval()

@pytest.fixture(scope='module')
def clip(): return person(0, frames=9)

def moments(opt): return copy.deepcopy(opt.state_dict()['state'])

def same_moments(a, b):
    return a.keys()==b.keys() and all(torch.equal(a[k][n], b[k][n]) for k in a for n in a[k])

def checks(monkeypatch, answers):
    "What the guard's checks find, in turn: '' or what is worse."
    left = list(answers)
    def check(self, step, asked, apart, patience=False):
        if apart is None: return
        self.checks.append({'step': step})
        if why := left.pop(0): self.back(step, why)
        else: self.hold(step)
    monkeypatch.setattr(Guard, 'check', check)
    return left

def take(turns, n):
    "So many turns."
    for _ in range(n): next(turns)


# --- weights and moments

@pytest.mark.parametrize('what', ['a weight', 'a frozen weight', 'the loss'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_not_finite_rolls_back_weights_and_moments(model, clip, what, value):
    run = GuardedAdaptation(model, clip, FAST, replace(RULE, every=99))
    turns, opt, turn = run.turns(), run.adaptation.opt, run.adaptation.offline_turn
    take(turns, 3)
    run.guard.hold(run.done)
    was, before = weights(run.model), moments(opt)
    assert before and len(before)>20
    take(turns, 2)
    assert not same_weights(weights(run.model), was) and not same_moments(moments(opt), before)
    def gone_wrong():
        losses = turn()
        with torch.no_grad():
            if what=='a weight': run.model.head.weight[0,0] = value
            if what=='a frozen weight': run.model.head.bias[0] = value
        return [value] if what=='the loss' else losses
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.adaptation, 'offline_turn', gone_wrong)
        turns = run.turns()
        losses = next(turns)
        assert np.isfinite(losses).all()==(what!='the loss') and run.losses[-1:]==losses
    assert same_weights(weights(run.model), was) and same_moments(moments(opt), before)
    assert run.guard.events==[[3, 6, 'the loss or the weights were not finite']] and not run.guard.stopped
    next(run.turns())   # and on it goes, with the held copy untouched
    assert same_weights({k: v for k, v in run.guard.good[0].items()}, was) and not same_weights(weights(run.model), was)

@pytest.mark.parametrize('mode', ['offline', 'online'])
def test_weights_that_ran_away_leave_the_trained_answers(model, clip, mode):
    for lr in (1e3, 1e30):
        done = guarded(model, clip, mode, replace(FAST, lr=lr), RULE)
        assert done.why and np.array_equal(done.kp, done.before[0]) and np.array_equal(done.conf, done.before[1])
        assert np.isfinite(done.kp).all() and all(p.isfinite().all() for p in done.run.model.parameters())
        assert same_weights(weights(done.run.model), weights(model))

@pytest.mark.parametrize('mode', ['offline', 'online'])
@pytest.mark.parametrize('n', [1, 2, 3, 4, 5])
def test_clips_too_short_to_keep_frames_apart(model, clip, mode, n):
    for lr in (1e-4, 1e3, 1e30):
        done = guarded(model, first(clip, n), mode, replace(FAST, lr=lr))
        assert done.kp.shape==(n,13,2) and np.isfinite(done.kp).all() and np.isfinite(done.conf).all()
        if lr>1: assert done.why and np.array_equal(done.kp, done.before[0])

@pytest.mark.parametrize('mode', ['offline', 'online'])
@pytest.mark.parametrize('name', ['black', 'one frame repeated'])
def test_videos_without_anything_to_learn(model, clip, mode, name):
    c = BLACK if name=='black' else replace(clip, frames=np.repeat(clip.frames[2:3], 9, 0))
    done = guarded(model, c, mode, FAST, RULE)
    assert np.isfinite(done.kp).all() and np.isfinite(done.conf).all() and np.isfinite(done.run.losses).all()
    if done.why: assert np.array_equal(done.kp, done.before[0])

def test_the_trained_model_is_not_changed(model, clip):
    was = weights(model)
    for mode in ('offline', 'online'):
        for lr in (1e-2, 1e3): guarded(model, clip, mode, replace(FAST, lr=lr), RULE)
    assert same_weights(weights(model), was)


# --- what is held

def test_going_back_goes_to_the_last_that_was_held(model, clip, monkeypatch):
    left = checks(monkeypatch, ['', 'bad', '', 'bad again', ''])
    run, at = GuardedAdaptation(model, clip, replace(FAST, epochs=3.), RULE), {}
    for step, _ in zip(range(1, 21), run.turns()): at[step] = weights(run.model)
    assert not left and run.done==20 and run.guard.events==[[4, 8, 'bad'], [12, 16, 'bad again']]
    assert run.guard.good_step==20
    assert same_weights(at[8], at[4]) and same_weights(at[16], at[12]) and not same_weights(at[12], at[8])
    assert run.verdict()==''

def test_it_stops_after_so_many_rollbacks_in_a_row(model, clip, monkeypatch):
    checks(monkeypatch, ['bad', 'bad', '', 'bad', 'bad', 'worst'])
    run = GuardedAdaptation(model, clip, replace(FAST, epochs=5.), RULE)
    turns = run.turns()
    for _ in range(24):
        assert not run.guard.stopped
        next(turns)
    assert run.guard.stopped=='rolled back 3 times in a row, the last time: worst' and run.done==24
    was = weights(run.model)
    assert not [*turns] and not [*run.turns()] and run.done==24
    assert same_weights(weights(run.model), was) and len(run.losses)==24, 'it goes on learning'
    assert run.verdict()=='', 'what was good at step 12 is kept'

def test_online_frames_go_by_when_it_has_stopped(model, clip, monkeypatch):
    checks(monkeypatch, ['bad', 'worse'])
    run = GuardedAdaptation(model, clip, FAST, replace(RULE, every=2, chances=2))
    learned = [len(losses) for losses in run.turns('online')]
    assert run.guard.stopped and run.done==9 and learned==[1,1,0,1,1,1,0,0,0]   # frame 2 is kept apart
    assert same_weights(weights(run.model), weights(model)) and 'worse' in run.verdict('online')

def test_what_is_still_the_start_is_not_called_adapted(model, clip):
    "Rolled back at the very last step: the last check finds the trained network as good as itself."
    run = GuardedAdaptation(model, clip, FAST, RULE)
    turns = run.turns()
    next(turns)
    with torch.no_grad(): run.model.head.weight[:] = float('nan')
    next(turns)
    assert same_weights(weights(run.model), weights(model))
    assert 'not finite' in run.verdict() and run.guard.good_step==0 and [c['step'] for c in run.guard.checks]==[2]

@pytest.mark.parametrize('anchor_weight', [0., FAST.anchor_weight])
def test_after_a_reset_the_guard_watches_the_model_that_learns(model, clip, anchor_weight, monkeypatch):
    "It is rolled back, and not one that learns no more."
    cfg = replace(FAST, reset_every=3, anchor_weight=anchor_weight)   # back at the fourth learned, the fifth of all
    run = GuardedAdaptation(model, clip, cfg, replace(RULE, every=99))
    turns = run.turns('online')
    take(turns, 4)
    run.guard.hold(run.done)
    was, before = weights(run.model), moments(run.adaptation.opt)
    take(turns, 2)
    assert run.guard.model is run.model and run.guard.opt is run.adaptation.opt
    assert not same_weights(weights(run.model), was)
    run.guard.back(run.done, 'bad')
    assert same_weights(weights(run.model), was) and same_moments(moments(run.adaptation.opt), before)
    checked = []
    monkeypatch.setattr('ttp_nb.guard.quality', lambda m, *a: checked.append(m) or Quality(1., 1., 1.))
    run.guard.check(run.done, *run.checked('online'))
    assert checked[-1] is run.model

def test_patience(model, clip):
    c = replace(FAST, lr=0., epochs=9.)
    done = guarded(model, clip, 'offline', c, replace(RULE, every=2, patience=2))
    # `lr=0` moves nothing but the loss's running means, and those are not asked about
    assert done.run.guard.stopped=='the loss on frames kept apart did not come down in 2 checks' and done.run.done==6
    assert done.why=='' and done.kp==pytest.approx(done.before[0], abs=1e-3)

def test_online_a_stretch_that_is_rolled_back_is_answered_by_the_trained_network(model, clip, monkeypatch):
    checks(monkeypatch, ['', 'bad', ''])
    done = guarded(model, clip, 'online', FAST, RULE)
    same = (done.kp==done.before[0]).all((1,2)) & (done.conf==done.before[1]).all(1)
    assert list(np.flatnonzero(same))==[4, 5, 6, 7] and done.run.guard.events==[[4, 8, 'bad']] and not done.why

def test_online_the_end_counts(model, clip, monkeypatch):
    checks(monkeypatch, ['', '', 'bad in the end'])
    done = guarded(model, clip, 'online', FAST, RULE)
    assert not done.why and done.run.guard.events==[[8, 9, 'bad in the end']]
    assert np.array_equal(done.kp[8], done.before[0][8]) and not np.array_equal(done.conf[7], done.before[1][7])


# --- what is checked

@settings(max_examples=60, deadline=None, derandomize=True)
@given(n=st.integers(0, 300), every=st.integers(0, 30))
def test_frames_apart(n, every):
    learned, apart = set_apart(n, every)
    assert sorted([*learned, *apart])==list(range(n)) and not {*learned} & {*apart}
    if every: assert len(apart)==len(range(every//2, n, every)) and (np.diff(apart)==every).all()
    else: assert not len(apart)

@pytest.mark.parametrize('mode', ['offline', 'online'])
def test_frames_kept_apart_are_not_learned_from(model, clip, mode):
    "Other pictures there: the same losses up to the first check, and the same weights."
    _, apart = set_apart(9, 4)
    other = np.stack(clip.frames); other[apart] = 255-other[apart]
    a, b = (GuardedAdaptation(model, replace(clip, frames=f), replace(FAST, epochs=9/7), replace(RULE, every=99))
            for f in (clip.frames, other))
    for run in (a, b): take(run.turns(mode), 9)
    assert a.losses==b.losses and same_weights(weights(a.model), weights(b.model))
    assert len(a.losses)==(7 if mode=='online' else 9)

@settings(max_examples=40, deadline=None, derandomize=True)
@given(T=st.integers(1, 400), most=st.integers(1, 20), apart=st.integers(0, 12))
def test_what_is_checked_is_bounded_and_spread(T, most, apart):
    run = GuardedAdaptation.__new__(GuardedAdaptation)
    run.clip = Clip('c', np.zeros((T,2,3,3), np.uint8), np.tile([0.,0,2,1], (T,1)))
    run.apart, run.watch = set_apart(T, apart)[1], GuardConfig(apart=apart, most=most)
    run.adaptation = SimpleNamespace()
    for mode, end in (('offline', T), ('online', T), ('online', (T+1)//2)):
        run.adaptation.done = end
        first = 0 if mode=='offline' else max(0, end-most*max(1, apart))
        asked, kept = run.checked(mode)
        there = run.apart[(run.apart>=first) & (run.apart<end)]
        at = asked.frames.index
        assert len(at)==min(most, end-first) and (np.diff(at)>0).all() and at[0]==first
        if kept is None: assert not len(there)
        else: assert len(kept)==min(most, len(there)) and set(kept.frames.index)<=set(there)

@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(0, 100), most=st.integers(1, 20))
def test_spread(n, most):
    some = spread(np.arange(n), most)
    assert len(some)==min(n, most) and set(some)<=set(range(n)) and (np.diff(some)>0).all()
    if n: assert some[0]==0 and np.diff([*some, n]).max()-np.diff([*some, n]).min()<=1

def test_without_frames_apart_all_is_as_without_a_guard(model, clip):
    for mode, f in (('offline', offline), ('online', online)):
        a, b = guarded(model, clip, mode, FAST, GuardConfig(apart=0)), f(model, clip, FAST)
        assert np.array_equal(a.kp, b.kp) and np.array_equal(a.run.losses, b.losses) and not a.why

@pytest.mark.parametrize('n', [1, 2, 3])
def test_quality_of_few_frames(model, clip, n):
    q = quality(model, first(clip, n), model.perceptual.mean)
    assert all(np.isfinite(v) and v>=0 for v in (q.loss, q.view_inconsistency, q.limb_variation))

def test_quality_without_pairs_or_limbs(clip):
    m = tiny_model(skeleton=Skeleton('two', ('nose', 'tail'))).eval()
    q = quality(m, replace(clip, joints=None, vis=None, skel=m.cfg.skeleton), m.perceptual.mean)
    assert q.limb_variation==0 and q.view_inconsistency>0 and np.isfinite(q.loss)

@pytest.mark.parametrize('field', ['loss', 'view_inconsistency', 'limb_variation'])
def test_what_is_not_a_number_is_worse(field):
    good = Quality(1., 1., 1.)
    assert got_worse(good, good)=='' and got_worse(replace(good, **{field: .9}), good)==''
    for bad in (1.0001, float('nan'), float('inf')): assert got_worse(replace(good, **{field: bad}), good)
    for bad in (1.2001, float('nan'), float('inf')): assert got_worse(replace(good, **{field: bad}), good, .2)
    assert got_worse(replace(good, **{field: 1.1999}), good, .2)==''

def test_the_margin_is_for_self_training_only(model, clip):
    both = self_training(self_supervised_weight=1.)
    for cfg,margin in ((TTPConfig(), 0.), (self_training(), GuardConfig().margin), (both, 0.)):
        assert GuardedAdaptation(model, clip, cfg).guard.margin==margin
    assert GuardedAdaptation(model, clip, self_training(), GuardConfig(margin=.05)).guard.margin==.05

def test_picked_frames_are_predicted_as_in_the_clip(model, clip):
    part = pick(clip, np.array([2, 5]))
    assert part.name==clip.name and part.size==clip.size and np.array_equal(part.frames[np.int64(1)], clip.frames[5])
    assert np.array_equal(predict(model, part)[0], predict(model, clip, [2, 5])[0])


# --- saved and taken up again

@pytest.mark.parametrize('mode', ['offline', 'online'])
@pytest.mark.parametrize('cfg', [FAST, replace(FAST, anchor_weight=0.), replace(FAST, per_frame=2, reset_every=3),
                                 replace(FAST, lr=1e3)], ids=['usual', 'alone', 'resets', 'wild'])
def test_what_is_taken_up_again_ends_the_same(model, clip, mode, cfg):
    "Through a file that holds tensors and plain values only."
    cfg = replace(cfg, epochs=9/7)   # nine turns, offline too
    whole = GuardedAdaptation(model, clip, cfg, RULE)
    for _ in whole.turns(mode): pass
    for at in (4, 7):
        run = GuardedAdaptation(model, clip, cfg, RULE)
        for _ in zip(range(at), run.turns(mode)): pass
        file = io.BytesIO()
        torch.save(run.state(), file); file.seek(0)
        other = GuardedAdaptation(model, clip, cfg, RULE)
        other.resume(torch.load(file, weights_only=True))
        for _ in other.turns(mode): pass
        assert np.array_equal(other.losses, whole.losses, equal_nan=True) and other.done==whole.done
        assert same_weights(weights(other.model), weights(whole.model))
        assert same_moments(moments(other.adaptation.opt), moments(whole.adaptation.opt))
        for k in Guard.KEPT: assert str(getattr(other.guard, k))==str(getattr(whole.guard, k)), k
        assert other.verdict(mode)==copy.deepcopy(whole).verdict(mode)
