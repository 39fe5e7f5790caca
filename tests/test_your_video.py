"""Your own video: killed and resumed to the same bytes, a row for every frame, flat memory, any skeleton."""
import io, json, os, re, shutil, signal, struct, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
import av, cv2, numpy as np, psutil, pytest, torch
from hypothesis import given, settings, strategies as st
from tiny import global_state, noise_clip, tiny_model, weights
from tqdm.auto import tqdm
from ttp_nb import guard, personalization, your_video
from ttp_nb.cli import main
from ttp_nb.exports import EXPORTS, read_coco, read_deeplabcut, read_keypoints, read_npz, read_openpose, read_trc
from ttp_nb.choosing import Excerpt
from ttp_nb.geometry import apply_affine, box_to_center_scale, crop_affine
from ttp_nb.guard import GuardConfig, GuardedAdaptation, set_apart
from ttp_nb.checkpoints import load_model, save_model
from ttp_nb.clips import predict
from ttp_nb.pairs import PairConfig
from ttp_nb.personalization import TTPConfig
from ttp_nb.skeletons import COCO17, PENN13, PEOPLE18, Skeleton
from ttp_nb.basics import TTPError
from ttp_nb.images import Frames
from ttp_nb.video import UnusableInput, open_frames, probe, write_mp4
from ttp_nb.your_video import Ledger, Lens, VideoJob, clear_work, lens_for, personalize_video

EACH = tuple(word for word in EXPORTS if word!='trc')                      # a .trc file wants a height
BOX = '15,8,60,52'
CALM, EURO = ('savgol', 4.), ('one_euro', 1.)
FAST = TTPConfig(batch=3, lr=1e-3)
UNWATCHED = GuardConfig(apart=0) # nothing is kept apart, so nothing but broken numbers is rolled back
FIVE = Skeleton('five', ('nose', 'ear', 'back', 'tail', 'paw'))
SCENE = noise_clip(T=20, size=(80,64)).frames[:,:60] # (20,60,80,3)
T = len(SCENE)


@pytest.fixture(scope='module')
def d(tmp_path_factory):
    "A folder with a video and two networks."
    d = tmp_path_factory.mktemp('video')
    write_mp4(d/'a.mp4', SCENE, 25)
    save_model(tiny_model(), d/'m.safetensors')
    save_model(tiny_model(skeleton=FIVE, seed=2), d/'five.safetensors')
    save_model(tiny_model(skeleton=PEOPLE18, seed=3), d/'people.safetensors')
    return d


@pytest.fixture
def plain(monkeypatch):
    "Instead of the report, which takes a second and has tests of its own, what it would be given."
    def story_only(result, story, frames, path, raw=None): Path(path).write_text(json.dumps(story))
    monkeypatch.setattr(your_video, 'write_report', story_only)


@pytest.fixture
def run(d, tmp_path, plain):
    "Personalises in this process, fast."
    def run(source='a.mp4', out='out', resume=False, say=lambda line: None, **changes):
        source = d/source if isinstance(source, str) else source
        how = dict(model=d/'m.safetensors', box=BOX, cfg=FAST, watch=UNWATCHED)
        return personalize_video(VideoJob(source, tmp_path/out, **how | changes), resume, say, progress=False)
    return run


def files(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}

def strict(path):
    def never(word): raise AssertionError(f'{word} in {path}')
    return json.loads(Path(path).read_text('utf-8'), parse_constant=never)

def rows(out):
    "The frames in keypoints.json, each with finite joints; the overlay has as many."
    frames = strict(out/'keypoints.json')['frames']
    for f in frames:
        for key in ('keypoints', 'before'): assert np.isfinite(np.array(f[key], float)).all(), (f['index'], key)
    assert len(open_frames(out/'overlay.mp4'))==len(frames)
    return frames


# --- killed

ZYGOTE = r'''
import json, os, signal, sys, threading
from pathlib import Path
import torch
from tqdm.auto import tqdm
from ttp_nb import cli, exports, guard, recipe_files, report, your_video as yv
torch.set_num_threads(1)
yv.SAVE = yv.CHUNK = 4
def story_only(result, story, frames, path, raw=None): Path(path).write_text(json.dumps(story))
yv.write_report = story_only

torch.optim.Adam([torch.zeros(1, requires_grad=True)]) # imports a thousand modules
watchful = guard.got_worse

def die(): os.kill(os.getpid(), signal.SIGKILL)

def plant(where, n, when):
    "Death at the n-th call of a function, or once a file of this name has been removed."
    if when=='gone':
        unlink = os.unlink
        def gone(path, **kw):
            unlink(path, **kw)
            if os.path.basename(os.fspath(path))==where: die()
        os.unlink = os.remove = gone
        return
    holder, name = where.split('.')
    holder = dict(yv=yv, Ledger=yv.Ledger, Task=yv.Task, GuardedAdaptation=yv.GuardedAdaptation, exports=exports,
                  report=report, os=os)[holder]
    f, calls = getattr(holder, name), []
    def watched(*a, **kw):
        calls.append(0)
        if when=='before' and len(calls)==n: die()
        r = f(*a, **kw)
        if when=='torn' and len(calls)==n: os.truncate(a[0].path, os.path.getsize(a[0].path)-9)
        if when!='before' and len(calls)==n: die()
        return r
    setattr(holder, name, watched)

tqdm.set_lock(threading.RLock())   # tqdm's own is shared by all copies: whoever dies holding it stops the others
print('ready', flush=True)
for line in sys.stdin:
    argv, moment = json.loads(line)
    pid = os.fork()
    if not pid:
        os.dup2(2, 1)
        # offline the guard is content, whatever the numbers are here; online it rolls back as it likes
        guard.got_worse = watchful if 'online' in argv else lambda *_: ''
        if moment: plant(*moment)
        try: code = cli.main(argv)
        except SystemExit as e: code = e.code
        except BaseException:
            import traceback; traceback.print_exc(); code = 99
        sys.stdout.flush(); os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
'''

