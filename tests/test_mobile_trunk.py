"""MoveNet's trunk: its padding, its weights, what it gives, and what is said of files that are not its own."""
import numpy as np, pytest, torch
from safetensors.torch import load_file, save_file
from torch import nn
from tiny import close, rand, untouched
from ttp_nb.basics import TTPError, shipped
from ttp_nb.geometry import MEAN, STD, to_tensor
from ttp_nb.mobile_trunk import (AT_MEAN, MOBILE_STAGES, PER_STD, InvertedResidual, MobileFeatures, MobileTrunk,
                                 SeparableConv, conv_same, load_movenet)
from ttp_nb.perceptual import VGG_START, PerceptualLoss
from ttp_nb.trunk import PoseResNet, Trunk, count_parameters


@pytest.fixture(scope='module')
def mobile():
    trunk = MobileTrunk()
    load_movenet(trunk)
    return trunk.eval()

def test_the_pyramid_gives_what_movenet_gives(mobile):
    "Numbers of this code, which agreed with the packaged graph's to 7e-6 on the same input."
    with torch.no_grad(): f = mobile.pyramid(rand(2, 3, 64, 96))
    assert f.shape == (2, 24, 16, 24) and (f >= 0).all()
    close(f[1,:,7,11], [.079068,.093408,.115427,.145724,0,0,0,.054014,.105801,0,.148217,0,0,.110709,.087637,0,.254925,0,
                        .029766,.313737,.111355,.131049,0,.271477], 1e-4)
    close(f[0,8,::5,::6], [[.130207,.106161,.113418,.094255], [.123354,.099686,.117665,.095305],
                           [.123053,.247809,.079935,.079892], [.171963,.168915,.104893,.099372]], 1e-4)
    close(f.mean((0,2,3))[::4], [.073833,.065743,.117528,.084695,.269361,.170469], 1e-4)

def test_colours_arrive_between_minus_1_and_1(mobile):
    "What our crops are normalised with is undone, whatever it is: black is -1 and white 1."
    seen = []
    hook = mobile.pyramid.stem.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    with torch.no_grad():
        for colour in (0, 255): mobile(to_tensor(np.full((1,64,64,3), colour, np.uint8)))
    hook.remove()
    close(seen[0], torch.full((1, 3, 64, 64), -1.), 1e-5); close(seen[1], torch.ones(1, 3, 64, 64), 1e-5)

