"""The published metrics against the official code's tables, and the edge cases of scores and intervals.

metric_small.npz holds made-up joints and predictions in the layout of two data sets, rounded to 1/32
pixel, and beside them the exact rows where the rounding would move a joint over the threshold (some lie exactly on
it). The tables below were computed by the official evaluation code from the exact points.
"""
import os
from pathlib import Path
import numpy as np, pytest
from scipy.io import loadmat
from hypothesis import given, settings, strategies as st
from ttp_nb.metrics import (auc, bootstrap, clip_pck, gain, hits, pck, pck_summary, pck_table, pckh, torso_size,
                            within_pixels)
from ttp_nb.skeletons import BBC7, H36M16, PENN13, Skeleton
from ttp_nb.basics import TTPError

LABELS = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))/'Penn_Action'/'labels'

H36M = dict(head=57.93357933579336, shoulder=57.71328671328671, elbow=59.18043025676613,
            wrist=57.105256017149216,
            hip=58.98020798389802, knee=61.265081307920966, ankle=59.54807794133221,
            mean=58.969598514736596)
H36M_EVERY_3RD = dict(head=59.78260869565217, shoulder=59.43686463349384, elbow=56.88468158347676,
            wrist=55.21006540294867,
            hip=57.52688172043011, knee=57.94440853264383, ankle=60.75879765395894,
            mean=58.78284923928077)
BBC = dict(head=53., wrist=56.33333333333334, elbow=52.66666666666666, shoulder=53., mean=53.85714285714285)
PENN_ALL = dict(head=43.41462722162285, shoulder=41.92670896014893, elbow=43.73125891133682,
            wrist=43.544822597847215,
            hip=43.73026240270235, knee=43.241588243294984, ankle=41.93976970459486,
            mean=43.067700877575156)
PENN_ALL_EVERY_7TH = dict(head=43.15360937344852, shoulder=41.54339575251265, elbow=43.06431061540788,
            wrist=43.429591103620275,
            hip=42.85340198994592, knee=42.584647435765035, ankle=41.60776715224864,
            mean=42.57579472092833)


def points(name):
    with np.load(Path(__file__).with_name('metric_small.npz')) as d:
        true,pred,rows = d[f'{name}_gt']/32,d[f'{name}_pred']/32,d[f'{name}_rows']
        true[rows],pred[rows] = d[f'{name}_gt_rows'],d[f'{name}_pred_rows']
        vis = np.unpackbits(d[f'{name}_vis'], axis=1)[:,:true.shape[1]] if f'{name}_vis' in d else None
    return pred,true,vis


def check(summary, table):
    assert summary['pck'] == pytest.approx(table['mean'], abs=1e-9)
    for part,v in table.items():
        if part!='mean': assert summary['pck_per_part'][part] == pytest.approx(v, abs=1e-9), part


def test_penn_rule_in_plain_loops():
    "The rule of Penn Action written out frame by frame and joint by joint."
    r = np.random.default_rng(7)
    true = r.uniform(0, 300, (60,13,2)); pred = true+r.normal(size=true.shape)*20; vis = r.random((60,13))<.8
    hit,n = np.zeros(13),np.zeros(13)
    for p,g,v in zip(pred, true, vis):
        torso = np.hypot(*((g[1]+g[2])/2-(g[7]+g[8])/2))
        for j in range(13):
            n[j] += v[j]; hit[j] += v[j] and np.hypot(*(p[j]-g[j]))/torso<=.2
    per,s = 100*hit/n,pck_summary(*pck(pred, true, vis))
    assert list(s['pck_per_joint'].values())==pytest.approx(per)
    assert s['pck']==pytest.approx((per*n).sum()/n.sum())
    assert s['pck_per_part']['knee']==pytest.approx((per[9]+per[10])/2)
    assert s['pck_per_part']['head']==pytest.approx(per[0])


@pytest.mark.parametrize('step,table', [(1, H36M), (3, H36M_EVERY_3RD)])
def test_human36m_as_published(step, table):
    p,g,v = (x[step-1::step] for x in points('hm36'))
    check(pck_summary(*pck(p, g, v, H36M16), H36M16), table)


def test_bbc_as_published():
    p,g,_ = points('bbc')
    check(pck_summary(*within_pixels(p, g, scale=.5), BBC7), BBC)
    half = lambda x: .5*(x-1)+1                                        # the published form
    assert (within_pixels(half(p), half(g))[0] == within_pixels(p, g, scale=.5)[0]).all()


