"""One call: whatever holds frames, the same joints; nothing is left where one works; what is saved is the command's."""
import json, os, subprocess, sys, tempfile
from pathlib import Path
import numpy as np, pytest
from tiny import noise_clip, tiny_model
import ttp_nb
from ttp_nb import guard, one_call, your_video
from ttp_nb.basics import TTPError
from ttp_nb.checkpoints import save_model
from ttp_nb.cli import main
from ttp_nb.exports import read_keypoints
from ttp_nb.one_call import personalize
from ttp_nb.video import UnusableInput, open_frames, write_mp4
from ttp_nb.your_video import Ledger, VideoJob, personalize_video

BOX = (15, 8, 60, 52)
FRAMES = noise_clip(T=12, size=(80,64)).frames


@pytest.fixture(scope='module')
def d(tmp_path_factory):
    d = tmp_path_factory.mktemp('call')
    save_model(tiny_model(), d/'m.safetensors')
    write_mp4(d/'a.mp4', FRAMES, 25)
    return d

@pytest.fixture
def call(d, tmp_path, monkeypatch):
    "Calls from an empty folder, which stays empty; temporary files have a folder of their own."
    (tmp_path/'tmp').mkdir(); (tmp_path/'here').mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path/'tmp'))
    monkeypatch.chdir(tmp_path/'here')
    monkeypatch.setattr(guard, 'got_worse', lambda *_: '') # what there is to learn from noise?
    monkeypatch.setattr(your_video, 'write_report', lambda r, s, f, path, raw: path.write_text(json.dumps(s)))
    def call(source=FRAMES, box=BOX, **how):
        return personalize(source, box, **dict(model=d/'m.safetensors', mode='none', batch=3, progress=False) | how)
    yield call
    assert not list((tmp_path/'here').iterdir()), 'nothing is written where one works'

class Torchlike:
    "Has an array, as a tensor does."
    def __array__(self, dtype=None, copy=None): return FRAMES

SOURCES = {'array': lambda: FRAMES, 'list': lambda: list(FRAMES), 'generator': lambda: (f for f in FRAMES),
            'tuple of views': lambda: tuple(FRAMES[::-1][::-1]), 'Frames': lambda: open_frames(FRAMES),
            'like a tensor': Torchlike}

@pytest.mark.parametrize('kind', SOURCES)
def test_whatever_holds_the_frames_the_joints_are_the_same(call, kind):
    a,b = call(SOURCES[kind]()),call()
    assert np.array_equal(a.keypoints, b.keypoints) and np.array_equal(a.confidence, b.confidence)
    assert a.keypoints.shape==(12,13,2) and a.names[1]=='000001' and np.allclose(a.times, np.arange(12)/25)

def test_files_folders_and_lists_of_images(call, d, tmp_path):
    import cv2
    (tmp_path/'images').mkdir()
    for i,f in enumerate(FRAMES): cv2.imwrite(str(tmp_path/'images'/f'{i}.png'), f[...,::-1])
    files = sorted((tmp_path/'images').iterdir(), key=lambda p: int(p.stem))
    want = call().keypoints
    for source in (tmp_path/'images', (str(p) for p in files)):
        found = call(source)
        assert found.names[11]=='11.png' and np.array_equal(found.keypoints, want)
    found = call(d/'a.mp4')
    said = f"{str(d/'a.mp4')!r}, box=..., model={str(d/'m.safetensors')!r}, mode='none', batch=3"
    assert len(found)==12 and found.job.command==f'personalize({said})'

@pytest.mark.parametrize('source,says', [
    (FRAMES/255., 'uint8'), (FRAMES[0], 'uint8'), (FRAMES[:0], 'uint8'), ([], 'not one frame'),
    (iter(()), 'not one frame'),
    ([FRAMES[0], FRAMES[1][:40]], 'frame 1: .40, 80, 3.'), ([FRAMES[0].astype(float)], 'frame 0: .*float64'),
    ([FRAMES[0][...,0]], 'frame 0'), (7, 'a int holds no frames'), (None, 'a NoneType holds no frames'),
    ('none.mp4', 'no such file')], ids=lambda x: x if isinstance(x, str) else '')
