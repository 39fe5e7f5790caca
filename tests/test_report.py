"The overlay and the page: odd shapes, hostile names, empty stories, faults; the same input gives the same bytes."
import json, os, re, subprocess, sys, weakref
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
import matplotlib
import numpy as np, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from ttp_nb import report
from ttp_nb.exports import Result
from ttp_nb.confidence import Confidence, write_on_card
from ttp_nb.report import (CHANCE, SURE, adapting_said, judge, joint_shift, measures, most_changed, nominal_fps,
                           side_by_side, verdict, verdict_colour, window, with_confidence, write_overlay, write_report)
from ttp_nb.skeletons import COCO17, PENN13, Skeleton
from ttp_nb.basics import TTPError
from ttp_nb.video import open_frames

REAL = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))/'pose2sim'/'pose2sim_cam01.mp4'
rng = np.random.default_rng


def made(T=12, size=(64,48), skel=PENN13, seed=0, **new):
    r,J,(W,H) = rng(seed),len(skel),size
    kp = r.uniform(0, 1, (T,J,2))*[W,H]
    f = dict(skeleton=skel, index=np.arange(T)+3, times=np.arange(T)/25, kp=kp, conf=r.random((T,J)),
             before_kp=kp+r.normal(0, 2, kp.shape), before_conf=r.random((T,J)),
             boxes=np.tile([W*.2, H*.2, W*.8, H*.8], (T,1)), size=size, about=dict(source='a.mp4'))
    return Result(**(f | new))


def frames_of(r, seed=1): return rng(seed).integers(0, 256, (len(r),r.size[1],r.size[0],3), dtype=np.uint8)


def check(step, **now):
    before = dict(loss=2., view_inconsistency=.1, limb_variation=.3)
    return dict(step=step, now=dict(loss=1.9, view_inconsistency=.09, limb_variation=.2)|now, before=before)


STORY = dict(probe='a.mp4: video', notes=['one person'], mode='offline',
             settings=dict(lr=1e-4, seed=7, pairs=dict(rot=30.)), model='small', checksum=123456,
             command='ttp personalize a.mp4', losses=[3.,2.,2.5], checks=[check(4), check(8, loss=2.4)],
             events=[[4,8,'limbs']], stopped='', why='', smoothing='', files={'keypoints.json':'joints'})


class Reader(HTMLParser):
    "Text, images and links of a page; fails on what is not closed or could run or fetch something."
    def __init__(self, page):
        super().__init__()
        self.open,self.images,self.links,self.text = [],[],[],''
        self.feed(page); self.close()
        assert not self.open
    def handle_starttag(self, tag, attrs):
        assert tag not in ('script','iframe','object','embed','link','base','form','video','evil'), tag
        assert not any(k.startswith('on') for k,_ in attrs)
        if tag not in ('meta','img'): self.open.append(tag)
        if tag=='img': self.images.append(dict(attrs)['src'])
        self.links += [v for k,v in attrs if k in ('href','srcset','action','data','poster','background')]
    def handle_endtag(self, tag): assert self.open.pop()==tag
    def handle_data(self, data): self.text += data


def page_of(tmp, r, story, frames=None, **kw):
    write_report(r, story, frames_of(r) if frames is None else frames, tmp/'r.html', **kw)
    got = Reader((tmp/'r.html').read_bytes().decode('utf-8'))
    assert all(s.startswith(('data:image/png;base64,','data:image/jpeg;base64,')) for s in got.images)
    assert all(s.startswith('./') for s in got.links)
    return got


# ---------------------------------------------------------------- overlay
@pytest.mark.parametrize('size', [(64,48), (49,33), (33,77), (1920,1080), (1081,1921), (16,16), (7,5), (900,9),
                                  (9,900)])
@pytest.mark.parametrize('boxed', [True, False])
def test_sizes(tmp_path, size, boxed):
    r = made(3, size)
    if not boxed: r = replace(r, boxes=np.full((3,4), np.nan))
    got = open_frames(write_overlay(r, frames_of(r), tmp_path/'o.mp4'))
    assert len(got)==3 and got.size[0]<=1280 and got.size[1]<=744 and got.size[0]%2==got.size[1]%2==0
    assert abs(got.fps-25)<1e-6 and got[2].shape==(got.size[1],got.size[0],3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.booleans(),
       st.lists(st.floats(-400, 700) | st.just(np.nan), min_size=4, max_size=4))
