"""The `ttp` command: help at once, what can be mended in one line, and the whole way from drawing to evaluating."""
import json, os, re, shutil, signal, subprocess, sys, time
from importlib.metadata import entry_points
from pathlib import Path
import av, cv2, numpy as np, psutil, pytest, torch
from scipy.io import loadmat, savemat
from tiny import leftovers, noise_clip, person, tiny_model
from ttp_nb import basics, cli, drawn_people, recipe_runs, recipes
from ttp_nb import person as person_module
from ttp_nb.penn import write_penn
from ttp_nb.cli import check_folder, main, make_parser
from ttp_nb.checkpoints import load_model, read_card, save_model, save_profile
from ttp_nb.exports import read_keypoints
from ttp_nb.skeletons import COCO17, H36M16, PENN13, PEOPLE18, Skeleton
from ttp_nb.basics import TTPError
from ttp_nb.video import open_frames, write_mp4

BESIDE = Path(os.environ.get('TTP_REAL', Path(__file__).parents[2]/'shared'/'real'))
REAL, JHMDB, WALK = BESIDE/'Penn_Action', BESIDE/'JHMDB', BESIDE/'pose2sim'/'pose2sim_cam01.mp4'
def needs(path): return pytest.mark.skipif(not path.exists(), reason=f'needs {path} (set TTP_REAL)')
needs_real, needs_jhmdb, needs_walk = needs(REAL/'labels'), needs(JHMDB/'joint_positions'), needs(WALK)
COMMANDS = 'demo','synth','train','evaluate','reproduce'
ALL = *COMMANDS,'probe','personalize','bench'


class Said:
    "What a command said and how it ended."
    def __init__(self, code, out, err): self.code,self.out,self.err = code,out,err

@pytest.fixture
def ttp(capfd):
    "Runs a command in this process."
    def run(*args):
        capfd.readouterr()
        try: code = main([str(a) for a in args])
        except SystemExit as e: code = e.code
        return Said(code, *capfd.readouterr())
    return run

def messages(err):
    "Lines of stderr; a progress bar's last state is not one."
    lines = [line.split('\r')[-1] for line in err.splitlines()]
    return [line for line in lines if line.strip() and not re.search(r'\d+/\d+ \[|\d+(clip|person|step) \[|%\|', line)]

def refused(said, *names):
    "One line on stderr that names these and ends with exit code 2."
    assert said.code==2, f'exit code {said.code}; {said.err[-800:]}'
    lines = messages(said.err)
    assert len(lines)==1, f'{len(lines)} lines: {said.err}'
    assert lines[0].startswith('ttp: ') and 'Traceback' not in said.err+said.out
    for n in names: assert str(n) in lines[0], f'{n!r} is not in: {lines[0]}'
    return lines[0]

@pytest.fixture(scope='module')
def model(tmp_path_factory):
    p = tmp_path_factory.mktemp('model')/'m.safetensors'
    save_model(tiny_model(), p)
    return p

@pytest.fixture
def root(tmp_path):
    "Penn Action's layout: two training and two test videos of noise."
    return write_penn([noise_clip(f'c{i}', 3+i%2, i) for i in range(4)], tmp_path/'penn', [True, True, False, False])

@pytest.fixture
def evaluate(ttp, root, model, tmp_path):
    "`ttp evaluate` of these videos, in this process."
    def run(*args, **options):
        o = {'data': 'penn', 'root': root, 'model': model, 'out': tmp_path/'out', 'mode': 'before',
             'workers': 1} | options
        return ttp('evaluate', *[x for k,v in o.items() if v is not None for x in (f'--{k}', v)], *args)
    return run

def no_drawing(monkeypatch, instead=None):
    "Whoever draws people gets this instead."
    def never(*a, **k): raise AssertionError('work was done first')
    for module in (drawn_people, recipe_runs): monkeypatch.setattr(module, 'synthetic_clips', instead or never)
    return never

def nothing_written(folder): return not folder.exists() or not [p for p in folder.rglob('*') if p.is_file()]


# --- help

def fresh(code):
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          env=os.environ | {'COLUMNS': '100'})

def test_help_needs_no_torch():
    "In one fresh process, the module's import included."
    code = f'''
import sys
from ttp_nb.cli import main
for args in [['--help'], *[[c, '--help'] for c in {ALL}], ['nonsense'], []]:
    try: main(args)
    except SystemExit as e: print('exit', e.code, file=sys.stderr)
print('loaded', [m for m in ('torch', 'torchvision', 'numpy', 'cv2', 'matplotlib', 'scipy', 'av') if m in sys.modules],
      file=sys.stderr)'''
    r = fresh(code)
    ends = [line for line in r.stderr.splitlines() if line.startswith('exit')]
    assert ends==['exit 0']*(1+len(ALL))+['exit 2']*2, r.stderr
    assert r.stderr.endswith('loaded []\n') and all(f'ttp {c}' in r.stdout for c in ALL)

@pytest.mark.parametrize('command', ALL)
def test_each_help_explains_and_its_example_parses(ttp, command, monkeypatch):
    monkeypatch.setenv('COLUMNS', '100')
    r = ttp(command, '--help')
    assert r.code==0 and not r.err
    example = re.search(r'example:\s+ttp (.*)', r.out)[1].split()
    args = make_parser().parse_args(example)
    assert args.run is getattr(cli, f'{command}_command') and example[0]==command
    for option in re.findall(r'^  (--[a-z-]+)', r.out, re.M):
        assert len(re.search(rf'{option}\b.*?(\n  -|\Z)', r.out, re.S)[0])>len(option)+10, f'{option} is not explained'

def test_the_general_help_names_each_command(ttp):
    r = ttp('--help')
    assert r.code==0 and all(re.search(rf'^    {c}\s+\w', r.out, re.M) for c in ALL)

@pytest.mark.parametrize('args', [[], ['nonsense'], ['train'], ['train', 'other'], ['evaluate', '--mode', 'sideways'],
                                  ['evaluate', '--data', 'mpii'], ['demo', '--data', 'jhmdb,mpii'],
    ['demo', '--clips', 'many'], ['demo', '--colour', 'red'], ['evaluate', '--seed', '1.5']], ids=' '.join)
def test_wrong_usage(ttp, args):
    r = ttp(*args)
    assert r.code==2 and r.err.startswith('usage:') and 'error:' in r.err and 'Traceback' not in r.err

def test_help_names_the_data_sets_that_there_are(): assert cli.DATA_SETS==recipes.DATA_KINDS

def test_the_command_is_installed_as_a_script():
    found = [e.value for e in entry_points(group='console_scripts') if e.name=='ttp']
    if not found: pytest.skip('the package is not installed, only importable')
    assert set(found)=={'ttp_nb.cli:main'}


# --- numbers that make no sense

@pytest.mark.parametrize('args', [
    'demo --clips 0', 'demo --clips -1', 'demo --clips 2 --seed -1', 'evaluate --clips 0',
    'evaluate --clips 1 --seed -1', 'synth --people -1', 'synth --people 0 --test-people 0', 'synth --test-people -2',
    'synth --seed -1 --people 1', 'train joint --people 0',
    'train joint --people -3', 'train joint --steps -5', 'train joint --people 1 --seed -1'])
def test_numbers_that_make_no_sense(ttp, args, tmp_path, model, monkeypatch):
    monkeypatch.setattr(drawn_people, 'write_synthetic', no_drawing(monkeypatch))
    command,*rest = args.split()
    where = ['--root', tmp_path/'o'] if command=='synth' else ['--out', tmp_path/'o']
    more = ['--model', model, '--workers', 1] if command in ('demo', 'evaluate') else []
    option = re.search(r'--(clips|people|seed|steps|test-people) (-|0)', args)[0].split()[0]
    refused(ttp(command, *rest, *where, *more), option)
    assert nothing_written(tmp_path/'o')


# --- data that is not there or broken

@pytest.mark.parametrize('data', ['penn', 'jhmdb', 'jhmdb,synthetic'])
def test_no_root_given(ttp, evaluate, data, tmp_path):
    refused(evaluate(root=None, data=data), f'--data {data}', '--root')
    refused(ttp('demo', '--data', data, '--out', tmp_path/'demo'), f'--data {data}', '--root')
    assert nothing_written(tmp_path/'out') and nothing_written(tmp_path/'demo')

@pytest.mark.parametrize('command', ['evaluate', 'train'])
def test_missing_roots(ttp, command, model, tmp_path):
    (tmp_path/'file').write_text('x'); (tmp_path/'empty').mkdir(); (tmp_path/'labels_only'/'labels').mkdir(parents=True)
    for r in ('none', 'file', 'empty', 'labels_only'):
        for data in ('penn', 'synthetic'):
            args = ['joint'] if command=='train' else ['--model', model]
            refused(ttp(command, *args, '--data', data, '--root', tmp_path/r, '--out', tmp_path/'out'), tmp_path/r,
                    'labels/0001.mat')
    assert nothing_written(tmp_path/'out')

