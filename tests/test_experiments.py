"""Experiments: the table and its file, the same whoever computes it and in whatever order, valid whenever it ends."""
import json, os
from dataclasses import asdict, replace
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from tiny import first, global_state, leftovers, no_joints, noise_clip, person, same_weights, tiny_model, weights
from ttp_nb.experiments import (ALL, SCENARIOS, adaptation_curves, clip_scenarios, crop_window, demo_figure,
                                evaluate, gain_bars, pck_of, per_clip, read_predictions, run_clips, save_clip, score,
                                show_table, summary, table_rows)
from ttp_nb import experiments
from ttp_nb.checkpoints import load_model, save_model
from ttp_nb.clips import predict
from ttp_nb.personalization import TTPConfig, offline, online
from ttp_nb.skeletons import H36M16, PENN13
from ttp_nb.basics import TTPError

FAST = TTPConfig(batch=2, lr=1e-2, seed=4)
ROW = {'scenario', 'clips', 'frames', 'pck', 'pck_per_joint', 'gain', 'gain_low', 'gain_high'}

def strict(text):
    "json as every reader reads it: NaN and Infinity are none."
    def no(name): raise AssertionError(f'{name} is not json')
    return json.loads(text, parse_constant=no)

def results(out): return strict((out/'results.json').read_text())

def people(n=3, frames=4): return [person(i, 'test', frames-i%2) for i in range(n)]

def unseen(clip):
    return replace(clip, name=clip.name+'_hidden', joints=np.full_like(clip.joints, np.nan),
                   vis=np.zeros_like(clip.vis))

@pytest.fixture(scope='module')
def path(tmp_path_factory):
    p = tmp_path_factory.mktemp('model')/'m.safetensors'
    save_model(tiny_model(), p)
    return p

@pytest.fixture(scope='module')
def done(path, tmp_path_factory):
    "One evaluation that several tests look at: (folder, what it returned)."
    out = tmp_path_factory.mktemp('done')
    return out,evaluate(path, people(), out, cfg=FAST, progress=False, data='drawn', absent=['0007'])

def quick(path, clips, out, scenarios=('before', 'offline'), **kw):
    return evaluate(path, clips, out, scenarios, FAST, progress=False, **kw)

def saved(out): return {p.stem: {k: v.tobytes() for k,v in np.load(p).items()} for p in (out/'predictions').iterdir()}


# --- what is written

def test_the_file_says_what_was_returned(done, path):
    out,r = done
    assert json.dumps(results(out))==json.dumps(r) and {'rows', 'seed', 'model', 'data'}<=r.keys()
    assert r['seed']==4 and r['model']=='m.safetensors' and r['data']=='drawn' and r['absent']==['0007']
    assert r['settings']==asdict(FAST) and (r['settings']['lr'],r['settings']['seed'])==(1e-2, 4)
    assert sorted(p.name for p in out.iterdir())==['predictions', 'results.json'] and not leftovers(out)
    assert {p.name for p in (out/'predictions').iterdir()}=={f'{c.name}.npz' for c in people()}

def test_rows_have_their_keys(done):
    rows = done[1]['rows']
    assert [r['scenario'] for r in rows]==list(SCENARIOS) and all(r.keys()==ROW for r in rows)
    for r in rows:
        assert r['clips']==3 and r['frames']==11 and 0<=r['pck']<=100 and list(r['pck_per_joint'])==list(PENN13.joints)
        assert all(v is None or 0<=v<=100 for v in r['pck_per_joint'].values())
        g = [r['gain_low'], r['gain'], r['gain_high']]
        assert g==[None]*3 if r['scenario']=='before' else g==sorted(g)

def test_the_numbers_follow_from_the_predictions(done):
    "Counted by hand: joints within 0.2 torsos, all clips together; the gain is the mean over clips."
    out,r = done
    for row in r['rows']:
        s,right,n,each = row['scenario'],np.zeros(13),np.zeros(13),[]
        for c in people():
            a,b = read_predictions(out/'predictions', c)[s][0],read_predictions(out/'predictions', c)['before'][0]
            torso = np.linalg.norm(c.joints[:,1:3].mean(1)-c.joints[:,7:9].mean(1), axis=-1)
            if c.torso is not None: torso = c.torso
            counts = c.vis & np.isfinite(torso)[:,None]
            hit,was = (counts & (np.linalg.norm(k-c.joints, axis=-1)<=.2*torso[:,None]) for k in (a, b))
            right += hit.sum(0); n += counts.sum(0); each.append(100*(hit.sum()-was.sum())/counts.sum())
        assert row['pck']==pytest.approx(100*right.sum()/n.sum(), abs=1e-3) and n.sum()>100
        for name,k,m in zip(PENN13.joints, right, n):
            assert row['pck_per_joint'][name]==(pytest.approx(100*k/m, abs=1e-3) if m else None)
        if s!='before': assert row['gain']==pytest.approx(np.mean(each), abs=1e-3)

