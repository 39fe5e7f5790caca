"Edge cases of motion: gaps, odd clocks, short clips, hostile numbers."
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from ttp_nb.basics import TTPError
from ttp_nb.skeletons import BBC7, COCO17, H36M16, PENN13, Skeleton
from ttp_nb.motion import (FILTERS, OneEuro, butterworth, filtered, frame_rate, jitter, limb_lengths, limb_variation,
                           one_euro, pose_size, read_filter, savgol, savgol_window)

rng = np.random.default_rng
T,J = 40,13
KP = np.cumsum(rng(0).normal(size=(T,J,2)), 0)*3 + rng(1).uniform(0, 200, (1,J,2))
CLOCK = np.arange(T)/25
ALL = [lambda kp: one_euro(kp, np.arange(len(kp))/25), savgol, lambda kp: butterworth(kp, np.arange(len(kp))/25)]


def holes(seed, share=.3):
    kp = KP.copy(); kp[rng(seed).random((T,J))<share] = np.nan
    return kp


@pytest.mark.parametrize('f', ALL)
@pytest.mark.parametrize('seed', range(3))
def test_what_is_unknown_stays_unknown_and_the_rest_is_finite(f, seed):
    kp = holes(seed); kept = kp.copy()
    out = f(kp)
    assert (np.isnan(out)==np.isnan(kp)).all() and np.array_equal(kp, kept, equal_nan=True)


@pytest.mark.parametrize('f', ALL)
def test_half_a_joint_is_no_joint(f):
    kp = KP.copy(); kp[3,2,0] = np.nan; kp[4,2,1] = np.inf
    out = f(kp)
    assert np.isnan(out[[3,4],2]).all() and np.isfinite(np.delete(out, 2, 1)).all()
    assert np.isnan(limb_lengths(kp)[3]).sum() == sum(2 in limb for limb in PENN13.limbs)


@pytest.mark.parametrize('f', ALL)
def test_nothing_known(f):
    none = np.full((9,J,2), np.nan)
    assert np.isnan(f(none)).all() and f(none).shape == none.shape
    assert np.isnan(jitter(none)[0]) and np.isnan(limb_variation(none)[0]) and np.isnan(pose_size(none)).all()


@pytest.mark.parametrize('f', ALL)
@pytest.mark.parametrize('n', [1, 2, 3, 4, 9, 10])
def test_short_clips(f, n):
    out = f(KP[:n])
    assert out.shape == (n,J,2) and np.isfinite(out).all()
    assert np.isnan(jitter(KP[:n])[0]) == (n<3)


@pytest.mark.parametrize('f', ALL)
def test_smoothing_commutes_with_moving_turning_and_zooming(f):
    r = np.deg2rad(35); R = np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]])
    kp = holes(4, .1)
    assert np.allclose(savgol(kp@R.T+[5,-900]), savgol(kp)@R.T+[5,-900], atol=1e-8, equal_nan=True)
    a,b = (one_euro(k, CLOCK, size=100*s) for k,s in ((kp@R.T*7+[5,-900], 7), (kp, 1)))
    assert np.allclose(a, b@R.T*7+[5,-900], atol=1e-7, equal_nan=True)


@pytest.mark.parametrize('f', ALL)
def test_a_still_person_passes_unchanged(f):
    kp = np.repeat(KP[:1], 20, 0)
    assert np.allclose(f(kp), kp, atol=1e-9)


def test_jitter_knows_uneven_clocks_and_sizes():
    t = np.sort(rng(2).uniform(0, 2, 60))
    line = np.stack([30*t, -7*t], -1)[:,None]
    assert jitter(line, t)[0] == pytest.approx(0, abs=1e-9) and jitter(line)[0] > .1
    bent = np.stack([np.arange(9.)**2, np.zeros(9)], -1)[:,None]
    assert jitter(bent)[0] == pytest.approx(2) and jitter(bent, np.arange(9)/50)[0] == pytest.approx(2)
    assert jitter(bent, size=4)[0] == pytest.approx(.5) and jitter(bent, size=np.full(9, 4))[0] == pytest.approx(.5)
    s = np.full(9, 4.); s[4] = np.nan; s[5] = 0; s[6] = -1
    assert jitter(bent, size=s)[0] == pytest.approx(.5)
    assert np.isnan(jitter(bent, size=0)[0])


