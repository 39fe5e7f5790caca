"""The authors' numbers against ours: every quantity of a folder of them (page 47).

TTP_PARITY names the folder; without it the one beside the project is taken, else tests/parity, the small copy that the
repository carries. Nothing here knows what is in it: networks, sizes, joints, maps, layers and seeds follow from the
files. TTP_REAL names the folder of real data, for what needs Penn Action's labels.
"""
import json, os, shutil
from pathlib import Path
import numpy as np, pytest, torch
from ttp_nb.official_weights import load_official, to_official
from ttp_nb import fidelity as F
from ttp_nb.joint_model import JointModel, baseline, paper_config
from ttp_nb.skeletons import BBC7
from ttp_nb.basics import TTPError

HERE = Path(__file__).parent
BESIDE,SMALL = HERE.parents[1]/'shared',HERE/'parity'
PARITY = Path(os.environ.get('TTP_PARITY', BESIDE/'parity' if (BESIDE/'parity').is_dir() else SMALL))
PENN = Path(os.environ.get('TTP_REAL', BESIDE/'real'))/'Penn_Action'
TAGS = F.tags(PARITY)
JOINT = [t for t in TAGS if (PARITY/f'{t}_scalars.json').is_file()]
has = lambda name: any(PARITY.glob(name))
torch.set_num_threads(1)


def same(rows):
    wrong = [f'{r.of}: {r.what}: {r.difference:.2g}, at most {r.tolerance:.2g}' for r in rows if not r.ok]
    assert rows and not wrong, '\n'.join(wrong)


# --- every quantity of the folder

@pytest.mark.skipif(not has('fill_check.json'), reason='the folder says nothing of the filled arrays')
def test_filled_arrays():
    for c in json.loads((PARITY/'fill_check.json').read_text()):
        a = F.fill(c['name'], tuple(c['shape']), c['seed']).double()
        assert a.sum().item()==pytest.approx(c['sum'], rel=1e-9, abs=1e-9), c['name']
        assert a.square().sum().item()==pytest.approx(c['sumsq'], rel=1e-9), c['name']
        assert np.allclose(a.flatten()[:3], c['first'], rtol=1e-7), c['name']

@pytest.mark.parametrize('tag', JOINT)
def test_outputs(tag): same(F.check_outputs(PARITY, tag))

@pytest.mark.parametrize('tag', JOINT)
def test_losses_normalisers_and_gradients(tag): same(F.check_losses(PARITY, tag))

@pytest.mark.parametrize('tag', JOINT)
def test_steps_of_personalization(tag): same(F.check_steps(PARITY, tag))

@pytest.mark.parametrize('tag', [t for t in TAGS if t not in JOINT])
def test_baselines(tag): same(F.check_baseline(PARITY, tag))

@pytest.mark.parametrize('tag', TAGS)
def test_weights_go_in_and_come_out(tag):
    names = F.shapes(PARITY, tag)
    state = {k: F.fill(k, s, 3) for k,s in names.items()}
    d = F.network_input(PARITY, tag)
    net = F.make_network(PARITY, tag, d['images'].shape[:-3:-1], d['seed'])
    report = load_official(net, {f'module.{k}': v for k,v in state.items()})
    assert report.complete and len(report.matched)==len(state)
    out = to_official(net)
    assert out.keys()==state.keys() and all(torch.equal(out[k], state[k]) for k in state)

@pytest.mark.skipif(not has('data_items*.npz'), reason='the folder has no items of real labels')
def test_items_from_label_to_target(): same(F.largest([r for i in F.items(PARITY) for r in F.check_item(i)]))

@pytest.mark.skipif(not has('target_edges.npz'), reason='the folder has no targets at the edges')
def test_targets_at_the_edges(): same(F.check_edges(PARITY))

@pytest.mark.skipif(not has('decode.npz'), reason='the folder has no heatmaps to decode')
def test_decoding(): same(F.check_decoding(PARITY))

@pytest.mark.skipif(not has('metric.npz'), reason='the folder has no tables')
def test_tables_of_the_data_sets(): same(F.check_metrics(PARITY))

@pytest.mark.skipif(not (PENN/'labels').is_dir() or not has('data_items*.npz'),
                    reason=f'needs Penn Action in {PENN} (TTP_REAL) and items in {PARITY} (TTP_PARITY)')
def test_boxes_and_tables_of_all_labels():
    rows = F.check_labels(PARITY, PENN)
    if not rows: pytest.skip(f'{PENN} has no label of a video that {PARITY} speaks of')
    same(rows)


# --- a folder of the same format with other networks in it, made here

OTHER = {'jointX': paper_config(34, size=(32,64), skeleton=BBC7, keypoints=9, layers=2, dropout=0., vgg=True),
         'baseX': paper_config(18, size=(32,64), skeleton=BBC7)}
SEED,VGG = 5,7

def filled(tag):
    net = JointModel(OTHER[tag], F.filled_vgg(VGG)) if tag=='jointX' else baseline(OTHER[tag])
    load_official(net, {k: F.fill(k, tuple(v.shape), SEED) for k,v in to_official(net).items()})
    return net.eval()

def plain(x):
    "Tensors as numbers, for json."
    return {k: v.detach().double().tolist() if isinstance(v, torch.Tensor) else v for k,v in x.items()}

def arrays(out, end=''): return {k+end: v.detach().float().numpy() for k,v in out.items()}

