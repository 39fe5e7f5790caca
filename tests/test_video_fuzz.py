"""Small videos of many kinds, mutated: what opens must give every frame that the decoder gives, in its order.

Each frame carries its number as eight black and white blocks, so order and count are read from the pictures. Every
case has its seed. Some run each time; `TTP_FUZZ=4` runs all of them, with four seeds each.
"""
import os, struct
from functools import cache
import av, numpy as np, pytest
from ttp_nb.basics import TTPError
from ttp_nb.video import _upright, open_frames

N, W, H = 30, 128, 64
SEEDS = int(os.environ.get('TTP_FUZZ', 0))   # so many of each; 0: one of every third
Y, X = np.mgrid[:H,:W]


def frame(i):
    "A pattern that moves, and the number in the top rows."
    a = np.stack([90+60*np.sin(X/9+i/3), 90+60*np.cos(Y/7+i/5), np.full(X.shape, 60.)], -1).astype(np.uint8)
    for b in range(8): a[:16,16*b:16*b+16] = 235 if i>>b&1 else 20
    return a


def number(a): return sum(1<<b for b in range(8) if a[4:12,16*b+5:16*b+11].mean()>128)


def x264(params='keyint=10:bframes=3', **kw): return dict(codec='libx264', **{'x264-params':params}, **kw)

KINDS = {
    'b.mp4':x264(), 'b.mkv':x264(), 'b.avi':x264(), 'b.ts':x264(), 'b.flv':x264(), 'b.mov':x264(), 'b.h264':x264(),
    'open.mp4':x264('open-gop=1:keyint=9:bframes=3:b-adapt=0'), 'open.avi':x264('open-gop=1:keyint=9:bframes=3'),
    'open.ts':x264('open-gop=1:keyint=9:bframes=3:b-adapt=0'),
    'pyramid.avi':x264('keyint=12:bframes=5:b-pyramid=normal'),
    'one_key.mkv':x264('keyint=250:bframes=2'),
    'refresh.ts':x264('intra-refresh=1:keyint=10'),
    'refresh.mp4':x264('intra-refresh=1:keyint=10'), 'woven.mp4':x264('interlaced=1:keyint=10:bframes=2'),
    'woven.ts':x264('interlaced=1:keyint=10:bframes=2'), 'plain.avi':x264('keyint=10:bframes=0'),
    'front.mp4':x264(flags='+faststart'), 'fragments.mp4':x264(flags='frag_keyframe+empty_moov'),
    '265.mp4':dict(codec='libx265', **{'x265-params':'keyint=10:log-level=none'}),
    '265.mkv':dict(codec='libx265', **{'x265-params':'keyint=10:bframes=4:log-level=none'}),
    '265.hevc':dict(codec='libx265', **{'x265-params':'keyint=10:log-level=none'}),
    'mpeg4.avi':dict(codec='mpeg4', g='8', bf='2'), 'mpeg4.mp4':dict(codec='mpeg4', g='8', bf='2'),
    'mpeg4.nut':dict(codec='mpeg4', g='8', bf='1'), 'mpeg2.mpg':dict(codec='mpeg2video', g='8', bf='2'),
    'mpeg2.ts':dict(codec='mpeg2video', g='8', bf='2'), 'mpeg2.avi':dict(codec='mpeg2video', g='8', bf='2'),
    'mpeg2.m2v':dict(codec='mpeg2video', g='8', bf='2'), 'mpeg1.mpg':dict(codec='mpeg1video', g='8', bf='1'),
    'mpeg2.mxf':dict(codec='mpeg2video', g='8', bf='2'), 'mjpeg.avi':dict(codec='mjpeg', pix='yuvj420p'),
    'mjpeg.mov':dict(codec='mjpeg', pix='yuvj420p'), 'vp8.webm':dict(codec='libvpx', g='10', **{'auto-alt-ref':'1',
    'lag-in-frames':'8'}), 'vp9.webm':dict(codec='libvpx-vp9', g='12', **{'lag-in-frames':'8'}),
    'vp9.mp4':dict(codec='libvpx-vp9', g='12'), 'ffv1.mkv':dict(codec='ffv1'), 'wmv2.wmv':dict(codec='wmv2', g='8'),
    'flv1.flv':dict(codec='flv', g='8'), 'theora.ogv':dict(codec='libtheora', g='8'), 'raw.y4m':dict(codec='rawvideo'),
    'prores.mov':dict(codec='prores', pix='yuv422p10le'), 'gif.gif':dict(codec='gif', pix='rgb8'),
    'apng.apng':dict(codec='apng', pix='rgb24')}