@pytest.fixture(scope='module')
def ttp(d):
    "The command in a process of its own, which may be told when to die: what to import is imported once."
    if not hasattr(os, 'fork'): pytest.skip('needs fork')
    with open(d/'said', 'w') as said:
        p = subprocess.Popen([sys.executable, '-c', ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                             text=True, env=os.environ | {'OMP_NUM_THREADS': '1'})
    assert p.stdout.readline()=='ready\n', (d/'said').read_text()[-2000:]
    def run(*argv, moment=None):
        p.stdin.write(json.dumps([[str(a) for a in argv], moment])+'\n'); p.stdin.flush()
        return int(p.stdout.readline())
    run.said = d/'said'
    yield run
    p.stdin.close(); p.wait(30); p.stdout.close()

def job(d, mode):
    return ('personalize', d/'a.mp4', '--model', d/'m.safetensors', '--box', BOX, '--mode', mode, '--export',
            'coco,openpose', 'personalization.batch', 3, 'personalization.lr', '1e-3')

@pytest.fixture(scope='module')
def whole(ttp, d):
    "Exit code and files of the uninterrupted run of each mode, all into the same folder."
    done, out = {}, d/'out'
    for mode in your_video.MODES:
        code = ttp(*job(d, mode), '--out', out)
        assert code in (0, 4), ttp.said.read_text()[-2000:]
        done[mode] = code, files(out)
        for p in sorted(out.rglob('*'), reverse=True): p.rmdir() if p.is_dir() else p.unlink()
    return done

def learned(mode, n):
    """The n-th turn has been learned from, but its adapted answer is not there.

    Offline the guard has done its work; online the trained network's answer, the first of two, is there as well.
    """
    return ('GuardedAdaptation.watch_turn', n, 'after') if mode=='offline' else ('Task.answer', 2*n-1, 'after')

MOMENTS = [(m, *moment) for m in ('offline', 'online') for moment in (
    ('Ledger.add', 2, 'torn'), learned(m, 7), ('os.replace', 6, 'before'), ('yv.save_work_state', 3, 'after'),
    ('Ledger.add', 9, 'torn'), ('report.side_by_side', 9, 'before'), ('before.jsonl', 0, 'gone'))]
MOMENTS += [('none', 'Ledger.add', 3, 'torn'), ('none', 'exports._frame', 5, 'before'),
            ('none', 'boxes.json', 0, 'gone'), ('none', 'exports._flat', 2*T+9, 'before'), # in the midst of openpose
            ('none', 'yv.export', 1, 'after'), ('offline', 'yv.write_report', 1, 'after'),
            ('offline', 'job.json', 0, 'gone'), ('online', 'state.pt', 0, 'gone')]

def ends_as(whole, mode, ttp, d, *more):
    code = ttp(*job(d, mode), '--out', d/'out', *more)
    was, now = whole[mode], (code, files(d/'out'))
    try:
        assert code==was[0], ttp.said.read_text()[-1500:]
        assert now[1].keys()==was[1].keys()
        assert not (other := [k for k in was[1] if was[1][k]!=now[1][k]]), other
    finally:
        for p in sorted((d/'out').rglob('*'), reverse=True): p.rmdir() if p.is_dir() else p.unlink()

@pytest.mark.parametrize('mode,where,n,when', MOMENTS, ids=lambda x: str(x))
def test_killed_and_resumed_is_not_killed(ttp, whole, d, mode, where, n, when):
    assert ttp(*job(d, mode), '--out', d/'out', moment=(where, n, when))==-signal.SIGKILL, 'it was not killed'
    ends_as(whole, mode, ttp, d, '--resume')

@pytest.mark.parametrize('mode,first,second', [
    ('offline', learned('offline', 6), ('report.side_by_side', 3, 'before')),
    ('offline', ('Ledger.add', 4, 'torn'), ('Ledger.add', 2, 'torn')),
    ('online', learned('online', 9), learned('online', 6)),
    ('online', learned('online', 3), ('before.jsonl', 0, 'gone'))], ids=str)
def test_killed_twice(ttp, whole, d, mode, first, second):
    for resume, moment in ((), first), (('--resume',), second):
        assert ttp(*job(d, mode), '--out', d/'out', *resume, moment=moment)==-signal.SIGKILL
    ends_as(whole, mode, ttp, d, '--resume')

@pytest.mark.parametrize('mode,where,n,when', [('offline', *learned('offline', 9)),
                                               ('online', 'report.side_by_side', 5, 'before')], ids=str)
def test_without_resume_it_starts_anew(ttp, whole, d, mode, where, n, when):
    assert ttp(*job(d, mode), '--out', d/'out', moment=(where, n, when))==-signal.SIGKILL
    ends_as(whole, mode, ttp, d)

def test_beginning_anew_may_be_killed_too(ttp, whole, d):
    "While the old run's files are removed: what is left of them is not gone on with."
    assert ttp(*job(d, 'online'), '--out', d/'out', moment=learned('online', 15))==-signal.SIGKILL
    assert ttp(*job(d, 'online'), '--out', d/'out', moment=('before.jsonl', 0, 'gone'))==-signal.SIGKILL
    ends_as(whole, 'online', ttp, d, '--resume')

def came_first(what, p, patience=600):
    "Whether something happens before a process ends."
    end = time.monotonic()+patience
    while not what():
        if p.poll() is not None: return False
        assert time.monotonic()<end, 'it hangs'
        time.sleep(.005)
    return True

def signalled(start, work):
    "A run gets Ctrl-C, the next one kill -9: the first one's words; None where one was done before its signal."
    p = start(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    came_first(lambda: (work/'before.jsonl').is_file(), p)
    p.send_signal(signal.SIGINT)
    err = p.communicate(timeout=600)[1]
    if p.returncode in (0, 4): return None
    assert p.returncode==130, err
    p = start('--resume', stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    came_first(lambda: len(Ledger(work/'before.jsonl').lines())==T, p)
    p.kill()
    return err if p.wait(60)==-signal.SIGKILL else None

@pytest.mark.skipif(os.name=='nt', reason='Windows has other signals')
def test_interrupted_and_killed_as_a_user_starts_it(d, tmp_path):
    "A process of its own from the first line on, nothing replaced: Ctrl-C, then kill -9, then it goes on."
    out, work = tmp_path/'out', tmp_path/'out'/'.work'
    argv = [str(a) for a in (*job(d, 'offline'), '--out', out)]
    code = 'import sys; from ttp_nb.cli import main; sys.exit(main())'
    def start(*more, **kw):
        return subprocess.Popen([sys.executable, '-c', code, *argv, *more], text=True, **kw,
                                env=os.environ | {'OMP_NUM_THREADS': '1'})
    for _ in range(10): # on a busy machine a run may be done before its signal arrives: once more
        if err := signalled(start, work): break
        shutil.rmtree(out)
    assert err and 'ttp: interrupted; what was done is saved' in err and 'Traceback' not in err
    assert work.is_dir()
    codes = main([*argv, '--resume']), main([*argv[:-1], str(tmp_path/'one')])
    assert codes[0]==codes[1] and codes[0] in (0, 4)
    # the command line, with its folder, is in the report
    one = {k: v.replace(str(tmp_path/'one').encode(), str(out).encode()) for k, v in files(tmp_path/'one').items()}
    assert files(out)==one and 'report.html' in one


# --- resumed

def test_a_finished_folder_stays_as_it_is(run, tmp_path):
    first, lines = run(exports=('coco',)), []
    was = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path/'out').iterdir()}
    again = run(exports=('coco',), resume=True, say=lines.append)
    assert lines==[f"{tmp_path/'out'} is complete already."] and len(again)==len(first)
    assert np.abs(again.kp-first.kp).max()<1e-3 and again.about['guard']['why']==first.about['guard']['why']
    assert was=={p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path/'out').iterdir()}

@pytest.mark.parametrize('changes', [
    dict(mode='none'), dict(cfg=replace(FAST, seed=1)), dict(smooth_by=CALM), dict(fill=.2), dict(height=1.75)],
    ids=lambda c: next(iter(c)))
def test_a_finished_folder_of_something_else_is_not_written_over(run, tmp_path, changes):
    run(mode='online')
    was = files(tmp_path/'out')
    with pytest.raises(TTPError, match='holds the results of another.*another --out'):
        run(**dict(mode='online') | changes, resume=True)
    assert files(tmp_path/'out')==was

@pytest.mark.parametrize('asked,apart,memory,want', [
    (None, 8, 3e8, 111), (5, 8, 3e8, 5), (0, 8, 3e8, 0), (None, 0, 3e8, 135), (None, 16, 0, 0), (None, 8, 0, 6)])
