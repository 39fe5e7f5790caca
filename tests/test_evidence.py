"""The evidence: experiments that go on where they stopped, files that belong together, numbers said as measured."""
import json
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest, torch
from tiny import TINY, leftovers, noise_clip, same_weights, tiny_model, weights
from ttp_nb import evidence
from ttp_nb.evidence import (CRUEL, HALVES, PEOPLE_KINDS, NEW, Lab, evaluate_networks, curves, gain_table, gains,
                             on_test_again, once, read_kept, trained, watched_person)
from ttp_nb.checkpoints import checksum, save_model
from ttp_nb.pairs import offline_pairs
from ttp_nb.personalization import Adaptation, TTPConfig, adapt
from ttp_nb.trunk import heatmap_loss
from ttp_nb.recipes import DataConfig, Recipe
from ttp_nb.basics import TTPError

ROOT = Path(__file__).parents[1]
KEPT = ROOT/'experiments'
FORM = {'small_valid': 30, 'small_test': 100, 'small_test_seed1': 100, 'small_seeds': 30,
        'small_seeds_elsewhere': 30, 'small_shared': 30, 'small_halves': 30, 'small_lengths': 30, 'small_pull': 60,
        'small_penn': 6}
FAST = TTPConfig(batch=2, lr=1e-2)

@pytest.fixture
def lab(tmp_path): return Lab(str(tmp_path), str(tmp_path/'out'), str(tmp_path/'kept'), 1, False)

@pytest.fixture
def nets(tmp_path):
    for seed in (0, 1): save_model(tiny_model(seed=seed), tmp_path/f'{seed}.safetensors')
    return {w: (tmp_path/f'{w}.safetensors', FAST) for w in '01'}

SETS = {k: [noise_clip(f'{k}{i}', 3, i) for i in range(2)] for k in 'ab'}

def strict(path): return json.loads(path.read_text(), parse_constant=lambda word: 1/0)


# --- the machinery

def test_what_is_kept(lab, nets):
    found = evaluate_networks(lab, 'x', nets, SETS, ('before', 'offline'))
    assert strict(Path(lab.kept)/'x.json')==found and not leftovers(Path(lab.out).parent)
    assert {s: [*d] for s,d in found.items()}=={s: ['0', '1'] for s in 'ab'}
    assert [c.keys() for c in found['a']['0']]==[{'name', 'before', 'offline'}]*2
    assert found['a']['0']!=found['a']['1'] and [c['name'] for c in found['b']['1']]==['b0', 'b1']

def test_stopped_and_gone_on(lab, nets, monkeypatch):
    whole = evaluate_networks(replace(lab, out=lab.out+'2', kept=lab.kept+'2'), 'x', nets, SETS)
    real,done = evidence.evaluate,[]
    def stops(*a, **kw):
        if len(done)==2: raise KeyboardInterrupt
        done.append(a[2]); return real(*a, **kw)
    monkeypatch.setattr(evidence, 'evaluate', stops)
    with pytest.raises(KeyboardInterrupt): evaluate_networks(lab, 'x', nets, SETS)
    assert not (Path(lab.kept)/'x.json').exists()
    was = {p: p.stat().st_mtime_ns for p in Path(lab.out).rglob('*.npz')}
    monkeypatch.setattr(evidence, 'evaluate', real)
    assert evaluate_networks(lab, 'x', nets, SETS)==whole
    assert len(was)==4 and all(p.stat().st_mtime_ns==t for p,t in was.items()), 'done once'

def test_other_weights_under_the_same_name(lab, nets):
    evaluate_networks(lab, 'x', nets, SETS)
    save_model(tiny_model(seed=5), nets['0'][0])
    with pytest.raises(TTPError, match='another network'): evaluate_networks(lab, 'x', nets, SETS)

def test_once(lab):
    net,made = tiny_model(),[]
    def f(net, clip, a=0): made.append(a); return {'a': a}
    a,b = noise_clip(seed=0),noise_clip(seed=1)      # of the same name
    ask = lambda clip=a, net=net, **settings: once(lab, 'x', net, clip, settings, f, len(made))
    assert [ask(), ask(), ask(b), ask(lr=1.), ask(lr=2.), ask(net=tiny_model(seed=1)), ask(lr=1.)]==[
        {'a': i} for i in (0, 0, 1, 2, 3, 4, 2)]
    with pytest.raises(ValueError): once(lab, 'y', net, a, {}, lambda *x: float('nan'))
    assert not leftovers(Path(lab.out)) and not (Path(lab.out)/'y').exists()

