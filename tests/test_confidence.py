"Confidence: signs of odd results, fits that are monotone, cards old and damaged, chances that never grow."
import json, os
from dataclasses import asdict, replace
from pathlib import Path
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from tiny import person
from ttp_nb.basics import TTPError, shipped
from ttp_nb.checkpoints import load_model, read_card, save_model
from ttp_nb.clips import Clip
from ttp_nb.confidence import (SIGNS, SPOILT, Confidence, Seen, boxed, calibrate, calibration_error, confidence_of,
                               fit_confidence, joint_signs, kept_of, never_surer, reliability, said_of, turned,
                               validation_people, write_on_card)
from ttp_nb.joint_model import baseline
from ttp_nb.skeletons import PENN13, PEOPLE18, Skeleton

REAL = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))
ROOT = Path(__file__).parents[1]
MAP = Confidence((1.5,.8,-.6,-.3), (-.5,-1.2,-2.,-2.), .4)


def answers(T=12, skel=PENN13, seed=0):
    rng = np.random.default_rng(seed)
    pose = rng.uniform(20, 80, (len(skel),2))
    kp = pose+np.cumsum(rng.normal(0, .5, (T,len(skel),2)), 0)
    return kp, rng.uniform(.2, .9, kp.shape[:2]), np.tile([10.,10,90,90], (T,1))


# ---------------------------------------------------------------- signs
def test_signs_do_not_depend_on_scale_or_place():
    kp,height,boxes = answers()
    signs = joint_signs(kp, height, boxes, PENN13)
    assert signs.shape==(12,13,len(SIGNS)) and np.isfinite(signs).all()
    far = joint_signs(kp*5+[300,7], height, (boxes+[0,0,1,1])*5+[300,7,299,6], PENN13)
    assert np.allclose(far, signs)


@pytest.mark.parametrize('fps,step', [(12.5,1), (25,1), (30,1), (60,2), (120,5), (240,10)])
def test_accelerations_are_over_a_twenty_fifth_of_a_second(fps, step):
    kp,height,boxes = answers(41)
    got = joint_signs(kp, height, boxes, PENN13, np.arange(41)/fps)[..., 2]
    every = joint_signs(kp[::step], height[::step], boxes[::step], PENN13)[..., 2]
    assert np.allclose(got[step:-step:step][:len(every)-2], every[1:-1])


@pytest.mark.parametrize('times', [np.arange(12)/5, np.zeros(12), np.full(12, np.nan), np.arange(12)[::-1]/25])
def test_odd_times(times):
    kp,height,boxes = answers()
    signs = joint_signs(kp, height, boxes, PENN13, times)
    assert np.isfinite(signs[..., :2]).all() and np.isfinite(MAP(kp, height, boxes, PENN13, times)).all()
    if times[1]==.2: assert np.isnan(signs[..., 2:]).all()                    # people themselves jump


@pytest.mark.parametrize('T', [1,2,3])
def test_few_frames(T):
    kp,height,boxes = answers(T)
    assert np.isnan(joint_signs(kp, height, boxes, PENN13)[..., 2:]).all()==(T<3)
    assert np.isfinite(MAP(kp, height, boxes, PENN13)).all()


def test_what_is_unknown_stays_unknown(recwarn):
    kp,height,boxes = answers()
    kp[3,2] = np.nan; height[5,4] = np.nan; kp[:,7] = np.nan; boxes[8] = np.nan
    p = MAP(kp, height, boxes, PENN13)
    assert np.isnan(p[3,2]) and np.isnan(p[5,4]) and np.isnan(p[:,7]).all() and np.isfinite(p[8,0])
    assert np.isfinite(np.delete(p, 7, 1)).sum()==12*12-2
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
    with pytest.raises(TTPError, match='torso'): joint_signs(kp, height, boxes, Skeleton('dots', PENN13.joints))


def test_a_jump_costs_the_joint_and_its_neighbouring_frames_only():
    kp,height,boxes = answers(30)
    odd = kp.copy(); odd[10,5] += 40
    change = MAP(odd, height, boxes, PENN13)-MAP(kp, height, boxes, PENN13)
    assert (change[[9,10,11],5]<-.05).all() and (change[:,5]<0).all()
    assert np.abs(np.delete(change, 5, 1)).max()<1e-12