def encode(path, codec, pix='yuv420p', flags=None, frames=range(N), ticks=None, **options):
    with av.open(str(path), 'w', options={'movflags':flags} if flags else {}) as c:
        s = c.add_stream(codec, rate=25, options={'threads':'1'}|options)
        s.width, s.height, s.pix_fmt = W, H, pix
        for k,i in enumerate(frames):
            v = av.VideoFrame.from_ndarray(frame(i), format='rgb24').reformat(format=pix)
            if ticks is not None: v.pts, v.time_base = int(ticks[k]), s.codec_context.time_base
            for p in s.encode(v): c.mux(p)
        for p in s.encode(): c.mux(p)
    return path


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    "Function: name of a kind -> the video, made once."
    home = tmp_path_factory.mktemp('films')
    @cache
    def film(name):
        try: return encode(home/name, **KINDS[name])
        except (av.FFmpegError, ValueError) as e: pytest.skip(f'this build cannot write {name}: {e}')
    return film


def decoded(path):
    "The pictures that the decoder gives when nobody looks at stamps; what fails is passed over."
    out = []
    with av.open(str(path), metadata_errors='replace') as c:
        s = c.streams.best('video')
        s.thread_type = 'NONE'
        def packets():
            for _ in range(101):
                try: return (yield from c.demux(s))
                except (OSError, ValueError, av.FFmpegError): pass
        for p in [*(p for p in packets() if p.size), None]:
            try: out += [_upright(f) for f in s.decode(p)]
            except (OSError, ValueError, av.FFmpegError): pass
    return out


def opened(path, rng, strict=False):
    "Frames and pictures; what is promised is kept: length, order of the source's numbers, jumps equal walking."
    f = open_frames(path, strict=strict)
    walked = list(f)
    assert len(walked)==len(f)==len(f.index)==len(f.times)==len(f.names)
    assert (np.diff(f.index)>0).all() and (np.diff(f.times)>0).all() and 0<f.fps<1e6
    assert all(isinstance(t, str) for t in (*f.trouble, *f.notes))
    for i in rng.integers(len(f), size=6): assert (f[int(i)]==walked[i]).all()
    return f, walked


# --- sound files: nothing is lost, nothing is told

def remux(path, to, change, rate=None, **options):
    with av.open(str(path)) as i, av.open(str(to), 'w', options={'avoid_negative_ts':'disabled'}|options) as o:
        s = o.add_stream_from_template(i.streams.video[0])
        for k,p in enumerate(p for p in i.demux(video=0) if p.size):
            p.stream = s
            change(k, p)
            o.mux(p)
    return to


def as_it_is(path, to, rng): to.write_bytes(path.read_bytes())

def other_container(path, to, rng):
    remux(path, to.with_suffix(str(rng.choice(['.mkv', '.mov', '.avi', '.ts', '.nut', '.flv']))), lambda k, p: None)

def later(path, to, rng):
    by = int(rng.integers(1, 10**6))
    def change(k, p): p.pts, p.dts = (None if t is None else t+by for t in (p.pts, p.dts))
    remux(path, to, change)

def only_decoding_times(path, to, rng):
    def change(k, p): p.pts = p.dts
    remux(path, to.with_suffix('.mkv'), change)

