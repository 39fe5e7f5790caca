"""Networks saved and read back whole; broken files refused by name; profiles that come back within a rounding."""
import hashlib, json, pickle, re, subprocess, sys
from dataclasses import asdict, replace
from pathlib import Path
import numpy as np, pytest, torch
from safetensors.torch import load_file, save_file
from torch import nn
from tiny import IN_USE, TINY, global_state, leftovers, person, same_weights, tiny_model, used_model, weights
from ttp_nb import joint_model
from ttp_nb.basics import TTPError, shipped
from ttp_nb.checkpoints import (apply_profile, check_state, checksum, load_model, own_weights, read_card, read_config,
                                read_profile, save_model, save_profile, seal_card, weight_changes)
from ttp_nb.clips import predict
from ttp_nb.joint_model import JointModel, ModelConfig, baseline, new_model, paper_config, people_config
from ttp_nb.perceptual import VGG_START, VGGFeatures
from ttp_nb.personalization import TTPConfig, offline
from ttp_nb.skeletons import COCO17, H36M16, PENN13, PEOPLE18, Skeleton
from ttp_nb.mobile_trunk import MobileFeatures, MobileTrunk

@pytest.fixture(scope='module')
def model(): return used_model()

@pytest.fixture
def saved(model, tmp_path):
    save_model(model, tmp_path/'m.safetensors', seed=3)
    return tmp_path/'m.safetensors'

def recard(path, **changes):
    card = path.with_suffix('.json')
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))
    seal_card(path) # a change that was meant

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
    m,path = used_model(kind),tmp_path/'a'/'b'/'m.safetensors'
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

