"""The parts of the network at awkward sizes: shapes, invariances, gradients; what is said when weights are amiss."""
import copy, hashlib
from urllib.error import URLError
import numpy as np, pytest, torch, torchvision
import torch.nn.functional as F
from torch import nn
from tiny import global_state
from ttp_nb.imm import Encoder, Renderer, conv_stage, keypoint_heatmaps, marginal_keypoints
from ttp_nb.perceptual import VGG_LAYERS, VGG_START, MultiScale, PerceptualLoss, VGGFeatures, vgg16_layers
from ttp_nb.trunk import (DEPTHS, PoseResNet, Trunk, count_parameters, deconv_layers, heatmap_loss, load_imagenet,
                          residual_stage)
from ttp_nb.basics import read_weights
from ttp_nb.basics import TTPError
from ttp_nb.transformer import Affinity, heatmaps_per_joint, mix

THIN = dict(width=8, filters=(8,8,8))
SIDES = [(64,64), (64,96), (96,32)] # H,W

def rand(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

def close(a, b, tol=1e-5): torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), atol=tol, rtol=tol)

def untouched(model, x):
    "Names of parameters that get no gradient, or a gradient of nothing but zeros or not finite."
    model.zero_grad()
    model(x).square().mean().backward()
    return [n for n,p in model.named_parameters()
            if p.grad is None or not p.grad.isfinite().all() or not p.grad.abs().sum()]


# ---- the trunk