# ---------------------------------------------------------------- fit
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 200), unknown=st.sampled_from([0, .3, 1]))
def test_fits_are_monotone_chances(seed, n, unknown):
    rng = np.random.default_rng(seed)
    signs = rng.normal(0, 1, (n,4)); signs[rng.random(n)<unknown, 2:] = np.nan
    right = rng.random(n)<.5; right[:2] = True, False
    if unknown==1: signs[0, 2:] = 0
    f = fit_confidence(signs, right, rng.uniform(.1, 1, n))
    w = np.array(f.weights)
    assert (w[:2]>=0).all() and (w[2:]<=0).all() and np.isfinite([*f.weights, *f.mean, f.bias]).all()
    p = f.of_signs(signs)
    assert ((p>=0)&(p<=1)).all() and (f.of_signs(signs+[1,0,0,0])>=p).all()


def test_stills_alone_can_be_fitted(recwarn):
    rng = np.random.default_rng(0)
    signs = np.c_[rng.normal(0, 1, (400,2)), np.full((400,2), np.nan)]
    f = fit_confidence(signs, rng.random(400)<1/(1+np.exp(-2*signs[:,0])))
    assert f.weights[0]>1 and f.weights[2:]==(0,0) and np.isfinite(f.mean).all()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def made(name, source, how='box of the labels', T=4, seed=0, base=.5):
    rng = np.random.default_rng(seed)
    signs = rng.normal(MAP.mean, .5, (T,5,4))
    return Seen(name, source, how, signs, rng.random((T,5))<MAP.of_signs(signs), np.ones((T,5), bool))


def test_clips_are_judged_by_maps_that_have_not_seen_their_source(monkeypatch):
    seen = [made(f'{s}{k}', s, seed=10*i+k) for i,s in enumerate('abcd') for k in range(3)]
    fitted = []
    from ttp_nb import confidence
    plain = confidence.fit_on
    def watched(some, views=1):
        fitted.append({one.source for one in some})
        return plain(some, views)
    monkeypatch.setattr(confidence, 'fit_on', watched)
    said = said_of(seen, parts=4)
    assert sorted(map(len, fitted))==[3]*4 and all(p.shape==one.right.shape for p,one in zip(said, seen))


def test_people_of_one_source_are_enough_to_fit_on(tmp_path):
    "What is usual among clips is then not known."
    save_model(load_model(shipped('small_joint')), tmp_path/'m.safetensors')
    found = calibrate(tmp_path/'m.safetensors', [person(0)], tmp_path/'kept.json', progress=False)
    assert found['fitted']['usual'] is None and confidence_of(tmp_path/'m.safetensors') is not None
    more = calibrate(tmp_path/'m.safetensors', [person(0), replace(person(1), name='other')], tmp_path/'kept.json',
                     progress=False)
    assert 0 <= more['fitted']['usual'] <= 1
    unseen = replace(person(0), vis=np.zeros_like(person(0).vis))
    with pytest.raises(TTPError, match='none of these people has a joint that counts'):
        calibrate(tmp_path/'m.safetensors', [unseen], tmp_path/'kept.json', progress=False)


def test_every_clip_counts_the_same_and_the_spoilt_a_quarter():
    from ttp_nb.confidence import _joined
    seen = [made('a','a',T=2), made('b','b',T=20), made('c','c','upside down',T=3), made('d','d','box too large',T=3)]
    w = _joined(seen)[2]
    total = [part.sum() for part in np.split(w, np.cumsum([one.counts.sum() for one in seen])[:-1])]
    assert np.allclose(total[:2], 1) and np.isclose(sum(total[2:]), .25*sum(total[:2]))


# ---------------------------------------------------------------- measures
def test_calibration_error_by_hand():
    assert calibration_error([1.,1.,0.], [1,0,0])==pytest.approx(1/3)
    assert reliability([0,.05,1.,.95], [0,1,1,1])==[[.025,.5,2],[.975,1.,2]]
    rng = np.random.default_rng(0); p = rng.random(20000)
    assert calibration_error(p, rng.random(20000)<p)<.02<.2<calibration_error(p, rng.random(20000)<.5)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_confidence_never_grows(pairs):
    before,after = np.array(pairs).T
    assert (never_surer(before, after)<=before).all()


