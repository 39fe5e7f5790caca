"""Several processes, started together by a launcher, give what one gives, to the byte; killed, they go on."""
import json, os, shutil, subprocess, sys
from pathlib import Path
import cv2, numpy as np, pytest
from safetensors.torch import load_file
from tiny import person, tiny_model
from ttp_nb.checkpoints import save_model

pytest.importorskip('accelerate')

TOGETHER = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']

EVALUATE = """
import os, sys
from dataclasses import replace
sys.path.insert(0, sys.argv[1])
from tiny import people
from ttp_nb.experiments import evaluate
from ttp_nb.personalization import TTPConfig

class Ends:
    "Frames of a clip on which a process ends, as if memory had run out."
    def __init__(self, frames): self.frames = frames
    def __len__(self): return len(self.frames)
    def __getitem__(self, i): os._exit(9)

clips = [replace(clip, name=f'c{n}') for n, clip in enumerate(people(5, 'test', 4))]
if sys.argv[4] == 'end': clips[3] = replace(clips[3], frames=Ends(clips[3].frames))
evaluate(sys.argv[2], clips, sys.argv[3], ('before', 'offline'), TTPConfig(batch=2), progress=False,
         resume=sys.argv[4] == 'resume')
"""

def run(*words, together=True):
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run([sys.executable, *(TOGETHER if together else []), *map(str, words)], env=env,
                          capture_output=True, text=True, timeout=600)

@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('model')/'m.safetensors'
    save_model(tiny_model(), path)
    return path

@pytest.fixture(scope='module')
def evaluation(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp('evaluation')
    (folder/'evaluation.py').write_text(EVALUATE)
    def evaluation(out, how='anew', together=True):
        return run(folder/'evaluation.py', Path(__file__).parent, model, out, how, together=together)
    evaluation.alone = folder/'alone'
    assert evaluation(evaluation.alone, together=False).returncode==0
    return evaluation

def files(out): return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob('*')) if p.is_file()}

def clips_in(folder): return {c['name'] for c in json.loads((folder/'results.json').read_text())['per_clip']}


def test_two_evaluate_as_one(evaluation, tmp_path):
    found = evaluation(tmp_path/'a')
    assert found.returncode==0, found.stderr
    assert files(tmp_path/'a')==files(evaluation.alone)

@pytest.fixture(scope='module')
def killed(evaluation, tmp_path_factory):
    "What is left where the second of two processes ended at its second clip: of five it has c1 and c3."
    out = tmp_path_factory.mktemp('killed')/'a'
    assert evaluation(out, 'end').returncode!=0
    assert clips_in(out/'part-1')=={'c1'}
    return out

@pytest.mark.parametrize('how,together', [('resume', True), ('resume', False), ('anew', False)])
def test_a_killed_one_loses_its_clip_only(evaluation, killed, tmp_path, how, together):
    "Two go on, one goes on, one begins anew: nothing is lost, nothing is left over."
    out = tmp_path/'a'
    shutil.copytree(killed, out)
    found = evaluation(out, how, together)
    assert found.returncode==0, found.stderr
    assert files(out)==files(evaluation.alone)

TRAIN = """
import os, sys
from dataclasses import replace
sys.path.insert(0, sys.argv[1])
from tiny import people, tiny_model
from ttp_nb import runs
from ttp_nb.training import TrainConfig

cfg = TrainConfig(steps=6, every=2, batch=4, self_supervised_pairs=2, weight=1e-3, seed=3)
if sys.argv[3] == 'end':                                     # the second process ends in the middle of a step
    step = runs.train_step
    def ends(*args):
        if args[-1] == 3 and os.environ['RANK'] == '1': os._exit(9)
        return step(*args)
    runs.train_step = ends
run = runs.train_run(tiny_model(), people(3), people(2, 'valid'), sys.argv[2], cfg, sys.argv[3] == 'resume',
                     progress=False)
assert run.step == 6
"""

