"""The authors' four configuration files as they are, from training to results; the paper's table; the authors' running
means; and evaluations that are interrupted.

Batches are small and networks random here: what is tested is that the files drive the runs, not how good they get.
TTP_REAL names the folder of real data; without it, people of noise stand in for the real frames.
"""
import json, os, pickle, shutil
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest, torch
import test_coco as C, test_datasets as D
from scipy.io import loadmat, savemat
from test_recipe_files import B, F, FILES, FINAL, J, N
from tiny import first, leftovers, noise_clip, person, tiny_model
from ttp_nb import experiments as E
from ttp_nb.basics import TTPError, read_weights, shipped
from ttp_nb.checkpoints import read_card
from ttp_nb.cli import main
from ttp_nb.penn import write_penn
from ttp_nb.personalization import TTPConfig, offline, online
from ttp_nb.recipes import DataConfig, Recipe
from ttp_nb.reproduction import PAPER_PCK, paper_table, reproduce, subset_note

REAL = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))/'Penn_Action'
torch.set_num_threads(1)


def real_frames(root, n=3):
    "The first frames of the real videos, in Penn's layout; four are marked for training, only for this trial."
    videos = sorted(p.name for p in (REAL/'frames').iterdir())
    for i,v in enumerate(videos):
        (root/'frames'/v).mkdir(parents=True); (root/'labels').mkdir(exist_ok=True)
        for t in range(1, n+1): shutil.copyfile(REAL/'frames'/v/f'{t:06d}.jpg', root/'frames'/v/f'{t:06d}.jpg')
        m = {k: x for k,x in loadmat(REAL/'labels'/f'{v}.mat').items() if not k.startswith('__')}
        short = {k: m[k][:n] for k in ('x', 'y', 'visibility', 'bbox')}
        savemat(root/'labels'/f'{v}.mat', m | short | dict(nframes=float(n), train=1 if i<4 else -1))
    return root

@pytest.fixture
def penn(request, tmp_path, monkeypatch):
    "A working folder with the four files and `data/Penn_Action` in it."
    monkeypatch.chdir(tmp_path)
    for name,text in FILES.items(): Path(f'{name}.yaml').write_text(text)
    if request.param=='noise':
        write_penn([noise_clip(f'c{i}', 3, i) for i in range(6)], 'data/Penn_Action', [True]*4+[False]*2)
    elif not (REAL/'frames').is_dir(): pytest.skip(f'needs Penn Action in {REAL} (set TTP_REAL)')
    else: real_frames(Path('data/Penn_Action'))
    return tmp_path

def ttp(capfd, *args):
    capfd.readouterr()
    code = main([str(a) for a in args])
    out,err = capfd.readouterr()
    assert code==0, err[-1500:]
    return out

SHORT = ('TRAIN.END_EPOCH', 1, 'TRAIN.LIMIT_EPOCH_SIZE', 2, 'TRAIN.BATCH_SIZE_PER_GPU', 2, 'WORKERS', 0)


# --- the authors' files

@pytest.mark.parametrize('penn', ['real' if (REAL/'frames').is_dir() else 'noise'], indirect=True)
def test_the_four_files_one_after_the_other(penn, capfd):
    said = ttp(capfd, 'train', '--cfg', f'{B}.yaml', *SHORT, 'MODEL.INIT_WEIGHTS', 'false')
    base = Path(f'output/penn/pose_resnet/{B}')
    card = read_card(base/'last.safetensors')
    assert card['step']==2 and card['kind']=='baseline' and card['config']['depth']==50 and card['config']['bgr']
    assert card['training']['batch']==2 and card['training']['pairs']['authors_edges'] and card['training_people']==4
    assert not card['held_out'] and 'last.safetensors' in said and 'validation' not in said
    assert said.count('have no effect on this run')==1 and 'CUDNN.BENCHMARK' in said and 'TRAIN.WD' in said
    said = ttp(capfd, 'train', '--cfg', f'{J}.yaml', *SHORT, 'MODEL.INIT_WEIGHTS', 'false', 'model.vgg', 'false')
    assert read_card(Path(FINAL).parent/'last.safetensors')['kind']=='joint'
    state = read_weights(FINAL)
    assert 'pose_net.sup_query.weight' in state and state['pose_net.sup_query.weight'].shape==(256,13)
    for name,scenario in ((N, 'online'), (F, 'offline')):
        said = ttp(capfd, 'evaluate', '--cfg', f'{name}.yaml', 'model.vgg', 'false', 'data.first', 2,
                   'TEST.BATCH_SIZE_PER_GPU', 2, 'TRAIN.BATCH_SIZE_PER_GPU', 2)
        (folder,) = Path('output').glob(f'penn*/imm_joint_model/{name}')
        result = json.loads((folder/'results.json').read_text())
        assert [r['scenario'] for r in result['rows']]==['before', scenario] and result['rows'][0]['frames']==4
        assert result['model']=='final_state.pth' and result['settings']['authors_rules']
        assert len(result['normalisers'][scenario])==12 and len(list((folder/'predictions').iterdir()))==2
        a = np.load(next((folder/'predictions').iterdir()))
        assert np.isfinite(a[f'{scenario}_kp']).all() and not np.array_equal(a[f'{scenario}_conf'], a['before_conf'])
    assert not leftovers(penn)