@pytest.mark.parametrize('cfg', [ModelConfig(), people_config(), people_config(size=(96,160), shrink=1), paper_config(),
                                 paper_config(18, size=(96,128), skeleton=COCO17),
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


# --- models for people: the mobile trunk, and a loss whose features come along

@pytest.fixture(scope='module')
def people():
    m = new_model('joint', people_config())
    m.perceptual(torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32))
    return m.eval()

def test_a_model_for_people_comes_back(people, tmp_path):
    path = tmp_path/'m.safetensors'
    save_model(people, path)
    n = load_model(path, PEOPLE18)
    assert n.cfg==people.cfg and same_weights(weights(n), weights(people)) and not n.training
    x,y = torch.randn(2, 1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for a,b in zip(n.pose(x), people.pose(x)): assert torch.equal(a, b)
        assert torch.equal(n.reconstruct(n.pose(x)[1], y), people.reconstruct(people.pose(x)[1], y))
        was = people.perceptual.mean.clone()
        assert torch.equal(n.self_supervised_loss(x, y), people.self_supervised_loss(x, y))
        people.perceptual.mean = was

def test_a_file_for_people_holds_nothing_that_comes_along_anyway(people, tmp_path):
    save_model(people, tmp_path/'m.safetensors')
    names = load_file(tmp_path/'m.safetensors').keys()
    assert names==own_weights(people).keys() and 'perceptual.mean' in names
    fixed = {k for k in people.state_dict() if k.startswith('perceptual.features')}
    assert len(fixed)==len(MobileFeatures().state_dict()) and not fixed & names
    assert people.state_dict().keys()-fixed==names
    assert (tmp_path/'m.safetensors').stat().st_size<12e6
    assert read_card(tmp_path/'m.safetensors')['config']['trunk']=='mobile'

def test_a_baseline_for_people_comes_back(tmp_path):
    net = new_model('baseline', people_config())
    save_model(net, tmp_path/'b.safetensors')
    n = load_model(tmp_path/'b.safetensors')
    assert same_weights(weights(n), weights(net)) and read_card(tmp_path/'b.safetensors')['kind']=='baseline'
    assert type(n.trunk) is MobileTrunk and n.cfg==people_config() and n.hm_size==(48,48)
    assert load_file(tmp_path/'b.safetensors').keys()==n.state_dict().keys()

def test_what_was_trained_is_loaded_and_not_what_it_started_from(people, tmp_path):
    "Loading builds the network with MoveNet's weights at hand; those in the file win, but for the judge."
    m = new_model('joint', people_config(size=(64,64)))
    with torch.no_grad():
        for p in m.parameters(): p.mul_(1.5)
    save_model(m, tmp_path/'m.safetensors')
    n = load_model(tmp_path/'m.safetensors')
    own = own_weights(m)
    assert all(torch.equal(n.state_dict()[k], v) for k,v in own.items()) and checksum(n)==checksum(m)
    assert not torch.equal(own['trunk.pyramid.stem.1.weight'], people.trunk.pyramid.stem[1].weight)
    judge = lambda net: net.perceptual.features.pyramid.stem[1].weight
    assert torch.equal(judge(n), judge(people)) and not torch.equal(judge(n), judge(m))

def test_a_people_model_where_movenet_is_not(people, tmp_path, monkeypatch):
    "Its judge is read from another file: without that file the error names it."
    save_model(people, tmp_path/'m.safetensors')
    save_model(new_model('baseline', people_config()), tmp_path/'b.safetensors')
    (tmp_path/'movenet_lightning.safetensors').write_bytes(b'half')
    monkeypatch.setattr('ttp_nb.mobile_trunk.shipped', lambda name: tmp_path/f'{name}.safetensors')
    refused(tmp_path/'m.safetensors', 'movenet_lightning.safetensors cannot be read')
    load_model(tmp_path/'b.safetensors') # a baseline has no judge

def test_a_people_model_is_adapted_and_its_profile_applied(tmp_path):
    "With MoveNet's features as a judge, which stay what they are, and out of the profile."
    m = new_model('joint', people_config(size=(64,64))).eval()
    a = offline(m, person(0, frames=2), TTPConfig(batch=2, lr=1e-4)).model
    save_profile(tmp_path/'p.safetensors', m, a)
    changes,_ = read_profile(tmp_path/'p.safetensors')
    assert not [k for k in changes if k.startswith(('perceptual.features', 'affinity'))]
    assert [k for k in changes if k.startswith('trunk.pyramid')] and 'perceptual.mean' in changes
    again = apply_profile(m, tmp_path/'p.safetensors')
    for k,v in weights(a).items():
        change = (v-weights(m)[k]).abs().max().item()
        assert (weights(again)[k]-v).abs().max().item()<=change*2**-10+1e-7, k
    refused_by = JointModel(people_config(size=(64,64)))
    with pytest.raises(TTPError, match='another network'): apply_profile(refused_by, tmp_path/'p.safetensors')

@pytest.mark.parametrize('make', [JointModel, baseline])
def test_weights_of_another_trunk(make, tmp_path):
    "A card of the one kind of trunk beside weights of the other, both ways, the features' width being the same."
    small = dict(skeleton=PENN13, keypoints=5, appearance=(4,8), pose=(4,8), renderer=(8,6,4), heads=2)
    mobile, resnet = people_config(size=(32,32), **small), replace(TINY, filters=(96,))
    for of_weights,of_card in ((mobile, resnet), (resnet, mobile)):
        save_model(make(of_weights), tmp_path/'m.safetensors')
        recard(tmp_path/'m.safetensors', config=asdict(of_card))
        text = refused(tmp_path/'m.safetensors', 'with another trunk', 'the first is ', 'same run')
        wrong,names = map(int, re.search(r'(\d+) of (\d+) tensors', text).groups())
        assert 100<wrong<=names, text

def test_a_card_names_a_trunk_that_does_not_exist(saved):
    recard(saved, config=asdict(TINY) | dict(trunk='hourglass'))
    refused(saved, 'm.json', "no trunk 'hourglass'", "'resnet' or 'mobile'")

def test_cards_from_before_there_were_two_trunks(model, saved):
    entries = {k: v for k,v in asdict(TINY).items() if k not in ('trunk', 'shrink')}
    recard(saved, config=entries)
    n = load_model(saved)
    assert n.cfg==TINY and same_weights(weights(n), weights(model))


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

@pytest.mark.parametrize('name', ['people_joint', 'people_baseline'])
def test_the_models_for_people_that_come_along(name):
    path = Path(joint_model.__file__).parents[1]/'models'/f'{name}.safetensors'
    if not path.is_file(): pytest.skip(f'{path.name} is not in this checkout')
    m,card = load_model(path, PEOPLE18),read_card(path)
    assert path.stat().st_size<12e6 and card['kind']==name.removeprefix('people_') and type(m.trunk) is MobileTrunk
    assert replace(people_config(), size=m.cfg.size)==m.cfg and 'seed' in card['training']
    assert not [k for k in load_file(path) if 'features' in k]
    own,there = zip(*[(PEOPLE18.index(joint), j) for j,joint in enumerate(PENN13.joints) if joint!='head'])
    off = []
    for i in range(6):
        c = person(i, 'valid', 2)
        d = np.linalg.norm(predict(m, c)[0][:,own]-c.joints[:,there], axis=-1)
        off.append(d[c.vis[:,there]]/np.ptp(c.joints[c.vis][:,1]))
    assert np.median(np.concatenate(off))<.1, 'joints are found nowhere near'

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


# --- written whole or not at all

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


# --- profiles: what an adaptation changed, and nothing else is taken for one

@pytest.fixture(scope='module')
def trained(): return tiny_model().eval()

@pytest.fixture(scope='module')
def adapted(trained): return offline(trained, person(0), TTPConfig(batch=3, lr=1e-2)).model

@pytest.fixture
def profile(trained, adapted, tmp_path):
    save_profile(tmp_path/'p.safetensors', trained, adapted, model='tiny', frames=5)
    return tmp_path/'p.safetensors'


def test_an_applied_profile_is_the_adapted_network_within_a_rounding(trained, adapted, profile, tmp_path):
    was, again = weights(trained), apply_profile(trained, profile)
    assert same_weights(weights(trained), was) and not again.training and checksum(again)!=checksum(trained)
    for k, v in weights(adapted).items():
        change = (v-was[k]).abs().max().item()
        assert (weights(again)[k]-v).abs().max().item()<=change*2**-10+1e-7, k
    assert torch.equal(again.perceptual.mean, adapted.perceptual.mean) and not torch.equal(adapted.perceptual.mean,
                                                                                           trained.perceptual.mean)
    (a, ca), (b, cb), (c, cc) = (predict(m, person(0)) for m in (adapted, again, trained))
    assert np.abs(ca-cb).max()<2e-2<np.abs(ca-cc).max() and np.median(np.abs(a-b))<.1
    assert not leftovers(tmp_path) and sorted(p.name for p in tmp_path.iterdir())==['p.json', 'p.safetensors']

def test_a_profile_holds_what_changed_and_says_of_what(trained, adapted, profile):
    changes, card = read_profile(profile)
    assert changes.keys()==weight_changes(trained, adapted).keys()<weights(trained).keys()
    assert not any(k.startswith(('affinity', 'joints')) for k in changes)
    assert {k for k, v in changes.items() if v.dtype!=torch.float16}=={'perceptual.mean'}
    assert {k: v for k,v in card.items() if k not in ('sha256', 'seal')}=={
        'kind': 'profile', 'base': checksum(trained), 'model': 'tiny', 'frames': 5}
    assert card['sha256']==hashlib.sha256(profile.read_bytes()).hexdigest()

def test_a_profile_is_gone_on_from(trained, profile):
    "A step of no length: the frozen copy starts where the profile ends; a real one goes elsewhere."
    start = apply_profile(trained, profile)
    still = offline(start, person(1), TTPConfig(batch=3, lr=0.))
    assert same_weights({k: v for k, v in weights(still.model).items() if k!='perceptual.mean'},
                        {k: v for k, v in weights(start).items() if k!='perceptual.mean'})
    on = offline(start, person(1), TTPConfig(batch=3, lr=1e-2)).model
    changes = weight_changes(trained, on)   # from the trained network, through both
    assert not torch.equal(changes['head.weight'], weight_changes(start, on)['head.weight'])

def test_a_profile_of_no_change(trained, tmp_path):
    save_profile(tmp_path/'p.safetensors', trained, trained)
    assert read_profile(tmp_path/'p.safetensors')[0]=={}
    assert same_weights(weights(apply_profile(trained, tmp_path/'p.safetensors')), weights(trained))

def test_another_network_refuses_a_profile(trained, profile):
    for other in (tiny_model(seed=1), tiny_model(keypoints=6), tiny_model(shared=True)):
        with pytest.raises(TTPError, match=r'p.safetensors was made on another network \(tiny\).*--model'):
            apply_profile(other, profile)

@pytest.mark.parametrize('share', [0., .01, .5, .99])
def test_a_truncated_profile(trained, profile, share):
    data = profile.read_bytes()
    profile.write_bytes(data[:int(share*len(data))])
    with pytest.raises(TTPError, match='p.safetensors or the card beside it cannot be read.*copy both again'):
        apply_profile(trained, profile)

def test_a_missing_profile(trained, tmp_path):
    for p in (tmp_path/'none.safetensors', tmp_path):
        with pytest.raises(TTPError, match='no such profile.*ttp personalize'): apply_profile(trained, p)

def test_a_profile_without_its_card(trained, profile):
    profile.with_suffix('.json').unlink()
    with pytest.raises(TTPError, match='the card beside it cannot be read'): apply_profile(trained, profile)

@pytest.mark.parametrize('text', ['', '{', 'null', '[]', '{}', '{"kind": "joint", "base": 1}', '{"kind": "profile"}'])
def test_other_cards_are_no_profiles_cards(trained, profile, text):
    profile.with_suffix('.json').write_text(text)
    with pytest.raises(TTPError, match='card'): apply_profile(trained, profile)

def test_a_model_is_no_profile(trained, tmp_path):
    p = tmp_path/'m.safetensors'
    save_model(trained, p)
    with pytest.raises(TTPError, match='m.json is not the card of a profile'): apply_profile(trained, p)

@pytest.mark.parametrize('how', ['another name', 'another shape'])
def test_a_profile_that_does_not_fit(trained, profile, how):
    changes = load_file(profile)
    v = changes.pop('head.weight')
    changes |= {'tail.weight': v} if how=='another name' else {'head.weight': v[1:].contiguous()}
    save_file(changes, profile); seal_card(profile)
    with pytest.raises(TTPError, match='does not fit the network it names'): apply_profile(trained, profile)

@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e6])
def test_weights_that_ran_away_are_not_kept(trained, adapted, tmp_path, value):
    wild = apply_copy(adapted)
    with torch.no_grad(): wild.head.weight[0,0] = value
    with pytest.raises(TTPError, match='head.weight'): save_profile(tmp_path/'p.safetensors', trained, wild)
    assert not list(tmp_path.iterdir())

def apply_copy(m):
    other = tiny_model().eval()
    other.load_state_dict(m.state_dict())
    return other

def test_a_profile_where_nothing_can_be_written(trained, adapted, tmp_path):
    (tmp_path/'file').write_text('x')
    with pytest.raises(TTPError, match='cannot be written'):
        save_profile(tmp_path/'file'/'p.safetensors', trained, adapted)

def test_a_profile_of_the_shared_design(tmp_path):
    m = tiny_model(shared=True).eval()
    a = offline(m, person(0), replace(TTPConfig(batch=3), lr=1e-2)).model
    save_profile(tmp_path/'p.safetensors', m, a)
    there, again = (predict(n, person(0))[0] for n in (a, apply_profile(m, tmp_path/'p.safetensors')))
    assert np.median(np.abs(there-again))<.1
