"""Rough treatment: killed at any moment, no room, damaged files, one person after another, two runs at once.

A process of its own, with everything imported, makes a copy of itself for each run. The copy counts every call of a
function, in Python or in C, and is killed at the one that was drawn: moments do not depend on how fast a machine is.
TTP_KILLS says how many kills a kind gets; few by default, so that all of it takes a minute or two.
"""
import json, os, random, shutil, signal, subprocess, sys, threading, traceback
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest, torch
from tqdm.auto import tqdm
from tiny import RECIPE, global_state, noise_clip, people, person, tiny_model, used_model, weights
from ttp_nb import your_video
from ttp_nb.basics import TTPError, read_tensors, sealed
from ttp_nb.outside_files import file_arrays
from ttp_nb.run_folders import lock_owner, run_lock
from ttp_nb.checkpoints import (apply_profile, load_model, read_card, read_state, save_model, save_profile)
from ttp_nb.experiments import evaluate
from ttp_nb.guard import GuardConfig, guarded
from ttp_nb.official_weights import load_any_model
from ttp_nb.personalization import TTPConfig
from ttp_nb.runs import check_free, train_run
from ttp_nb.video import write_mp4
from ttp_nb.your_video import VideoJob, personalize_video

KILLS = int(os.environ.get('TTP_KILLS', 5))
FAST = TTPConfig(batch=3, lr=1e-3)
CALM = replace(FAST, lr=1e-4) # offline: the guard keeps what comes of it, so there is something to be interrupted
SHORT = replace(RECIPE, steps=24)
WATCH = GuardConfig(apart=4, every=4)
BOX = '15,8,60,52'
NOTE = 'one box for all 12 frames: it must hold the person throughout' # said by each run, damage or not
KINDS = 'training', 'online', 'offline'
needs_fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='copies of a process are needed')


# --- the runs

def train(out, resume=False, n=4, **kw):
    clips = people(n)
    return train_run(tiny_model(), clips[:-1], clips[-1:], out, SHORT, resume, progress=False, **kw)

def video_job(out, mode, **changes):
    d = Path(os.environ['TTP_ROUGH'])
    cfg = CALM if mode=='offline' else FAST
    how = dict(source=d/'a.mp4', model=d/'m.safetensors', box=BOX, cfg=cfg, watch=WATCH, exports=('coco',))
    return VideoJob(out=out, mode=mode, **how | changes)

def personalize(out, mode, resume=False, say=lambda line: None, **changes):
    def heard(line):
        if line!=NOTE: say(line)
    return personalize_video(video_job(out, mode, **changes), resume, heard, progress=False)

def short_story(result, story, frames, path, raw=None):
    "Instead of the report, which takes a second and has tests of its own, what it would be given."
    Path(path).write_text(json.dumps(story))

def plain(monkeypatch):
    "A state every four frames, and no pictures."
    def no_pictures(result, video, path, *args, **kw): Path(path).write_text(f'{len(video)} frames')
    for name,what in (('SAVE', 4), ('CHUNK', 4), ('write_report', short_story), ('write_overlay', no_pictures)):
        monkeypatch.setattr(your_video, name, what)

def run(kind, out, resume):
    if kind=='training': return train(out, resume)
    if kind=='evaluation':
        return evaluate(Path(os.environ['TTP_ROUGH'])/'m.safetensors', people(3, 'test', 4), out, cfg=FAST,
                        progress=False, resume=resume)
    return personalize(out, kind, resume)

def files(out): return {str(p.relative_to(out)): p.read_bytes() for p in sorted(Path(out).rglob('*')) if p.is_file()}

def assert_same(now, was):
    "To the byte; a training state has its own order of bytes, so what is in it is compared."
    assert now.keys()==was.keys()
    other = [k for k in was if now[k]!=was[k] and not k.endswith('.pt')]
    assert not other, other


# --- in a copy of the process

def after_calls(k, act):
    "Counts calls; at the k-th something happens."
    n = 0
    def count(frame, event, arg):
        nonlocal n
        if event!='call' and event!='c_call': return
        n += 1
        if n==k: sys.setprofile(None); act()
    return count, lambda: n

