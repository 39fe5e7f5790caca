"""Runs: processes killed at any moment, resumed, and compared byte for byte with a run that nobody disturbed."""
import json, os, shutil, signal, subprocess, sys, threading, traceback
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest, torch
from safetensors.torch import load_file
from tqdm.auto import tqdm
from tiny import RECIPE, global_state, leftovers, no_joints, people, same_weights, tiny_model
from ttp_nb import runs, training
from ttp_nb.basics import TTPError
from ttp_nb.checkpoints import load_model, read_card
from ttp_nb.runs import TrainingRun, train_run
from ttp_nb.training import train_step, validate

KINDS = 'joint','baseline'
FILES = 'best.json','best.safetensors','last.json','last.safetensors','log.jsonl','state.pt'

def run(out, kind='joint', resume=False, cfg=RECIPE, n=4, model=None, **kw):
    "Three people to train on, one to choose on."
    clips = people(n)
    return train_run(model or tiny_model(kind), clips[:-1], clips[-1:], out, cfg, resume, progress=False, **kw)

@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    "Finished runs to compare with, made when first asked for."
    done = {}
    def get(kind='joint'):
        if kind not in done:
            done[kind] = tmp_path_factory.mktemp(kind)/'run'
            run(done[kind], kind)
        return done[kind]
    return get

def listing(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}

def assert_same_run(a, b):
    for f in ('last', 'best'):
        files = [x/f'{f}.safetensors' for x in (a, b)]
        assert same_weights(*map(load_file, files)) and files[0].read_bytes()==files[1].read_bytes(), f'{f} differs'
        assert json.loads((a/f'{f}.json').read_text())==json.loads((b/f'{f}.json').read_text())
    assert (a/'log.jsonl').read_text()==(b/'log.jsonl').read_text(), 'the logs differ'
    states = [torch.load(x/'state.pt', weights_only=True) for x in (a, b)]
    assert states[0]['step']==states[1]['step'] and states[0]['best']==states[1]['best']
    assert same_weights(states[0]['model'], states[1]['model'])
    for p,q in zip(states[0]['opt']['state'].values(), states[1]['opt']['state'].values(), strict=True):
        assert same_weights(p, q)


# --- killed

def child(out, kind, kill, resume):
    "Trains, says every step, and dies at the n-th file: half of it written, whole but unnamed, or just after."
    real,done,step = os.replace,0,train_step
    n,how = kill.split(':') if kill else (0, '')
    def replace(a, b):
        nonlocal done
        done += 1
        if done==int(n):
            if how=='half': os.truncate(a, os.path.getsize(a)//2)
            if how=='after': real(a, b)
            os.kill(os.getpid(), signal.SIGKILL)
        real(a, b)
    def say_step(*args):
        print('step', args[-1], flush=True)
        return step(*args)
    os.replace,training.train_step = replace,say_step
    run(out, kind, resume)
    print('finished', flush=True)

class Fresh:
    "`child` in a Python of its own."
    def __init__(self, *args):
        here = str(Path(__file__).parent)
        code = f'import sys; sys.path.insert(0, {here!r}); import test_runs as t; t.child(*{args!r})'
        self.p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True)
        self.line,self.kill = self.p.stdout.readline,self.p.kill
    def end(self): return self.p.communicate()[0],self.p.returncode

class Forked:
    "`child` in a copy of this process: spares the seconds that imports take."
    def __init__(self, *args):
        r,w = os.pipe()
        self.pid = os.fork()
        if not self.pid: self.run(r, w, args)
        os.close(w)
        self.out = os.fdopen(r)
        self.line = self.out.readline
    def run(self, r, w, args):
        code = 1
        try:
            os.close(r)
            sys.stdout = os.fdopen(w, 'w')
            tqdm.set_lock(threading.RLock())   # the copied one is shared: whoever dies holding it stops all others
            child(*args)
            code = 0
        except BaseException: traceback.print_exc(file=sys.stdout)
        finally: sys.stdout.flush(); os._exit(code)
    def kill(self): os.kill(self.pid, signal.SIGKILL)
    def end(self):
        with self.out: text = self.out.read()
        return text,os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