@pytest.mark.parametrize('lateral', [False, True])
@pytest.mark.parametrize('depth', sorted(DEPTHS))
def test_every_depth_builds_and_keeps_its_promises(depth, lateral):
    trunk = Trunk(depth, **THIN, lateral=lateral).eval()
    for H,W in SIDES[1:]:
        assert trunk(rand(1, 3, H, W)).shape == (1, trunk.channels, H//trunk.stride, W//trunk.stride)
    assert (trunk.channels, trunk.down, trunk.stride) == (8, 32, 4)

@pytest.mark.parametrize('stages,filters,lateral', [(s, (6,5,4,3)[:f], l) for s in (1,2,3,4) for l in (False,True)
                                                    for f in range(1, s+1 + (not l)) if f < 5])
def test_stride_follows_from_stages_and_filters(stages, filters, lateral):
    trunk = Trunk(18, 8, stages, filters, lateral).eval()
    out = trunk(rand(2, 3, 64, 32))
    assert out.shape == (2, filters[-1], 64//trunk.stride, 32//trunk.stride)
    assert trunk.down == 2**(stages+1) and len(trunk.lateral) == (len(filters) if lateral else 0)

@pytest.mark.parametrize('depth', sorted(DEPTHS))
def test_names_and_shapes_are_torchvisions(depth):
    with torch.device('meta'): theirs,ours = getattr(torchvision.models, f'resnet{depth}')(),Trunk(depth)
    shapes = lambda m, part: {k: v.shape for k,v in m.state_dict().items() if not k.startswith(part)}
    assert shapes(theirs, 'fc') == shapes(ours, 'deconv')

def test_published_sizes():
    with torch.device('meta'):
        assert count_parameters(PoseResNet(13)) == 33_998_669
        assert count_parameters(PoseResNet(13, depth=18)) == 15_375_693
        assert not [k for k in Trunk().state_dict() if k.startswith(('lateral', 'merge'))]

@pytest.mark.parametrize('lateral', [False, True])
def test_gradient_reaches_every_parameter_of_the_trunk(lateral):
    torch.manual_seed(0)
    assert untouched(PoseResNet(13, depth=18, **THIN, lateral=lateral), rand(2, 3, 64, 64)) == []

def test_a_crop_does_not_depend_on_its_batch():
    net,x = PoseResNet(13, depth=18, stages=3, **THIN, lateral=True).eval(),rand(3, 3, 64, 64)
    before = {k: v.clone() for k,v in net.state_dict().items()}
    with torch.no_grad(): close(net(x)[1:2], net(x[1:2]))
    assert all(torch.equal(v, before[k]) for k,v in net.state_dict().items()) # eval mode moves no statistics
    with torch.no_grad(): assert (net.train()(x)[1] - net(x[:2])[1]).abs().max() > 1e-4

def test_input_is_not_written_to():
    x = rand(1, 3, 64, 64)
    kept = x.clone()
    for m in (Trunk(18, **THIN, lateral=True), Encoder(3, (4,8)), MultiScale()): m(x)
    assert torch.equal(x, kept)

@pytest.mark.parametrize('args,message', [(dict(depth=20), 'There is no ResNet-20'), (dict(depth='50'), 'no ResNet-50'),
                                          (dict(stages=0), '1 to 4 stages, not 0'), (dict(stages=5), 'not 5'),
                                          (dict(filters=()), '0 transposed convolutions'),
                                          (dict(stages=1, filters=(8,8,8)), '3 .* do not fit 1 stages'),
                                          (dict(stages=2, lateral=True), '3 .* do not fit 2 stages')])
def test_impossible_trunks_are_refused(args, message):
    with pytest.raises(TTPError, match=message): Trunk(**{**THIN, **args})

def test_stages_and_doublings():
    x = rand(2, 4, 9, 12)
    assert residual_stage(4, 6, 2, stride=2)(x).shape == (2, 6, 5, 6) # odd sides round up
    assert residual_stage(4, 6, 1, bottleneck=True)(x).shape == (2, 24, 9, 12)
    assert residual_stage(4, 1, 1, bottleneck=True)[0].downsample is None # 4*1 channels: the shortcut is the identity
    assert deconv_layers(4, ())(x).shape == x.shape
    assert deconv_layers(4, (3,2))(x).shape == (2, 2, 36, 48)
    assert all(m.bias is None for m in deconv_layers(4) if isinstance(m, nn.ConvTranspose2d))


# ---- the supervised loss

def test_loss_is_the_published_formula():
    hm,target = rand(3, 5, 6, 4),rand(3, 5, 6, 4, seed=1)
    weight = torch.tensor([[1,1,1,0,.5]]*3)
    want = 0
    for j in range(5): # one mean squared error for each joint, the weight inside the square, joints of weight 0 count
        diff = weight[:,j,None,None]*(hm[:,j] - target[:,j])
        want += .5*diff.square().mean()/5
    close(heatmap_loss(hm, target, weight), want, 1e-6)

def test_joints_of_weight_0_teach_nothing():
    hm = rand(2, 5, 6, 4).requires_grad_()
    weight = torch.tensor([[1.,0,1,0,1], [0,0,0,0,0]])
    target = rand(2, 5, 6, 4, seed=1)
    heatmap_loss(hm, target, weight).backward()
    assert torch.equal(hm.grad.abs().sum((2,3)) > 0, weight > 0)
    close(hm.grad, (weight[...,None,None]*(hm.detach() - target)/hm.numel()), 1e-7)

def test_loss_of_nothing_visible_is_0_and_differentiable():
    hm = rand(2, 5, 6, 4).requires_grad_()
    loss = heatmap_loss(hm, rand(2, 5, 6, 4, seed=1), torch.zeros(2, 5))
    loss.backward()
    assert loss.item() == 0 and not hm.grad.any()

def test_loss_does_not_depend_on_the_order():
    hm,target,weight = rand(4, 5, 6, 4),rand(4, 5, 6, 4, seed=1),torch.rand(4, 5)
    i,j = torch.randperm(4),torch.randperm(5)
    close(heatmap_loss(hm[i][:,j], target[i][:,j], weight[i][:,j]), heatmap_loss(hm, target, weight), 1e-6)

def test_only_what_learns_is_counted():
    net = nn.Linear(3, 2)
    assert count_parameters(net) == 8
    net.bias.requires_grad_(False)
    assert count_parameters(net) == 6 and count_parameters(nn.ReLU()) == 0


# ---- weights from elsewhere

@pytest.fixture
def offline(monkeypatch, tmp_path):
    "No weights on disk and no way to the net."
    def refuse(*args, **kw): raise URLError('Name or service not known')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    monkeypatch.setattr('torch.hub.urlopen', refuse)
    return tmp_path

@pytest.fixture
def served(monkeypatch):
    "Makes torchvision's download give what a test wants."
    def serve(answer):
        def load(*args, **kw):
            if isinstance(answer, Exception): raise answer
            return answer
        monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', load)
    return serve

def test_vgg_that_cannot_be_had(offline):
    for make in (vgg16_layers, VGGFeatures):
        with pytest.raises(TTPError) as e: make()
        said = str(e.value)
        assert 'VGG-16 could not be downloaded' in said and 'Name or service not known' in said
        assert 'Connect once (528 MB)' in said and 'MultiScale' in said # two ways out
        assert isinstance(e.value.__cause__, URLError)
    assert not [p for p in offline.rglob('*') if p.is_file()]

def test_imagenet_weights_that_cannot_be_had(offline):
    trunk = Trunk(18)
    before = {k: v.clone() for k,v in trunk.state_dict().items()}
    with pytest.raises(TTPError) as e: load_imagenet(trunk, 18)
    said = str(e.value)
    assert 'ImageNet weights of ResNet-18 could not be downloaded' in said and 'Name or service not known' in said
    assert 'Connect once' in said and 'random weights' in said
    assert all(torch.equal(v, before[k]) for k,v in trunk.state_dict().items())

@pytest.mark.parametrize('fault', [TimeoutError('timed out'), PermissionError(13, 'Permission denied'),
                                   RuntimeError('invalid hash value (expected "f37072fd", got "00")')])
def test_other_ways_of_failing_are_named(served, fault):
    served(fault)
    with pytest.raises(TTPError, match='could not be downloaded') as e: load_imagenet(Trunk(18, **THIN), 18)
    assert str(fault) in str(e.value)

def test_a_damaged_vgg_is_named(served):
    served(RuntimeError('invalid hash value'))
    with pytest.raises(TTPError, match='could not be downloaded .invalid hash value'): vgg16_layers()

@pytest.fixture(scope='module')
def resnet18(): return torchvision.models.resnet18().state_dict()

@pytest.mark.parametrize('lateral', [False, True])
def test_imagenet_weights_arrive(served, resnet18, lateral):
    served(resnet18)
    torch.manual_seed(0)
    trunk = Trunk(18, lateral=lateral)
    before = {k: v.clone() for k,v in trunk.state_dict().items()}
    assert load_imagenet(trunk, 18) is trunk
    now = trunk.state_dict()
    for k,v in now.items():
        if k in resnet18: assert torch.equal(v, resnet18[k]), k
        elif v.ndim == 4 and k.startswith('deconv'): assert abs(v.std() - .001) < 5e-5 and abs(v.mean()) < 1e-4, k
        else: assert torch.equal(v, before[k]), k

@pytest.mark.parametrize('trunk,wrong', [(dict(depth=18, **THIN), 'conv1.weight'),
                                         (dict(depth=18, stages=3), 'layer4.0')])
def test_imagenet_weights_that_do_not_fit(served, resnet18, trunk, wrong):
    served(resnet18)
    trunk = Trunk(**trunk)
    before = {k: v.clone() for k,v in trunk.state_dict().items()}
    with pytest.raises(TTPError, match='use depth=18, width=64, stages=4') as e: load_imagenet(trunk, 18)
    assert wrong in str(e.value)
    assert all(torch.equal(v, before[k]) for k,v in trunk.state_dict().items()) # nothing half loaded


# ---- from maps to points and back

@pytest.mark.parametrize('h,w', [(8,8), (5,13), (32,24), (1,7)])
def test_a_decided_map_gives_its_cell(h, w):
    cells = [(x, y) for y in {0, h//2, h-1} for x in {0, w//3, w-1}]
    hm = torch.zeros(1, len(cells), h, w)
    for k,(x,y) in enumerate(cells): hm[0,k,y,x] = 50
    close(marginal_keypoints(hm)[0], cells)

def test_points_are_means_of_the_two_marginals():
    hm = rand(2, 3, 6, 9)
    for b in range(2):
        for k in range(3):
            m = hm[b,k].double().numpy()
            soft = lambda s: np.exp(s - s.max())/np.exp(s - s.max()).sum()
            want = [soft(m.sum(0)) @ np.arange(9), soft(m.sum(1)) @ np.arange(6)] # sums, as published
            close(marginal_keypoints(hm)[b,k], want)

def test_points_stay_on_the_map_whatever_it_holds():
    for scale in (1e-6, 1, 1e4, 1e30):
        kp = marginal_keypoints(rand(3, 4, 7, 11)*scale)
        assert kp.isfinite().all() and (kp >= 0).all() and (kp[...,0] <= 10).all() and (kp[...,1] <= 6).all()

def test_points_move_with_their_maps():
    hm = 3*keypoint_heatmaps(torch.tensor([[[12.,9.], [10,14]]]), (24,24), 1.5)
    kp = marginal_keypoints(hm)
    close(marginal_keypoints(hm.roll((2,-3), (2,3))), kp + torch.tensor([-3.,2.]), 1e-3)
    close(marginal_keypoints(hm.transpose(2, 3)), kp.flip(-1))
    close(marginal_keypoints(hm.flip(2, 3)), 23 - kp, 1e-4)
    close(marginal_keypoints(hm.flip(1)), kp.flip(1))
    close(marginal_keypoints(hm - 5.), kp, 1e-4)

def test_only_the_marginals_get_through():
    "Two maps that differ everywhere but have the same sums over rows and columns are one to the renderer."
    a = torch.eye(6)[None,None]
    b = a[...,[1,0,3,2,5,4],:]
    assert (a != b).any() and torch.equal(marginal_keypoints(a), marginal_keypoints(b))

def test_precision_and_device_are_the_maps_own():
    for dtype in (torch.float32, torch.float64):
        kp = marginal_keypoints(torch.zeros(1, 2, 4, 6, dtype=dtype))
        maps = keypoint_heatmaps(kp, (6,4))
        assert kp.dtype == maps.dtype == dtype and kp.device == maps.device
    before = global_state()
    keypoint_heatmaps(marginal_keypoints(rand(1, 2, 4, 6)), (6,4))
    assert global_state() == before

def test_gaussians_are_the_formula_also_off_the_map():
    kp = torch.tensor([[[3.2,4.7], [-4,2], [0,0], [40,40]]])
    maps = keypoint_heatmaps(kp, (9,7), 1.5)
    y,x = torch.meshgrid(torch.arange(7.), torch.arange(9.), indexing='ij')
    for m,(a,b) in zip(maps[0], kp[0]): close(m, torch.exp(-((x-a)**2 + (y-b)**2)/4.5), 1e-6)
    assert maps[0,2,0,0] == 1 and maps[0,3].max() < 1e-6

def test_a_lost_point_spoils_no_other_map():
    kp = torch.tensor([[[3.,4], [float('nan'),1]]])
    maps = keypoint_heatmaps(kp, (9,7))
    assert maps[0,0].isfinite().all() and maps[0,1].isnan().all()

def test_there_and_back():
    kp = 6 + 12*torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(0))
    close(marginal_keypoints(9*keypoint_heatmaps(kp, (24,24))), kp, .1)

@pytest.mark.parametrize('scale', [0., 1.])
def test_the_bottleneck_passes_a_useful_gradient(scale):
    hm = (scale*rand(2, 3, 16, 16)).requires_grad_()
    start = marginal_keypoints(hm).detach()
    wish = keypoint_heatmaps(start + torch.tensor([2.,-1.]), (16,16))
    F.mse_loss(keypoint_heatmaps(marginal_keypoints(hm), (16,16)), wish).backward()
    assert hm.grad.isfinite().all()
    close(hm.grad.sum((2,3)), torch.zeros(2, 3), 1e-6) # raising a whole map would change nothing
    moved = marginal_keypoints(hm.detach() - hm.grad/hm.grad.norm()) - start
    assert (moved[...,0] > 0).all() and (moved[...,1] < 0).all() # to the right and up, as wished


# ---- encoders and renderer

@pytest.mark.parametrize('H,W', SIDES)
@pytest.mark.parametrize('channels,stride,convs', [((4,8,12,16), 1, 2), ((4,8), 2, 1), ((6,), 1, 1), ((4,8,12), 1, 3)])
def test_encoder_and_renderer_are_each_others_inverse_in_size(H, W, channels, stride, convs):
    code = Encoder(5, channels, stride, convs)(rand(2, 5, H, W))
    down = stride*2**(len(channels)-1)
    assert code.shape == (2, channels[-1], H//down, W//down) and (code >= 0).all()
    assert Renderer(channels[-1], channels[::-1], convs)(code).shape == (2, 3, H//stride, W//stride)

def test_only_the_first_convolution_is_special():
    convs = [m for m in conv_stage(3, 8, 7, 2, 3) if isinstance(m, nn.Conv2d)]
    kinds = [(c.kernel_size[0], c.stride[0], c.padding[0], c.in_channels) for c in convs]
    assert kinds == [(7,2,3,3), (3,1,1,8), (3,1,1,8)]
    assert all(c.bias is None for c in convs)
    published = Encoder(30)
    assert [s[0].kernel_size[0] for s in published] == [7, 3, 3, 3] and [len(s) for s in published] == [6]*4

def test_gradient_reaches_every_parameter_of_the_game():
    torch.manual_seed(0)
    for m,c in ((Encoder(5, (4,8)), 5), (Renderer(5, (8,4)), 5)): assert untouched(m, rand(2, c, 16, 16)) == []

def test_renderer_repeats_cells_between_stages():
    "Nearest-neighbour upsampling: a constant input stays constant away from the padded rim."
    out = Renderer(4, (6,5), 1).eval()(torch.ones(1, 4, 8, 8))
    inner = out[...,4:-4,4:-4]
    close(inner, inner.mean((2,3), keepdim=True).expand_as(inner))


# ---- perceptual losses

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


# ---- affinity

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
    close(affinity(x.flatten(2)[...,cells].view(3, 16, 4, 6)), W) # cells shuffled, and the map turned
    close(affinity(x.repeat(1, 1, 2, 3)), W) # everything there six times
    close(affinity(x[1:2]), W[1:2])
    other = copy.deepcopy(affinity)
    other.queries.data = affinity.queries.data[rows]
    close(other(x), W[:,rows]) # queries in another order: the same rows in that order
    assert (affinity(x + 1) - W).abs().max() > 1e-3 # it does look

def test_gradient_reaches_every_parameter_of_the_affinity():
    torch.manual_seed(0)
    model,maps = Affinity(5, 7, 16, dropout=0.),rand(2, 7, 6, 4, seed=1)
    mix(model(rand(2, 16, 6, 4)), maps).square().mean().backward()
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
    maps,logits = rand(4, 7, 6, 5),rand(4, 3, 7, seed=1)
    out = mix(logits.softmax(-1), maps)
    assert out.shape == (4, 3, 6, 5)
    low,high = maps.amin(1, keepdim=True),maps.amax(1, keepdim=True)
    assert (out >= low-1e-6).all() and (out <= high+1e-6).all()
    pick = torch.tensor([6,0,3])
    close(mix(F.one_hot(pick, 7).float().expand(4, -1, -1), maps), maps[:,pick])
    close(mix(logits.softmax(-1), 2*maps.flip(3)), 2*out.flip(3))

def test_mixing_passes_the_gradient_both_ways():
    W,maps = rand(2, 3, 7).softmax(-1).requires_grad_(),rand(2, 7, 6, 5, seed=1).requires_grad_()
    mix(W, maps)[:,0].sum().backward()
    close(W.grad[:,0], maps.detach().sum((2,3)), 1e-4)
    assert not W.grad[:,1:].any() # joint 0 says nothing about the others' rows
    close(maps.grad, W.detach()[:,0,:,None,None].expand(2, 7, 6, 5))

def test_maps_per_joint_counts():
    for K in (1, 2, 30):
        close(heatmaps_per_joint(torch.full((2, 3, K), 1/K)), torch.full((2, 3), float(K)), 1e-4)
        n = heatmaps_per_joint(rand(5, 3, K).mul(3).softmax(-1))
        assert (n >= 1-1e-5).all() and (n <= K+1e-4).all()
    W = rand(3, 9).softmax(-1)
    close(heatmaps_per_joint(W[:,torch.randperm(9)]), heatmaps_per_joint(W))
    close(heatmaps_per_joint(torch.eye(4)), torch.ones(4)) # no trouble with zeros


# ---- files of weights

def named(folder, what, stem):
    "Saves what torch can, under a name that ends in the beginning of its own SHA-256."
    torch.save(what, folder/'x.pth')
    digits = hashlib.sha256((folder/'x.pth').read_bytes()).hexdigest()[:8]
    return (folder/'x.pth').rename(folder/f'{stem}-{digits}.pth')

class Harm:
    def __init__(self, marker): self.marker = marker
    def __reduce__(self): return open,(str(self.marker), 'w')

def test_a_file_where_it_belongs_is_used_without_a_connection(offline, resnet18, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path/'models'/'pytorch'/'imagenet'
    folder.mkdir(parents=True)
    file = named(folder, resnet18, 'resnet18')
    trunk = load_imagenet(Trunk(18), 18)
    assert torch.equal(trunk.layer4[1].conv2.weight, resnet18['layer4.1.conv2.weight'])
    with pytest.raises(TTPError, match='could not be downloaded'): load_imagenet(Trunk(34), 34) # another depth
    old = {k: v for k,v in resnet18.items() if 'num_batches' not in k} # as older files are
    assert load_imagenet(Trunk(18), 18, named(tmp_path, old, 'old')).bn1.num_batches_tracked==0
    file.rename(folder/'resnet18-00000000.pth')
    with pytest.raises(TTPError, match='does not begin with 00000000'): load_imagenet(Trunk(18), 18)

@pytest.mark.parametrize('lost', ['conv1.weight', 'layer3.0.downsample.1.running_var'])
def test_a_file_that_lacks_something(resnet18, lost, tmp_path):
    file = named(tmp_path, {k: v for k,v in resnet18.items() if k!=lost}, 'resnet18')
    with pytest.raises(TTPError, match=lost): load_imagenet(Trunk(18), 18, file)

def test_weights_that_mean_harm_are_not_executed(tmp_path):
    for what in (Harm(tmp_path/'marker'), {'conv1.weight': Harm(tmp_path/'marker')}):
        file = named(tmp_path, what, 'resnet18')
        with pytest.raises(TTPError, match='read safely'): read_weights(file)
    assert not (tmp_path/'marker').exists()

@pytest.mark.parametrize('data', [b'', b'a text', b'PK\x03\x04 half a zip'])
def test_files_that_are_no_weights(data, tmp_path):
    (tmp_path/'w.pth').write_bytes(data)
    with pytest.raises(TTPError, match='w.pth'): read_weights(tmp_path/'w.pth')
    with pytest.raises(TTPError, match='none.pth'): read_weights(tmp_path/'none.pth')
    torch.save([torch.zeros(1)], tmp_path/'list.pth')
    with pytest.raises(TTPError, match='holds a list'): read_weights(tmp_path/'list.pth')

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