def test_what_holds_no_frames(call, tmp_path, source, says):
    with pytest.raises(UnusableInput, match=says): call(source)
    assert not list((tmp_path/'tmp').iterdir()), 'nothing is left behind'

def test_boxes_in_every_form(call, tmp_path):
    each = np.tile(np.array(BOX, float), (12,1))
    (tmp_path/'b.json').write_text(str(each.tolist()))
    want = call().keypoints
    for box in (np.array(BOX), each.tolist(), tmp_path/'b.json'): assert np.array_equal(call(box=box).keypoints, want)
    gap = each.copy(); gap[3:5] = np.nan
    found = call(box=gap)
    assert np.array_equal(found.keypoints, want) and 'no box in 2 of 12' in found.notes[0]
    assert call(box='frame').result.boxes[0].tolist()==[0,0,79,63]
    for box,says in (((1,2,3), 'array .3,. for 12'), (each[1:], 'for 12 frames'), ((60,8,15,52), 'x0 < x1'),
                     ('here', 'neither'), (each+500, 'outside'), ({'x': 1}, 'neither x0,y0,x1,y1 nor'),
                     (each*np.nan, 'not one box')):
        with pytest.raises(TTPError, match=says): call(box=box)
    part = call(box=each[:4], start='2f', end='6f')
    assert part.frames.tolist()==[2,3,4,5] and part.names[0]=='000002'

def test_the_person_is_asked_for(call, monkeypatch):
    monkeypatch.setattr(one_call, 'ask_person', lambda frames: f'{frames.index[0]},8,60,52')
    found = call(box='ask', start='9f')
    assert found.result.boxes[0].tolist()==[9,8,60,52] and found.result.about['box']=='9,8,60,52'

def test_a_part_and_its_true_times(call):
    found = call(start=.2, end='0.4s', slowmo=4)
    assert found.frames.tolist()==[5,6,7,8,9] and np.allclose(found.times, found.frames/100)
    assert np.allclose(call(fps=50).times, np.arange(12)/50)
    for how,says in ((dict(start=9), 'no frame lies'), (dict(end='soon'), 'is no moment'), (dict(slowmo=0), 'slowmo'),
                     (dict(fps=-1), 'rate')):
        with pytest.raises(TTPError, match=says): call(**how)

@pytest.mark.parametrize('how,says', [
    (dict(mode='sideways'), 'mode must be'), (dict(model='none.safetensors'), 'none.safeten'),
    (dict(joints='mpii'), 'joint set'), (dict(lr='fast'), 'number'), (dict(speed=1), 'personalization.speed'),
    (dict(profile='none.safetensors'), 'no such profile')], ids=str)
def test_what_does_not_fit(call, tmp_path, how, says):
    with pytest.raises(TTPError, match=says): call(**how)
    assert not list((tmp_path/'tmp').iterdir())

def test_temporary_files_go_with_the_result(call, tmp_path):
    found = call((f for f in FRAMES))
    (folder,) = (tmp_path/'tmp').iterdir()
    assert (folder/'results'/'overlay.mp4').is_file() and found._repr_html_()
    del found
    assert not list((tmp_path/'tmp').iterdir())

def test_it_shows_itself_small(call):
    found = call(open_frames(np.repeat(np.repeat(FRAMES, 9, 1), 9, 2)), box=(135,72,540,468))
    html = found._repr_html_()
    assert html.count('<img')==1 and 2000<len(html)<150_000
    assert '12 frames, 13 joints (penn13), none: answered, as it is' in html
    said = '12 frames, 13 joints (penn13), none: answered, as it is. Whether the joints can be relied on could not'
    assert repr(found).startswith(said) and str(found.verdict).startswith(found.verdict.sentence) and len(found)==12
    one = call(FRAMES[:1])
    assert one._repr_html_() and 'script' not in html

def test_nobody_in_the_picture(call, monkeypatch):
    from ttp_nb import person
    monkeypatch.setattr(person, 'people_detector', lambda: lambda frame: np.zeros((0,5)))
    with pytest.raises(UnusableInput, match='nobody'): call(box=None)


# --- saved