def test_any_box(W, H, before, box):
    r = made(1, (W,H), boxes=[box])
    if not before: r = replace(r, before_kp=None, before_conf=None)
    x0,y0,x1,y1 = window(r.boxes, r.size)
    assert 0<=x0<x1<=W and 0<=y0<y1<=H
    out = side_by_side(r, 0, frames_of(r)[0])
    assert out.dtype==np.uint8 and out.shape[0]<=744 and out.shape[1]<=1280 and out.shape[0]%2==out.shape[1]%2==0


def test_read_once_and_let_go(tmp_path):
    r,alive,asked = made(40),[],[]
    def once():
        for i in range(40):
            img = np.full((48,64,3), i, np.uint8)
            alive.append(weakref.ref(img)); asked.append(sum(a() is not None for a in alive))
            yield img
            del img
    assert len(open_frames(write_overlay(r, once(), tmp_path/'o.mp4')))==40 and max(asked)<=3


@pytest.mark.parametrize('n', [0, 11, 13])
def test_wrong_count_leaves_what_was_there(tmp_path, n):
    r = made()
    (tmp_path/'o.mp4').write_bytes(b'old')
    with pytest.raises(TTPError, match=r'frames .*\b12\b'): write_overlay(r, [frames_of(r)[0]]*n, tmp_path/'o.mp4')
    assert [p.name for p in tmp_path.iterdir()]==['o.mp4'] and (tmp_path/'o.mp4').read_bytes()==b'old'


@pytest.mark.parametrize('img', [np.zeros((47,64,3), np.uint8), np.zeros((48,64,3)), np.zeros((48,64), np.uint8)])
def test_other_frames_are_refused(tmp_path, img):
    with pytest.raises(TTPError, match='Frame 3 is .* 64x48'): write_overlay(made(), [img]*12, tmp_path/'o.mp4')


def test_rates():
    assert nominal_fps(np.array([0,.04,.08,.5,.54]))==pytest.approx(25)
    for none in ([1.], [np.nan,np.nan], [2,1], [1,1]): assert nominal_fps(none)==25
    assert nominal_fps([0,1e-9])==1000 and nominal_fps([0,1e9])==.1


def test_rate_of_the_file(tmp_path):
    r = made(times=np.cumsum([0]+[1/30]*6+[.4]+[1/30]*4))
    assert open_frames(write_overlay(r, frames_of(r), tmp_path/'a.mp4')).fps==pytest.approx(30, rel=1e-3)
    assert open_frames(write_overlay(r, frames_of(r), tmp_path/'b.mp4', fps=12.5)).fps==pytest.approx(12.5, rel=1e-3)


def drawn(conf, kp=(32,24)):
    r = made(1, kp=np.full((1,13,2), np.nan), conf=np.full((1,13), conf), before_kp=None, before_conf=None,
             boxes=np.full((1,4), np.nan))
    r.kp[0,1] = kp
    return side_by_side(r, 0, np.zeros((48,64,3), np.uint8))[24:].astype(int)


def test_doubt_is_faint_and_unknown_is_not_drawn():
    sure,doubt = drawn(SURE),drawn(SURE-.01)
    assert sure.max()>200 and 50<doubt.max()<.5*sure.max() and np.array_equal(drawn(np.nan), doubt)
    assert drawn(.9, np.nan).max()==0
    assert drawn(.9, (1e12,-1e12)).max()==0


def test_labels():
    r,img = made(1),np.zeros((48,64,3), np.uint8)
    same = side_by_side(replace(r, kp=r.before_kp, conf=r.before_conf), 0, img)
    assert same.shape==side_by_side(r, 0, img).shape and not np.array_equal(same[:24], side_by_side(r, 0, img)[:24])
    assert side_by_side(replace(r, before_kp=None, before_conf=None), 0, img).shape[1]<same.shape[1]