@pytest.mark.parametrize('penn', ['noise'], indirect=True)
def test_what_a_file_asks_for_and_is_not_there(penn, capfd):
    def refused(*args):
        assert main([str(a) for a in args])==2
        return capfd.readouterr().err
    assert FINAL in refused('evaluate', '--cfg', f'{N}.yaml') # not trained yet
    err = refused('train', '--cfg', f'{J}.yaml', 'model.vgg', 'false')
    assert 'ImageNet weights of ResNet-50' in err and 'random weights' in err
    assert 'VGG-16' in refused('train', '--cfg', f'{J}.yaml', 'MODEL.INIT_WEIGHTS', 'false')
    assert 'did you mean TRAIN.END_EPOCH' in refused('train', '--cfg', f'{J}.yaml', 'TRAIN.END_EPOHC', 3)
    assert 'for personalization' in refused('train', '--cfg', f'{N}.yaml')
    assert 'not how to train' in refused('train', 'joint', '--cfg', f'{N}.yaml')
    assert 'not how to train' in refused('reproduce', '--cfg', f'{F}.yaml', 'TEST.MODEL_FILE', '')
    assert 'names no weights' in refused('evaluate', '--cfg', f'{J}.yaml')
    assert 'attention heads' in refused('train', '--cfg', f'{J}.yaml', 'MODEL.EXTRA.NHEADS', 3)
    assert not Path('output').exists() or not [p for p in Path('output').rglob('*') if p.is_file()]

@pytest.mark.parametrize('penn', ['noise'], indirect=True)
def test_a_baseline_by_the_joint_file(penn, capfd):
    ttp(capfd, 'train', 'baseline', '--cfg', f'{J}.yaml', '--out', 'here', *SHORT, 'MODEL.INIT_WEIGHTS', 'false')
    assert read_card('here/best.safetensors')['kind']=='baseline'
    ttp(capfd, 'evaluate', '--cfg', f'{B}.yaml', '--model', 'here/final_state.pth', '--out', 'there')
    ttp(capfd, 'evaluate', '--data', 'penn', '--root', 'data/Penn_Action', '--model', 'here/final_state.pth')
    a,b = (json.loads(Path(f'{o}/results.json').read_text()) for o in ('there', 'output/evaluate'))
    assert [r['scenario'] for r in a['rows']]==['before'] and a['rows']==b['rows'] # no recipe: the file says it


# --- the paper's table