@pytest.mark.parametrize('skel', [PENN13, COCO17, H36M16, BBC7], ids=lambda s: s.name)
def test_limbs_of_every_skeleton(skel):
    kp = rng(3).uniform(0, 100, (12,len(skel),2))
    lengths = limb_lengths(kp, skel)
    for k, (a, b) in enumerate(skel.limbs): assert np.allclose(lengths[:,k], np.hypot(*(kp[:,a]-kp[:,b]).T))
    mean,each = limb_variation(kp*np.linspace(1, 9, 12)[:,None,None], skel, np.linspace(1, 9, 12))
    assert np.allclose(each, limb_variation(kp, skel)[1]) and mean == pytest.approx(each.mean())


def test_a_limb_without_length_has_no_variation():
    two = Skeleton('two', ['a', 'b', 'c'], limbs=[[0,1], [1,2]])
    kp = np.zeros((5,3,2)); kp[:,2,0] = 4
    mean,each = limb_variation(kp, two)
    assert np.isnan(each[0]) and each[1] == 0 and mean == 0


@pytest.mark.parametrize('call,says', [
    (lambda: jitter(KP[0]), r'\(T,J,2\)'), (lambda: savgol(KP[...,:1]), r'\(T,J,2\)'),
    (lambda: jitter(KP, CLOCK[:-1]), 'one for each frame'), (lambda: jitter(KP, CLOCK*np.nan), 'must increase'),
    (lambda: jitter(KP, size=np.ones(3)), 'one for each frame'),
    (lambda: limb_lengths(KP, COCO17), 'coco17'), (lambda: limb_lengths(KP, Skeleton('s', range_names(J))), 'no limbs'),
    (lambda: one_euro(KP, CLOCK, conf=np.ones((T,3))), 'conf'), (lambda: one_euro(KP, CLOCK, np.ones(T)), 'conf'),
    (lambda: one_euro(KP[:,:1], CLOCK), 'give a size'), (lambda: one_euro(KP, CLOCK, beta=-1), 'beta'),
    (lambda: OneEuro(9)(KP, 0.), 'same joints'), (lambda: OneEuro(0.), 'size'), (lambda: OneEuro(float('nan')), 'size'),
    (lambda: savgol(KP, 4), 'odd'), (lambda: savgol(KP, 3, 3), 'order'), (lambda: savgol(KP, -1), 'odd'),
])
def test_bad_input_is_refused(call, says):
    with pytest.raises(TTPError, match=says): call()


def range_names(n): return [f'j{i}' for i in range(n)]


def naive(kp, times, size, fmin=1., beta=10., fd=3.):
    "The paper's algorithm for one joint without gaps, with one speed for both coordinates."
    def a(f, dt): return 1/(1+1/(2*np.pi*f*dt))
    out,x,v = [kp[0]],kp[0],np.zeros(2)
    for p,dt in zip(kp[1:], np.diff(times)):
        v = a(fd, dt)*(p-x)/dt + (1-a(fd, dt))*v
        f = fmin+beta*np.hypot(*v)/size
        x = a(f, dt)*p + (1-a(f, dt))*x
        out.append(x)
    return np.stack(out)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.floats(.2, 5), st.floats(0, 30), st.floats(.5, 9))
def test_one_euro_is_the_published_algorithm(seed, fmin, beta, fd):
    t = np.cumsum(rng(seed).uniform(.01, .1, T))
    out = one_euro(KP, t, None, 120, fmin, beta, fd)
    for j in (0, 7): assert np.allclose(out[:,j], naive(KP[:,j], t, 120, fmin, beta, fd), atol=1e-8)


