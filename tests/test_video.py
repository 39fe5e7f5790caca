"Hostile files, every codec at hand, interrupted writing: what a reader of other people's videos meets."
import dataclasses, gc, lzma, multiprocessing, os, pickle, signal, struct, subprocess, sys, time
from pathlib import Path
import av, cv2, numpy as np, pytest
from PIL import Image, TiffImagePlugin
from ttp_nb.basics import TTPError
from ttp_nb.images import Frames, measured_rate, read_image
from ttp_nb.video import _upright, open_frames, probe, write_mp4

REAL = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))
Y,X = np.mgrid[:64,:80]


def picture(i):
    a = np.stack([128+90*np.sin(X/9+i/3), 128+90*np.cos(Y/7+i/5), np.full(X.shape, i*6%256.)], -1)
    a = a.astype(np.uint8)
    a[10:26,2*i%60:2*i%60+16] = 255,0,0
    return a


SCENE = np.stack([picture(i) for i in range(36)])


def encode(path, codec, pix='yuv420p', fmt=None, frames=SCENE, flags=None, **opts):
    with av.open(str(path), 'w', format=fmt, options={'movflags':flags} if flags else {}) as c:
        s = c.add_stream(codec, rate=25, options=opts)
        s.width,s.height,s.pix_fmt = frames.shape[2],frames.shape[1],pix
        for a in frames:
            for p in s.encode(av.VideoFrame.from_ndarray(a, format='rgb24').reformat(format=pix)): c.mux(p)
        for p in s.encode(): c.mux(p)
    return path


# --- images

@pytest.fixture
def jpg(tmp_path):
    Image.fromarray(SCENE[0]).save(tmp_path/'a.jpg', quality=95)
    return tmp_path/'a.jpg'


def test_images_are_rgb_uint8(tmp_path, jpg):
    assert np.abs(read_image(jpg).astype(int)-SCENE[0]).mean()<8
    for name in ('a.png', 'a.bmp', 'a.tiff'):
        Image.fromarray(SCENE[0]).save(tmp_path/name)
        assert (read_image(tmp_path/name)==SCENE[0]).all()
    for mode in ('L', 'RGBA', 'P', '1', 'CMYK', 'LA'):
        p = tmp_path/('m.tiff' if mode=='CMYK' else 'm.png')
        Image.fromarray(SCENE[0]).convert(mode).save(p)
        assert read_image(p).shape==(64,80,3) and read_image(str(p)).dtype==np.uint8