def test_each_clip_is_told(done):
    r = done[1]
    assert [c['name'] for c in r['per_clip']]==[c.name for c in people()]
    assert [c['action'] for c in r['per_clip']]==[c.action for c in people()]
    for row in r['rows'][1:]:
        gains = [c[row['scenario']]-c['before'] for c in r['per_clip']]
        assert row['gain']==pytest.approx(np.mean(gains), abs=2e-3)

def test_predictions_are_those_of_the_scenarios(done, path):
    out,_ = done
    model,c = load_model(path),people()[1]
    a,b = online(model, c, FAST),offline(model, c, FAST)
    wanted = {'before': predict(model, c), 'online': (a.kp, a.conf), 'offline': (b.kp, b.conf)}
    for found in (clip_scenarios(model, c, SCENARIOS, FAST), read_predictions(out/'predictions', c)):
        assert list(found)==list(SCENARIOS)
        for s in SCENARIOS:
            assert np.array_equal(found[s][0], wanted[s][0]) and np.array_equal(found[s][1], wanted[s][1]), s
    assert not np.array_equal(wanted['online'][0], wanted['before'][0])

def test_the_clips_torso_is_what_pck_is_relative_to():
    c = noise_clip('a', 3, hidden=0.)
    found = {'before': (c.joints+[3., 4.], None)} # each 5 pixels off
    for torso,share in ((26., 1), (24., 0), (np.array([26., 24., np.nan]), .5)):
        correct,counted = score(replace(c, torso=np.broadcast_to(torso, 3)), found)['before']
        assert correct.sum()/counted.sum()==share

@pytest.mark.parametrize('scenarios', [('before',), ('before', 'online'), ('before', 'offline'), ('offline',)])
def test_fewer_scenarios(scenarios, path, done, tmp_path):
    r = quick(path, people(), tmp_path, scenarios)
    assert [x['scenario'] for x in r['rows']]==[s for s in SCENARIOS if s in {'before', *scenarios}]
    for row in r['rows']: assert row==next(x for x in done[1]['rows'] if x['scenario']==row['scenario'])

def test_a_baseline_has_one_row(tmp_path):
    save_model(tiny_model('baseline'), tmp_path/'b.safetensors')
    r = evaluate(tmp_path/'b.safetensors', people(2), tmp_path/'out', cfg=FAST, progress=False)
    assert [x['scenario'] for x in r['rows']]==['before'] and r['rows'][0].keys()==ROW


def test_a_clip_passes_once(path, tmp_path, monkeypatch):
    "Scored once, put into a table once, saved once; gone on with when all is done, nothing is saved."
    calls = []
    for name in ('score', 'summary', 'save_clip'):
        f = getattr(experiments, name)
        monkeypatch.setattr(experiments, name, lambda *a, f=f, name=name: calls.append(name) or f(*a))
    r = quick(path, people(), tmp_path)
    assert calls==['score', 'summary', 'save_clip']*3 and r==results(tmp_path)
    calls.clear()
    assert quick(path, people(), tmp_path, resume=True)==r and calls==['score']*3+['summary']

def test_a_table_of_some_clips(done, path):
    "Clips that are not done yet are left out, wherever they stand."
    out,_ = done
    clips = people()
    scores = [score(c, read_predictions(out/'predictions', c)) for c in clips]
    marks = {c['name']: {k: c[k] for k in ('content', 'predictions')} for c in done[1]['per_clip']}
    part = summary({'seed': 1}, clips, [None, scores[1], scores[2]], {'online': [1.]}, marks)
    assert list(part)==['rows', 'seed', 'per_clip', 'normalisers', 'seal']
    assert part['rows']==table_rows(scores[1:], PENN13)
    assert part['per_clip']==done[1]['per_clip'][1:] and 'normalisers' not in summary({}, clips, scores, {})
    for c,s in zip(clips, scores):
        kp,_ = read_predictions(out/'predictions', c)['online']
        correct,counted = s['online']
        assert pck_of(c, kp)==pytest.approx(100*correct.sum()/counted.sum())


# --- whoever computes it

