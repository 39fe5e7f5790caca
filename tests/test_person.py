"Who the person is: hostile boxes and files, detectors that misbehave, following; real videos where they are at hand."
import json, os
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from hypothesis import given, settings, strategies as st
from ttp_nb import ready_estimator as ready_module
from ttp_nb.basics import TTPError, shipped
from ttp_nb.clips import Clip
from ttp_nb.video import UnusableInput, open_frames, write_mp4
from ttp_nb.penn import penn_clips, read_penn_label
from ttp_nb.person import (Track, box_doubts, choose, fill_gaps, find_person, follow, numbering_of, parse_box,
                           people_detector, person_boxes, read_boxes, track_boxes, whole_frame)
from ttp_nb.ready_estimator import iou, ready_estimator

PENN = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))/'Penn_Action'
needs_penn = pytest.mark.skipif(not (PENN/'labels').is_dir(), reason=f'needs Penn Action in {PENN} (set TTP_REAL)')
PERSON = np.load(Path(__file__).parent/'movenet_outputs.npz')['person']   # (192,192,3) somebody drawn with a few shapes
SIZE = 160,120


def numbered(n, size=SIZE):
    "Frames that carry their number."
    a = np.zeros((n,size[1],size[0],3), np.uint8)
    a[:,0,0,0],a[:,0,0,1] = np.divmod(np.arange(n), 256)
    return a


def number(frame): return int(frame[0,0,0])*256+int(frame[0,0,1])


def box(x, y=60, w=20, h=60, score=.9): return [x-w/2, y-h/2, x+w/2, y+h/2, score]


# --- boxes by hand

@pytest.mark.parametrize('text', ['1,2,30,40', ' 1 2 30 40 ', '(1, 2, 30, 40)', '[1;2;30;40]', '1.0,2e0,30,+40',
                                  '1\t2\t30\t40'])
def test_ways_to_type_a_box(text): assert parse_box(text, SIZE).tolist()==[1,2,30,40]


@pytest.mark.parametrize('text,says', [
    ('', 'not numbers'), ('1', '1 numbers'), ('1,2,3,4,5', '5 numbers'), ('1,,3,4', '3 numbers'),
    ('inf,0,inf,9', 'finite'),
    ('30,2,1,40', 'x0 < x1'), ('1,2,1,40', 'x0 < x1'), ('160,0,200,9', 'outside'), ('-9,-9,-1,50', 'outside'),
    ('0,0,1,1', 'two pixels'), ('1,2,3,x', 'not numbers'), ('1,2,3,0x9', 'not numbers')])
def test_what_is_no_box(text, says):
    with pytest.raises(TTPError, match=f'{says}.*160x120'): parse_box(text, SIZE)


def test_a_box_may_reach_beyond_and_is_not_clipped():
    assert parse_box('-50,-20,30,300', SIZE).tolist()==[-50,-20,30,300]
    assert whole_frame(SIZE, 2).tolist()==[[0,0,159,119]]*2
    Clip('a', numbered(2), whole_frame(SIZE, 2))


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_box_or_an_error(text):
    try: b = parse_box(text, SIZE)
    except TTPError: return
    assert b.shape==(4,) and np.isfinite(b).all() and (b[2:]>b[:2]).all()


# --- files

def rows(tmp_path, text, n=4, name='b.csv', mode='utf-8'):
    (tmp_path/name).write_bytes(text if isinstance(text, bytes) else text.encode(mode))
    return read_boxes(tmp_path/name, n, SIZE)


@pytest.mark.parametrize('text', [
    'frame,x0,y0,x1,y1\n0,1,2,30,40\n3,1,2,30,40\n', 'X0, Y0, x1, y1, Frame\n1,2,30,40,3\n1,2,30,40,0\n',
    '1,2,30,40\n,,,\n\n1,2,30,40\n,,,\n', 'frame;x0;y0;x1;y1\r\n0;1;2;30;40\r\n',
    '\ufeffframe,x0,y0,x1,y1\n1.0,1,2,30,40',
    '1\t2\t30\t40\n', 'who,frame,x0,y0,x1,y1\n"a, b",2,1,2,30,40\n'])
def test_layouts_of_csv(tmp_path, text):
    b,notes = rows(tmp_path, text)
    assert b.tolist()==[[1,2,30,40]]*4 and notes