def test_every_truncation_is_noticed(jpg):
    data = jpg.read_bytes()
    for n in (0, 1, 2, 20, len(data)//4, len(data)//2, len(data)-200, len(data)-3):
        jpg.write_bytes(data[:n])
        with pytest.raises(TTPError, match='a.jpg'): read_image(jpg)


def test_truncated_png(tmp_path):
    p = tmp_path/'a.png'; Image.fromarray(SCENE[0]).save(p); data = p.read_bytes()
    p.write_bytes(data[:len(data)//2])
    with pytest.raises(TTPError, match='a.png'): read_image(p)
    p.write_bytes(data[:200]+bytes(60)+data[260:])
    with pytest.raises(TTPError, match='a.png'): read_image(p)


@pytest.mark.parametrize('make,says', [
    (lambda p: p.write_text('hello'), 'not an image'), (lambda p: p.write_bytes(b''), 'not an image'),
    (lambda p: p.write_bytes(b'\xff\xd8\xff'), 'x.jpg'), (lambda p: p.mkdir(), 'no such image'),
    (lambda p: None, 'no such image'),
])
def test_other_files_are_refused(tmp_path, make, says):
    make(tmp_path/'x.jpg')
    with pytest.raises(TTPError, match=says): read_image(tmp_path/'x.jpg')


def test_sixteen_bits_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path/'d.png'), np.full((8,8), 3000, np.uint16))
    with pytest.raises(TTPError, match='8 bit'): read_image(tmp_path/'d.png')


def test_orientation_is_obeyed(tmp_path):
    im = Image.fromarray(SCENE[0]); exif = im.getexif(); exif[0x0112] = 6  # to be shown turned clockwise
    im.save(tmp_path/'t.png', exif=exif)
    assert (read_image(tmp_path/'t.png')==np.rot90(SCENE[0], -1)).all()


# --- folders, lists, arrays

def test_folder_order_and_what_is_left_out(tmp_path):
    for n in (1, 2, 10, 9, 100): Image.fromarray(SCENE[n%36]).save(tmp_path/f'img_{n}.PNG')
    (tmp_path/'notes.txt').write_text('x'); (tmp_path/'._img_3.png').write_bytes(b'x')
    (tmp_path/'Thumbs.db').write_bytes(b'x')
    f = open_frames(tmp_path)
    assert f.names==[f'img_{n}.PNG' for n in (1,2,9,10,100)] and (f[2]==SCENE[9]).all()
    assert f.fps==25 and f.times[1]==.04 and open_frames(tmp_path, fps=50).times[1]==.02


def test_frames_are_read_when_asked_for(tmp_path):
    for n in range(3): Image.fromarray(SCENE[n]).save(tmp_path/f'{n}.png')
    f = open_frames(tmp_path); (tmp_path/'1.png').unlink(); (tmp_path/'2.png').write_text('x')
    assert (f[0]==SCENE[0]).all()
    for i in (1,2):
        with pytest.raises(TTPError, match=f'{i}.png'): f[i]


def test_one_size_for_all(tmp_path):
    Image.fromarray(SCENE[0]).save(tmp_path/'1.png'); Image.fromarray(SCENE[0][:40]).save(tmp_path/'2.png')
    with pytest.raises(TTPError, match='2.png: is 80x40'): open_frames(tmp_path)[1]


@pytest.mark.parametrize('source', [np.zeros((0,4,4,3), np.uint8), np.zeros((2,4,4,3)), np.zeros((4,4,3), np.uint8),
                                    []])
def test_arrays_and_lists_that_hold_no_video(source):
    with pytest.raises(TTPError): open_frames(source)


@pytest.mark.parametrize('fps', [0, -1, float('nan'), float('inf')])
def test_rates_that_are_none(tmp_path, fps):
    with pytest.raises(TTPError, match='rate'): open_frames(SCENE, fps=fps)
    with pytest.raises(TTPError, match='rate'): write_mp4(tmp_path/'a.mp4', SCENE, fps=fps)


def test_indexing_is_that_of_a_list():
    f,numbers = open_frames(SCENE),list(range(36))
    for s in (slice(None), slice(5,2), slice(2,9,3), slice(None,None,-1), slice(-4,None), slice(30,99)):
        assert [int(k) for k in f[s].index]==numbers[s] and len(f[s].names)==len(f[s].times)==len(numbers[s])
    assert (f[::-1][2:][1]==SCENE[32]).all() and (f[np.int64(3)]==SCENE[3]).all() and (f[-36]==SCENE[0]).all()
    for i in (36, -37):
        with pytest.raises(IndexError): f[i]
    with pytest.raises(TypeError): f[1.5]
    assert isinstance(f[3:], Frames) and open_frames(f) is f


# --- video files

def x264(params, **kw): return dict(codec='libx264', **{'x264-params':params}, **kw)

CODECS = {
    'h264.mp4':dict(codec='libx264'), 'h264_open_gop.mp4':x264('open-gop=1:keyint=9:bframes=3:b-adapt=0'),
    'h264.mkv':x264('keyint=10:bframes=3'), 'h264.ts':x264('keyint=10', fmt='mpegts'),
    'raw.h264':x264('keyint=10:bframes=3', fmt='h264'), 'mpeg4.avi':dict(codec='mpeg4', g='8', bf='2'),
    'vp8.webm':dict(codec='libvpx', g='10'), 'mjpeg.mov':dict(codec='mjpeg', pix='yuvj420p'),
    'mpeg2.mpg':dict(codec='mpeg2video', g='8', bf='2')}


@pytest.mark.parametrize('name', CODECS)
def test_jumping_equals_walking_equals_plain_decoding(tmp_path, name):
    try: path = encode(tmp_path/name, **CODECS[name])
    except (av.FFmpegError, ValueError) as e: pytest.skip(f'this build cannot encode {name}: {e}')
    with av.open(str(path)) as c: plain = [_upright(f) for f in c.decode(video=0)]
    f = open_frames(path)
    assert len(f)==len(plain)==36 and f.size==(80,64) and f.fps==25
    assert np.allclose(f.times, np.arange(36)/25, atol=2e-3)
    assert all((a==b).all() for a,b in zip(f, plain))
    order = np.r_[np.random.default_rng(0).permutation(36), 35:-1:-1, 0, 35, 0, 17, 17]
    assert all((f[i]==plain[i]).all() for i in order)


def test_walking_decodes_every_frame_once(tmp_path):
    f = open_frames(encode(tmp_path/'a.mp4', 'libx264', **{'x264-params':'keyint=250'}))
    f.read.decoded = 0
    for _ in f: pass
    assert f.read.decoded==36 and f.read.keys==[0]


def write_at(path, codec, ticks):
    "The scene with a clock of milliseconds."
    with av.open(str(path), 'w') as c:
        s = c.add_stream(codec, rate=1000); s.width,s.height,s.pix_fmt = 80,64,'yuv420p'
        for a,t in zip(SCENE, ticks):
            v = av.VideoFrame.from_ndarray(a, format='rgb24'); v.pts = int(t)
            for p in s.encode(v): c.mux(p)
        for p in s.encode(): c.mux(p)


def test_uneven_time_stamps_are_kept(tmp_path):
    ticks = np.cumsum(np.random.default_rng(0).integers(10, 90, 36)); path = tmp_path/'vfr.mkv'
    write_at(path, 'libx264', ticks)
    f = open_frames(path)
    assert np.allclose(f.times, (ticks-ticks[0])/1000, atol=1e-3) and np.allclose(f[5:].times, f.times[5:])
    assert np.allclose(open_frames(path, fps=10).times, np.arange(36)/10)


@pytest.mark.parametrize('matrix,turns', [((0,1,-1,0), -1), ((-1,0,0,-1), 2), ((0,-1,1,0), 1)])
def test_rotation_of_phones_is_obeyed(tmp_path, matrix, turns):
    path = write_mp4(tmp_path/'a.mp4', SCENE); plain = open_frames(path)[5]
    data = bytearray(path.read_bytes()); at = data.find(b'tkhd')+44
    a,b,c,d = (v<<16 for v in matrix); data[at:at+36] = struct.pack('>9i', a,b,0,c,d,0,0,0,1<<30)
    (tmp_path/'turned.mp4').write_bytes(data)
    f = open_frames(tmp_path/'turned.mp4')
    assert f.size==((80,64) if turns==2 else (64,80)) and (f[5]==np.rot90(plain, turns)).all()


@pytest.mark.parametrize('name,content', [('a.mp4', b'hello'), ('a.mp4', b''), ('a.mp4', bytes(5000)),
                                          ('a.txt', b'hello\n'*99),
                                          ('a.srt', b'1\n00:00:00,000 --> 00:00:01,000\nhi\n'),
                                          ('a', b'\x00\x01'), ('a.avi', b'RIFF')])
def test_files_that_are_no_videos(tmp_path, name, content):
    (tmp_path/name).write_bytes(content)
    with pytest.raises(TTPError, match=name): open_frames(tmp_path/name)


def test_names_of_streams_in_other_alphabets(tmp_path):
    path = write_mp4(tmp_path/'a.mp4', SCENE[:4]); data = path.read_bytes()
    assert b'VideoHandler' in data
    path.write_bytes(data.replace(b'VideoHandler', b'VideoHandl\xc2r'))                 # not utf-8
    assert len(open_frames(path))==4


def test_sound_is_no_video(tmp_path):
    with av.open(str(tmp_path/'a.wav'), 'w') as c:
        s = c.add_stream('pcm_s16le', rate=8000)
        a = av.AudioFrame.from_ndarray(np.zeros((1,800), np.int16), format='s16', layout='mono')
        a.rate = 8000
        for p in [*s.encode(a), *s.encode()]: c.mux(p)
    with pytest.raises(TTPError, match='no video'): open_frames(tmp_path/'a.wav')


def test_missing_and_empty(tmp_path):
    for bad,says in ((tmp_path/'none.mp4', 'no such'), (tmp_path/'none', 'no such'), (tmp_path, 'no images')):
        with pytest.raises(TTPError, match=says): open_frames(bad)


@pytest.mark.parametrize('share', [.02, .2, .5, .9, .999])
def test_truncated_mp4_is_refused_when_opened(tmp_path, share):
    path = write_mp4(tmp_path/'a.mp4', SCENE, fps=10); data = path.read_bytes()
    path.write_bytes(data[:int(share*len(data))])
    with pytest.raises(TTPError, match='a.mp4'): open_frames(path)


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.mov'])
def test_damage_inside_never_raises_anything_else(tmp_path, name):
    path = encode(tmp_path/name, 'libx264'); data,r = path.read_bytes(),np.random.default_rng(0)
    for k in range(10):
        d = bytearray(data)
        for at in r.integers(0, len(d), 1+3*k): d[at] = r.integers(256)
        path.write_bytes(d)
        try:
            for img in open_frames(path): assert img.shape==(64,80,3)
        except TTPError as e: assert name in str(e)


def test_a_reader_travels_to_other_processes(tmp_path):
    f = open_frames(write_mp4(tmp_path/'a.mp4', SCENE)); here = f[7]
    assert (pickle.loads(pickle.dumps(f))[7]==here).all() and (f[8]!=here).any()


def _child(f, want, q): q.put(all((f[i]==want[i]).all() for i in (20, 3, 30, 11)*3))


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_forked_workers_do_not_disturb_each_other(tmp_path):
    f = open_frames(write_mp4(tmp_path/'a.mp4', SCENE, fps=5)); want = list(f)
    ctx = multiprocessing.get_context('fork'); q = ctx.Queue(); f[12]
    gc.collect()   # a reader that others left behind would be cleared away in the child, where its threads are not
    ps = [ctx.Process(target=_child, args=(f, want, q)) for _ in range(2)]
    for p in ps: p.start()
    assert all((f[i]==want[i]).all() for i in (13, 2, 25, 14)*3)
    assert [q.get(timeout=60) for _ in ps]==[True,True]
    for p in ps: p.join(20); assert p.exitcode==0


# --- writing

def boxes(data):
    at = 0
    while at<len(data):
        yield data[at+4:at+8]
        at += int.from_bytes(data[at:at+4], 'big')


@pytest.mark.parametrize('h,w', [(64,80), (63,80), (64,79), (63,79), (1,1), (2,2), (17,33)])
def test_written_files_play_in_browsers(tmp_path, h, w):
    path = write_mp4(str(tmp_path/'new'/'deep'/'a.mp4'), SCENE[:5,:h,:w], fps=29.97)
    names = list(boxes(path.read_bytes()))
    assert names[0]==b'ftyp' and names.index(b'moov')<names.index(b'mdat')
    with av.open(str(path)) as c:
        s = c.streams.video[0]
        assert (s.codec.name, s.pix_fmt, s.width, s.height)==('h264', 'yuv420p', w+w%2, h+h%2)
        assert s.codec_context.profile in ('High', 'Main', 'Constrained Baseline', 'Baseline')
        assert float(s.average_rate)==pytest.approx(29.97, abs=.01)
    f = open_frames(path)
    assert len(f)==5 and np.abs(f[2][:h,:w].astype(int)-SCENE[2,:h,:w]).mean()<16
    assert [p.name for p in path.parent.iterdir()]==['a.mp4']


def test_colours_survive(tmp_path):
    cols = [(255,0,0), (0,255,0), (0,0,255), (255,255,0), (0,255,255), (255,0,255), (255,255,255),
            (0,0,0), (200,120,30)]
    flat = np.array(cols, np.uint8)[:,None,None].repeat(32, 1).repeat(48, 2)
    assert np.abs(np.stack(open_frames(write_mp4(tmp_path/'a.mp4', flat))).astype(int)-flat).max()<=4


def test_padding_repeats_the_edge(tmp_path):
    odd = np.zeros((3,31,31,3), np.uint8); odd[:,-1] = odd[:,:,-1] = 255
    f = open_frames(write_mp4(tmp_path/'a.mp4', odd))
    assert f.size==(32,32) and f[1][31,31].min()>200 and f[1][:30,:30].mean()<20


def test_generators_are_written_one_frame_at_a_time(tmp_path):
    seen = []
    def gen():
        for i in range(8): seen.append(i); yield SCENE[i]
    assert len(open_frames(write_mp4(tmp_path/'a.mp4', gen())))==8 and seen==list(range(8))


def test_failing_in_the_middle_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = write_mp4(tmp_path/'a.mp4', SCENE[:4]); old = path.read_bytes()
    def broken(error):
        yield from SCENE[:20]
        raise error
    for error in (RuntimeError('lost'), KeyboardInterrupt(), TTPError('frame')):
        with pytest.raises(type(error)): write_mp4(path, broken(error))
    for frames in ([], [SCENE[0], SCENE[0,:9]], [SCENE[0]/255], [SCENE[0][...,0]]):
        with pytest.raises(TTPError): write_mp4(path, frames)
    assert path.read_bytes()==old and [p.name for p in tmp_path.iterdir()]==['a.mp4']


def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path):
    code = ("import sys, time, numpy as np\nfrom ttp_nb.video import write_mp4\n"
            "def frames():\n    for i in range(10**6):\n        if i==40: print('go', flush=True)\n"
            "        yield np.random.default_rng(i).integers(0, 255, (96,96,3), dtype=np.uint8)\n"
            "write_mp4(sys.argv[1], frames())")
    p = subprocess.Popen([sys.executable, '-c', code, str(tmp_path/'a.mp4')], stdout=subprocess.PIPE)
    assert p.stdout.readline().strip()==b'go'
    time.sleep(.1); p.send_signal(signal.SIGKILL); p.wait()
    assert not (tmp_path/'a.mp4').exists()
    assert len(open_frames(write_mp4(tmp_path/'a.mp4', SCENE[:3])))==3 # and the place is not blocked


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path/'file').write_text('x'); (tmp_path/'dir.mp4').mkdir()
    for bad in (tmp_path/'file'/'a.mp4', tmp_path/'dir.mp4'):
        with pytest.raises(TTPError, match='cannot be written'): write_mp4(bad, SCENE[:2])
    with pytest.raises(TTPError, match='mp4'): write_mp4(tmp_path/'a.avi', SCENE[:2])


