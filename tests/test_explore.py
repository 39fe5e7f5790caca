"""The explorer's widgets, which no executed page contains: the notebook's definitions, driven through traitlets."""
import ast, gc, json, re
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
import ipywidgets, matplotlib, numpy as np, pytest, torch
from PIL import Image
from tiny import global_state, no_joints, person, same_weights, tiny_model, weights

matplotlib.use('Agg')
import matplotlib.pyplot as plt # noqa: E402
from matplotlib.figure import Figure # noqa: E402
from ttp_nb.basics import TTPError # noqa: E402
from ttp_nb.personalization import TTPConfig # noqa: E402
from ttp_nb.skeletons import COCO17 # noqa: E402

PAGE = Path(__file__).parents[1]/'nbs'/'library'/'55_explore.ipynb'
FAST = TTPConfig(batch=2, lr=1e-2)
DEFINES = ast.Import,ast.ImportFrom,ast.FunctionDef,ast.ClassDef

def sources():
    return [''.join(c['source']) for c in json.loads(PAGE.read_text('utf-8'))['cells'] if c['cell_type']=='code']

@pytest.fixture(scope='module')
def nb():
    "What the page defines: imports, functions, classes and constants in capitals; nothing is run."
    space = {}
    for src in sources():
        tree = ast.parse(re.sub('^%.*', '', src, flags=re.M))
        tree.body = [n for n in tree.body if isinstance(n, DEFINES)
                     or isinstance(n, ast.Assign) and ast.unparse(n.targets[0]).isupper()]
        exec(compile(tree, PAGE.name, 'exec'), space)
    return SimpleNamespace(**space)

@pytest.fixture(scope='module')
def diary(nb): return nb.keep_diary(tiny_model(), person(0, 'valid', 5), cfg=FAST)

@pytest.fixture
def ex(nb, diary): return nb.Explorer(diary)

def set_all(ex, frame, step, joint=None):
    ex.frame.value,ex.step.value,ex.joint.value = frame,step,joint
    return bytes(ex.image.value)

def alive():
    "All widgets there are."
    return [o for o in gc.get_objects() if issubclass(type(o), ipywidgets.Widget)]

def titles(ex): return {k: a.get_title() for k,a in ex.board.ax.items()}


# --- adapting

def test_weights_are_kept_at_every_step_asked_for(nb, diary):
    model = tiny_model()
    assert list(diary.states)==list(range(6))==list(diary.kp) and len(diary.losses)==5
    assert same_weights(diary.states[0], weights(model)) and not same_weights(diary.states[0], diary.states[5])
    clip = person(0, 'valid', 5)
    assert list(nb.keep_diary(model, clip, keep=2, cfg=FAST).states)==[0, 2, 5]
    assert list(nb.keep_diary(model, clip, cfg=replace(FAST, epochs=2.)).states)==[0, 2, 3, 5, 7, 8, 10]

def test_model_and_global_state_are_left_alone(nb):
    model = tiny_model()
    was,state = weights(model),global_state()
    set_all(nb.Explorer(nb.keep_diary(model, person(1, 'valid', 3), cfg=FAST)), 1, 2, 4)
    assert same_weights(was, weights(model)) and state==global_state()

def test_kept_weights_are_not_changed_by_looking(ex, diary):
    was = {s: {k: v.clone() for k,v in w.items()} for s,w in diary.states.items()}
    for step in (5, 0, 3): set_all(ex, 1, step)
    assert all(same_weights(was[s], diary.states[s]) for s in was)

def test_model_without_affinity_is_refused(nb):
    with pytest.raises(TTPError, match='no affinity'): nb.keep_diary(tiny_model(shared=True), person(0, 'valid', 3))


# --- the controls

def test_every_control_changes_the_picture_and_back_again(ex):
    start = set_all(ex, 0, 0)
    seen = [start, set_all(ex, 3, 0), set_all(ex, 3, 5), set_all(ex, 3, 5, 6), set_all(ex, 3, 5, 0)]
    assert len({*seen})==len(seen)
    assert set_all(ex, 0, 0)==start and set_all(ex, 3, 5, 0)==seen[-1]

