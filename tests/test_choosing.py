"""Which part of a video, and whom: moments, cuts that lose nothing, sheets, a window without a window."""
import cv2, numpy as np, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from ttp_nb import choosing
from ttp_nb.basics import TTPError
from ttp_nb.choosing import Excerpt, Pointer, ask_person, contact_sheet, parse_moment, write_sheet
from ttp_nb.images import Frames
from ttp_nb.person import person_boxes, read_boxes
from ttp_nb.video import open_frames

def film(times, index=None, size=(64,48)):
    "Frames of one colour that say their number."
    def read(i): return np.full((size[1],size[0],3), i, np.uint8)
    return Frames(read, times, size, 10, [f'{i:06d}' for i in range(len(times))], 'film.mp4', index)


@pytest.mark.parametrize('given,want', [(0, (0, 's')), (7, (7, 's')), ('.5', (.5, 's')), ('2.', (2, 's')),
    (' 2.5s ', (2.5, 's')), ('0:07', (7, 's')), ('1:00:01.5', (3601.5, 's')), ('0f', (0, 'f')), ('120f', (120, 'f'))])
def test_moments(given, want): assert parse_moment(given)==want

@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text('0123456789.:sf -+e,', max_size=8))
def test_a_moment_is_a_moment_or_refused(text):
    try: value,unit = parse_moment(text)
    except TTPError as e: assert 'is no moment' in str(e)
    else: assert value>=0 and (unit=='f')==text.strip().endswith('f')

@settings(max_examples=100, deadline=None, derandomize=True)
@given(gaps=st.lists(st.floats(.001, .5), min_size=3, max_size=12), cut=st.floats(0, 3), lost=st.integers(1, 5))
def test_parts_that_touch_lose_and_share_nothing(gaps, cut, lost):
    "Uneven times, a frame that could not be read; cut by seconds, or by the number of a frame."
    times = np.round(np.cumsum([0, *gaps]), 3)
    index = np.arange(len(times))+(np.arange(len(times))>=lost)
    video = film(times, index)
    for moment in (f'{cut:.3f}', f'{int(3*cut)}f'):
        parts = []
        for excerpt in (Excerpt(end=moment), Excerpt(moment)):
            try: parts += list(excerpt.of(video).index)
            except TTPError as e: assert 'no frame lies in the part' in str(e)
        assert parts==list(index)

def test_a_moment_that_is_shown_is_the_frame_that_is_there():
    "Times are shown in thousandths; whoever types one means that frame."
    video = film(np.arange(100)/29.97)
    for i in (1, 7, 50, 99): assert Excerpt(f'{video.times[i]:.3f}').of(video).index[0]==i

def test_slow_motion_is_the_clock_only():
    video = film(np.arange(20)/30)
    slow = Excerpt(slowmo=4).of(video)
    assert np.allclose(slow.times, np.arange(20)/120) and slow.fps==40
    assert not slow.part and list(slow.index)==list(range(20))
    assert 'recorded at 4 times' in slow.notes[0] and video.fps==10 and not video.notes, 'the video itself is untouched'
    assert (slow[3]==3).all()
    for bad in (0, -1, float('nan'), float('inf')):
        with pytest.raises(TTPError, match='slowmo'): Excerpt(slowmo=bad)

def test_boxes_go_by_the_source_in_a_part(tmp_path):
    video = film(np.arange(20)/10)
    part = Excerpt('5f', '9f').of(video)
    rows = [[t, 5, t+20, 40] for t in range(20)]
    (tmp_path/'b.json').write_text(str(rows))
    for name,some in (('n.csv', range(20)), ('few.csv', range(5, 9))):
        lines = [','.join(map(str, (t, *rows[t]))) for t in some]
        (tmp_path/name).write_text('\n'.join(['frame,x0,y0,x1,y1', *lines]))
    for name in ('b.json', 'n.csv'):
        boxes,notes = read_boxes(tmp_path/name, part, part.size)
        assert boxes.tolist()==rows[5:9] and '16 boxes passed over' in notes[0]
    assert read_boxes(tmp_path/'few.csv', part, part.size)[0].tolist()==rows[5:9]
    (tmp_path/'four.json').write_text(str(rows[5:9]))
    with pytest.raises(TTPError, match='4 boxes without numbers for 4 frames'):
        read_boxes(tmp_path/'four.json', part, part.size)
    see = lambda frame: np.array([[10, 5, 40, 45, .9]])
    assert '(5 to 8)' in person_boxes(part, '', see, every=1)[1][0]
    assert person_boxes(part, 'at:20,20,6', see, every=1)[0].shape==(4,4)
    with pytest.raises(TTPError, match='frame 3 .*not in the part'): person_boxes(part, 'at:20,20,3', see)