def start(out, kind, kill='', resume=True, fresh=sys.platform!='linux'):
    return (Fresh if fresh else Forked)(str(out), kind, kill, resume)

def die(p):
    text,code = p.end()
    assert code==-signal.SIGKILL, f'the process ended by itself ({code}): {text[-1500:]}'
    return text

def finish(p):
    text,code = p.end()
    assert code==0 and text.endswith('finished\n'), text[-1500:]
    return [int(line.split()[1]) for line in text.splitlines()[:-1]]

# A start writes the empty log; the first checkpoint best.safetensors, best.json and state.pt, in this order.
FIRST = {'joint': ['1:half', '1:after', '2:half', '2:before', '2:after', '3:half', '3:after', '4:half', '4:before'],
         'baseline': ['2:after']}

@pytest.mark.parametrize('kind', KINDS)
def test_killed_while_writing(kind, undisturbed, tmp_path):
    "Dies at every file of the first checkpoint, then at seeded ones of later checkpoints, then at the last weights."
    g,out = np.random.default_rng(KINDS.index(kind)),tmp_path/'run'
    for k in FIRST[kind]:
        die(start(out, kind, k))
        assert not (out/'state.pt').exists() and (out/'best.safetensors').exists()==(k=='2:after' or k>'3'), k
    for k in ('4:after', *(f"{g.integers(1, 4)}:{g.choice(['half', 'before', 'after'])}" for _ in range(2))):
        die(start(out, kind, k))
        torch.load(out/'state.pt', weights_only=True); load_file(out/'best.safetensors') # whole, wherever it died
    finish(start(out, kind))
    assert_same_run(out, undisturbed(kind))
    (out/'last.safetensors').unlink(); (out/'last.json').unlink()
    for k in ('2:half', '3:half'):
        die(start(out, kind, k)) # nothing left to train: the log, then the last weights and their card
    finish(start(out, kind))
    assert_same_run(out, undisturbed(kind))
    assert tuple(sorted(p.name for p in out.iterdir()))==FILES, f'left over: {leftovers(out)}'

def test_killed_between_any_two_steps(undisturbed, tmp_path):
    "The parent kills while the child computes, some steps after it has come back."
    g,out,reached = np.random.default_rng(7),tmp_path/'run',[]
    for k,wait in enumerate([3, *g.integers(5, 14, 4)]): # the first before there is any checkpoint
        p = start(out, 'joint', resume=k>0, fresh=True) # a copy may inherit a lock that a thread of ours holds
        for _ in range(wait): line = p.line()
        assert line.startswith('step'), line+p.end()[0][-1500:]
        p.kill(); die(p)
        reached.append(int(line.split()[1]))
        assert (out/'state.pt').exists()==(max(reached)>=RECIPE.every), reached
    assert reached[-1]>RECIPE.every, f'no kill came after a checkpoint: {reached}'
    steps = finish(start(out, 'joint', fresh=True))
    assert 0<steps[0]<=max(reached)+1 and steps[0]%RECIPE.every==0 and steps==list(range(steps[0], RECIPE.steps))
    assert_same_run(out, undisturbed())
    assert tuple(sorted(p.name for p in out.iterdir()))==FILES, f'left over: {leftovers(out)}'

@pytest.mark.parametrize('share', [0, .3, .99])
def test_killed_while_the_log_is_written(undisturbed, tmp_path, share):
    "The log is appended to, so its last line may be cut; lines after the last checkpoint are made anew."
    out = tmp_path/'run'
    run(out)
    state = torch.load(out/'state.pt', weights_only=True)
    with open(out/'log.jsonl', 'a') as f:
        line = json.dumps({'step': state['step']+1, 'lr': .1})
        f.write('{"step": 60, "valid_pck": 1}\n'+line[:int(share*len(line))])
    (out/'last.safetensors').unlink(); (out/'last.json').unlink()
    run(out, resume=True)
    assert_same_run(out, undisturbed())


# --- resumed

