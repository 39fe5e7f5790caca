"""Recipes: dotted keys, values of every type, what no run can use, and the authors' rules."""
from dataclasses import asdict, replace
import numpy as np, pytest
from tiny import global_state
from ttp_nb.basics import TTPError
from ttp_nb.pairs import PairConfig
from ttp_nb.personalization import TTPConfig
from ttp_nb.recipes import (
    DATA_KINDS, KEYS, LEAST, ORIGIN, TASKS, DataConfig, Recipe, as_whole, changed, check_key, convert_value,
    rule_values, settings, short, with_authors_rules, with_values)
from ttp_nb.skeletons import BBC7, COCO17, H36M16, JHMDB15, LSP14, PENN13, PEOPLE18, Skeleton


def odd_value(g, key, was):
    "Another value of the same type."
    texts = ('', 'a', ' a ', 'a: b', '#x', '- y', "it's", '"q"', 'null', '1e3', '5', 'yes', 'é 漢',
             'two\nlines\n\n  more\n', '[', '*a', '\t', '2021-01-01', '%', 'x'*300)
    if key=='task': return str(g.choice(TASKS))
    if key=='data.kind': return ','.join(g.choice(DATA_KINDS, g.integers(1, 4)))
    if key in ('data.videos', 'data.labelled', 'data.frames', 'training.color_jitter'): return 1-float(g.random())
    if isinstance(was, bool): return bool(g.integers(2))
    if isinstance(was, int): return int(g.integers(1, 10**6))
    if isinstance(was, float): return float(g.choice([g.random(), 10.**g.integers(-9, 9), 1/3]))
    if isinstance(was, str): return str(g.choice(texts))
    if isinstance(was, Skeleton):
        other = Skeleton('é: 1', ('a', 'no', '3'), ((0, 1),))
        return [PENN13, BBC7, COCO17, replace(PENN13, limbs=()), other][g.integers(5)]
    if was is None: return [None, 0, 12][g.integers(3)]
    return tuple(odd_value(g, '', was[0] if was else '') for _ in range(g.integers(0, 4)))


# --- keys

@pytest.mark.parametrize('seed', range(20))
def test_what_is_changed_is_what_settings_say(seed):
    g = np.random.default_rng(seed)
    keys = g.permutation(list(KEYS))[:g.integers(1, 60)]
    values = {k: odd_value(g, k, KEYS[k]) for k in keys}
    was,r = Recipe(),changed(Recipe(), values)
    assert settings(r)=={**KEYS, **values} and was==Recipe()
    assert changed(Recipe(), settings(r))==r and changed(r, settings(was))==was
    plain = {k: asdict(v) if isinstance(v, Skeleton) else v for k,v in settings(r).items()}
    assert with_values(Recipe(), plain)==r, 'values that are right stay as they are'

def test_a_part_may_be_changed_as_a_whole():
    r = changed(Recipe(), {'training.pairs': PairConfig(scale=.1), 'training.steps': 7})
    assert r.training.pairs==PairConfig(scale=.1) and r.training.steps==7
    assert changed(r.training, {'pairs.scale': .25, 'steps': 5000})==Recipe().training

@pytest.mark.parametrize('key,parts', [
    ('training.step', ['no key training.step', 'training.steps']), ('lr', ['no key lr', '.lr']),
    ('', ['(empty)', 'did you mean']), ('training', ['holds several values', 'training.steps']),
    ('training.pairs', ['several', 'training.pairs.']), ('x'*300, ['did you mean'])], ids=lambda x: str(x)[:20])
def test_keys_that_do_not_exist(key, parts):
    for f in (lambda: check_key(key, KEYS), lambda: with_values(Recipe(), {key: 1})):
        with pytest.raises(TTPError) as e: f()
        assert all(p in str(e.value) for p in parts) and len(str(e.value))<200
    for k in KEYS: check_key(k, KEYS)


# --- values

SKELETON_FIELDS = asdict(BBC7)

@pytest.mark.parametrize('value,default,expected', [
    (True, False, True), (2, 3, 2), ('2', 3, 2), ('1e3', 3, 1000), (2., 3, 2), (10**25, 3, 10**25), (-4, 3, -4),
    (2, .5, 2.), ('1e-3', .5, .001), ('.5', 1., .5), ('-3.', 1., -3.), ('', 'x', ''), ('5', 'x', '5'),
    ([64, '32'], (1, 1), (64, 32)), ((), (1, 1), ()), (['a', 'b'], (), ('a', 'b')), ([1, '2.5'], (.5,), (1., 2.5)),
    (None, None, None), ('7', None, 7), ('bbc7', PENN13, BBC7), (SKELETON_FIELDS, PENN13, BBC7)], ids=str)