# --- what can be saved: strict=False

FRONT = dict(flags='+faststart')                       # the index before the pictures: a cut file can be opened
CUTS = {
    'h264.mp4':x264('keyint=12:bframes=3', **FRONT), 'open_gop.mp4':x264('open-gop=1:keyint=9:bframes=3', **FRONT),
    'one_key.mp4':x264('keyint=250:bframes=2', **FRONT),
    'fragments.mp4':x264('keyint=10', flags='frag_keyframe+empty_moov'),
    'h265.mov':dict(codec='libx265', **{'x265-params':'keyint=12:log-level=none'}, **FRONT),
    'mjpeg.mov':dict(codec='mjpeg', pix='yuvj420p', **FRONT), 'h264.mkv':x264('keyint=10:bframes=3'),
    'ffv1.mkv':dict(codec='ffv1'), 'vp8.webm':dict(codec='libvpx', g='10'), 'vp9.webm':dict(codec='libvpx-vp9', g='12'),
    'mpeg4.avi':dict(codec='mpeg4', g='8', bf='2'), 'mjpeg.avi':dict(codec='mjpeg', pix='yuvj420p')}


def make(path, **kw):
    try: return encode(path, **kw)
    except (av.FFmpegError, ValueError) as e: pytest.skip(f'this build cannot encode {path.name}: {e}')


def keeps_its_promise(f, rng):
    "All frames, walked; they can be read, and are the same in another order."
    walked = list(f)
    assert len(walked)==len(f)==len(f.index)==len(f.times)==len(f.names) and (np.diff(f.index)>0).all()
    assert f.names==[f'{i:06d}' for i in f.index] and all(isinstance(t, str) for t in f.trouble)
    for i in rng.permutation(len(f)): assert (f[int(i)]==walked[i]).all()
    return walked