def test_json_and_gaps(tmp_path):
    b,notes = rows(tmp_path, '[null, [0,0,10,20], null, [20,0,30,20], []]', 5, 'b.json')
    assert b[2].tolist()==[10,0,20,20] and b[0].tolist()==b[1].tolist() and b[4].tolist()==b[3].tolist()
    assert '1 of 5 frames (2), interpolated' in notes[0] and '2 of 5 frames (0, 4)' in notes[1]


@pytest.mark.parametrize('text,says', [
    ('', 'empty'), ('\n\n', 'empty'), (',,,\n', 'no box in it'), ('frame,x0,y0,x1,y1\n', 'no box in it'),
    ('x0,y0,x1,y1\n1,2,30,40\n', "no column 'frame'"), ('a,b,c,d\n', 'row 1: these are not numbers'),
    ('1,2,30,40\n1,2\n', 'row 2: 2 columns'), ('0,1,2,30,40\n', 'row 1: 5 columns'),
    ('frame,x0,y0,x1,y1\n4,1,2,30,40\n', 'row 2: there is no frame 4.*0 to 3'),
    ('frame,x0,y0,x1,y1\n-1,1,2,30,40\n', 'no frame -1'), ('frame,x0,y0,x1,y1\n0.5,1,2,30,40\n', 'no frame 0.5'),
    ('frame,x0,y0,x1,y1\n,1,2,30,40\n', 'there is no frame'), ('frame,x0,y0,x1,y1\ninf,1,2,30,40\n', 'no frame inf'),
    ('frame,x0,y0,x1,y1\n1,1,2,30,40\n1,1,2,30,40\n', 'row 3: frame 1 has had its box in row 2'),
    ('1,2,30,40\n'*5, 'row 5: there is no frame 4'), ('1,2,30,40\n1,,30,40\n', 'row 2: these are not'),
    ('1,2,30,40\n9,9,1,1\n', 'row 2: x0 < x1'), (b'\xff\xfe\x00', 'cannot be read'), ('1,2,nan,40\n', 'finite')])
def test_what_is_wrong_in_a_csv(tmp_path, text, says):
    with pytest.raises(TTPError, match=f'b.csv.*{says}'): rows(tmp_path, text)


@pytest.mark.parametrize('text,says', [
    ('', 'no json'), ('{"0": [1,2,3,4]}', 'a list of boxes'), ('[[1,2,30]]', 'entry 0: 3 numbers'),
    ('[null, "1,2,30,40"]', 'entry 1'), ('[[1,2,30,null]]', 'entry 0: these are not'),
    ('[null]', 'no box in it'), ('[]', 'no box'), ('[[1,2,30,NaN]]', 'finite'), ('['*100000, 'no json'),
    ('[[1,2,[3],4]]', 'not numbers'), (json.dumps([[1,2,30,40]]*5), 'no frame 4')])
def test_what_is_wrong_in_a_json(tmp_path, text, says):
    with pytest.raises(TTPError, match=f'b.json.*{says}'): rows(tmp_path, text, name='b.json')


@pytest.mark.parametrize('text', [
    'frame;x0;y0;x1;y1;;\r\n0;1;2;30,5;40;;\r\n3;1;2;30,5;40;;\r\n;;;;;;\r\n', ';frame;x0;y0;x1;y1\n;0;1;2;30,5;40\n',
    'sep=;\r\nframe;x0;y0;x1;y1\r\n2;1;2;30,5;40\r\n', '1;2;30,5;40;;\n'*4+';;;;;\n;;;;;\n', '1,2,30.5,40,,\n'*4,
    'frame,x0,y0,x1,y1,\n0,1,2,30.5,40,\n\n,,,,,\n', '"frame";"x0";"y0";"x1";"y1"\n"1";"1";"2";"30,5";"40"\n',
    'frame\tx0\ty0\tx1\ty1\n1\t1\t2\t30.5\t40\n'.encode('utf-16'),
    'wer;frame;x0;y0;x1;y1\nJürgen;1;1;2;30,5;40\n'.encode('cp1252')], ids=range(9))
def test_what_spreadsheets_make_of_a_csv(tmp_path, text):
    assert rows(tmp_path, text)[0].tolist()==[[1,2,30.5,40]]*4


# --- frames that could not be read