def test_references_lie_within_memory(tmp_path, monkeypatch, asked, apart, memory, want):
    monkeypatch.setattr(your_video, 'MEMORY', memory)
    net, video = tiny_model().eval(), open_frames(np.zeros((3,48,64,3), np.uint8))
    job = VideoJob('array', tmp_path, 'none', 'online', cfg=TTPConfig(pairs=PairConfig(reach=asked)),
                   watch=GuardConfig(apart=apart))
    task = your_video.make_task(job, video, np.tile([8.,8,40,40], (3,1)), net, net, tmp_path, tqdm(disable=True))
    assert task.run.adaptation.cfg.pairs.reach==want

@pytest.mark.parametrize('room,apart,every', [(24, 4, 1), (136, 8, 1), (48, 8, 1), (136, 8, 2), (48, 8, 3)])
def test_the_furthest_reference_is_remembered_and_little_room_is_wasted(room, apart, every):
    learned = set_apart(1000, apart)[0][::every]
    reach = your_video.reach_in_memory(room, apart, every)
    furthest = max(learned[i]-learned[i-reach] for i in range(reach, len(learned)))
    assert 0<furthest<room and room-furthest<=2*apart+2*every
    assert your_video.reach_in_memory(136, 0)==135 and your_video.reach_in_memory(16, 16)==0

@pytest.mark.parametrize('missing', ['report.html', 'overlay.mp4', 'keypoints.npz'])
def test_what_is_missing_is_made(run, tmp_path, missing):
    run(mode='none', exports=('npz',))
    was = files(tmp_path/'out')
    (tmp_path/'out'/missing).unlink()
    run(mode='none', exports=('npz',), resume=True)
    assert files(tmp_path/'out')==was

class Enough(BaseException): pass

def stopped(run, monkeypatch, **changes):
    "A run that ends when the first frame has been answered."
    def enough(*a): raise Enough
    with monkeypatch.context() as m:
        m.setattr(Ledger, 'add', enough)
        with pytest.raises(Enough): run(**changes)

@pytest.mark.parametrize('other', [
    dict(box='14,8,60,52'), dict(mode='online'), dict(cfg=replace(FAST, lr=2e-3)), dict(cfg=replace(FAST, seed=1)),
    dict(smooth_by=CALM), dict(fill=.2), dict(height=1.75), dict(source='b.mp4'),
    dict(watch=GuardConfig()), dict(model='n.safetensors')],
    ids=lambda o: next(iter(o)))
def test_another_job_does_not_go_on(run, d, tmp_path, monkeypatch, other):
    write_mp4(d/'b.mp4', SCENE[:9], 25)
    save_model(tiny_model(seed=1), d/'n.safetensors')
    stopped(run, monkeypatch)
    was = files(tmp_path/'out')
    if 'model' in other: other = dict(model=d/other['model'])
    said = (r'another video \(.*a.mp4, as it was then\): choose another --out, or remove' if 'source' in other else
            'another video, model or settings: choose another --out, or leave out --resume')
    with pytest.raises(TTPError, match=said):
        run(**other, resume=True)
    assert files(tmp_path/'out')==was and 'job.json' in ' '.join(was)

def test_another_profile_of_the_same_name_does_not_go_on(run, d, tmp_path, monkeypatch):
    run(out='one'); run(out='two', cfg=replace(FAST, seed=1))
    p = tmp_path/'p.safetensors'
    def take(name):
        for s in ('.safetensors', '.json'): p.with_suffix(s).write_bytes((tmp_path/name/f'profile{s}').read_bytes())
    take('one'); stopped(run, monkeypatch, profile=p)
    take('two')
    with pytest.raises(TTPError, match='another video, model or settings'): run(profile=p, resume=True)
    take('one'); run(profile=p, resume=True)

def test_boxes_that_have_changed_do_not_go_on(run, d, tmp_path, monkeypatch):
    boxes, say = tmp_path/'boxes.json', []
    write = lambda x: boxes.write_text(json.dumps([[x, 8, 60, 52]]*T))
    write(15); stopped(run, monkeypatch, box=str(boxes), mode='none')
    write(16)
    with pytest.raises(TTPError, match='another video, model or settings'):
        run(box=str(boxes), mode='none', resume=True)
    first = run(box=str(boxes), mode='none')
    write(17)
    with pytest.raises(TTPError, match='holds the results of another'):
        run(box=str(boxes), mode='none', resume=True, say=say.append)
    assert not np.array_equal(run(box=str(boxes), mode='none', say=say.append).boxes, first.boxes)
    assert not say, 'it is not complete already'

def test_no_room_left(run, monkeypatch, tmp_path):
    "The disk is full; then it is not."
    def full(*a, **kw): raise OSError(28, 'No space left on device')
    for where, what in ((your_video.Path, 'write_bytes'), (your_video.Path, 'write_text')):
        with monkeypatch.context() as m:
            m.setattr(where, what, full)
            with pytest.raises(TTPError, match='No space left on device'): run()
    with monkeypatch.context() as m:
        m.setattr('builtins.open', lambda *a, **kw: full() if a[1:2]==('ab',) else io.open(*a, **kw))
        with pytest.raises(TTPError, match='before.jsonl cannot be written .No space left on device.: make room'): run()
    assert len(run(resume=True))==T and not (tmp_path/'out'/'.work').exists()

def test_clearing_leaves_what_is_not_ours(tmp_path):
    (tmp_path/'.work').mkdir(); (tmp_path/'.work'/'job.json').write_text('{}')
    (tmp_path/'.openpose.77.part').mkdir(); (tmp_path/'.openpose.77.part'/'x').write_text('x')
    for name in ('.overlay.mp4.77.part', '.profile.json.77.part', '.mine.77.part', 'overlay.mp4', '.overlay.mp4'):
        (tmp_path/name).write_text('x')
    clear_work(tmp_path); clear_work(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir())==['.mine.77.part', '.overlay.mp4', 'overlay.mp4']

def test_a_refused_run_leaves_no_profile_of_an_earlier_one(run, tmp_path):
    run()
    assert (tmp_path/'out'/'profile.safetensors').is_file() and (tmp_path/'out'/'profile.json').is_file()
    run(cfg=replace(FAST, lr=1e3), watch=GuardConfig())
    assert not list((tmp_path/'out').glob('profile.*'))

def test_what_was_given_is_not_written_over(run, d, tmp_path):
    run()
    was = files(tmp_path/'out')
    with pytest.raises(TTPError, match='profile.safetensors would be written over: choose another --out'):
        run(profile=tmp_path/'out'/'profile.safetensors', mode='none')
    with pytest.raises(TTPError, match='overlay.mp4 would be written over'): run(tmp_path/'out'/'overlay.mp4')
    assert files(tmp_path/'out')==was


# --- a row for every frame that decodes

def encode(path, frames=SCENE, codec='libx264', pix='yuv420p', ticks=None, rate=25, **opts):
    with av.open(str(path), 'w', options={'movflags': '+faststart'} if path.suffix=='.mp4' else {}) as c:
        s = c.add_stream(codec, rate=rate, options=opts)
        s.width, s.height, s.pix_fmt = frames.shape[2], frames.shape[1], pix
        for i, a in enumerate(frames):
            v = av.VideoFrame.from_ndarray(np.ascontiguousarray(a), format='rgb24').reformat(format=pix)
            if ticks is not None: v.pts = int(ticks[i])
            for p in s.encode(v): c.mux(p)
        for p in s.encode(): c.mux(p)
    return path

def turned(path):
    data = bytearray(write_mp4(path, SCENE, 25).read_bytes())
    at = data.find(b'tkhd')+44
    data[at:at+36] = struct.pack('>9i', 0, 1<<16, 0, -1<<16, 0, 0, 0, 0, 1<<30)
    path.write_bytes(data)