def test_values_become_the_defaults_type(value, default, expected):
    got = convert_value('k', value, default)
    assert got==expected and type(got) is type(expected)
    assert not isinstance(got, tuple) or [type(x) for x in got]==[type(x) for x in expected]

@pytest.mark.parametrize('value,default,needed', [
    (1, True, 'true or false'), ('yes', True, 'true or false'), (None, True, 'true or false'),
    (True, 3, 'a whole number'), (2.5, 3, 'a whole number'), ('many', 3, 'a whole number'), (None, 3, 'a whole number'),
    ([1], 3, 'a whole number'), ('1_000', 3, 'a whole number'), ('0x10', 3, 'a whole number'),
    (float('nan'), .5, 'a number'), (float('inf'), .5, 'a number'), ('1e400', .5, 'a number'), ('nan', .5, 'a number'),
    (False, .5, 'a number'), (5, 'x', 'text'), (None, 'x', 'text'), (['a'], 'x', 'text'), (True, 'x', 'text'),
    ('a', ('b',), 'a list'), (None, (1,), 'a list'), ({'a': 1}, (1,), 'a list'), ([1], ('b',), 'text'),
    ([[1]], (1,), 'a whole number'), (2.5, None, 'a whole number or null'), (True, None, 'null'),
    ('coco', PENN13, 'penn13, bbc7'), (5, PENN13, 'all its fields'), ({'nme': 'a'}, PENN13, 'coco17')], ids=str)
def test_values_of_another_type_are_refused(value, default, needed):
    with pytest.raises(TTPError) as e: convert_value('the.key', value, default)
    assert str(e.value).startswith('the.key is ') and needed in str(e.value) and 'needed' in str(e.value)

def test_a_skeleton_must_fit_together():
    with pytest.raises(TTPError, match='twice'): convert_value('k', {'name': 'a', 'joints': ['x', 'x']}, PENN13)

def test_what_an_error_shows_is_short():
    bomb = ['x']
    for _ in range(8): bomb = [bomb]*9
    endless = []
    endless.append(endless)
    for value in ('y'*10**5, bomb, endless, 9**5000, {'a': bomb}): assert len(short(value))<=80
    for value in (bomb, endless):
        with pytest.raises(TTPError, match='a whole number'): convert_value('k', value, (1,))
    assert as_whole(float(10**200))==int(float(10**200))


# --- what no run can use

@pytest.mark.parametrize('key', LEAST)
def test_numbers_below_the_least_are_refused(key):
    least = LEAST[key]
    assert settings(changed(Recipe(), {key: least}))[key]==least
    below = least-(.5 if isinstance(KEYS[key], float) else 1)
    with pytest.raises(TTPError, match=f'{key} is {below}: it must be at least {least}'):
        changed(Recipe(), {key: below})

@pytest.mark.parametrize('key,values,good', [
    ('task', ['train', '', 'joint,baseline'], TASKS),
    ('data.kind', ['mpii', 'Penn', '', ',', 'coco,', ',penn', 'jhmdb,,coco', 'jhmdb, coco', 'jhmdb;coco', 'coco,mpii'],
     [*DATA_KINDS, 'jhmdb,coco,synthetic', 'penn,penn']),
    *[(f'data.{k}', [0., -1., 1.01], (.01, 1.)) for k in ('videos', 'labelled', 'frames')],
    ('training.color_jitter', [-.1, 1.1], (0., 1.))])
def test_values_out_of_range_are_refused(key, values, good):
    for v in values:
        with pytest.raises(TTPError, match=f'{key} is'): changed(Recipe(), {key: v})
    for v in good: assert settings(changed(Recipe(), {key: v}))[key]==v

def test_no_reach_is_any():
    for part in ('training', 'personalization'): assert changed(Recipe(), {f'{part}.pairs.reach': None})==Recipe()


# --- the authors' rules

FOLLOW = {'model.bgr', 'model.origin', 'training.pairs.authors_edges', 'personalization.authors_rules',
          'personalization.anchor_weight'}