@pytest.mark.parametrize('n', [1, 3, 5, 50])
def test_sheets(tmp_path, n):
    sheet = contact_sheet(film(np.arange(n)/10), 8, 400)
    assert sheet.dtype==np.uint8 and sheet.shape[1]<=400 and sheet.shape[0]<=300
    write_sheet(film(np.arange(n)/10), tmp_path/'s.png', most=2)
    assert Image.open(tmp_path/'s.png').format=='PNG' and [p.name for p in tmp_path.iterdir()]==['s.png']
    with pytest.raises(TTPError, match='cannot be written'): write_sheet(film([0.]), tmp_path/'s.png'/'t.jpg')


# --- the window

HAND = {'click': ([('down', 20, 10), ('up', 21, 10), 13], 'at:20,10,1'),
        'drag': ([('down', 40, 30), ('move', 20, 20), ('up', 10, 5), 13], '10,5,40,30'),
        'a second thought': ([('down', 40, 30), ('up', 40, 30), ('down', 5, 6), ('up', 5, 6), 13], 'at:5,6,1'),
        'hovering': ([('hover', 3, 3), ('down', 9, 9), ('up', 9, 9), ('hover', 60, 40), 13], 'at:9,9,1'),
        'escape': ([('down', 9, 9), ('up', 9, 9), 27], None), 'enter at once': ([13], None),
        'closed': (['closed'], None)}

@pytest.fixture
def hand(monkeypatch):
    "OpenCV's window without one: what a hand does to it."
    def use(deeds):
        deeds,state = list(deeds),{'open': 1}
        def wait(ms):
            deed = deeds.pop(0)
            if deed=='closed': state['open'] = 0
            if not isinstance(deed, tuple): return deed if isinstance(deed, int) else -1
            kind,x,y = deed
            event = {'down': cv2.EVENT_LBUTTONDOWN, 'up': cv2.EVENT_LBUTTONUP}.get(kind, cv2.EVENT_MOUSEMOVE)
            state['mouse'](event, x, y, cv2.EVENT_FLAG_LBUTTON if kind in ('down', 'move') else 0, None)
            return -1
        monkeypatch.setenv('DISPLAY', ':99')
        window = dict(namedWindow=lambda t: None, imshow=lambda t, img: None, waitKey=wait,
                      destroyAllWindows=lambda: None, getWindowProperty=lambda t, p: state['open'],
                      setMouseCallback=lambda t, f: state.update(mouse=f))
        for name,f in window.items(): monkeypatch.setattr(cv2, name, f)
    return use

@pytest.mark.parametrize('what', HAND)
def test_a_hand_at_the_window(hand, what):
    deeds,want = HAND[what]
    hand(deeds)
    if want: assert ask_person(film([0., .1, .2]))==want
    else:
        with pytest.raises(TTPError, match='Nobody was pointed at'): ask_person(film([0., .1, .2]))

def test_no_window(monkeypatch):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(choosing.sys, 'platform', 'linux')
    with pytest.raises(TTPError, match='no display: .*--box at:x,y,frame.*--sheet'): ask_person(film([0.]))
    def none(*args): raise cv2.error('built without windows')
    monkeypatch.setenv('DISPLAY', ':99')
    monkeypatch.setattr(cv2, 'namedWindow', none)
    with pytest.raises(TTPError, match='No window can be opened: .*--box'): ask_person(film([0.]))

def test_a_large_frame_is_shown_small_and_pointed_at_exactly():
    seen = {}
    def show(img, pointer):
        seen['size'] = img.shape
        pointer.press(320, 180); pointer.drag(640, 540)
    assert ask_person(film([0.], size=(3840,2160)), show)=='960,541,1921,1621' or seen
    assert seen['size']==(720,1280,3)
    corner = Pointer(0, (3840,2160), 1/3)
    corner.press(-5, 9999)
    assert corner.first==(0, 2159)

def test_a_part_of_a_real_file(tmp_path):
    from ttp_nb.video import write_mp4
    frames = np.stack([np.full((48,64,3), 9*i, np.uint8) for i in range(20)])
    video = open_frames(write_mp4(tmp_path/'a.mp4', frames, 10))
    part = Excerpt(.5, 1).of(video)
    assert list(part.index)==[5, 6, 7, 8, 9] and abs(int(part[2].mean())-63)<4
