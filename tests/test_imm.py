"""The bottleneck, the encoders and the renderer at awkward sizes: shapes, invariances, gradients."""
import numpy as np, pytest, torch
import torch.nn.functional as F
from torch import nn
from tiny import close, global_state, rand, untouched
from ttp_nb.imm import Encoder, Renderer, conv_stage, keypoint_heatmaps, marginal_keypoints

SIDES = [(64,64), (64,96), (96,32)] # H,W


# ---- from heatmaps to points and back

@pytest.mark.parametrize('h,w', [(8,8), (5,13), (32,24), (1,7)])
def test_a_decided_heatmap_gives_its_cell(h, w):
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

def test_points_stay_on_the_heatmap_whatever_it_holds():
    for scale in (1e-6, 1, 1e4, 1e30):
        kp = marginal_keypoints(rand(3, 4, 7, 11)*scale)
        assert kp.isfinite().all() and (kp >= 0).all() and (kp[...,0] <= 10).all() and (kp[...,1] <= 6).all()

def test_points_move_with_their_heatmaps():
    hm = 3*keypoint_heatmaps(torch.tensor([[[12.,9.], [10,14]]]), (24,24), 1.5)
    kp = marginal_keypoints(hm)
    close(marginal_keypoints(hm.roll((2,-3), (2,3))), kp + torch.tensor([-3.,2.]), 1e-3)
    close(marginal_keypoints(hm.transpose(2, 3)), kp.flip(-1))
    close(marginal_keypoints(hm.flip(2, 3)), 23 - kp, 1e-4)
    close(marginal_keypoints(hm.flip(1)), kp.flip(1))
    close(marginal_keypoints(hm - 5.), kp, 1e-4)

def test_only_the_marginals_get_through():
    "Two heatmaps that differ everywhere but have the same sums over rows and columns are one to the renderer."
    a = torch.eye(6)[None,None]
    b = a[...,[1,0,3,2,5,4],:]
    assert (a != b).any() and torch.equal(marginal_keypoints(a), marginal_keypoints(b))

def test_precision_and_device_are_the_heatmaps_own():
    for dtype in (torch.float32, torch.float64):
        kp = marginal_keypoints(torch.zeros(1, 2, 4, 6, dtype=dtype))
        drawn = keypoint_heatmaps(kp, (6,4))
        assert kp.dtype == drawn.dtype == dtype and kp.device == drawn.device
    before = global_state()
    keypoint_heatmaps(marginal_keypoints(rand(1, 2, 4, 6)), (6,4))
    assert global_state() == before

def test_gaussians_are_the_formula_also_off_the_heatmap():
    kp = torch.tensor([[[3.2,4.7], [-4,2], [0,0], [40,40]]])
    drawn = keypoint_heatmaps(kp, (9,7), 1.5)
    y,x = torch.meshgrid(torch.arange(7.), torch.arange(9.), indexing='ij')
    for m,(a,b) in zip(drawn[0], kp[0]): close(m, torch.exp(-((x-a)**2 + (y-b)**2)/4.5), 1e-6)
    assert drawn[0,2,0,0] == 1 and drawn[0,3].max() < 1e-6

def test_a_lost_point_spoils_no_other_heatmap():
    kp = torch.tensor([[[3.,4], [float('nan'),1]]])
    drawn = keypoint_heatmaps(kp, (9,7))
    assert drawn[0,0].isfinite().all() and drawn[0,1].isnan().all()

def test_there_and_back():
    kp = 6 + 12*torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(0))
    close(marginal_keypoints(9*keypoint_heatmaps(kp, (24,24))), kp, .1)

@pytest.mark.parametrize('scale', [0., 1.])
def test_the_bottleneck_passes_a_useful_gradient(scale):
    hm = (scale*rand(2, 3, 16, 16)).requires_grad_()
    start = marginal_keypoints(hm).detach()
    wanted = keypoint_heatmaps(start + torch.tensor([2.,-1.]), (16,16))
    F.mse_loss(keypoint_heatmaps(marginal_keypoints(hm), (16,16)), wanted).backward()
    assert hm.grad.isfinite().all()
    close(hm.grad.sum((2,3)), torch.zeros(2, 3), 1e-6) # raising a whole heatmap would change nothing
    moved = marginal_keypoints(hm.detach() - hm.grad/hm.grad.norm()) - start
    assert (moved[...,0] > 0).all() and (moved[...,1] < 0).all() # to the right and up, as wanted


# ---- encoders and renderer

def test_input_is_not_written_to():
    x = rand(1, 3, 64, 64)
    kept = x.clone()
    Encoder(3, (4, 8))(x)
    assert torch.equal(x, kept)

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

def test_gradient_reaches_every_parameter_of_encoder_and_renderer():
    torch.manual_seed(0)
    for m,c in ((Encoder(5, (4,8)), 5), (Renderer(5, (8,4)), 5)): assert untouched(m, rand(2, c, 16, 16)) == []

def test_renderer_repeats_cells_between_stages():
    "Nearest-neighbour upsampling: a constant input stays constant away from the padded rim."
    out = Renderer(4, (6,5), 1).eval()(torch.ones(1, 4, 8, 8))
    inner = out[...,4:-4,4:-4]
    close(inner, inner.mean((2,3), keepdim=True).expand_as(inner))