# ---------------------------------------------------------------- the spoilt
def test_turning_and_moving_boxes():
    rng = np.random.default_rng(0)
    clip = Clip('c', rng.integers(0, 255, (3,40,60,3), np.uint8), [[5.,6,30,35]]*3, rng.uniform(5, 30, (3,13,2)))
    t = turned(clip)
    assert t.size==(40,60) and np.allclose(turned(t, 3).joints, clip.joints)
    assert np.allclose(turned(t, 3).boxes, clip.boxes)
    assert np.array_equal(turned(t, 3).frames[1], clip.frames[1])
    b = boxed(clip, 2., .5, 0.)
    assert np.allclose(b.boxes[:,2:]-b.boxes[:,:2], 2*(clip.boxes[:,2:]-clip.boxes[:,:2]))
    assert np.array_equal(b.joints, clip.joints)
    for spoil in SPOILT.values(): assert len(spoil(clip))==3


# ---------------------------------------------------------------- cards
@pytest.fixture
def net(tmp_path):
    save_model(baseline(), tmp_path/'net.safetensors', note='mine')
    return tmp_path/'net.safetensors'


def test_the_card_keeps_one_map_for_each_number_of_views(net):
    assert confidence_of(net) is None and confidence_of(net.with_name('none.pth')) is None
    write_on_card(net, MAP); write_on_card(net, replace(MAP, views=10)); write_on_card(net, replace(MAP, bias=.9))
    assert confidence_of(net)==replace(MAP, bias=.9)
    assert len(read_card(net)['confidence'])==2 and read_card(net)['note']=='mine' and confidence_of(net, 2) is None
    load_model(net)                                                             # checksum and seal are right


@pytest.mark.parametrize('broken', [[3], [{}], [dict(knots=[1])], 7, 'x', {'a':1}, [[]],
                                    [dict(asdict(MAP), weights=['a','b','c','d'])],
                                    [dict(asdict(MAP), bias='high')], [dict(asdict(MAP), mean=None)]])
def test_a_damaged_entry_is_refused_in_a_line(net, broken):
    card = net.with_suffix('.json')
    card.write_text(json.dumps(json.loads(card.read_text())|dict(confidence=broken)))
    with pytest.raises(TTPError, match='confidence on its card') as e: confidence_of(net)
    assert '\n' not in str(e.value)


def test_a_map_of_other_signs_is_not_used(net):
    write_on_card(net, Confidence((1.,), (0.,), 0.))
    assert confidence_of(net) is None


# ---------------------------------------------------------------- what comes with the project
def test_what_was_found_is_kept_as_it_is_said():
    found = json.loads((ROOT/'experiments'/'confidence_valid.json').read_text())
    assert len(Confidence(**found['fitted']).weights)==len(SIGNS)
    assert found['groups']['clips']['chance']['error']<.05<found['groups']['clips']['height']['error']
    assert {c['how'] for c in found['clips']}=={'box of the labels','box found',*SPOILT}


def test_groups_and_clips_of_a_summary():
    seen = [made('a','a'), made('b','b',T=1), made('c','c','upside down')]
    found = kept_of(seen, [MAP.of_signs(one.signs) for one in seen])
    assert [*found['groups']]==['clips','stills','spoilt'] and [c['frames'] for c in found['clips']]==[4,1,4]
    assert json.loads(json.dumps(found, allow_nan=False))==found


@pytest.mark.skipif(not (REAL/'JHMDB').is_dir(), reason='needs shared/real/JHMDB')
def test_validation_people_are_neither_trained_on_nor_tested_on():
    from ttp_nb.confidence import reported_people
    valid = validation_people(REAL/'JHMDB', REAL/'coco_persons'/'free_train.json')
    assert len([c for c in valid if len(c)>1])==14 and len([c for c in valid if len(c)==1])==63
    assert all(c.skel==PEOPLE18 for c in valid)
    assert not {c.name for c in valid}&{c.name for c in reported_people(REAL/'JHMDB')}
