"""Streams: each frame is answered as it comes, memory stays what it is, and every end is a clean one."""
import http.server, itertools, json, os, signal, subprocess, sys, threading, time, tracemalloc
import av, cv2, numpy as np, pytest
from tiny import noise_clip, tiny_model
from ttp_nb import guard, streams, your_video
from ttp_nb.basics import TTPError
from ttp_nb.checkpoints import load_model, save_model
from ttp_nb.cli import main
from ttp_nb.clips import Clip, predict
from ttp_nb.exports import read_keypoints
from ttp_nb.recipe_runs import personalization_settings
from ttp_nb.streams import Follower, Pipe, personalize_live, personalize_stream
from ttp_nb.video import UnusableInput
from ttp_nb.your_video import VideoJob

BOX = (15, 8, 60, 52)
TEXT = '15,8,60,52'
FRAMES = noise_clip(T=12, size=(80,64)).frames

def encode(path, frames=FRAMES, rate=25):
    with av.open(str(path), 'w', format='matroska') as c:
        s = c.add_stream('mpeg4', rate=rate)
        s.width,s.height,s.pix_fmt,s.bit_rate = frames[0].shape[1],frames[0].shape[0],'yuv420p',10**7
        for image in [*frames, None]:
            for p in s.encode(None if image is None else av.VideoFrame.from_ndarray(image, format='rgb24')): c.mux(p)
    return path.read_bytes()

@pytest.fixture(scope='module')
def d(tmp_path_factory):
    d = tmp_path_factory.mktemp('streams')
    save_model(tiny_model(), d/'m.safetensors')
    encode(d/'film.mkv')
    return d

@pytest.fixture
def quick(monkeypatch):
    "Reports and trials are other tests' business; and what is there to learn from noise?"
    monkeypatch.setattr(guard, 'got_worse', lambda *_: '')
    monkeypatch.setattr(your_video, 'try_writers', lambda *a: None)
    monkeypatch.setattr(your_video, 'write_report', lambda r, s, f, path, raw: path.write_text(json.dumps(s)))

@pytest.fixture
def live(d, quick, tmp_path):
    "A stream into a folder: the result and what was said."
    def live(source, out='out', box=TEXT, mode='online', command='', fps=None, **how):
        said = []
        cfg = personalization_settings(['personalization.batch', '2'], None, d/'m.safetensors')
        job = VideoJob('-', tmp_path/out, d/'m.safetensors', mode, box, cfg, command=command, fps=fps)
        return personalize_live(job, source, say=said.append, progress=False, **how),said,tmp_path/out
    return live

def stream(d, source, box=BOX, **how): return personalize_stream(source, box, d/'m.safetensors', **dict(batch=2) | how)

def lines(out): return [json.loads(line) for line in (out/'stream.jsonl').read_text().splitlines()]

def piped(data):
    "The reading end of a pipe into which a thread writes."
    reading,writing = os.pipe()
    def fill():
        with os.fdopen(writing, 'wb') as f: f.write(data)
    threading.Thread(target=fill, daemon=True).start()
    return Pipe(reading)


# --- pipes

def test_a_pipe_from_another_process(d, tmp_path):
    out = tmp_path/'out'
    words = ['personalize', '-', '--mode', 'online', '--box', TEXT, '--model', d/'m.safetensors', '--out', out,
             'personalization.batch', '2', '--export', 'coco']
    with open(d/'film.mkv', 'rb') as film:
        r = subprocess.run([sys.executable, '-m', 'ttp_nb', *map(str, words)], stdin=film, capture_output=True,
                           text=True)
    assert r.returncode in (0, 4), r.stderr
    written = {p.name for p in out.iterdir()}
    assert {'keypoints.json', 'overlay.mp4', 'report.html', 'stream.jsonl', 'coco.json'} <= written
    result,rows = read_keypoints(out/'keypoints.json'),lines(out)
    assert list(result.index)==list(range(12))==[row['index'] for row in rows] and not (out/'.work').exists()
    assert np.allclose(result.times, np.arange(12)/25, atol=2e-3) and result.about['source']=='standard input'
    assert all(len(row['keypoints'])==13 and len(row['keypoints'][0])==3 for row in rows)
    assert 'standard input' in r.stdout and 'stream.jsonl' in r.stdout and 'Traceback' not in r.stderr