def folder(path, frames=SCENE):
    path.mkdir()
    for i, a in enumerate(frames): cv2.imwrite(str(path/f'{i}.png'), a[...,::-1])

TICKS = np.cumsum(np.random.default_rng(0).integers(10, 90, T))
SOURCES = {
    'odd.mkv': lambda p: encode(p, SCENE[:,:59,:79], 'ffv1', 'bgr0'),
    'gray.mkv': lambda p: encode(p, SCENE, 'ffv1', 'gray'),
    'turned.mp4': turned, 'uneven.mkv': lambda p: encode(p, ticks=TICKS, rate=1000), 'images': folder,
    'still.png': lambda p: cv2.imwrite(str(p), SCENE[0]),
    'high.mkv': lambda p: encode(p, SCENE[:,:,:20], 'ffv1', 'bgr0')}

@pytest.mark.parametrize('name', SOURCES)
def test_a_row_for_every_frame(run, d, tmp_path, name):
    try: SOURCES[name](d/name)
    except (av.FFmpegError, ValueError) as e: pytest.skip(f'this build cannot encode {name}: {e}')
    video, out = open_frames(d/name), tmp_path/'out'
    result = run(name, mode='none', box='frame', smooth_by=CALM if name=='uneven.mkv' else None)
    frames = rows(out)
    assert len(frames)==len(result)==len(video)==probe(d/name).decoded==(1 if name=='still.png' else T)
    assert np.allclose([f['time'] for f in frames], video.times, atol=1e-3) and result.size==video.size
    assert video.size=={'odd.mkv': (79,59), 'turned.mp4': (60,80), 'high.mkv': (20,60)}.get(name, (80,60))
    if name=='uneven.mkv': assert np.allclose(np.diff(video.times), np.diff(TICKS)/1000, atol=1e-3)

@pytest.mark.parametrize('smooth', [None, CALM])
@pytest.mark.parametrize('n', [1, 2, 7])
@pytest.mark.parametrize('mode', ['offline', 'online'])
def test_few_frames(run, tmp_path, mode, n, smooth):
    result = run(SCENE[:n], mode=mode, watch=GuardConfig(), smooth_by=smooth, exports=EACH)
    assert len(rows(tmp_path/'out'))==n and result.kp.shape==(n,13,2)
    assert len(read_openpose(tmp_path/'out'/'openpose')['index'])==n
    profile = tmp_path/'out'/'profile.safetensors'
    assert profile.is_file()==(not result.about['guard']['why'])