def test_labels_without_frames(evaluate, root, tmp_path, ttp):
    shutil.rmtree(root/'frames')
    refused(evaluate(), root, '2 videos', 'frames/0001')
    refused(ttp('train', 'joint', '--data', 'penn', '--root', root, '--out', tmp_path/'run'), root, '2 videos')
    assert nothing_written(tmp_path/'out') and nothing_written(tmp_path/'run')

def test_a_video_without_some_frames_is_named_and_left_out(evaluate, root, tmp_path):
    (root/'frames'/'0003'/'000002.jpg').unlink()
    r = evaluate()
    assert r.code==0 and not messages(r.err) and '1 of 2 test videos' in r.out and '0003' in r.out
    result = json.loads((tmp_path/'out'/'results.json').read_text())
    assert result['absent']==['0003'] and [c['name'] for c in result['per_clip']]==['0004']
    assert result['rows'][0]['clips']==1

@pytest.mark.parametrize('how', ['missing', 'truncated', 'empty', 'text', 'folder', 'other size'])
@pytest.mark.parametrize('frame', [1, 3])
def test_a_frame_that_is_none(evaluate, root, tmp_path, how, frame):
    "Found when it is read; a missing one makes its video absent, and here no other is left."
    shutil.rmtree(root/'frames'/'0004')
    f = root/'frames'/'0003'/f'{frame:06d}.jpg'
    data = f.read_bytes(); f.unlink()
    if how=='truncated': f.write_bytes(data[:len(data)//2])
    if how=='empty': f.write_bytes(b'')
    if how=='text': f.write_text('This is a text.\n')
    if how=='folder': f.mkdir()
    if how=='other size': cv2.imwrite(str(f), np.zeros((20,30,3), np.uint8))
    name = root if how=='missing' else root/'frames'/'0003' if how=='other size' else f
    refused(evaluate(), name)
    assert nothing_written(tmp_path/'out')

def test_a_broken_frame_after_a_good_video(evaluate, root, tmp_path):
    (root/'frames'/'0004'/'000003.jpg').write_text('This is a text.\n')
    refused(evaluate(), root/'frames'/'0004'/'000003.jpg')
    result = json.loads((tmp_path/'out'/'results.json').read_text())
    assert [c['name'] for c in result['per_clip']]==['0003'] and not leftovers(tmp_path/'out')

def test_too_many_frames(evaluate, root):
    shutil.copy(root/'frames'/'0003'/'000001.jpg', root/'frames'/'0003'/'000099.jpg')
    refused(evaluate(), root/'frames'/'0003', '000099.jpg')

def next_key(change): return next(iter(change))

def relabel(root, name, **changes):
    p = root/'labels'/f'{name}.mat'
    m = {k:v for k,v in loadmat(p).items() if not k.startswith('__')} | changes
    savemat(p, {k:v for k,v in m.items() if v is not None})
    return p

@pytest.mark.parametrize('change', [
    dict(x=np.ones((3,7))), dict(visibility=np.ones((2,13))), dict(bbox=np.ones((3,3))), dict(bbox=np.zeros((3,4))),
    dict(nframes=7.), dict(dimensions=[1.,2]), dict(y=None), dict(x=np.zeros((0,13))), dict(x='words')], ids=next_key)
def test_labels_of_wrong_shapes(evaluate, root, tmp_path, change):
    label = relabel(root, '0003', **change)
    refused(evaluate(), label)
    assert nothing_written(tmp_path/'out')

def test_a_visible_joint_that_is_nowhere(evaluate, root, tmp_path):
    m = loadmat(root/'labels'/'0003.mat')
    x,v = m['x'].copy(),m['visibility'].copy()
    x[1,4],v[1,4] = np.nan,1
    label = relabel(root, '0003', x=x, visibility=v)
    refused(evaluate(), label, 'frame 1', 'NaN')
    assert nothing_written(tmp_path/'out')
    v[1,4] = 0 # hidden, it may be anywhere
    relabel(root, '0003', x=x, visibility=v)
    assert evaluate().code==0

@pytest.mark.parametrize('data', [b'', b'a text\n', None], ids=['empty', 'text', 'truncated'])
def test_a_label_that_is_none(evaluate, root, tmp_path, data):
    p = root/'labels'/'0003.mat'
    p.write_bytes(p.read_bytes()[:300] if data is None else data)
    refused(evaluate(), p)
    assert nothing_written(tmp_path/'out')

def test_an_empty_labels_folder(evaluate, root, tmp_path):
    for p in (root/'labels').iterdir(): p.unlink()
    refused(evaluate(), root, 'labels')
    assert nothing_written(tmp_path/'out')

def test_nothing_of_a_split(evaluate, root, ttp, tmp_path):
    for n in ('0003', '0004'): relabel(root, n, train=1.)
    refused(evaluate(), root, 'test')
    for n in ('0001', '0002', '0003', '0004'): relabel(root, n, train=-1.)
    refused(ttp('train', 'joint', '--data', 'penn', '--root', root, '--out', tmp_path/'run'), root, 'train')
    relabel(root, '0001', train=1.)
    refused(ttp('train', 'joint', '--data', 'penn', '--root', root, '--out', tmp_path/'run'), root, 'two videos')
    assert nothing_written(tmp_path/'run')

def test_mended_labels_are_told(evaluate, root):
    relabel(root, '0003', bbox=loadmat(root/'labels'/'0003.mat')['bbox'][:-1])
    r = evaluate()
    assert r.code==0 and re.search(r'0003.*box', r.out)


# --- models that are not there or of something else

def test_no_such_model(evaluate, tmp_path):
    refused(evaluate(model=tmp_path/'none.safetensors'), tmp_path/'none.safetensors', '--model')
    assert nothing_written(tmp_path/'out')

def test_a_card_of_another_size(evaluate, model, tmp_path):
    p = Path(shutil.copy(model, tmp_path/'m.safetensors'))
    refused(evaluate(model=p), tmp_path/'m.json', 'card')
    card = read_card(model)
    card['config']['width'] *= 2
    del card['sha256'], card['seal']   # a card of an earlier version: it has none
    p.with_suffix('.json').write_text(json.dumps(card))
    refused(evaluate(model=p), p, 'size')
    p.with_suffix('.json').write_text('{')
    refused(evaluate(model=p), tmp_path/'m.json')
    assert nothing_written(tmp_path/'out')

def test_truncated_weights(evaluate, model, tmp_path):
    shutil.copy(model.with_suffix('.json'), tmp_path/'m.json')
    (tmp_path/'m.safetensors').write_bytes(model.read_bytes()[:5000])
    refused(evaluate(model=tmp_path/'m.safetensors'), tmp_path/'m.safetensors', 'copy it again')
    assert nothing_written(tmp_path/'out')

def test_another_skeleton(evaluate, tmp_path):
    "Joints of the same name are compared; where there are none, nothing can be."
    save_model(tiny_model(skeleton=Skeleton('tail', ('root', 'tip'))), tmp_path/'t.safetensors')
    refused(evaluate(model=tmp_path/'t.safetensors'), 'tail', 'root, tip', 'left_wrist')
    assert nothing_written(tmp_path/'out')
    save_model(tiny_model(skeleton=H36M16), tmp_path/'h.safetensors')
    assert evaluate(model=tmp_path/'h.safetensors').code==0
    (row,) = json.loads((tmp_path/'out'/'results.json').read_text())['rows']
    assert {j for j,v in row['pck_per_joint'].items() if v is not None}=={*H36M16.joints} & {*PENN13.joints}

@pytest.mark.parametrize('command', ['demo', 'evaluate'])
def test_the_model_is_loaded_before_people_are_drawn(ttp, command, tmp_path, monkeypatch):
    "Drawing takes minutes; a wrong name should not."
    no_drawing(monkeypatch)
    refused(ttp(command, '--model', tmp_path/'none.safetensors', '--out', tmp_path/'out'), tmp_path/'none.safetensors')

def test_a_baseline_is_evaluated_before_only(evaluate, tmp_path):
    save_model(tiny_model('baseline'), tmp_path/'b.safetensors')
    r = evaluate(model=tmp_path/'b.safetensors', mode='all')
    assert r.code==0
    assert [x['scenario'] for x in json.loads((tmp_path/'out'/'results.json').read_text())['rows']]==['before']


# --- nowhere to write, no such device

@pytest.mark.parametrize('command', COMMANDS)
def test_unwritable_folders(ttp, command, root, model, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_runs, 'filed_people', no_drawing(monkeypatch))
    (tmp_path/'file').write_text('x')
    for out in ('/dev/null/x', tmp_path/'file', tmp_path/'file'/'x'):
        args = {'demo': ['--out', out, '--model', model], 'synth': ['--root', out, '--people', 1, '--test-people', 1],
                'train': ['joint', '--root', root, '--out', out], 'reproduce': ['--root', root, '--out', out],
                'evaluate': ['--root', root, '--out', out, '--model', model]}[command]
        assert 'folder' in refused(ttp(command, *args), out, 'cannot be written')
    assert (tmp_path/'file').read_text()=='x'

def test_checking_a_folder_leaves_nothing(tmp_path):
    (tmp_path/'has').mkdir(); (tmp_path/'has'/'it.txt').write_text('x')
    check_folder(tmp_path/'has'); check_folder(tmp_path/'new')
    assert [p.name for p in (tmp_path/'has').iterdir()]==['it.txt'] and not (tmp_path/'new').exists()

@pytest.mark.parametrize('device', ['warp9', 'cpu:x', '', *([] if torch.cuda.is_available() else ['cuda', 'cuda:1']),
                                    *([] if torch.backends.mps.is_available() else ['mps'])])
def test_unknown_devices(ttp, evaluate, root, model, device, tmp_path):
    refused(evaluate(device=device), '--device', device, 'cpu')
    refused(ttp('train', 'joint', '--root', root, '--out', tmp_path/'run', '--device', device), '--device', 'cpu')
    refused(ttp('demo', '--out', tmp_path/'demo', '--model', model, '--device', device), '--device', 'cpu')
    assert not (tmp_path/'out').exists() and not (tmp_path/'run').exists() and not (tmp_path/'demo').exists()

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_that_is_not_there(evaluate): refused(evaluate(device='cuda:99'), 'cuda:99', 'cpu')

def test_a_folder_in_use(ttp, root, tmp_path, monkeypatch):
    (tmp_path/'run').mkdir(); (tmp_path/'run'/'state.pt').write_bytes(b'x')
    refused(ttp('train', 'joint', '--data', 'penn', '--root', root, '--out', tmp_path/'run', '--steps', 1),
            tmp_path/'run', '--resume')
    refused(ttp('train', 'joint', '--data', 'penn', '--root', root, '--out', tmp_path/'run', '--steps', 1, '--resume'),
            tmp_path/'run'/'state.pt')
    no_drawing(monkeypatch)
    refused(ttp('train', 'joint', '--out', tmp_path/'run'), tmp_path/'run', '--resume')
    assert [p.name for p in (tmp_path/'run').iterdir()]==['state.pt']

def test_synth_does_not_mix_with_other_videos(ttp, root):
    shutil.copy(root/'labels'/'0003.mat', root/'labels'/'0999.mat')
    before = sorted(p.name for p in root.rglob('*'))
    refused(ttp('synth', '--root', root, '--people', 1, '--test-people', 1), root, 'other videos')
    assert sorted(p.name for p in root.rglob('*'))==before

def test_an_interrupt_is_a_line(ttp, model, tmp_path, monkeypatch):
    def stop(*a, **k): raise KeyboardInterrupt
    no_drawing(monkeypatch, stop)
    r = ttp('evaluate', '--model', model, '--out', tmp_path/'out')
    assert r.code==130 and len(messages(r.err))==1 and r.err.startswith('ttp: interrupted')


# --- what works

def test_modes(evaluate, tmp_path):
    for mode,rows in (('before', ['before']), ('online', ['before', 'online']), ('offline', ['before', 'offline']),
                      ('all', ['before', 'online', 'offline'])):
        r = evaluate(mode=mode, out=tmp_path/mode, seed=3)
        assert r.code==0 and not messages(r.err)
        result = json.loads((tmp_path/mode/'results.json').read_text())
        assert [x['scenario'] for x in result['rows']]==rows and {'rows', 'seed', 'model', 'data'}<=result.keys()
        assert result['seed']==3 and result['model']=='m.safetensors' and result['data']=='penn'
        assert result['absent']==[]
        for x in result['rows']: assert f"| {x['scenario']} | 2 | 7 | {x['pck']:.2f} |" in r.out
        saved = np.load(tmp_path/mode/'predictions'/'0003.npz')
        assert set(saved)=={f'{s}_{k}' for s in rows for k in ('kp', 'conf')}

def test_drawn_people_are_the_test_people(ttp, model, tmp_path):
    r = ttp('evaluate', '--mode', 'before', '--clips', 2, '--seed', 1, '--model', model, '--out', tmp_path/'out',
            '--workers', 1)
    result = json.loads((tmp_path/'out'/'results.json').read_text())
    assert r.code==0 and result['data']=='synthetic'
    assert [c['name'] for c in result['per_clip']]==['test_0000', 'test_0001']

def test_the_demo(ttp, model, tmp_path, monkeypatch):
    "With short clips and an untrained model: all that it promises is there."
    asked = []
    def drawn(n, split, seed=0):
        asked.append((split, n, seed))
        return [person(i, 'test', 3) for i in range(n)]
    no_drawing(monkeypatch, drawn)
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    r = ttp('demo', '--clips', 2, '--seed', 5, '--model', model, '--out', tmp_path/'demo', '--workers', 1)
    assert r.code==0 and not messages(r.err) and asked==[('test', 2, 5)] and not leftovers(tmp_path)
    assert sorted(p.name for p in (tmp_path/'demo').iterdir())==['before_after.mp4', 'demo.png', 'predictions',
                                                                 'results.json']
    result = json.loads((tmp_path/'demo'/'results.json').read_text())
    assert [x['scenario'] for x in result['rows']]==['before', 'online', 'offline'] and result['seed']==5
    assert len(open_frames(tmp_path/'demo'/'before_after.mp4'))==3
    assert len(cv2.imread(str(tmp_path/'demo'/'demo.png')))>100
    for x in ('demo.png', 'before_after.mp4', 'results.json', 'make lab'): assert x in r.out
    assert 'ttp demo --data jhmdb --root' in r.out and '49_real_people' in r.out

def test_a_demo_on_filed_people(ttp, root, model, tmp_path, monkeypatch):
    "Clips of different lengths; no more than were asked for."
    no_drawing(monkeypatch)
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    for n in (2, 1):
        r = ttp('demo', '--data', 'penn', '--root', root, '--clips', n, '--model', model, '--out', tmp_path/f'{n}',
                '--workers', 1)
        assert r.code==0 and not messages(r.err) and 'make lab' in r.out and 'are drawn' not in r.out
        result = json.loads((tmp_path/f'{n}'/'results.json').read_text())
        assert result['data']=='penn' and [c['name'] for c in result['per_clip']]==['0003', '0004'][:n]
        assert len(cv2.imread(str(tmp_path/f'{n}'/'demo.png')))>100

def test_some_clips_take_the_actions_in_turn(evaluate, tmp_path):
    root = write_penn([noise_clip(f'c{i}', 2, i) for i in range(5)], tmp_path/'five', [False]*5)
    for n,action in (('0001', 'run'), ('0002', 'run'), ('0003', 'run'), ('0004', 'sit'), ('0005', 'sit')):
        relabel(root, n, action=action)
    for n,names in ((None, '12345'), (3, '142'), (9, '14253')):
        assert evaluate(root=root, clips=n).code==0
        result = json.loads((tmp_path/'out'/'results.json').read_text())
        assert ''.join(c['name'][-1] for c in result['per_clip'])==names

def test_a_demo_without_a_model_uses_the_one_that_comes_along(ttp, tmp_path, monkeypatch):
    for m in (basics, recipe_runs): monkeypatch.setattr(m, 'shipped', lambda name: tmp_path/f'{name}.safetensors')
    no_drawing(monkeypatch)
    for command in ('demo', 'evaluate'):
        refused(ttp(command, '--out', tmp_path/'out'), tmp_path/'small_joint.safetensors')

def test_stop_is_an_error():
    with pytest.raises(TTPError, match='what is wrong'): cli.stop('what is wrong')

def test_from_drawing_to_evaluating(ttp, tmp_path, monkeypatch):
    "The three commands one after the other, with tiny numbers; the last in a process of its own, as a user starts it."
    monkeypatch.chdir(tmp_path)
    def run(*args):
        r = ttp(*args)
        assert r.code==0 and not messages(r.err), r.err[-1500:]
        return r.out
    run('synth', '--root', 'people', '--people', 2, '--test-people', 1)
    assert sorted(p.name for p in (tmp_path/'people'/'labels').iterdir())==['0001.mat', '0002.mat', '0003.mat']
    assert len(list((tmp_path/'people'/'frames'/'0003').iterdir()))==36 and not leftovers(tmp_path)
    said = run('train', 'joint', '--data', 'synthetic', '--root', 'people', '--steps', 3, '--out', 'run')
    assert 'run/best.safetensors' in said and not leftovers(tmp_path)
    card = read_card(tmp_path/'run'/'best.safetensors')
    assert card['step']==3 and card['command']=='ttp train joint --data synthetic --root people --steps 3 --out run'
    assert card['data']=='synthetic'
    assert (card['training_people'], card['validation_people'])==(1, 1)
    assert load_model(tmp_path/'run'/'best.safetensors').cfg.size==(64,64)
    code = 'import sys; from ttp_nb.cli import main; sys.exit(main())'
    args = 'evaluate --data synthetic --root people --model run/best.safetensors --out result --mode offline'
    r = subprocess.run([sys.executable, '-c', code, *args.split(), '--workers', '1'], capture_output=True, text=True,
                       env=os.environ | {'OMP_NUM_THREADS': '1'})
    assert r.returncode==0 and not messages(r.stderr), r.stderr[-1500:]
    said = r.stdout
    result = json.loads((tmp_path/'result'/'results.json').read_text())
    assert [r['scenario'] for r in result['rows']]==['before', 'offline'] and result['rows'][0]['frames']==36
    assert '| before | 1 | 36 |' in said
    assert result['data']=='synthetic' and np.isfinite([r['pck'] for r in result['rows']]).all()
    assert not leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir())==['people', 'result', 'run']

@needs_real
def test_real_people(ttp, model, tmp_path):
    "The six videos of Penn Action that are at hand; the other 1062 test videos are named."
    r = ttp('evaluate', '--data', 'penn', '--root', REAL, '--mode', 'before', '--model', model, '--out', tmp_path,
            '--workers', 1)
    assert r.code==0 and not messages(r.err)
    result = json.loads((tmp_path/'results.json').read_text())
    names = sorted(p.name for p in (REAL/'frames').iterdir() if p.name.isdecimal())
    assert names==[c['name'] for c in result['per_clip']] and len(result['absent'])==1068-len(names)
    assert f"{len(result['absent'])} of 1068 test videos" in r.out
    (row,) = result['rows']
    assert row['clips']==len(names) and 0<=row['pck']<=100 and all(0<=v<=100 for v in row['pck_per_joint'].values())
    for n in names:
        a = np.load(tmp_path/'predictions'/f'{n}.npz')
        assert np.isfinite(a['before_kp']).all() and a['before_kp'].shape[1:]==(13,2)
        assert np.isfinite(a['before_conf']).all()
    assert sum(len(np.load(p)['before_kp']) for p in (tmp_path/'predictions').iterdir())==row['frames']


@needs_jhmdb
def test_real_people_of_jhmdb(ttp, tmp_path):
    "The network that comes along for them, on two frames of six clips."
    r = ttp('evaluate', '--data', 'jhmdb', '--root', JHMDB, '--mode', 'before', '--clips', 6, '--out', tmp_path/'e',
            '--workers', 1, 'data.first', 2)
    assert r.code==0 and not messages(r.err) and 'people_joint' in r.out
    result = json.loads((tmp_path/'e'/'results.json').read_text())
    assert len({c['action'] for c in result['per_clip']})==6 and result['rows'][0]['frames']==12
    assert result['rows'][0]['pck']>50


# --- your own video

@pytest.fixture(scope='module')
def videos(tmp_path_factory, model):
    "A short video, files that are none, a video that is cut short, and a profile of another network."
    d = tmp_path_factory.mktemp('videos')
    frames = noise_clip(T=14, size=(80,64)).frames
    data = write_mp4(d/'a.mp4', frames).read_bytes()
    with av.open(str(d/'cut.avi'), 'w') as c: # mjpeg has its index at the end, and no need of it
        s = c.add_stream('mjpeg', rate=25)
        s.width,s.height,s.pix_fmt = 80,64,'yuvj420p'
        for a in frames:
            for p in s.encode(av.VideoFrame.from_ndarray(a, format='rgb24').reformat(format='yuvj420p')): c.mux(p)
        for p in s.encode(): c.mux(p)
    (d/'cut.avi').write_bytes((d/'cut.avi').read_bytes()[:-9000])
    (d/'text.mp4').write_text('This is a text.\n'); (d/'empty.mp4').write_bytes(b''); (d/'nothing').mkdir()
    (d/'half.mp4').write_bytes(data[:len(data)//3])
    save_profile(d/'p.safetensors', tiny_model(seed=5), tiny_model(seed=5))
    save_model(tiny_model('baseline'), d/'b.safetensors')
    return d

@pytest.fixture
def own(ttp, videos, model, tmp_path, monkeypatch):
    "`ttp personalize` of a video, with the report left out."
    from ttp_nb import your_video
    def run(*args, video='a.mp4', report=False, **options):
        if not report: monkeypatch.setattr(your_video, 'write_report', lambda r, s, f, path, raw: path.write_text('x'))
        o = {'model': model, 'box': '15,8,60,52', 'out': tmp_path/'out', 'mode': 'none'} | options
        given = [x for k,v in o.items() if v is not None for x in (f'--{k}', v)]
        return ttp('personalize', videos/video, *given, *args, 'personalization.batch', 3)
    return run

def unusable(said, *names):
    "One line on stderr that names these and ends with exit code 3."
    assert said.code==3, f'exit code {said.code}; {said.err[-800:]}'
    (line,) = messages(said.err)
    assert line.startswith('ttp: ') and 'Traceback' not in said.err and all(str(n) in line for n in names), line

@pytest.mark.parametrize('args', [['--help'], ['personalize', '--help']], ids=len)
def test_exit_codes_are_documented(ttp, args, monkeypatch):
    monkeypatch.setenv('COLUMNS', '100')
    said = ttp(*args).out
    for code in (0, 1, 2, 3, 4, 130, 143): assert re.search(rf'^  {code} +\w', said, re.M), code

def test_probe(ttp, videos):
    r = ttp('probe', videos/'a.mp4')
    assert r.code==0 and not r.err and '80x64' in r.out and re.search(r'frames +14', r.out)
    r = ttp('probe', videos/'cut.avi')
    assert r.code==0 and 'trouble' in r.out and 'cut short' in r.out
    for name in ('none.mp4', 'text.mp4', 'empty.mp4', 'half.mp4', 'nothing'): unusable(ttp('probe', videos/name), name)

@pytest.mark.parametrize('args', [['personalize'], ['personalize', 'a.mp4', '--colour', 'red'], ['probe'],
    ['personalize', 'a.mp4', '--mode', 'sideways'], ['personalize', 'a.mp4', '--joints', 'mpii'],
    ['personalize', 'a.mp4', '--seed', '1.5'],
    ['probe', 'a.mp4', 'b.mp4']], ids=' '.join)
def test_wrong_usage_of_them(ttp, args):
    r = ttp(*args)
    assert r.code==2 and r.err.startswith('usage:') and 'error:' in r.err and 'Traceback' not in r.err

@pytest.mark.parametrize('mode', ['offline', 'online', 'none'])
def test_a_video_is_answered(own, tmp_path, mode):
    r = own('--filter', 'savgol:4', mode=mode, export='coco, npz')
    assert r.code in (0, 4) and not messages(r.err) and f'{tmp_path}/out/overlay.mp4' in r.out and '14 frames' in r.out
    assert {'coco.json', 'keypoints.json', 'keypoints.npz', 'overlay.mp4', 'report.html'} <= {
        p.name for p in (tmp_path/'out').iterdir()} and not leftovers(tmp_path)
    was = (tmp_path/'out'/'keypoints.json').read_bytes()
    again = own('--filter', 'savgol:4', '--resume', mode=mode, export='coco, npz')
    assert again.code==r.code and 'is complete already' in again.out
    assert (tmp_path/'out'/'keypoints.json').read_bytes()==was

def test_joints_for_measuring(own, tmp_path):
    r = own('--resume', fill=.1, filter=3, height=1.75, export='angles')
    assert r.code==0 and not messages(r.err)
    assert len(re.findall('^mended, with gaps of up to 0.1 seconds', r.out, re.M))==1
    result, page = read_keypoints(tmp_path/'out'/'keypoints.json'), tmp_path/'out'/'angles.csv'
    assert result.about['smoothing'].startswith('Butterworth') and result.flags is not None and page.is_file()
    again = own('--resume', fill=.1, filter='butterworth:3.0', height=1.75, export='angles')
    assert again.code==0 and 'is complete already' in again.out
    refused(own('--resume', fill=.1, height=1.75), 'another --out')

@pytest.mark.parametrize('box,says', [('1,2,3', 'three numbers|3 numbers'), ('5,5,5,5', 'x0 < x1'),
    ('60,8,15,52', 'x0 < x1'), ('500,500,600,600', 'outside of the frame'), ('nan,1,2,3', ''),
    ('none.csv', 'none.csv'), ('here', 'four numbers'),
    ('.1,.1,.9,.9', 'fractions')], ids=str)
def test_boxes_that_are_none(own, tmp_path, box, says):
    r = own(box=box)
    assert re.search(says, refused(r, *([box] if says!='none.csv' else []))), r.err
    assert not (tmp_path/'out'/'keypoints.json').exists()

@pytest.mark.parametrize('change,names', [
    (dict(model='none.safetensors'), ['none.safetensors', '--model']),
    (dict(profile='none.safetensors'), ['no such profile']),
    (dict(profile='p.safetensors'), ['p.safetensors', 'another network']), (dict(export='c3d'), ['c3d', 'coco']),
    (dict(filter='mean:3'), ['cut-off in Hz', 'mean:3']), (dict(filter=13), ['--filter', '26 frames a second']),
    (dict(fill=-1), ['fill -1']), (dict(height=175), ['height 175', 'metres']), (dict(export='trc'), ['--height 1.75']),
    (dict(device='warp9'), ['warp9']), (dict(seed=-1), ['--seed']),
    (dict(model='b.safetensors', mode='offline'), ['joint model']),
    (dict(model='b.safetensors', mode='online'), ['--mode none']),
    (dict(joints='coco17'), ['m.safetensors', 'penn13', 'coco17', '--joints all'])],
    ids=lambda c: ' '.join(map(str, c.values())) if isinstance(c, dict) else '')
def test_what_does_not_fit(own, videos, tmp_path, change, names):
    refused(own(**{k: videos/v if k in ('model', 'profile') else v for k,v in change.items()}), *names)
    assert not list((tmp_path/'out').glob('*'))

@pytest.mark.parametrize('args,says', [
    ('training.lr 1e-3', 'training.lr: only settings of personalization'), ('TRAIN.LR 1', 'only settings'),
    ('personalization.lr', 'no value'), ('personalization.speed 9', 'personalization.speed'),
    ('personalization.lr -1', 'at least 0'), ('personalization.batch 0', 'at least 1'),
    ('personalization.epochs nan', 'a number'), ('personalization.lr fast', 'a number')])
def test_settings_that_are_none(ttp, videos, model, tmp_path, args, says):
    r = ttp('personalize', videos/'a.mp4', '--model', model, '--box', 'frame', '--out', tmp_path/'out', *args.split())
    assert says in refused(r) and nothing_written(tmp_path/'out')

@pytest.mark.parametrize('video', ['none.mp4', 'text.mp4', 'empty.mp4', 'half.mp4', 'nothing'])
def test_videos_that_are_none(own, tmp_path, video):
    unusable(own(video=video), video)
    assert nothing_written(tmp_path/'out')

def test_a_video_that_is_cut_short(own, tmp_path):
    unusable(own('--strict', video='cut.avi'), 'cut.avi', 'cut short')
    r = own(video='cut.avi')
    assert r.code==0 and 'cut short' in r.out
    assert 0<len(json.loads((tmp_path/'out'/'keypoints.json').read_text())['frames'])<14

def test_nobody_is_there(own, monkeypatch, tmp_path):
    monkeypatch.setattr(person_module, 'people_detector', lambda: lambda frame: np.zeros((0,5)))
    unusable(own(box=None), 'nobody', '--box')
    assert not (tmp_path/'out'/'keypoints.json').exists()

def test_the_detector_cannot_be_had(own, monkeypatch, tmp_path):
    def absent(): raise TTPError('movenet_lightning.safetensors is not there.')
    monkeypatch.setattr(person_module, 'ready_estimator', absent)
    unusable(own(box=None), 'ready estimator', 'not there', '--box')

def test_somebody_is_found(own, monkeypatch, tmp_path):
    found = np.array([[15, 8, 60, 52, .9]])
    monkeypatch.setattr(person_module, 'people_detector', lambda: lambda frame: found)
    r = own(box=None)
    assert r.code==0 and 'one person' in r.out
    written = json.loads((tmp_path/'out'/'keypoints.json').read_text())
    assert np.allclose([f['box'] for f in written['frames']], found[:,:4])

@pytest.mark.parametrize('mode', ['offline', 'online'])
def test_a_network_that_ran_away(own, tmp_path, mode):
    "With the real report: it must cope with losses that are no numbers."
    r = own('personalization.lr', '1e3', mode=mode, report=True)
    assert r.code==4 and 'Nothing was adapted: ' in r.out and not messages(r.err)
    written = json.loads((tmp_path/'out'/'keypoints.json').read_text(), parse_constant=lambda word: 1/0)
    assert written['guard']['why'] and all(f['keypoints']==f['before'] for f in written['frames'])
    assert 'Returned unadapted' in (tmp_path/'out'/'report.html').read_text('utf-8')
    assert own('personalization.lr', '1e3', '--resume', mode=mode, report=True).code==4, 'finished, and still 4'

def test_a_launchers_mixed_precision(monkeypatch):
    args = cli.parse(['train', 'joint', '--steps', '5'])
    args.what = []
    for said,half in ((None, False), ('no', False), ('bf16', True)):
        if said: monkeypatch.setenv('ACCELERATE_MIXED_PRECISION', said)
        assert cli.recipe_of(args).training.bfloat16 is half
    monkeypatch.setenv('ACCELERATE_MIXED_PRECISION', 'fp16')
    with pytest.raises(TTPError, match="not 'fp16'"): cli.recipe_of(args)

@pytest.mark.parametrize('mode', ['offline', 'online'])
def test_fast(own, tmp_path, mode):
    assert own('--fast', mode=mode).code in (0, 4)
    written = json.loads((tmp_path/'out'/'keypoints.json').read_text())
    assert written['settings']['learn_every']==4 and written['frames'][-1]['keypoints']
    assert own('--fast', 'personalization.learn_every', 2, out=tmp_path/'two').code in (0, 4)
    assert json.loads((tmp_path/'two'/'keypoints.json').read_text())['settings']['learn_every']==2

def test_interrupted(own, monkeypatch, tmp_path):
    from ttp_nb import your_video
    def interrupted(*a): raise KeyboardInterrupt
    monkeypatch.setattr(your_video.Ledger, 'add', interrupted)
    r = own()
    assert r.code==130 and messages(r.err)==['ttp: interrupted; what was done is saved.']

def test_another_job_is_refused(own, monkeypatch, tmp_path):
    from ttp_nb import your_video
    def interrupted(*a): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(your_video.Ledger, 'add', interrupted)
        assert own().code==130
    refused(own('--resume', box='frame'), tmp_path/'out', 'another --out', 'leave out --resume')
    assert own('--resume').code==0 and own(box='frame').code==0

def test_where_results_go(ttp, videos, model, tmp_path, monkeypatch):
    from ttp_nb import your_video
    monkeypatch.setattr(your_video, 'write_report', lambda r, s, f, path, raw: path.write_text('x'))
    monkeypatch.chdir(tmp_path)
    assert ttp('personalize', videos/'a.mp4', '--model', model, '--box', 'frame', '--mode', 'none').code==0
    assert (tmp_path/'output'/'a'/'keypoints.json').is_file() and [p.name for p in tmp_path.iterdir()]==['output']
    (tmp_path/'file').write_text('x')
    r = ttp('personalize', videos/'a.mp4', '--model', model, '--out', tmp_path/'file')
    assert 'folder' in refused(r, tmp_path/'file', 'cannot be written')


# --- frames that could not be read, names, boxes that begin with a minus

def test_frames_keep_their_numbers_and_names(own, videos, tmp_path):
    "One image of a folder is broken: boxes, joints and exports of the others are those of their number and name."
    folder = tmp_path/'frames'
    folder.mkdir()
    for t,img in enumerate(noise_clip(T=14, size=(80,64)).frames): cv2.imwrite(str(folder/f'{t:04d}.png'), img)
    (folder/'0005.png').write_bytes((folder/'0005.png').read_bytes()[:99])
    rows = [(t, 10+t, 8, 60+t, 52) for t in range(14)]
    (tmp_path/'b.csv').write_text('frame;x0;y0;x1;y1;;\r\n'+''.join(';'.join(map(str, row))+';;\r\n' for row in rows))
    r = own(video=folder, box=tmp_path/'b.csv', export='coco,openpose,dlc,npz')
    assert r.code==0 and not messages(r.err) and '1 box passed over' in r.out
    kept = [t for t in range(14) if t!=5]
    frames = json.loads((tmp_path/'out'/'keypoints.json').read_text())['frames']
    assert [f['index'] for f in frames]==kept and [f['name'] for f in frames]==[f'{t:04d}.png' for t in kept]
    assert [f['box'][0] for f in frames]==[10+t for t in kept]
    coco = json.loads((tmp_path/'out'/'coco.json').read_text())
    assert [(c['image_id'], c['file_name'], c['bbox'][0]) for c in coco]==[(t, f'{t:04d}.png', 10+t) for t in kept]
    pose = sorted((tmp_path/'out'/'openpose').iterdir())
    assert [int(p.name.split('_')[1]) for p in pose]==kept
    assert [json.loads(p.read_text())['file_name'] for p in pose]==[f'{t:04d}.png' for t in kept]

def test_a_videos_frames_have_numbers_only(own, tmp_path):
    assert own(export='coco').code==0
    assert 'name' not in json.loads((tmp_path/'out'/'keypoints.json').read_text())['frames'][0]
    assert 'file_name' not in (tmp_path/'out'/'coco.json').read_text()

def test_a_box_that_begins_beyond_the_edge(own, tmp_path):
    r = own(box='-10,8,60,52')
    assert r.code==0 and not messages(r.err)
    assert json.loads((tmp_path/'out'/'keypoints.json').read_text())['frames'][0]['box']==[-10,8,60,52]

@pytest.mark.parametrize('words', ['personalization.lr -1e-3 personalization.batch 2', '-1 -2,3 a', '-x.mp4 -.5'])
def test_words_with_one_dash_are_values_in_their_order(words):
    for before in ([], ['--strict']):
        assert cli.parse(['personalize', *before, '-my.mp4', '--box', '-1,2,3,4', *words.split()]).what==words.split()

@pytest.mark.skipif(os.name=='nt', reason='there, no file name has a colon')
def test_colons_in_names(ttp, videos, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(videos/'a.mp4', '2024-05-01T12:30:00.mp4')
    args = '--model', model, '--box', '15,8,60,52', '--mode', 'none', '--export', 'openpose'
    for out in (['--out', '12:30'], []):
        r = ttp('personalize', tmp_path/'2024-05-01T12:30:00.mp4', *args, *out)
        assert r.code==0 and not messages(r.err)
        folder = Path(out[1] if out else 'output/2024-05-01T12:30:00')
        assert len(open_frames((folder/'overlay.mp4').resolve()))==14
        assert (folder/'openpose'/'2024-05-01T12_30_00_000000000000_keypoints.json').is_file()

@pytest.mark.parametrize('way', ['thesis', 'openpose is a file', 'coco.json', 'overlay.mp4', 'no encoder'])
def test_writers_are_tried_before_the_work(own, tmp_path, monkeypatch, way):
    from ttp_nb import your_video
    out = tmp_path/'out'
    out.mkdir()
    if way=='thesis': (out/'openpose').mkdir(); (out/'openpose'/'thesis.txt').write_text('years')
    elif way=='openpose is a file': (out/'openpose').write_text('mine')
    elif way=='no encoder':
        def none(*args, **options): raise TTPError(f'{out}/overlay.mp4: cannot be written (no encoder).')
        monkeypatch.setattr('ttp_nb.report.write_mp4', none)
    else: (out/way).mkdir()
    before = sorted(out.rglob('*'))
    monkeypatch.setattr(your_video, 'load_networks', no_drawing(monkeypatch))
    says = {'thesis': 'thesis.txt', 'openpose is a file': 'openpose is no folder'}.get(way, way)
    refused(own(export='openpose,coco'), out, says)
    assert sorted(out.rglob('*'))==before


# --- parts, several videos, a click, a sheet

def indices(out): return [f['index'] for f in json.loads((out/'keypoints.json').read_text())['frames']]

@pytest.mark.parametrize('args,want', [('--from 0.2 --to 0.4', [5,6,7,8,9]), ('--from 5f --to 10f', [5,6,7,8,9]),
                                       ('--from 0:00.5', [13]), ('--to 2f', [0,1])])
def test_a_part(own, tmp_path, args, want):
    r = own(*args.split(), '--slowmo', 4)
    assert r.code==0 and indices(tmp_path/'out')==want and f'frames {want[0]} to {want[-1]} of 0 to 13' in r.out
    frames = json.loads((tmp_path/'out'/'keypoints.json').read_text())['frames']
    assert np.allclose([f['time'] for f in frames], np.array(want)/100, atol=1e-3) and 'recorded at 4 times' in r.out

@pytest.mark.parametrize('args,says', [
    ('--from soon', 'is no moment'), ('--from 1,5', 'is no moment'), ('--to -1', 'is no moment'),
    ('--from 9', 'no frame lies in the part from 9s'), ('--from 7f --to 7f', '0f to 13f'), ('--slowmo 0', 'slowmo 0'),
    ('--fps 0', 'fps 0'), ('--ask', '--ask and --box')])
def test_parts_that_are_none(own, tmp_path, args, says):
    assert says in refused(own(*args.split())) and nothing_written(tmp_path/'out')

@pytest.fixture
def many(ttp, videos, model, tmp_path, monkeypatch):
    "`ttp personalize` of several videos, with the report left out, from a folder that has them."
    from ttp_nb import your_video
    monkeypatch.setattr(your_video, 'write_report', lambda r, s, f, path, raw: path.write_text('x'))
    monkeypatch.chdir(tmp_path)
    shutil.copy(videos/'a.mp4', tmp_path/'a.mp4'); shutil.copy(videos/'text.mp4', tmp_path/'text.mp4')
    write_mp4(tmp_path/'b.mp4', noise_clip(T=6, seed=3, size=(80,64)).frames)
    def run(*words, **options):
        o = {'model': model, 'box': '15,8,60,52', 'out': 'results', 'mode': 'none'} | options
        return ttp('personalize', *[x for k,v in o.items() if v is not None for x in (f'--{k}', v)], *words)
    return run

def table(said): return [re.split(r'  +', line) for line in said.out.split('\nvideo ')[1].splitlines()]

def test_several_videos_one_of_which_is_none(many, tmp_path):
    r = many('a.mp4', 'personalization.batch', 3, 'text.mp4', 'none.mp4', 'b.mp4')
    assert r.code==3 and [line.split(':')[1].strip() for line in messages(r.err)]==['text.mp4', 'none.mp4']
    _,a,text,none,b,*_ = table(r)
    assert a==['a.mp4', '14', 'amber: answered, as it is', os.path.join('results', 'a')]
    assert b[1]=='6' and b[3]==os.path.join('results', 'b')
    assert text[1]=='-' and text[2].startswith('failed: ') and none[2].startswith('failed: there is no such file')
    assert '2 of 4 were not answered' in r.out and not leftovers(tmp_path)
    assert sorted(p.parent.name for p in tmp_path.rglob('keypoints.json'))==['a', 'b']
    was = (tmp_path/'results'/'a'/'keypoints.json').stat().st_mtime_ns
    write_mp4(tmp_path/'text.mp4', noise_clip(T=5, size=(80,64)).frames)
    r = many('a.mp4', 'personalization.batch', 3, 'text.mp4', 'b.mp4', '--resume')
    assert r.code==0 and r.out.count('is complete already')==2 and [row[1] for row in table(r)[1:]]==['14', '5', '6']
    assert (tmp_path/'results'/'a'/'keypoints.json').stat().st_mtime_ns==was and 'not answered' not in r.out

def test_several_videos_interrupted_go_on(many, tmp_path, monkeypatch):
    from ttp_nb import your_video
    add, calls = your_video.Ledger.add, []
    def interrupted(*a):
        calls.append(0)
        if len(calls)==2: raise KeyboardInterrupt
        return add(*a)
    with monkeypatch.context() as m:
        m.setattr(your_video.Ledger, 'add', interrupted)
        assert many('a.mp4', 'b.mp4').code==130
    r = many('a.mp4', 'b.mp4', '--resume')
    assert r.code==0 and r.out.count('is complete already')==1 and [row[1] for row in table(r)[1:]]==['14', '6']

def test_a_profile_of_one_for_the_others(many, tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr('ttp_nb.guard.got_worse', lambda *_: '')
        assert many('a.mp4', 'personalization.batch', 3, mode='offline', out='first').code==0
    r = many('a.mp4', 'b.mp4', profile='first/profile.safetensors')
    assert r.code==0
    for name in 'ab':
        about = json.loads((tmp_path/'results'/name/'keypoints.json').read_text())
        assert about['start']!=about['checksum'] and about['profile']=='first/profile.safetensors'

def test_the_guard_and_a_mistake_of_ours_among_several(many, monkeypatch):
    from ttp_nb import your_video
    r = many('a.mp4', 'b.mp4', 'personalization.lr', '1e3', 'personalization.batch', 3, mode='offline')
    assert r.code==4 and all(row[2].startswith('amber: not adapted: ') for row in table(r)[1:3])
    answer = your_video.answer_video
    def mistaken(job, *a):
        if str(job.source)=='a.mp4': raise ZeroDivisionError('half a frame')
        return answer(job, *a)
    monkeypatch.setattr(your_video, 'answer_video', mistaken)
    r = many('a.mp4', 'b.mp4', out='other')
    assert r.code==1 and 'ZeroDivisionError: half a frame' in r.err and table(r)[1][2]=='failed: ZeroDivisionError'
    assert table(r)[2][1]=='6'

@pytest.mark.parametrize('args,says', [
    (['a.mp4', 'personalisation.lr', '1e-3'], "'personalisation.lr' is neither a video that is there nor a setting"),
    (['a.mp4', 'b.mp4', '1e-3'], "'1e-3' is neither"), (['a.mp4', 'b.mp4', 'a.mp4'], 'the same'),
    (['personalization.lr', '1e-3'], 'no video is given'), (['a.mp4', '-'], 'answered alone'),
    (['a.mp4', 'b.mp4', '--export', 'c3d'], 'no export'),
    (['a.mp4', 'b.mp4', '--model', 'none.safetensors'], 'none.safetensors'),
    (['a.mp4', 'b.mp4', 'training.lr', '1'], 'only settings'),
    (['a.mp4', 'b.mp4', 'personalization.lr'], 'no value'),
    (['a.mp4', 'b.mp4', '--profile', 'none'], 'no such profile')],
    ids=lambda a: ' '.join(a) if isinstance(a, list) else '')
def test_what_is_wrong_for_all_is_said_once_and_first(many, tmp_path, args, says):
    assert says in refused(many(*args)) and nothing_written(tmp_path/'results')

def test_words_that_are_videos_or_settings(tmp_path, monkeypatch):
    from ttp_nb import recipe_files
    from dataclasses import fields, is_dataclass
    ours = {f.name for f in fields(recipes.Recipe) if is_dataclass(getattr(recipes.Recipe(), f.name))}
    assert {*cli.SECTIONS}==ours|{k.split('.')[0] for k in recipe_files.OFFICIAL_KEYS if '.' in k}
    monkeypatch.chdir(tmp_path)
    (tmp_path/'personalization.mp4').write_text('x'); (tmp_path/'TEST').mkdir(); (tmp_path/'1e-3').mkdir()
    words = 'personalization.mp4 GOPR01.MP4 TEST personalization.lr 1e-3 TEST.MODEL_FILE x.mp4'.split()
    assert cli.videos_and_settings(words)==(words[:3], words[3:])

@pytest.mark.parametrize('videos,names', [('a.mp4', 'a'), ('a.mp4 A.mov', 'a.mp4 A.mov'),
    ('x/c.mp4 y/c.mp4 d.mp4', 'x_c y_c d'), ('x/c.mp4 x/c.mov y/c.mp4', 'x_c.mp4 c.mov y_c'),
    ('x/c.mp4 x/c.mov y/c.mp4 y/c.mov', 'x_c.mp4 x_c.mov y_c.mp4 y_c.mov')])
def test_names_of_folders(videos, names):
    made = cli.folder_names(videos.split())
    assert len({n.casefold() for n in made})==len(made)
    if videos!='x/c.mp4 x/c.mov y/c.mp4': assert made==names.split()

def test_click_the_person(own, ttp, videos, model, tmp_path, monkeypatch):
    from ttp_nb import choosing
    two = np.array([[15, 8, 60, 52, .9], [2, 2, 12, 12, .9]])
    monkeypatch.setattr(person_module, 'people_detector', lambda **how: lambda frame: two)
    ask, asked = choosing.ask_person, []
    def hand(img, pointer):
        asked.append(pointer.number)
        pointer.press(30, 30)
    monkeypatch.setattr(choosing, 'ask_person', lambda frames: ask(frames, hand))
    def run(*more): return own('--ask', '--from', '4f', '--to', '9f', *more, box=None, report=True)
    r = run()
    assert r.code==0 and asked==[6] and '2 people' in r.out
    about = json.loads((tmp_path/'out'/'keypoints.json').read_text())
    assert about['box']=='at:30,30,6' and '--box at:30,30,6' in (tmp_path/'out'/'report.html').read_text('utf-8')
    again = run('--resume')
    assert again.code==0 and asked==[6] and 'is complete already' in again.out, 'nobody is asked twice'

def test_ask_where_there_is_no_display(own, tmp_path, monkeypatch):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'): monkeypatch.delenv(name, raising=False)
    if sys.platform!='linux': pytest.skip('there is always one')
    refused(own('--ask', box=None), 'no display', '--box at:x,y,frame', '--sheet')

def test_probe_writes_a_sheet(ttp, videos, tmp_path):
    r = ttp('probe', videos/'cut.avi', '--sheet', tmp_path/'new'/'s.jpg')
    assert r.code==0 and 's.jpg' in r.out and 'trouble' in r.out
    assert cv2.imread(str(tmp_path/'new'/'s.jpg')).shape[1]==1200
    refused(ttp('probe', videos/'a.mp4', '--sheet', tmp_path/'s.pdf'), 's.pdf', '.jpg or .png')
    unusable(ttp('probe', 'none.mp4', '--sheet', tmp_path/'none.jpg'), 'none.mp4')
    assert not (tmp_path/'none.jpg').exists()


# --- what cannot be shown

def in_a_process(*args, **how):
    "The command as a user starts it."
    env = os.environ | {'OMP_NUM_THREADS': '1'} | how.pop('env', {})
    return subprocess.run([sys.executable, '-m', 'ttp_nb', *map(str, args)], env=env, stderr=subprocess.PIPE, **how)

def test_letters_that_a_console_has_not(videos, tmp_path):
    film = shutil.copy(videos/'a.mp4', tmp_path/'\u89c6\u9891.mp4')
    r = in_a_process('probe', film, env={'PYTHONIOENCODING': 'cp1252'}, stdout=subprocess.PIPE)
    assert r.returncode==0 and not r.stderr and rb'\u89c6\u9891.mp4: video' in r.stdout

@pytest.mark.skipif(os.name=='nt', reason='POSIX only')
def test_a_pipe_that_is_closed_and_a_full_disk(videos):
    reading,writing = os.pipe()
    os.close(reading)
    for args in (['probe', videos/'a.mp4'], ['--help']):
        r = in_a_process(*args, stdout=writing)
        assert (r.returncode, r.stderr)==(0, b''), args
    os.close(writing)
    if not os.path.exists('/dev/full'): return
    with open('/dev/full', 'w') as full: r = in_a_process('probe', videos/'a.mp4', stdout=full)
    assert r.returncode==1 and r.stderr==b'ttp: standard output could not be written (No space left on device).\n'

def test_a_run_whose_reader_leaves_is_done_all_the_same(own, tmp_path, monkeypatch):
    class Left:
        encoding = 'utf-8'
        def write(self, *text): raise BrokenPipeError(32, 'Broken pipe')
        flush = write
    with monkeypatch.context() as m:
        for name in ('stdout', 'stderr'): m.setattr(sys, name, Left())
        assert own().code==0
    assert 'is complete already' in own('--resume').out

def test_no_console_at_all(monkeypatch, videos):
    for name in ('stdout', 'stderr'): monkeypatch.setattr(sys, name, None)
    assert main(['probe', str(videos/'a.mp4')])==0 and main(['probe', 'none.mp4'])==3

def test_streams_are_given_back(ttp, videos):
    before = sys.stdout, sys.stderr, signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for args in (['probe', videos/'a.mp4'], ['probe', 'none.mp4'], ['--help']): ttp(*args)
    assert before==(sys.stdout, sys.stderr, signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))

def test_probe_needs_no_torch(videos):
    film = str(videos/'a.mp4')
    r = fresh(f"import sys; from ttp_nb.cli import main; main(['probe', {film!r}]); print('torch' in sys.modules)")
    assert r.returncode==0 and r.stdout.endswith('False\n') and '80x64' in r.stdout, r.stderr

@pytest.mark.parametrize('module', ['ttp_nb', 'ttp_nb.cli'])
def test_modules_that_are_started_are_the_command(module):
    r = subprocess.run([sys.executable, '-m', module, 'probe', 'none.mp4'], capture_output=True, text=True)
    assert r.returncode==3 and 'none.mp4: there is no such file' in r.stderr


# --- ends: the order of events counts, not how long they take

posix = pytest.mark.skipif(os.name=='nt', reason='signals of POSIX')

def until(true, what):
    "Waits for what must happen, however long it takes."
    for _ in range(6000):
        if true(): return
        time.sleep(.02)
    raise AssertionError(f'never: {what}')

def started(code, *args):
    "A program in a process of its own, that finds the tests' own modules, too."
    path = os.pathsep.join([str(Path(cli.__file__).parents[1]), str(Path(__file__).parent)])
    env = os.environ | {'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen([sys.executable, *code, *map(str, args)], env=env, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)

SLOW = """
import sys, time
from pathlib import Path
from ttp_nb import your_video
from ttp_nb.cli import main
mark, add = Path(sys.argv.pop(1)), your_video.Ledger.add
def slow(ledger, *answers):
    add(ledger, *answers)
    if mark.exists(): return
    mark.touch()
    while True: time.sleep(.01)
your_video.Ledger.add = slow
sys.exit(main())
"""

@posix
@pytest.mark.parametrize('name,code', [('SIGINT', 130), ('SIGTERM', 143)])
@pytest.mark.parametrize('mode', ['offline', 'online'])
def test_a_signal_ends_it_and_what_was_done_is_saved(videos, model, tmp_path, ttp, name, code, mode):
    "It comes when the first frames are answered; they are there, and going on gives what an undisturbed run gives."
    def args(out): return ['personalize', videos/'a.mp4', '--model', model, '--box', '15,8,60,52', '--mode', mode,
                           '--out', tmp_path/out, 'personalization.batch', 3]
    p = started(['-c', SLOW], tmp_path/'mark', *args('ended'))
    until((tmp_path/'mark').exists, 'the first answers')
    p.send_signal(getattr(signal, name))
    _,err = p.communicate(timeout=250)
    assert p.returncode==code and messages(err)[-1].endswith('; what was done is saved.') and 'Traceback' not in err
    answers = tmp_path/'ended'/'.work'/'before.jsonl'
    assert len(answers.read_text().splitlines())==(1 if mode=='online' else 14)
    assert ttp(*args('ended'), '--resume').code==ttp(*args('whole')).code
    assert (tmp_path/'ended'/'keypoints.json').read_bytes()==(tmp_path/'whole'/'keypoints.json').read_bytes()
    assert not leftovers(tmp_path)

DEAF = """
import sys, time
from ttp_nb import cli
def deaf(args):
    print('begun', flush=True)
    while True:
        try: time.sleep(.01)
        except BaseException: pass
cli.probe_command.__code__, cli.GRACE = deaf.__code__, .3
cli.signals_end.__wrapped__.__defaults__ = (.3,)
cli.time = time
sys.exit(cli.main())
"""

@posix
def test_a_program_that_swallows_signals_ends_all_the_same():
    p = started(['-c', DEAF], 'probe', 'a.mp4')
    assert p.stdout.readline()=='begun\n'
    p.send_signal(signal.SIGTERM)
    _,err = p.communicate(timeout=250)
    assert p.returncode==143 and err=='ttp: ended from outside; what was done is saved.\n'

def test_a_signal_that_others_turn_into_an_error_of_theirs(ttp, monkeypatch):
    def convert(args):
        try: signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt: raise ImportError('half of a library') from None
    monkeypatch.setattr(cli, 'probe_command', convert)
    convert.__name__,convert.__doc__ = 'probe_command','x'
    r = ttp('probe', 'a.mp4')
    assert r.code==130 and messages(r.err)==['ttp: interrupted; what was done is saved.']

WORKERS = """
import os, sys, time
from pathlib import Path
from dataclasses import replace
from tiny import noise_clip, tiny_model
from ttp_nb.experiments import in_processes
from ttp_nb.personalization import TTPConfig
from ttp_nb.cli import run_command, probe_command
from ttp_nb import cli

class Endless:
    size = 64, 48
    def __len__(self): return 4
    def __getitem__(self, i):
        Path(sys.argv[1], f'{os.getpid()}').touch()
        while True: time.sleep(.01)

def work(args):
    clips = [replace(noise_clip(f'c{i}', 4), frames=Endless()) for i in range(3)]
    for _ in in_processes(tiny_model(), clips, ('before',), TTPConfig(), 2): pass

if __name__ == '__main__':
    work.__name__, work.__doc__ = 'probe_command', 'x'
    cli.probe_command = work
    sys.exit(run_command(['probe', 'x']))
"""

def gone(pid):
    try: return psutil.Process(pid).status()==psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess: return True

@posix
@pytest.mark.parametrize('name,code', [('SIGKILL', -9), ('SIGINT', 130), ('SIGTERM', 143)])
def test_workers_end_with_their_parent(tmp_path, name, code):
    (tmp_path/'run.py').write_text(WORKERS)
    (tmp_path/'pids').mkdir()
    p = started([tmp_path/'run.py'], tmp_path/'pids')
    def workers(): return [int(f.name) for f in (tmp_path/'pids').iterdir()]
    until(lambda: len(workers())==2 or p.poll() is not None, 'two workers at work')
    assert p.poll() is None, p.communicate()[1]
    p.send_signal(getattr(signal, name))
    until(lambda: all(map(gone, workers())), 'the workers are gone')
    _,err = p.communicate(timeout=250)
    assert p.returncode==code and 'Traceback' not in err, err


# --- the network for real people, as a user starts it

PERSON = np.load(Path(__file__).parent/'movenet_outputs.npz')['person']   # (192,192,3) somebody drawn with a few shapes

@pytest.fixture(scope='module')
def somebody(tmp_path_factory):
    "A video of somebody who moves to the right, two pixels a frame."
    frames = np.full((6,208,256,3), 120, np.uint8)
    for t,frame in enumerate(frames): frame[8:200,20+2*t:212+2*t] = PERSON
    return write_mp4(tmp_path_factory.mktemp('somebody')/'somebody.mp4', frames)

def test_nothing_but_a_video(ttp, somebody, tmp_path):
    "No box, no model, no mode: found, adapted to, and written in COCO's joints."
    out = tmp_path/'out'
    r = ttp('personalize', somebody, '--out', out)
    assert r.code in (0, 4) and not messages(r.err) and 'one person' in r.out and '6 frames' in r.out
    result = read_keypoints(out/'keypoints.json')
    assert result.skeleton==COCO17 and result.about['model']=='people_joint' and result.about['joints']=='coco17'
    low, high = result.boxes[:,None,:2], result.boxes[:,None,2:]                     # (T,1,2)
    inside = ((result.before_kp>low) & (result.before_kp<high)).all(-1)
    assert inside.mean()>.9, inside.mean(0)
    def height(joints): return result.before_kp[:,[COCO17.index(j) for j in joints],1].mean()
    assert height(['nose'])<height(['left_shoulder', 'right_shoulder'])<height(['left_hip', 'right_hip'])
    assert height(['left_hip', 'right_hip'])<height(['left_ankle', 'right_ankle'])
    moved = result.before_kp[-1,:,0]-result.before_kp[0,:,0]
    assert 6<np.median(moved)<14
    was = (out/'keypoints.json').read_bytes()
    for same in ([], ['--joints', 'coco17']):
        assert 'is complete already' in ttp('personalize', somebody, '--out', out, '--resume', *same).out
    refused(ttp('personalize', somebody, '--out', out, '--resume', '--joints', 'all'), out, 'another --out')
    assert (out/'keypoints.json').read_bytes()==was and not leftovers(out)

def test_the_joints_that_are_asked_for(ttp, somebody, tmp_path):
    found = {}
    for joints, skel in (('coco17', COCO17), ('penn13', PENN13), ('all', PEOPLE18)):
        r = ttp('personalize', somebody, '--mode', 'none', '--box', '30,10,220,198', '--joints', joints, '--out',
                tmp_path/joints, '--export', 'coco,openpose,dlc,npz', '--filter', '3')
        assert r.code==0 and not messages(r.err)
        result = read_keypoints(tmp_path/joints/'keypoints.json')
        assert result.skeleton==skel
        assert skel.joints[0] in (tmp_path/joints/'deeplabcut.csv').read_text()
        found[joints] = dict(zip(skel.joints, result.kp.swapaxes(0, 1)))
    for joints in ('coco17', 'penn13'):
        for name, kp in found[joints].items(): assert np.allclose(kp, found['all'][name], atol=2e-3), name

LIMBS = 'shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle'
SIDED = [f'{side}_{joint}' for joint in LIMBS for side in ('left', 'right')]
THEIRS = dict(zip(SIDED, (*range(11, 17), *range(23, 29))))

@needs_walk
def test_a_real_video(ttp, tmp_path):
    "Nothing is said but where the results go; another estimator's joints lie beside the video."
    video, at = open_frames(WALK), range(0, 80, 20)
    short = write_mp4(tmp_path/'walk.mp4', np.stack([video[i][::2,::2] for i in at]), 4)
    r = ttp('personalize', short, '--mode', 'none', '--out', tmp_path/'out')
    assert r.code==0 and not messages(r.err) and 'one person' in r.out
    result = read_keypoints(tmp_path/'out'/'keypoints.json')
    theirs = np.load(WALK.with_suffix('.npz'))['blazepose33_xyv'][list(at),:,:2]/2
    torso = np.linalg.norm(theirs[:,11:13].mean(1)-theirs[:,23:25].mean(1), axis=-1)
    for joint, k in THEIRS.items():
        apart = np.linalg.norm(result.kp[:,COCO17.index(joint)]-theirs[:,k], axis=-1)/torso
        assert np.median(apart)<.2, joint
