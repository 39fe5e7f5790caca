"""The joint model: shapes of every part, what the losses reach, first weights."""
from dataclasses import replace
import pytest, torch, torchvision
import torch.nn.functional as F
from tiny import TINY, close, global_state, rand, same_weights, tiny_model, weights
from ttp_nb.basics import TTPError
from ttp_nb.joint_model import (JointModel, ModelConfig, baseline, make_trunk, new_model, paper_config, people_config,
                                perceptual_features, start_from_imagenet)
from ttp_nb.perceptual import FIRST_LAYERS, MultiScale, PerceptualLoss, VGGFeatures, VGG_START
from ttp_nb.skeletons import PENN13, PEOPLE18
from ttp_nb.trunk import MobileTrunk, Trunk, count_parameters, load_pyramid


# --- shapes

@pytest.mark.parametrize('size', [(32,32), (32,64), (64,32)])
@pytest.mark.parametrize('shared', [False, True])
def test_shapes_of_every_part(size, shared):
    m = tiny_model(size=size, shared=shared).eval()
    x = torch.randn(2, 3, size[1], size[0], generator=torch.Generator().manual_seed(0))
    hm,maps,W = m.pose(x)
    assert hm.shape==(2,13,size[1]//2,size[0]//2) and maps.shape==(2,5,size[1]//2,size[0]//2)
    assert m.reconstruct(maps, x).shape==x.shape and m.self_supervised_loss(x, x).ndim==0
    if shared: assert W is None
    else:
        assert W.shape==(2,13,5) and W.sum(-1).detach().numpy()==pytest.approx(1, abs=1e-5) and W.min()>0
        lo,hi = maps.amin(1, keepdim=True),maps.amax(1, keepdim=True)
        assert ((hm>=lo-1e-5) & (hm<=hi+1e-5)).all(), 'a joint is not a mean of maps'
    assert torch.equal(m(x), hm)

@pytest.mark.parametrize('size', [(32,32), (32,64), (64,32)])
def test_the_size_of_the_heatmaps_is_known_before(size):
    for kind in ('joint', 'baseline'):
        m = tiny_model(kind, size=size)
        h,w = m(torch.zeros(2, 3, size[1], size[0])).shape[2:]
        assert m.hm_size==(w,h)

@pytest.mark.parametrize('size', [(30,32), (32,40), (8,8), (0,32)])
def test_crops_that_do_not_fit_the_trunk(size):
    for build in (make_trunk, JointModel, baseline):
        with pytest.raises(TTPError, match=f'{size[0]}.*{size[1]}.*multiples of 16'): build(replace(TINY, size=size))

def test_the_self_supervised_loss_says_nothing_of_the_joints():
    "Its gradient reaches all that personalization moves, and nothing of the supervised branch."
    m = tiny_model()
    x,y = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    m.self_supervised_loss(x, y).backward()
    reached = {k.split('.')[0] for k,p in m.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached=={'trunk', 'head', 'appearance', 'pose_encoder', 'renderer'}


# --- the size for real people

@pytest.fixture(scope='module')
def people():
    m = new_model('joint', people_config())
    load_pyramid(m.trunk)
    return m.eval()

@pytest.mark.parametrize('W,H', [(128,128), (96,160), (160,96), (64,32)])
def test_shapes_for_people(people, W, H):
    x,y = rand(2, 2, 3, H, W)
    with torch.no_grad(): hm,maps,affinity = people.pose(x)
    assert hm.shape==(2,18,H//4,W//4) and maps.shape==(2,30,H//4,W//4) and affinity.shape==(2,18,30)
    with torch.no_grad(): again = people.reconstruct(maps, y)
    assert again.shape==(2,3,H//2,W//2) and again.isfinite().all()
    if min(H, W)>=64: assert people.self_supervised_loss(x, y).isfinite()
    with torch.no_grad(): close(people(x)[:1], people(x[:1])) # a batch does not influence its members

def test_the_configuration_for_people():
    cfg = people_config()
    assert cfg.skeleton==PEOPLE18 and cfg.size==(128,128) and cfg.trunk=='mobile' and cfg.first_vgg and not cfg.vgg
    assert people_config(skeleton=PENN13, keypoints=12)==replace(cfg, skeleton=PENN13, keypoints=12)
    m = JointModel(people_config(filters=(6,), keypoints=7, heads=3, first_vgg=False, shrink=1, # as asked for
                                 appearance=(4,8,8), pose=(8,8), renderer=(8,8,4,4)))
    x = rand(1, 3, 64, 96)
    assert m.trunk.channels==6 and m.pose(x)[2].shape==(1,18,7) and m.reconstruct(m.pose(x)[1], x).shape==x.shape
    assert m.hm_size==(32,32) and JointModel(people_config(size=(96,160))).hm_size==(24,40)

def test_people_are_reconstructed_and_judged_at_half_the_size(people):
    x,y = rand(2, 2, 3, 64, 64)
    half = lambda images: F.avg_pool2d(images, 2)
    with torch.no_grad():
        maps = people.pose(x)[1]
        out = people.reconstruct(maps, y)
        smoothed = F.interpolate(half(y), scale_factor=2) # the same at half the size
        close(people.reconstruct(maps, smoothed), out, 1e-4)
        people.perceptual.reset()
        close(people.self_supervised_loss(x, y), PerceptualLoss(people.perceptual.features)(out, half(x)), 1e-3)
        people.perceptual.reset()

def test_the_self_supervised_loss_of_people_says_nothing_of_their_joints(people):
    m = new_model('joint', people_config())
    load_pyramid(m.trunk)
    m.self_supervised_loss(*rand(2, 2, 3, 64, 64)).backward()
    reached = {k.split('.')[0] for k,p in m.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached=={'trunk', 'head', 'appearance', 'pose_encoder', 'renderer'}
    assert all(p.grad is None for p in m.affinity.parameters())
    moved = [p for k,p in m.named_parameters() if k.startswith(('trunk', 'appearance', 'pose_encoder', 'renderer'))]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in moved)

def test_the_baseline_for_people_has_the_same_trunk():
    net,joint = baseline(people_config()),JointModel(people_config())
    assert type(net.trunk) is type(joint.trunk) is MobileTrunk and net.cfg==joint.cfg
    shapes = lambda m: {k: v.shape for k,v in m.trunk.state_dict().items()}
    assert shapes(net)==shapes(joint) and net(rand(1, 3, 96, 64)).shape==(1,18,24,16) and net.hm_size==(32,32)
    for cfg in (ModelConfig(), TINY, paper_config()):
        with torch.device('meta'): pair = baseline(cfg),make_trunk(cfg)
        assert type(pair[0].trunk) is Trunk and count_parameters(pair[0].trunk)==count_parameters(pair[1])

@pytest.mark.parametrize('size', [(144,128), (128,112), (0,128), (128,), (16,16)])
def test_crops_that_do_not_fit_the_mobile_trunk(size):
    for build in (make_trunk, JointModel, baseline):
        with pytest.raises(TTPError, match='do not fit this trunk.*multiples of 32'): build(people_config(size=size))

@pytest.mark.parametrize('trunk', ['', 'Mobile', None, 3, 'movenet'])
def test_trunks_that_do_not_exist(trunk):
    for build in (make_trunk, JointModel, baseline):
        with pytest.raises(TTPError, match="choose 'resnet' or 'mobile'"): build(replace(TINY, trunk=trunk))

def test_features_are_those_of_the_configuration(monkeypatch):
    layers = [torch.nn.Identity() for _ in range(31)]
    monkeypatch.setattr('ttp_nb.perceptual.vgg16_layers', lambda: torch.nn.Sequential(*layers))
    kinds = [perceptual_features(c) for c in (TINY, replace(TINY, vgg=True), replace(TINY, first_vgg=True))]
    assert [type(k) for k in kinds]==[MultiScale, VGGFeatures, VGGFeatures] and [k.terms for k in kinds]==[12,6,4]
    assert kinds[2].depths==FIRST_LAYERS
    starts = [JointModel(replace(TINY, **c)).perceptual.start for c in ({}, dict(vgg=True), dict(first_vgg=True))]
    assert starts==[(0.,)*12, VGG_START, (0.,)*4], 'the published values are for the published features alone'

def test_first_weights_for_people_depend_on_the_seed_alone():
    before = global_state()
    a,b,c = (weights(new_model('joint', people_config(), seed)) for seed in (0,0,1))
    assert same_weights(a, b) and not torch.equal(*(w['trunk.widen.pointwise.1.weight'] for w in (a,c)))
    assert global_state()==before


# --- first weights

def test_first_weights_depend_on_the_seed_alone():
    before = global_state()
    for kind in ('joint', 'baseline'):
        a,b,c = tiny_model(kind),tiny_model(kind),tiny_model(kind, seed=1)
        assert same_weights(weights(a), weights(b)) and not torch.equal(a.head.weight, c.head.weight)
    assert global_state()==before

def test_vgg_that_cannot_be_downloaded_is_said(tmp_path, monkeypatch):
    import torchvision.models
    def offline(**kw): raise OSError('no network')
    monkeypatch.setattr(torchvision.models, 'vgg16', offline)
    with pytest.raises(TTPError, match='VGG-16.*MultiScale'): JointModel(replace(TINY, vgg=True))

def test_a_start_from_imagenet_touches_what_it_should(monkeypatch):
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr('ttp_nb.trunk.imagenet_state', lambda depth,file=None: state)
    for kind,shared in (('joint', False), ('joint', True), ('baseline', False)):
        was = new_model(kind, paper_config(18, size=(32,32), vgg=False, dropout=0., shared=shared))
        before = weights(was)
        now = weights(start_from_imagenet(was))
        moved = {k for k in before if not torch.equal(before[k], now[k])}
        small = {'joint': ['joints.'] if shared else ['affinity.decoder.'], 'baseline': ['head.']}[kind]
        for k in moved:
            assert k.startswith(('trunk.', *small)), k
            if k.startswith((*small, 'trunk.deconv')) and k.endswith('weight'): assert now[k].std()<.0012, k
            if k.startswith(tuple(small)) and k.endswith('bias'): assert not now[k].any(), k
        assert torch.equal(now['trunk.layer4.1.conv2.weight'], state['layer4.1.conv2.weight'])
        assert any(k.startswith(tuple(small)) for k in moved)
        if kind=='joint': assert torch.equal(before['head.weight'], now['head.weight'])
