"""The joint model: saved and read back whole, broken files refused by name, predictions in frame pixels."""
import json, pickle, subprocess, sys
from dataclasses import asdict, replace
from pathlib import Path
import numpy as np, pytest, torch, torchvision
from safetensors.torch import load_file, save_file
from torch import nn
from tiny import TINY, global_state, leftovers, noise_clip, no_joints, person, same_weights, tiny_model, weights
from ttp_nb import joint_model
from ttp_nb.clips import Clip
from ttp_nb.joint_model import JointModel, ModelConfig, baseline, make_trunk, paper_config, start_from_imagenet
from ttp_nb.clips import as_seen, predict
from ttp_nb.basics import atomic_path
from ttp_nb.checkpoints import check_state, load_model, read_card, read_config, save_model, shipped
from ttp_nb.official_weights import load_official, official_config, read_official_model, to_official
from ttp_nb.perceptual import VGG_START, VGGFeatures
from ttp_nb.skeletons import BBC7, COCO17, H36M16, PENN13, Skeleton
from ttp_nb.basics import TTPError

IN_USE = dict(joint={}, shared=dict(shared=True), baseline={})

def used(kind='joint', **changes):
    "A model that has learned a little, so that nothing in it has its first value."
    m = tiny_model('baseline' if kind=='baseline' else 'joint', **IN_USE[kind], **changes)
    g = torch.Generator().manual_seed(0)
    x,y = torch.randn(2, 3, 3, 32, 32, generator=g)
    m.train()
    opt = torch.optim.Adam(m.parameters(), 1e-2)
    for _ in range(3):
        loss = m(x).square().mean() + (m.self_supervised_loss(x, y) if isinstance(m, JointModel) else 0)
        opt.zero_grad(); loss.backward(); opt.step()
    return m.eval()

@pytest.fixture(scope='module')
def model(): return used()

@pytest.fixture
def saved(model, tmp_path):
    save_model(model, tmp_path/'m.safetensors', seed=3)
    return tmp_path/'m.safetensors'

def recard(path, **changes):
    card = path.with_suffix('.json')
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))

def refused(path, *says, skeleton=None, names=None):
    "That `load_model` raises a TTPError that names the file and says this."
    with pytest.raises(TTPError) as e: load_model(path, skeleton)
    text = str(e.value)
    assert str(names or path) in text or str(Path(path).with_suffix('.json')) in text, f'names no file: {text}'
    for s in says: assert s in text, f'{s!r} is not in: {text}'
    assert '\n' not in text, f'more than a line: {text}'
    return text


# --- there and back

@pytest.mark.parametrize('kind', IN_USE)
def test_saved_is_what_is_loaded(kind, tmp_path):
    m,path = used(kind),tmp_path/'a'/'b'/'m.safetensors'
    save_model(m, path, seed=3, measures={'pck': 50.5}, command='ttp train')
    assert sorted(p.name for p in path.parent.iterdir())==['m.json', 'm.safetensors'] and not leftovers(tmp_path)
    n = load_model(path)
    assert type(n) is type(m) and n.cfg==m.cfg and not n.training and same_weights(weights(n), weights(m))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(n(x), m(x))
    card = read_card(path)
    assert card['kind']==('baseline' if kind=='baseline' else 'joint') and card['seed']==3
    assert card['measures']=={'pck': 50.5}
    assert card['parameters']==sum(p.numel() for p in m.parameters()) and card['torch']==torch.__version__

def test_the_losss_running_mean_is_saved(model, tmp_path):
    fresh = JointModel(TINY)
    assert not fresh.perceptual.mean.any() and (model.perceptual.mean>0).all()
    save_model(model, tmp_path/'m.safetensors')
    n = load_model(tmp_path/'m.safetensors')
    assert torch.equal(n.perceptual.mean, model.perceptual.mean)
    x,y = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert n.self_supervised_loss(x, y)==load_model(tmp_path/'m.safetensors').self_supervised_loss(x, y)
    assert not torch.equal(n.perceptual.mean, model.perceptual.mean), 'it went on running'