def test_a_control_alone_redraws(ex):
    seen = [bytes(ex.image.value)]
    for control,value in ((ex.frame, 2), (ex.step, 4), (ex.joint, 5), (ex.joint, None)):
        control.value = value
        seen.append(bytes(ex.image.value))
        assert seen[-1]!=seen[-2]

def test_order_of_changes_does_not_matter(nb, diary):
    a,b = nb.Explorer(diary),nb.Explorer(diary)
    set_all(b, 4, 5, 2); b.joint.value = 9; b.step.value = 1
    assert set_all(a, 1, 1, 9)==set_all(b, 1, 1, 9)

def test_the_right_frame_and_step_are_shown(nb, ex, diary):
    for frame,step in ((0, 0), (3, 5), (4, 2)):
        set_all(ex, frame, step, 6)
        want = nb.snapshot(diary, ex.board.crops, frame, step)
        for panel in ('reference', 'reconstruction'):
            assert np.array_equal(ex.board.im[panel].get_array(), nb.enlarge(getattr(want, panel))[0])
        assert np.array_equal(ex.board.im['points'].get_array(), nb.enlarge(want.crop)[0])
        assert np.allclose(ex.board.im['affinity'].get_array(), want.W)
        assert np.allclose(ex.board.dots.get_offsets(), nb.enlarge(want.crop, want.points)[1])
        assert [line.get_xdata()[0] for line in ex.board.cursors]==[step, step]
        right,counted = (a[frame].sum() for a in diary.hits(step))
        assert titles(ex)['now']==f'step {step}: {right} of {counted} right'
        assert titles(ex)['before'].startswith('step 0: ')
        assert titles(ex)['heatmap'].startswith('heatmap of left wrist, peak ')
    frames = [nb.snapshot(diary, ex.board.crops, t, 0).crop for t in range(5)]
    assert len({f.tobytes() for f in frames})==5 # else the loop above would prove little

def test_weights_of_the_step_are_used(nb, diary):
    crops,m = nb.Crops(diary),diary.model
    for step in (4, 1):
        seen = nb.snapshot(diary, crops, 2, step)
        m.load_state_dict(diary.states[step])
        with torch.no_grad(): hm,hm_self,W = m.pose(crops.target[[2]])
        assert torch.equal(seen.hm, hm[0]) and torch.equal(seen.hm_self, hm_self[0]) and torch.equal(seen.W, W[0])

def test_drawn_joints_are_those_that_were_predicted(nb, ex, diary):
    set_all(ex, 2, 5, 3)
    crop = nb.apply_affine(ex.board.crops.affines[2], diary.kp[5][2, 3]) # crop pixels
    x,y = ex.board.star.get_data()
    z = nb.enlarge(np.zeros((32, 32, 3), np.uint8))[0].shape[0]/32
    assert ex.board.star.get_visible() and np.allclose([x[0], y[0]], (crop+.5)*z-.5)
    set_all(ex, 2, 5)
    assert not ex.board.star.get_visible() and not ex.board.row.get_visible()

def test_sizes_are_weights_and_solidity_is_the_share(nb, ex, diary):
    set_all(ex, 1, 3, 8)
    seen = nb.snapshot(diary, ex.board.crops, 1, 3)
    share,size = nb.shares(seen, 8),ex.board.dots.get_sizes()
    assert np.allclose(size/size.max(), seen.W[8]/seen.W[8].max())
    alpha = ex.board.dots.get_facecolors()[:,3]
    assert int(alpha.argmax())==int(share.argmax()) and abs(float(share.sum())-1)<1e-5 and (share>=0).all()
    assert ex.board.row.get_y()==7.5

def test_the_widget_holds_a_picture_of_constant_size(ex):
    sizes = {Image.open(BytesIO(set_all(ex, *a))).size for a in ((0, 0), (4, 5, 12), (2, 3, 0))}
    assert len(sizes)==1 and ex.image.format=='jpeg' and Image.open(BytesIO(ex.image.value)).format=='JPEG'

def test_play_is_tied_to_the_frames(nb, diary, monkeypatch):
    tied = []
    monkeypatch.setattr(ipywidgets, 'jslink', lambda *ends: tied.append(ends))
    ex = nb.Explorer(diary)
    assert (ex.play.min,ex.play.max)==(ex.frame.min,ex.frame.max)==(0, 4)
    assert tied==[((ex.play, 'value'), (ex.frame, 'value'))]

