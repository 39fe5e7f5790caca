"""The published targets and decoding, special cases included, and the edge cases of the other decoders.

parity_heatmaps.npz holds what the official code computed from made-up input: targets of 20 x 13 joints around every
edge, and the decoding of two sets of 13 maps, the first of which is one special case per joint (all negative, on each
border, ties, a plateau, all zero, a tiny peak). Its targets for real labels of Penn Action are compared in
test_fidelity.py, where its numbers are at hand; labels are not part of this repository.
"""
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from ttp_nb.geometry import apply_affine, crop_affine, invert_affine
from ttp_nb.joint_model import ModelConfig, paper_config, people_config
from ttp_nb.heatmaps import (DECODERS, decode, decode_argmax, decode_dark, decode_quarter, decode_soft,
                             gaussian_targets,
                             hm_to_crop)
from ttp_nb.basics import TTPError

SIZE,HM = (128,128),(32,32)


@pytest.fixture(scope='module')
def d():
    with np.load(Path(__file__).with_name('parity_heatmaps.npz')) as f: return dict(f)


def test_targets_at_the_edges_as_published(d):
    hm,w = gaussian_targets(d['edge_joints'], d['edge_vis'], SIZE, HM, authors_edges=True)
    assert hm.dtype==w.dtype==np.float32
    assert np.allclose(hm, d['edge_target'], atol=1e-7, rtol=0) and (w==d['edge_weight']).all()


def test_default_differs_only_in_the_weight_of_empty_targets(d):
    hm,w = gaussian_targets(d['edge_joints'], d['edge_vis'], SIZE, HM)
    assert np.allclose(hm, d['edge_target'], atol=1e-7, rtol=0)
    assert (w>0).tolist()==(hm>0).any((2,3)).tolist()
    diff = w!=d['edge_weight']
    assert diff.any() and (d['edge_weight'][diff]==1).all() and (d['edge_target'][diff]==0).all()


def naive_target(x, y, w, h, sigma=2, r=6):
    cx,cy = int(x/4+.5),int(y/4+.5)
    out = np.zeros((h,w), np.float32)
    for j in range(max(0,cy-r), min(h,cy+r+1)):
        for i in range(max(0,cx-r), min(w,cx+r+1)): out[j,i] = np.exp(-((i-cx)**2+(j-cy)**2)/(2*sigma**2))
    return out


@settings(deadline=None, max_examples=60)
@given(st.floats(-60, 180), st.floats(-60, 120))
def test_targets_by_the_definition(x, y):
    hm,w = gaussian_targets([[[x,y]]], [[True]], (128,64), (32,16))
    ref = naive_target(x, y, 32, 16)
    assert np.allclose(hm[0,0], ref, atol=1e-6) and w[0,0]==(ref.max()>0)


def test_unknown_and_absurd_joints_are_harmless():
    kp = [[[np.nan,np.nan], [1e300,5], [-np.inf,5], [np.inf,np.inf], [64,64]]]
    hm,w = gaussian_targets(kp, [[0,1,1,1,1]], SIZE, HM)
    assert np.isfinite(hm).all() and w.tolist()==[[0,0,0,0,1]] and hm[0,4,16,16]==1


def test_decoding_as_published(d):
    hm = torch.from_numpy(d['heatmaps'])
    kp,conf = decode_argmax(hm)
    assert (kp.numpy()==d['max_preds']).all() and (conf.numpy()==d['max_vals']).all()
    Ms = np.stack([crop_affine(c, s, SIZE) for c,s in zip(d['center'], d['scale'])])
    for method,key in (('quarter','final_preds'), ('argmax','final_preds_nopost')):
        kp,_ = decode(hm, method)
        assert np.allclose(apply_affine(invert_affine(Ms), hm_to_crop(kp, SIZE, HM)), d[key], atol=1e-3)


def test_inverse_map_as_published(d):
    Ms = invert_affine(np.stack([crop_affine(c, s, HM) for c,s in zip(d['center'], d['scale'])]))
    assert np.allclose(Ms, d['inverse_affine'], atol=1e-4)
    assert np.allclose(apply_affine(Ms, d['points']), d['points_transformed'], atol=1e-3)