def test_loading_leaves_the_file_and_the_memory_alone(saved):
    was = saved.read_bytes()
    n = load_model(saved)
    with torch.no_grad():
        for p in n.parameters(): p.zero_()
    assert saved.read_bytes()==was and next(load_model(saved).parameters()).abs().sum()>0

def test_loading_leaves_the_random_state_alone(saved):
    was = global_state()
    load_model(saved)
    assert global_state()==was

def test_saving_changes_nothing(model, tmp_path):
    m,was = tiny_model().train(),torch.get_rng_state()
    before = weights(m)
    save_model(m, tmp_path/'m.safetensors')
    assert m.training and same_weights(weights(m), before) and torch.equal(torch.get_rng_state(), was)
    assert all(p.requires_grad for p in m.parameters())

def test_saving_again_replaces(saved, model):
    other = tiny_model(seed=7)
    save_model(other, saved)
    assert same_weights(weights(load_model(saved)), weights(other)) and 'seed' not in read_card(saved)
    assert not leftovers(saved.parent)

def test_strided_weights_are_saved_by_value(tmp_path):
    m = tiny_model().to(memory_format=torch.channels_last)
    save_model(m, tmp_path/'m.safetensors')
    assert same_weights(weights(load_model(tmp_path/'m.safetensors')), weights(m))

@pytest.mark.parametrize('cfg', [ModelConfig(), paper_config(), paper_config(18, size=(96,128), skeleton=COCO17),
                                 replace(TINY, shared=True),
    ModelConfig(skeleton=Skeleton('two', ['a', 'b'])), ModelConfig(skeleton=H36M16, filters=(8,), dropout=0.)])
def test_a_configuration_survives_json(cfg):
    assert read_config(json.loads(json.dumps(asdict(cfg))))==cfg

def test_a_skeleton_of_ones_own(tmp_path):
    skel = Skeleton('mouse', ('nose', 'left_ear', 'right_ear', 'tail'), pairs=((2,1),))
    m = tiny_model(skeleton=skel)
    save_model(m, tmp_path/'m.safetensors')
    n = load_model(tmp_path/'m.safetensors', skel)
    assert n.cfg.skeleton==skel and n(torch.zeros(1, 3, 32, 32)).shape==(1, 4, 16, 16)
    refused(tmp_path/'m.safetensors', 'mouse', 'penn13', skeleton=PENN13)


# --- VGG

def blocks():
    "As many layers as VGG-16 has, of a few weights each."
    return nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(31)])

def test_vgg_weights_stay_out_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(joint_model, 'VGGFeatures', lambda: VGGFeatures(blocks()))
    m,path = JointModel(replace(TINY, vgg=True)),tmp_path/'m.safetensors'
    m.perceptual(torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32))
    save_model(m, path)
    names = load_file(path).keys()
    assert any(k.startswith('perceptual.features') for k in m.state_dict()), 'nothing to leave out'
    assert not [k for k in names if 'features' in k] and 'perceptual.mean' in names
    n = load_model(path)
    own = [x.perceptual.features.layers[0].weight for x in (n, m)]
    assert not torch.equal(*own), 'they were in the file'
    assert torch.equal(n.perceptual.mean, m.perceptual.mean)
    assert not torch.equal(n.perceptual.mean, torch.tensor(VGG_START))
    assert read_card(path)['parameters']==sum(p.numel() for k,p in m.named_parameters() if 'features' not in k)

def test_vgg_that_cannot_be_downloaded_is_said(tmp_path, monkeypatch):
    import torchvision.models
    def offline(**kw): raise OSError('no network')
    monkeypatch.setattr(torchvision.models, 'vgg16', offline)
    with pytest.raises(TTPError, match='VGG-16.*MultiScale'): JointModel(replace(TINY, vgg=True))