def test_a_stream_may_stop_anywhere_and_joints_are_strangers():
    kp,conf = holes(5),rng(6).random((T,J)); conf[3] = np.nan
    whole,f = one_euro(kp, CLOCK, conf, size=150),OneEuro(150)
    for i in range(T): assert np.array_equal(f(kp[i], CLOCK[i], conf[i]), whole[i], equal_nan=True)
    for j in (0, 5):
        alone = one_euro(kp[:,[j]], CLOCK, conf[:,[j]], 150)[:,0]
        assert np.array_equal(alone, whole[:,j], equal_nan=True)


def test_a_refused_frame_leaves_the_filter_as_it_was():
    f,g = OneEuro(150),OneEuro(150)
    for o in (f,g): o(KP[0], 0.)
    for t in (0., -1., float('nan')):
        with pytest.raises(TTPError, match='increase'): f(KP[1], t)
    assert np.array_equal(f(KP[1], .04), g(KP[1], .04))


def test_size_may_change_while_the_person_comes_closer():
    grow = np.linspace(1, 3, T)
    a = one_euro(KP, CLOCK, size=grow*100)
    assert not np.allclose(a, one_euro(KP, CLOCK, size=100.))
    lost = grow*100; lost[5] = np.nan
    assert np.isfinite(one_euro(KP, CLOCK, size=lost)).all()


def test_no_confidence_holds_the_estimate():
    conf = np.ones((T,J)); conf[20:] = 0
    out = one_euro(KP, CLOCK, conf)
    assert np.allclose(out[20:], out[19]) and not np.allclose(out[19], out[18])


def test_a_window_sees_only_its_own_stretch():
    kp = KP.copy(); kp[:10,0] = np.nan; kp[30:,0] = np.nan
    assert np.allclose(savgol(kp)[10:30,0], savgol(KP[10:30])[:,0])
    assert np.allclose(savgol(kp)[:,1:], savgol(KP)[:,1:])
    few = np.full((T,1,2), np.nan); few[[3,30],0] = [[1,2],[5,6]]         # two sightings: a line between them
    assert np.allclose(savgol(few)[[3,30],0], [[1,2],[5,6]])


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 999), st.sampled_from([1e-300, 1, 1e12, 1e150]))
def test_any_numbers_give_numbers(n, j, seed, scale):
    kp = rng(seed).normal(size=(n,j,2))*scale
    kp[rng(seed+1).random((n,j))<.3] = np.nan
    with np.errstate(over='ignore', under='ignore', invalid='ignore'):
        assert savgol(kp, 5).shape == kp.shape
        assert one_euro(kp, np.arange(n)/30, size=scale).shape == kp.shape
        assert len(jitter(kp)[1]) == j


def test_joints_cannot_change_on_the_way():
    f = OneEuro(100.); f(KP[0], 0.)
    with pytest.raises(TTPError, match='same joints'): f(KP[1,:5], .04)


# --- a cut-off in hertz

def swing(hz, fps, T=400):
    t = np.arange(T)/fps
    return np.stack([np.sin(2*np.pi*hz*t), np.cos(2*np.pi*hz*t)], -1)[:,None], t

def left(out): return np.linalg.norm(out, axis=-1)[100:-100].mean()        # away from the ends


@pytest.mark.parametrize('fps', [25, 30, 59.94, 240])
@pytest.mark.parametrize('share', [.05, .1, .2, .4])
def test_what_a_cut_off_means(fps, share):
    "At the cut-off a swing keeps 1/sqrt(2), for Butterworth exactly; what is slower keeps more. Nothing is late."
    hz = share*fps
    wave,t = swing(hz, fps)
    assert left(butterworth(wave, t, hz))==pytest.approx(2**-.5, abs=2e-3)
    slow,t = swing(hz/3, fps)
    out = butterworth(slow, t, hz)
    assert left(out)>.98 and np.allclose(out[100:-100]/left(out), slow[100:-100], atol=1e-2)
    if share<.4:
        n = savgol_window(hz, fps)
        assert n%2 and left(savgol(wave, n))<=2**-.5+1e-6 and (n==3 or left(savgol(wave, n-2))>2**-.5-1e-6)


