"""Speed: what is faster must say the same, nothing that is thrown away is computed, and the bench has its structure."""
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tiny import person, tiny_model
from ttp_nb import cli, speed
from ttp_nb.basics import TTPError, keep_memory
from ttp_nb.clips import predict
from ttp_nb.joint_model import JointModel, paper_config
from ttp_nb.perceptual import MultiScale
from ttp_nb.personalization import TTPConfig, VIEWS, Adaptation, adapt, consensus, start_copy, view_heatmaps
from ttp_nb.mobile_trunk import MobileTrunk, conv_same

CL = dict(memory_format=torch.channels_last)


def calls_of(model, *names):
    "How often parts of a network run from now on, and whether anything was recorded for a gradient."
    seen = {name: [] for name in names}
    for name in names:
        def note(module, args, out, name=name): seen[name].append(torch.is_grad_enabled())
        model.get_submodule(name).register_forward_hook(note)
    return seen


# --- process settings

def test_memory_that_is_kept_costs_no_more_page_faults():
    "In a process of its own. Where the C library is another one, nothing happens."
    code = """
import numpy as np, sys
from ttp_nb.basics import keep_memory
if not keep_memory(): print('another C library'), sys.exit()
import resource
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)   # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), [faults() for _ in range(3)])"""
    said = subprocess.check_output([sys.executable, '-c', code], text=True)
    if 'another' in said: pytest.skip('not glibc')
    first, rest = said.split(' ', 1)
    assert 2*max(json.loads(rest))<int(first)   # how large a page is depends on the kernel


def test_elsewhere_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr('platform.libc_ver', lambda: ('', ''))
    monkeypatch.setattr('ctypes.CDLL', None)
    assert keep_memory() is False


# --- the same, faster