@pytest.mark.parametrize('penn', ['noise'], indirect=True)
def test_the_papers_table(penn, capfd):
    change = ('training.steps', 2, 'training.batch', 2, 'personalization.batch', 2, 'model.vgg', 'false',
              'imagenet', '', 'model.depth', 18, 'model.size', '[32, 32]')
    cfg = Path(__file__).parents[1]/'experiments'/'penn_joint.yaml'
    said = ttp(capfd, 'reproduce', '--cfg', cfg, '--out', 'paper', *change)
    text = Path('paper/table.md').read_text()
    assert text.strip() in said and 'A subset of Penn Action' in text and 'tested on 6 of 76298 test frames' in text
    rows = [[c.strip() for c in line.split('|')[1:-1]] for line in text.splitlines() if line.startswith('| ')]
    assert [r[:2] for r in rows[1:]]==[['Baseline', '-'], ['TTP', 'before'], ['TTP', 'online'], ['TTP', 'offline']]
    assert rows[0][2:]==['Head', 'Shoulder', 'Elbow', 'Wrist', 'Hip', 'Knee', 'Ankle', 'mean', 'gain (95 %)',
                         'published mean']
    assert [r[-1] for r in rows[1:]]==['85.23', '86.28', '87.66', '88.63']
    assert [f'{v:.2f}' for v in PAPER_PCK['penn'].values()]==[r[-1] for r in rows[1:]]
    table = json.loads(Path('paper/table.json').read_text())
    assert [r[9] for r in rows[1:]]==[f"{r['pck']:.2f}" for r in table['rows']]
    files = {p: p.read_bytes() for p in Path('paper').rglob('*') if p.is_file() and p.suffix!='.pth'}
    ttp(capfd, 'reproduce', '--cfg', cfg, '--out', 'paper', *change) # all done: nothing is trained or evaluated again
    assert all(p.read_bytes()==b for p,b in files.items())
    weights = ('--model', 'paper/joint/final_state.pth', '--baseline', 'paper/baseline/last.safetensors')
    ttp(capfd, 'reproduce', '--cfg', cfg, '--out', 'again', *change, *weights)
    assert json.loads(Path('again/table.json').read_text())['rows']==table['rows']

@pytest.mark.parametrize('penn', ['noise'], indirect=True)
def test_rgb_stays_rgb(penn, capfd):
    change = (*SHORT, 'MODEL.INIT_WEIGHTS', 'false', 'model.vgg', 'false', 'MODEL.EXTRA.NUM_LAYERS', 18,
              'MODEL.IMAGE_SIZE', '[32, 32]', 'MODEL.HEATMAP_SIZE', '[8, 8]', 'DATASET.COLOR_RGB', 'true')
    ttp(capfd, 'train', '--cfg', f'{J}.yaml', '--out', 'run', *change)
    rows = []
    for w in ('final_state.pth', 'last.safetensors'):
        ttp(capfd, 'evaluate', '--cfg', f'{J}.yaml', '--model', f'run/{w}', '--out', f'out/{w}', *change)
        rows.append(dict(np.load(f'out/{w}/predictions/0005.npz')))
    assert np.allclose(rows[0]['before_conf'], rows[1]['before_conf'], atol=1e-6)

def test_folders_and_weights_that_do_not_fit(tmp_path):
    recipe = Recipe(out=str(tmp_path), weights=str(shipped('small_joint')))
    (tmp_path/'state.pt').write_bytes(b'')
    with pytest.raises(TTPError, match='holds a training run'): reproduce(recipe, str(shipped('small_baseline')))
    (tmp_path/'state.pt').unlink()
    with pytest.raises(TTPError, match='not how to train'): reproduce(replace(recipe, task='online'))
    with pytest.raises(TTPError, match='holds no baseline network'):
        reproduce(recipe, recipe.weights, n=1, say=lambda line: None, progress=False)
    assert not list(tmp_path.iterdir())

def test_what_is_a_subset():
    say = lambda trained,tested: subset_note(Recipe(data=DataConfig('penn', 'x')), trained, tested)
    assert say([87543]*2, 76298)=='' and say([], 76298)==''
    assert 'trained on 78789 of 87543' in say([78789], 76298) # a tenth held out, under our conventions
    assert 'trained on 500 of 87543' in say([500, 500], 76298) and 'tested on' not in say([500], 76298)
    assert subset_note(Recipe(), [5], 5)==''

def test_parts_that_nobody_saw_have_no_number():
    row = dict(scenario='before', pck=50., gain=None, gain_low=None, gain_high=None, clips=1, frames=2,
               pck_per_joint={'a': 40., 'right_b': None, 'left_b': 60., 'right_c': 20., 'left_c': 60.})
    parts = {'a': ['a'], 'b': ['right_b', 'left_b'], 'c': ['right_c', 'left_c']}
    table = dict(rows=[row], note='', data='coco', parts=parts)
    assert paper_table(table).splitlines()[2]=='| TTP | before | 40.0 | - | 40.0 | 50.00 | - | - |'


# --- running means that go on, and evaluations that go on

AUTHORS = TTPConfig(batch=2, lr=1e-2, authors_rules=True, anchor_weight=0.)

def clips(n=3): return [first(person(i, 'test'), 3) for i in range(n)]