# --- files that are not there, broken, or of something else

def test_no_such_file(tmp_path):
    (tmp_path/'folder.safetensors').mkdir()
    for p in (tmp_path/'none.safetensors', tmp_path/'no'/'such.safetensors', tmp_path/'folder.safetensors'):
        refused(p, 'no such file', 'ttp train')

@pytest.mark.parametrize('name', ['small_joint', 'small_shared', 'small_baseline'])
def test_the_models_that_come_along(name):
    "Their cards say how they were made, and they find Penn's joints better than chance."
    path = Path(joint_model.__file__).parents[1]/'models'/f'{name}.safetensors'
    if not path.is_file(): pytest.skip(f'{path.name} is not in this checkout')
    assert shipped(name)==path and path.stat().st_size<30e6
    m,card = load_model(path, PENN13),read_card(path)
    assert card['kind']==('baseline' if name=='small_baseline' else 'joint') and card['command'].startswith('ttp train')
    assert 'seed' in card['training']
    c = person(1, 'valid', 8)
    d = np.linalg.norm(predict(m, c)[0]-c.joints, axis=-1)[c.vis]
    assert np.median(d)<.2*np.ptp(c.joints[c.vis][:,1]), 'joints are found nowhere near'

def test_a_shipped_model_is_found_or_missed_by_name():
    with pytest.raises(TTPError, match='no_such_model.*--model'): shipped('no_such_model')

def test_the_card_is_missing(saved):
    saved.with_suffix('.json').unlink()
    refused(saved, 'm.json', 'missing', 'beside')

@pytest.mark.parametrize('text', ['', '{', 'a model', '[]', '3', 'null', '{}', '{"kind": "joint"}', '{"config": {}}',
                                  '\x00'*50])
def test_the_card_is_broken(saved, text):
    saved.with_suffix('.json').write_text(text)
    refused(saved, 'm.json')

def test_the_card_is_no_text_or_no_file(saved):
    card = saved.with_suffix('.json')
    card.write_bytes(bytes(range(128, 256))); refused(saved, 'm.json')
    card.unlink(); card.mkdir(); refused(saved, 'm.json')

@pytest.mark.parametrize('config', [[], 'small', None, {}], ids=repr)
def test_the_cards_configuration_is_none(saved, config):
    recard(saved, config=config)
    refused(saved)

@pytest.mark.parametrize('change', [
    dict(colour='red'), dict(skeleton=None), dict(skeleton={}), dict(skeleton='penn13'), dict(size=[30,30]),
    dict(skeleton=dict(name='a', joints=['b', 'c'], pairs=[[1,99]])), dict(size='big'), dict(size=[32]), dict(depth=7),
    dict(width='8'), dict(width=-4), dict(heads=3), dict(filters=8), dict(filters=[])], ids=repr)
def test_the_card_describes_no_network(saved, change):
    recard(saved, config=asdict(TINY) | change)
    refused(saved)

@pytest.mark.parametrize('change', [dict(keypoints=6), dict(width=16), dict(depth=34), dict(filters=[8,8]),
                                    dict(shared=True), dict(layers=2),
    dict(convs=2), dict(pose=[4,8,8], renderer=[8,8,6,4]), dict(skeleton=asdict(H36M16))], ids=lambda c: next(iter(c)))
def test_card_and_weights_of_different_sizes(saved, change):
    recard(saved, config=asdict(TINY) | change)
    refused(saved, 'size', 'same run')

def test_weights_of_another_kind(saved, tmp_path):
    recard(saved, kind='baseline'); refused(saved, 'same run')
    save_model(tiny_model('baseline'), tmp_path/'b.safetensors')
    recard(tmp_path/'b.safetensors', kind='joint'); refused(tmp_path/'b.safetensors', 'same run')
    for kind in ('detector', '', None, 3, ['joint']):
        recard(saved, kind=kind); refused(saved, 'kind')