def naive_quarter(m):
    i = int(m.argmax())
    x,y = i%m.shape[1],i//m.shape[1]
    if m[y,x]<=0: return 0.,0.
    if not (1<x<m.shape[1]-1 and 1<y<m.shape[0]-1): return float(x),float(y)
    return x+.25*np.sign(m[y,x+1]-m[y,x-1]),y+.25*np.sign(m[y+1,x]-m[y-1,x])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([(5,7), (32,32), (3,3), (2,9)]))
def test_quarter_by_the_definition(seed, hw):
    m = np.random.default_rng(seed).normal(size=hw).astype(np.float32).round(1)  # rounded: ties occur
    kp,_ = decode_quarter(torch.from_numpy(m)[None,None])
    assert tuple(kp[0,0].tolist())==naive_quarter(m)


@pytest.mark.parametrize('method', ['quarter','argmax','dark','soft'])
def test_every_decoder_keeps_shape_dtype_and_batch(method):
    hm = torch.rand(4, 13, 16, 24, generator=torch.Generator().manual_seed(0))
    kp,conf = decode(hm, method)
    assert kp.shape==(4,13,2) and conf.shape==(4,13) and kp.dtype==torch.float32
    assert (conf==hm.amax((2,3))).all()
    assert ((kp>=0) & (kp<=torch.tensor([23.,15]))).all()
    one = torch.cat([decode(hm[i:i+1], method)[0] for i in range(4)])
    assert torch.allclose(one, kp, atol=1e-5)
    swapped = decode(hm.transpose(2,3), method)[0]                                       # not contiguous
    assert torch.allclose(swapped.flip(-1), kp, atol=1e-4)
    assert decode(torch.zeros(0, 13, 8, 8), method)[0].shape==(0,13,2)
    empty = decode(torch.zeros(1, 1, 8, 8), method)
    assert (empty[0]==0).all() and (empty[1]==0).all()
    if torch.cuda.is_available():
        on = decode(hm.cuda(), method)[0]
        assert on.is_cuda and torch.allclose(on.cpu(), kp, atol=1e-4)


@pytest.mark.parametrize('method', ['quarter','argmax','dark'])
def test_a_broken_map_says_so_in_its_confidence(method):
    hm = torch.rand(1, 2, 8, 8); hm[0,0,3,3] = float('nan')
    kp,conf = decode(hm, method)
    assert conf[0,0].isnan() and (kp[0,0]==0).all() and conf[0,1]>0


def test_dark_on_rough_maps_never_leaves_the_peak():
    g = torch.Generator().manual_seed(0)
    hm = torch.randn(50, 13, 32, 32, generator=g)
    kp,_ = decode_dark(hm)
    assert kp.isfinite().all() and (kp-decode_argmax(hm)[0]).abs().max()<=1


def test_soft_limits():
    hm = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)); hm[...,7,5] = 3
    assert torch.allclose(decode_soft(hm, 100.)[0], torch.tensor([5.,7]).expand(2,3,2), atol=1e-4)
    assert torch.allclose(decode_soft(hm, 0.)[0], torch.tensor([7.5,7.5]).expand(2,3,2), atol=1e-4)


def test_bad_calls():
    with pytest.raises(TTPError, match="'dark'"): decode(torch.zeros(1,1,8,8), 'DARK')
    with pytest.raises(TTPError, match='B,J,h,w'): decode(torch.zeros(8,8))


def bump(x, y, n=48, sigma=2.):
    v,u = torch.meshgrid(torch.arange(n), torch.arange(n), indexing='ij')
    return torch.exp(-((u-x)**2+(v-y)**2)/(2*sigma**2))[None,None]


@pytest.mark.parametrize('sigma', [.3, 1., 2.])
def test_dark_reads_between_the_cells_whatever_it_smooths_with(sigma):
    for x,y in ((20.1,30.7), (20.5,30.5), (19.9,30.), (5.3,42.2)):
        kp,_ = decode_dark(bump(x, y), sigma)
        assert torch.allclose(kp[0,0], torch.tensor([x,y]), atol=.02)


def test_the_decoders_are_those_that_a_configuration_may_name():
    assert list(DECODERS)==['quarter','argmax','dark','soft']
    assert ModelConfig().decoder=='quarter'==paper_config().decoder
    assert people_config().decoder=='quarter'   # everything reported of its networks was measured so
