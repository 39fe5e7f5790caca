"""The joint model: shapes of every part, what the losses reach, first weights."""
from dataclasses import replace
import pytest, torch, torchvision
from tiny import TINY, global_state, same_weights, tiny_model, weights
from ttp_nb.basics import TTPError
from ttp_nb.joint_model import JointModel, baseline, make_trunk, new_model, paper_config, start_from_imagenet


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