def test_each_line_is_there_when_its_frame_has_been_answered(live, d, tmp_path):
    counts = []
    def frames():
        for i,frame in enumerate(FRAMES):
            if i>2: # the frame before the last was handed over: the one before that has been answered
                end = time.monotonic()+120
                while len(lines(tmp_path/'out'))<i-2 and time.monotonic()<end: time.sleep(.01)
                counts.append(len(lines(tmp_path/'out')))
            yield frame
    live(frames())
    assert all(n>=i+1 for i,n in enumerate(counts)) and len(counts)==9

@pytest.mark.parametrize('share', [.4, .75])
def test_a_pipe_that_breaks_off(live, d, share):
    data = (d/'film.mkv').read_bytes()
    result,said,out = live(piped(data[:int(len(data)*share)]))
    whole = list(streams.encoded_frames(piped(data), 'a pipe'))
    assert 1<len(result)<12 and len(lines(out))==len(result) and (out/'overlay.mp4').exists()
    assert len(whole)==12

@pytest.mark.parametrize('data', [b'', b'no video', bytes(200_000)], ids=['nothing', 'text', 'zeros'])
def test_a_pipe_without_a_video(live, data, tmp_path):
    with pytest.raises(UnusableInput, match='an open file: no video can be read|not one frame'): live(piped(data))
    assert not (tmp_path/'out'/'.work').exists() and not (tmp_path/'out'/'stream.jsonl').exists()

def test_damaged_packets_are_left_out_and_counted(live, d):
    data = bytearray((d/'film.mkv').read_bytes())
    with av.open(str(d/'film.mkv')) as c: packet = [p for p in c.demux(video=0) if p.size][5]
    data[packet.pos+10:packet.pos+10+packet.size//2] = bytes(packet.size//2)
    result,said,_ = live(piped(bytes(data)))
    assert 9<=len(result)<=12

def test_what_ffmpeg_would_take_for_a_list_of_files_is_no_video(d):
    listed = f"ffconcat version 1.0\nfile '{d/'film.mkv'}'\n".encode()
    with pytest.raises(UnusableInput, match='no video'): list(streams.encoded_frames(piped(listed*50), 'a pipe'))


# --- cameras and addresses

def test_no_such_camera(d, capfd):
    assert main(['personalize', 'camera:99', '--mode', 'online', '--model', str(d/'m.safetensors'), '--box', TEXT,
                 '--out', str(d/'none')])==3
    err = capfd.readouterr().err.strip().splitlines()
    assert len(err)==1 and 'camera:99: there is no such camera' in err[0]

def test_a_file_in_the_place_of_a_camera(d, monkeypatch):
    opened,real = [],cv2.VideoCapture
    def capture(number):
        opened.append(number)
        return real(str(d/'film.mkv'))
    monkeypatch.setattr(cv2, 'VideoCapture', capture)
    for source in ('camera:2', '2', 2):
        found = list(stream(d, source, mode='none'))
        assert len(found)==12 and opened.pop()==2
    want = [image for _,image in streams.encoded_frames(piped((d/'film.mkv').read_bytes()), 'a pipe')]
    assert np.abs(found[7][0].astype(int)-want[7]).mean()<4, 'red is red and blue is blue'

def test_an_address(d):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *a, **k): super().__init__(*a, directory=str(d), **k)
        def log_message(self, *a): pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f'http://127.0.0.1:{server.server_port}'
        assert len(list(stream(d, f'{at}/film.mkv', mode='none')))==12
        with pytest.raises(UnusableInput, match='no video can be read'): next(stream(d, f'{at}/none.mkv'))
        server.shutdown()

def test_passwords_are_not_written(live, d, monkeypatch):
    monkeypatch.setattr(streams, 'open_encoded', lambda source, name: av_of(d))
    def av_of(d):
        c = av.open(str(d/'film.mkv'))
        return c,c.streams.video[0]
    address = 'rtsp://me:secret@host/live'
    result,said,out = live(address, command=f'ttp personalize {address} --mode online')
    assert result.about['source']=='rtsp://host/live' and len(result)==12
    for path in out.iterdir(): assert b'secret' not in path.read_bytes(), path.name
    assert 'secret' not in ' '.join(said)