def test_a_run_in_two_halves(undisturbed, tmp_path):
    "Stopped by an exception, as Ctrl-C does, and gone on with in the same process."
    class Stop(Exception): pass
    class Stopping(list):
        "Frames that cannot be read any more after a while."
        left = 150
        def __getitem__(self, i):
            Stopping.left -= 1
            if not Stopping.left: raise Stop
            return super().__getitem__(i)
    clips,out = people(4),tmp_path/'run'
    unplugged = [replace(c, frames=Stopping(c.frames)) for c in clips[:-1]]
    with pytest.raises(Stop): train_run(tiny_model(), unplugged, clips[-1:], out, RECIPE, progress=False)
    assert (out/'state.pt').exists() and not (out/'last.safetensors').exists() and not leftovers(out)
    steps = torch.load(out/'state.pt', weights_only=True)['step']
    assert 0<steps<RECIPE.steps
    run(out, resume=True, model=tiny_model(seed=99)) # its weights are replaced
    assert_same_run(out, undisturbed())

def test_resuming_what_is_finished_or_never_began(undisturbed, tmp_path):
    out = tmp_path/'run'
    run(out, resume=True) # nothing there: from the start
    assert_same_run(out, undisturbed())
    was = listing(out)
    r = run(out, resume=True)
    assert r.step==RECIPE.steps and read_card(out/'best.safetensors')['best_valid_pck']==pytest.approx(r.best, abs=1e-3)
    now = listing(out)
    assert now.keys()==was.keys() and all(now[k]==was[k] for k in was if k!='state.pt')

@pytest.mark.parametrize('what,change', [
    *[('train', c) for c in (dict(lr=1e-3), dict(batch=4), dict(steps=60), dict(seed=1), dict(weight=.1),
                             dict(drops=(.5,)), dict(every=8))],
    *[('model', c) for c in (dict(keypoints=6), dict(dropout=.3), dict(shared=True))],
    ('kind', 'baseline'), ('people', 3)],
    ids=str)
def test_other_settings_are_refused(undisturbed, what, change):
    out = undisturbed()
    was = listing(out)
    kw = dict(train=lambda: dict(cfg=replace(RECIPE, **change)), model=lambda: dict(model=tiny_model(**change)),
              kind=lambda: dict(kind=change), people=lambda: dict(n=change))[what]()
    with pytest.raises(TTPError, match='other settings|another') as e: run(out, resume=True, **kw)
    assert str(out) in str(e.value) and '\n' not in str(e.value)
    assert listing(out)==was, 'the refused run changed the folder'

@pytest.mark.parametrize('resume', [False, True])
def test_a_folder_in_use_is_left_alone(undisturbed, tmp_path, resume):
    out = undisturbed()
    was = listing(out)
    if resume: return run(out, resume=True) and None # the right way
    with pytest.raises(TTPError, match='already holds a run.*--resume.*--out') as e: run(out)
    assert str(out) in str(e.value) and listing(out)==was