@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('kernel', [1, 3])
def test_padding_by_the_convolution_is_padding_as_tensorflow_does(kernel, stride):
    layer, x = conv_same(4, 6, kernel, stride), torch.randn(2, 4, 8, 10)
    extra = max(kernel - stride, 0)
    padded = nn.functional.pad(x, (extra // 2, extra - extra // 2) * 2)
    assert torch.equal(layer(x), nn.functional.conv2d(padded, layer[1].weight, layer[1].bias, stride))


def test_only_where_padding_is_uneven_a_layer_pads():
    pads = [m for m in MobileTrunk().modules() if isinstance(m, nn.ZeroPad2d)]
    assert len(pads)==5 and all(p.padding==(0, 1, 0, 1) for p in pads)   # one for each halving


@pytest.mark.parametrize('frames', [[0], [1, 2], [0, 1, 2]], ids=len)
def test_views_in_one_batch_are_the_views_one_by_one(frames):
    model, clip = tiny_model().eval(), person()
    hm, own = view_heatmaps(model, clip, frames)
    alone = [view_heatmaps(model, clip, frames, (view,))[0][0] for view in VIEWS]
    assert hm.shape[:2]==(len(VIEWS), len(frames))
    torch.testing.assert_close(hm, torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_the_views_of_one_frame_are_one_pass():
    model = tiny_model().eval()
    seen = calls_of(model, 'trunk')
    consensus(model, person(), [2])
    assert seen['trunk']==[False]


def test_a_predicted_frame_is_the_pose_net_alone():
    model = tiny_model().eval()
    seen = calls_of(model, 'trunk', 'affinity', 'appearance', 'pose_encoder', 'renderer', 'perceptual.features')
    predict(model, person(), [0])
    assert seen=={'trunk': [False], 'affinity': [False], 'appearance': [], 'pose_encoder': [], 'renderer': [],
                  'perceptual.features': []}


def test_an_online_frame_runs_each_part_once_and_the_target_without_a_graph():
    a = Adaptation(tiny_model().eval(), person(), TTPConfig(batch=3, anchor_weight=0.))
    parts = 'trunk', 'affinity', 'appearance', 'pose_encoder', 'renderer', 'perceptual.features'
    seen = calls_of(a.model, *parts)
    next(adapt(a, 'online'))
    assert seen=={'trunk': [True], 'affinity': [], 'appearance': [True], 'pose_encoder': [True], 'renderer': [True],
                  'perceptual.features': [False, True]}


def test_frozen_parameters_get_no_gradient():
    a = Adaptation(tiny_model().eval(), person(), TTPConfig(batch=3))
    next(adapt(a, 'online'))
    moving = {id(p) for group in a.opt.param_groups for p in group['params']}
    assert all((p.grad is not None)==(id(p) in moving) for p in a.model.parameters())


def test_the_published_step_stays_in_one_layout():
    "No convolution of a personalization step at published shape sees one channel after the other."
    channels = dict(appearance=(8, 8, 8, 8), pose=(8, 8, 8, 8), renderer=(8, 8, 8, 8), filters=(16, 16, 16), width=16)
    model = JointModel(paper_config(18, size=(64, 64), keypoints=5, heads=2, **channels), MultiScale())
    a = Adaptation(model, person(), TTPConfig(batch=2, anchor_weight=0.))
    wrong = []
    def look(name):
        def note(module, args, out):
            if not (args[0].is_contiguous(**CL) and out.is_contiguous(**CL)): wrong.append(name)
        return note
    for name, module in a.model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)): module.register_forward_hook(look(name))
    next(adapt(a, 'online'))
    assert not wrong


# --- the bench

@pytest.fixture
def small_sizes(monkeypatch):
    "The bench with networks that take no time."
    def published(seed=0):
        torch.manual_seed(seed)
        shape = dict(appearance=(8, 8, 8, 8), pose=(8, 8, 8, 8), renderer=(8, 8, 8, 8), width=16, filters=(16, 16, 16))
        return JointModel(paper_config(18, size=(64, 64), keypoints=5, heads=2, **shape), MultiScale()).eval()
    monkeypatch.setattr(speed, 'published_model', published)
    real = speed.bench_settings
    def settings(size, pairs=32):
        model, training, personalization = real('published', 2)
        return model, replace(training, batch=3), personalization
    monkeypatch.setattr(speed, 'bench_settings', settings)


def test_both_ways_predict_the_same_and_another_prediction_is_refused(small_sizes, monkeypatch):
    ran = speed.race(pairs=3, frames=3)
    assert ran['difference']<speed.SAME and len(ran['naive'])==len(ran['exact'])==3
    real = speed.exact_frame
    monkeypatch.setattr(speed, 'exact_frame', lambda *a: 1.1*real(*a))
    with pytest.raises(TTPError, match='predict differently'): speed.race(pairs=3, frames=1)


def test_the_naive_frame_does_all_that_the_recipe_spells_out(small_sizes):
    model, opt = start_copy(speed.published_model(), TTPConfig(anchor_weight=0.))
    batch = speed.online_pairs(person(), 1, 0, 3, (64, 64), pseudo_labels=np.zeros((5, 13, 3)), hm_size=(16, 16))
    parts = 'trunk', 'affinity', 'appearance', 'pose_encoder', 'renderer'
    seen, wide = calls_of(model, *parts), []
    model.renderer.register_forward_hook(lambda m, args, out: wide.append((len(out), out.is_contiguous())))
    speed.published_frame(model, opt, batch)
    assert all(seen[part]==[True, False] for part in parts)
    assert wide==[(3, True)]*2   # all pairs, in the usual layout


def test_parts_of_a_step_are_told_apart(small_sizes):
    model, training, _ = speed.bench_settings('small')
    parts = speed.training_parts(model, training, 1)
    assert {*parts}=={'data', 'pose net', 'encoders', 'renderer', 'perceptual, target', 'perceptual, reconstruction',
                      'between', 'backward', 'optimiser'}
    assert all((cost>=0).all() for cost in parts.values())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_bench_writes_what_it_found(small_sizes, tmp_path):
    lines, threads = [], torch.get_num_threads()
    found = speed.bench(tmp_path/'b', ('small', 'published'), pairs=2, rounds=2, say=lines.append)
    kept = json.loads((tmp_path/'b'/'bench.json').read_text())
    assert kept==json.loads(json.dumps(found)) and torch.get_num_threads()==threads
    assert {'naive_seconds', 'exact_seconds', 'exact_ratio', 'fast_seconds', 'fast_ratio', 'peak_fraction', 'spread',
            'operations', 'peak', 'difference', 'parts', 'machine'} <= {*kept}
    assert kept['exact_ratio']==kept['exact_seconds']/kept['naive_seconds'] and {*kept['parts']}=={'small', 'published'}
    assert {*kept['parts']['small']}=={'training step', 'online frame', 'offline clip, a frame', 'predicted frame'}
    assert '| backward |' in '\n'.join(lines) and 'exact' in lines[0]


def test_bench_refuses_a_size_that_is_not(tmp_path, capsys):
    assert cli.main(['bench', '--sizes', 'small,huge', '--out', str(tmp_path/'b')])==2
    assert "no size 'huge'" in capsys.readouterr().err
    assert cli.main(['bench', '--rounds', '0']) == 2