# ---------------------------------------------------------------- numbers
def test_shift_and_choice():
    r = made(100)
    still = replace(r, kp=r.before_kp)
    assert joint_shift(still).max()==0 and most_changed(still, 4)==[12,37,62,87]
    jump = still.kp.copy(); jump[[50,51,52,10]] += [[[30]],[[29]],[[28]],[[5]]]
    assert most_changed(replace(r, kp=jump), 2)==[10,50]               # no neighbours
    assert np.isnan(joint_shift(replace(r, before_kp=None, before_conf=None))).all()
    assert most_changed(made(1))==[0] and most_changed(replace(made(3), boxes=np.full((3,4), np.nan)))==[0,1,2]


def test_measures_of_raw_joints():
    r = made()
    smooth = replace(r, kp=r.kp*0+r.kp.mean(0))
    assert measures(smooth)['jitter'][1]==0 and measures(smooth, r.kp)==measures(r)
    got = measures(replace(r, skeleton=Skeleton('dots', PENN13.joints), times=np.zeros(12)))
    assert np.isnan(got['limb_variation']).all() and got['jitter']==pytest.approx(measures(r)['jitter'])


def test_what_became_of_the_adaptation():
    assert adapting_said(dict(why='a. b.'))==('Returned unadapted, because a. b. The joints are those of the network '
                                              'as it was given.')
    assert adapting_said(STORY).startswith('Adapted: 3 steps, offline, rolled back 1 time')
    for s in ({}, dict(losses=None, checks=None), dict(losses=[1.]), dict(losses=[1.], stopped='x'), STORY):
        assert adapting_said(s).count('.')>=1 and '..' not in adapting_said(s)


# ---------------------------------------------------------------- verdict
@pytest.mark.parametrize('chance,frames,doubts,colour', [
    (.9,30,(),'green'), (.9,30,['loose'],'amber'), (.9,1,(),'green'), (.8,1,(),'amber'), (.7,30,(),'amber'),
    (.5,30,(),'red'), (.5,30,['loose'],'red'), (.5,1,(),'red'), (.6,2,(),'amber'),
    (float('nan'),30,(),'amber'), (0.,3,(),'red')])
def test_verdict_says_colour_why_and_what_to_do(chance, frames, doubts, colour):
    v = verdict(chance, frames, .3, .7, doubts, 'drawn people')
    assert v.colour==colour==verdict_colour(chance, frames, doubts)
    assert dict(green='look reliable', red='look unreliable', amber='could not be judged')[colour] in v.sentence
    assert 'drawn people' in ' '.join(v.why) and all(d in ' '.join(v.why) for d in doubts) and v.todo
    assert ('tighter box' in ' '.join(v.todo))==(bool(doubts) and colour!='green')
    assert ('more frames' in ' '.join(v.todo))==(frames<3 and colour!='green')
    if colour!='green': assert 'Try another network' in v.todo[-1]


def test_nobody_is_looked_for_whom_the_ready_estimator_does_not_know():
    assert 'leave out --box' in str(verdict(.6, 9, doubts=['loose']))
    said = str(verdict(.6, 9, doubts=['loose'], findable=False))
    assert 'tighter box' in said and 'leave out --box' not in said


def test_likeness_to_the_people_it_was_fitted_on():
    assert 'is like' in str(verdict(.8, 9, usual=.7)) and 'is unlike' in str(verdict(.69, 9, usual=.7))
    for v in (verdict(.8, 9), verdict(float('nan'), 9, usual=.7)):
        assert 'is like' not in str(v) and 'unlike' not in str(v)
    assert 'Nothing is known' in str(verdict(.8, 9))


def chances(r, conf, **about): return replace(r, conf=r.conf*0+conf, about=r.about|dict(confidence={"is":CHANCE})|about)


def test_judging_a_result():
    r = made()
    assert judge(r).colour=='amber' and 'never compared' in str(judge(r))              # raw heights, however high
    assert judge(replace(r, conf=r.conf*0+1)).colour=='amber'
    assert [judge(chances(r, c)).colour for c in (.9,.7,.3)]==['green','amber','red']
    assert judge(chances(r, np.nan)).colour=='amber'
    for note in ('the box is 2.6 times as long as the person seen in it: x', 'seen in less than half of them: look',
                 'more than half of the box lies outside of the frame in 3 of 4 frames (1 to 3)'):
        assert judge(chances(r, .9, notes=['one person', note])).colour=='amber'
    assert judge(chances(r, .9, notes=['one person, in 3 of 3 frames'])).colour=='green'
    for broken in (None, 3, [], 'chance', {}): assert judge(replace(r, about=dict(confidence=broken))).colour=='amber'