def broken(folder, n=20, lost=(5,), size=SIZE):
    "A folder of images that carry their number, some of them cut off."
    folder.mkdir()
    for t,img in enumerate(numbered(n, size)):
        path = folder/f'{t:04d}.png'
        Image.fromarray(img).save(path)
        if t in lost: path.write_bytes(path.read_bytes()[:40])
    return open_frames(folder, strict=False)

def by_number(t): return [10+2*t, 20, 50+2*t, 100]

@pytest.mark.parametrize('lost', [(5,), (0,), (19,), (3,4,11), (0,19)], ids=str)
def test_boxes_go_by_the_number_in_the_source_or_by_the_name(tmp_path, lost):
    frames = broken(tmp_path/'f', lost=lost)
    want = [by_number(number(img)) for img in frames]
    assert len(want)==20-len(lost)
    one_each = [(f'{t}', f'{t:04d}.png', f'f/{t:04d}.png', by_number(t)) for t in range(20)]
    files = {'n.csv': [','.join(map(str, (t, *b))) for t,_,_,b in one_each],
             'names.csv': [','.join(map(str, (name, *b))) for _,name,_,b in one_each],
             'paths.csv': [','.join(map(str, (path, *b))) for _,_,path,b in one_each],
             'bare.csv': [','.join(map(str, b)) for *_,b in one_each]}
    for name,lines in files.items():
        head = [] if name=='bare.csv' else ['frame,x0,y0,x1,y1']
        (tmp_path/name).write_text('\n'.join(head+lines))
        boxes,notes = person_boxes(frames, tmp_path/name, lambda f: [])
        assert boxes.tolist()==want, name
        boxes = 'box' if len(lost)==1 else 'boxes'
        assert f'{len(lost)} {boxes} passed over' in notes[0]
        numbers = notes[0].replace('.png', '').replace('f/', '').replace('000', '').replace('00', '')
        assert ', '.join(head and map(str, lost)) in numbers
    (tmp_path/'b.json').write_text(json.dumps([b for *_,b in one_each]))
    assert person_boxes(frames, tmp_path/'b.json', lambda f: [])[0].tolist()==want

def test_boxes_of_frames_that_are_read_say_nothing_of_others(tmp_path):
    frames = broken(tmp_path/'f')
    (tmp_path/'b.csv').write_text('frame,x0,y0,x1,y1\n'+'\n'.join(
        ','.join(map(str, (t, *by_number(t)))) for t in range(20) if t!=5))
    boxes,notes = person_boxes(frames, tmp_path/'b.csv', lambda f: [])
    assert boxes.tolist()==[by_number(t) for t in range(20) if t!=5] and not notes

def test_rows_without_numbers_that_may_be_either(tmp_path):
    frames = broken(tmp_path/'f')
    for name,text in (('b.csv', '\n'.join(['10,20,50,100']*19)), ('b.json', json.dumps([[10,20,50,100]]*19))):
        (tmp_path/name).write_text(text)
        with pytest.raises(TTPError, match=f"{name}.*19 boxes without numbers for 19 frames.*last is number 19"):
            person_boxes(frames, tmp_path/name)

def test_frames_that_there_are_not(tmp_path):
    frames = broken(tmp_path/'f')
    for frame in ('-1', '5.5', 'walk', '', 'nan', '1e999'):
        with pytest.raises(TTPError, match='no frame'): numbering_of(frames).find(frame)
    whole = open_frames([tmp_path/'f'/f'{t:04d}.png' for t in (1,2,3)])
    for frame in (3, '0009.png'):
        with pytest.raises(TTPError, match='no frame .*3, 0 to 2'): numbering_of(whole).find(frame)

def test_following_counts_what_could_not_be_read(tmp_path):
    frames = broken(tmp_path/'f', 40, (5,6,7,20))
    def see(img): return [box(20+2*number(img)), box(140-number(img), h=30)]
    boxes,notes = find_person(frames, see, every=1)
    want = np.array([box(20+2*number(img))[:4] for img in frames])
    assert np.abs(boxes-want)[1:-1].max()<1 and '(0 to 39)' in notes[0]
    x,y,t = map(float, notes[1].split('at:')[1].split(' ')[0].split(','))
    assert (x,y)==(140-t,60)
    for point in (f'at:{x:g},60,{t:g}', f'at:{x:g},60,{int(t):04d}.png'):
        other,_ = person_boxes(frames, point, see, every=1)
        assert np.abs(other[:,0]-[140-number(img)-10 for img in frames])[2:-2].max()<1
    for lost in ('6', '0006.png'):
        with pytest.raises(TTPError, match=f'frame {lost} could not be read'):
            person_boxes(frames, f'at:1,2,{lost}', see)