def test_butterworth_is_scipys_run_both_ways():
    from scipy.signal import butter, filtfilt
    t = np.arange(60)/50
    kp = np.cumsum(rng(2).normal(size=(60,3,2)), 0)
    run = 50/np.pi*np.arctan(np.tan(np.pi*6/50)/(2**.5-1)**.25)
    assert np.allclose(butterworth(kp, t, 6.), filtfilt(*butter(2, run, fs=50), kp, axis=0, padlen=9), atol=1e-9)


def test_stretches_are_filtered_by_themselves():
    "Between gaps, and between frames that were dropped; what is too short stays."
    whole = butterworth(KP, CLOCK)
    kp = KP.copy(); kp[15:18] = np.nan
    out = butterworth(kp, CLOCK)
    assert np.allclose(out[18:], butterworth(KP[18:], CLOCK[18:]))
    assert np.allclose(out[:15], butterworth(KP[:15], CLOCK[:15]))
    late = CLOCK.copy(); late[20:] += 1
    after = butterworth(KP, late)[20:]
    assert np.allclose(after, butterworth(KP[20:], CLOCK[20:])) and not np.allclose(after, whole[20:])
    kp = KP.copy(); kp[[10,14]] = np.nan
    assert np.array_equal(butterworth(kp, CLOCK)[11:14], KP[11:14])
    jittery = CLOCK+rng(1).uniform(-.004, .004, T)                         # a clock that ticks unevenly is no hole
    assert np.abs(butterworth(KP, jittery)-whole).max()<1


@pytest.mark.parametrize('name', FILTERS)
def test_every_filter_by_its_name(name):
    kp = holes(2)
    out = filtered(kp, CLOCK, name, 3., np.ones((T,J)))
    assert (np.isnan(out)==np.isnan(kp)).all() and jitter(out)[0]<jitter(kp)[0]
    assert read_filter(f'{name}:3')==(name, 3.) and FILTERS[name]
    for n in (1, 2, 3, 4, 5): assert np.isfinite(filtered(KP[:n], CLOCK[:n], name, 3., np.ones((n,J)), 100.)).all()


@pytest.mark.parametrize('text', ['', ':', '6:', 'butterworth', 'butter:6', '6 Hz', '0', '-6', 'inf', 'nan', 'savgol:x',
                                  'a:b:6'])
def test_what_is_no_filter(text):
    with pytest.raises(TTPError, match='a cut-off in Hz, such as 6'): read_filter(text)


@pytest.mark.parametrize('call,says', [
    (lambda: butterworth(KP, CLOCK, 12.5), '12.5 Hz needs more than 25 frames a second, these are 25'),
    (lambda: butterworth(KP, CLOCK, 0), 'above 0'), (lambda: butterworth(KP, CLOCK, np.nan), 'needs more'),
    (lambda: butterworth(KP, CLOCK[::-1]), 'must increase'), (lambda: savgol_window(13, 25), 'between 0 and 12.5'),
    (lambda: filtered(KP, CLOCK, 'kalman'), "no filter 'kalman'"),
    (lambda: filtered(KP, CLOCK, 'savgol', 20.), 'between 0')])
def test_cut_offs_that_frames_cannot_show(call, says):
    with pytest.raises(TTPError, match=says): call()


def test_the_rate_of_frames():
    assert frame_rate(CLOCK)==pytest.approx(25) and np.isnan(frame_rate([3.]))
    assert frame_rate(np.delete(CLOCK, [3, 9, 10]))==pytest.approx(25)     # dropped frames do not change it