def test_notes_about_boxes_are_understood():
    from ttp_nb.person import box_doubts
    frames = frames_of(made(9, (240,120)))
    def seer(img): return np.array([[12,25,58,105,.9]])
    for box in ([-30.,0,230,290], [-70,20,60,110]):
        notes = box_doubts(frames, np.tile(box, (9,1)), seer)
        assert notes and judge(chances(made(9), .9, notes=list(notes))).colour=='amber', notes


@pytest.mark.parametrize('chance,colour', [(.9,'green'), (.7,'amber'), (.2,'red')])
def test_the_page_opens_with_the_verdict(tmp_path, chance, colour):
    r = chances(made(), chance, trained_on='<evil>')
    got = page_of(tmp_path, r, STORY)
    raw = (tmp_path/'r.html').read_text('utf-8')
    assert raw.index(f'<div class="verdict {colour}">')<raw.index('Adapted: 3 steps')<raw.index('<section>')
    assert judge(r).sentence in got.text and '<evil>' in got.text


# ---------------------------------------------------------------- chances
def FITTED(**more): return Confidence((1.5,.5,-.3,-.3), (-.5,-1.3,-2.6,-2.6), 1.2, **more)


def card(tmp_path, **fitted):
    from ttp_nb.checkpoints import save_model
    from ttp_nb.joint_model import baseline
    save_model(baseline(), tmp_path/'net.safetensors', data='jhmdb,mine')
    if fitted: write_on_card(tmp_path/'net.safetensors', FITTED(**fitted))
    return tmp_path/'net.safetensors'


def test_chances_come_from_the_card_and_never_grow(tmp_path):
    r = made(conf=np.full((12,13), .9), before_conf=np.full((12,13), .4))
    got = with_confidence(r, card(tmp_path, usual=.7))
    assert got.about['confidence']=={'is':CHANCE,'usual':.7} and got.about['trained_on']=='videos of JHMDB, mine'
    assert (got.conf<=got.before_conf).all() and not np.array_equal(got.before_conf, r.before_conf)
    assert np.array_equal(got.kp, r.kp)
    lower = with_confidence(replace(r, conf=r.conf*.1), card(tmp_path, usual=.7))
    assert (lower.conf<lower.before_conf).any()                                     # it may fall
    alone = with_confidence(replace(r, before_kp=None, before_conf=None), card(tmp_path, usual=.7))
    assert alone.before_conf is None and (alone.conf>=got.conf).all()


def test_without_chances_heights_are_called_heights(tmp_path):
    r = made()
    for fitted,views in (({}, 1), (dict(views=1), 10), (None, 1)):
        got = with_confidence(r, 'no.pth' if fitted is None else card(tmp_path, **fitted), views)
        assert np.array_equal(got.conf, r.conf) and 'not compared' in got.about['confidence']['is']
    assert 'raw heights' in page_of(tmp_path, got, STORY).text
    no_torso = replace(r, skeleton=Skeleton('dots', PENN13.joints))
    assert np.array_equal(with_confidence(no_torso, card(tmp_path, views=1)).conf, r.conf)
    with pytest.raises(TTPError, match='confidence on its card'):
        broken = card(tmp_path)
        content = json.loads(broken.with_suffix('.json').read_text())
        broken.with_suffix('.json').write_text(json.dumps(content|dict(confidence=[dict(knots=[1])])))
        with_confidence(r, broken)


def test_drawn_faintly_means_more_likely_wrong_than_right():
    r = made(1, kp=np.full((1,13,2), np.nan), conf=np.full((1,13), .4), before_kp=None, before_conf=None,
             boxes=np.full((1,4), np.nan))
    r.kp[0,1] = 32,24
    img = np.zeros((48,64,3), np.uint8)
    plain,faint = (side_by_side(one, 0, img)[24:].max() for one in (r, chances(r, .4)))
    assert plain>200>faint