def test_weights_of_another_skeleton(saved):
    text = refused(saved, 'penn13', 'h36m16', skeleton=H36M16)
    assert 'another model' in text
    assert load_model(saved, Skeleton('my13', PENN13.joints)).cfg.skeleton==PENN13, 'the same joints under another name'

@pytest.mark.parametrize('share', [0, 1e-4, .01, .3, .9, .9999])
def test_weights_cut_short(saved, share):
    whole = saved.read_bytes()
    saved.write_bytes(whole[:int(share*len(whole))])
    refused(saved, 'cannot be read')

@pytest.mark.parametrize('data', [b'hello\n', b'\x00'*1000, b'{"a": 1}', b'\xff'*64],
                         ids=['text', 'zeros', 'json', 'ones'])
def test_weights_that_are_none(saved, data):
    saved.write_bytes(data)
    refused(saved, 'cannot be read')

def test_a_pickle_under_this_name_is_not_unpickled(saved, tmp_path):
    class Bomb:
        def __reduce__(self): return (Path.touch, (tmp_path/'bang',))
    saved.write_bytes(pickle.dumps(Bomb())); refused(saved)
    torch.save({'trunk': Bomb()}, saved); refused(saved)
    assert not (tmp_path/'bang').exists()

def test_a_tensor_too_few_too_many_or_reshaped(saved, model):
    whole = load_file(saved)
    less = {k:v for k,v in whole.items() if k!='trunk.conv1.weight'}
    save_file(less, saved); refused(saved, '1 of', 'trunk.conv1.weight')
    save_file(whole | {'more': torch.zeros(2)}, saved); refused(saved, '1 of', 'more')
    save_file(whole | {'head.bias': torch.zeros(1)}, saved); refused(saved, '1 of', 'head.bias')
    save_file(whole, saved); assert same_weights(weights(load_model(saved)), weights(model))
    with pytest.raises(TTPError, match='here.pt'): check_state(model, {}, 'here.pt')

@pytest.mark.parametrize('size', [(30,32), (32,40), (8,8), (0,32)])
def test_crops_that_do_not_fit_the_trunk(size):
    for build in (make_trunk, JointModel, baseline):
        with pytest.raises(TTPError, match=f'{size[0]}.*{size[1]}.*multiples of 16'): build(replace(TINY, size=size))


# --- written whole or not at all

@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt, OSError])
def test_a_writer_that_fails_leaves_what_was(tmp_path, error):
    path = tmp_path/'deep'/'f.txt'
    for old in (None, 'old'):
        if old: path.write_text(old)
        with pytest.raises(TTPError if error is OSError else error):
            with atomic_path(path) as tmp:
                tmp.write_text('half')
                raise error('stop')
        assert (path.read_text() if path.exists() else None)==old and not leftovers(tmp_path)
    with atomic_path(path) as tmp: tmp.write_text('new')
    assert path.read_text()=='new' and [p.name for p in path.parent.iterdir()]==['f.txt']

def test_folders_where_nothing_can_be_written(model, tmp_path):
    (tmp_path/'file').write_text('x'); (tmp_path/'taken.safetensors').mkdir(); (tmp_path/'card.json').mkdir()
    for p in ('/dev/null/x/m.safetensors', tmp_path/'file'/'m.safetensors', tmp_path/'file'/'deep'/'m.safetensors',
              tmp_path/'taken.safetensors',
              tmp_path/'card.safetensors', tmp_path/('n'*300+'.safetensors')):
        with pytest.raises(TTPError, match='cannot be written.*folder') as e: save_model(model, p)
        assert str(p) in str(e.value) or str(Path(p).with_suffix('.json')) in str(e.value)
    assert not leftovers(tmp_path) and (tmp_path/'file').read_text()=='x'