# --- no end

def test_memory_does_not_grow(d, quick, monkeypatch):
    monkeypatch.setattr(streams, 'STRETCH', 40)
    monkeypatch.setattr(streams, 'LATEST', 16)
    learners = []
    monkeypatch.setattr(streams.Learner, 'end', lambda self: '')
    init = streams.Learner.__init__
    monkeypatch.setattr(streams.Learner, '__init__', lambda self, *a: (learners.append(self), init(self, *a))[1])
    endless = stream(d, (FRAMES[i%12] for i in itertools.count()))
    for _ in zip(range(85), endless): pass
    tracemalloc.start()
    held = []
    for n in (40, 80): # whole stretches: at the same place of one
        for _ in zip(range(40), endless): pass
        held.append(tracemalloc.take_snapshot())
    grown = sum(s.size_diff for s in held[1].compare_to(held[0], 'filename'))
    tracemalloc.stop()
    endless.close()
    assert abs(grown)<300_000, f'{grown} bytes more after 40 frames'
    learner, = learners
    assert learner.done>=165 and len(learner.frames.kept)<=16 and learner.n<=40 and len(learner.run.losses)<=40

def test_weights_and_moments_go_on_from_stretch_to_stretch(d, quick, monkeypatch):
    def weights(stretch):
        monkeypatch.setattr(streams, 'STRETCH', stretch)
        m = load_model(d/'m.safetensors')
        cfg = personalization_settings(['personalization.batch', '2'], None, d/'m.safetensors')
        learner = streams.Learner(VideoJob('-', d/'x', d/'m.safetensors', 'online', cfg=cfg), m, m)
        for frame in FRAMES: learner(frame, BOX)
        return learner
    one,three = weights(100),weights(4)
    steps = [max(int(s['step']) for s in x.run.adaptation.opt.state_dict()['state'].values()) for x in (one, three)]
    assert steps[0]==len(one.run.losses) and 9<=steps[1]<=12 and three.n==4 and three.done==12
    def moved_by(x):
        return max(float((a-b).abs().max()) for a,b in zip(x.run.model.parameters(), x.trained.parameters()))
    moved = [moved_by(x) for x in (one, three)]
    assert .3<moved[0]/moved[1]<3

def test_a_generator_that_is_left_is_closed(d):
    closed = threading.Event()
    def frames():
        try:
            for i in itertools.count(): yield FRAMES[i%12]
        finally: closed.set()
    for n,(frame,kp,conf) in enumerate(stream(d, frames(), mode='none')):
        if n==3: break
    assert closed.wait(60)

def test_what_goes_wrong_in_the_source_comes_out(d):
    def frames():
        yield from FRAMES[:3]
        raise ValueError('the lens cap')
    found = []
    with pytest.raises(ValueError, match='the lens cap'):
        for one in stream(d, frames(), mode='none'): found.append(one)
    assert len(found)==3
    with pytest.raises(UnusableInput, match='frame 1: .*float64'):
        list(stream(d, [FRAMES[0], FRAMES[1]/255.], mode='none'))

def test_the_answers_are_those_of_the_frames(d):
    m = load_model(d/'m.safetensors')
    found = list(stream(d, iter(FRAMES), mode='none'))
    kp,height = predict(m, Clip('a', FRAMES, np.tile(BOX, (12,1))))
    far = np.linalg.norm(np.stack([f[1] for f in found])-kp, axis=-1)
    assert np.median(far)<1.5 and all(np.array_equal(f[0], frame) for f,frame in zip(found, FRAMES))
    assert all(f[2].shape==(13,) and (f[2]>=0).all() and (f[2]<=1).all() for f in found)

def test_duration_is_the_streams_own_time(d, live):
    assert len(list(stream(d, (FRAMES[0] for _ in itertools.count()), mode='none', fps=10, duration=.5)))==5
    result,_,_ = live(piped((d/'film.mkv').read_bytes()), duration=.3)
    assert len(result)==8