def test_gaps_are_bridged_by_number(tmp_path):
    frames = broken(tmp_path/'f', 10, (2,3,4,5))
    (tmp_path/'b.csv').write_text('frame,x0,y0,x1,y1\n0,0,0,20,20\n7,14,0,34,20\n')
    boxes,notes = read_boxes(tmp_path/'b.csv', frames, SIZE)
    assert boxes[:,0].tolist()==[0,2,12,14,14,14] and '2 of 6 frames (1, 6)' in notes[0] and '(8, 9)' in notes[1]


# --- boxes that cannot be right

def test_a_box_that_is_mostly_outside():
    f = numbered(4)
    assert not box_doubts(f, np.array([[-40,10,60,110.]]*4), lambda img: [])
    boxes = np.array([[-40,10,60,110.], [-70,10,60,110], [100,60,300,300], [0,0,159,119]])
    (note,) = box_doubts(f, boxes, lambda img: [])
    assert note=='more than half of the box lies outside of the frame in 2 of 4 frames (1, 2)'
    assert note in person_boxes(f, '-70,10,60,110', lambda img: [])[1][-1].replace('4 of 4 frames (0, 1, 2, 3)',
                                                                                     '2 of 4 frames (1, 2)')

def test_a_box_that_is_far_too_large():
    f,see = numbered(9), lambda img: [box(80, h=40), box(10, h=110, score=.3)]
    for b,says in ((box(80, h=40), ''), (box(80, h=70), ''), ([0,0,159,119], '4.0 times'),
                   (box(80, h=100), '2.5 times')):
        notes = box_doubts(f, np.array([b[:4]]*9, float), see)
        assert says in ''.join(notes) and len(notes)==bool(says)
    assert not box_doubts(f, np.array([box(20, w=30, h=110)[:4]]*9), see)       # nobody who is sure is in this one

def test_the_ready_estimator_sees_a_loose_box():
    frames = np.full((6,480,640,3), (150,170,160), np.uint8)
    frames[:,240:432,200:392] = PERSON
    assert 'times as long' in person_boxes(frames, 'frame')[1][-1]
    assert not [n for n in person_boxes(frames, '226,250,318,430')[1] if 'times' in n]


def test_no_such_file(tmp_path):
    for p in (tmp_path/'x.csv', tmp_path):
        with pytest.raises(TTPError, match='cannot be read'): read_boxes(p, 4, SIZE)


@given(st.binary(max_size=80), st.sampled_from(['b.csv', 'b.json']))
@settings(max_examples=300, deadline=None)
def test_any_file_is_boxes_or_an_error(tmp_path_factory, data, name):
    try: b,_ = rows(tmp_path_factory.getbasetemp(), data, name=name)
    except TTPError as e: assert name in str(e); return
    assert b.shape==(4,4) and np.isfinite(b).all()


def test_nothing_to_fill():
    with pytest.raises(TTPError, match='not one box'): fill_gaps(np.full((3,4), np.nan))


# --- the detector

def walk(n, size=(480,240)):
    "The drawn person goes from left to right."
    frames = np.full((n,size[1],size[0],3), (150,170,160), np.uint8)
    for t in range(n): frames[t,24:216,8*t:8*t+192] = PERSON
    return frames

def test_the_ready_estimator_finds_the_person():
    frames = walk(36)
    found,notes = person_boxes(frames)
    want = np.array([[50+8*t,24+18,142+8*t,24+182] for t in range(36)])
    assert np.diag(iou(found, want)).min() > .6 and notes==('one person, in 10 of 10 frames looked at (0 to 35)',)
    assert np.array_equal(find_person(frames, people_detector(ready_estimator()))[0], found)

def test_nobody_is_found_where_nobody_is():
    grey = np.full((5,120,160,3), 90, np.uint8)
    with pytest.raises(UnusableInput, match='nobody in .* frames looked at, of 5.*--box'): person_boxes(grey)