def test_what_is_saved_is_what_the_command_writes(call, d, tmp_path):
    found = call(d/'a.mp4', mode='offline', filter='savgol:4', height=1.75)
    found.save(tmp_path/'mine', ['coco', 'trc'])
    code = main(['personalize', str(d/'a.mp4'), '--model', str(d/'m.safetensors'), '--box', '15.0,8.0,60.0,52.0',
                 '--filter', 'savgol:4', '--height', '1.75', '--export', 'coco,trc',
                 '--out', str(tmp_path/'theirs'), 'personalization.batch', '3'])
    names = {p.name for p in (tmp_path/'theirs').iterdir()}
    assert code in (0, 4) and names=={p.name for p in (tmp_path/'mine').iterdir()}
    for name in names-{'report.html'}: # which has the command
        assert (tmp_path/'mine'/name).read_bytes()==(tmp_path/'theirs'/name).read_bytes(), name

def test_what_is_made_of_the_answers(call, tmp_path):
    found = call(fill=.1, filter=6, height=1.75)
    assert found.result.about['smoothing'].endswith('6 Hz') and found.result.about['fill']==.1
    assert found.notes[-1].startswith('mended') and found.result.flags.shape==(12,13)
    assert 'fill=0.1, filter=6, height=1.75' in found.job.command
    assert np.array_equal(found.result.raw_kp, call().keypoints)
    with pytest.raises(TTPError, match='--height 1.75'): call().save(tmp_path/'no', 'trc')
    assert not (tmp_path/'no').exists()
    for wrong, says in ((dict(filter='mean'), 'cut-off in Hz'), (dict(filter=0), 'cut-off'),
                        (dict(filter=13), 'a second'), (dict(fill=-1), 'fill -1'),
                        (dict(height='tall'), 'height tall')):
        with pytest.raises(TTPError, match=says): call(**wrong)

def test_saved_again_and_elsewhere(call, tmp_path):
    found,out = call(),tmp_path/'new'/'out'
    assert found.save(out, ('coco', 'npz'))==out and found.save(out, 'dlc')
    assert sorted(p.name for p in out.iterdir())==['deeplabcut.csv', 'keypoints.json', 'overlay.mp4', 'report.html']
    assert read_keypoints(out/'keypoints.json').about['exports']==['dlc']
    call(mode='offline').save(out)
    assert (out/'profile.safetensors').is_file() and not (out/'deeplabcut.csv').exists()
    found.save(str(out))
    assert not list(out.glob('profile*')), 'a profile of another run does not stay beside it'
    was = (out/'keypoints.json').read_bytes()
    with pytest.raises(TTPError, match='of another video'): call(FRAMES[::-1]).save(out)
    with pytest.raises(TTPError, match='no export .c3d'): found.save(out, ['c3d'])
    assert (out/'keypoints.json').read_bytes()==was

def test_a_folder_with_an_interrupted_run_is_left_alone(call, d, tmp_path, monkeypatch):
    def stop(*a): raise KeyboardInterrupt
    job = VideoJob(d/'a.mp4', tmp_path/'out', d/'m.safetensors', 'none', BOX)
    with monkeypatch.context() as m:
        m.setattr(Ledger, 'add', stop)
        with pytest.raises(KeyboardInterrupt): personalize_video(job, progress=False, say=print)
    with pytest.raises(TTPError, match='interrupted run'): call().save(tmp_path/'out')
    assert (tmp_path/'out'/'.work'/'job.json').is_file() and not (tmp_path/'out'/'keypoints.json').exists()

def test_a_profile_from_a_call(call, tmp_path):
    call(mode='offline').save(tmp_path/'first')
    later = call(FRAMES[::-1], profile=tmp_path/'first'/'profile.safetensors')
    assert not np.array_equal(later.keypoints, later.before) and later.why==''


# --- a newcomer's script