@pytest.mark.parametrize('kind', DATA_KINDS)
def test_one_switch_sets_all_conventions(kind):
    ours = Recipe(data=DataConfig(kind, 'there'))
    theirs = with_authors_rules(replace(ours, authors_rules=True))
    differs = {k for k,v in settings(theirs).items() if v!=settings(ours)[k]}
    assert differs=={'authors_rules'}|(FOLLOW if kind in ORIGIN else FOLLOW-{'model.origin'})
    assert theirs.model.origin==(1 if kind in ('penn', 'bbc') else 0) and theirs.personalization.anchor_weight==0
    assert rule_values(ours).keys()==rule_values(theirs).keys()==FOLLOW
    assert with_authors_rules(ours)==ours and with_authors_rules(theirs)==theirs
    assert with_authors_rules(replace(theirs, authors_rules=False))==ours
    assert ours.personalization.anchor_weight==TTPConfig().anchor_weight>0

def test_a_convention_beside_the_switch_counts():
    for values in ({'model.bgr': False, 'authors_rules': True}, {'authors_rules': True, 'model.bgr': False}):
        r = with_values(Recipe(), {'data.kind': 'bbc', **values})
        assert not r.model.bgr and r.model.origin==1 and r.training.pairs.authors_edges

def test_other_data_bring_their_origin_and_joints():
    theirs = with_values(Recipe(), {'authors_rules': True, 'data.kind': 'penn'})
    r = with_values(replace(theirs, model=replace(theirs.model, bgr=False)), {'data.kind': 'hm36'})
    assert r.model.origin==0 and not r.model.bgr, 'only what depends on the data'
    assert r.model.skeleton==H36M16 and with_values(r, {'data.kind': 'coco'}).model.skeleton==H36M16
    assert with_values(Recipe(), {'data.kind': 'bbc', 'model.skeleton': 'coco17'}).model.skeleton==COCO17
    assert with_values(Recipe(), {'data.kind': 'bbc'}).model.origin==0, 'our rules count from 0 everywhere'

@pytest.mark.parametrize('kind,skeleton', [('penn', PENN13), ('bbc', BBC7), ('hm36', H36M16), ('jhmdb', JHMDB15),
                                           ('lsp', LSP14), ('jhmdb,coco', PEOPLE18), ('synthetic,penn,lsp', PEOPLE18)])
def test_data_bring_their_joints(kind, skeleton):
    assert with_values(Recipe(), {'data.kind': kind}).model.skeleton==skeleton
    assert with_values(Recipe(), {'data.kind': kind, 'model.skeleton': 'coco17'}).model.skeleton==COCO17
    kept = changed(Recipe(), {'model.skeleton': BBC7})
    assert with_values(kept, {'data.root': 'a,b'}).model.skeleton==BBC7, 'only where the kind is given'
    for same in ('coco', 'dlc', 'synthetic'): assert with_values(kept, {'data.kind': same}).model.skeleton==BBC7

def test_several_data_sets_in_a_recipe():
    r = with_values(Recipe(), {'data.kind': 'jhmdb,coco,synthetic', 'data.root': 'a,b,', 'data.pseudo_labels': True,
                               'data.shares': ['5', 3, 2.]})
    assert r.data==DataConfig('jhmdb,coco,synthetic', 'a,b,', (5.,3.,2.), True)
    assert with_values(Recipe(), {'authors_rules': True, 'data.kind': 'penn,coco'}).model.origin==0, 'two origins: none'
    for wrong in (['5', 'many'], 'all', [True], None):
        with pytest.raises(TTPError, match='data.shares is'): with_values(Recipe(), {'data.shares': wrong})
    for wrong in ('yes', 1, None):
        with pytest.raises(TTPError, match='data.pseudo_labels is'):
            with_values(Recipe(), {'data.pseudo_labels': wrong})

def test_steps_replace_epochs():
    r = replace(Recipe(), epochs=140, validate=5)
    assert with_values(r, {'training.steps': 2})==changed(r, {'training.steps': 2, 'epochs': 0})
    assert with_values(r, {'training.every': 2})==changed(r, {'training.every': 2, 'validate': 0})
    assert with_values(r, {'training.steps': 2, 'epochs': 3}).epochs==3 and with_values(r, {}) is not None

def test_nothing_is_left_changed():
    was,values = global_state(),{'training.steps': '2', 'authors_rules': True}
    with_values(Recipe(), values)
    assert values=={'training.steps': '2', 'authors_rules': True} and global_state()==was
    assert settings(Recipe())==KEYS