def test_without_weights_the_ways_out_are_told(tmp_path, monkeypatch):
    def absent(name): raise TTPError(f'{tmp_path/name}.safetensors is not there: run from a clone of the project.')
    monkeypatch.setattr(ready_module, 'shipped', absent)
    for f in (people_detector, lambda: person_boxes(numbered(3))):
        with pytest.raises(UnusableInput, match='movenet_lightning.*not there.*--box x0,y0,x1,y1.*--box frame'): f()

def test_damaged_weights(tmp_path, monkeypatch):
    file = tmp_path/'movenet_lightning.safetensors'
    monkeypatch.setattr(ready_module, 'shipped', lambda name: file)
    cut = shipped('movenet_lightning').read_bytes()[:9999]
    for data in (b'', b'half a file', cut, shipped('small_joint').read_bytes()):
        file.write_bytes(data)
        with pytest.raises(UnusableInput, match='movenet_lightning.safetensors.*--box'): people_detector()


@pytest.mark.parametrize('gives', [[[1,2,3]], np.zeros((2,4)), 'nobody', [[1,2,3,4,np.nan]], np.zeros(5), None, 7,
                                   [[1,2,3,4,5],[1]]])
def test_a_detector_that_gives_something_else(gives):
    with pytest.raises(TTPError, match='frame 0: the detector gave'): find_person(numbered(3), lambda f: gives)


def test_a_detector_may_give_nothing_a_list_a_tensor_and_empty_boxes():
    gives = [[], np.zeros((0,5)), [box(50)], torch.tensor([box(50)]), [[9,9,9,9,1], [9,9,3,20,1], box(50)]]
    b,_ = find_person(numbered(5), lambda f: gives[number(f)], every=1)
    assert np.allclose(b, box(50)[:4])


def test_what_a_detector_raises_is_not_hidden():
    with pytest.raises(ZeroDivisionError): find_person(numbered(3), lambda f: 1/0)


# --- following

def walkers(n, *paths, every=1, drop=()):
    "Detections of people at x = a+b t; `drop` holds (t, person)."
    return [(t, np.array([box(a+b*t, *wh) for k,(a,b,*wh) in enumerate(paths) if (t,k) not in drop]).reshape(-1,5))
            for t in range(0, n, every)]


def test_the_order_of_detections_does_not_matter():
    d = walkers(40, (10,2), (90,-2), (50,.5,80))
    a,b = follow(d),follow([(t, o[::-1]) for t,o in d])
    assert len(a)==len(b)==3
    for x,y in zip(a, b): assert (x.boxes==y.boxes).all() and (x.t==y.t).all()


@pytest.mark.parametrize('every', [1, 3, 5])
def test_two_who_cross_are_told_apart(every):
    a,b = follow(walkers(60, (10,2.), (130,-2.), every=every))
    for k,(x,v) in ((a,(10,2)), (b,(130,-2))): assert np.allclose((k.boxes[:,0]+k.boxes[:,2])/2, x+v*k.t)


def test_they_cross_unseen():
    drop = {(t,1) for t in range(25, 36)}
    tracks = follow(walkers(60, (10,2.), (130,-2.), drop=drop))
    assert len(tracks)==2 and len(tracks[1])==49
    assert np.allclose((tracks[1].boxes[:,0]+tracks[1].boxes[:,2])/2, 130-2*tracks[1].t)


def test_gaps_and_patience():
    seen = [0,1,2,30,31,95,96]
    looks = [(t, [box(50)] if t in seen else []) for t in range(100)]
    gap = lambda p: [k.t.tolist() for k in follow(looks, patience=p)]
    assert gap(10)==[[0,1,2],[30,31],[95,96]] and gap(60)==[[0,1,2,30,31],[95,96]] and gap(64)==[seen]


def test_scores():
    low = [(t, [box(50, score=.3 if t else .9)]) for t in range(20)]
    assert [len(k) for k in follow(low)]==[20]                                      # continued
    assert not follow(low[1:]) and [len(k) for k in follow(low, keep=.5)]==[1]      # never begun; lost
    assert follow([])==[] and follow([(0, [])])==[]


def test_a_jump_is_somebody_else():
    tracks = follow([(t, [box(20 if t<10 else 120)]) for t in range(20)])
    assert [k.t.tolist() for k in tracks]==[list(range(10)), list(range(10,20))]