@pytest.mark.parametrize('name', CUTS)
def test_what_is_left_of_a_cut_file_is_what_was_there(tmp_path, name):
    path = make(tmp_path/name, **CUTS[name]); data,whole = path.read_bytes(),open_frames(path)
    want,rng,opened = list(whole),np.random.default_rng(len(name)),0
    sound = open_frames(path, strict=False)
    assert sound.trouble==whole.trouble==() and list(sound.index)==list(range(36))
    for n in [0, 1, 40, *rng.integers(len(data), size=10), *(int(len(data)*s) for s in (.8, .9, .97))]:
        path.write_bytes(data[:n])
        try: f = open_frames(path, strict=False)
        except TTPError as e: assert name in str(e); continue
        for i,t,img in zip(f.index, f.times, keeps_its_promise(f, rng)):
            assert (img==want[i]).all() and t==pytest.approx(whole.times[i], abs=2e-3)
        assert f.trouble or len(f)>34 or name=='fragments.mp4'           # between two frames a cut leaves no trace
        opened += 1
    assert opened


@pytest.mark.parametrize('name', [*CUTS, 'h264.ts', 'raw.h264', 'mpeg2.mpg'])
def test_damage_inside_leaves_frames_that_can_be_read(tmp_path, name):
    path = make(tmp_path/name, **(CUTS|CODECS)[name]); data,rng = path.read_bytes(),np.random.default_rng(1)
    for k in range(10):
        d = bytearray(data)
        for at in rng.integers(len(d)//8, len(d), 1+2*k): d[at] ^= int(rng.integers(1, 256))
        path.write_bytes(d)
        try: f = open_frames(path, strict=False)
        except TTPError as e: assert name in str(e); continue
        assert all(img.shape==f[0].shape for img in f) and len(list(f))==len(f)
        for i in rng.permutation(len(f))[:8]: assert f[int(i)].shape==(f.size[1],f.size[0],3)


def packets(path):
    with av.open(str(path)) as c: return [(p.pts, p.pos, p.size, p.is_keyframe) for p in c.demux(video=0) if p.size]


def overwrite(path, k):
    pts,pos,size,_ = packets(path)[k]; d = bytearray(path.read_bytes())
    d[pos+4:pos+size] = bytes(size-4); path.write_bytes(d)


def test_a_damaged_packet_costs_its_frame_and_names_those_built_on_it(tmp_path):
    path = encode(tmp_path/'a.mp4', 'libx264', **{'x264-params':'keyint=12:min-keyint=12:bframes=0'})
    want = list(open_frames(path)); overwrite(path, 17)
    f = open_frames(path, strict=False)
    got = dict(zip(f.index, keeps_its_promise(f, np.random.default_rng(0))))
    assert 17 not in got and '17' in f.trouble[0] and '18-23' in f.trouble[-1]
    assert all((got[i]==want[i]).all() for i in [*range(17), *range(24, 36)])
    assert np.allclose(f.times, f.index/25) and f[5:].trouble==f.trouble
    with pytest.raises(TTPError, match='a.mp4, frame 17: .*strict=False'): list(open_frames(path))
    assert (pickle.loads(pickle.dumps(f))[20]==f[20]).all()


@pytest.mark.parametrize('k', [10, 20, 30])
@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.mov'])
def test_behind_a_lost_keyframe_no_frame_is_taken_for_another(tmp_path, name, k):
    "The decoder then gives later pictures before earlier ones, and what is read without a warning must be right."
    path = encode(tmp_path/name, 'libx264', **{'x264-params': 'keyint=10:min-keyint=10:bframes=3:scenecut=0'})
    want = np.stack(list(open_frames(path))).astype(int)
    at = next(n for n,(_,_,_,key) in enumerate(packets(path)) if key and n>=k-1)
    overwrite(path, at)
    f = open_frames(path, strict=False)
    lost = set(range(36)) - set(f.index)
    doubtful = set(f.read._doubtful(lost, 36))
    assert lost and f.trouble
    for i,img in zip(f.index, keeps_its_promise(f, np.random.default_rng(0))):
        if i not in doubtful: assert np.abs(want-img).mean((1,2,3)).argmin()==i


def test_strict_names_file_and_remedy_of_cut_files(tmp_path):
    for name,kw in (('a.mp4', CUTS['h264.mp4']), ('a.avi', CUTS['mjpeg.avi'])):
        path = make(tmp_path/name, **kw); path.write_bytes(path.read_bytes()[:-2500])
        with pytest.raises(TTPError, match=f'{name}: is cut short.*of 36 frames.*strict=False'): open_frames(path)
    assert open_frames(tmp_path/'a.avi', strict=False).trouble


def test_nothing_that_decodes_is_an_error_in_both_ways(tmp_path):
    path = encode(tmp_path/'a.mp4', **CUTS['one_key.mp4']); overwrite(path, 0)
    path.write_bytes(path.read_bytes()[:packets(path)[3][1]])
    with pytest.raises(TTPError, match='a.mp4: is a video of which no frame can be decoded. Copy'):
        open_frames(path, strict=False)
    for name,content in (('a.mp4', b'hello'), ('b.mp4', b''), ('c.avi', b'RIFF'), ('d', bytes(999))):
        (tmp_path/name).write_bytes(content)
        with pytest.raises(TTPError, match=name): open_frames(tmp_path/name, strict=False)


def test_a_folder_with_broken_images_and_images_of_another_size(tmp_path):
    for i in range(12): Image.fromarray(SCENE[i] if i!=0 else SCENE[i][:30]).save(tmp_path/f'{i}.png')
    (tmp_path/'3.png').write_bytes((tmp_path/'3.png').read_bytes()[:300]); (tmp_path/'7.png').write_text('x')
    f = open_frames(tmp_path, strict=False)
    assert list(f.index)==[1,2,4,5,6,8,9,10,11] and f.names[2]=='4.png' and f.size==(80,64)
    assert np.allclose(f.times, f.index/25) and all((img==SCENE[i]).all() for i,img in zip(f.index, f))
    assert len(f.trouble)==2 and '3.png, 7.png' in f.trouble[0] and '0.png' in f.trouble[1]
    assert open_frames([tmp_path/'1.png', tmp_path/'2.png'], strict=False).trouble==()
    assert probe(tmp_path).promised==12 and probe(tmp_path).decoded==9
    with pytest.raises(TTPError, match='none of its 2 images'):
        open_frames([tmp_path/'3.png', tmp_path/'7.png'], strict=False)


def test_pictures_of_two_sizes_in_one_stream(tmp_path):
    parts = [encode(tmp_path/f'{k}.h264', 'libx264', fmt='h264', frames=np.ascontiguousarray(SCENE[:n,:64//k,:80//k]))
             for k,n in ((1, 30), (2, 6))]
    (tmp_path/'a.h264').write_bytes(b''.join(p.read_bytes() for p in parts))
    f = open_frames(tmp_path/'a.h264', strict=False)
    assert list(f.index)==list(range(30)) and '30-35' in f.trouble[0] and len(f.trouble)==1
    assert len(keeps_its_promise(f, np.random.default_rng(0)))==30


# --- clocks

def remux(path, to, change):
    with av.open(str(path)) as i, av.open(str(to), 'w', options={'avoid_negative_ts':'disabled'}) as o:
        s = o.add_stream_from_template(i.streams.video[0])
        for p in i.demux(video=0):
            if p.size: change(p); p.stream = s; o.mux(p)
    return to


@pytest.mark.parametrize('strict', [True, False])
def test_frames_cut_off_by_an_edit_list_are_not_counted(tmp_path, strict):
    path = encode(tmp_path/'a.mp4', **CUTS['one_key.mp4']); want = list(open_frames(path))
    def earlier(p): p.pts -= 5*512; p.dts -= 5*512                       # five frames before time 0
    f = open_frames(remux(path, tmp_path/'b.mp4', earlier), strict=strict)
    assert len(f)==31 and f.trouble==() and f.times[1]==pytest.approx(.04)
    assert all((f[i]==want[i+5]).all() for i in (20, 0, 30, 7))


def test_doubled_stamps_and_none_at_all_are_counted(tmp_path):
    raw = encode(tmp_path/'a.h264', **CODECS['raw.h264'])
    parts = [encode(tmp_path/f'{k}.ts', 'libx264', fmt='mpegts', frames=SCENE[k:k+18]).read_bytes() for k in (0, 18)]
    (tmp_path/'twice.ts').write_bytes(b''.join(parts))
    for path in (raw, tmp_path/'twice.ts'):
        with av.open(str(path)) as c: n = sum(1 for _ in c.decode(video=0))
        for strict in (True, False):
            f = open_frames(path, strict=strict)
            assert f.trouble==() and len(f)==n and len(keeps_its_promise(f, np.random.default_rng(0)))==n


@pytest.mark.parametrize('codec,pix,ext', [
    ('ffv1', 'gray', 'mkv'), ('libx265', 'gray', 'mp4'), ('libx264', 'yuv420p10le', 'mp4'),
    ('libx265', 'yuv420p10le', 'mov'), ('ffv1', 'yuv422p10le', 'mkv'), ('libvpx-vp9', 'yuv444p', 'webm')])
def test_other_pixels_and_odd_sizes(tmp_path, codec, pix, ext):
    frames = SCENE[:12] if ext in ('mp4', 'mov') else np.ascontiguousarray(SCENE[:12,:63,:79])
    opts = {'x265-params':'log-level=none'} if codec=='libx265' else {}
    p = probe(make(tmp_path/f'a.{ext}', codec=codec, pix=pix, frames=frames, **opts))
    f = open_frames(tmp_path/f'a.{ext}', strict=False)
    assert p.pixel_format==pix and p.size==frames.shape[2:0:-1] and p.decoded==12 and not p.trouble
    want = frames if pix!='gray' else np.broadcast_to((frames@[.299,.587,.114])[...,None], frames.shape)
    assert all(np.abs(img-want[i].astype(float)).mean()<9 for i,img in enumerate(f))
    assert any('8 bit' in a for a in p.advice)==('10' in pix)


# --- the order of frames, their count, their times

def numbered(i, h=64, w=128):
    "A moving pattern with its number in eight blocks."
    a = np.stack([90+60*np.sin(np.mgrid[:h,:w][1]/9+i/3)]*3, -1).astype(np.uint8)
    for b in range(8): a[:16,16*b:16*b+16] = 235 if i>>b&1 else 20
    return a


def number(a): return sum(1<<b for b in range(8) if a[4:12,16*b+5:16*b+11].mean()>128)

NUMBERED = np.stack([numbered(i) for i in range(30)])


def all_there(f, n=30):
    "All numbers in order, walking and jumping."
    assert [number(a) for a in f]==list(range(n))==list(f.index)
    for i in np.random.default_rng(0).integers(n, size=9): assert number(f[int(i)])==i
    assert f.trouble==()


@pytest.mark.parametrize('strict', [True, False])
def test_an_avi_with_frames_that_point_ahead_is_not_shuffled(tmp_path, strict):
    path = encode(tmp_path/'a.avi', 'libx264', frames=NUMBERED, **{'x264-params':'bframes=3:keyint=12'})
    with av.open(str(path)) as c: assert (np.diff([f.pts for f in c.decode(video=0)])<0).any()
    f = open_frames(path, strict=strict)
    all_there(f)
    assert np.allclose(f.times, np.arange(30)/25) and f.fps==25 and f.notes==()
    assert probe(path).promised==30 and not probe(path).variable


@pytest.mark.parametrize('strict', [True, False])
def test_two_fields_are_one_frame(tmp_path, strict):
    "Each field has a packet and a stamp of its own, 50 a second; made of uncompressed macroblocks."
    path = tmp_path/'a.mts'
    path.write_bytes(lzma.decompress((Path(__file__).parent/'cases'/'field_coded.mts.xz').read_bytes()))
    with av.open(str(path)) as c: assert sum(1 for p in c.demux(video=0) if p.size)==24
    f = open_frames(path, strict=strict)
    blocks = [sum(1<<b for b in range(8) if a[10,16+16*b].mean()>128) for a in f]
    assert blocks==list(range(12))==list(f.index) and f.trouble==() and f.fps==25
    assert np.allclose(f.times, np.arange(12)/25) and (f[7]==list(f)[7]).all()


def test_a_field_coded_film_that_is_damaged_counts_frames(tmp_path):
    path = tmp_path/'a.mts'
    data = lzma.decompress((Path(__file__).parent/'cases'/'field_coded.mts.xz').read_bytes())
    path.write_bytes(data); at = packets(path)[10][1]
    path.write_bytes(data[:at]+bytes(7000)+data[at+7000:])
    f = open_frames(path, strict=False)
    assert 9<=len(f)<=12 and f.index[-1]==11 and f.trouble and ' of 12 frames' in f.trouble[0]


@pytest.mark.parametrize('strict', [True, False])
def test_joined_transport_streams_lose_and_double_nothing(tmp_path, strict):
    kw = dict(codec='libx264', fmt='mpegts', **{'x264-params':'keyint=6:bframes=2'})
    parts = [encode(tmp_path/f'{k}.ts', frames=NUMBERED[k:k+10], **kw).read_bytes() for k in (0, 10, 20)]
    (tmp_path/'a.ts').write_bytes(b''.join(parts))
    f = open_frames(tmp_path/'a.ts', strict=strict)
    all_there(f)
    assert np.allclose(f.times, np.arange(30)/25, atol=1e-3) and f.fps==25
    assert len(f.notes)==1 and '10, 20' in f.notes[0] and 'joined' in f.notes[0]


def remuxed(path, to, shift):
    with av.open(str(path)) as i, av.open(str(to), 'w', options={'avoid_negative_ts':'disabled'}) as o:
        s = o.add_stream_from_template(i.streams.video[0])
        for k,p in enumerate(p for p in i.demux(video=0) if p.size):
            p.pts, p.dts = shift(k, p.pts), shift(k, p.dts)
            p.stream = s
            o.mux(p)
    return to


@pytest.mark.parametrize('strict', [True, False])
def test_a_clock_that_wraps(tmp_path, strict):
    path = encode(tmp_path/'a.ts', 'libx264', fmt='mpegts', frames=NUMBERED, **{'x264-params':'keyint=10:bframes=2'})
    f = open_frames(remuxed(path, tmp_path/'b.ts', lambda k, t: t+2**33-180000), strict=strict)
    all_there(f)
    assert np.allclose(f.times, np.arange(30)/25, atol=1e-3) and not f.notes


@pytest.mark.parametrize('strict', [True, False])
@pytest.mark.parametrize('name', ['a.avi', 'a.mkv', 'a.mp4', 'a.ts'])
def test_frames_missed_while_recording_are_no_damage(tmp_path, strict, name):
    kw = dict(codec='mjpeg', pix='yuvj420p') if name=='a.avi' else x264('keyint=10:bframes=0')
    path = encode(tmp_path/f'whole{name[1:]}', frames=NUMBERED, **kw)
    with av.open(str(path)) as c:
        s = c.streams.video[0]; frame = round(1/(25*s.time_base))
    f = open_frames(remuxed(path, tmp_path/name, lambda k, t: t+5*frame*(k>9)), strict=strict)
    all_there(f)
    assert f.times[10]-f.times[9]==pytest.approx(.24, abs=.002) and f.times[-1]==pytest.approx(34/25, abs=.002)
    assert (name=='a.avi')==any('5 frames were missed' in n for n in f.notes)


def test_a_header_that_counts_too_much_is_no_evidence(tmp_path):
    path = encode(tmp_path/'a.avi', 'mjpeg', pix='yuvj420p', frames=NUMBERED); d = bytearray(path.read_bytes())
    for at in (d.index(b'avih')+24, d.index(b'strh')+40): d[at:at+4] = struct.pack('<I', 44)
    path.write_bytes(d)
    for strict in (True, False): all_there(open_frames(path, strict=strict))
    assert probe(path).promised==30
    path.write_bytes(d[:d.index(b'idx1')-300])                       # and this one is cut
    with pytest.raises(TTPError, match='a.avi: is cut short'): open_frames(path)
    f = open_frames(path, strict=False)
    assert 'cut short' in f.trouble[0] and [number(a) for a in f]==list(range(len(f)))


def test_a_recording_that_begins_between_keyframes(tmp_path):
    path = encode(tmp_path/'a.ts', 'libx264', fmt='mpegts', frames=NUMBERED, **{'x264-params':'keyint=12:bframes=0'})
    data = path.read_bytes(); at = data.index(b'\x47', packets(path)[3][1])
    path.write_bytes(data[:564]+data[at-at%188:])
    for strict in (True, False):
        f = open_frames(path, strict=strict)
        assert [number(a) for a in f]==list(range(12, 30)) and list(f.index)==list(range(18)) and f.times[0]==0
        assert f.trouble==() and 'begins between two keyframes' in f.notes[0]


def test_jumping_costs_a_stretch_and_not_the_film(tmp_path):
    "Also where the file has no index, or one that misleads."
    kw = {'x264-params':'keyint=5:min-keyint=5:bframes=2:scenecut=0'}
    parts = [encode(tmp_path/f'{k}.ts', 'libx264', frames=NUMBERED[k:k+15], **kw).read_bytes() for k in (0, 15)]
    (tmp_path/'joined.ts').write_bytes(b''.join(parts))
    for name in ('a.mp4', 'a.mkv', 'a.avi', 'a.ts', 'a.h264', 'joined.ts'):
        path = tmp_path/name
        f = open_frames(path if path.exists() else encode(path, 'libx264', frames=NUMBERED, **kw))
        for i in (27, 3, 22, 8, 17):
            before = f.read.decoded
            assert number(f[i])==i and f.read.decoded-before<=10, name


@pytest.mark.parametrize('strict', [True, False])
def test_rates_are_those_of_the_times(tmp_path, strict):
    "As browsers record: a clock of milliseconds, and a header that says 1000 frames a second."
    ticks, path = np.cumsum(np.random.default_rng(0).integers(17, 60, 36)), tmp_path/'a.webm'
    write_at(path, 'libvpx', ticks)
    f = open_frames(path, strict=strict)
    assert f.fps==pytest.approx(1/np.diff(f.times).mean()) and 20<f.fps<35 and probe(path).fps==f.fps
    assert open_frames(path, fps=10, strict=strict).fps==10


def test_a_pause_does_not_slow_the_rate(tmp_path):
    assert measured_rate([.04]*99+[60.])==pytest.approx(1/(.04*.99+.01))
    assert measured_rate([5.]*9, 25)==pytest.approx(.2) and measured_rate([], 30)==30
    assert measured_rate([.033, .034, .033, .033], 30)==30


# --- mirrored and turned

@pytest.mark.parametrize('matrix,how', [
    ((1,0,0,1), lambda a: a), ((-1,0,0,1), lambda a: a[:,::-1]), ((1,0,0,-1), lambda a: a[::-1]),
    ((-1,0,0,-1), lambda a: a[::-1,::-1]), ((0,1,1,0), lambda a: a.transpose(1,0,2)),
    ((0,-1,-1,0), lambda a: a.transpose(1,0,2)[::-1,::-1]), ((0,1,-1,0), lambda a: np.rot90(a, -1)),
    ((0,-1,1,0), lambda a: np.rot90(a)), ((0,0,0,0), lambda a: a), ((-.8,.6,.6,.8), lambda a: a[:,::-1])])
def test_all_eight_orientations(tmp_path, matrix, how):
    path = write_mp4(tmp_path/'a.mp4', NUMBERED[:12]); plain = open_frames(path)[5]
    data = bytearray(path.read_bytes()); at = data.find(b'tkhd')+44
    a,b,c,d = (int(v*65536) for v in matrix); data[at:at+36] = struct.pack('>9i', a,b,0,c,d,0,0,0,1<<30)
    path.write_bytes(data)
    f, p = open_frames(path), probe(path)
    assert (f[5]==how(plain)).all() and f.size==how(plain).shape[1::-1]==p.size
    mirrored, turned = matrix[0]*matrix[3]-matrix[1]*matrix[2]<0, p.rotation!=0
    assert p.mirrored==mirrored==any('mirrored' in n for n in f.notes) and (', mirrored' in str(p))==mirrored
    assert turned==any('turned by' in n for n in f.notes)
    assert any('upright' in a for a in p.advice)==(mirrored or turned)


# --- files of many pictures

def stack(path, n=12, **how):
    pictures = [Image.fromarray(a) for a in NUMBERED[:n]]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **how)
    return path

STACKS = {'a.tif':{}, 'b.tiff':dict(compression='tiff_lzw'), 'a.png':dict(duration=50),
          'a.webp':dict(lossless=True, duration=[40]*6+[80]*6), 'default.png':dict(default_image=True, duration=50)}


@pytest.mark.parametrize('name', STACKS)
@pytest.mark.parametrize('strict', [True, False])
def test_files_of_many_pictures_are_read_whole(tmp_path, name, strict):
    path = stack(tmp_path/name, **STACKS[name])
    want = list(range(name=='default.png', 12))
    f = open_frames(path, strict=strict)
    assert [number(a) for a in f]==want and f.trouble==() and list(f.index)==list(range(len(want)))
    for i in (7, 2, 10, 0): assert (f[i]==NUMBERED[want[i]]).all()
    assert (pickle.loads(pickle.dumps(f))[3]==f[3]).all()
    p = probe(path)
    assert (p.kind, p.decoded, p.promised)==('stack', len(want), len(want))
    if name=='a.webp': assert np.allclose(f.times[[1, 6, 7]], [.04, .24, .32]) and p.variable
    if name=='a.png': assert f.fps==pytest.approx(20)
    with pytest.raises(TTPError, match=f'{name}: holds {len(want)} pictures'): read_image(path)
    if strict:
        with pytest.raises(TTPError, match=f'{name}: holds'): open_frames(tmp_path)      # as one frame of a folder


def test_a_gif_is_read_whole(tmp_path):
    f = open_frames(stack(tmp_path/'a.gif', duration=100))
    assert [number(a) for a in f]==list(range(12)) and f.fps==pytest.approx(10)


def test_small_copies_are_no_frames(tmp_path):
    "The second page of a TIFF may be a thumbnail, the second picture of a JPEG a depth map."
    small = Image.fromarray(NUMBERED[1][::4,::4]); tag = TiffImagePlugin.ImageFileDirectory_v2(); tag[254] = 1
    small.encoderinfo = {'tiffinfo':tag}
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path/'a.tif'), True) as out:
        Image.fromarray(NUMBERED[3]).save(out, 'TIFF'); out.newFrame()
        small.save(out, 'TIFF', tiffinfo=tag)
    Image.fromarray(NUMBERED[3]).save(tmp_path/'b.jpg', 'MPO', save_all=True, append_images=[small], quality=95)
    with Image.open(tmp_path/'a.tif') as a, Image.open(tmp_path/'b.jpg') as b: assert a.n_frames==b.n_frames==2
    for name in ('a.tif', 'b.jpg'):
        assert number(read_image(tmp_path/name))==3 and len(open_frames(tmp_path/name))==1
    assert len(open_frames(tmp_path))==2


def test_a_stack_with_a_broken_picture(tmp_path):
    path = stack(tmp_path/'a.tif', compression='tiff_lzw'); data = bytearray(path.read_bytes())
    with Image.open(path) as im:
        im.seek(4)
        at = im.tag_v2[273][0]
    data[at:at+9] = b'\xff'*9; path.write_bytes(data)
    with pytest.raises(TTPError, match='a.tif, picture 4: cannot be read'): open_frames(path)
    f = open_frames(path, strict=False)
    assert list(f.index)==[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]==[number(a) for a in f]
    assert '1 of 12 images could not be read: 000004' in f.trouble[0] and f.times[4]==pytest.approx(.2)
    path.write_bytes(data[:900])
    for strict in (True, False):
        with pytest.raises(TTPError, match='a.tif'): list(open_frames(path, strict=strict))


def test_pictures_in_a_folder_that_are_not_read_are_counted(tmp_path):
    for n in (1, 2): Image.fromarray(SCENE[n]).save(tmp_path/f'{n}.png')
    for name in ('3.HEIC', 'film.mov', 'notes.txt', '.4.heic'): (tmp_path/name).write_bytes(b'x')
    f = open_frames(tmp_path)
    assert len(f)==2 and '2 other pictures' in f.notes[0] and '3.HEIC, film.mov' in f.notes[0]
    assert f[:1].notes==f.notes==probe(tmp_path).notes and open_frames([tmp_path/'1.png']).notes==()


def test_names_that_differ_in_zeros_have_one_order(tmp_path):
    for n in ('f01.png', 'f1.png', 'F1.png'): Image.fromarray(SCENE[0]).save(tmp_path/n)
    assert open_frames(tmp_path).names==sorted({p.name for p in tmp_path.iterdir()})


# --- what is no file, and files that lead elsewhere

@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs pipes')
@pytest.mark.parametrize('name', ['a.mp4', 'a.png', 'a'])
@pytest.mark.timeout(30)
def test_pipes_and_devices_are_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path/name)
    devices = [tmp_path/'zero.png', tmp_path/'zero.mp4']
    for link in devices: link.symlink_to('/dev/zero')
    for path in (tmp_path/name, '/dev/null', *devices):
        for ask in (open_frames, probe):
            with pytest.raises(TTPError, match='is a pipe or a device'): ask(path)
    with pytest.raises(TTPError, match='no such image'): open_frames([tmp_path/name])
    with pytest.raises(TTPError, match='no such image'): read_image(devices[0])


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs pipes')
@pytest.mark.timeout(30)
@pytest.mark.parametrize('text', [
    "ffconcat version 1.0\nfile 'pipe.mp4'\n",
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npipe.ts\n#EXT-X-ENDLIST\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"])
def test_lists_of_other_files_are_no_videos(tmp_path, text):
    for name in ('pipe.mp4', 'pipe.ts'): os.mkfifo(tmp_path/name)
    for name in ('list.mp4', 'list.m3u8', 'list.sdp', 'list.ffconcat'):
        (tmp_path/name).write_text(text)
        with pytest.raises(TTPError, match=name): open_frames(tmp_path/name)


@pytest.mark.skipif(os.name=='nt', reason='names that Windows has not')
def test_names_that_look_like_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('2024-05-01T12:30:00.mp4', 'http:a.mp4', 'concat:a|b.mp4', 'file:x.mp4', './b:c.mp4'):
        write_mp4(name, SCENE[:3])
        assert len(open_frames(name))==3==len(open_frames(tmp_path/name)), name


def test_names_that_are_none(tmp_path):
    for name in ('a'*5000, 'a\0b.mp4', str(tmp_path/('b'*300)/'c')):
        with pytest.raises(TTPError): open_frames(name)


# --- probe

def test_probe_tells_what_a_file_is(tmp_path):
    p = probe(write_mp4(tmp_path/'a.mp4', SCENE, fps=12.5))
    assert (p.kind, p.codec, p.size, p.rotation, p.promised, p.decoded)==('video', 'h264', (80,64), 0, 36, 36)
    assert p.fps==12.5 and p.duration==pytest.approx(36/12.5) and p.shortest==pytest.approx(p.longest)
    assert not p.variable
    assert len(p.advice)==1 and '80x64 is small' in p.advice[0] and p.trouble==()
    assert str(p).startswith('a.mp4: video, h264, yuv420p') and 4<=len(str(p).splitlines())<=6
    with pytest.raises(dataclasses.FrozenInstanceError): p.fps = 3
    big = probe(np.zeros((12,130,140,3), np.uint8))
    assert (big.kind, big.codec, big.advice, big.decoded, big.promised)==('array', 'none', (), 12, 12)
    assert 'Few frames (3)' in probe(SCENE[:3]).advice[0]


@pytest.mark.parametrize('matrix,turn', [((0,1,-1,0), 90), ((-1,0,0,-1), 180), ((0,-1,1,0), 270)])
def test_probe_tells_the_rotation(tmp_path, matrix, turn):
    data = bytearray(write_mp4(tmp_path/'a.mp4', SCENE).read_bytes()); at = data.find(b'tkhd')+44
    a,b,c,d = (v<<16 for v in matrix); data[at:at+36] = struct.pack('>9i', a,b,0,c,d,0,0,0,1<<30)
    (tmp_path/'a.mp4').write_bytes(data); p = probe(tmp_path/'a.mp4')
    assert p.rotation==turn and p.size==((80,64) if turn==180 else (64,80)) and f'turned by {turn}' in str(p)
    assert any('upright' in a for a in p.advice)


def test_probe_sees_uneven_clocks_interlacing_far_keyframes_and_second_streams(tmp_path):
    ticks = np.cumsum(np.random.default_rng(0).integers(20, 60, 36))
    with av.open(str(tmp_path/'vfr.mkv'), 'w') as c:
        ss = [c.add_stream('libx264', rate=1000) for _ in range(2)]
        for s in ss: s.width,s.height,s.pix_fmt = 80,64,'yuv420p'
        for a,t in zip(SCENE, ticks):
            for s in ss:
                v = av.VideoFrame.from_ndarray(a, format='rgb24'); v.pts = int(t)
                for p in s.encode(v): c.mux(p)
        for s in ss:
            for p in s.encode(): c.mux(p)
    p = probe(tmp_path/'vfr.mkv'); said = ' '.join(p.advice)
    assert p.variable and (p.shortest, p.longest)==pytest.approx((np.diff(ticks).min()/1e3, np.diff(ticks).max()/1e3))
    assert 'rate varies' in said and '2 video streams' in said and 'interlaced' not in said and not p.trouble
    p = probe(encode(tmp_path/'i.mp4', 'libx264', flags=None, **{'x264-params':'interlaced=1'}))
    assert any('interlaced' in a for a in p.advice)
    p = probe(encode(tmp_path/'k.mp4', 'libx264', frames=SCENE.repeat(4, 0), **{'x264-params':'keyint=999:scenecut=0'}))
    assert any('144 frames apart' in a for a in p.advice)


@pytest.mark.parametrize('fps', [24000/1001, 30000/1001, 60, 29.5])
@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv'])
def test_rounded_stamps_are_no_uneven_clock(tmp_path, name, fps):
    with av.open(str(write_mp4(tmp_path/'b.mp4', SCENE, fps=fps))) as i, av.open(str(tmp_path/name), 'w') as o:
        s = o.add_stream_from_template(i.streams.video[0])
        for p in i.demux(video=0):
            if p.size: p.stream = s; o.mux(p)
    p = probe(tmp_path/name)
    assert not p.variable and p.fps==pytest.approx(fps, rel=.01) and p.decoded==36 and not p.trouble


def test_sound_with_a_cover_is_no_video(tmp_path):
    with av.open(str(tmp_path/'song.mp4'), 'w') as c:
        a,v = c.add_stream('aac', rate=8000),c.add_stream('mjpeg', rate=1)
        v.width,v.height,v.pix_fmt = 80,64,'yuvj420p'; v.disposition |= av.stream.Disposition.attached_pic
        for p in [*v.encode(av.VideoFrame.from_ndarray(SCENE[0], format='rgb24')), *v.encode()]: c.mux(p)
        s = av.AudioFrame.from_ndarray(np.zeros((1,8000), np.float32), format='fltp', layout='mono'); s.rate = 8000
        for p in [*a.encode(s), *a.encode()]: c.mux(p)
    for ask in (open_frames, probe):
        with pytest.raises(TTPError, match='no video'): ask(tmp_path/'song.mp4')


# --- memory

def test_memory_stays_flat(tmp_path):
    code = ("import sys, psutil\nfrom ttp_nb.video import open_frames\n"
            "rss = lambda: psutil.Process().memory_info().rss/2**20\n"
            "f = open_frames(sys.argv[1], strict=sys.argv[2]=='strict')\nassert len(f)==1000, len(f)\n"
            "for i,_ in enumerate(f):\n    if i==100: early = rss()\nprint(rss()-early)\n"
            "early = rss(); open_frames(sys.argv[1], strict=False); print(rss()-early)")
    noise,path = np.random.default_rng(0).integers(0, 200, (240,320,3), dtype=np.uint8),tmp_path/'a.mp4'
    with av.open(str(path), 'w') as c:
        s = c.add_stream('libx264', rate=25, options={'preset':'ultrafast', 'crf':'28'})
        s.width,s.height,s.pix_fmt = 320,240,'yuv420p'
        for i in range(1001):
            v = av.VideoFrame.from_ndarray(np.roll(noise, 37*i*i, (0, 1)), format='rgb24') if i<1000 else None
            for p in s.encode(v): c.mux(p)
    assert path.stat().st_size>10e6                                      # so that keeping packets would be noticed
    for how in ('strict', 'saved'):
        r = subprocess.run([sys.executable, '-c', code, str(path), how], capture_output=True, text=True)
        assert r.returncode==0, r.stderr
        assert all(float(m)<40 for m in r.stdout.split()), r.stdout


# --- the library as a whole

def test_import_is_light(tmp_path):
    "And so is looking at a file."
    write_mp4(tmp_path/'a.mp4', SCENE[:3]); Image.fromarray(SCENE[0]).save(tmp_path/'b.png')
    code = ("import sys, ttp_nb.video as v; print(v.probe(sys.argv[1]), v.probe(sys.argv[2]))\n"
            "sys.exit(bool({'matplotlib', 'torch', 'torchvision', 'scipy', 'cv2'} & {*sys.modules}))")
    names = tmp_path/'a.mp4', tmp_path/'b.png'
    assert subprocess.run([sys.executable, '-c', code, *map(str, names)]).returncode==0


@pytest.mark.skipif(not (REAL/'pose2sim').is_dir(), reason=f'needs real videos under {REAL} (TTP_REAL)')
def test_a_real_video():
    f = open_frames(REAL/'pose2sim'/'pose2sim_cam01.mp4')
    assert (len(f), f.size, round(f.fps))==(100, (1080,1920), 60)
    assert f.times[-1]==pytest.approx(1.65, abs=.01)
    want = {i:f[i] for i in (0, 3, 9)}
    assert all((f[i]==want[i]).all() for i in (9, 0, 3))


@pytest.mark.skipif(not (REAL/'pose2sim').is_dir(), reason=f'needs real videos under {REAL} (TTP_REAL)')
def test_a_real_video_cut_short(tmp_path):
    data,whole = (REAL/'pose2sim'/'pose2sim_cam02.mp4').read_bytes(),open_frames(REAL/'pose2sim'/'pose2sim_cam02.mp4')
    assert probe(REAL/'pose2sim'/'pose2sim_cam02.mp4').trouble==()
    (tmp_path/'a.mp4').write_bytes(data[:len(data)//2])
    p,f = probe(tmp_path/'a.mp4'),open_frames(tmp_path/'a.mp4', strict=False)
    assert p.promised==100 and 40<p.decoded<60 and p.decoded==len(f) and p.trouble==f.trouble!=()
    assert all((f[i]==whole[i]).all() for i in (len(f)-1, 0, 20))