def break_state(path, how):
    whole = path.read_bytes()
    if isinstance(how, float): path.write_bytes(whole[:int(how*len(whole))])
    elif isinstance(how, bytes): path.write_bytes(how)
    elif how=='flipped': path.write_bytes(whole[:len(whole)//2]+b'broken'*20+whole[len(whole)//2+120:])
    elif how=='folder': path.unlink(); path.mkdir()
    else:
        state = torch.load(path, weights_only=True)
        torch.save(how(state), path)

def without(key): return lambda s: {k:v for k,v in s.items() if k!=key}

BROKEN = {'empty': 0., 'a tenth': .1, 'half': .5, 'nearly whole': .999, 'text': b'hello', 'zeros': b'\x00'*500,
          'flipped': 'flipped', 'folder': 'folder', 'list': lambda s: [1, 2], 'nothing': lambda s: {},
          'weights only': lambda s: s['model'], 'other model': lambda s: s | dict(model={'a': torch.zeros(2)}),
          'other opt': lambda s: s | dict(opt={}), 'None for a model': lambda s: s | dict(model=None),
          **{f'no {k}': without(k) for k in ('model', 'opt', 'step', 'best', 'settings')}}

@pytest.mark.parametrize('how', BROKEN.values(), ids=BROKEN)
def test_a_broken_state_is_said(undisturbed, tmp_path, how):
    out = tmp_path/'run'
    shutil.copytree(undisturbed('baseline'), out)
    break_state(out/'state.pt', how)
    was = listing(out)
    with pytest.raises(TTPError) as e: run(out, 'baseline', resume=True)
    text = str(e.value)
    assert str(out/'state.pt') in text and 'train anew' in text and '\n' not in text
    assert listing(out)==was, 'the refused run changed the folder'

def test_a_state_is_not_unpickled(undisturbed, tmp_path):
    out = tmp_path/'run'
    shutil.copytree(undisturbed('baseline'), out)
    class Bomb:
        def __reduce__(self): return (Path.touch, (tmp_path/'bang',))
    torch.save({'settings': Bomb()}, out/'state.pt')
    with pytest.raises(TTPError, match='state.pt'): run(out, 'baseline', resume=True)
    assert not (tmp_path/'bang').exists()

@pytest.mark.parametrize('text', [None, 'hello\n', '{"a": 1}\n', '[]\n', '{"step": "x"}\n', b'\xff\xfe\n'], ids=repr)
def test_a_log_that_is_none(undisturbed, tmp_path, text):
    "The state decides; a log that was lost or spoilt is told or begun anew, not a crash."
    out = tmp_path/'run'
    shutil.copytree(undisturbed('baseline'), out)
    log = out/'log.jsonl'
    log.unlink()
    if text is not None: log.write_bytes(text if isinstance(text, bytes) else text.encode())
    try: run(out, 'baseline', resume=True)
    except TTPError as e: assert str(log) in str(e)
    else: assert all('step' in json.loads(line) for line in log.read_text().splitlines())

def test_folders_where_nothing_can_be_written(tmp_path):
    (tmp_path/'file').write_text('x')
    for out in ('/dev/null/x', tmp_path/'file', tmp_path/'file'/'run'):
        with pytest.raises(TTPError, match='cannot be written.*folder') as e: run(out)
        assert str(out) in str(e.value)
    assert (tmp_path/'file').read_text()=='x'

def test_a_disk_that_fills_up(undisturbed, tmp_path):
    "A limit on the size of files stands for it. The message is a line, and after room is made the run goes on."
    out = tmp_path/'run'
    code = f'''
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_runs as t
from ttp_nb.basics import TTPError
resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000)) # the weights fit, the optimiser's state does not
try: t.run({str(out)!r})
except TTPError as e: print(e)'''
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert not leftovers(out) and not (out/'state.pt').exists() and (out/'best.safetensors').exists()
    run(out, resume=True)
    assert_same_run(out, undisturbed())
    assert r.returncode==0 and 'state.pt cannot be written' in r.stdout and r.stdout.count('\n')==1, r.stderr[-500:]


# --- the numbers depend on the recipe and on nothing else

@pytest.mark.parametrize('kind', KINDS)
def test_the_seed_decides(kind, undisturbed, tmp_path):
    np.random.seed(5); torch.manual_seed(5)
    run(tmp_path/'again', kind)
    assert_same_run(tmp_path/'again', undisturbed(kind))
    run(tmp_path/'other', kind, cfg=replace(RECIPE, seed=1))
    assert not same_weights(load_file(tmp_path/'other'/'last.safetensors'),
                            load_file(undisturbed(kind)/'last.safetensors'))

def test_workers_change_nothing(undisturbed, tmp_path):
    run(tmp_path/'run', workers=2)
    assert_same_run(tmp_path/'run', undisturbed())

@pytest.mark.parametrize('workers', [0, 1])
def test_the_callers_random_state_is_left_alone(workers, tmp_path):
    clips,short = people(3),replace(RECIPE, steps=3, every=2)
    was = global_state()
    train_run(tiny_model(), clips[:2], clips[2:], tmp_path/'run', short, progress=False, workers=workers)
    run(tmp_path/'run', cfg=short, resume=True, n=3)
    assert global_state()==was

def test_a_run_is_the_loop_with_a_folder(undisturbed):
    "`train` alone comes to the weights of `train_run`: what is done between its steps leaves no trace in them."
    for kind in KINDS:
        m = tiny_model(kind)
        for losses in training.train(m, people(4)[:-1], RECIPE): assert all(np.isfinite(v) for v in losses.values())
        saved = load_file(undisturbed(kind)/'last.safetensors')
        assert same_weights({k: v.contiguous() for k,v in m.state_dict().items()}, saved)

def test_the_log_and_the_cards(undisturbed):
    for kind in KINDS:
        out = undisturbed(kind)
        log = [json.loads(line) for line in (out/'log.jsonl').read_text().splitlines()]
        valid = {e['step']: e['valid_pck'] for e in log if 'valid_pck' in e}
        assert list(valid)==[9,18,27,36,45,52] and [e['step'] for e in log]==sorted(e['step'] for e in log)
        (losses,) = [e for e in log if 'lr' in e]
        assert losses['step']==50
        assert losses.keys()-{'step','lr','supervised'}==({'self_supervised'} if kind=='joint' else set())
        assert losses['lr']==pytest.approx(RECIPE.lr/100)
        best,last = read_card(out/'best.safetensors'),read_card(out/'last.safetensors')
        assert best['best_valid_pck']==max(valid.values())
        assert best['step']==min(s for s,v in valid.items() if v==best['best_valid_pck'])
        assert last['step']==52 and last['best_valid_pck']==best['best_valid_pck']
        assert last['curve']==[list(e) for e in valid.items()] and last['kind']==best['kind']==kind
        assert last['training']['seed']==RECIPE.seed
        m,clip = load_model(out/'best.safetensors'),people(4)[-1]
        assert validate(m, [clip])==pytest.approx(best['best_valid_pck'], abs=1e-3), 'the card says otherwise'

def test_the_first_of_equals_is_the_best(tmp_path, monkeypatch):
    scores = iter([3., 7., 7., 5.])
    monkeypatch.setattr(runs, 'validate', lambda model, clips: next(scores))
    r = run(tmp_path/'run', cfg=replace(RECIPE, steps=4, every=1), n=2)
    assert r.best==7. and read_card(tmp_path/'run'/'best.safetensors')['step']==2
    assert read_card(tmp_path/'run'/'last.safetensors')['step']==4

def test_cards_carry_what_they_are_told(tmp_path):
    run(tmp_path/'run', cfg=replace(RECIPE, steps=2, every=1), n=2, command='ttp train', data='drawn')
    for f in ('best', 'last'):
        assert read_card(tmp_path/'run'/f'{f}.safetensors').items()>={'command': 'ttp train', 'data': 'drawn'}.items()


# --- what a run may begin with

@pytest.mark.parametrize('empty', ['clips', 'valid', 'clips without joints', 'valid without joints',
                                   'valid without visible joints'])
def test_people_are_needed(tmp_path, empty):
    "Said at once, not at the first checkpoint."
    a,b = people(2)
    hidden = replace(b, joints=np.full_like(b.joints, np.nan), vis=np.zeros_like(b.vis))
    clips,valid = {'clips': ([], [b]), 'valid': ([a], []), 'clips without joints': ([no_joints(a)], [b]),
                   'valid without joints': ([a], [no_joints(b)]),
                   'valid without visible joints': ([a], [hidden])}[empty]
    with pytest.raises(TTPError):
        train_run(tiny_model(), clips, valid, tmp_path/'run', replace(RECIPE, steps=4, every=2), progress=False)
    assert not (tmp_path/'run'/'best.safetensors').exists() and not (tmp_path/'run'/'state.pt').exists()

def test_a_run_knows_its_settings(tmp_path):
    some = [TrainingRun(tiny_model(), RECIPE, tmp_path, {}),
            TrainingRun(tiny_model(seed=4), RECIPE, str(tmp_path), {'command': 'x'}),
            TrainingRun(tiny_model(), replace(RECIPE, seed=2), tmp_path, {}),
            TrainingRun(tiny_model(keypoints=6), RECIPE, tmp_path, {})]
    s = [r.settings for r in some]
    assert s[0]==s[1] and len(set(s))==3 and not list(tmp_path.iterdir())