@pytest.fixture(scope='module')
def other(tmp_path_factory):
    "Written by this project's code, so it says nothing of fidelity: it shows that the files alone decide."
    folder = tmp_path_factory.mktemp('other')
    g = np.random.default_rng(0)
    data = dict(images=g.standard_normal((2,2,3,64,32)).astype('f4'), target=g.random((2,7,16,8)).astype('f4'),
                target_weight=np.ones((2,7,1), 'f4'))
    np.savez(folder/'input_2x32x64_j7_s5.npz', **data)
    batch = lambda double: F.Pairs(*[torch.tensor(data['images'][:,i]).to(torch.float64 if double else torch.float32)
                                     for i in (1,0)], heatmaps=torch.tensor(data['target']), weight=torch.ones(2,7))
    for tag in OTHER:
        state = to_official(filled(tag))
        names = [[k, list(v.shape), str(v.dtype)] for k,v in state.items()]
        (folder/f'{tag}_names.json').write_text(json.dumps({'state_dict': names}))
    with torch.no_grad():
        np.savez(folder/'baseX.npz', **{f'heat_{m}': filled('baseX').train(m=='train')(batch(False).target).numpy()
                                        for m in ('eval', 'train')})
        for m in ('eval', 'train'):
            outs = [F.outputs(n.train(m=='train'), batch(d)) for n,d in ((filled('jointX'), False), (double(), True))]
            np.savez(folder/f'jointX_{m}.npz', **arrays(outs[0]), **(arrays(outs[1], '_f64') if m=='train' else {}))
    (folder/'jointX_scalars.json').write_text(json.dumps(scalars(batch, folder)))
    return folder

def double():
    net = filled('jointX').double()
    net.perceptual.reset()
    return net

def scalars(batch, folder):
    about = dict(input_file='input_2x32x64_j7_s5.npz', fill_seed=SEED, vgg_fill_seed=VGG, float32_vs_float64={})
    for m in ('eval', 'train'):
        about[m] = {}
        for d,end in ((False, ''), (True, '_float64')):
            net = double() if d else filled('jointX')
            terms = F.loss_terms(net.train(m=='train'), batch(d), .002)
            terms['total_joint_loss'].backward()
            about[m] |= {f'scalars{end}': plain(terms), f'grad_norms{end}': F.gradient_norms(net)}
        about['float32_vs_float64'][m] = dict(max_abs_diff_and_max_abs={}, scalars_rel={}, grad_norm_rel_max=.1)
    about['float32_vs_float64']['ttp'] = dict(max_abs_diff_and_max_abs={}, losses_rel=[1e-5]*2)
    for d,end in ((False, ''), (True, '_float64')):
        done = F.take_steps(double() if d else filled('jointX'), batch(d), 2, 3e-5)
        about[f'ttp{end}'] = dict(losses=done['losses'], grad_norms_step1=done['gradients'],
                                  delta_norm_step1=done['moved'][0], delta_norm_step2=done['moved'][1],
                                  loss_mean_after_2=done['means'][1].tolist(), changed=list(done['moved'][0]),
                                  optimizer={'defaults': {'lr': 3e-5}})
        if d: np.savez(folder/'jointX_ttp.npz', **arrays(done['outputs'][1], '_step2_f64'))
    return about

def test_another_folder_needs_no_other_code(other):
    assert F.tags(other)==['baseX', 'jointX']
    net = F.make_network(other, 'jointX', (32,64), SEED, VGG)
    assert (net.cfg.depth,net.cfg.keypoints,net.cfg.layers,len(net.cfg.skeleton))==(34,9,2,7)
    rows = F.check(other)
    same(rows)
    said = {r.what for r in rows}
    for what in ('recon after step 2, float64', 'normalisers after step 2, float64', 'affinity, eval, float32',
                 'heat_sup, train, float64', 'heatmaps, train, float32'):
        assert any(w.startswith(what) for w in said), what

@pytest.mark.parametrize('change,wrong', [
    (lambda a: a['eval']['scalars_float64'].update(perceptual=1.), 'perceptual, eval, float64'),
    (lambda a: a['train']['scalars'].update(unsup_weight=.003), 'total_joint_loss, train, float32'),
    (lambda a: a['eval']['grad_norms_float64'].update({'image_encoder.layer2.0.weight': 9.}), 'gradient norms, eval'),
    (lambda a: a['eval']['grad_norms'].update({'pose_net.bn1.bias': None}), 'the same names'),
    (lambda a: a.update(fill_seed=SEED+1), 'vgg_mse, eval')])
def test_a_difference_is_seen_in_losses(other, tmp_path, change, wrong):
    shutil.copytree(other, tmp_path, dirs_exist_ok=True)
    about = json.loads((tmp_path/'jointX_scalars.json').read_text())
    change(about)
    (tmp_path/'jointX_scalars.json').write_text(json.dumps(about))
    assert any(wrong in r.what for r in F.check_losses(tmp_path, 'jointX') if not r.ok)

def test_a_difference_is_seen_in_outputs(other, tmp_path):
    shutil.copytree(other, tmp_path, dirs_exist_ok=True)
    with np.load(tmp_path/'jointX_eval.npz') as f: d = dict(f)
    d['recon'][1,2,5,7] += 1e-3
    np.savez(tmp_path/'jointX_eval.npz', **d)
    assert [r.what for r in F.check_outputs(tmp_path, 'jointX') if not r.ok]==['recon, eval, float32']

def test_folders_that_cannot_be_compared(other, tmp_path):
    with pytest.raises(TTPError, match='no .*names.json'): F.check(tmp_path)
    shutil.copyfile(other/'baseX_names.json', tmp_path/'baseX_names.json')
    with pytest.raises(TTPError, match='no input file for baseX'): F.network_input(tmp_path, 'baseX')

def test_the_small_copy_is_small_and_passes():
    files = [*SMALL.iterdir(), *HERE.glob('*.npz')]
    assert sum(p.stat().st_size for p in files) < 1e6
    if PARITY!=SMALL: same(F.check_outputs(SMALL, 'joint18')); same(F.check_edges(SMALL))