def copied(kind, out, resume=False, moment=0, act='die', limit=0, uid=0):
    "What the copy does: a run, and at a moment something else."
    def die(): os.kill(os.getpid(), signal.SIGKILL)
    def gone(): shutil.rmtree(out, ignore_errors=True)
    def wait():
        Path(f'{out}.waits').write_text('')
        threading.Event().wait(600)
    your_video.SAVE = your_video.CHUNK = 4
    your_video.write_report = short_story
    if limit:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if uid: os.setgroups([]); os.setgid(uid); os.setuid(uid)
    count,calls = after_calls(moment, dict(die=die, gone=gone, wait=wait, count=lambda: None)[act])
    if moment or act=='count': sys.setprofile(count)
    try: run(kind, Path(out), resume)
    finally: sys.setprofile(None)
    return calls()

def serve():
    "A line of json for each run; answers with its exit code, its calls and the error it ended in."
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock()) # tqdm's own is shared by all copies: whoever dies holding it stops the others
    torch.optim.Adam([torch.zeros(1, requires_grad=True)]) # imports a thousand modules
    load_any_model(Path(os.environ['TTP_ROUGH'])/'m.safetensors') # imports what somebody else may not read
    people(4); people(3, 'test', 4)
    print('ready', flush=True)
    for line in sys.stdin:
        r,w = os.pipe()
        pid = os.fork()
        if not pid:
            code,said = 99,''
            os.dup2(2, 1); os.close(r)
            try: code,said = 0,copied(**json.loads(line))
            except TTPError as e: code,said = 2,str(e)
            except BaseException: said = traceback.format_exc()
            os.write(w, json.dumps(said)[-20000:].encode())
            os._exit(code)
        os.close(w)
        if json.loads(line).get('act')=='wait': print(json.dumps([pid, '']), flush=True); os.close(r); continue
        with os.fdopen(r) as f: said = f.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([code, said and json.loads(said)]), flush=True)

@pytest.fixture(scope='module')
def d(tmp_path_factory):
    d = tmp_path_factory.mktemp('rough')
    os.environ['TTP_ROUGH'] = str(d)
    write_mp4(d/'a.mp4', noise_clip(T=12, size=(80,64)).frames[:,:60], 25)
    write_mp4(d/'b.mp4', noise_clip(T=12, size=(80,64), seed=1).frames[:,:60], 25)
    save_model(used_model(), d/'m.safetensors')
    yield d
    del os.environ['TTP_ROUGH']

@pytest.fixture(scope='module')
def copy(d):
    "Runs in a copy of a process that has imported everything: (exit code, calls or error)."
    here = str(Path(__file__).parent)
    code = f'import sys; sys.path.insert(0, {here!r}); import test_rough_treatment as t; t.serve()'
    with open(d/'said', 'w') as said:
        p = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                             text=True, env=os.environ | {'OMP_NUM_THREADS': '1'})
    assert p.stdout.readline()=='ready\n', (d/'said').read_text()[-2000:]
    def run(kind, out, **kw):
        p.stdin.write(json.dumps(dict(kind=kind, out=str(out), **kw))+'\n'); p.stdin.flush()
        return json.loads(p.stdout.readline())
    yield run
    p.stdin.close(); p.wait(60); p.stdout.close()

@pytest.fixture(scope='module')
def whole(copy, tmp_path_factory):
    "Files and number of calls of an undisturbed run of each kind, all into a folder of the same name."
    done = {}
    def get(kind):
        if kind not in done:
            out = tmp_path_factory.mktemp(kind)/'out'
            code,calls = copy(kind, out, act='count')
            assert code==0, calls
            done[kind] = files(out),calls
        return done[kind]
    return get


# --- killed

@needs_fork
@pytest.mark.parametrize('kind', KINDS)
def test_killed_at_any_moment(copy, whole, tmp_path, kind):
    "Killed once or twice, at any call, and gone on with: the same files, and nothing beside them."
    was,calls = whole(kind)
    g,killed = np.random.default_rng(KINDS.index(kind)),0
    for i in range(KILLS):
        out = tmp_path/'out'
        for resume in (False, True)[:1+i%2]:
            code,said = copy(kind, out, resume=resume, moment=int(g.integers(1, calls)))
            assert code in (-signal.SIGKILL, 0), said
            killed += code==-signal.SIGKILL
        code,said = copy(kind, out, resume=True)
        assert code==0, said
        assert_same(files(out), was)
        shutil.rmtree(out)
    assert killed>=.7*KILLS


# --- no room, no right, no folder