def test_without_labels_there_are_no_tracks(lab):
    assert [*lab.people(('drawn, gap 0',), 1)]==['drawn, gap 0']
    with pytest.raises(TTPError, match='no label files'): lab.people()

def test_the_test_people_are_others(lab):
    valid,test = ({c.name for c in lab.people(NEW[:1], 5, split)[NEW[0]]} for split in ('valid', 'test'))
    assert len(valid)==len(test)==5 and not valid&test

def test_networks_are_trained_once_and_gone_on_with(lab, monkeypatch):
    assert trained(lab)==ROOT/'models'/'small_joint.safetensors'
    short = replace(Recipe().training, batch=2, every=3)
    small = replace(Recipe(), data=DataConfig(people=6, first=3), model=TINY, training=short)
    monkeypatch.setattr(evidence, 'Recipe', lambda: small)
    path,calls = trained(lab, 6, 2),[]
    card = json.loads(path.with_suffix('.json').read_text())
    assert path.is_file() and card['training']['steps']==6 and card['training']['seed']==2
    monkeypatch.setattr(evidence, 'train_recipe', lambda *a, **kw: calls.append(a))
    assert trained(lab, 6, 2)==path and not calls
    (path.parent/'last.safetensors').unlink()      # as if it had been stopped
    trained(lab, 6, 2)
    assert calls[0][0].resume and trained(lab, 6, 3)!=path

def test_opened_again_only_online(lab, monkeypatch):
    asked = {}
    monkeypatch.setattr(evidence, 'trained', lambda lab, seed: f'net{seed}')
    monkeypatch.setattr(Lab, 'people', lambda self, *a, **kw: asked.update(kw))
    monkeypatch.setattr(evidence, 'evaluate_networks', lambda lab, name, nets, sets, scenarios: (name, nets, scenarios))
    name,nets,scenarios = on_test_again(lab)
    assert nets=={'joint, seed 1': ('net1', TTPConfig())} and 'offline' not in scenarios
    assert asked=={'n': 100, 'split': 'test', 'seed': 1}


# --- what the experiments do

def test_a_huge_anchor_is_the_anchor_alone():
    "One step of Adam: the direction is that of the anchor without a term for reconstruction."
    net,clip = tiny_model(),noise_clip(T=4, hidden=0)
    weight = HALVES['anchor alone'].anchor_weight
    assert weight==2e12
    huge,alone = (Adaptation(net, clip, replace(FAST, anchor_weight=w)) for w in (weight, 2e4))
    next(adapt(huge, 'offline'))
    alone.label(range(4))
    assert np.array_equal(huge.pseudo_labels, alone.pseudo_labels) and np.isfinite(alone.pseudo_labels).all()
    pairs = offline_pairs(alone.frames, 0, FAST.seed, FAST.batch, net.cfg.size, alone.pair_rules, alone.pseudo_labels,
                          net.hm_size)
    loss = weight*heatmap_loss(alone.model(pairs.target), pairs.heatmaps, pairs.weight)
    alone.opt.zero_grad(set_to_none=True); loss.backward(); alone.opt.step()
    moved = 0
    for (n,a),b,start in zip(huge.model.named_parameters(), alone.model.parameters(), net.parameters()):
        if not n.startswith(('trunk', 'head')): continue
        moved += (a-start).abs().sum().item()
        assert torch.allclose(a, b, atol=1e-6), n
    assert moved>0

def test_curves_are_of_the_same_adaptation():
    net,clip = tiny_model(),noise_clip(T=4, hidden=0)
    before = weights(net)
    c = curves(net, clip, replace(FAST, epochs=2.), 3)
    assert c['at']==[0, 4, 8] and len(c['pck'])==3 and len(c['loss'])==2 and same_weights(weights(net), before)
    short = curves(net, clip, FAST, 2)
    assert (short['at'], short['pck'], short['loss'])==([0, 4], c['pck'][:2], c['loss'][:1])

def test_a_watched_person():
    net,clip = tiny_model().eval(),noise_clip(T=9, hidden=0)
    before = checksum(net)
    r = watched_person(net, clip, replace(CRUEL['anchor 0, lr 3e-4'], batch=2))
    assert checksum(net)==before and r['cost']>0
    assert r['start'].keys()==r['end'].keys()=={'loss', 'view_inconsistency', 'limb_variation'}
    assert not r['why'] or r['guarded']==r['before']


# --- the tables