def test_the_running_means_go_on_from_clip_to_clip():
    model = tiny_model().eval()
    found,means = {},{}
    for i,f in E.run_clips(model, clips(), E.SCENARIOS, AUTHORS, 2, means=means): found[i] = f
    assert list(found)==[0,1,2] and means.keys()=={'online', 'offline'}
    for scenario,run in (('online', online), ('offline', offline)):
        m = tiny_model().eval()
        m.perceptual.reset()
        for i,c in enumerate(clips()):
            done = run(m, c, AUTHORS)
            assert np.array_equal(done.kp, found[i][scenario][0]), (scenario, i)
            m.perceptual.mean = done.model.perceptual.mean
        assert torch.equal(torch.tensor(means[scenario]), m.perceptual.mean)
    alone = next(E.run_clips(model, clips()[2:], ('online',), AUTHORS))[1]['online']
    assert not np.array_equal(alone[0], found[2]['online'][0]) # what came before matters, as published
    assert torch.equal(model.perceptual.mean, tiny_model().perceptual.mean) # the model itself is left alone

@pytest.mark.parametrize('cfg', [AUTHORS, replace(AUTHORS, authors_rules=False)], ids=['authors', 'ours'])
@pytest.mark.parametrize('scenarios', [E.SCENARIOS, ('offline',)], ids=' '.join)
def test_an_evaluation_that_is_interrupted_goes_on_to_the_same_files(cfg, scenarios, tmp_path):
    def go(out, people=None, **kw):
        return E.evaluate(tiny_model(), people or clips(), out, scenarios, cfg, progress=False, **kw)
    whole = go(tmp_path/'whole')
    class Stop(Exception): pass
    class Broken(list):
        size = clips()[0].size
        def __getitem__(self, i): raise Stop
    broken = clips()
    broken[2] = replace(broken[2], frames=Broken([0]*3))
    with pytest.raises(Stop): go(tmp_path/'cut', broken)
    assert len(json.loads((tmp_path/'cut'/'results.json').read_text())['per_clip'])==2
    assert go(tmp_path/'cut', resume=True)==whole
    for p in (tmp_path/'whole').rglob('*.*'):
        assert p.read_bytes()==(tmp_path/'cut'/p.relative_to(tmp_path/'whole')).read_bytes(), p
    before = {p: p.stat().st_mtime_ns for p in (tmp_path/'cut').rglob('*.*')}
    assert go(tmp_path/'cut', resume=True)==whole and before=={p: p.stat().st_mtime_ns for p in before} # nothing to do

def test_what_goes_on_is_what_belongs_together(tmp_path):
    "Running means are taken over only with the clips they come from, and fewer scenarios are a part of more."
    go = lambda out,people,scenarios,**kw: E.evaluate(tiny_model(), people, tmp_path/out, scenarios, AUTHORS,
                                                      progress=False, **kw)
    whole = go('whole', clips(), E.SCENARIOS)
    go('a', [c[:2] for c in clips(1)], E.SCENARIOS) # a quick try, of other clips
    assert go('a', clips(), E.SCENARIOS, resume=True)==whole
    go('b', clips(2), ('online',))
    assert go('b', clips(), E.SCENARIOS, resume=True)==whole # offline was not there: all anew
    go('c', clips(2), E.SCENARIOS)
    part = go('c', clips(), ('online',), resume=True)
    assert [r['scenario'] for r in part['rows']]==['before', 'online'] and list(part['normalisers'])==['online']
    assert part['rows']==whole['rows'][:2]
    old = json.loads((tmp_path/'c'/'results.json').read_text())
    del old['seal']
    for c in old['per_clip']: del c['labels'], c['content'] # as before results said which clips they are of
    (tmp_path/'d').mkdir(); (tmp_path/'d'/'results.json').write_text(json.dumps(old))
    with pytest.raises(TTPError, match='other clips'): go('d', clips(), ('online',), resume=True)
    with pytest.raises(TTPError, match='other clips'): # the same names, other people
        go('c', [replace(c, joints=c.joints+1) for c in clips()], ('online',), resume=True)