@pytest.mark.parametrize('name,codec', [('cut.avi', 'mjpeg'), ('cut.mp4', 'libx264')])
def test_a_video_that_is_cut_short(run, d, tmp_path, name, codec):
    data = encode(d/name, codec=codec, pix='yuvj420p' if codec=='mjpeg' else 'yuv420p').read_bytes()
    (d/name).write_bytes(data[:len(data)*2//3])
    video, lines = open_frames(d/name, strict=False), []
    result = run(name, mode='none', say=lines.append)
    frames, notes = rows(tmp_path/'out'), strict(tmp_path/'out'/'keypoints.json')['notes']
    assert 0<len(frames)==len(video)<T and [f['index'] for f in frames]==list(video.index)
    assert video.trouble and all(t in notes and t in lines for t in video.trouble) and 'cut short' in ' '.join(notes)
    assert np.allclose([f['time'] for f in frames], video.times, atol=1e-3) and len(result)==len(video)
    with pytest.raises(UnusableInput, match='cut short'): run(name, mode='none', strict=True)

def damaged(path):
    "A file whose index is sound and whose tenth packet is not."
    encode(path, bf='0', g='5')
    with av.open(str(path)) as c: p = [p for p in c.demux(video=0) if p.size][9]
    data = bytearray(path.read_bytes())
    data[p.pos+4:p.pos+p.size] = bytes(p.size-4)
    path.write_bytes(data)

@pytest.mark.parametrize('mode', your_video.MODES)
def test_damage_in_the_middle(run, d, tmp_path, mode):
    damaged(d/'hurt.mp4')
    video = open_frames(d/'hurt.mp4', strict=False)
    run('hurt.mp4', mode=mode)
    frames = rows(tmp_path/'out')
    assert len(frames)==len(video)<T and 9 not in [f['index'] for f in frames]
    with pytest.raises(UnusableInput, match='hurt.mp4, frame 9'): run('hurt.mp4', mode=mode, strict=True)

def test_a_folder_with_a_broken_image(run, d, tmp_path):
    folder(d/'five', SCENE[:5]); (d/'five'/'3.png').write_text('no image')
    result = run('five', mode='none')
    assert list(result.index)==[0, 1, 2, 4]==[f['index'] for f in rows(tmp_path/'out')]
    assert '3.png' in ' '.join(result.about['notes'])
    with pytest.raises(UnusableInput, match='3.png'): run('five', mode='none', strict=True)

@pytest.mark.parametrize('mode', ['offline', 'online'])
def test_nothing_is_left_behind_and_the_same_comes_again(run, d, tmp_path, mode):
    was = global_state()
    a, b = run(mode=mode, out='a', exports=EACH), run(mode=mode, out='b', exports=EACH)
    assert global_state()==was and np.array_equal(a.kp, b.kp)
    names = {k for k in files(tmp_path/'a') if not k.endswith('.npz')} # a zip has the time in it
    assert all(files(tmp_path/'a')[k]==files(tmp_path/'b')[k] for k in names)
    assert names | {'keypoints.npz'}==files(tmp_path/'b').keys() and not list((tmp_path/'a').glob('.*'))


# --- what the guard must catch

HARD = {'black': np.zeros((14,60,80,3), np.uint8), 'one frame repeated': np.repeat(SCENE[3:4], 14, 0),
        'noise': SCENE[:14], 'the person leaves': np.concatenate([SCENE[:8], np.full_like(SCENE[:8], 90)]),
        'one frame': SCENE[:1], 'two frames': SCENE[:2]}

@pytest.mark.parametrize('mode', ['offline', 'online'])
@pytest.mark.parametrize('name', HARD)
def test_joints_are_finite_whatever_happens(run, tmp_path, mode, name):
    for lr in (1e-4, 1e3, 1e30)[:3 if len(HARD[name])<9 else 2]:
        result = run(HARD[name], mode=mode, cfg=replace(FAST, lr=lr), watch=GuardConfig(),
                     smooth_by=EURO if mode=='online' else CALM)
        rows(tmp_path/'out')
        if lr>1: # so far off that nothing but the trained network's joints can be kept
            assert result.about['guard']['why'] and not list((tmp_path/'out').glob('profile.*'))
            assert np.array_equal(result.conf, result.before_conf)

def test_online_what_was_rolled_back_is_answered_by_the_trained_network(run, d, monkeypatch):
    "One check that is bad, in the middle."
    from ttp_nb.guard import Guard
    check = Guard.check
    def once(self, step, asked, apart, patience=False):
        if step==8: return self.back(step, 'worse, says the test')
        if step>8: return check(self, step, asked, None)
        return self.hold(step)
    monkeypatch.setattr(Guard, 'check', once)
    result = run(mode='online', cfg=replace(FAST, lr=1e-2), watch=GuardConfig(apart=4, every=4))
    same = (result.kp==result.before_kp).all((1,2)) & (result.conf==result.before_conf).all(1)
    assert result.about['guard']['events']==[[4, 8, 'worse, says the test']]
    assert list(np.flatnonzero(same))==[4, 5, 6, 7], 'these and no others'


# --- profiles

def test_a_profile_answers_as_the_adapted_network(run, d, tmp_path):
    first = run(out='first', cfg=replace(FAST, lr=1e-2))
    p = tmp_path/'first'/'profile.safetensors'
    later = run(out='later', mode='none', profile=p)
    moved = np.abs(first.kp-first.before_kp).max()
    assert moved>1 and np.abs(first.conf-later.conf).max()<2e-2, (moved, np.abs(first.conf-later.conf).max())
    # float16 differences: a joint may jump between two cells of about the same height, most do not
    assert np.median(np.abs(first.kp-later.kp).max(-1))<.1 and (np.abs(first.kp-later.kp).max(-1)<1).mean()>.95
    assert np.array_equal(later.before_kp, first.before_kp) and later.about['guard']['why']==''
    assert not (tmp_path/'later'/'profile.safetensors').exists() and len(rows(tmp_path/'later'))==T

@pytest.mark.parametrize('mode', ['offline', 'online'])
def test_a_profile_is_gone_on_from(run, tmp_path, mode):
    run(out='first', cfg=replace(FAST, lr=1e-2))
    p = tmp_path/'first'/'profile.safetensors'
    still = run(out='still', mode=mode, profile=p, cfg=replace(FAST, lr=0.))
    none = run(out='none', mode='none', profile=p)
    assert np.allclose(still.conf, none.conf, atol=1e-4) and not np.allclose(still.conf, still.before_conf, atol=1e-2)
    on = run(out='on', mode=mode, profile=p)
    assert np.abs(on.conf-none.conf).max()>1e-2 and np.allclose(on.before_conf, none.before_conf, atol=1e-5)
    assert on.about['start']!=on.about['checksum']==none.about['checksum']

def test_a_profile_of_another_network_is_refused_before_anything_is_done(run, d, tmp_path):
    run()
    p = tmp_path/'out'/'profile.safetensors'
    with pytest.raises(TTPError, match='made on another network'):
        run(out='no', model=d/'five.safetensors', profile=p, source='none.mp4')
    assert not (tmp_path/'no').exists()


# --- a skeleton of one's own

@pytest.mark.parametrize('mode', your_video.MODES)
def test_five_joints_without_pairs_limbs_or_torso(d, tmp_path, mode):
    "With the real report."
    job = VideoJob(d/'a.mp4', tmp_path, d/'five.safetensors', mode, BOX, FAST, GuardConfig(apart=4, every=4),
                   exports=EACH, smooth_by=EURO if mode=='online' else CALM)
    result = personalize_video(job, say=lambda line: None, progress=False)
    assert result.kp.shape==(T,5,2) and len(rows(tmp_path))==T
    assert strict(tmp_path/'keypoints.json')['skeleton']['joints']==list(FIVE.joints)
    assert read_coco(tmp_path/'coco.json')['kp'].shape==read_openpose(tmp_path/'openpose')['kp'].shape==(T,5,2)
    assert read_deeplabcut(tmp_path/'deeplabcut.csv')['joints']==FIVE.joints
    assert read_npz(tmp_path/'keypoints.npz').skeleton==read_keypoints(tmp_path/'keypoints.json').skeleton==FIVE
    page = re.sub('base64,[^"]*', '', (tmp_path/'report.html').read_text('utf-8'))
    assert 'tail' in page and 'five' in page and not re.search(r'\bnan\b', page, re.I)

def test_one_joint(tmp_path, run, d):
    save_model(tiny_model(skeleton=Skeleton('one', ('nose',))), tmp_path/'one.safetensors')
    for mode in ('online', 'offline'):
        result = run(mode=mode, model=tmp_path/'one.safetensors', smooth_by=EURO, exports=EACH)
        assert result.kp.shape==(T,1,2) and len(rows(tmp_path/'out'))==T


@pytest.mark.parametrize('mode', your_video.MODES)
def test_nothing_is_mirrored_where_the_configuration_says_so(mode, run, monkeypatch):
    asked, plain = set(), personalization.pair_affine
    def watched(*args):
        asked.add(len(args)>5 and bool(args[5]))
        return plain(*args)
    for module in (personalization, guard): monkeypatch.setattr(module, 'pair_affine', watched)
    for flip in (False, True):
        cfg = replace(FAST, self_supervised_weight=0., views=2, answer_views=2, pairs=PairConfig(flip=flip))
        asked.clear(); run(mode=mode, out=f'out {flip}', cfg=cfg)
        assert asked==({False, True} if flip else {False})


# --- mended, filtered, in metres

def pose(model, clip, frames, views=1, flip=True):
    "Somebody who stands, seen for sure but for a wrist in three frames; another wrist jumps once."
    kp, conf = np.zeros((len(frames),13,2)), np.full((len(frames),13), .9)
    kp[:] = [[30,4], [36,14], [24,14], [38,22], [22,22], [39,30], [21,30], [34,30], [26,30], [34,40], [26,40],
             [34,50], [26,50]]
    for row,i in enumerate(frames):
        kp[row] += .1*np.sin(i)
        if i in (5,6,7): conf[row,5] = .1
        if i==12: kp[row,6] -= 25
    return kp, conf

@pytest.fixture
def posed(run, monkeypatch):
    "Runs in which the network's answers are those of `pose`."
    monkeypatch.setattr(your_video, 'answer', pose)
    return run

def test_what_is_asked_for_is_made_of_the_answers(posed, tmp_path):
    lines, out = [], tmp_path/'out'
    as_is = posed(out='as it is', mode='none')
    made = posed(mode='none', fill=.2, smooth_by=('butterworth', 5.), height=1.75, exports=EXPORTS, say=lines.append)
    assert np.array_equal(made.raw_kp, as_is.kp) and np.array_equal(made.before_kp, as_is.before_kp)
    filled = [[5,5], [6,5], [7,5], [12,6]]
    assert np.argwhere(made.flags).tolist()==filled and (made.flags[made.flags>0]==2).all()
    assert np.abs(made.kp[12,6]-as_is.kp[11,6]).max()<2 and (made.conf[tuple(np.transpose(filled))]==0).all()
    # in one line, in the file and in what the report is given
    assert len(lines)==2 and 'one box' in lines.pop(0)
    assert '\n' not in lines[0] and 'gaps of up to 0.2 seconds' in lines[0]
    for said in ('_wrist, frames: 3 filled (3 unsure)', '_wrist, frames: 1 filled (1 jump)'): assert said in lines[0]
    written, story = strict(out/'keypoints.json'), json.loads((out/'report.html').read_text())
    for about in (written, story):
        assert lines[0] in about['notes'] and about['fill']==.2 and about['height']==1.75
        assert about['smoothing']=='Butterworth filter, 4th order, zero phase, cut-off 5 Hz'
    assert written['mending']['joints']==made.about['mending']['joints'] and written['frames'][12]['raw']
    xyz = read_trc(out/'markers.trc')['xyz']
    tall = xyz[:,0,1]-xyz[:,11:,1].mean(1)                      # from the head to the ankles
    assert .8*1.75<np.median(tall)<1.75 and (out/'angles.csv').is_file()

def test_nothing_had_to_be_mended(posed, monkeypatch):
    monkeypatch.setattr(your_video, 'answer', lambda m, c, frames, *rest: pose(m, c, [0]*len(frames)))
    lines = []
    result = posed(mode='none', fill=.2, say=lines.append)
    assert lines[1:]==['mended, with gaps of up to 0.2 seconds filled: nothing had to be'] and not result.flags.any()
    assert np.array_equal(result.kp, result.raw_kp)

def test_without_them_nothing_of_it_is_written(run, tmp_path):
    run(mode='none')
    head = strict(tmp_path/'out'/'keypoints.json')
    assert not {'fill', 'height', 'mending'} & {*head} and head['smoothing']=='' and 'mended' not in str(head)
    assert not any({'raw', 'flags'} & {*frame} for frame in head['frames'])

ASKED = dict(fill=.2, smooth_by=('butterworth', 6.), height=1.75)

@pytest.mark.parametrize('changes', [dict(fill=None), dict(fill=.1), dict(smooth_by=None), dict(smooth_by=CALM),
    dict(smooth_by=('butterworth', 5.)), dict(height=None), dict(height=1.8)], ids=str)
def test_with_them_it_is_another_job_than_with_others(posed, tmp_path, monkeypatch, changes):
    posed(mode='none', **ASKED)
    was, lines = files(tmp_path/'out'), []
    posed(mode='none', **ASKED, resume=True, say=lines.append)
    assert lines==[f"{tmp_path/'out'} is complete already."] and files(tmp_path/'out')==was
    with pytest.raises(TTPError, match='holds the results of another'):
        posed(mode='none', **ASKED | changes, resume=True)
    stopped(posed, monkeypatch, out='new', mode='none', **ASKED)
    with pytest.raises(TTPError, match='holds an interrupted run with another'):
        posed(out='new', mode='none', **ASKED | changes, resume=True)
    posed(out='new', mode='none', **ASKED, resume=True)
    assert files(tmp_path/'new')==was

@pytest.mark.parametrize('changes,says', [
    (dict(fps=0.), 'fps 0.0: not a rate'), (dict(mode='sideways'), 'mode must be one of'),
    (dict(fill=-1.), 'fill -1.0: not a time'), (dict(fill=float('nan')), 'fill nan'), (dict(fill='x'), 'fill x'),
    (dict(height=0.), 'height 0.0: not a height in metres'), (dict(height=175.), 'height 175.0'),
    (dict(smooth_by=('mean', 6.)), 'cut-off in Hz'), (dict(smooth_by=('savgol', 0.)), 'cut-off in Hz'),
    (dict(exports=('trc',)), '--export trc .* --height 1.75'),
    (dict(exports=('trc',), height=1.75, model='five.safetensors'), 'five show nothing .* leave trc out')], ids=str)
def test_what_cannot_be_asked_for(run, d, tmp_path, changes, says):
    if 'model' in changes: changes = changes | dict(model=d/changes['model'])
    with pytest.raises(TTPError, match=says): run('none.mp4', **changes)
    assert not (tmp_path/'out').exists(), 'refused before anything is done'

def test_what_can_be_asked_for(d, tmp_path):
    how = dict(exports=('trc',), height=1.75, fill=0, smooth_by=CALM)
    asked = VideoJob(d/'a.mp4', tmp_path/'out', d/'m.safetensors', **how)
    your_video.check_request(asked)
    assert not (tmp_path/'out').exists()

@pytest.mark.parametrize('name', ['butterworth', 'savgol', 'one_euro'])
def test_a_cut_off_that_the_frames_cannot_show(run, tmp_path, monkeypatch, name):
    "Half of the frame rate and above; slow motion shows more."
    monkeypatch.setattr(your_video, 'answer_video', lambda *a: 'began')
    for hz in (12.5, 20.):
        with pytest.raises(TTPError, match=f'{hz:g} Hz needs more than {2*hz:g} frames a second, .*a.mp4 has 25'):
            run(smooth_by=(name, hz))
    assert run(smooth_by=(name, 12.))==run(smooth_by=(name, 20.), part=Excerpt(slowmo=4))=='began'
    assert run(SCENE[:1], smooth_by=(name, 20.))=='began', 'one frame has no rate, and is left as it is'

def test_metres_of_joints_that_were_all_unsure(posed, tmp_path, monkeypatch):
    "Known at the end only: the answers are kept, and the run goes on without the file."
    def unsure(*a): return pose(*a)[0], pose(*a)[1]*.1
    monkeypatch.setattr(your_video, 'answer', unsure)
    with pytest.raises(TTPError, match='show nothing to compare .* Leave trc out of --export, and go on with --resume'):
        posed(mode='none', **ASKED, exports=('trc',))
    assert not (tmp_path/'out'/'keypoints.json').exists()
    result = posed(mode='none', **ASKED, resume=True)
    assert (result.flags==3).all() and np.isnan(result.kp).all() and (tmp_path/'out'/'overlay.mp4').is_file()

def test_a_real_report_of_joints_that_are_empty(d, tmp_path, monkeypatch):
    monkeypatch.setattr(your_video, 'answer', lambda *a: (pose(*a)[0], pose(*a)[1]*.1))
    job = VideoJob(d/'a.mp4', tmp_path, d/'m.safetensors', 'none', BOX, FAST, exports=EACH, **ASKED)
    personalize_video(job, say=lambda line: None, progress=False)
    page = re.sub('base64,[^"]*', '', (tmp_path/'report.html').read_text('utf-8'))
    assert 'gaps of up to 0.2 seconds' in page and 'Butterworth' in page and not re.search(r'\bnan\b', page, re.I)


# --- which joints are written

@pytest.mark.parametrize('mode,smooth', [('offline', None), ('online', EURO), ('none', CALM)])
def test_fewer_joints_are_the_same_joints(run, d, tmp_path, mode, smooth):
    "All are found and adapted; what is written is a part of them, in every file."
    def asked(joints):
        return run(out=joints or 'none said', model=d/'people.safetensors', mode=mode, smooth_by=smooth, joints=joints,
                   exports=EACH)
    everything = asked('all')
    assert everything.skeleton==PEOPLE18
    for joints, skel in (('', COCO17), ('coco17', COCO17), ('penn13', PENN13)):
        result, out = asked(joints), tmp_path/(joints or 'none said')
        at = [PEOPLE18.index(j) for j in skel.joints]
        assert result.skeleton==skel and len(rows(out))==T
        assert np.array_equal(result.before_kp, everything.before_kp[:,at])
        assert np.array_equal(result.conf, everything.conf[:,at])
        if smooth!=EURO: # the One-Euro filter knows the size of the pose by its joints
            assert np.allclose(result.kp, everything.kp[:,at], atol=1e-9)
        assert read_coco(out/'coco.json')['kp'].shape==read_openpose(out/'openpose')['kp'].shape==(T,len(skel),2)
        assert read_deeplabcut(out/'deeplabcut.csv')['joints']==skel.joints
        assert read_npz(out/'keypoints.npz').skeleton.joints==skel.joints
        if mode=='offline':
            assert (out/'profile.safetensors').read_bytes()==(tmp_path/'all'/'profile.safetensors').read_bytes()

def test_joints_that_a_network_does_not_find(run, d, tmp_path):
    for model, joints, says in (('m', 'coco17', 'penn13, not all of coco17: ask for --joints all'),
                                ('five', 'penn13', 'five, not all of penn13'), ('m', 'mpii', 'no joint set .mpii.')):
        with pytest.raises(TTPError, match=says): run('none.mp4', model=d/f'{model}.safetensors', joints=joints)
    assert not (tmp_path/'out').exists(), 'refused before anything is done'
    for model, joints, J in (('m', 'all', 13), ('m', 'penn13', 13), ('five', '', 5)):
        assert run(out=model+joints, model=d/f'{model}.safetensors', joints=joints, mode='none').kp.shape==(T,J,2)

def test_other_joints_are_another_job(run, d, tmp_path, monkeypatch):
    "COCO's are those of a network that finds them, said or not."
    people = dict(model=d/'people.safetensors', mode='none')
    stopped(run, monkeypatch, **people)
    with pytest.raises(TTPError, match='interrupted run with another'): run(**people, joints='penn13', resume=True)
    run(**people, joints='coco17', resume=True)
    was = files(tmp_path/'out')
    with pytest.raises(TTPError, match='holds the results of another'): run(**people, joints='all', resume=True)
    lines = []
    run(**people, resume=True, say=lines.append)
    assert 'complete already' in lines[0] and files(tmp_path/'out')==was


# --- a part of a video, and slow motion

PART = Excerpt('5f', '14f')

def test_a_part_is_another_job_and_goes_on_as_itself(run, d, tmp_path, monkeypatch):
    "Interrupted, it goes on to the same bytes; neither the whole nor another part takes up its work or its results."
    how = dict(mode='online', exports=('coco',), part=PART)
    run(**how, out='undisturbed')
    learned = []
    answer = your_video.Task.answer
    def stop(self, *a):
        learned.append(0)
        if len(learned)==9: raise Enough
        return answer(self, *a)
    with monkeypatch.context() as m:
        m.setattr(your_video.Task, 'answer', stop)
        m.setattr(your_video, 'SAVE', 2)
        with pytest.raises(Enough): run(**how)
    others = (Excerpt(), Excerpt('5f'), Excerpt('5f', '13f'), Excerpt('5f', '14f', 2), Excerpt('.2', '14f'))
    for part in others:
        with pytest.raises(TTPError, match='interrupted run with another'): run(**how | dict(part=part), resume=True)
    run(**how, resume=True)
    assert files(tmp_path/'out')==files(tmp_path/'undisturbed')
    for part in others:
        with pytest.raises(TTPError, match='results of another'): run(**how | dict(part=part), resume=True)
    lines = []
    run(**how, resume=True, say=lines.append)
    assert 'is complete already' in lines[-1] and files(tmp_path/'out')==files(tmp_path/'undisturbed')
    assert strict(tmp_path/'out'/'keypoints.json')['part']=={'start': [5, 'f'], 'end': [14, 'f'], 'slowmo': 1}

@pytest.mark.parametrize('moment', [('Ledger.add', 5, 'torn'), learned('online', 7),
                                    ('report.side_by_side', 4, 'before'), ('yv.export', 1, 'after')], ids=str)
def test_a_killed_part_goes_on(ttp, d, moment):
    "In a process of its own, at a moment of work and of writing; then as if it had not been killed."
    part = (*job(d, 'online'), '--from', '5f', '--to', '.56', '--slowmo', 2)
    if not (d/'part').exists(): assert ttp(*part, '--out', d/'part') in (0, 4)
    assert ttp(*part, '--out', d/'killed', moment=moment)==-signal.SIGKILL, 'it was not killed'
    assert ttp(*part, '--out', d/'killed', '--from', '6f', '--resume')==2, 'another part does not go on'
    assert ttp(*part, '--out', d/'killed', '--resume') in (0, 4)
    was,now = files(d/'part'),files(d/'killed')
    shutil.rmtree(d/'killed')
    assert now.keys()==was.keys() and not [k for k in was if k!='report.html' and was[k]!=now[k]]

def test_the_results_of_earlier_versions_are_of_the_whole(run, tmp_path):
    "They do not say so."
    run(mode='none')
    path = tmp_path/'out'/'keypoints.json'
    was = json.loads(path.read_text())
    assert was.pop('part') is None and was.pop('fps') is None
    path.write_text(json.dumps(was))
    lines = []
    run(mode='none', resume=True, say=lines.append)
    assert 'is complete already' in lines[0]
    with pytest.raises(TTPError, match='results of another'): run(mode='none', resume=True, part=Excerpt(slowmo=2))

@pytest.mark.parametrize('mode', your_video.MODES)
def test_a_part_is_a_video_of_these_frames(run, tmp_path, mode):
    "The same joints as of an array that has only them; numbers, times and boxes of the source, in every file."
    boxes = np.array([[15+t/2, 8, 60+t/2, 52] for t in range(T)])
    (tmp_path/'b.json').write_text(json.dumps(boxes.tolist()))
    part = run(SCENE, mode=mode, part=PART, box=str(tmp_path/'b.json'), exports=EACH)
    alone = run(SCENE[5:14], mode=mode, box=boxes[5:14], out='alone')
    assert np.array_equal(part.kp, alone.kp) and np.array_equal(part.conf, alone.conf)
    out,want = tmp_path/'out',list(range(5, 14))
    assert [f['index'] for f in rows(out)]==want and np.array_equal(part.boxes, boxes[5:14])
    assert list(read_coco(out/'coco.json')['index'])==list(read_openpose(out/'openpose')['index'])==want
    assert list(read_deeplabcut(out/'deeplabcut.csv')['index'])==list(read_npz(out/'keypoints.npz').index)==want
    assert np.allclose(part.times, np.arange(5, 14)/25)

@pytest.mark.parametrize('smooth', [None, EURO])
def test_slow_motion_is_smoothed_at_its_true_rate(run, tmp_path, smooth):
    "As if the file had said 100 frames a second; but the overlay plays as slowly as the source."
    slow = run(SCENE, mode='online', smooth_by=smooth, part=Excerpt(slowmo=4))
    fast = run(SCENE, mode='online', smooth_by=smooth, fps=100, out='fast')
    assert np.array_equal(slow.kp, fast.kp) and np.allclose(slow.times, np.arange(T)/100)
    if smooth: assert not np.array_equal(slow.kp, run(SCENE, mode='online', smooth_by=EURO, out='as it plays').kp)
    rates = [round(open_frames(tmp_path/out/'overlay.mp4').fps) for out in ('out', 'fast')]
    assert rates==[25, 100]

def test_a_part_of_a_damaged_video(run, d, tmp_path):
    damaged(d/'hurt.mp4')
    video = open_frames(d/'hurt.mp4', strict=False)
    result = run('hurt.mp4', mode='none', part=Excerpt('7f', '12f'))
    assert list(result.index)==[i for i in video.index if 7<=i<12]!=[7, 8, 9, 10, 11]
    assert len(rows(tmp_path/'out'))==len(result)

def test_boxes_given_as_arrays(run, tmp_path):
    each = np.tile(np.array([15.,8,60,52]), (T,1))
    a,b = run(mode='none', box=each, out='a'),run(mode='none', out='b')
    assert np.array_equal(a.kp, b.kp) and a.about['box'].startswith('array (')
    with pytest.raises(TTPError, match='results of another'): run(mode='none', box=each+1, out='a', resume=True)
    with pytest.raises(TTPError, match=f'for {T} frames'): run(mode='none', box=each[:3], out='c')
    with pytest.raises(TTPError, match='neither x0,y0,x1,y1 nor'): run(box=[[1,2],[3]], out='c')


# --- memory

def test_memory_stays_flat(run, monkeypatch):
    "A video of 270 MB; what is kept of its frames is bounded, and they are read in order, few of them twice."
    g, seen, rss, kept = np.random.default_rng(0), [], {}, []
    base = g.integers(0, 255, (480,640,3), dtype=np.uint8)
    def read(i):
        seen.append(i)
        return np.roll(base, 3*i, 1)
    video = Frames(read, np.arange(300)/25, (640,480), 25, [f'{i:06d}' for i in range(300)], 'long')
    watch_turn = GuardedAdaptation.watch_turn
    def watched(self, mode, losses):
        watch_turn(self, mode, losses)
        kept.append(len(self.clip.frames.kept))
        i = self.done-1
        if i in (140, 299): rss[i] = psutil.Process().memory_info().rss
    monkeypatch.setattr(GuardedAdaptation, 'watch_turn', watched)
    monkeypatch.setattr(your_video, 'write_all', lambda *a: None)
    result = run(video, mode='online', box='200,100,440,400', cfg=replace(FAST, batch=1, anchor_weight=0.))
    assert len(result)==300 and max(kept)<=your_video.LATEST+1
    assert (rss[299]-rss[140])/2**20<30, rss
    assert seen[-300:]==list(range(300)), 'each frame is read once, in order'
    assert len(seen)<=305, 'besides them the first one for its size, and a few to look whether the box can be right'


# --- the lens

@st.composite
def views(draw):
    W, H = draw(st.integers(40, 3000)), draw(st.integers(40, 3000))
    x0, y0 = draw(st.floats(-20, W-10)), draw(st.floats(-20, H-10))
    w, h = draw(st.floats(30, 1500)), draw(st.floats(30, 1500))
    n, step = draw(st.integers(1, 4)), draw(st.floats(-30, 30))
    boxes = np.array([[x0, y0, x0+w, y0+h]])+step*np.arange(n)[:,None]*[1, .5, 1, .5]
    return (W, H), boxes, draw(st.sampled_from([(64,64), (48,64), (128,128)]))

@settings(max_examples=200, deadline=None, derandomize=True)
@given(views())
def test_a_crop_through_the_lens_is_the_crop(view):
    size, boxes, crop = view
    lens = lens_for(boxes, size, crop)
    (x, y), (w, h) = lens.corner, lens.window
    assert 0<=x and 0<=y and w>=1 and h>=1 and x+w<=size[0] and y+h<=size[1]
    assert all(k<=v for k, v in zip(lens.size, lens.window)) and (lens.scale<=1).all()
    corners = np.array([[x-.5, y-.5], [x+w-.5, y-.5], [x-.5, y+h-.5], [x+w-.5, y+h-.5], [x, y]])
    seen = (corners-lens.corner+.5)*lens.scale-.5
    assert np.allclose(lens.back(seen), corners, atol=1e-9)
    exact = np.ptp(lens.scale)<1e-12 # both sides were rounded alike
    for there, here in zip(boxes, lens.boxes(boxes)):
        direct, through = (crop_affine(*box_to_center_scale(b, crop[0]/crop[1]), crop) for b in (there, here))
        inside = np.clip(corners, there[:2]-1, there[2:]+1).clip(corners.min(0), corners.max(0)) # what a crop shows
        a, b = apply_affine(direct, inside), apply_affine(through, (inside-lens.corner+.5)*lens.scale-.5)
        # a strip of few pixels cannot be kept in proportion
        if exact or min(lens.size)>=64: assert np.abs(a-b).max()<(1e-6 if exact else .5), (lens, np.abs(a-b).max())

@settings(max_examples=60, deadline=None, derandomize=True)
@given(views())
def test_the_window_holds_the_crop(view):
    "Nothing that a network may want to see of a person lies outside of it, but what the frame does not have."
    size, boxes, crop = view
    lens = lens_for(boxes, size, crop)
    for b in boxes:
        centre, scale = box_to_center_scale(b, crop[0]/crop[1])
        half = 100*scale*np.array([1, crop[1]/crop[0]])
        low, high = (centre-half).clip(0, np.array(size)-1), (centre+half).clip(0, np.array(size)-1)
        assert (low>=np.array(lens.corner)-1).all() and (high<=np.add(lens.corner, lens.window)).all()

def test_joints_through_the_lens(d):
    "A network finds the same joints, whether it sees the frames or what the lens keeps of them."
    from ttp_nb.clips import Clip
    m = load_model(d/'m.safetensors')
    boxes = np.tile([30., 16, 50, 44], (T,1)) # the crop is enlarged: the lens cuts, and shrinks nothing
    lens = lens_for(boxes, (80,60), m.cfg.size)
    assert lens.size==lens.window!=(80,60)
    direct = predict(m, Clip('a', SCENE, boxes))[0]
    through = predict(m, Clip('a', [lens.shrink(f) for f in SCENE], lens.boxes(boxes)))[0]
    assert np.allclose(lens.back(through), direct, atol=1e-6)
    half = Lens((4,2), (60,40), (30,20))
    assert half.shrink(SCENE[0]).shape==(20,30,3) and np.allclose(half.back(np.array([14.5, 9.5])), [33.5, 21.5])


# --- ledgers

@settings(max_examples=30, deadline=None, derandomize=True)
@given(cut=st.integers(0, 400))
def test_a_torn_ledger_has_its_whole_lines(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp('ledger')/'l.jsonl'
    kp, conf = np.random.default_rng(0).random((4,3,2)), np.ones((4,3))
    ledger = Ledger(path)
    assert ledger.read()==[]
    ledger.add(kp[:2], conf[:2]); ledger.add(kp[2:], conf[2:])
    assert np.array_equal(ledger.arrays()[0], kp), 'to the last digit'
    data = path.read_bytes()
    path.write_bytes(data[:cut])
    whole = data[:cut].count(b'\n')
    assert len(ledger.read())==whole
    ledger.keep(2); ledger.add(kp[min(whole, 2):], conf[min(whole, 2):])
    assert np.array_equal(ledger.arrays()[0], kp)

def test_a_sound_ledger_is_not_set_aside(tmp_path):
    ledger, lines = Ledger(tmp_path/'work.jsonl'), []
    (tmp_path/'aside').mkdir()
    ledger.add(np.ones((3,2,2)), np.ones((3,2)))
    was = ledger.path.read_bytes()
    your_video.set_ledger_aside(ledger, tmp_path/'aside', lines.append)
    assert not lines and not [*(tmp_path/'aside').iterdir()] and ledger.path.read_bytes()==was
    ledger.path.write_bytes(was[:30]+bytes([was[30]^1])+was[31:])
    your_video.set_ledger_aside(ledger, tmp_path/'aside', lines.append)
    whole = len(ledger.read())
    assert whole<3 and f'damaged after {whole} frames' in lines[0]
    your_video.set_ledger_aside(ledger, tmp_path/'aside', lines.append)
    assert len(lines)==1 and len(ledger.read())==whole, 'what was kept is sound'

def test_a_state_is_kept(tmp_path):
    your_video.save_work_state(tmp_path/'state.pt', {'done': 3, 'mean': torch.arange(2)})
    state = your_video.read_work_state(tmp_path/'state.pt')
    assert state['done']==3 and torch.equal(state['mean'], torch.arange(2))
    assert your_video.read_work_state(tmp_path/'none.pt')=={}

def test_weights_are_those_of_the_file(run, d):
    "The trained network is not changed by a run."
    was = weights(load_model(d/'m.safetensors'))
    run()
    assert all(torch.equal(v, was[k]) for k, v in weights(load_model(d/'m.safetensors')).items())
