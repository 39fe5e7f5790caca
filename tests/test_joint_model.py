"""The joint model: shapes of every part, what the losses reach, first weights."""
from dataclasses import replace
import pytest, torch, torchvision
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny import TINY, close, global_state, person, rand, same_weights, tiny_model, weights
from ttp_nb.basics import TTPError, shipped
from ttp_nb.checkpoints import checksum
from ttp_nb.clips import frame_crops
from ttp_nb.joint_model import (JointModel, ModelConfig, baseline, make_trunk, network_diagram, new_model, paper_config,
                                part_shapes, people_config, perceptual_features, start_from_imagenet,
                                start_from_movenet)
from ttp_nb.perceptual import MultiScale, PerceptualLoss, VGGFeatures, VGG_START
from ttp_nb.ready_estimator import ready_estimator
from ttp_nb.skeletons import COCO17, PENN13, PEOPLE18, Skeleton
from ttp_nb.mobile_trunk import MobileFeatures, MobileTrunk
from ttp_nb.trunk import PoseResNet, Trunk, count_parameters


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
def people(): return new_model('joint', people_config()).eval()

@pytest.mark.parametrize('W,H', [(192,192), (96,160), (160,96), (64,32)])
def test_shapes_for_people(people, W, H):
    x,y = rand(2, 2, 3, H, W)
    with torch.no_grad(): hm,maps,affinity = people.pose(x)
    assert hm.shape==(2,18,H//4,W//4) and maps.shape==(2,30,H//4,W//4) and affinity.shape==(2,18,30)
    with torch.no_grad(): again = people.reconstruct(maps, y)
    assert again.shape==(2,3,H//2,W//2) and again.isfinite().all()
    assert people.self_supervised_loss(x, y).isfinite()
    with torch.no_grad(): close(people(x)[:1], people(x[:1])) # a batch does not influence its members

def test_the_configuration_for_people():
    cfg = people_config()
    assert cfg.skeleton==PEOPLE18 and cfg.size==(192,192) and cfg.trunk=='mobile' and cfg.shrink==2 and not cfg.vgg
    assert people_config(skeleton=PENN13, keypoints=12)==replace(cfg, skeleton=PENN13, keypoints=12)
    m = JointModel(people_config(keypoints=7, heads=3, shrink=1, # as asked for
                                 appearance=(4,8,8), pose=(8,8), renderer=(8,8,4,4)))
    x = rand(1, 3, 64, 96)
    assert m.trunk.channels==96 and m.pose(x)[2].shape==(1,18,7) and m.reconstruct(m.pose(x)[1], x).shape==x.shape
    assert m.hm_size==(48,48) and JointModel(people_config(size=(96,160))).hm_size==(24,40)

def test_the_resnets_fields_mean_nothing_to_a_mobile_trunk():
    plain,other = (new_model('baseline', people_config(**c)) for c in ({}, dict(depth=50, width=8, stages=4,
                                                                                filters=(6,), lateral=False)))
    assert same_weights(weights(plain), weights(other))

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
    assert shapes(net)==shapes(joint) and net(rand(1, 3, 96, 64)).shape==(1,18,24,16) and net.hm_size==(48,48)
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
    small = people_config(size=(64,64), keypoints=17)
    configs = TINY,replace(TINY, vgg=True),small,replace(small, vgg=True)
    kinds = [perceptual_features(cfg) for cfg in configs]
    assert [type(k) for k in kinds]==[MultiScale, VGGFeatures, MobileFeatures, VGGFeatures]
    starts = [JointModel(cfg).perceptual.start for cfg in configs]
    assert starts==[(0.,)*12, VGG_START, (0.,)*4, VGG_START], 'the published values are for the published features'
    own = JointModel(small, MultiScale())
    assert isinstance(own.perceptual.features, MultiScale) and own.perceptual.mean.shape==(12,)

def test_no_branch_of_a_people_model_learns_its_judge(people):
    m = new_model('joint', people_config(size=(64,64)))
    judge = {id(p) for p in m.perceptual.parameters()}
    assert judge and not judge & {id(p) for p in m.trunk.parameters()} and not count_parameters(m.perceptual)
    was = {k: v.clone() for k,v in m.perceptual.features.state_dict().items()}
    opt = torch.optim.Adam(m.parameters(), 1e-2)
    for _ in range(2):
        opt.zero_grad(); m.self_supervised_loss(*rand(2, 2, 3, 64, 64)).backward(); opt.step()
    assert all(torch.equal(v, was[k]) for k,v in m.perceptual.features.state_dict().items())

def test_first_weights_for_people_depend_on_the_seed_alone():
    before = global_state()
    a,b,c = (weights(new_model('joint', people_config(), seed)) for seed in (0,0,1))
    assert same_weights(a, b) and global_state()==before
    assert not torch.equal(a['head.weight'][17:], c['head.weight'][17:])
    assert torch.equal(a['head.weight'][:17], c['head.weight'][:17]), "MoveNet's do not depend on a seed"
    assert all(torch.equal(a[k], c[k]) for k in a if k.startswith('trunk.'))


# --- a start from MoveNet

def crops(size=(192,192)): return torch.cat([frame_crops(person(i), [0,3], size)[0] for i in range(4)])

def highest(hm): return hm.flatten(2).argmax(-1)

@pytest.mark.parametrize('size', [(192,192), (128,192)])
def test_joints_are_where_movenet_sees_them(size):
    "The same order in every heatmap as MoveNet's own, so the same highest cell, before a step of training."
    x,cfg = crops(size),people_config(size=size)
    with torch.no_grad():
        theirs = ready_estimator()(x).heat
        ours = baseline_maps(cfg, x),new_model('joint', cfg).eval().pose(x)[1]
    for hm in ours:
        assert torch.equal(highest(hm[:,:17]), highest(theirs))
        close(hm[:,:17], .005*theirs + .04, 1e-5)
    assert not torch.equal(highest(ours[0][:,17:]), highest(theirs[:,:1])), 'the head is not one of them'

def baseline_maps(cfg, x): return new_model('baseline', cfg).eval()(x)

def test_a_start_from_movenet_touches_what_it_should():
    for kind,shared in (('joint', False), ('joint', True), ('baseline', False)):
        cfg = people_config(size=(64,64), shared=shared)
        torch.manual_seed(0)
        m = JointModel(cfg) if kind=='joint' else baseline(cfg)
        before = weights(m)
        assert start_from_movenet(m) is m
        now = weights(m)
        moved = {k for k in before if not torch.equal(before[k], now[k])}
        assert {k for k in before if k.startswith('trunk.')} <= moved <= {k for k in before if
                                                                          k.startswith(('trunk.', 'head.'))}
        assert {'head.weight','head.bias'} <= moved
        for k in ('head.weight', 'head.bias'): assert torch.equal(before[k][17:], now[k][17:])
        assert m.head.weight.requires_grad and m.head.weight.is_leaf
        same = new_model(kind, cfg)
        assert same_weights(now, weights(same)), 'new_model starts in another way'

def test_its_error_is_no_larger_than_that_of_empty_heatmaps():
    from ttp_nb.pairs import add_labels, make_pairs, no_augmentation
    from ttp_nb.trunk import heatmap_loss
    clips = [person(i) for i in range(8)]
    items,still = [(c,0,0) for c in clips],no_augmentation(8)
    p = add_labels(make_pairs(items, still, (192,192)), items, still, (192,192), (48,48))
    own = [PEOPLE18.index(joint) for joint in PENN13.joints[1:]] # but the head, which is drawn at random
    with torch.no_grad(): hm = baseline_maps(people_config(), p.target)[:,own]
    loss = lambda hm: heatmap_loss(hm, p.heatmaps[:,1:], p.weight[:,1:]).item()
    assert 0<loss(hm)<1.02*loss(0*hm)

@pytest.mark.parametrize('n', [1, 16])
def test_fewer_maps_than_movenet_has(n):
    few = Skeleton('few', tuple(f'j{i}' for i in range(n)))
    for m in (JointModel(people_config(keypoints=n)), baseline(people_config(skeleton=few))):
        with pytest.raises(TTPError, match=f'MoveNet has 17 heatmaps, the network {n}: '): start_from_movenet(m)
    for kind in ('joint', 'baseline'):
        with pytest.raises(TTPError, match='more keypoints'):
            new_model(kind, people_config(keypoints=n, skeleton=few))

def test_seventeen_maps_are_enough():
    m = new_model('joint', people_config(size=(64,64), keypoints=17, skeleton=PENN13))
    assert m.head.out_channels==17 and m(rand(1, 3, 64, 64)).shape==(1,13,16,16)
    assert new_model('baseline', people_config(skeleton=COCO17)).head.out_channels==17

def test_a_start_from_other_files(tmp_path):
    held = load_file(shipped('movenet_lightning'))
    held['heads.heat.1.bias'] = torch.arange(17.).half()
    save_file(held, tmp_path/'w.safetensors')
    m = start_from_movenet(baseline(people_config()), tmp_path/'w.safetensors')
    close(m.head.bias[:17].detach(), .04 + .005*torch.arange(17.))
    with pytest.raises(TTPError, match='small_joint.safetensors holds no weights of MoveNet'):
        start_from_movenet(baseline(people_config()), shipped('small_joint'))
    with pytest.raises(TTPError, match='no weights of MoveNet'): start_from_movenet(baseline()) # another trunk
    with pytest.raises(TTPError, match='do not fit this trunk'):
        new_model('baseline', people_config(), imagenet=state18(tmp_path))

def state18(folder):
    torch.save(torchvision.models.resnet18().state_dict(), folder/'r.pth')
    return folder/'r.pth'

def test_the_mobile_trunk_is_the_only_one_that_starts_from_movenet(monkeypatch):
    def never(*args): raise AssertionError
    monkeypatch.setattr('ttp_nb.joint_model.load_movenet', never)
    for kind in ('joint', 'baseline'):
        tiny_model(kind)
        with pytest.raises(AssertionError): new_model(kind, people_config())


# --- first weights

def test_first_weights_depend_on_the_seed_alone():
    before = global_state()
    for kind in ('joint', 'baseline'):
        a,b,c = tiny_model(kind),tiny_model(kind),tiny_model(kind, seed=1)
        assert same_weights(weights(a), weights(b)) and not torch.equal(a.head.weight, c.head.weight)
    assert global_state()==before

DRAWN = dict( # the first numbers of some tensors, as they were drawn for the shipped small models
    baseline={'trunk.conv1.weight': (.0722352, .0717112, .0100063),
              'trunk.merge.0.weight': (-.0511331, -.0135808, -.0568021),
              'trunk.layer3.0.conv1.weight': (-.020821, .0115413, -.0155141),
              'head.weight': (-.051514, .1587716, .082455)},
    joint={'trunk.conv1.weight': (-.0006175, .0442451, -.0678836),
           'trunk.merge.0.weight': (.0223551, -.0185801, .0449057),
           'trunk.layer3.0.conv1.weight': (-.0044352, .0069687, -.0396524),
           'head.weight': (.154822, .1536989, .0214466)})

@pytest.mark.parametrize('kind', DRAWN)
def test_the_small_sizes_draws_are_what_they_were(kind):
    "With these the shipped models began: a run of the same command must give the same network."
    now = weights(new_model(kind))
    for k,first in DRAWN[kind].items(): close(now[k].flatten()[:3], first, 1e-6)

def test_a_baseline_draws_its_trunk_twice():
    "And keeps the second: so the shipped one was made."
    for cfg in (ModelConfig(), TINY, people_config(size=(64,64))):
        torch.manual_seed(5)
        make_trunk(cfg)
        by_hand = PoseResNet(len(cfg.skeleton), make_trunk(cfg))
        by_hand.cfg = cfg
        if cfg.trunk=='mobile': start_from_movenet(by_hand)
        assert checksum(new_model('baseline', cfg, seed=5))==checksum(by_hand)

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


# ---- the network as a picture

@pytest.mark.parametrize('cfg,crop,heatmaps', [(ModelConfig(size=(96, 64)), '3 x 64 x 96', '13 x 32 x 48'),
                                               (people_config(), '3 x 192 x 192', '18 x 48 x 48')])
def test_the_figure_says_what_comes_out_of_the_parts(cfg, crop, heatmaps):
    model = JointModel(cfg).eval()
    found = part_shapes(model)
    assert found['crop']==crop and found['joints']==heatmaps
    assert found['head'].startswith(f'{cfg.keypoints} x ') and found['points']==f'{cfg.keypoints} x 2'
    assert found['affinity']==f'{len(cfg.skeleton)} x {cfg.keypoints}'
    assert not any(part._forward_hooks for part in model.modules())            # nothing is left behind
    written = {t.get_text() for t in network_diagram(model).ax.texts}
    assert set(found.values()) <= written