def test_workers_change_nothing(done, path, tmp_path):
    r = evaluate(path, people(), tmp_path, cfg=FAST, workers=2, progress=False, data='drawn', absent=['0007'])
    assert r==done[1] and results(tmp_path)==results(done[0]) and saved(tmp_path)==saved(done[0])

def test_the_order_of_clips_changes_no_clip(done, path, tmp_path):
    r = evaluate(path, people()[::-1], tmp_path, cfg=FAST, progress=False)
    assert r['per_clip']==done[1]['per_clip'][::-1] and saved(tmp_path)==saved(done[0])
    for a,b in zip(r['rows'], done[1]['rows']):
        for k in ('pck', 'pck_per_joint', 'frames'): assert a[k]==b[k]

def test_nothing_is_left_changed(path, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        was = global_state()
        quick(path, people(1), tmp_path/'a')
        assert global_state()==was
        with pytest.raises(TTPError): quick(path, [broken(people(1)[0])], tmp_path/'b')
        assert global_state()==was
        m = load_model(path)
        before = weights(m)
        for _ in run_clips(m, people(2), SCENARIOS, FAST): pass
        assert same_weights(weights(m), before) and global_state()==was
    finally: torch.set_num_threads(threads)

def test_another_seed_other_draws(path, done, tmp_path):
    r = evaluate(path, people(1), tmp_path, cfg=replace(FAST, seed=5), progress=False)
    assert r['seed']==5
    assert saved(tmp_path)[people()[0].name]['offline_kp']!=saved(done[0])[people()[0].name]['offline_kp']

def test_drawn_on_demand_or_held_in_memory(done, path, tmp_path):
    from ttp_nb.drawn_people import synthetic_clip
    lazy = [synthetic_clip(0, i, 'test', 4-i%2) for i in range(3)]
    assert evaluate(path, lazy, tmp_path, cfg=FAST, progress=False)['rows']==done[1]['rows']


# --- it ends early

class Failing:
    "Frames of which one cannot be had."
    def __init__(self, frames, error): self.frames,self.error,self.size = frames,error,frames[0].shape[1::-1]
    def __len__(self): return len(self.frames)
    def __getitem__(self, i):
        if i<2: return self.frames[i]
        if self.error=='die': os._exit(1)
        raise self.error

def broken(clip, error=TTPError('walk/000003.jpg: cannot be read. Replace it.')):
    return replace(clip, name='walk', frames=Failing(clip.frames, error))

@pytest.mark.parametrize('error', [TTPError('walk/000003.jpg: cannot be read. Replace it.'),
                                   KeyboardInterrupt('stop')], ids=['unreadable', 'interrupted'])
def test_the_clips_done_are_kept(path, tmp_path, error):
    clips = people()
    with pytest.raises(type(error), match=str(error)): quick(path, [*clips[:2], broken(clips[2], error)], tmp_path/'a')
    quick(path, clips[:2], tmp_path/'b')
    assert results(tmp_path/'a')==results(tmp_path/'b') and saved(tmp_path/'a')==saved(tmp_path/'b')
    assert not leftovers(tmp_path)

def test_a_clip_that_fails_at_once_leaves_no_table(path, tmp_path):
    with pytest.raises(TTPError, match='000003.jpg'): quick(path, [broken(people()[0]), people()[1]], tmp_path)
    assert not (tmp_path/'results.json').exists() and not leftovers(tmp_path)

def test_a_worker_that_is_killed_is_said(path, tmp_path):
    "As happens when memory runs out."
    with pytest.raises(TTPError, match='--workers'): quick(path, [broken(people()[0], 'die')], tmp_path, workers=2)
    assert not leftovers(tmp_path)

def test_an_error_comes_back_from_a_worker(path, tmp_path):
    with pytest.raises(TTPError, match='000003.jpg'): quick(path, [broken(people()[0])], tmp_path, workers=2)

def test_each_step_on_the_way_is_a_valid_table(path, tmp_path):
    "As seen by somebody who looks while it runs."
    model,clips,scores = load_model(path),people(),[None]*3
    for i,found in run_clips(model, clips, ('before', 'offline'), FAST):
        scores[i] = score(clips[i], found)
        save_clip(tmp_path, clips[i], found, {'rows': table_rows([s for s in scores if s], PENN13),
                                              'per_clip': per_clip(clips, scores)})
        r = results(tmp_path)
        assert r['rows'][0]['clips']==len(r['per_clip'])==i+1 and r['rows'][1]['gain'] is not None
        assert not leftovers(tmp_path)


# --- clips that say little

@pytest.mark.parametrize('at', [0, 1, 3])
def test_a_clip_without_visible_joints_changes_nothing(path, done, tmp_path, at):
    clips = people()
    clips.insert(at, unseen(clips[0]))
    r = evaluate(path, clips, tmp_path, cfg=FAST, progress=False)
    assert results(tmp_path)['rows']==r['rows']
    for a,b in zip(r['rows'], done[1]['rows']):
        assert {k: a[k] for k in ROW-{'clips', 'frames'}}=={k: b[k] for k in ROW-{'clips', 'frames'}}
        assert a['clips']==4 and a['frames']==15
    assert r['per_clip'][at]['before'] is None and r['per_clip'][at]['offline'] is None
    assert [c for i,c in enumerate(r['per_clip']) if i!=at]==done[1]['per_clip']

def test_no_clip_has_a_visible_joint(path, tmp_path):
    r = quick(path, [unseen(c) for c in people(2)], tmp_path)
    assert results(tmp_path)['rows']==r['rows'] and show_table(r['rows']).count('\n')==3
    for row in r['rows']:
        assert row['pck'] is row['gain'] is row['gain_low'] is None and set(row['pck_per_joint'].values())=={None}

def test_one_clip_has_no_interval(path, tmp_path):
    r = quick(path, people(1), tmp_path)
    row = results(tmp_path)['rows'][1]
    assert row==r['rows'][1] and row['gain'] is not None and row['gain_low'] is row['gain_high'] is None
    assert f"{row['gain']:+.2f}" in show_table(r['rows']) and 'nan' not in show_table(r['rows']).lower()

def test_a_hidden_joint_has_no_number(path, tmp_path):
    c = people(1)[0]
    vis,joints = c.vis.copy(),c.joints.copy()
    vis[:,5] = False; joints[:,5] = np.nan
    r = quick(path, [replace(c, vis=vis, joints=joints)], tmp_path)
    row = results(tmp_path)['rows'][0]
    assert row==r['rows'][0] and row['pck_per_joint']['right_wrist'] is None and row['pck'] is not None


# --- what cannot be

def test_nothing_to_evaluate(path, tmp_path):
    with pytest.raises(TTPError, match='no clips'): quick(path, [], tmp_path)
    with pytest.raises(TTPError, match='joints'): quick(path, [no_joints(people(1)[0])], tmp_path)
    with pytest.raises(TTPError, match='none.safetensors'): quick(tmp_path/'none.safetensors', people(1), tmp_path)
    with pytest.raises(TTPError, match='penn13.*h36m16'):
        quick(path, [replace(people(1)[0], skel=H36M16, joints=np.ones((4,16,2)), vis=None)], tmp_path)
    assert not list(tmp_path.iterdir())

def test_nowhere_to_write(path, tmp_path):
    (tmp_path/'file').write_text('x')
    for out in ('/dev/null/x', tmp_path/'file'):
        with pytest.raises(TTPError, match='cannot be written') as e: quick(path, people(1), out)
        assert str(out) in str(e.value)

def test_no_predictions_to_read(tmp_path):
    with pytest.raises(TTPError, match='person|npz'): read_predictions(tmp_path, people(1)[0])


# --- shown

def test_the_table_as_text():
    row = dict(scenario='before', clips=2, frames=30, pck=65.368, pck_per_joint={}, gain=None, gain_low=None,
               gain_high=None)
    lines = show_table([row, row | dict(scenario='online', gain=1.2345, gain_low=-.5, gain_high=3)]).splitlines()
    assert len(lines)==4 and len({line.count('|') for line in lines})==1
    assert '65.37' in lines[2] and '+1.23' in lines[3] and '-0.50 to +3.00' in lines[3] and 'None' not in ''.join(lines)

@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.tuples(*[st.floats(-50, 250)]*4), st.tuples(st.integers(16, 200), st.integers(16, 200)))
def test_a_window_is_a_square_inside_the_frame(box, size):
    x0,y0,x1,y1 = crop_window((min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2])+4, max(box[1], box[3])+4),
                              size)
    assert 0<=x0<x1<=size[0] and 0<=y0<y1<=size[1] and abs((x1-x0)-(y1-y0))<=1