# --- too fast

def test_dropped_frames_are_counted(live, monkeypatch):
    begun,read_all,real = threading.Event(),threading.Event(),streams.answer_one
    def frames():
        yield from FRAMES[:3]
        begun.wait(120)
        yield from FRAMES[3:]
        read_all.set()
    def slow(coming, *a):
        if coming.index>=2:
            begun.set()
            read_all.wait(120)
        return real(coming, *a)
    monkeypatch.setattr(streams, 'answer_one', slow)
    result,said,out = live(frames(), drop=True)
    assert result.index[-1]==11 and 2<=len(result)<=5 and not {*range(3, 10)} & {*result.index.tolist()}
    assert any(line.startswith(f'{12-len(result)} of 12 frames were dropped') for line in result.about['notes'])
    assert [row['index'] for row in lines(out)]==list(result.index) and np.allclose(result.times, result.index/25)

def test_without_drop_nothing_is_lost(live):
    result,said,_ = live(iter(FRAMES))
    assert len(result)==12 and not any('dropped' in line for line in said)


# --- the person

def red(image):
    y,x = np.nonzero((image==(200, 0, 0)).all(-1))
    return np.array([[x.min(), y.min(), x.max(), y.max(), .9]]) if len(x) else np.zeros((0,5))

def near_red(image, box):
    found = red(image)
    x = (box[0]+box[2])/2
    return (found[0,:4], .9) if len(found) and found[0,0]-10<x<found[0,2]+10 else (box, 0.)

def walk(n=60, away=range(20,40)):
    for i in range(n):
        image = np.zeros((60,220,3), np.uint8)
        if i not in away: image[20:50,10+3*i:30+3*i] = 200,0,0
        yield image

def test_a_person_who_leaves_leaves_gaps(live, monkeypatch):
    monkeypatch.setattr(streams, 'Follower', lambda: Follower(red, near_red))
    result,said,out = live(walk(), box='', fps=10)
    gone = np.flatnonzero(np.isnan(result.kp).all((1,2)))
    assert set(range(20,40)) <= set(gone.tolist()) and gone.max()<48 and not np.isnan(result.kp[:20]).any()
    assert [i for i,row in enumerate(lines(out)) if row['box'] is None]==gone.tolist()
    assert lines(out)[25]['keypoints'][0]==[None, None, 0.] and np.isfinite(result.boxes).all()
    for words in (f'not seen in {len(gone)} of 60 frames', 'found again 1 times'): assert words in ' '.join(said)
    written = read_keypoints(out/'keypoints.json')
    assert np.isnan(written.kp[25]).all() and (out/'overlay.mp4').exists()

def test_a_whole_report_with_gaps(d, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, 'Follower', lambda: Follower(red, near_red))
    job = VideoJob('-', tmp_path/'out', d/'m.safetensors', 'none', exports=('coco', 'openpose', 'dlc', 'npz', 'angles'))
    personalize_live(job, walk(30, range(10,14)), overlay=False, say=lambda line: None, progress=False)
    page = (tmp_path/'out'/'report.html').read_text()
    assert 'not seen in' in page and 'overlay.mp4</a>' not in page
    assert not (tmp_path/'out'/'overlay.mp4').exists() and (tmp_path/'out'/'coco.json').exists()

def test_nobody(live, monkeypatch, tmp_path):
    monkeypatch.setattr(streams, 'Follower', lambda: Follower(lambda image: np.zeros((0,5)), near_red))
    with pytest.raises(UnusableInput, match='frames one by one: nobody was seen in its 40 frames'):
        live(walk(40), box='')
    assert not (tmp_path/'out'/'.work').exists() and len(lines(tmp_path/'out'))==40

def test_frames_that_wait_are_few(d, monkeypatch):
    most = []
    class Noting(Follower):
        def choose(self, waiting): most.append(len(waiting))
    where = Noting(red, near_red)
    m = load_model(d/'m.safetensors')
    frames = (streams.Coming(i, i/1000, FRAMES[0]) for i in range(100)) # a thousand a second
    learner = streams.Learner(VideoJob('-', d/'x', d/'m.safetensors', 'none'), m, m)
    found = list(streams.answered(frames, where, learner))
    assert [f.index for f in found]==list(range(100)) and most==[32, 32, 32, 4]