@pytest.fixture(scope='module')
def penn():
    "All test frames as the reader gives them, and the made-up predictions of the published table; everything from 0."
    if not LABELS.is_dir(): pytest.skip(f'needs Penn Action labels in {LABELS} (TTP_REAL)')
    from ttp_nb.penn import read_penn_label
    test = [m for m in map(read_penn_label, sorted(LABELS.glob('*.mat'))) if not m['train']]
    raw = [loadmat(LABELS/f"{m['name']}.mat", variable_names=['x', 'y']) for m in test]
    raw = np.concatenate([np.stack([m['x'], m['y']], -1) for m in raw]).astype(float) # from 1, hidden joints too
    g = np.random.default_rng(2021); sig = g.uniform(2, 30, (len(raw),1,1))
    pred = (raw+sig*g.standard_normal((len(raw),13,2))).astype(np.float32)
    assert raw.sum()==pytest.approx(350563912.23395544) and pred.sum(dtype=float)==pytest.approx(350583645.13828874)
    joined = {k:np.concatenate([m[k] for m in test]) for k in ('joints', 'vis', 'torso')}
    return dict(raw=raw, pred=pred.astype(float)-1, **joined)


def test_penn_all_test_frames_as_published(penn):
    assert len(penn['joints'])==76298 and (penn['torso']==0).sum()==1
    correct,counted = pck(penn['pred'], penn['joints'], penn['vis'], torso=penn['torso'])
    assert counted.sum()==penn['vis'].sum()==771216
    check(pck_summary(correct, counted), PENN_ALL)
    check(pck_summary(correct[6::7], counted[6::7]), PENN_ALL_EVERY_7TH)


def test_what_the_page_says_of_hidden_torsos(penn):
    hidden = ~penn['vis'][:,[1,2,7,8]]
    assert round(100*hidden.any(1).mean())==59
    assert round((100*(hidden & (penn['raw'][:,[1,2,7,8]]<=1).all(-1)).any(1).mean()))==26
    own = torso_size(penn['joints'])
    assert round(100*(penn['torso']>1.5*own)[own>0].mean())==9                              # too long, one in eleven
    assert pck_summary(*pck(penn['pred'], penn['joints'], penn['vis']))['pck'] == pytest.approx(40.68, abs=.01)


RNG = np.random.default_rng(0)
TRUE = RNG.uniform(0, 200, (6,13,2))
PRED = TRUE+RNG.normal(size=TRUE.shape)*15
VIS = RNG.random((6,13))<.8


def test_hidden_joints_never_matter():
    wild = np.where(VIS[...,None], PRED, RNG.choice([np.nan, np.inf, 1e30, 0], size=PRED.shape))
    a,b = hits(PRED, TRUE, VIS, 60., .2),hits(wild, np.where(VIS[...,None], TRUE, np.nan), VIS, 60., .2)
    assert (a[0]==b[0]).all() and (a[1]==b[1]).all()


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_no_prediction_is_wrong_but_counts(value):
    correct,counted = pck(np.full_like(TRUE, value), TRUE, VIS)
    assert not correct.any() and counted.sum()==VIS.sum()


def test_annotated_but_nan_does_not_count():
    true = TRUE.copy(); true[0,4] = np.nan
    assert not pck(PRED, true)[1][0,4] and pck(PRED, true)[1].sum()==6*13-1


@pytest.mark.filterwarnings('error')
def test_torso_of_zero_or_unknown_is_harmless():
    true = TRUE.copy(); true[0] = 5; true[1,[7,8]] = np.nan; true[2] = np.nan
    correct,counted = pck(true, true)
    assert counted.sum(1).tolist()==[0,0,0,13,13,13] and (correct==counted).all()
    s = pck_summary(correct[:3], counted[:3])
    assert np.isnan(s['pck']) and set(s['pck_per_joint'].values())=={None} and '-' in pck_table({'none':s})


@pytest.mark.filterwarnings('error')
def test_a_torso_from_elsewhere():
    own = torso_size(TRUE)
    assert all((a==b).all() for a,b in zip(pck(PRED, TRUE, VIS, torso=own), pck(PRED, TRUE, VIS)))
    correct,counted = pck(TRUE, TRUE, VIS, torso=[0, np.nan, np.inf, -3, 10, 1e9])
    assert not counted[:4].any() and (counted[4:]==VIS[4:]).all() and (correct==counted).all()
    blind = np.where(VIS[...,None], TRUE, np.nan)                      # the torso of the raw joints, the rest hidden
    assert (pck(PRED, blind, VIS, torso=own)[0]==pck(PRED, TRUE, VIS)[0]).all()
    bare = Skeleton('bare', [f'j{i}' for i in range(13)])              # no torso of its own is needed
    assert (pck(PRED, TRUE, VIS, bare, torso=own)[0]==pck(PRED, TRUE, VIS)[0]).all()
    assert auc(PRED, TRUE, VIS, torso=own)[0]==auc(PRED, TRUE, VIS)[0]<auc(PRED, TRUE, VIS, torso=2*own)[0]
    for bad in (own[:5], own[:,None]):
        with pytest.raises(TTPError, match='lengths'): pck(PRED, TRUE, VIS, torso=bad)