def test_curves_of_loss_and_pck(path):
    model,clips = load_model(path),[replace(person(i, 'test', 4), torso=np.full(4, 99.)) for i in (0, 2)]
    losses,at,scores = adaptation_curves(model, clips, FAST, points=3)
    assert losses.shape==(2,4) and at.tolist()==[0,2,4] and scores.shape==(2,3)
    r = [offline(model, c, FAST) for c in clips]
    assert np.array_equal(losses, [x.losses for x in r])
    for c,x,s in zip(clips, r, scores):
        for kp,v in ((predict(model, c)[0], s[0]), (x.kp, s[-1])):
            correct,counted = score(c, {'a': (kp, None)})['a']
            assert v==pytest.approx(100*correct.sum()/counted.sum())

def test_the_demos_figure(path, tmp_path):
    "Drawn without a screen, written whole; a clip without visible joints and a single clip are drawn as well."
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    for name,clips in (('two', [person(0, 'test', 4), unseen(person(2, 'test', 4))]), ('one', [person(0, 'test', 4)])):
        r = evaluate(path, clips, tmp_path/name, cfg=FAST, progress=False)
        demo_figure(tmp_path/name/'demo.png', load_model(path), clips, r, tmp_path/name/'predictions', FAST)
        assert (tmp_path/name/'demo.png').read_bytes().startswith(b'\x89PNG') and not leftovers(tmp_path)
        assert not plt.get_fignums()
    with pytest.raises(TTPError, match='cannot be written'):
        demo_figure('/dev/null/x.png', load_model(path), clips, r, tmp_path/'one'/'predictions', FAST)
    plt.close('all')