@needs_fork
@pytest.mark.parametrize('kind', KINDS)
def test_a_full_disk(copy, whole, tmp_path, kind):
    "A limit on the size of files stands for it: one line says so, and with room again the run goes on."
    was,_ = whole(kind)
    largest,ends = max(map(len, was.values())),set()
    for share in (1e-4, .02, .3, .9):
        out = tmp_path/'out'
        code,said = copy(kind, out, limit=max(1, int(share*largest)))
        assert code==2 and 'cannot be written' in said and '\n' not in said, said
        ends.add(said)
        left = [k for k in files(out) if k.endswith('.part') or k.endswith('.lock')] if out.exists() else []
        assert not left, left
        code,said = copy(kind, out, resume=True)
        assert code==0, said
        assert_same(files(out), was)
        shutil.rmtree(out)
    assert len(ends)>1

@needs_fork
@pytest.mark.parametrize('kind', KINDS)
def test_a_folder_that_is_gone(copy, whole, tmp_path, kind):
    "Somebody removes it while a run is at work: the run does not end as if all were well."
    was,calls = whole(kind)
    g,failed = np.random.default_rng(3),0
    for moment in g.integers(calls//10, calls, 4):
        out = tmp_path/'out'
        code,said = copy(kind, out, moment=int(moment), act='gone')
        assert code==2 and '\n' not in said or code==0 and files(out).keys()==was.keys(), said
        failed += code==2
        shutil.rmtree(out, ignore_errors=True)
        assert copy(kind, out, resume=True)[0]==0
        assert_same(files(out), was)
        shutil.rmtree(out)
    assert failed

@needs_fork
@pytest.mark.parametrize('kind', KINDS)
def test_a_folder_that_may_not_be_written(copy, d, tmp_path, kind):
    (tmp_path/'out').mkdir(); (tmp_path/'out').chmod(0o555)
    if os.geteuid()==0:
        for p in (tmp_path, *tmp_path.parents, d): # root may write anywhere: the copy is somebody else
            if p.stat().st_mode & 0o5!=0o5: p.chmod(p.stat().st_mode | 0o5)
    code,said = copy(kind, tmp_path/'out', uid=65534 if os.geteuid()==0 else 0)
    assert code==2 and 'cannot be written' in said and '\n' not in said, said
    assert not list((tmp_path/'out').iterdir())


# --- damaged

def damaged(data, g, foreign=b'{"kind": "joint"}\n'):
    "The bytes with something done to them, and what it was."
    data,how = bytearray(data),g.choice(['bit', 'bit', 'bit', 'cut', 'zeros', 'noise', 'foreign', 'empty'],
                                        p=[.2, .2, .2, .12, .1, .1, .04, .04])
    at = int(g.integers(len(data)))
    if how=='bit': data[at] ^= 1<<int(g.integers(8))
    if how=='cut': data = data[:at]
    if how=='zeros': data[at:at+int(g.integers(1, 200))] = bytes(len(data[at:at+200]))
    if how=='noise': data[at:at+64] = g.bytes(len(data[at:at+64]))
    if how=='foreign': data = foreign
    if how=='empty': data = b''
    return bytes(data),f'{how} at {at}'

def one_line(e, *names):
    text = str(e.value if hasattr(e, 'value') else e)
    assert '\n' not in text and any(str(n) in text for n in names), text

def meaning(path):
    "What a file says, spaces and line ends apart; None where it is no json."
    try: return json.dumps(json.loads(path.read_text('utf-8')), sort_keys=True)
    except ValueError: return None

def test_damaged_weights_cards_and_profiles(tmp_path, d):
    "Refused in a line, or the same network to the bit."
    model = load_model(d/'m.safetensors')
    adapted = guarded(model, person(0), cfg=FAST, watch=GuardConfig(apart=0)).run.model
    save_profile(tmp_path/'p.safetensors', model, adapted)
    shutil.copy(d/'m.safetensors', tmp_path/'m.safetensors'); shutil.copy(d/'m.json', tmp_path/'m.json')
    readers = {'m': load_model, 'p': lambda path: apply_profile(model, path)}
    g,refused,same = np.random.default_rng(0),0,0
    for name,read in readers.items():
        good = weights(read(tmp_path/f'{name}.safetensors'))
        for ending in ('safetensors', 'json'):
            path = tmp_path/f'{name}.{ending}'
            data,meant = path.read_bytes(),meaning(path) if ending=='json' else None
            for _ in range(60):
                wrong,how = damaged(data, g)
                path.write_bytes(wrong)
                try: now = weights(read(tmp_path/f'{name}.safetensors'))
                except TTPError as e:
                    one_line(e, tmp_path/f'{name}.safetensors', tmp_path/f'{name}.json')
                    refused += 1
                else:
                    assert wrong==data or meant is not None and meaning(path)==meant, how
                    assert all(torch.equal(now[k], v) for k,v in good.items()), how
                    same += 1
            path.write_bytes(data)
    assert refused+same==240 and refused>200

def test_weights_that_are_not_numbers(tmp_path):
    "They are refused even where every checksum fits."
    for value in (float('nan'), float('inf')):
        m = tiny_model()
        with torch.no_grad(): m.head.weight[0,0] = value
        save_model(m, tmp_path/'m.safetensors')
        for read in (load_model, load_any_model, read_tensors):
            with pytest.raises(TTPError, match='m.safetensors holds weights that are not finite'):
                read(tmp_path/'m.safetensors')

@pytest.mark.parametrize('change', [
    dict(layers=10_000_000), dict(size=[2**20, 2**20]), dict(width=2**14), dict(keypoints=2**30), dict(convs=10**7),
    dict(filters=[64]*10**5), dict(heads=-10**9), dict(sigma=float('nan')), dict(width=8192, depth=152),
    dict(skeleton=dict(name='a', joints=[f'j{i}' for i in range(3000)]))], ids=lambda c: next(iter(c)))
def test_a_card_of_something_huge(tmp_path, change):
    "Refused before anything is made of it, whether its checksum fits or it has none."
    save_model(tiny_model(), tmp_path/'m.safetensors')
    card = read_card(tmp_path/'m.safetensors')
    card['config'] |= change
    for entries in (sealed(card), {k: v for k,v in card.items() if k not in ('seal', 'sha256')}):
        (tmp_path/'m.json').write_text(json.dumps(entries))
        with pytest.raises(TTPError) as e: load_model(tmp_path/'m.safetensors')
        one_line(e, tmp_path/'m.json', tmp_path/'m.safetensors')

def test_files_that_promise_too_much(tmp_path):
    import io, zipfile
    save_model(tiny_model(), tmp_path/'m.safetensors')
    for text in ('['*10**6, '{"a":'*10**6, '"'+'x'*10**7+'"', '1'*10**6):
        (tmp_path/'m.json').write_text(text)
        with pytest.raises(TTPError) as e: load_model(tmp_path/'m.safetensors')
        one_line(e, tmp_path/'m.json')
    data = io.BytesIO()
    np.save(data, np.zeros(4))
    big = data.getvalue().replace(b"(4,), }         ", b"(1000000000,), }") # eight gigabytes in a header
    assert len(big)==len(data.getvalue()) and big!=data.getvalue()
    for what in (big, bytes(2**29)):
        with zipfile.ZipFile(tmp_path/'a.npz', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('kp.npy', what)
        with pytest.raises(TTPError) as e: file_arrays(tmp_path/'a.npz')
        one_line(e, tmp_path/'a.npz')
    np.savez(tmp_path/'a.npz', kp=np.array([{}], object))
    with pytest.raises(TTPError): file_arrays(tmp_path/'a.npz')
    with zipfile.ZipFile(tmp_path/'s.pt', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('archive/data.pkl', bytes(10**8))
    with pytest.raises(TTPError, match='s.pt'): read_state(tmp_path/'s.pt')

@pytest.fixture(scope='module')
def interrupted(d, tmp_path_factory):
    "For each way to go through a video: the finished files, and a folder in which a run was stopped half way."
    class Enough(BaseException): pass
    made = {}
    def get(mode):
        if mode in made: return made[mode]
        home,calls = tmp_path_factory.mktemp(mode),[]
        with pytest.MonkeyPatch.context() as m:
            plain(m)
            personalize(home/'out', mode)
            good = files(home/'out')
            shutil.rmtree(home/'out')
            answer = your_video.Task.answer
            def enough(self, *a):
                calls.append(0)
                if len(calls)==(5 if mode=='offline' else 17): raise Enough # offline while the adapted network answers
                return answer(self, *a)
            m.setattr(your_video.Task, 'answer', enough)
            with pytest.raises(Enough): personalize(home/'out', mode)
        shutil.move(home/'out', home/'stopped')
        made[mode] = good,home/'stopped',home/'out'
        return made[mode]
    return get

@pytest.mark.parametrize('mode', ['online', 'offline'])
def test_damaged_work(interrupted, monkeypatch, d, mode):
    "Each file of an interrupted run, damaged: refused, or set aside and said, and the same results come out."
    good,stopped,out = interrupted(mode)
    plain(monkeypatch)
    names = sorted(p.name for p in (stopped/'.work').iterdir())
    assert names==['after.jsonl', 'before.jsonl', 'boxes.json', 'job.json', 'state.pt']
    g,counts = np.random.default_rng(5),dict(said=0, silent=0)
    for name in names*4:
        shutil.rmtree(out, ignore_errors=True); shutil.copytree(stopped, out)
        path,lines = out/'.work'/name,[]
        wrong,how = damaged(path.read_bytes(), g, foreign=b'[[[1.0, 2.0, 3.0]]]\n')
        path.write_bytes(wrong)
        personalize(out, mode, resume=True, say=lines.append)
        now = files(out)
        aside = [k for k in now if '.damaged' in k]
        assert bool(aside)==bool(lines), (name, how, lines)
        assert all('\n' not in line for line in lines)
        assert {k: v for k,v in now.items() if k not in aside}==good, (name, how, lines)
        counts['said' if lines else 'silent'] += 1
    assert counts['said']>8, counts

def test_work_of_another_run(interrupted, monkeypatch, d, tmp_path):
    "Files of another job under the names of this one, and lines exchanged, are not taken for this one's."
    good,stopped,out = interrupted('online')
    plain(monkeypatch)
    class Enough(BaseException): pass
    answer,calls = your_video.Task.answer,[]
    def enough(self, *a):
        calls.append(0)
        if len(calls)==17: raise Enough
        return answer(self, *a)
    with monkeypatch.context() as m:
        m.setattr(your_video.Task, 'answer', enough)
        with pytest.raises(Enough): personalize(tmp_path/'other', 'online', cfg=replace(FAST, seed=1))
    for name in ('after.jsonl', 'before.jsonl', 'boxes.json', 'state.pt', 'job.json'):
        shutil.rmtree(out, ignore_errors=True); shutil.copytree(stopped, out)
        shutil.copy(tmp_path/'other'/'.work'/name, out/'.work'/name)
        lines = []
        if name=='job.json':
            with pytest.raises(TTPError, match='another video, model or'): personalize(out, 'online', resume=True)
            continue
        personalize(out, 'online', resume=True, say=lines.append)
        now = files(out)
        assert lines and {k: v for k,v in now.items() if '.damaged' not in k}==good, name
    for swap in ((0, 1), (7, 2)):
        shutil.rmtree(out, ignore_errors=True); shutil.copytree(stopped, out)
        path,lines = out/'.work'/'after.jsonl',[]
        rows = path.read_bytes().split(b'\n')
        rows[swap[0]],rows[swap[1]] = rows[swap[1]],rows[swap[0]]
        path.write_bytes(b'\n'.join(rows))
        personalize(out, 'online', resume=True, say=lines.append)
        assert lines and {k: v for k,v in files(out).items() if '.damaged' not in k}==good

@pytest.fixture(scope='module')
def half_trained(tmp_path_factory):
    "The files of a finished training, and a folder in which one was stopped."
    class Stop(Exception): pass
    class Stopping(list):
        left = 120
        def __getitem__(self, i):
            Stopping.left -= 1
            if not Stopping.left: raise Stop
            return super().__getitem__(i)
    home = tmp_path_factory.mktemp('trained')
    train(home/'out')
    good = files(home/'out')
    clips = people(4)
    unplugged = [replace(c, frames=Stopping(c.frames)) for c in clips[:-1]]
    with pytest.raises(Stop):
        train_run(tiny_model(), unplugged, clips[-1:], home/'stopped', SHORT, progress=False)
    assert (home/'stopped'/'state.pt').is_file() and not (home/'stopped'/'last.json').exists()
    return good,home/'stopped'

def test_a_damaged_training(half_trained, tmp_path):
    "State or log: refused in a line and left as it is, or the same weights come out."
    good,stopped = half_trained
    g,refused,said = np.random.default_rng(6),0,[]
    for name in ['state.pt']*14+['log.jsonl']*6:
        out = tmp_path/'out'
        shutil.rmtree(out, ignore_errors=True); shutil.copytree(stopped, out)
        wrong,how = damaged((out/name).read_bytes(), g)
        (out/name).write_bytes(wrong)
        was = files(out)
        try: train(out, resume=True, say=said.append)
        except TTPError as e:
            one_line(e, out/'state.pt')
            assert files(out)==was, how
            refused += 1
            continue
        now = files(out)
        for k in ('best.safetensors', 'last.safetensors'): assert now[k]==good[k], (name, how)
        assert name=='state.pt' or any('.damaged' in k for k in now) or now['log.jsonl']==good['log.jsonl'], how
    assert refused>7 and said and all('log.jsonl' in line for line in said)

def test_a_damaged_evaluation(d, tmp_path):
    "Its table or its predictions: set aside and said, and the same numbers come out."
    clips,out = people(3, 'test', 4),tmp_path/'out'
    go = lambda **kw: evaluate(d/'m.safetensors', clips, out, cfg=FAST, progress=False, **kw)
    result,good = go(),files(out)
    g,lines = np.random.default_rng(7),[]
    for name in ['results.json', f'predictions/{clips[1].name}.npz']*6:
        wrong,how = damaged((out/name).read_bytes(), g)
        (out/name).write_bytes(wrong)
        assert go(resume=True, say=lines.append)==result, (name, how)
        now = {k: v for k,v in files(out).items() if '.damaged' not in k}
        assert now.keys()==good.keys(), (name, how)
        assert json.loads(now['results.json'])==json.loads(good['results.json']), (name, how)
        for p in out.rglob('*.damaged*'): p.unlink()
        for k,v in good.items(): (out/k).write_bytes(v)
    assert len(lines)>6
    shutil.copy(out/f'predictions/{clips[0].name}.npz', out/f'predictions/{clips[2].name}.npz') # another clip's
    assert go(resume=True, say=lines.append)==result and clips[2].name in lines[-1]


# --- whose results

@pytest.mark.parametrize('resume', [False, True])
def test_a_folder_belongs_to_its_video(d, tmp_path, monkeypatch, resume):
    "Two cameras, one file name; and one file exchanged under its name. Moved or renamed, a video is the same."
    plain(monkeypatch)
    for cam in ('cam1', 'cam2'): (tmp_path/cam).mkdir()
    source,out = tmp_path/'cam1'/'clip.mp4',tmp_path/'out'
    shutil.copy(d/'a.mp4', source); shutil.copy(d/'b.mp4', tmp_path/'cam2'/'clip.mp4')
    personalize(out, 'none', source=source)
    was = files(out)
    with pytest.raises(TTPError, match='another video.*choose another --out'):
        personalize(out, 'none', resume, source=tmp_path/'cam2'/'clip.mp4')
    shutil.copy(d/'b.mp4', source)
    with pytest.raises(TTPError, match='another video.*another --out'): personalize(out, 'none', resume, source=source)
    assert files(out)==was
    shutil.copy(d/'a.mp4', tmp_path/'moved.mp4')
    personalize(out, 'none', resume, source=tmp_path/'moved.mp4')

@pytest.mark.parametrize('resume', [False, True])
def test_an_interrupted_run_belongs_to_its_video(interrupted, d, tmp_path, resume):
    _,stopped,_ = interrupted('online')
    shutil.copytree(stopped, tmp_path/'out')
    was = files(tmp_path/'out')
    with pytest.raises(TTPError, match='another video'): personalize(tmp_path/'out', 'online', resume, source=d/'b.mp4')
    assert files(tmp_path/'out')==was

def test_a_folder_of_images_is_known_by_them(tmp_path):
    import cv2
    checksums = []
    for change in ('', 'pixel', 'name', 'note'):
        shutil.rmtree(tmp_path/'f', ignore_errors=True); (tmp_path/'f').mkdir()
        for i in range(3):
            image = np.full((8,8,3), i+9*(change=='pixel'), np.uint8)
            cv2.imwrite(str(tmp_path/'f'/f'{i+(change=="name")}.png'), image)
        if change=='note': (tmp_path/'f'/'note.txt').write_text('x')
        checksums.append(your_video.content_checksum(tmp_path/'f'))
    assert len(set(checksums))==3 and checksums[0]==checksums[3]

def test_stale_exports_go(d, tmp_path, monkeypatch):
    "What was exported of the result that is replaced goes; what is not ours stays."
    plain(monkeypatch)
    out = tmp_path/'out'
    out.mkdir(); (out/'openpose').mkdir(); (out/'openpose'/'mine').write_text('x')
    personalize(out, 'none', exports=('coco', 'dlc'))
    assert {'coco.json', 'deeplabcut.csv', 'openpose'}<={p.name for p in out.iterdir()}
    personalize(out, 'none', exports=('coco',))
    names = {p.name for p in out.iterdir()}
    assert 'coco.json' in names and 'deeplabcut.csv' not in names and (out/'openpose'/'mine').is_file()

def test_a_keypoints_json_that_cannot_be_read_is_set_aside(d, tmp_path, monkeypatch):
    plain(monkeypatch)
    out = tmp_path/'out'
    for resume in (True, False):
        personalize(out, 'none', resume)
        (out/'keypoints.json').write_text('{"mine": 1')
        lines = []
        personalize(out, 'none', resume, say=lines.append)
        assert lines and 'damaged' in lines[0]
    assert {'keypoints.json.damaged', 'keypoints.json.damaged2'}<={p.name for p in out.iterdir()}

def test_other_people_of_the_same_names_are_not_trained_on(half_trained, tmp_path):
    good,stopped = half_trained
    clips,cfg = people(4),SHORT
    moved = [replace(clips[0], joints=clips[0].joints+1), *clips[1:]]
    seen = [replace(clips[0], frames=255-clips[0].frames), *clips[1:]]
    for other in (moved, seen):
        shutil.rmtree(tmp_path/'out', ignore_errors=True); shutil.copytree(stopped, tmp_path/'out')
        with pytest.raises(TTPError, match='other settings or people'):
            train_run(tiny_model(), other[:-1], other[-1:], tmp_path/'out', cfg, True, progress=False)

def test_other_people_of_the_same_names_are_not_evaluated(d, tmp_path):
    clips = people(2, 'test', 4)
    go = lambda clips,**kw: evaluate(d/'m.safetensors', clips, tmp_path, ('before',), FAST, progress=False, **kw)
    go(clips)
    was = files(tmp_path)
    for other in ([replace(c, joints=c.joints+1) for c in clips], [replace(c, frames=255-c.frames) for c in clips]):
        for resume in (False, True):
            with pytest.raises(TTPError, match='other clips: choose another --out'): go(other, resume=resume)
    assert files(tmp_path)==was
    go(clips[:1])
    assert sorted(files(tmp_path))==[f'predictions/{clips[0].name}.npz', 'results.json'] # nothing stale beside it


# --- one person after another

@pytest.mark.parametrize('mode', ['online', 'offline'])
def test_one_person_leaves_no_trace_in_the_next(mode):
    "Neither in the trained network nor in what comes out for somebody else."
    model = used_model()
    for p in model.parameters(): p.grad = None   # of its own training
    was = weights(model)
    alone = guarded(model, person(1), mode, FAST, WATCH)
    guarded(model, person(0), mode, FAST, WATCH)
    guarded(model, person(2), mode, replace(FAST, lr=1e3), WATCH)
    again = guarded(model, person(1), mode, FAST, WATCH)
    assert all(torch.equal(v, was[k]) for k,v in weights(model).items()) and not model.training
    assert all(p.grad is None for p in model.parameters())
    assert np.array_equal(alone.kp, again.kp) and np.array_equal(alone.conf, again.conf)
    assert all(torch.equal(v, weights(again.run.model)[k]) for k,v in weights(alone.run.model).items())
    assert alone.run.guard.checks==again.run.guard.checks and alone.run.losses==again.run.losses

@pytest.mark.parametrize('mode', ['online', 'offline', 'none'])
def test_the_caller_is_left_as_he_was(d, tmp_path, monkeypatch, mode):
    "Generators, grad mode, number of threads, dtype: whatever they were, and whether it ends well or not."
    plain(monkeypatch)
    random.seed(3); np.random.seed(4); torch.manual_seed(5)
    threads = torch.get_num_threads()
    results = []
    try:
        for grad,n in ((True, 1), (False, 2)):
            torch.set_num_threads(n); torch.set_grad_enabled(grad)
            was = global_state()
            results.append(personalize(tmp_path/f'{n}', mode).kp)
            assert global_state()==was
            def broken(*a, **kw): raise TTPError('it ends here')
            with monkeypatch.context() as m, pytest.raises(TTPError, match='ends here'):
                m.setattr(your_video, 'write_all', broken)
                personalize(tmp_path/f'{n}b', mode)
            assert global_state()==was
    finally: torch.set_num_threads(threads); torch.set_grad_enabled(True)
    assert np.allclose(*results, atol=1e-3)


# --- two at once

@needs_fork
@pytest.mark.parametrize('kind', [*KINDS, 'evaluation'])
def test_two_runs_at_once(copy, whole, d, tmp_path, monkeypatch, kind):
    "The second is refused, whatever it is and whether it resumes; when the first is killed, nothing is in the way."
    was,calls = whole(kind)
    out = tmp_path/'out'
    pid,_ = copy(kind, out, moment=3*calls//4, act='wait')
    while not Path(f'{out}.waits').exists(): threading.Event().wait(.02)
    before = files(out)
    assert lock_owner(out)['process']==pid
    for resume in (False, True):
        for second in (kind, 'training', 'evaluation', 'online'):
            with pytest.raises(TTPError, match=f'in use by another run .process {pid} on ') as e:
                run(second, out, resume)
            one_line(e, out)
    with pytest.raises(TTPError, match='in use by another run'): check_free(out, True)
    assert files(out)==before
    os.kill(pid, signal.SIGKILL)
    deadline = 500
    while deadline and not free(out): deadline -= 1; threading.Event().wait(.02)
    code,said = copy(kind, out, resume=True)
    assert code==0, said
    assert_same(files(out), was)

def free(out):
    try:
        with run_lock(out): return True
    except TTPError: return False

@needs_fork
def test_a_child_does_not_keep_its_parents_lock(tmp_path):
    "As a worker process would, that outlives its killed parent for a while."
    code = f'''
import os, sys, time
from ttp_nb.run_folders import run_lock
with run_lock({str(tmp_path/'out')!r}):
    if not os.fork(): os.write(1, b'forked\\n'); time.sleep(60); os._exit(0)
    os.write(1, b'locked\\n')
    time.sleep(60)'''
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert {p.stdout.readline(), p.stdout.readline()}=={'locked\n', 'forked\n'} and not free(tmp_path/'out')
    p.kill(); p.wait(60)
    assert free(tmp_path/'out')
    p.stdout.close()

@pytest.mark.parametrize('text', ['', '{', 'x'*1000, '{"process": 1, "host": "elsewhere"}', '{"process": "x"}', '[]',
                                  '\x00'*9])
def test_a_lock_that_was_left_is_nobodys(tmp_path, text):
    (tmp_path/'.lock').write_text(text)
    with run_lock(tmp_path):
        assert lock_owner(tmp_path)['process']==os.getpid()
        with pytest.raises(TTPError, match=f'process {os.getpid()} on'):
            with run_lock(tmp_path): pass
    assert not list(tmp_path.iterdir())

@pytest.mark.skipif(os.name=='nt', reason='Windows always has locks')
def test_where_there_are_no_locks(tmp_path, monkeypatch):
    "What is written in the file decides: a process of this machine that is gone holds nothing."
    import fcntl, platform
    def none(*a): raise OSError(95, 'Operation not supported')
    monkeypatch.setattr(fcntl, 'flock', none)
    gone = subprocess.Popen([sys.executable, '-c', '']); gone.wait()
    mine = lambda pid,host=platform.node(): json.dumps({'process': pid, 'host': host})
    for text,taken in ((mine(gone.pid), False), (mine(os.getpid()), True), (mine(gone.pid, 'elsewhere'), True),
                       ('', False)):
        (tmp_path/'.lock').write_text(text)
        assert free(tmp_path)==(not taken)
        (tmp_path/'.lock').unlink(missing_ok=True)

def test_runs_in_different_folders_do_not_know_each_other(tmp_path):
    with run_lock(tmp_path/'a'), run_lock(tmp_path/'b'), run_lock(tmp_path/'a'/'inside'): pass
    assert not list(tmp_path.iterdir())   # nothing was written, so nothing is left