def test_detections_are_consumed_one_by_one():
    held = []
    def source():
        for t in range(50):
            d = np.array([box(50)])
            held.append(t)
            yield t,d
    follow(source())
    assert held==list(range(50))


@given(st.lists(st.lists(st.tuples(*[st.floats(-300, 300)]*4, st.floats(0, 1)), max_size=4), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_every_detection_is_in_one_track_at_most(frames):
    tracks = follow(enumerate(frames), keep=0., start=0.)
    good = [(t,*d) for t,f in enumerate(frames) for d in f if d[2]>d[0] and d[3]>d[1]]
    kept = [(int(t),*b,s) for k in tracks for t,b,s in zip(k.t, k.boxes.tolist(), k.scores.tolist())]
    assert sorted(kept)==sorted((t,*map(float, d)) for t,*d in good)
    for k in tracks: assert (np.diff(k.t)>0).all()


# --- choosing, and boxes of all frames

def still(x, n=10, t0=0, **kw):
    b = np.tile(np.array(box(x, **kw))[:4], (n,1))
    return Track(np.arange(t0, t0+n), b, np.ones(n))


def test_longest_and_largest():
    small,large,late,out = still(30, h=30),still(80),still(120, 9),still(-300, 100)
    assert choose([small,large], SIZE)==(large,[small]) and choose([late,large], SIZE)[0] is large
    assert choose([out,small], SIZE)[0] is small                      # what cannot be seen does not count
    a,b = still(30),still(100)
    assert choose([a,b], SIZE)[0] is a and choose([b,a], SIZE)[0] is a      # from the left
    c = still(10, t0=5)
    assert choose([c,b], SIZE)[0] is b                                # the earlier one
    with pytest.raises(TTPError, match='nobody to choose'): choose([], SIZE)


def test_choosing_by_a_point():
    a,b = still(60, h=80),still(70, h=40)
    for at,who in ((None, a), ((70,60,3), b), ((61,60,3), a)): assert choose([a,b], SIZE, at)[0] is who
    for at in ((200,60,3), (60,60,10), (60,60,-1)):
        with pytest.raises(UnusableInput, match='nobody was seen'): choose([a,b], SIZE, at)


def test_boxes_of_all_frames():
    k = Track(np.array([2,4]), np.array([[0,0,10,20],[4,0,14,20.]]), np.ones(2))
    b = track_boxes(k, 8, 0)
    assert b[:,0].tolist()==[0,0,0,2,4,4,4,4]
    s = track_boxes(k, 8, 2.)
    assert s.shape==(8,4) and (np.diff(s[:,0])>0).all() and np.allclose(s[:,2]-s[:,0], 10)
    assert np.allclose(track_boxes(still(50, 1, 3), 9), box(50)[:4])


def test_iou_of_nothing():
    assert iou(np.zeros((0,4)), np.zeros((0,4))).shape==(0,0)
    assert iou([[0,0,0,0]], [[0,0,0,0]])[0,0]==0


# --- the whole way

class Watched:
    "Frames that note which of them were asked for."
    source,fps = 'walk.mp4',30.
    def __init__(self, n): self.n,self.asked = n,[]
    def __len__(self): return self.n
    def __getitem__(self, i): self.asked.append(i); return numbered(self.n)[i]


def test_frames_are_visited_in_order_every_so_many_and_the_last():
    w = Watched(23)
    b,notes = find_person(w, lambda f: [box(20+3*number(f))])
    assert w.asked[1:]==[0,5,10,15,20,22] and b.shape==(23,4) and 'one person, in 6 of 6 frames' in notes[0]
    assert np.allclose(b[8:15].mean(0), box(20+33)[:4], atol=.5)
    w = Watched(23); find_person(w, lambda f: [box(50)], every=10)
    assert w.asked[1:]==[0,10,20,22]
    for every in (-1,-5):
        with pytest.raises(TTPError, match='every'): find_person(w, lambda f: [box(50)], every=every)


def test_one_frame():
    b,_ = find_person(numbered(1), lambda f: [box(50)])
    assert np.allclose(b, [box(50)[:4]])


def test_nobody():
    with pytest.raises(UnusableInput, match='walk.mp4: nobody in 2 frames looked at, of 5.*160x120.*--box'):
        find_person(Watched(5), lambda f: [])


def test_rarely_seen_and_others_are_noted():
    see = lambda f: ([box(40)] if number(f) in (0,9) else [])+([box(110, h=30)] if number(f)==3 else [])
    b,notes = find_person(numbered(30), see, every=1)
    assert '2 people' in notes[0] and '--box at:110,60,3 (seen 1 time)' in notes[1]
    assert 'up to 8 frames' in notes[2] and 'less than half' in notes[3]
    other,_ = person_boxes(numbered(30), 'at:110,60,3', see, every=1)
    assert np.allclose(other, box(110, h=30)[:4])


def test_a_video_file(tmp_path):
    pictures = np.full((40,120,160,3), 90, np.uint8)
    for t in range(40): pictures[t,30:90,20+2*t:44+2*t] = 250
    frames = open_frames(write_mp4(tmp_path/'a.mp4', pictures, 25))
    def bright(f):
        y,x = np.nonzero(f[...,0]>180)
        return [[x.min(), y.min(), x.max(), y.max(), .9]]
    b,_ = person_boxes(frames, detector=bright)
    want = np.array([[20+2*t, 30, 43+2*t, 89] for t in range(40)])
    assert np.diag(iou(b, want)).min()>.85
    Clip('a', frames, b)


def test_one_entry(tmp_path, monkeypatch):
    f = numbered(4)
    assert person_boxes(f, ' FRAME ')[0].tolist()==[[0,0,159,119]]*4
    assert person_boxes(f, '-5,2,30,40')[0].tolist()==[[-5,2,30,40]]*4
    monkeypatch.chdir(tmp_path)
    Path('boxes').write_text('1,2,30,40\n'*4); Path('B.CSV').write_text('1,2,30,40\n'*4)
    for name in ('boxes', 'B.CSV', Path('boxes')): assert person_boxes(f, name)[0].tolist()==[[1,2,30,40]]*4
    for text,says in (('me', 'neither four'), ('x'*5000, 'neither four'), ('1,2,3', '3 numbers'),
                      ('no.csv', 'cannot be read'), ('at:1,2', 'at:x,y,frame'), ('at:', 'at:x,y,frame'),
                      ('at:1,nan,2', 'at:x,y,frame'), ('at:1,2,nan', 'no frame nan'),
                      ('at:1,2,4', 'no frame 4; the video has 4, 0 to 3'),
                      ('frames', 'neither'), ('12', '1 numbers'), ('\0', 'neither')):
        with pytest.raises(TTPError, match=says): person_boxes(f, text, lambda f: [box(50)])
    with pytest.raises(TTPError, match='no frames'): person_boxes(f[:0], 'frame')


# --- real videos

def poorly(m, i):
    "A detector of the labelled boxes: they tremble by 4 %, a fifth is missing, and somebody else walks by."
    b,(W,_),g = m['boxes'],m['size'],np.random.default_rng(i)
    seen = b+g.normal(0, .04, b.shape)*np.tile(b[:,2:]-b[:,:2], 2)
    h,foot = .7*np.median(b[:,3]-b[:,1]),b[:,3].mean()
    def see(f):
        t = number(f)
        x = (1.2*t/len(b)-.1)*W
        return [[*seen[t], .9]]*(g.random()>.2)+[[x-.2*h, foot-h, x+.2*h, foot, .8]]
    return see


@needs_penn
def test_real_motion_seen_by_a_poor_detector():
    labels = [read_penn_label(p) for p in sorted((PENN/'labels').glob('*.mat'))[::60]]
    res = []
    for i,m in enumerate(labels):
        boxes,_ = find_person(numbered(len(m['boxes']), m['size']), poorly(m, i))
        res.append(np.diag(iou(boxes, m['boxes'])).mean())
    assert np.mean(res)>.8 and np.mean(np.array(res)<.4)<.1, np.round(res, 2)


@needs_penn
def test_real_people_without_a_box():
    shares = []
    for c in penn_clips(PENN, 'all')[0]:
        boxes,notes = find_person(c.frames, every=8)
        shares.append(np.diag(iou(boxes, c.boxes)).mean())
    assert min(shares) > .4 and np.mean(shares) > .65, np.round(shares, 2)