# --- ends

@pytest.mark.skipif(os.name=='nt', reason='signals as POSIX has them')
def test_ctrl_c_ends_it_and_writes_everything(d, tmp_path):
    out = tmp_path/'out'
    words = ['personalize', '-', '--mode', 'online', '--box', TEXT, '--model', d/'m.safetensors', '--out', out,
             '--no-overlay', 'personalization.batch', '2']
    p = subprocess.Popen([sys.executable, '-m', 'ttp_nb', *map(str, words)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False)
    p.stdin.write((d/'film.mkv').read_bytes())
    p.stdin.flush() # and stays open: there might be more
    end = time.monotonic()+600
    while time.monotonic()<end and p.poll() is None and lines_so_far(out)<5: time.sleep(.05)
    p.send_signal(signal.SIGINT)
    said,err = p.communicate(timeout=600)
    assert p.returncode in (0, 4), err.decode()
    result = read_keypoints(out/'keypoints.json')
    assert len(result)==len(lines(out))>=5 and any('ended from outside' in note for note in result.about['notes'])
    assert (out/'report.html').exists() and b'Traceback' not in err

def lines_so_far(out):
    path = out/'stream.jsonl'
    return path.read_bytes().count(b'\n') if path.exists() else 0

def test_what_the_guard_refuses(live, monkeypatch):
    monkeypatch.setattr(guard, 'got_worse', lambda *_: 'it got worse')
    result,_,out = live(iter(FRAMES))
    assert 'it got worse' in result.about['guard']['why'] and np.array_equal(result.kp, result.before_kp)
    assert not (out/'profile.safetensors').exists()

def test_a_folder_is_not_written_over(live, tmp_path):
    live(iter(FRAMES[:3]), mode='none')
    with pytest.raises(TTPError, match='of an earlier run: choose another --out'): live(iter(FRAMES), mode='none')
    assert len(lines(tmp_path/'out'))==3

def test_what_cannot_be_made_of_it_loses_nothing(d, quick, tmp_path):
    job = VideoJob('-', tmp_path/'out', d/'m.safetensors', 'none', TEXT, smooth_by=('butterworth', 40.))
    said = []
    result = personalize_live(job, iter(FRAMES), say=said.append, progress=False)
    assert len(result)==12 and result.raw_kp is None and any('as they were answered' in line for line in said)

@pytest.mark.parametrize('words,says', [
    (['-'], 'standard input is a stream and answered as it comes: add --mode online'),
    (['camera:0', '--from', '2', '--mode', 'online'], '--from needs the whole video'),
    (['0', '--to', '2', '--mode', 'online'], '--to needs the whole video, and camera:0 is a stream'),
    (['-', '--ask', '--mode', 'online'], '--ask needs the whole video'),
    (['-', '--resume', '--mode', 'none'], '--resume needs the whole video'),
    (['-', '--slowmo', '4', '--mode', 'online'], '--slowmo'),
    (['-', '--duration', '0', '--mode', 'online'], '--duration 0.0'),
    (['rtsp://a:b@host/x', '--box', 'boxes.csv', '--mode', 'online'], "x0,y0,x1,y1 or 'frame'"),
    (['-', 'b.mp4', '--mode', 'online'], 'answered alone'), (['a.mp4', '--drop'], '--drop is for streams'),
    (['a.mp4', '--duration', '5'], '--duration is for streams'),
    (['a.mp4', '--no-overlay'], '--no-overlay is for streams')],
    ids=lambda x: ' '.join(x) if isinstance(x, list) else '')
def test_refused_at_once_in_one_line(d, tmp_path, capfd, words, says):
    assert main(['personalize', *words, '--model', str(d/'m.safetensors'), '--out', str(tmp_path/'out')])==2
    err = capfd.readouterr().err.strip()
    assert says in err and '\n' not in err
    assert not (tmp_path/'out'/'stream.jsonl').exists()