def test_people_in_two_sets_count_once():
    rows = lambda **pck: [{'name': n, 'before': 0., 'online': v} for n,v in pck.items()]
    found = {'a': {'net': rows(x=4., y=0.)}, 'b': {'net': rows(x=2., z=6.)}, 'c': {'other': rows(x=9.)}}
    g = gains(found, ('net', 'online'))
    assert [*g]==['a', 'b', 'all'] and g['all'][0]==pytest.approx((3+0+6)/3)
    assert gains(found, ('net', 'before'), ('net', 'online'))['a'][0]==-2
    found['a']['net'][0]['online mirrored'],found['a']['net'][0]['mirrored'] = 7.,5.
    assert gains({'a': {'net': found['a']['net'][:1]}}, ('net', 'online mirrored'))['a'][0]==2
    table = gain_table(found, [('net', 'before'), ('net', 'online'), ('other', 'online')]).splitlines()
    assert len(table)==5 and table[0].count('|')==6 and table[2].startswith('| net, before | 0.0 | 0.0 |  |')
    assert '+9.00' in table[4] and table[4].startswith('| other, online |  |  |')

def test_files_are_merged_by_kind(tmp_path):
    lab = Lab(kept=str(tmp_path))
    lab.keep('x', {'a': {'1': []}}), lab.keep('y', {'a': {'2': []}, 'b': {'2': []}})
    assert read_kept('x', 'y', kept=tmp_path)=={'a': {'1': [], '2': []}, 'b': {'2': []}}
    with pytest.raises(TTPError, match='y: 2 is known'): read_kept('x', 'y', 'y', kept=tmp_path)

def test_other_people_are_not_paired():
    row = lambda n: [{'name': n, 'before': 1., 'online': 2.}]
    found = {'a': {'1': row('x'), '2': row('y')}}
    with pytest.raises(TTPError, match='different people'): gains(found, ('1', 'online'), ('2', 'before'))


# --- what comes with the project

@pytest.mark.parametrize('name', FORM)
def test_the_files_are_whole(name):
    found = strict(KEPT/f'{name}.json')
    for s,d in found.items():
        assert s in PEOPLE_KINDS or s=='real'
        (names,) = {tuple(c['name'] for c in rows) for rows in d.values()}
        assert len(set(names))==FORM[name]
        assert all(0<=v<=100 for rows in d.values() for c in rows for k,v in c.items() if k!='name')

def test_nobody_is_in_two_splits():
    names = {f: {c['name'] for d in strict(KEPT/f'{f}.json').values() for r in d.values() for c in r} for f in FORM}
    valid,test = (set().union(*[n for f,n in names.items() if ('test' in f)==t and f!='small_penn']) for t in (0, 1))
    assert not valid&test and all(n.startswith('test') for n in test) and all(n.startswith('valid') for n in valid)

def test_the_same_network_says_the_same_before():
    "Files that were made by one network agree in what it says before adaptation."
    before = lambda f, s, who: [c['before'] for c in strict(KEPT/f'{f}.json')[s][who]]
    for s in PEOPLE_KINDS:
        assert all(before('small_halves', s, w)==before('small_valid', s, 'joint') for w in HALVES)
        assert [r['pck'] for r in strict(KEPT/'small_measures.json')[s]]==before('small_valid', s, 'joint')
    for s in NEW:
        assert [p[0] for p in strict(KEPT/'small_steps.json')[s]['pck']]==before('small_valid', s, 'joint')
    for w in HALVES: assert before('small_penn', 'real', w)==before('small_penn', 'real', 'joint')
    known = lambda f, s: [r['pck'] for r in strict(KEPT/f'{f}.json')[s]]
    for s in NEW:
        assert known('small_pull_measures', s)==before('small_pull', s, 'reconstruction alone')
        for n in ('500', '1000', '2000', '10000'): assert known(f'small_measures_{n}', s)==before('small_lengths', s, n)

def test_the_default_of_longer_adaptation_is_the_default():
    for s in NEW:
        f = strict(KEPT/'small_steps.json')[s]
        offline = [c['offline'] for c in strict(KEPT/'small_valid.json')[s]['joint']]
        assert np.allclose([p[f['at'].index(36)] for p in f['pck']], offline, atol=1e-3)

def said(text, g): return '{:+.1f} ({:.1f} to {:.1f})'.format(*g).replace('-0.0', '0.0') in text
def said_finely(text, g): return '{:+.2f} ({:.2f} to {:.2f})'.format(*g) in text

def test_the_readme_says_what_was_measured():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    test,six = (read_kept(f, kept=KEPT) for f in ('small_test', 'small_penn'))
    for x in ('online', 'offline'):
        assert said_finely(text, gains(test, ('joint', x))['all']) and said(text, gains(six, ('joint', x))['real'])
