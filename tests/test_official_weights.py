"""The authors' weights: read whole, under their names; what does not fit is named."""
from dataclasses import asdict, replace
import pytest, torch
from tiny import IN_USE, same_weights, tiny_model, weights
from ttp_nb.basics import TTPError
from ttp_nb.checkpoints import load_model, save_model
from ttp_nb.joint_model import JointModel, baseline, paper_config
from ttp_nb.official_weights import card_settings, load_official, official_config, read_official_model, to_official
from ttp_nb.pairs import PairConfig
from ttp_nb.personalization import TTPConfig
from ttp_nb.skeletons import BBC7, H36M16
from ttp_nb.training import TrainConfig

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
    ours = tiny_model('baseline' if kind=='baseline' else 'joint', **IN_USE[kind])
    with pytest.raises(TTPError, match='published shape'): to_official(ours)

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


# --- how a network is personalised

def test_the_card_says_how_a_network_is_personalised(tmp_path):
    save_model(tiny_model(), tmp_path/'plain.safetensors')
    save_model(tiny_model(), tmp_path/'own.safetensors', personalization=dict(lr=3e-4, views=10))
    save_model(tiny_model(), tmp_path/'odd.safetensors', personalization=dict(speed=3))
    assert card_settings(tmp_path/'plain.safetensors')==card_settings('theirs.pth')==TTPConfig()
    assert card_settings(tmp_path/'own.safetensors')==TTPConfig(lr=3e-4, views=10)
    with pytest.raises(TTPError, match="odd.safetensors: its card's 'personalization' .*does not fit.*speed"):
        card_settings(tmp_path/'odd.safetensors')

def test_where_training_mirrored_nothing_personalization_does_not_either(tmp_path):
    straight = asdict(TrainConfig(pairs=PairConfig(flip=False)))
    save_model(tiny_model(), tmp_path/'a.safetensors', training=straight)
    save_model(tiny_model(), tmp_path/'b.safetensors', training=asdict(TrainConfig()), personalization=dict(views=10))
    save_model(tiny_model(), tmp_path/'c.safetensors', training='by hand')
    assert card_settings(tmp_path/'a.safetensors')==TTPConfig(pairs=PairConfig(flip=False))
    assert card_settings(tmp_path/'b.safetensors')==TTPConfig(views=10)
    with pytest.raises(TTPError, match="c.safetensors: its card's .*'training' does not fit"):
        card_settings(tmp_path/'c.safetensors')