def test_only_the_same_evaluation_goes_on(tmp_path):
    go = lambda model,cfg,**kw: E.evaluate(model, clips(1), tmp_path, ('before',), cfg, progress=False, **kw)
    go(tiny_model(), AUTHORS)
    for model,cfg in ((tiny_model(seed=1), AUTHORS), (tiny_model(), replace(AUTHORS, lr=2e-2))):
        with pytest.raises(TTPError, match='choose another --out'): go(model, cfg, resume=True)
    go(tiny_model(seed=1), AUTHORS) # without --resume it begins anew
    r = E.evaluate(tiny_model(seed=1), clips(1), tmp_path, ('offline',), AUTHORS, progress=False, resume=True)
    assert [x['scenario'] for x in r['rows']]==['before', 'offline'] # a scenario that was not asked for before


# --- every data set, from labels to a table

def bbc(root):
    g = np.random.default_rng(0)
    numbers = {v: np.arange(3)+1 for v in range(1, 21)}
    for v in (1, 2, 3, 11, 12):
        for i in numbers[v]: D.image(root/str(v)/f'{i}.jpg', (720,480), 10*v)
    return D.write_bbc(root, numbers, {v: g.uniform(100, 400, (3,7,2)) for v in numbers})

def hm36(root):
    for name,subjects in dict(train=(1,5), valid=(9,11)).items():
        db = D.made_db(subjects)
        D.pickle_path(root, name).write_bytes(pickle.dumps(db))
        for (s,a,_,_),v in db.items():
            for t in range(len(v)): D.image(root/f'{s}_{a}'/f'{t}.jpg', (1000, 1000+2*(a==3)), 10*s+t)
    return root

def coco(root):
    names = ('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip', 'tail')
    g = np.random.default_rng(0)
    for file,videos in (('train', 'abc'), ('test', 'de')):
        labels = C.coco({v: g.uniform(5, 40, (3,5,2)) for v in videos}, names, ((1,2), (3,4), (4,5)))
        C.save(root, labels, f'{file}.json')
    return root

@pytest.mark.parametrize('kind,write,joints,clips', [('bbc', bbc, 7, 2), ('hm36', hm36, 16, 2), ('coco', coco, 5, 2)])
def test_other_data_sets_are_trained_on_and_evaluated(kind, write, joints, clips, tmp_path, capfd):
    "The joints are the data's; nothing but kind and root need be said."
    data,tiny = ('--data', kind, '--root', write(tmp_path/kind)),('training.batch', 2, 'model.size', '[32, 32]')
    ttp(capfd, 'train', 'joint', *data, '--steps', 2, '--out', tmp_path/'run', *tiny)
    card = read_card(tmp_path/'run'/'best.safetensors')
    assert len(card['config']['skeleton']['joints'])==joints and card['data']==kind
    said = ttp(capfd, 'evaluate', *data, '--model', tmp_path/'run'/'best.safetensors', '--out', tmp_path/'out',
               'personalization.batch', 2)
    result = json.loads((tmp_path/'out'/'results.json').read_text())
    assert [(r['scenario'], r['clips']) for r in result['rows']]==[(s, clips) for s in E.SCENARIOS]
    assert ('6 pixels at half size' in said)==(kind=='bbc')
    assert all(len(r['pck_per_joint'])==joints for r in result['rows'])

@pytest.mark.parametrize('name,kind,write,joints', [('bbcpose', 'bbc', bbc, 7), ('hm36', 'hm36', hm36, 16)])
def test_the_authors_file_for_other_data(name, kind, write, joints, tmp_path, capfd):
    write(tmp_path/'data')
    (tmp_path/'j.yaml').write_text(FILES[J])
    ttp(capfd, 'train', '--cfg', tmp_path/'j.yaml', '--out', tmp_path/'run', 'DATASET.DATASET', name, 'DATASET.ROOT',
        tmp_path/'data', 'MODEL.NUM_JOINTS', joints, 'MODEL.EXTRA.NUM_LAYERS', 18, 'MODEL.IMAGE_SIZE', '[32, 32]',
        'MODEL.HEATMAP_SIZE', '[8, 8]', *SHORT, 'MODEL.INIT_WEIGHTS', 'false', 'model.vgg', 'false')
    assert read_weights(tmp_path/'run'/'final_state.pth')['pose_net.sup_query.weight'].shape==(256,joints)
    cfg = read_card(tmp_path/'run'/'last.safetensors')['config']
    assert cfg['bgr'] and cfg['origin']==(1 if kind=='bbc' else 0)