# ---------------------------------------------------------------- page
def test_whole_page(tmp_path):
    got = page_of(tmp_path, made(), STORY)
    assert len(got.images)==6+2+13 and got.links==['./keypoints.json']
    for words in ('Joints in a.mp4', adapting_said(STORY), 'steps 4 to 8: limbs', 'pairs.rot = 30.0', '123456', 'seed7',
                  'no proof of better joints', 'ttp personalize a.mp4'):
        assert words in got.text
    raw = (tmp_path/'r.html').read_text('utf-8')
    assert not re.search(r'https?://|@import|url\(|javascript:', raw)


@pytest.mark.parametrize('missing', [*STORY, 'all'])
def test_missing_entries(tmp_path, missing):
    page_of(tmp_path, made(4), {} if missing=='all' else {k:v for k,v in STORY.items() if k!=missing})


def test_empty_entries(tmp_path):
    assert len(page_of(tmp_path, made(4), {k:type(v)() for k,v in STORY.items()}).images)==4+13
    page_of(tmp_path, made(4), dict.fromkeys(STORY))


def test_same_bytes(tmp_path):
    r = made()
    page_of(tmp_path, r, STORY); one = (tmp_path/'r.html').read_bytes()
    with matplotlib.rc_context({'font.size':33, 'axes.facecolor':'red', 'savefig.dpi':7}):
        page_of(tmp_path, made(), json.loads(json.dumps(STORY)))
    assert (tmp_path/'r.html').read_bytes()==one


def test_same_bytes_in_another_process_without_pyplot(tmp_path):
    code = ('import sys; sys.path.insert(0, sys.argv[1]); import test_report as t; from pathlib import Path\n'
            "t.page_of(Path(sys.argv[2]), t.made(), t.STORY); assert 'matplotlib.pyplot' not in sys.modules")
    out = []
    for seed in '12':
        env = os.environ|dict(PYTHONHASHSEED=seed, PYTHONPATH=str(Path(__file__).parents[1]))
        subprocess.run([sys.executable, '-c', code, str(Path(__file__).parent), str(tmp_path)], env=env, check=True)
        out.append((tmp_path/'r.html').read_bytes())
    page_of(tmp_path, made(), STORY)
    assert out[0]==out[1]==(tmp_path/'r.html').read_bytes()


def test_callers_matplotlib_is_left_alone(tmp_path):
    with matplotlib.rc_context({'font.size':33, 'lines.linewidth':5}):
        before = dict(matplotlib.rcParams)
        page_of(tmp_path, made(), STORY)
        assert dict(matplotlib.rcParams)==before


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(min_size=1, max_size=20) | st.sampled_from(
    ['<evil>', '"><evil onload=x>', "' onx='", '&lt;', '$\\frac{$', '</title><evil>', '</style><evil>', 'javascript:x',
     '../..//x', 'a?b#c', '\udcff.mp4', 'https://x.y']))
def test_hostile_names(tmp_path, name):
    about,skel = dict(source=name),replace(PENN13, name=name, joints=(name+'_',*PENN13.joints[1:]))
    story = {k:name for k in ('probe','mode','model','command','stopped','why','smoothing')} | dict(
        notes=[name], settings={name:{name:name}}, files={name:name}, losses=[1.], checks=[check(3)],
        events=[[0,3,name]])
    got = page_of(tmp_path, made(2, about=about, skel=skel), story)
    assert len(got.images)==2+2+13 and len(got.links)==1
    if name.isascii() and name.isprintable(): assert got.text.count(name)>=10


@pytest.mark.parametrize('change', [
    dict(kp=np.full((12,13,2), np.nan)), dict(conf=np.full((12,13), np.nan)), dict(boxes=np.full((12,4), np.nan)),
    dict(before_kp=None, before_conf=None), dict(times=np.zeros(12)), dict(times=np.full(12, np.nan)), dict(about={}),
    dict(kp=np.full((12,13,2), np.nan), before_kp=np.full((12,13,2), np.nan), boxes=np.full((12,4), np.nan)),
    dict(kp=np.full((12,13,2), 1e9)), dict(boxes=np.tile([900.,900,950,950], (12,1)))])
def test_odd_results(tmp_path, change, recwarn):
    got = page_of(tmp_path, made(**change), STORY)
    assert len(got.images)==6+2+13 and 'nan' not in got.text.split()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)], [str(w.message) for w in recwarn]