def test_a_card_that_is_no_json_leaves_nothing(model, tmp_path):
    with pytest.raises(TypeError): save_model(model, tmp_path/'m.safetensors', when=object())
    assert not list(tmp_path.iterdir()), 'weights without a card'

def test_a_full_disk_leaves_what_was(tmp_path):
    "A limit on the size of files stands for the disk: writing fails half-way."
    path = tmp_path/'m.safetensors'
    save_model(tiny_model('baseline', seed=1), path, seed=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    code = f'''
import resource, tiny
from ttp_nb.checkpoints import save_model
from ttp_nb.basics import TTPError
m = tiny.tiny_model()
resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
try: save_model(m, {str(path)!r})
except TTPError as e: print(e)'''
    r = subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()}==before, 'something was written'
    assert not r.returncode and str(path) in r.stdout and 'cannot be written' in r.stdout, r.stderr[-500:]


# --- predictions

class FindsDots(nn.Module):
    "A `model` that finds dots: the heatmap of joint j is colour channel j, at a quarter of the resolution."
    def __init__(self, size=(64,64)):
        super().__init__()
        three = Skeleton('dots', ('red', 'green', 'blue'))
        self.cfg,self.w,self.seen = ModelConfig(size=size, skeleton=three),nn.Parameter(torch.ones(1)),[]
    def forward(self, x):
        assert not self.training and not torch.is_grad_enabled()
        self.seen.append(len(x))
        mean = x.new_tensor([.485,.456,.406])[:,None,None]/x.new_tensor([.229,.224,.225])[:,None,None]
        return nn.functional.avg_pool2d((x+mean)*self.w, 4)

def dots(T=5, size=(200,160)):
    "Three dots, one a channel, that wander, and boxes that wander otherwise."
    g = np.random.default_rng(0)
    at = g.uniform(60, 100, (T,3,2))
    y,x = np.mgrid[:size[1],:size[0]]
    frames = np.stack([np.stack([255*np.exp(-((x-p[0])**2+(y-p[1])**2)/18) for p in f], -1)
                       for f in at]).astype(np.uint8)
    corner = g.uniform(30, 50, (T,2))
    return Clip('dots', frames, np.concatenate([corner, corner+g.uniform(65, 90, (T,2))], 1)),at

@pytest.mark.parametrize('size', [(64,64), (64,96), (96,64)])
def test_predictions_are_in_frame_pixels(size):
    clip,at = dots()
    kp,conf = predict(FindsDots(size), clip)
    assert kp.shape==(5,3,2) and conf.shape==(5,3) and conf.min()>.5
    cell = max(200*clip.center_scale(t, size[0]/size[1])[1]/size[0]*4 for t in range(5)) # in frame pixels
    error = np.linalg.norm(kp-at, axis=-1)
    assert error.max()<cell and error.mean()<.6*cell, f'off by {error.max():.1f} px, a cell has {cell:.1f}'

def test_predictions_move_with_the_frame():
    clip,_ = dots()
    pad = np.pad(clip.frames, ((0,0),(13,0),(29,0),(0,0)))
    moved = Clip('moved', pad, clip.boxes+[29,13,29,13])
    assert predict(FindsDots(), moved)[0]==pytest.approx(predict(FindsDots(), clip)[0]+[29,13])

def test_frames_and_batches(model):
    clip,m = dots(7)[0],FindsDots()
    kp,conf = predict(m, clip, batch=3)
    assert m.seen==[3,3,1]
    for frames in ([6], [2,0,2], range(3, 6), np.array([5,1])):
        assert np.array_equal(predict(m, clip, frames)[0], kp[list(frames)])
        assert np.array_equal(predict(m, clip, frames)[1], conf[list(frames)])
    c = noise_clip(T=6)
    a,b = predict(model, c),predict(model, c, batch=1)
    assert a[0].shape==(6,13,2) and np.isfinite(a[0]).all() and a[1]==pytest.approx(b[1], abs=1e-5)