def test_no_figure_and_no_memory_is_left(ex):
    ends = lambda: (len(plt.get_fignums()), sum(type(o) is Figure for o in gc.get_objects()),
                    [len(a.get_children()) for a in ex.board.ax.values()], len(alive()))
    set_all(ex, 1, 1, 1); gc.collect()
    was = ends()
    for i in range(100):
        control,values = ((ex.frame, range(5)), (ex.step, range(6)), (ex.joint, (None, *range(13))))[i%3]
        control.value = values[(i//3+2)%len(values)]
    gc.collect()
    assert was[0]==0 and ends()==was


# --- other clips and models

def test_clip_without_truth(nb):
    ex = nb.Explorer(nb.keep_diary(tiny_model(), no_joints(person(0, 'valid', 4)), cfg=FAST), reference=3)
    assert set_all(ex, 0, 0)!=set_all(ex, 1, 4, 2)
    assert titles(ex)['now']=='step 4' and titles(ex)['pck']=='PCK: no truth'

def test_reference_is_the_one_asked_for(nb, diary):
    for r in (0, 3):
        at = nb.snapshot(diary, nb.Crops(diary, r), r, 0)
        assert np.array_equal(at.reference, at.crop)
    assert not np.array_equal(at.reference, nb.snapshot(diary, nb.Crops(diary, 0), 3, 0).reference)

@pytest.mark.parametrize('changes', [dict(size=(32, 64)), dict(size=(64, 32)), dict(bgr=True), dict(origin=1)], ids=str)
def test_other_models(nb, changes):
    clip = person(0, 'valid', 2)
    ex = nb.Explorer(nb.keep_diary(tiny_model(**changes), clip, cfg=FAST))
    plain = nb.Explorer(nb.keep_diary(tiny_model(**{k: v for k,v in changes.items() if k=='size'}), clip, cfg=FAST))
    assert set_all(ex, 0, 0)!=set_all(ex, 1, 2, 2)
    crops = [nb.snapshot(e.board.diary, e.board.crops, 1, 0).crop for e in (ex, plain)]
    assert np.array_equal(*crops) # shown in true colours

def test_crops_are_enlarged_by_whole_numbers_and_points_go_along(nb):
    for size,z in (((64, 64), 4), ((32, 64), 8), ((128, 128), 2), ((288, 384), 1)):
        im = np.zeros((*size, 3), np.uint8)
        im[20:23,10:13] = 255
        out,at = nb.enlarge(im, [11, 21])
        y,x = np.argwhere(out[...,0]>127).mean(0)
        assert out.shape==(z*size[0], z*size[1], 3) and np.allclose(at, [x, y], atol=.01)

def test_other_skeleton(nb):
    clip = replace(no_joints(person(0, 'valid', 2)), skel=COCO17)
    ex = nb.Explorer(nb.keep_diary(tiny_model(skeleton=COCO17), clip, cfg=FAST))
    assert [o[0] for o in ex.joint.options][:2]==['all joints', 'nose'] and len(ex.joint.options)==18
    assert set_all(ex, 0, 0, 16)!=set_all(ex, 0, 0, 0)

def test_empty_heatmaps_do_no_harm(nb, diary):
    seen = nb.snapshot(diary, nb.Crops(diary), 0, 0)
    none = replace(seen, hm_self=-torch.ones_like(seen.hm_self), hm=-torch.ones_like(seen.hm))
    assert torch.isfinite(nb.shares(none, 0)).all() and nb.shares(none, 0).sum()==0

def test_explore_shows_controls_and_picture(nb, diary):
    box = nb.explore(diary)
    inside = [type(w).__name__ for row in box.children for w in row.children]
    assert inside==['IntSlider', 'Play', 'SelectionSlider', 'Dropdown', 'Image']


# --- the page

def test_page_carries_no_widget():
    page = json.loads(PAGE.read_text('utf-8'))
    assert 'widgets' not in page['metadata'] and 'jupyter.widget' not in PAGE.read_text('utf-8')
    calls = [s for s in sources() if re.search(r'^explore\(', s, re.M)]
    assert len(calls)==2 and all(s.startswith('#| eval: false\n# NBVAL_SKIP\n') for s in calls)
