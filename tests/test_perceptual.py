"""The losses that judge a reconstruction: scales, VGG-16 and where its weights come from, running normalisers."""
import copy
from urllib.error import URLError
import pytest, torch, torchvision
import torch.nn.functional as F
from torch import nn
from tiny import close, global_state, named, rand
from ttp_nb.basics import TTPError
from ttp_nb.perceptual import VGG_LAYERS, VGG_START, MultiScale, PerceptualLoss, VGGFeatures, vgg16_layers
from ttp_nb.trunk import count_parameters

@pytest.fixture(scope='module')
def vgg():
    torch.manual_seed(0)
    return VGGFeatures(torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs['D'], batch_norm=False))

@pytest.mark.parametrize('H,W,scales', [(16,16,4), (17,40,3), (2,2,1), (9,8,3)])
def test_scales_at_their_limits(H, W, scales):
    x,y = rand(2, 3, H, W),rand(2, 3, H, W, seed=1)
    seen = MultiScale(scales)(x)
    assert len(seen) == MultiScale(scales).terms == 3*scales and all(f.numel() for f in seen)
    assert torch.isfinite(PerceptualLoss(MultiScale(scales))(x, y))

@pytest.mark.parametrize('H,W,scales', [(8,8,4), (64,15,4), (1,64,1)])
def test_too_small_for_its_scales(H, W, scales):
    with pytest.raises(TTPError, match=f'{W}x{H}.*at least {2**scales}'): MultiScale(scales)(rand(1, 3, H, W))

def test_input_is_not_written_to():
    x = rand(1, 3, 64, 64)
    kept = x.clone()
    MultiScale()(x)
    assert torch.equal(x, kept)

def test_scales_see_what_they_should():
    x = rand(1, 3, 16, 24)
    seen = MultiScale(2)(x)
    assert torch.equal(seen[0], x)
    close(seen[1], x[:,:,1:] - x[:,:,:-1]); close(seen[2], x[...,1:] - x[...,:-1])
    close(seen[3], x.view(1, 3, 8, 2, 12, 2).mean((3,5)))
    mirrored = MultiScale(2)(x.flip(3))
    close(mirrored[2], -seen[2].flip(3)); close(mirrored[1], seen[1].flip(3))

def test_vgg_is_read_at_the_published_depths(vgg):
    x = rand(1, 3, 32, 48)
    kept,seen = x.clone(),vgg(x)
    assert torch.equal(x, kept) and torch.equal(seen[0], x)
    assert [tuple(f.shape[1:]) for f in seen[1:]] == [(64,32,48), (128,16,24), (256,8,12), (512,4,6), (512,2,3)]
    for f,i in zip(seen[1:], VGG_LAYERS): close(f, vgg.layers[:i+1](x)); assert (f >= 0).all()
    assert len(vgg.layers) == VGG_LAYERS[-1] + 1 and vgg.terms == len(seen) == len(VGG_START)

def test_vgg_never_learns_but_lets_the_gradient_through(vgg):
    loss = PerceptualLoss(vgg, VGG_START).train() # train mode changes nothing
    out,target = rand(1, 3, 32, 32).requires_grad_(),rand(1, 3, 32, 32, seed=1).requires_grad_()
    loss(out, target).backward()
    assert out.grad.abs().sum() > 0 and target.grad is None
    assert count_parameters(loss) == 0 and all(p.grad is None for p in loss.parameters())


# ---- the loss