@pytest.mark.parametrize('r', [made(1), made(2), made(5, skel=COCO17), made(4, skel=Skeleton('one', ('x',))),
                               made(4, skel=Skeleton('dots', tuple(f'p{i}' for i in range(60)))), made(3, (31,77))])
def test_short_clips_and_other_skeletons(tmp_path, r): page_of(tmp_path, r, STORY)


@pytest.mark.parametrize('story', [
    dict(losses=[None,float('nan'),float('inf')]), dict(losses=[1.]), dict(losses=[2.]*5000),
    dict(checks=[check(3, loss=None, limb_variation=float('nan'))]), dict(checks=[dict(step=3)], losses=[1.]),
    dict(checks=[dict(step=3, now=dict(loss=1.), before=dict(loss=0.))]), dict(events=[[0,3,'x']]*3, stopped='enough'),
    dict(settings=dict(a=None, b=[1,2], c={}, d=True))])
@pytest.mark.parametrize('mode', ['online', 'offline'])
def test_odd_stories(tmp_path, story, mode): page_of(tmp_path, made(4), STORY|story|dict(mode=mode))


def test_unadapted(tmp_path):
    r = made()
    got = page_of(tmp_path, replace(r, kp=r.before_kp, conf=r.before_conf), STORY|dict(why='the views got worse'))
    assert 'Returned unadapted, because the views got worse.' in got.text and 'the joints are the same' in got.text


def test_smoothing_is_said(tmp_path):
    r,story = made(),STORY|dict(smoothing='One-Euro')
    for raw,said in ((None, 'are left out'), (r.kp, 'about the joints before that')):
        got = page_of(tmp_path, r, story, raw=raw)
        assert 'smoothed: One-Euro' in got.text and said in got.text
    assert ('smoothed' in got.text.split('Mean confidence')[0].split('Jitter')[1]) is False


def test_few_frames_are_read_in_order(tmp_path):
    r,asked = made(50),[]
    class Slow:
        def __len__(self): return 50
        def __getitem__(self, i): asked.append(i); return frames_of(r)[i]
    page_of(tmp_path, r, STORY, Slow())
    assert len(asked)<=6 and asked==sorted(asked)


def test_faults_leave_the_old_page(tmp_path):
    r = made()
    (tmp_path/'r.html').write_bytes(b'old')
    class Broken:
        def __len__(self): return 12
        def __getitem__(self, i): raise TTPError('frame lost')
    with pytest.raises(TTPError, match='frame lost'): write_report(r, STORY, Broken(), tmp_path/'r.html')
    with pytest.raises(TTPError, match='3 frames for a result of 12'):
        write_report(r, STORY, frames_of(r)[:3], tmp_path/'r.html')
    assert [p.name for p in tmp_path.iterdir()]==['r.html'] and (tmp_path/'r.html').read_bytes()==b'old'
    (tmp_path/'file').write_text('')
    with pytest.raises(TTPError, match='cannot be written'):
        write_report(r, STORY, frames_of(r), tmp_path/'file'/'r.html')


def test_size_of_a_page(tmp_path):
    r = made(100, (1280,720), boxes=np.tile([0.,0,1279,719], (100,1)))
    noise = rng(0).integers(0, 256, (720,1280,3), dtype=np.uint8)       # the worst that jpeg can meet
    story = STORY|dict(losses=rng(0).random(100).tolist(), checks=[check(i) for i in range(12,100,12)])
    write_report(r, story, [noise]*100, tmp_path/'r.html')
    assert (tmp_path/'r.html').stat().st_size<1e6


@pytest.mark.skipif(not REAL.is_file(), reason='needs shared/real/pose2sim')
def test_portrait_video(tmp_path):
    frames = open_frames(REAL)[:6]
    r = made(6, frames.size, times=frames.times, index=np.arange(6), about=dict(source=str(REAL)))
    got = open_frames(write_overlay(r, frames, tmp_path/'o.mp4'))
    assert len(got)==6 and got.fps==pytest.approx(frames.fps, rel=1e-2) and got.size[1]<=744
    assert f'Joints in {REAL.name}' in page_of(tmp_path, r, STORY, frames).text


def test_public_names():
    assert set(report.__all__)>={'write_overlay','write_report','side_by_side','verdict','judge','measures',
                                'most_changed'}


