"""Affinity and mixtures: rows that add up, invariances, gradients."""
import copy
import pytest, torch
import torch.nn.functional as F
from tiny import close, rand
from ttp_nb.basics import TTPError
from ttp_nb.transformer import Affinity, heatmaps_per_joint, mix

@pytest.mark.parametrize('h,w', [(8,8), (4,12), (1,1)])
@pytest.mark.parametrize('J,K,layers,heads', [(13,30,1,4), (3,5,2,1), (1,1,1,2)])
def test_rows_of_the_affinity_add_up(h, w, J, K, layers, heads):
    W = Affinity(J, K, 16, layers, heads).eval()(rand(2, 16, h, w))
    assert W.shape == (2, J, K) and (W >= 0).all()
    close(W.sum(-1), torch.ones(2, J))

@pytest.fixture(scope='module')
def affinity():
    torch.manual_seed(0)
    return Affinity(5, 7, 16).eval()

@torch.no_grad()
def test_affinity_knows_no_places_and_no_order(affinity):
    x = rand(3, 16, 6, 4)
    W,cells,rows = affinity(x),torch.randperm(24, generator=torch.Generator().manual_seed(0)),[3,0,4,1,2]
    close(affinity(x.flatten(2)[...,cells].view(3, 16, 4, 6)), W) # cells shuffled, and the grid turned
    close(affinity(x.repeat(1, 1, 2, 3)), W) # everything there six times
    close(affinity(x[1:2]), W[1:2])
    other = copy.deepcopy(affinity)
    other.queries.data = affinity.queries.data[rows]
    close(other(x), W[:,rows]) # queries in another order: the same rows in that order
    assert (affinity(x + 1) - W).abs().max() > 1e-3 # it does look

def test_gradient_reaches_every_parameter_of_the_affinity():
    torch.manual_seed(0)
    model,hm_self = Affinity(5, 7, 16, dropout=0.),rand(2, 7, 6, 4, seed=1)
    mix(model(rand(2, 16, 6, 4)), hm_self).square().mean().backward()
    assert [n for n,p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert [n for n,p in model.named_parameters() if not p.grad.any()] == []

def test_dropout_only_while_training():
    x = rand(1, 16, 4, 4)
    model = Affinity(5, 7, 16, dropout=.5)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    steady = Affinity(5, 7, 16, dropout=0.)
    close(steady.train()(x), steady.eval()(x))

def test_affinity_refuses_what_cannot_be():
    with pytest.raises(TTPError, match='30 channels cannot be shared among 4 attention heads'): Affinity(width=30)
    with pytest.raises((RuntimeError, AssertionError)): Affinity(5, 7, 16)(rand(1, 12, 4, 4))

def test_mixtures_are_convex():
    hm_self,logits = rand(4, 7, 6, 5),rand(4, 3, 7, seed=1)
    out = mix(logits.softmax(-1), hm_self)
    assert out.shape == (4, 3, 6, 5)
    low,high = hm_self.amin(1, keepdim=True),hm_self.amax(1, keepdim=True)
    assert (out >= low-1e-6).all() and (out <= high+1e-6).all()
    pick = torch.tensor([6,0,3])
    close(mix(F.one_hot(pick, 7).float().expand(4, -1, -1), hm_self), hm_self[:,pick])
    close(mix(logits.softmax(-1), 2*hm_self.flip(3)), 2*out.flip(3))

def test_mixing_passes_the_gradient_both_ways():
    W,hm_self = rand(2, 3, 7).softmax(-1).requires_grad_(),rand(2, 7, 6, 5, seed=1).requires_grad_()
    mix(W, hm_self)[:,0].sum().backward()
    close(W.grad[:,0], hm_self.detach().sum((2,3)), 1e-4)
    assert not W.grad[:,1:].any() # joint 0 says nothing about the others' rows
    close(hm_self.grad, W.detach()[:,0,:,None,None].expand(2, 7, 6, 5))

def test_heatmaps_per_joint_counts():
    for K in (1, 2, 30):
        close(heatmaps_per_joint(torch.full((2, 3, K), 1/K)), torch.full((2, 3), float(K)), 1e-4)
        n = heatmaps_per_joint(rand(5, 3, K).mul(3).softmax(-1))
        assert (n >= 1-1e-5).all() and (n <= K+1e-4).all()
    W = rand(3, 9).softmax(-1)
    close(heatmaps_per_joint(W[:,torch.randperm(9)]), heatmaps_per_joint(W))
    close(heatmaps_per_joint(torch.eye(4)), torch.ones(4)) # no trouble with zeros