def test_no_frames_no_joints():
    kp,conf = predict(FindsDots(), dots()[0], [])
    assert kp.shape==(0,3,2) and conf.shape==(0,3)

def test_predicting_changes_nothing():
    c,was = noise_clip(),torch.get_rng_state()
    for mode in (True, False):
        m = tiny_model().train(mode)
        before = weights(m)
        a,b = predict(m, c),predict(m, no_joints(c))
        assert m.training is mode and same_weights(weights(m), before) and torch.equal(torch.get_rng_state(), was)
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]), 'dropout or labels had a say'

def test_a_frame_that_cannot_be_read_leaves_the_model_as_it_was():
    class Broken(list):
        def __getitem__(self, i):
            if i==2: raise TTPError('walk/000003.jpg: cannot be read.')
            return super().__getitem__(i)
    m = tiny_model().train()
    with pytest.raises(TTPError, match='000003.jpg'):
        predict(m, replace(noise_clip(), frames=Broken(noise_clip().frames)))
    assert m.training and torch.is_grad_enabled()


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

def test_the_self_supervised_loss_says_nothing_of_the_joints():
    "Its gradient reaches all that personalization moves, and nothing of the supervised branch."
    m = tiny_model()
    x,y = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    m.self_supervised_loss(x, y).backward()
    reached = {k.split('.')[0] for k,p in m.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached=={'trunk', 'head', 'appearance', 'pose_encoder', 'renderer'}


# --- the authors' weights

SHORT = dict(size=(32,32), vgg=False, dropout=0.)

def official(kind='joint', depth=18, seed=0, **changes):
    torch.manual_seed(seed)
    cfg = paper_config(depth, **SHORT | changes)
    return (baseline(cfg) if kind=='baseline' else JointModel(cfg)).eval()

module = lambda s: {f'module.{k}': v for k,v in s.items()}
WRAPS = dict(plain=lambda s: s, module=module, checkpoint=lambda s: {'epoch': 3, 'state_dict': module(s), 'perf': .5})

@pytest.mark.parametrize('kind,changes', [
    ('joint', {}), ('joint', dict(shared=True, skeleton=BBC7)), ('baseline', {}),
    ('joint', dict(layers=3, keypoints=8, skeleton=H36M16, filters=(64,64,32), heads=2))],
    ids=['joint', 'shared', 'baseline', 'other sizes'])
@pytest.mark.parametrize('wrap', WRAPS.values(), ids=WRAPS)
def test_a_file_of_the_authors_is_read_whole(kind, changes, wrap, tmp_path):
    a = official(kind, **changes)
    torch.save(wrap(to_official(a)), tmp_path/'final_state.pth')
    b = read_official_model(tmp_path/'final_state.pth', **SHORT, **({'heads': 2} if 'heads' in changes else {}))
    assert replace(b.cfg, bgr=False, origin=0)==a.cfg and b.cfg.bgr and not b.training
    assert b.cfg.origin==(0 if changes.get('skeleton')==H36M16 else 1)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(): assert torch.equal(a(x), b(x))
    assert same_weights(to_official(a), to_official(b))
    again = official(kind, seed=1, **changes)
    assert load_official(again, wrap(to_official(a))).complete and same_weights(to_official(again), to_official(a))

def test_names_are_the_authors(tmp_path):
    state = to_official(official())
    assert {k.split('.')[0] for k in state}=={'pose_net', 'image_encoder', 'pose_encoder', 'image_renderer'}
    for name,shape in {'pose_net.sup_query.weight': (256,13), 'pose_net.final_layer_unsup.bias': (30,),
                       'pose_net.mh_attn.decoder.layers.0.multihead_attn.in_proj_weight': (768,256),
                       'pose_net.mh_attn.decoder.norm.weight': (256,), 'pose_net.sup_weight.weight': (30,256),
                       'image_encoder.layer4.3.weight': (256,256,3,3), 'pose_encoder.layer1.0.weight': (32,30,7,7),
                       'image_renderer.layer1.0.weight': (256,512,3,3), 'image_renderer.layer4.6.bias': (3,),
                       'pose_net.layer2.0.downsample.1.running_var': (128,)}.items():
        assert state[name].shape==shape, name
    assert len(state)==309 and 'final_layer.weight' in to_official(official('baseline'))

@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_the_depth_is_read_off_the_names(depth):
    with torch.device('meta'): state = to_official(baseline(paper_config(depth)))
    kind,cfg = official_config(state)
    assert (kind,cfg.depth)==('baseline', depth)

def test_the_report_names_what_does_not_fit():
    m = official()
    state = to_official(m)
    was = weights(m)
    state['pose_net.conv1.weight'] = torch.zeros(1, 2)
    state['extra'] = torch.zeros(1)
    del state['pose_net.sup_weight.bias']
    r = load_official(m, {k: v+1 if k=='pose_net.bn1.bias' else v for k,v in state.items()})
    assert r.reshaped==(('pose_net.conv1.weight', (1,2), (64,3,7,7)),) and r.unexpected==('extra',)
    assert r.missing==('pose_net.sup_weight.bias',) and not r.complete and len(r.matched)==307
    for word in ('307 tensors matched', '1 missing (pose_net.sup_weight.bias)', '1 unexpected (extra)', '1 reshaped'):
        assert word in str(r)
    now = weights(m)
    assert {k for k in was if not torch.equal(was[k], now[k])}=={'trunk.bn1.bias'} # the rest as it was

def test_normalisers_start_anew_with_an_imported_checkpoint():
    m = official()
    m.self_supervised_loss(*torch.randn(2, 1, 3, 32, 32))
    assert m.perceptual.mean.abs().sum()>0
    load_official(m, to_official(official(seed=1)))
    assert not m.perceptual.mean.any()

@pytest.mark.parametrize('kind', IN_USE)
def test_networks_of_ours_have_no_official_names(kind):
    with pytest.raises(TTPError, match='published shape'): to_official(tiny_model('baseline' if kind=='baseline' else 'joint',
                                                                      **IN_USE[kind]))

@pytest.mark.parametrize('what', [{'a': torch.zeros(1)}, {'state_dict': {}}, {'epoch': 3}, {}], ids=str)
def test_files_of_something_else(what, tmp_path):
    torch.save(what, tmp_path/'x.pth')
    for read in (read_official_model, load_model):
        with pytest.raises(TTPError): read(tmp_path/'x.pth')

def test_another_network_in_the_file_is_named(tmp_path):
    state = to_official(official())
    del state['image_renderer.layer2.0.weight']
    torch.save(state, tmp_path/'x.pth')
    with pytest.raises(TTPError, match='x.pth.*1 missing .image_renderer.layer2.0.weight'):
        read_official_model(tmp_path/'x.pth', **SHORT)

def test_as_seen_is_lazy_and_leaves_the_clip_alone():
    c = noise_clip(T=5)
    seen = as_seen(c, ModelConfig(bgr=True, origin=1))
    assert np.array_equal(seen.frames[3], c.frames[3][...,::-1]) and len(seen.frames)==5
    assert np.array_equal(seen[1:4:2].frames[1], c.frames[3][...,::-1]) and seen.name==c.name
    assert np.array_equal(seen.joints, c.joints+1) and np.array_equal(seen.boxes, c.boxes)
    assert as_seen(no_joints(c), ModelConfig(origin=1)).joints is None

def test_a_start_from_imagenet_touches_what_it_should(monkeypatch):
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr('ttp_nb.pose_resnet.imagenet_state', lambda depth,file=None: state)
    for kind,shared in (('joint', False), ('joint', True), ('baseline', False)):
        was = official(kind, shared=shared)
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