def tensorflows(x, conv):
    "A convolution with TensorFlow's 'SAME' padding, worked out from the sizes at hand."
    (k,_),(s,_) = conv.kernel_size,conv.stride
    lack = [max((-(-n//s) - 1)*s + k - n, 0) for n in x.shape[2:]]
    pad = [lack[1]//2, lack[1] - lack[1]//2, lack[0]//2, lack[0] - lack[0]//2]
    return torch.nn.functional.conv2d(torch.nn.functional.pad(x, pad), conv.weight, conv.bias, s, 0, 1, conv.groups)

@pytest.mark.parametrize('kernel', [1, 3])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('groups', [1, 4])
def test_padding_is_tensorflows(kernel, stride, groups):
    layer,x = conv_same(4, 8, kernel, stride, groups),rand(2, 4, 6, 10)
    close(layer(x), tensorflows(x, layer[-1]))
    assert conv_same(4, 8, kernel, stride, groups, bias=False)[-1].bias is None

@pytest.mark.parametrize('c,stride,wider', [(6,1,6), (6,2,6), (4,1,6), (4,2,1), (4,1,1)])
def test_inverted_residuals(c, stride, wider):
    block,x = InvertedResidual(4, c, stride, wider),rand(2, 4, 8, 12)
    kept,y = x.clone(),block(x)
    assert y.shape == (2, c, 8//stride, 12//stride) and torch.equal(x, kept)
    assert block.adds == (stride == 1 and c == 4) and (block.expand is None) == (wider == 1)
    for p in block.project.parameters(): nn.init.zeros_(p)
    close(block(x), x if block.adds else 0*y) # with nothing to correct it is the identity, where it adds
    assert SeparableConv(4, c)(x).shape == (2, c, 8, 12) and (SeparableConv(4, c)(x) >= 0).all()

def test_the_mobile_trunk_has_movenets_shape():
    with torch.device('meta'): trunk = MobileTrunk()
    assert sum(n for _,n,_,_ in MOBILE_STAGES) == 17 and count_parameters(trunk.pyramid) == 2_299_168
    assert count_parameters(trunk) == 2_301_784 and trunk.channels == 96
    assert not [k for k in trunk.state_dict() if 'per_std' in k or 'at_mean' in k] # constants, not weights

def test_nothing_of_a_batch_leaks_into_a_crop(mobile):
    assert not [m for m in mobile.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    assert not [m for m in mobile.modules() if isinstance(m, (nn.Dropout, nn.GroupNorm, nn.LayerNorm))]
    x,before = rand(4, 3, 64, 64),{k: v.clone() for k,v in mobile.state_dict().items()}
    for net in (mobile.eval(), mobile.train()): # no difference between the modes
        with torch.no_grad():
            for i in range(4): close(net(x)[i:i+1], net(x[i:i+1]))
    mobile.eval()
    assert all(torch.equal(v, before[k]) for k,v in mobile.state_dict().items())

TRUNKS = dict(small=lambda: Trunk(18, 8, 3, (8,8,6), True), published=lambda: Trunk(18, width=8, filters=(8,8,8)),
              mobile=MobileTrunk)

@pytest.mark.parametrize('which', TRUNKS)
def test_one_interface_for_all_trunks(which):
    trunk = TRUNKS[which]().eval()
    assert trunk.down % trunk.stride == 0 and trunk.channels in (6,8,96)
    for H,W in [(trunk.down, trunk.down), (64,96), (128,64)]:
        x = rand(2, 3, H, W)
        kept,h,w = x.clone(),H//trunk.stride,W//trunk.stride
        assert trunk(x).shape == (2, trunk.channels, h, w) and torch.equal(x, kept)
        net = PoseResNet(5, trunk)
        assert net(x).shape == (2, 5, h, w) and net.trunk is trunk

@pytest.mark.parametrize('which', TRUNKS)
def test_gradient_reaches_every_parameter_of_any_trunk(which):
    torch.manual_seed(0)
    assert untouched(PoseResNet(13, TRUNKS[which]()), rand(2, 3, 64, 64)) == []

def test_gradient_reaches_movenets_weights(mobile):
    "Some of its ReLU6 channels never fire; every layer learns all the same."
    net,x = PoseResNet(18, mobile),rand(2, 3, 64, 64).requires_grad_()
    net(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters()) and x.grad.any()
    assert not [k for k,p in net.named_parameters() if k.endswith('weight') and not p.grad.any()]
    net.zero_grad()

def test_movenets_weights_arrive():
    trunk,held = MobileTrunk(),load_file(shipped('movenet_lightning'))
    last = load_movenet(trunk)
    for k,v in trunk.state_dict().items():
        assert torch.equal(v, held[k.replace('widen.', 'heads.heat.0.')].float()), k
    assert last.keys() == {'weight','bias'}
    for k,v in last.items(): assert v.dtype == torch.float32 and torch.equal(v, held[f'heads.heat.1.{k}'].float())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in trunk.parameters())

def test_trunk_and_last_layer_give_movenets_heatmaps(mobile):
    from ttp_nb.ready_estimator import ready_estimator
    x,last = rand(2, 3, 64, 96),load_movenet(MobileTrunk())
    with torch.no_grad(): close(torch.nn.functional.conv2d(mobile(x), **last), ready_estimator()(x).heat, 1e-4)

def test_the_constants_undo_imagenets_normalisation():
    close(torch.tensor(PER_STD), 2*torch.tensor(STD), 1e-6)
    close(torch.tensor(AT_MEAN), 2*torch.tensor(MEAN) - 1, 1e-6)

def refused(trunk, file):
    "That the file is refused in one line that names it, and that the trunk is as it was."
    before = {k: v.clone() for k,v in trunk.state_dict().items()}
    with pytest.raises(TTPError) as e: load_movenet(trunk, file)
    assert str(file) in str(e.value) and '\n' not in str(e.value)
    assert all(torch.equal(v, before[k]) for k,v in trunk.state_dict().items())
    return str(e.value)

def test_weights_of_another_network_are_not_movenets():
    for other in ('small_joint', 'small_baseline', 'people_baseline'): # the last has the same trunk, under other names
        said = refused(MobileTrunk(), shipped(other))
        assert 'no weights of MoveNet Lightning' in said and 'models/movenet_lightning.safetensors' in said
    assert 'no weights' in refused(Trunk(18, width=8, filters=(8,8,8)), shipped('movenet_lightning')) # another trunk

HEAT = 'heads.heat.1.weight','heads.heat.1.bias'

@pytest.mark.parametrize('how', ['lacking', 'more', 'reshaped', *HEAT, 'other joints', 'other width'])
def test_weights_of_movenet_that_do_not_fit(how, tmp_path):
    held,k = load_file(shipped('movenet_lightning')),'pyramid.stem.1.weight'
    if how in held: del held[how]
    elif how == 'lacking': del held[k]
    elif how == 'more': held['pyramid.more'] = torch.zeros(1)
    elif how == 'reshaped': held[k] = held[k][1:].contiguous()
    elif how == 'other joints': held |= {k: held[k][:13].contiguous() for k in HEAT}
    else: held[HEAT[0]] = held[HEAT[0]][:,:64].contiguous()
    save_file(held, tmp_path/'w.safetensors')
    assert 'no weights of MoveNet' in refused(MobileTrunk(), tmp_path/'w.safetensors')

def test_what_is_not_read_may_be_anything(tmp_path):
    "The other heads and MoveNet's map of the centre are the ready estimator's."
    held = load_file(shipped('movenet_lightning'))
    save_file({k: v for k,v in held.items() if k.startswith(('pyramid.', 'heads.heat.'))}, tmp_path/'w.safetensors')
    trunk,whole = MobileTrunk(),MobileTrunk()
    load_movenet(trunk, tmp_path/'w.safetensors')
    load_movenet(whole)
    assert all(torch.equal(v, whole.state_dict()[k]) for k,v in trunk.state_dict().items())

@pytest.mark.parametrize('data', [b'', b'a text', b'\xff'*64])
def test_files_that_are_none(data, tmp_path):
    (tmp_path/'w.safetensors').write_bytes(data)
    assert 'cannot be read' in refused(MobileTrunk(), tmp_path/'w.safetensors')
    assert 'cannot be read' in refused(MobileTrunk(), tmp_path/'none.safetensors')

def test_a_pickle_under_this_name_is_not_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self): return (type(tmp_path).touch, (tmp_path/'bang',))
    torch.save({'pyramid.stem.1.weight': Bomb()}, tmp_path/'w.safetensors')
    refused(MobileTrunk(), tmp_path/'w.safetensors')
    assert not (tmp_path/'bang').exists()


# ---- MoveNet's features, for the perceptual loss

@pytest.fixture(scope='module')
def features(): return MobileFeatures()

def test_features_are_those_of_the_stages(features, mobile):
    x,wanted = rand(2, 3, 64, 96),[]
    kept,seen = x.clone(),features(x)
    hooks = [s.register_forward_hook(lambda module, args, out: wanted.append(out)) for s in mobile.pyramid.stages[:3]]
    with torch.no_grad(): mobile(x)
    for hook in hooks: hook.remove()
    assert torch.equal(x, kept) and torch.equal(seen[0], x) and features.terms == len(seen) == 4
    for f,w in zip(seen[1:], wanted, strict=True): close(f, w, 1e-6)
    for H,W in ((8,8), (40,24)):
        assert [tuple(f.shape) for f in features(rand(1, 3, H, W))[1:]] == [(1,c,H//d,W//d) for c,d in
                                                                           ((16,2), (24,4), (32,8))]

def test_features_never_learn_but_let_the_gradient_through(features):
    loss = PerceptualLoss(features).train() # train mode changes nothing
    out,target = rand(1, 3, 32, 32).requires_grad_(),rand(1, 3, 64, 64, seed=1).requires_grad_()
    loss(out, target).backward()
    assert out.grad.isfinite().all() and out.grad.abs().sum() > 0 and target.grad is None
    assert count_parameters(loss) == 0 and all(p.grad is None for p in loss.parameters())
    assert loss.mean.shape == (4,) and (loss.mean > 0).all()
    close(PerceptualLoss(features)(out, target), 4., 1e-4) # a new loss is one a term
    assert PerceptualLoss(features)(out, out.detach()).item() == 0
    with pytest.raises(TTPError, match='6 starting values do not fit the 4 terms'): PerceptualLoss(features, VGG_START)

def test_features_hold_no_more_than_they_need(features):
    assert sum(p.numel() for p in features.parameters()) < 60_000
    assert sum(b.numel() for b in features.buffers()) == 6 and not [k for k in features.state_dict() if 'per_std' in k]

def test_features_of_a_damaged_file(tmp_path, monkeypatch):
    (tmp_path/'movenet_lightning.safetensors').write_bytes(b'half a file')
    monkeypatch.setattr('ttp_nb.mobile_trunk.shipped', lambda name: tmp_path/f'{name}.safetensors')
    with pytest.raises(TTPError, match='movenet_lightning.safetensors cannot be read'): MobileFeatures()