@settings(max_examples=40, deadline=None)
@given(st.floats(.1, 20), st.floats(-500, 500), st.floats(-180, 180))
def test_pck_does_not_depend_on_zoom_place_or_rotation(zoom, shift, angle):
    c,s = np.cos(np.radians(angle)),np.sin(np.radians(angle))
    move = lambda x: zoom*x@np.array([[c,-s],[s,c]])+shift
    assert (pck(move(PRED), move(TRUE), VIS)[0] == pck(PRED, TRUE, VIS)[0]).all()


def test_flipping_names_flips_the_joints():
    a,b = pck(PRED, TRUE, VIS)[0],pck(PRED[:,PENN13.flip], TRUE[:,PENN13.flip], VIS[:,PENN13.flip])[0]
    assert (a[:,PENN13.flip]==b).all()


def test_visibility_may_be_bool_int_or_float():
    for t in (bool, np.uint8, float): assert (pck(PRED, TRUE, VIS.astype(t))[1] == VIS).all()


def test_float32_and_lists_are_taken():
    assert (pck(PRED.astype(np.float32).tolist(), TRUE.tolist(), VIS.tolist())[1] == VIS).all()


@pytest.mark.parametrize('p,g,v', [(PRED[:5], TRUE, VIS), (PRED[:,:12], TRUE, VIS), (PRED, TRUE, VIS[:5]),
                                   (PRED[0], TRUE[0], VIS[0])])
def test_shapes_that_do_not_fit(p, g, v):
    with pytest.raises(TTPError, match='do not fit'): hits(p, g, v, 10., .2)


def test_no_frames_at_all():
    none = np.zeros((0,13,2)); correct,counted = pck(none, none)
    assert correct.shape==(0,13) and np.isnan(pck_summary(correct, counted)['pck'])
    assert np.isnan(clip_pck(correct, counted))


def test_summary_refuses_another_skeleton():
    with pytest.raises(TTPError, match='bbc7'): pck_summary(*pck(PRED, TRUE), BBC7)
    with pytest.raises(TTPError, match='torso'): pck(PRED[:,:7], TRUE[:,:7], None, BBC7)


def test_table_is_markdown_with_equal_columns():
    s = pck_summary(*pck(PRED, TRUE, VIS))
    lines = pck_table({'before':s, 'after':s}).splitlines()
    assert len(lines)==4 and {l.count('|') for l in lines}=={10} and f"{s['pck']:.1f}" in lines[-1]
    assert pck_table({'before':s}, parts=['wrist'], digits=3).splitlines()[0]=='|  | Wrist | Mean |'


def test_pckh_and_auc():
    assert (pckh(PRED, TRUE, VIS, np.full(6, 40.))[0] == within_pixels(PRED, TRUE, VIS, 20.)[0]).all()
    area,thr,curve = auc(PRED, TRUE, VIS)
    assert len(thr)==len(curve)==50 and (np.diff(curve)>=0).all() and 0<area<100
    assert curve[19]==pytest.approx(clip_pck(*pck(PRED, TRUE, VIS, thr=float(thr[19]))))


def test_bootstrap_depends_on_seed_and_values_only():
    x = RNG.normal(size=30)
    state = np.random.get_state()[1].copy()
    assert bootstrap(x)==bootstrap(x)!=bootstrap(x, seed=1)
    assert (np.random.get_state()[1]==state).all()
    m,lo,hi = bootstrap(x, n=501)
    assert lo<m<hi and bootstrap(x, level=.5)[2]<hi
    assert bootstrap(np.r_[x, np.nan, np.inf])==bootstrap(x)
    assert bootstrap([3.,3.,3.])==(3.,3.,3.)


def test_bootstrap_of_too_little():
    m,lo,hi = bootstrap([5.]); assert m==5 and np.isnan(lo) and np.isnan(hi)
    for empty in ([], [np.nan]):
        with pytest.raises(TTPError, match='no clip'): bootstrap(empty)


def test_gain_is_paired_and_signed():
    b = RNG.normal(60, 20, size=40)
    assert gain(b, b+2) == pytest.approx((2,2,2))
    assert gain(b+2, b)[0] == pytest.approx(-2)
    after = b+1; after[3] = np.nan
    assert gain(b, after) == pytest.approx((1,1,1))
    with pytest.raises(TTPError, match='same clips'): gain(b, b[:-1])


def test_own_skeleton():
    s = Skeleton('stick', ['top', 'bottom'], torso=[[0], [1]])
    assert pck_summary(*pck([[[0,0],[0,10]]], [[[0,0],[0,13]]], None, s), s)['pck']==50
