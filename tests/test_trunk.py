"""The trunk at awkward sizes: shapes, invariances, gradients; what is said when weights are amiss."""
import pytest, torch, torchvision
from torch import nn
from tiny import close, named, rand, untouched
from ttp_nb.basics import TTPError
from ttp_nb.trunk import (DEPTHS, PoseResNet, Trunk, count_parameters, deconv_layers, heatmap_loss, load_imagenet,
                          residual_stage)

THIN = dict(width=8, filters=(8,8,8))
SIDES = [(64,64), (64,96), (96,32)] # H,W


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
    Trunk(18, **THIN, lateral=True)(x)
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


# ---- files of weights


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