@pytest.mark.parametrize('size', [(16,24), (8,12), (15,23), (16,12)])
def test_a_larger_target_is_averaged_down(size):
    out,target = rand(2, 3, *size),rand(2, 3, 32, 48, seed=1)
    small = F.adaptive_avg_pool2d(target, size)
    loss,same = PerceptualLoss(MultiScale(2)),PerceptualLoss(MultiScale(2))
    assert torch.equal(loss.differences(out, target), same.differences(out, small))
    assert torch.equal(loss(out, target), same(out, small)) and torch.equal(loss.mean, same.mean)
    if 48 % size[1] == 32 % size[0] == 0: # then it is the mean of the pixels that a pixel covers
        close(small, target.view(2, 3, size[0], 32//size[0], size[1], 48//size[1]).mean((3,5)))

def terms(features, a, b): return torch.stack([F.mse_loss(x, y) for x,y in zip(features(a), features(b))])

def pictures(seed): return rand(2, 3, 16, 16, seed=seed)*(1+seed)

@pytest.mark.parametrize('start', [None, tuple(range(1,7))])
@pytest.mark.parametrize('momentum', [.01, .3, 1.])
def test_running_means_follow_the_rule(start, momentum):
    features = MultiScale(2)
    loss = PerceptualLoss(features, start, momentum)
    m = None if start is None else torch.tensor(start, dtype=torch.float32)
    for step in range(4):
        a,b = pictures(step),pictures(step+10)
        now = terms(features, a, b)
        m = now if m is None else m + momentum*(now - m) # updated first
        close(loss(a, b), (now/m).sum(), 1e-4) # divided afterwards
        close(loss.mean, m)

def test_running_means_are_not_differentiated():
    features,loss = MultiScale(2),PerceptualLoss(MultiScale(2), momentum=.5)
    loss(pictures(0), pictures(1))
    out = pictures(2).requires_grad_()
    got = torch.autograd.grad(loss(out, pictures(3)), out)[0]
    want = torch.autograd.grad((terms(features, out, pictures(3))/loss.mean).sum(), out)[0]
    close(got, want)
    assert not loss.mean.requires_grad

def test_running_means_move_in_any_mode():
    loss = PerceptualLoss(MultiScale(2)).eval()
    with torch.no_grad(): loss(pictures(0), pictures(1))
    before = loss.mean.clone()
    with torch.no_grad(): loss(pictures(2), pictures(3))
    assert (loss.mean != before).all()

def test_a_perfect_picture_is_no_trouble():
    loss,a = PerceptualLoss(MultiScale(2)),pictures(0).requires_grad_()
    first = loss(a, a.detach())
    first.backward()
    assert first.item() == 0 and not a.grad.any() and not loss.mean.any()
    close(loss(pictures(1), pictures(2)), 6., 1e-4) # the means start at the first losses that say something

def test_a_loss_continues_where_it_was_saved():
    loss = PerceptualLoss(MultiScale(2))
    loss(pictures(0), pictures(1))
    again,twin = PerceptualLoss(MultiScale(2)),copy.deepcopy(loss)
    again.load_state_dict(loss.state_dict())
    value = loss(pictures(2), pictures(3))
    assert torch.equal(again(pictures(2), pictures(3)), value)
    assert (twin.mean != loss.mean).all() and torch.equal(twin(pictures(2), pictures(3)), value) # a copy has its own

def test_starting_values_must_fit():
    with pytest.raises(TTPError, match='6 starting values do not fit the 12 terms'):
        PerceptualLoss(MultiScale(), VGG_START)

def test_a_loss_leaves_the_world_as_it_was():
    before = global_state()
    PerceptualLoss(MultiScale(2))(pictures(0), pictures(1))
    assert global_state() == before


# ---- weights of VGG-16

def test_vgg_that_cannot_be_had(offline):
    for make in (vgg16_layers, VGGFeatures):
        with pytest.raises(TTPError) as e: make()
        said = str(e.value)
        assert 'VGG-16 could not be downloaded' in said and 'Name or service not known' in said
        assert 'Connect once (528 MB)' in said and 'MultiScale' in said # two ways out
        assert isinstance(e.value.__cause__, URLError)
    assert not [p for p in offline.rglob('*') if p.is_file()]

def test_a_damaged_vgg_is_named(served):
    served(RuntimeError('invalid hash value'))
    with pytest.raises(TTPError, match='could not be downloaded .invalid hash value'): vgg16_layers()

def test_vgg_from_a_file(offline, tmp_path, monkeypatch):
    "A network of VGG's names; the real one's classifier alone is 500 MB."
    class Small(nn.Module):
        def __init__(self, **kw):
            super().__init__()
            self.features = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(31)])
    monkeypatch.chdir(tmp_path); monkeypatch.setattr('torchvision.models.vgg16', Small)
    folder = tmp_path/'models'/'pytorch'/'imagenet'
    folder.mkdir(parents=True)
    net = Small()
    file,was = named(folder, net.state_dict(), 'vgg16'),global_state()
    assert torch.equal(vgg16_layers()[28].weight, net.features[28].weight)
    assert len(VGGFeatures().layers)==VGG_LAYERS[-1]+1 and global_state()==was # nothing is drawn
    file.unlink(); named(folder, {'features.0.weight': torch.zeros(1)}, 'vgg16')
    with pytest.raises(TTPError, match='does not hold VGG-16'): vgg16_layers()
