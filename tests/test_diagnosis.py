"""Diagnosis: the angle between the two gradients, and what the network knows, measured without changing anything."""
from dataclasses import replace
import numpy as np, pytest, torch
from tiny import briefly_trained, global_state, people, person, same_weights, tiny_model, weights
from ttp_nb.basics import TTPError
from ttp_nb.diagnosis import alignment, clip_measures, diagnose, fit_body, inspect_keypoints
from ttp_nb.imm import apply_regression

@pytest.fixture(scope='module')
def model(): return briefly_trained()

def hidden(clip): return replace(clip, joints=np.full_like(clip.joints, np.nan), vis=np.zeros_like(clip.vis))

@pytest.mark.parametrize('shared', [False, True])
def test_alignment(model, shared):
    m = tiny_model(shared=True) if shared else model
    was,state = weights(m),global_state()
    a = alignment(m, person(0), 4)
    assert -1<=a['cosine']<=1 and a['self_supervised']>0 and a['supervised']>0
    assert a==alignment(m, person(0), 4) and same_weights(weights(m), was) and global_state()==state
    assert all(p.requires_grad for p in m.parameters())
    assert a!=alignment(m, person(0), 4, seed=1) and a!=alignment(m, person(1), 4)

@pytest.mark.parametrize('shared', [False, True])
def test_diagnose(shared):
    m = tiny_model(shared=shared).train()
    was = weights(m)
    d = diagnose(m, people(3, 'test'), [person(i) for i in range(8)])
    assert same_weights(weights(m), was) and m.training
    assert ('heatmaps a joint' in d)!=shared and d.keys()>={'pck', 'linear error', 'mean pose error', 'cosine'}
    assert all(low<=mean<=high for mean,low,high in d.values())
    with pytest.raises(TTPError, match='without coordinates'): diagnose(m, [person(0)], [hidden(person(0))])

def test_measures_follow_from_their_parts(model):
    "Of a clip the regression was fitted to: the errors by hand, and no more than that of the mean pose."
    known = people(8)
    base = fit_body(model, known)
    kp,joints,far,used = inspect_keypoints(model, known[0])
    m = clip_measures(model, known[0], *base)
    assert m['mean pose error']==pytest.approx((joints-base[1]).norm(dim=-1).mean().item(), rel=1e-5)
    assert m['peak distance']==pytest.approx(far.mean().item())
    assert m['heatmaps a joint']==pytest.approx(used.mean().item())
    assert m['cosine']==alignment(model, known[0])['cosine'] and 0<=m['pck']<=100
    kp,joints = (torch.cat(x) for x in zip(*[inspect_keypoints(model, c)[:2] for c in known]))
    fitted,mean = ((places-joints).square().sum() for places in (apply_regression(kp, base[0]), base[1]))
    assert fitted<mean, 'least squares, with a constant among the unknowns'