# --- frames have the source's numbers and names

def test_frames_are_called_by_number_and_name(tmp_path):
    r = made(6, index=[0,1,5,6,7,9], names=[f'img{i}.png' for i in (0,1,5,6,7,9)])
    for mode,says in (('online', 'Rolled back, frames 5 to 7: limbs.'),
                      ('offline', 'Rolled back, steps 2 to 5: limbs.')):
        write_report(r, STORY|dict(mode=mode, events=[[2,5,'limbs']]), frames_of(r), tmp_path/'r.html')
        text = Reader((tmp_path/'r.html').read_text('utf-8')).text
        assert says in text and 'Frame 9 (img9.png)' in text

def test_writers_that_are_tried_leave_nothing(tmp_path):
    (tmp_path/'mine.txt').write_text('x')
    report.try_writers(tmp_path, ['coco', 'dlc', 'npz', 'openpose'])
    assert [p.name for p in tmp_path.iterdir()]==['mine.txt']

def test_every_joint_is_drawn_and_small_people_are_enlarged(tmp_path):
    assert len(page_of(tmp_path, made(4, skel=Skeleton('dots', tuple(f'p{i}' for i in range(60)))), {}).images)==4+60
    r = made(2, (400,300), boxes=np.tile([100.,100,111,121], (2,1)))
    shown = side_by_side(r, 0, frames_of(r)[0])
    assert shown.shape[0]-24>=158                                                   # a person of 22 pixels


def test_gaps_and_doubts_are_counted(tmp_path):
    r = chances(made(10), .9)
    r.kp[:3,2] = np.nan; r.conf[:3,2] = np.nan; r.conf[5,2] = .2
    text = page_of(tmp_path, r, {}).text
    name = r.skeleton.joints[2].replace('_',' ')
    row = text[text.index(f'3 {name}'):text.index('4 '+r.skeleton.joints[3].replace('_', ' '))]
    assert 'doubtful 40\xa0%' in row and 'unknown 30\xa0%' in row and 'filled' not in row, row


# --- what changed is ringed, and everybody is large enough to be looked at

def test_rings_mark_what_moved():
    r,img = made(1, (400,300), boxes=[[100.,50,299,249]]),np.zeros((300,400,3), np.uint8)
    r.kp[:] = r.before_kp[:] = np.array([150.,150]); r.kp[0,4] = 220,200
    plain,ringed = (side_by_side(r, 0, img, ringed=on) for on in (None, joint_shift(r)[0]>report.MOVED))
    half = plain.shape[1]//2
    for side,at in ((slice(0, half), r.before_kp[0,4]), (slice(half, None), r.kp[0,4])):
        where = np.argwhere((plain!=ringed)[24:,side].any(-1))
        x0,y0,x1,y1 = window(r.boxes, r.size)
        middle = (where.min(0)+where.max(0))[::-1]/2/((half-2)/(x1-x0))+[x0,y0]
        assert np.abs(middle-at).max()<5, (middle, at)                               # at the joint, on both sides
    assert not (plain!=side_by_side(r, 0, img, ringed=np.zeros(13, bool))).any()
    r.kp[0,4] = np.nan,np.nan
    side_by_side(r, 0, img, ringed=np.ones(13, bool)); r.kp[0,4] = 1e12,-1e12
    side_by_side(r, 0, img, ringed=np.ones(13, bool))


PHONE = 375-2*10                                                                      # css pixels inside the margins

@pytest.mark.parametrize('box', [(900.,200,999,599), (900.,200,1199,499), (300.,300,899,399), (900.,300,950,420)])
def test_people_are_160_pixels_even_on_a_phone(tmp_path, box):
    import base64, io
    from PIL import Image
    r = made(12, (1920,1080), boxes=np.tile(box, (12,1)))
    pictures = [s for s in page_of(tmp_path, r, STORY).images if s.startswith('data:image/jpeg')]
    assert len(pictures)==6
    x0,y0,x1,y1 = window(r.boxes[0], r.size, .04)
    for picture in pictures:
        w,h = Image.open(io.BytesIO(base64.b64decode(picture.split(',')[1]))).size
        person = max(box[2]-box[0]+1, box[3]-box[1]+1)*(w-4)/2/(x1-x0)                # in the picture's pixels
        assert person>=160 and person*PHONE/w>=160, (w, h, person, person*PHONE/w)