def test_bars_are_the_clips_gains(done):
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    _,ax = plt.subplots()
    gain_bars(ax, done[1], 'online')
    heights = [b.get_height() for b in ax.containers[0]]
    assert heights==pytest.approx(sorted(c['online']-c['before'] for c in done[1]['per_clip']))
    plt.close('all')

def test_shorter_clips_are_clips(path, tmp_path):
    r = quick(path, [first(people()[0], 1), people()[1]], tmp_path, SCENARIOS)
    assert r['rows'][0]['frames']==4
    assert np.load(tmp_path/'predictions'/f'{people()[0].name}.npz')['online_kp'].shape==(1,13,2)


# --- what is free

def test_every_scenario(path, tmp_path):
    r = quick(path, people(2), tmp_path, ALL)
    assert [x['scenario'] for x in r['rows']]==list(ALL)
    assert quick(path, people(2), tmp_path, ALL, resume=True)==r
    part = quick(path, people(2), tmp_path/'part', ('online mirrored',))
    assert [x['scenario'] for x in part['rows']]==['before', 'online mirrored']
    assert part['rows'][1]['pck']==r['rows'][4]['pck'], 'a scenario depends on what else was asked for'

def test_mirroring_on_top_is_compared_with_mirroring():
    hits = lambda n: (np.arange(4)[None]<n, np.ones((1,4), bool))
    four = replace(PENN13, name='four', joints=tuple('abcd'), pairs=(), limbs=(), torso=None)
    clip = {'before': hits(1), 'mirrored': hits(3), 'offline': hits(2), 'offline mirrored': hits(4)}
    rows = table_rows([clip]*2, four)
    assert [r['gain'] for r in rows]==[None, 50., 25., 25.]

def test_a_baseline_has_what_is_free(tmp_path):
    save_model(tiny_model('baseline'), tmp_path/'b.safetensors')
    r = quick(tmp_path/'b.safetensors', people(2), tmp_path/'out', ALL)
    assert [x['scenario'] for x in r['rows']]==['before', 'mirrored', 'statistics', 'views']

def test_names_that_no_file_may_have_are_gone_on_from_and_begun_anew(path, tmp_path, monkeypatch):
    "A clip's name becomes a file's in one place, whoever looks for the file."
    clips = [replace(p, name=name) for p,name in zip(people(2), ('cam:1', 'a b%'))]
    whole = quick(path, clips, tmp_path/'out')
    before = saved(tmp_path/'out')
    assert len(before)==2 and not any(c in stem for stem in before for c in ':')
    def refuse(*a, **kw): raise AssertionError('done before')
    monkeypatch.setattr(experiments, 'clip_scenarios', refuse)
    assert quick(path, clips, tmp_path/'out', resume=True)==whole
    monkeypatch.undo()
    assert quick(path, clips[:1], tmp_path/'out')['per_clip']==whole['per_clip'][:1]
    assert len(saved(tmp_path/'out'))==1, 'predictions of the evaluation that was replaced'

def test_the_authors_rules_know_no_more_scenarios(path):
    with pytest.raises(TTPError, match='mirrored'):
        list(run_clips(load_model(path), people(1), ('mirrored',), replace(FAST, authors_rules=True)))