def slower(path, to, rng):
    gaps = np.cumsum(rng.integers(1, 9, 2000))
    def change(k, p):
        step = p.duration or 1
        p.pts, p.dts = (int(gaps[max(0, t//step+20)])*step if t is not None else None for t in (p.pts, p.dts))
    remux(path, to, change)

def garbage_behind(path, to, rng): to.write_bytes(path.read_bytes()+rng.bytes(int(rng.integers(1, 3000))))

def avi_header(path, to, rng):
    "The header's count of frames, and the rate, are wrong."
    d = bytearray(path.read_bytes())
    at, strh = d.index(b'avih')+8, d.index(b'strh')+8
    d[at+16:at+20] = struct.pack('<I', int(rng.integers(0, 500)))
    d[strh+32:strh+36] = struct.pack('<I', int(rng.integers(0, 500)))
    d[strh+24:strh+28] = struct.pack('<I', int(rng.integers(1, 1000)))
    to.write_bytes(d)

def matrix(path, to, rng):
    d = bytearray(path.read_bytes())
    at = d.index(b'tkhd')+44
    a, b, c, e = ((1,0,0,1), (-1,0,0,1), (1,0,0,-1), (-1,0,0,-1), (0,1,1,0), (0,1,-1,0), (0,-1,1,0), (0,-1,-1,0),
                  rng.integers(-9, 9, 4).tolist())[rng.integers(9)]
    d[at:at+36] = struct.pack('>9i', a<<16, b<<16, 0, c<<16, e<<16, 0, 0, 0, 1<<30)
    to.write_bytes(d)

def joined(path, to, rng):
    cut = int(rng.integers(5, N-5))
    kw = KINDS[path.name]
    parts = [encode(to.with_name(f'{k}{path.suffix}'), frames=r, **kw).read_bytes()
             for k,r in enumerate((range(cut), range(cut, N)))]
    to.write_bytes(b''.join(parts))

def empty_places(path, to, rng):
    "As recorders write them: chunks of no bytes."
    skip, at = set(map(int, rng.integers(1, N, 4))), 0
    with av.open(str(to), 'w') as o, av.open(str(path)) as i:
        s = o.add_stream_from_template(i.streams.video[0])
        for k,p in enumerate(p for p in i.demux(video=0) if p.size):
            p.stream, at = s, at+1+2*(k in skip)
            p.pts = p.dts = at
            o.mux(p)

def with_sound(path, to, rng):
    "Sound before the picture, in another stream."
    with av.open(str(path)) as i, av.open(str(to), 'w') as o:
        a = o.add_stream('pcm_s16le' if path.suffix in ('.avi', '.mkv', '.mov') else 'aac', rate=8000)
        s = o.add_stream_from_template(i.streams.video[0])
        sound = av.AudioFrame.from_ndarray(rng.integers(-999, 999, (1, 1024*12)).astype(np.int16), format='s16',
                                           layout='mono')
        sound.rate = 8000
        fifo = av.AudioResampler(format=a.codec_context.format, layout='mono', rate=8000, frame_size=1024)
        for f in [*fifo.resample(sound)]: o.mux(a.encode(f))
        o.mux(a.encode(None))
        for p in i.demux(video=0):
            if p.size: p.stream = s; o.mux(p)

MP4, AVI = [n for n in KINDS if n.endswith(('.mp4', '.mov'))], [n for n in KINDS if n.endswith('.avi')]
TS = [n for n in KINDS if n.endswith('.ts')]+['b.h264', '265.hevc', 'mpeg2.m2v', 'mpeg2.mpg']
H264 = [n for n in KINDS if KINDS[n]['codec']=='libx264']
TIMED = [n for n in KINDS if n.endswith(('.mp4', '.mov', '.mkv', '.webm', '.flv', '.ts'))]
SOUND = {as_it_is:list(KINDS), other_container:H264, later:TIMED, only_decoding_times:H264, slower:TIMED,
         garbage_behind:[n for n in KINDS if n.endswith(('.mp4', '.mov', '.avi', '.mkv'))], avi_header:AVI, matrix:MP4,
         joined:TS, empty_places:AVI, with_sound:[n for n in H264 if n.endswith(('.mp4', '.mov', '.mkv', '.avi'))]}


def cases(table):
    "(name of the mutation, kind, seed) of all; without TTP_FUZZ every third."
    all_of = [(change, kind, seed) for change,kinds in table.items() for kind in kinds for seed in range(SEEDS or 1)]
    step = 1 if SEEDS else 3
    return [pytest.param(*c, id=f'{c[0].__name__}-{c[1]}-{c[2]}') for c in all_of[::step]]


@pytest.mark.timeout(60)
@pytest.mark.parametrize('change,kind,seed', cases(SOUND))
def test_what_the_decoder_gives_is_given(films, tmp_path, change, kind, seed):
    path, rng = tmp_path/kind, np.random.default_rng([seed, len(kind)])
    film = films(kind)
    try: change(film, path, rng)
    except (av.FFmpegError, ValueError) as e: pytest.skip(f'cannot be written: {e}')
    path = max((p for p in tmp_path.iterdir() if p.stem==path.stem), key=lambda p: p.stat().st_mtime)
    want = list(map(number, decoded(path)))
    for strict in (True, False):
        f, walked = opened(path, rng, strict)
        got = list(map(number, walked))
        assert got==want
        assert f.trouble==(), f.trouble
        assert list(f.index)==list(range(len(want)))


# --- damaged files: what opens keeps its promise, and what is there of the film is in its order

def truncated(d, rng): return d[:int(rng.integers(20, len(d)))]

def flipped(d, rng):
    for at in rng.integers(len(d), size=int(rng.integers(1, 12))): d[at] ^= 1<<int(rng.integers(8))
    return d

def noise(d, rng):
    at, n = int(rng.integers(len(d))), int(rng.integers(1, 400))
    d[at:at+n] = rng.bytes(len(d[at:at+n]))
    return d

def zeros(d, rng):
    at, n = int(rng.integers(len(d))), int(rng.integers(1, 2000))
    d[at:at+n] = bytes(len(d[at:at+n]))
    return d

def hole(d, rng):
    at, n = int(rng.integers(len(d))), int(rng.integers(1, 800))
    return d[:at]+d[at+n:]

def doubled(d, rng):
    at, n = int(rng.integers(len(d))), int(rng.integers(1, 800))
    return d[:at]+d[at:at+n]+d[at:]

def header(d, rng):
    for at in rng.integers(min(600, len(d)), size=int(rng.integers(1, 5))): d[at] = int(rng.integers(256))
    return d

DAMAGE = {change:list(KINDS) for change in (truncated, flipped, noise, zeros, hole, doubled, header)}


@pytest.mark.timeout(60)
@pytest.mark.parametrize('change,kind,seed', cases(DAMAGE))
def test_damage_ends_in_frames_in_order_or_in_an_error_that_names_the_file(films, tmp_path, change, kind, seed):
    film = films(kind)
    path, rng = tmp_path/kind, np.random.default_rng([seed, len(kind), sum(map(ord, change.__name__))])
    path.write_bytes(change(bytearray(film.read_bytes()), rng))
    clean = {a.tobytes():i for i,a in enumerate(open_frames(film))}
    plain = None
    for strict in (False, True):
        try: f, walked = opened(path, rng, strict)
        except TTPError as e:
            assert kind in str(e) and '\n' not in str(e)
            continue
        plain = plain or [clean.get(a.tobytes()) for a in decoded(path)]
        got = [clean.get(a.tobytes()) for a in walked]   # None: hurt, and perhaps not the same each time
        first = list(dict.fromkeys(i for i in got if i is not None))   # a decoder may repeat a picture where it is hurt
        rest = iter(plain)
        assert all(i in rest for i in first), got        # in the decoder's order
        if not f.trouble: assert len(walked)==len(plain)
        if change is truncated: # numbers are those of the whole film; the last ones only where the format tells of cuts
            known = [(j, i) for j,i in zip(f.index, got) if i is not None]
            assert all(j==i for j,i in known[:None if 'cut short' in ' '.join(f.trouble) else -4])
        if strict: assert not any('could not' in t or 'cut short' in t for t in f.trouble)


# --- no videos at all

@pytest.mark.timeout(60)
@pytest.mark.parametrize('seed', range(4))
def test_noise_is_no_video(tmp_path, seed):
    rng = np.random.default_rng(seed)
    for k,ext in enumerate(('mp4', 'avi', 'mkv', 'ts', 'mpg', 'png', 'tif', 'webp', '')):
        path = tmp_path/f'noise{k}.{ext}'
        path.write_bytes(rng.bytes(int(rng.integers(1, 5000))))
        for strict in (True, False):
            try: opened(path, rng, strict)
            except TTPError as e: assert path.name in str(e)