def test_ten_lines_from_help_alone(d, tmp_path):
    "What somebody writes who has read nothing but help(personalize)."
    script = f'''
from ttp_nb import personalize
import numpy as np
frames = np.stack([np.full((64, 80, 3), 9 * t, np.uint8) for t in range(5)])
found = personalize(frames, (15, 8, 60, 52), model={str(d/'m.safetensors')!r}, mode='online', fps=30)
assert found.keypoints.shape == (5, len(found.joints), 2) == found.before.shape
assert found.confidence.shape == (5, len(found.joints))
print(found)
found.save('results', exports=['coco'])'''
    r = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, capture_output=True, text=True,
                       env=os.environ | {'PYTHONPATH': str(Path(ttp_nb.__file__).parents[1]), 'OMP_NUM_THREADS': '1'})
    assert r.returncode==0, r.stderr[-1500:]
    assert r.stdout.startswith('5 frames, 13 joints (penn13), online: ')
    assert 'could not be judged' in r.stdout
    written = {p.name for p in (tmp_path/'results').iterdir()}
    assert {'keypoints.json', 'overlay.mp4', 'report.html', 'coco.json'} <= written

def run_script(script, tmp_path):
    r = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, capture_output=True, text=True,
                       env=os.environ | {'PYTHONPATH': str(Path(ttp_nb.__file__).parents[1]), 'OMP_NUM_THREADS': '1'})
    assert r.returncode==0, r.stderr[-1500:]
    return r.stdout

def test_a_part_of_a_file_one_joint_and_its_doubts_from_help_alone(d, tmp_path):
    "What help(ttp_nb), help(personalize) and help(found) say: errors, a part, a joint by its name, angles as a file."
    write_mp4(tmp_path/'my.mp4', FRAMES, 10)
    said = run_script(f'''
from ttp_nb import personalize, TTPError, UnusableInput
try: personalize('your.mp4')
except UnusableInput as error: print(error)
found = personalize('my.mp4', (15, 8, 60, 52), {str(d/'m.safetensors')!r}, 'none', start=.3, end='11f', fill=.2)
print(found.verdict.colour, *found.verdict.todo, sep=chr(10))
knee = found.joints.index('right_knee')
for time, place, chance in zip(found.times, found.keypoints[:, knee], found.confidence[:, knee]):
    print(f'{{time:.1f}} s: {{place.round()}}, {{chance:.2f}}')
try: print(sorted(path.name for path in found.save('output/my', 'angles').iterdir()))
except TTPError as error: print(error)''', tmp_path)
    for words in ('your.mp4', '\namber\n', '0.3 s: [', '1.0 s: [', 'angles.csv'): assert words in said, words
    assert '1.1 s' not in said

def test_frames_one_by_one_from_help_alone(d, tmp_path):
    "What help(personalize) and help(personalize_stream) say of frames that somebody else reads: a loop of OpenCV's."
    write_mp4(tmp_path/'my.mp4', FRAMES, 10)
    said = run_script(f'''
import cv2
from ttp_nb import personalize, personalize_stream
def frames():
    video = cv2.VideoCapture('my.mp4')
    while True:
        there, frame = video.read()
        if not there: return
        yield frame[..., ::-1]
how = dict(box=(15, 8, 60, 52), model={str(d/'m.safetensors')!r}, mode='none')
found = personalize(frames(), fps=10, **how)
print(found.keypoints.shape, found.confidence.shape, found.before.shape, found.times[-1], *found.joints)
for frame, keypoints, confidence in personalize_stream(frames(), **how):
    print(frame.shape, keypoints.shape, confidence.min() >= 0)
print(found.save('results').resolve() / 'keypoints.json')''', tmp_path).splitlines()
    assert said[0].startswith('(12, 13, 2) (12, 13) (12, 13, 2) 1.1 ') and 'right_knee' in said[0]
    assert said[1:13]==['(64, 80, 3) (13, 2) True']*12 and Path(said[13]).is_file()

def test_help_says_what_comes_back():
    said = run_script("import ttp_nb; help(ttp_nb); help(ttp_nb.PersonalizedVideo)", None)
    for words in ("found = personalize('my.mp4')", 'print(found.verdict)', "found.save('output/my')", 'ttp --help',
                  "names, such as 'right_knee'", '(T,J,2) x,y in pixels of the frame', "'green', 'amber' or 'red'",
                  'exports: other formats'):
        assert words in said, words
    assert 'TYPE_CHECKING' not in said