def mended(r):
    flags = np.zeros(r.conf.shape, int); flags[2:4,5], flags[6,5], flags[8,7] = 2,1,3
    kp,conf = r.kp.copy(),r.conf.copy(); kp[8,7] = np.nan; conf[2:4,5] = conf[8,7] = 0
    return replace(r, kp=kp, conf=conf, raw_kp=r.kp, raw_conf=r.conf, flags=flags)

def test_what_was_mended_is_marked(tmp_path):
    r = chances(made(), .9)
    text = page_of(tmp_path, mended(r), STORY).text
    of = lambda j: text[text.index(f"{j+1} {r.skeleton.joints[j].replace('_',' ')}"):][:120]
    assert 'filled 16.7\xa0%, exchanged 8.33\xa0%' in of(5) and 'unknown 8.33\xa0%' in of(7) and 'orange where' in text
    assert report._joint_figure(mended(r), 5)!=report._joint_figure(replace(mended(r), flags=None), 5)
    assert report._joint_figure(mended(r), 4)==report._joint_figure(replace(mended(r), flags=None), 4)

@pytest.mark.parametrize('skel,n', [(COCO17, 12), (PENN13, 12), (Skeleton('dots', ('a','b')), 0)])
def test_angles_where_they_were_asked_for(tmp_path, skel, n):
    r = made(6, skel=skel)
    without = page_of(tmp_path, r, STORY)
    got = page_of(tmp_path, replace(r, about=r.about|dict(exports=['coco','angles'])), STORY)
    assert len(got.images)-len(without.images)==n and ('Angles' in got.text)==(n>0) and 'Angles' not in without.text
    if n: assert '0 in line, no sign' in got.text and '°' in got.text
    nothing = replace(r, kp=r.kp*np.nan, about=r.about|dict(exports=['angles']))
    assert 'nan' not in page_of(tmp_path, nothing, STORY).text.split()

def test_an_arm_that_passes_straight_up_does_not_jump():
    y = np.array([160., 175, -175, np.nan, -160, 178])
    want = [160, 175, 185, np.nan, 200, 178]
    assert np.array_equal(report._going_on(y), want, equal_nan=True) and y[2]==-175
    assert np.isnan(report._going_on(y*np.nan)).all()
    assert report._going_on(np.array([10., 170, 10])).tolist()==[10,170,10]

@pytest.mark.parametrize('about,said', [(dict(mode='none'), True), (dict(guard=dict(why='it got worse')), True),
                                        (dict(mode='offline', guard=dict(why='')), False)])
def test_what_moved_where_nothing_was_adapted(tmp_path, about, said):
    "Filling and filtering move joints as well: that is not what was learned."
    r = made(8)
    r = replace(r, kp=r.before_kp+[1e-3,0], about=r.about|about)
    text = page_of(tmp_path, r, STORY).text
    assert ('Nothing was adapted: what moved was filled' in text)==said and 'less than 0.1\xa0%' in text

def test_how_to_do_it_again(tmp_path):
    text = page_of(tmp_path, made(2, about=dict(source='a.mp4', content='ab'*32)), STORY).text
    version = f'ttp_nb{report.ttp_nb.__version__}'
    for words in ('ttp personalize a.mp4', 'sha256 '+'ab'*32, 'checksum 123456', 'seed7', version):
        assert words in text, words

def test_one_of_a_kind_is_said_in_the_singular():
    assert adapting_said(dict(losses=[1.], checks=[{}])).startswith('Adapted: 1 step; at 1 check the guard')
    assert 'There is only 1 frame.' in str(verdict(.5, 1)) and 'There are only 2 frames.' in str(verdict(.5, 2))

def test_nothing_is_wider_than_the_page(tmp_path):
    "What a phone would have to scroll sideways for: tables of more than four columns."
    write_report(chances(made(), .9), STORY, frames_of(made()), tmp_path/'r.html')
    for table in re.findall('<table.*?</table>', (tmp_path/'r.html').read_text('utf-8'), re.S):
        assert max(row.count('<td')+row.count('<th') for row in table.split('<tr>'))<=4