@pytest.fixture(scope='module')
def training(tmp_path_factory):
    folder = tmp_path_factory.mktemp('training')
    (folder/'training.py').write_text(TRAIN)
    def training(out, how='anew', together=True):
        return run(folder/'training.py', Path(__file__).parent, out, how, together=together)
    training.alone, training.shared = folder/'alone', folder/'shared'
    for out, together in ((training.alone, False), (training.shared, True)):
        found = training(out, together=together)
        assert found.returncode==0, found.stderr
    return training

def weights_in(out): return load_file(out/'last.safetensors')

def log_in(out): return [json.loads(line) for line in (out/'log.jsonl').read_text().splitlines()]

def test_two_train_as_one_to_rounding(training):
    one, two = weights_in(training.alone), weights_in(training.shared)
    assert one.keys()==two.keys()
    numbers = {name: w for name, w in one.items() if w.is_floating_point()}
    apart = {name: ((w-two[name]).abs().max()/(w.abs().max()+1e-3)).item() for name, w in numbers.items()}
    assert max(apart.values())<.02 and np.median(list(apart.values()))<1e-4      # Adam makes steps of rounding noise
    assert max(apart[name] for name in apart if 'running' in name)<1e-3          # the whole batch's, not a share's
    start, name = tiny_model().state_dict(), 'trunk.conv1.weight'
    assert (one[name]-start[name]).abs().max()>1e-3                              # it has learned
    assert [e['step'] for e in log_in(training.alone)]==[e['step'] for e in log_in(training.shared)]==[2, 4, 6]

def test_shared_training_goes_on_as_if_nothing_had_happened(training, tmp_path):
    assert training(tmp_path/'a', 'end').returncode!=0
    assert [e['step'] for e in log_in(tmp_path/'a')]==[2]
    found = training(tmp_path/'a', 'resume')
    assert found.returncode==0, found.stderr
    for name in ('last.safetensors', 'best.safetensors', 'log.jsonl', 'last.json'):
        assert (tmp_path/'a'/name).read_bytes()==(training.shared/name).read_bytes(), name

def test_batches_that_cannot_be_shared(tmp_path):
    found = run('-m', 'ttp_nb', 'train', 'joint', '--people', 4, '--out', tmp_path/'a', 'training.batch', 7)
    assert found.returncode!=0 and 'cannot share batches of 7' in found.stderr

def test_other_commands_are_not_shared(tmp_path):
    found = run('-m', 'ttp_nb', 'demo', '--out', tmp_path/'a')
    assert found.returncode!=0 and 'share their work' in found.stderr and not (tmp_path/'a').exists()

def test_videos_are_shared(model, tmp_path):
    clip = person(1, 'test', 8)
    for name in ('first', 'second', 'third'):
        (tmp_path/name).mkdir()
        for i, frame in enumerate(clip.frames): cv2.imwrite(str(tmp_path/name/f'{i:03}.png'), frame[..., ::-1])
    box = ','.join(map(str, np.r_[clip.boxes[:, :2].min(0), clip.boxes[:, 2:].max(0)]))
    def personalize(out, together):
        videos = [tmp_path/name for name in ('first', 'second', 'third')]
        return run('-m', 'ttp_nb', 'personalize', *videos, '--out', out, '--model', model, '--box', box,
                   '--mode', 'online', together=together)
    alone, found = personalize(tmp_path/'alone', False), personalize(tmp_path/'shared', True)
    assert (alone.returncode, found.returncode)==(4, 0)      # the guard's; a launcher would take it for a failure
    assert table(found)==table(alone) and len(table(alone))==3
    for name in ('first', 'second', 'third'):
        one, other = (json.loads((tmp_path/out/name/'keypoints.json').read_text()) for out in ('alone', 'shared'))
        assert one['frames']==other['frames'] and len(one['frames'])==8

def table(found): return [line.split()[:-1] for line in found.stdout.partition('\nvideo ')[2].splitlines()[1:] if line]
