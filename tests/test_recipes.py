"""Recipes: the authors' four files field by field, every value that is refused, and yaml that means harm."""
import math, shutil
from dataclasses import replace
from pathlib import Path
import cv2, numpy as np, pytest, yaml
from tiny import RECIPE as TINY_RUN, TINY, global_state, leftovers, no_joints, noise_clip, people
from ttp_nb import recipes as R
from ttp_nb.penn import write_penn
from ttp_nb.experiments import evaluate
from ttp_nb.joint_model import ModelConfig, paper_config
from ttp_nb.pairs import PairConfig
from ttp_nb.personalization import TTPConfig, offline
from ttp_nb.recipes import DataConfig, Recipe, changed, settings
from ttp_nb.recipe_files import from_official, read_recipe, write_recipe
from ttp_nb.skeletons import BBC7, COCO17, H36M16, PENN13, Skeleton
from ttp_nb.basics import TTPError
from ttp_nb.skeleton_files import write_skeleton
from ttp_nb.drawn_people import synthetic_clips
from ttp_nb.training import TrainConfig, learning_rate

EXPERIMENTS = Path(__file__).parents[1]/'experiments'
B = 'res50_128x128'
J = 'joint_res50_128x128_1e-3_comb_attn_tf1_4head'
N = 'ttp_res50_128x128_lr1e-4_online_downsample1_comb_attn_tf1_4head'
F = 'ttp_res50_128x128_lr1e-4_offline_downsample1_comb_attn_tf1_4head'
FINAL = f'output/penn/imm_joint_model/{J}/final_state.pth'
IMAGENET = 'models/pytorch/imagenet/resnet50-19c8e357.pth'

COMMON = '''
AUTO_RESUME: true
CUDNN:
  BENCHMARK: true
  DETERMINISTIC: false
  ENABLED: true
DATA_DIR: ''
GPUS: (0,)
OUTPUT_DIR: output
LOG_DIR: log
PIN_MEMORY: true
RANK: 0
PRINT_FREQ: 100
WORKERS: {workers}

DATASET:
  COLOR_RGB: false
  DATASET: {dataset}
  DATA_FORMAT: jpg
  HYBRID_JOINTS_TYPE: ''
  SELECT_DATA: false
  FLIP: true
  NUM_JOINTS_HALF_BODY: 8
  PROB_HALF_BODY: -1.0
  ROOT: data/Penn_Action/
  ROT_FACTOR: 30
  SCALE_FACTOR: 0.25
  TEST_SET: valid
  TRAIN_SET: train
MODEL:
  NAME: {name}
{imm}  PRETRAINED: models/pytorch/imagenet/resnet50-19c8e357.pth
  IMAGE_SIZE:
  - 128
  - 128
  HEATMAP_SIZE:
  - 32
  - 32
  SIGMA: 2
  NUM_JOINTS: 13
  NUM_MAPS: 30
  TARGET_TYPE: gaussian
  TAG_PER_JOINT: true
  EXTRA:
    FINAL_CONV_KERNEL: 1
    DECONV_WITH_BIAS: false
    NUM_DECONV_LAYERS: 3
    NUM_DECONV_FILTERS:
    - 256
    - 256
    - 256
    NUM_DECONV_KERNELS:
    - 4
    - 4
    - 4
    NUM_LAYERS: 50
{extra}LOSS:
  USE_TARGET_WEIGHT: true
{loss}TRAIN:
  BATCH_SIZE_PER_GPU: 32
  SHUFFLE: true
  BEGIN_EPOCH: 0
  END_EPOCH: 140
  OPTIMIZER: adam
  LR: {lr}
  LR_FACTOR: 0.1
  LR_STEP:
  - 90
  - 120
  WD: 0.0001
  GAMMA1: 0.99
  GAMMA2: 0.0
  MOMENTUM: 0.9
  NESTEROV: false
  RESUME: false
  CHECKPOINT: ''
  VALIDATE_EVERY: {validate}
TEST:
  BATCH_SIZE_PER_GPU: 32
  COCO_BBOX_FILE: ''
  BBOX_THRE: 1.0
  IMAGE_THRE: 0.0
  IN_VIS_THRE: 0.2
  MODEL_FILE: '{model_file}'
  NMS_THRE: 1.0
  OKS_THRE: 0.9
  USE_GT_BBOX: true
  FLIP_TEST: false
  POST_PROCESS: true
  SHIFT_HEATMAP: true
{test}DEBUG:
  DEBUG: true
  SAVE_BATCH_IMAGES_GT: true
  SAVE_HEATMAPS_PRED: true
'''
IMM = '  IS_IMM: true\n'
EXTRA = ''.join(f'    {k}\n' for k in ('COMBATTN: true', 'TRANSFORMER: true', 'NUM_TF_LAYERS: 1', 'NHEADS: 4',
                                      'FFN: false', 'POS_ENC: false'))
LOSS = '  UNSUP_LOSS_WEIGHT: 0.001\n'
joint = dict(name='imm_joint_model', imm=IMM, extra=EXTRA, loss=LOSS, dataset='penn', validate=5)
FILES = {
    B: COMMON.format(name='pose_resnet', imm='', extra='', loss='', dataset='penn', validate=10, workers=24, lr=.001,
                     model_file='', test=''),
    J: COMMON.format(**joint, workers=24, lr=.001, model_file='', test=''),
    N: COMMON.format(**joint, workers=12, lr=.0001, model_file=FINAL,
                     test='  TTP_ONLINE_REF: true\n  DOWNSAMPLE: 1\n  TTP_STEPS: 1\n'),
    F: COMMON.format(**joint | dict(dataset='penn_offline'), workers=12, lr=.0001, model_file=FINAL,
                     test='  TTP_ONLINE_REF: false\n  TTT_OFFLINE: true\n  DOWNSAMPLE: 1\n')}
ALL_ALIKE = {'CUDNN.BENCHMARK', 'CUDNN.DETERMINISTIC', 'CUDNN.ENABLED', 'GPUS', 'LOG_DIR', 'PIN_MEMORY', 'RANK',
             'PRINT_FREQ', 'DATASET.DATA_FORMAT', 'DATASET.HYBRID_JOINTS_TYPE', 'DATASET.SELECT_DATA',
             'DATASET.NUM_JOINTS_HALF_BODY', 'MODEL.TAG_PER_JOINT', 'TRAIN.WD', 'TRAIN.GAMMA1', 'TRAIN.GAMMA2',
             'TRAIN.MOMENTUM', 'TRAIN.NESTEROV', 'TRAIN.RESUME', 'TRAIN.CHECKPOINT', 'TEST.COCO_BBOX_FILE',
             'TEST.BBOX_THRE', 'TEST.IMAGE_THRE', 'TEST.IN_VIS_THRE', 'TEST.NMS_THRE', 'TEST.OKS_THRE',
             'TEST.USE_GT_BBOX', 'TEST.SHIFT_HEATMAP', 'DEBUG.DEBUG', 'DEBUG.SAVE_BATCH_IMAGES_GT',
             'DEBUG.SAVE_HEATMAPS_PRED'}
NOT_TRAINED = {'MODEL.PRETRAINED', 'LOSS.UNSUP_LOSS_WEIGHT', 'TRAIN.END_EPOCH', 'TRAIN.LR_FACTOR', 'TRAIN.LR_STEP',
               'TRAIN.VALIDATE_EVERY'}

@pytest.fixture
def file(tmp_path):
    "Writes a text and gives its path."
    def write(text, name='recipe'):
        (tmp_path/f'{name}.yaml').write_text(text)
        return tmp_path/f'{name}.yaml'
    return write

def official(name, *changes, **more):
    "One of the four files with keys changed, as `from_official` sees it."
    entries = R.flatten(yaml.safe_load(FILES[name]), [*R.THEIRS, *R.IGNORED])
    return from_official(entries | dict(zip(changes[::2], changes[1::2])), name, **more)[0]

def says(error, *parts):
    "The message holds all parts, on one short line."
    text = str(error.value)
    assert all(p in text for p in parts) and '\n' not in text and len(text)<500, text


# --- the four files

def test_baseline(file):
    r,ignored = read_recipe(file(FILES[B], B))
    assert r==Recipe(
        task='baseline', authors_rules=True, data=DataConfig('penn', 'data/Penn_Action/'),
        model=paper_config(50, bgr=True, origin=1),
        training=TrainConfig(steps=5000, batch=32, lr=.001, drops=(90/140, 120/140), factor=.1, weight=.001,
                             self_supervised_pairs=0, color_jitter=0.,
                             pairs=PairConfig(scale=.25, rot=30., flip=True, reach=None, sigma=2., authors_edges=True)),
        personalization=TTPConfig(batch=32, authors_rules=True, anchor_weight=0.), epochs=140, epoch_steps=0, validate=10,
        imagenet=IMAGENET, weights='', out=f'output/penn/pose_resnet/{B}', workers=24, resume=True)
    assert set(ignored)==ALL_ALIKE | {'TEST.BATCH_SIZE_PER_GPU'} and len(ignored)==len(set(ignored))

def test_joint(file):
    r,ignored = read_recipe(file(FILES[J], J))
    assert r.model==ModelConfig(
        size=(128,128), skeleton=PENN13, keypoints=30, depth=50, width=64, stages=4, filters=(256,256,256), lateral=False,
        layers=1, heads=4, dropout=.1, sigma=2., enlarge=4, appearance=(32,64,128,256), appearance_stride=1,
        pose=(32,64,128,256), renderer=(256,128,64,32), convs=2, vgg=True, shared=False, bgr=True, origin=1)
    assert r==replace(official(B), task='joint', validate=5, out=f'output/penn/imm_joint_model/{J}')
    assert r.training.weight==.001 and set(ignored)==ALL_ALIKE | {'TEST.BATCH_SIZE_PER_GPU'}

def test_online(file):
    r,ignored = read_recipe(file(FILES[N], N))
    assert r==Recipe(
        task='online', authors_rules=True, data=DataConfig('penn', 'data/Penn_Action/', every=1),
        model=paper_config(50, bgr=True, origin=1),
        training=TrainConfig(lr=.001, weight=.001, self_supervised_pairs=0, color_jitter=0., pairs=PairConfig(authors_edges=True)),
        personalization=TTPConfig(lr=1e-4, batch=32, per_frame=1, epochs=1., authors_rules=True, anchor_weight=0.,
                                  reset_every=0, first_only=False, pairs=PairConfig(ahead=False, mixed=False)),
        weights=FINAL, out=f'output/penn/imm_joint_model/{N}', workers=12, resume=True)
    assert set(ignored)==ALL_ALIKE | NOT_TRAINED | {'TRAIN.BATCH_SIZE_PER_GPU', 'TEST.TTP_STEPS'}

def test_offline(file):
    r,ignored = read_recipe(file(FILES[F], F))
    assert r==replace(official(N), task='offline', out=f'output/penn_offline/imm_joint_model/{F}')
    assert set(ignored)==ALL_ALIKE | NOT_TRAINED | {'TEST.BATCH_SIZE_PER_GPU', 'TEST.TTP_ONLINE_REF'}

def test_the_task_can_be_said():
    for task in ('baseline', 'joint', 'online', 'offline'): assert official(J, task=task).task==task
    assert official(J, 'TRAIN.LR', 5e-5, task='online').personalization.lr==5e-5
    assert official(J).personalization.lr==1e-4!=official(J).training.lr
    with pytest.raises(TTPError, match='task is'): official(J, task='train')

# key, value -> what becomes of it, in the file where it counts
MEANT = [
    (J, 'DATASET.ROOT', 'x', 'data.root', 'x'),
    (J, 'DATASET.SELECTED_ACTIONS', ['squat', 'bowl'], 'data.actions', ('squat', 'bowl')),
    (J, 'DATASET.TRAIN_VIDEO_FRAC', .5, 'data.videos', .5), (J, 'DATASET.LABEL_VIDEO_FRAC', .2, 'data.labelled', .2),
    (J, 'DATASET.TRAIN_FRAME_FRAC', .1, 'data.frames', .1), (N, 'TEST.DOWNSAMPLE', 5, 'data.every', 5),
    (J, 'DATASET.COLOR_RGB', True, 'model.bgr', False), (J, 'DATASET.SCALE_FACTOR', .1, 'training.pairs.scale', .1),
    (N, 'DATASET.SCALE_FACTOR', .1, 'personalization.pairs.scale', .1),
    (J, 'DATASET.ROT_FACTOR', 5, 'training.pairs.rot', 5.),
    (F, 'DATASET.ROT_FACTOR', 5, 'personalization.pairs.rot', 5.),
    (J, 'DATASET.FLIP', False, 'training.pairs.flip', False),
    (N, 'DATASET.FLIP', False, 'personalization.pairs.flip', False),
    (J, 'DATASET.BANDWIDTH', 7, 'training.pairs.reach', 7),
    (N, 'DATASET.BANDWIDTH', 7, 'personalization.pairs.reach', 7),
    (J, 'DATASET.BANDWIDTH', 100000, 'training.pairs.reach', None),
    (J, 'DATASET.BANDWIDTH', 99999, 'training.pairs.reach', 99999), (J, 'MODEL.INIT_WEIGHTS', False, 'imagenet', ''),
    (J, 'MODEL.PRETRAINED', 'w.pth', 'imagenet', 'w.pth'), (J, 'MODEL.SIGMA', 3, 'model.sigma', 3.),
    (J, 'MODEL.SIGMA', 3, 'training.pairs.sigma', 3.), (J, 'MODEL.NUM_MAPS', 12, 'model.keypoints', 12),
    (J, 'MODEL.EXTRA.NUM_LAYERS', 18, 'model.depth', 18),
    (J, 'MODEL.EXTRA.NUM_DECONV_FILTERS', [8, 8, 4], 'model.filters', (8, 8, 4)),
    (J, 'MODEL.EXTRA.NUM_TF_LAYERS', 3, 'model.layers', 3), (J, 'MODEL.EXTRA.NHEADS', 8, 'model.heads', 8),
    (J, 'MODEL.EXTRA.COMBATTN', False, 'model.shared', True), (B, 'MODEL.IS_IMM', True, 'model.shared', True),
    (J, 'MODEL.IS_IMM', False, 'task', 'baseline'), (J, 'LOSS.UNSUP_LOSS_WEIGHT', .1, 'training.weight', .1),
    (J, 'TRAIN.BATCH_SIZE_PER_GPU', 8, 'training.batch', 8),
    (F, 'TRAIN.BATCH_SIZE_PER_GPU', 8, 'personalization.batch', 8),
    (N, 'TEST.BATCH_SIZE_PER_GPU', 8, 'personalization.batch', 8),
    (J, 'TRAIN.END_EPOCH', 180, 'training.drops', (.5, 2/3)),
    (J, 'TRAIN.END_EPOCH', 180, 'epochs', 180), (J, 'TRAIN.LR_STEP', [70], 'training.drops', (.5,)),
    (J, 'TRAIN.LR', '1e-2', 'training.lr', .01), (J, 'TRAIN.LR_FACTOR', .5, 'training.factor', .5),
    (J, 'TRAIN.VALIDATE_EVERY', 2, 'validate', 2), (J, 'TRAIN.LIMIT_EPOCH_SIZE', 50, 'epoch_steps', 50),
    (N, 'TEST.REPEAT_STEP', 3, 'personalization.per_frame', 3),
    (F, 'TEST.REPEAT_STEP', 3, 'personalization.epochs', 3.),
    (N, 'TEST.RESET_EVERY', 9, 'personalization.reset_every', 9),
    (N, 'TEST.RESET_EVERY', -1, 'personalization.reset_every', 0),
    (N, 'TEST.FIRST_FRAME_ONLY', True, 'personalization.first_only', True),
    (N, 'TEST.TTP_ONLINE_REF', False, 'personalization.pairs.ahead', True),
    (N, 'TRAIN.TTP_BATCHING_STRATEGY', 'both_random', 'personalization.pairs.mixed', True),
    (N, 'TEST.TTT_OFFLINE', True, 'task', 'offline'), (N, 'TEST.MODEL_FILE', '', 'task', 'joint'),
    (J, 'TEST.MODEL_FILE', 'm.pth', 'weights', 'm.pth'), (J, 'WORKERS', 2, 'workers', 2),
    (J, 'AUTO_RESUME', False, 'resume', False),
    (J, 'OUTPUT_DIR', 'o', 'out', f'o/penn/imm_joint_model/{J}'),
    *[(J, 'GPUS', g, 'training.batch', n) for g, n in (('(0,1)', 64), ('(3, 5, 7)', 96), ('(0,)', 32), ([0, 1], 64),
    (1, 32), ('', 32))],
    (N, 'GPUS', '(0,1)', 'personalization.batch', 64), (F, 'GPUS', '(0,1)', 'personalization.batch', 64)]

@pytest.mark.parametrize('name,key,value,ours,expected', MEANT, ids=[f'{m[1]}-{m[3]}-{i}' for i,m in enumerate(MEANT)])
def test_what_a_key_means(file, name, key, value, ours, expected):
    was,now = settings(official(name)),settings(official(name, key, value))
    assert now[ours]==expected and type(now[ours]) is type(expected)
    if value not in ('(0,)', 1, '', 100000, -1): assert was!=now
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).removesuffix('\n...\n')
    assert settings(read_recipe(file(FILES[name], name), [key, text])[0])==now, 'as a change it means something else'

def test_every_key_that_means_something_is_tested():
    assert set(R.OFFICIAL)-{m[1] for m in MEANT}=={
        'DATA_DIR', 'MODEL.IMAGE_SIZE', 'MODEL.HEATMAP_SIZE', 'MODEL.NUM_JOINTS', 'MODEL.EXTRA.TRANSFORMER'}

@pytest.mark.parametrize('name,kind,skel,origin', [('penn', 'penn', PENN13, 1), ('bbcpose', 'bbc', BBC7, 1),
('hm36', 'hm36', H36M16, 0)])
def test_data_sets(name, kind, skel, origin):
    for n in (name, name+'_offline'):
        r = official(J, 'DATASET.DATASET', n, 'MODEL.NUM_JOINTS', len(skel))
        assert (r.data.kind, r.model.skeleton, r.model.origin, r.model.bgr)==(kind, skel, origin, True)
        assert r.out==f'output/{n}/imm_joint_model/{J}'
        with pytest.raises(TTPError, match=f'MODEL.NUM_JOINTS is 17.*{len(skel)} works'):
            official(J, 'DATASET.DATASET', n, 'MODEL.NUM_JOINTS', 17)

def test_paths_below_data_dir():
    r = official(J, 'DATA_DIR', '/big')
    assert (r.data.root, r.imagenet, r.weights)==('/big/data/Penn_Action/', f'/big/{IMAGENET}', '')
    assert official(N, 'DATA_DIR', '/big').weights==f'/big/{FINAL}'
    assert official(N, 'DATA_DIR', '/big', 'TEST.MODEL_FILE', '/else/m.pth').weights=='/else/m.pth'
    assert official(J, 'DATA_DIR', '/big', 'DATASET.ROOT', '').data.root==''

def test_crops_that_are_not_square():
    r = official(J, 'MODEL.IMAGE_SIZE', [192, 256], 'MODEL.HEATMAP_SIZE', [48, 64])
    assert r.model.size==(192,256)
    with pytest.raises(TTPError) as e: official(J, 'MODEL.IMAGE_SIZE', [192, 256])
    says(e, 'MODEL.HEATMAP_SIZE is [32, 32]', '[48, 64] works')

def test_the_switch(file):
    r,_ = read_recipe(file(FILES[J], J), ['authors_rules', 'false'])
    was = settings(official(J))
    assert {k: v for k,v in settings(r).items() if v!=was[k]}=={
        'authors_rules': False, 'model.bgr': False, 'model.origin': 0, 'training.pairs.authors_edges': False,
        'personalization.authors_rules': False, 'personalization.anchor_weight': TTPConfig().anchor_weight}
    assert R.with_authors_rules(replace(r, authors_rules=True))==official(J)
    r,_ = read_recipe(file(FILES[J], J), ['model.bgr', 'false', 'authors_rules', 'true']) # in either order
    assert not r.model.bgr and r.model.origin==1
    r,_ = read_recipe(file(FILES[J], J), ['data.kind', 'hm36']) # other data, other conventions
    assert r.model.origin==0 and r.model.bgr
    r,_ = read_recipe(file('authors_rules: true\ndata: {kind: bbc}\ntraining: {pairs: {authors_edges: false}}'))
    assert r.model.bgr and r.model.origin==1 and r.personalization.authors_rules and not r.training.pairs.authors_edges


# --- changes

def test_changes_of_both_kinds(file):
    r,ignored = read_recipe(file(FILES[J], J), [
        'training.lr', '3', 'TRAIN.LR', '1e-2', 'TRAIN.WD', '0.1', 'TEST.SMOOTH', 'x', 'CUDNN.ENABLED', 'false',
        'model.vgg', 'off', 'data.root', '2024', 'DATASET.ROOT', 'y', 'data.actions', '[squat]', 'weights', '',
        'training.pairs.reach', '4', 'personalization.pairs.reach', 'null', 'model.size', '[64, 32]', 'out', 'a: #b'])
    assert (r.training.lr, r.model.vgg, r.data.root, r.data.actions, r.weights)==(3., False, '2024', ('squat',), '')
    assert (r.training.pairs.reach, r.personalization.pairs.reach, r.model.size, r.out)==(4, None, (64,32), 'a: #b')
    assert set(ignored)==ALL_ALIKE | {'TEST.BATCH_SIZE_PER_GPU', 'TEST.SMOOTH'} and len(set(ignored))==len(ignored)

def test_steps_instead_of_epochs(file):
    f = file(FILES[J], J)
    r,_ = read_recipe(f, ['training.steps', '2'])
    assert R.training_config(r, people(2)).steps==2
    r,_ = read_recipe(f, ['training.steps', '2', 'epochs', '3'])
    assert r.epochs==3
    r,_ = read_recipe(f, ['training.every', '2'])
    assert r.epochs==140 and R.training_config(r, people(2)).every==2

def test_the_last_change_counts(file):
    assert read_recipe(file('epochs: 1'), ['epochs', '2', 'epochs', '3'])[0].epochs==3

@pytest.mark.parametrize('changes,parts', [
    (['training.steps'], ['training.steps has no value']), (['a', 'b', 'out'], ['out has no value']),
    (['training.step', '1'], ['no key training.step', 'training.steps']), (['lr', '1'], ['no key lr', 'training.lr']),
    (['training', '1'], ['training holds several values', 'training.steps']), (['training.pairs', '{}'], ['several']),
    (['TRAIN.LRR', '1'], ['no key TRAIN.LRR', 'TRAIN.LR']), (['TEST', '1'], ['TEST holds several values', 'TEST.']),
    (['Training.steps', '1'], ['Training.steps', 'training.steps']), (['', '1'], ['did you mean']),
    (['training.steps', 'many'], ['training.steps', "'many'", 'a whole number']),
    (['training.steps', '2.5'], ['training.steps', '2.5', 'a whole number']), (['training.steps', 'true'], ['whole']),
    (['training.lr', '.nan'], ['training.lr', 'a number']), (['training.lr', 'inf'], ['training.lr', 'a number']),
    (['training.lr', '[1]'], ['training.lr', 'a number']), (['training.lr', ''], ['training.lr', 'None', 'a number']),
    (['model.vgg', '1'], ['model.vgg', 'true or false']), (['model.vgg', 'maybe'], ['model.vgg', 'true or false']),
    (['model.size', '64'], ['model.size', 'a list']), (['model.size', '[64, big]'], ['model.size', "'big'"]),
    (['data.actions', 'squat'], ['data.actions', 'a list']), (['model.skeleton', 'penn'], ['penn13', 'coco17']),
    (['model.skeleton', '{name: x}'], ['model.skeleton']), (['training.lr', '[1'], ['training.lr [1', 'no yaml']),
    (['TRAIN.LR', 'fast'], ['TRAIN.LR', "'fast'", 'a number']),
    (['MODEL.IS_IMM', 'perhaps'], ['MODEL.IS_IMM', 'true or false']),
    (['TRAIN.LR_STEP', '90'], ['TRAIN.LR_STEP', 'a list']),
    (['TRAIN.END_EPOCH', '0'], ['TRAIN.END_EPOCH is 0', 'at least 1']),
    (['task', 'train'], ['task', 'baseline, joint, online, offline']), (['data.kind', 'mpii'], ['data.kind', 'bbc']),
    (['training.steps', '0'], ['training.steps is 0', 'at least 1']),
    (['training.seed', '-1'], ['training.seed is -1']),
    (['data.videos', '0'], ['data.videos is 0', 'above 0']),
    (['DATASET.TRAIN_FRAME_FRAC', '1.5'], ['data.frames is 1.5']),
    (['TEST.DOWNSAMPLE', '0'], ['data.every is 0']), (['training.pairs.reach', '-2'], ['training.pairs.reach is -2']),
], ids=lambda c: '-'.join(c) if c and isinstance(c, list) and len(c)<4 and c[0][:1].isalpha() else None)
def test_changes_that_cannot_be(file, changes, parts):
    f = file(FILES[J], J)
    with pytest.raises(TTPError) as e: read_recipe(f, changes)
    says(e, *parts) # what a command line says wrong is not blamed on the file

def test_official_changes_need_an_official_file(file):
    with pytest.raises(TTPError) as e: read_recipe(file('task: joint'), ['TRAIN.LR', '1'])
    says(e, 'recipe.yaml', 'TRAIN.LR', 'small letters')


# --- refused

REFUSED = [
    ('DATASET.PROB_HALF_BODY', .3, '0'), ('DATASET.LABEL_FRAME_FRAC', .5, '1'), ('DATASET.COLOR_JITTER', .4, '0'),
    ('DATASET.GRAY_SCALE', .2, '0'), ('DATASET.GAUSSIAN_BLUR', .1, '0'), ('DATASET.TRAIN_SET', 'valid', 'train'),
    ('DATASET.TEST_SET', 'train', 'valid'), ('DATASET.DATASET', 'mpii', 'penn or '),
    ('MODEL.NAME', 'hrnet', 'imm_joint_model or pose_resnet'),
    ('MODEL.TARGET_TYPE', 'offset', 'gaussian'), ('MODEL.EXTRA.NUM_LAYERS', 20, '50 or 18'),
    ('MODEL.EXTRA.TRANSFORMER', False, 'true'), ('MODEL.EXTRA.FFN', True, 'false'),
    ('MODEL.EXTRA.POS_ENC', True, 'false'),
    ('MODEL.EXTRA.MHATTN', True, 'false'), ('MODEL.EXTRA.FINAL_CONV_KERNEL', 3, '1'),
    ('MODEL.EXTRA.DECONV_WITH_BIAS', True, 'false'), ('MODEL.EXTRA.NUM_DECONV_KERNELS', [4, 4, 2], '[4, 4, 4]'),
    ('MODEL.EXTRA.NUM_DECONV_LAYERS', 2, '3'), ('MODEL.EXTRA.NUM_DECONV_FILTERS', [256, 256], '[256, 256, 256]'),
    ('MODEL.HEATMAP_SIZE', [64, 64], '[32, 32]'), ('MODEL.NUM_JOINTS', 17, '13'),
    ('LOSS.USE_TARGET_WEIGHT', False, 'true'),
    ('LOSS.USE_OHKM', True, 'false'), ('LOSS.USE_DIFFERENT_JOINTS_WEIGHT', True, 'false'),
    ('TRAIN.SHUFFLE', False, 'true'),
    ('TRAIN.BEGIN_EPOCH', 3, '0'), ('TRAIN.OPTIMIZER', 'sgd', 'adam'), ('TRAIN.MASK_AS_INPUT', True, 'false'),
    ('TRAIN.MASK_AS_REF', True, 'false'), ('TRAIN.TTP_BATCHING_STRATEGY', 'all', 'fix_one or both_random'),
    ('TEST.FLIP_TEST', True, 'false'), ('TEST.POST_PROCESS', False, 'true')]

@pytest.mark.parametrize('key,value,good', REFUSED, ids=[r[0] for r in REFUSED])
def test_what_is_not_built(file, key, value, good):
    text = str(value) if not isinstance(value, bool) else str(value).lower()
    f = file(FILES[J], J)
    with pytest.raises(TTPError) as e: read_recipe(f, [key, text])
    says(e, f'{f}: {key} is {text}, which', f'not build: {good}', 'works')
    assert value!=R.THEIRS[key] and official(J, key, R.THEIRS[key]) # what works, works

def test_every_refusal_is_tested():
    assert set(R.ACCEPTED)<={r[0] for r in REFUSED}

def test_what_is_off_may_be_below_zero():
    for key in ('DATASET.PROB_HALF_BODY', 'DATASET.COLOR_JITTER', 'TRAIN.BEGIN_EPOCH'): official(J, key, -1)
    with pytest.raises(TTPError): official(J, 'MODEL.EXTRA.FINAL_CONV_KERNEL', -1)

def test_no_transformer_without_affinity():
    assert official(J, 'MODEL.EXTRA.COMBATTN', False, 'MODEL.EXTRA.TRANSFORMER', False).model.shared

def test_an_official_file_must_say_which_data(file):
    with pytest.raises(TTPError) as e: read_recipe(file('TRAIN: {LR: 1}'))
    says(e, 'DATASET.DATASET is missing', 'penn', 'hm36_offline')

@pytest.mark.parametrize('text,parts', [
    ('TRIAN: {LR: 1}', ['TRIAN', 'did you mean']), ('TRAIN: {LR_STEPS: [1]}', ['TRAIN.LR_STEPS', 'TRAIN.LR_STEP']),
    ('TRAIN: 5', ['TRAIN is 5', 'TRAIN.']), ('MODEL: {EXTRA: [1]}', ['MODEL.EXTRA is [1]']),
    ('TRAIN: {LR: {a: 1}}', ['TRAIN.LR', 'a number']), ('TRAIN: {LR_STEP: 1}', ['TRAIN.LR_STEP', 'a list']),
    ('5: 6', ['no key 5']), ('TRAIN: {5: 6}', ['TRAIN.5']),
    ('TRAIN: {LR: 1}\ntask: joint', ['TRAIN', 'task', 'one kind']), ('model: 3', ['model is 3', 'model.size']),
    ('model: {sise: [1, 1]}', ['model.sise', 'model.size']), ('model: {size: [1, {a: 1}]}', ['model.size']),
    ('trainign: {lr: 1}', ['trainign', 'did you mean']), ('out: 5', ['out is 5', 'text']),
    ('out: [a]', ['out', 'text']),
    ('training: {steps: 1e400}', ['training.steps']), ('data: {first: -1}', ['data.first is -1']),
    ('personalization: {pairs: {mixed_targets: true}}', ['no key personalization.pairs.mixed_targets:']),
    ('model: {skeleton: {name: a, joints: [x, x]}}', ['occurs twice']),
    ('model: {skeleton: [a]}', ['model.skeleton', 'penn13']),
    ('model: {skeleton: {name: a, joints: [x], size: 3}}', ['model.skeleton'])],
    ids=lambda x: x if isinstance(x, str) else '')
def test_files_with_mistakes(file, text, parts):
    f = file(text)
    with pytest.raises(TTPError) as e: read_recipe(f)
    says(e, f'{f}: ', *parts)

def test_empty_sections_are_nothing(file):
    assert read_recipe(file('task: joint\nmodel:\ntraining: {}\ndata: {}'))[0]==Recipe()
    assert read_recipe(file(FILES[J].split('  DEBUG:')[0], J))[0]==official(J) # it ends in `DEBUG:`


# --- files that are none, and worse

@pytest.mark.parametrize('text', [
    b'', b'\n', b'# nothing', b'[]', b'hello', b'5', b'null', b'\x00\x01', b'\xff\xfe\xfd', b'a: [1',
    b'a: b: c', b'\tx: 1', b'a: *b', b'- a\n- b', b'{', b'? [a]\n: 1', b'a: !!int ""', b'a: 2021-13-45', b'[' * 3000,
    b'a: &a [*a]', b'data: &d {data: *d}', b'model: {skeleton: &s {name: a, joints: *s}}',
    b'model: {skeleton: {name: a, joints: [a], pairs: &p [*p]}}', b'training: {steps: ' + b'9' * 5000 + b'}',
    b'a: "\xc3"'], ids=lambda t: repr(t)[2:30])
def test_files_that_are_no_recipe(tmp_path, text):
    f = tmp_path/'x.yaml'
    f.write_bytes(text)
    with pytest.raises(TTPError) as e: read_recipe(f)
    says(e, f'{f}: ')

def test_the_line_is_named(file):
    with pytest.raises(TTPError) as e: read_recipe(file('task: joint\nout: x\nmodel: [1\ndata: {}\n'))
    says(e, 'recipe.yaml: line 4: no yaml')

def test_no_file(tmp_path):
    for p in (tmp_path/'none.yaml', tmp_path):
        with pytest.raises(TTPError) as e: read_recipe(p)
        says(e, f'{p}: cannot be read', '.yaml')

@pytest.mark.parametrize('where', ['file', 'official', 'change'])
@pytest.mark.parametrize('tag', ['!!python/object/apply:os.system ["touch {}"]', '!!python/name:os.system',
    '!!python/object/new:os.system ["touch {}"]', '!!python/module:os',
    '!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{}"]]'])
def test_yaml_is_never_run(file, tmp_path, tag, where):
    bang = tmp_path/'bang'
    tag = tag.format(bang)
    with pytest.raises(TTPError) as e:
        if where=='change': read_recipe(file('task: joint'), ['training.steps', tag])
        else: read_recipe(file(f'training:\n  steps: {tag}' if where=='file' else f'TRAIN:\n  LR: {tag}'))
    assert ('recipe.yaml' in str(e.value))==(where!='change') and not bang.exists()
    assert ('line 2' in str(e.value))==(where!='change')

def test_a_file_that_explodes(file):
    "Lists of nine of a list of nine ...: no answer may spell them out."
    bomb = 'x'
    for a in 'abcdef': bomb = f'&{a} [{bomb}'+f', *{chr(ord(a)-1)}'*8*(a>'a')+']'
    for text in (f'model: {{size: [{bomb}]}}', f'out: {bomb}', f'TRAIN: {{LR: {bomb}}}', f'model: {{skeleton: {bomb}}}',
                 f'model: {bomb}'):
        assert len(str(yaml.safe_load(text)))>10**5
        with pytest.raises(TTPError) as e: read_recipe(file(text))
        says(e, 'recipe.yaml')


# --- ours, written and read again

def round_trip(recipe, tmp_path):
    write_recipe(recipe, tmp_path/'out'/'r.yaml')
    assert read_recipe(tmp_path/'out'/'r.yaml')==(recipe, [])
    assert not leftovers(tmp_path)
    return (tmp_path/'out'/'r.yaml').read_text(encoding='utf-8')

@pytest.mark.parametrize('name', FILES)
def test_official_recipes_come_back(name, tmp_path):
    text = round_trip(official(name), tmp_path)
    keys = R.flatten(yaml.safe_load(text), R.KEYS)
    assert 'skeleton: penn13 ' in text and not {'model.bgr', 'model.origin'} & keys.keys()
    round_trip(changed(official(name), {'authors_rules': False}), tmp_path) # conventions that do not follow are written

def odd_value(g, key, was):
    "Another value of the same type."
    texts = ('', 'a', ' a ', 'a: b', '#x', '- y', "it's", '"q"', 'null', '1e3', '5', 'yes', 'é 漢',
             'two\nlines\n\n  more\n', '[', '*a', '\t', '2021-01-01', '%', 'x'*300)
    if key=='task': return str(g.choice(R.TASKS))
    if key=='data.kind': return str(g.choice(R.KINDS))
    if key in ('data.videos', 'data.labelled', 'data.frames', 'training.color_jitter'): return 1-float(g.random())
    if isinstance(was, bool): return bool(g.integers(2))
    if isinstance(was, int): return int(g.integers(1, 10**6))
    if isinstance(was, float): return float(g.choice([g.random(), 10.**g.integers(-9, 9), 1/3]))
    if isinstance(was, str): return str(g.choice(texts))
    if isinstance(was, Skeleton):
        other = Skeleton('é: 1', ('a', 'no', '3'), ((0, 1),))
        return [PENN13, BBC7, COCO17, replace(PENN13, limbs=()), other][g.integers(5)]
    if was is None: return [None, 0, 12][g.integers(3)]
    return tuple(odd_value(g, '', was[0] if was else '') for _ in range(g.integers(0, 4)))

@pytest.mark.parametrize('seed', range(30))
def test_any_recipe_comes_back(seed, tmp_path):
    g = np.random.default_rng(seed)
    keys = g.permutation(list(R.KEYS))[:g.integers(1, 60)]
    start = Recipe() if seed%5==4 else official(list(FILES)[seed%5])
    round_trip(changed(start, {k: odd_value(g, k, R.KEYS[k]) for k in keys}), tmp_path)

def test_every_value_is_in_the_file(tmp_path):
    text = round_trip(Recipe(), tmp_path)
    entries = R.flatten(yaml.safe_load(text), R.KEYS)
    assert set(entries)==set(R.KEYS)-set(R.FOLLOWS) and set(R.FOLLOWS)<set(R.KEYS)
    assert all('   # ' in line or line.endswith(':') for line in text.splitlines()[1:]), 'a value says not what it is'
    assert 'lr: 0.002   # Adam' in text
    assert max(map(len, text.splitlines()))<=160

def test_one_line_switches_a_written_recipe(tmp_path):
    write_recipe(changed(Recipe(), {'data.kind': 'penn'}), tmp_path/'r.yaml')
    text = (tmp_path/'r.yaml').read_text()
    (tmp_path/'r.yaml').write_text(text.replace('authors_rules: false', 'authors_rules: true'))
    r,_ = read_recipe(tmp_path/'r.yaml')
    assert r.model.bgr and r.model.origin==1 and r.training.pairs.authors_edges and r.personalization.authors_rules

def test_a_folder_where_nothing_can_be_written(tmp_path):
    with pytest.raises(TTPError, match='cannot be written'): write_recipe(Recipe(), '/dev/null/x.yaml')

WEIGHTS = 'output/penn_joint/last.safetensors'
OURS = {'penn_baseline': (B, []), 'penn_joint': (J, []), 'penn_online': (N, ['weights', WEIGHTS]),
        'penn_offline': (F, ['weights', WEIGHTS])}

@pytest.mark.parametrize('name', OURS)
def test_the_experiments_are_the_authors(name, file, tmp_path):
    "The files in `experiments/` are the authors' with our folders."
    theirs,changes = OURS[name]
    expected,_ = read_recipe(file(FILES[theirs], theirs),
        [*changes, 'data.root', 'data/Penn_Action', 'out', f'output/{name}', 'workers', '8'])
    assert read_recipe(EXPERIMENTS/f'{name}.yaml')==(expected, [])
    assert (EXPERIMENTS/f'{name}.yaml').read_text()==round_trip(expected, tmp_path), 'written by another version'

def test_the_small_experiment_is_the_default(tmp_path):
    assert (EXPERIMENTS/'small.yaml').read_text()==round_trip(Recipe(), tmp_path)
    assert {p.stem for p in EXPERIMENTS.glob('*.yaml')}=={*OURS, 'small'}


# --- epochs, and people

def test_epochs_to_steps():
    r = official(J, 'TRAIN.BATCH_SIZE_PER_GPU', 4)
    clips = [noise_clip('a', 5), noise_clip('b', 6)] # 11 frames: 3 batches
    cfg = R.training_config(r, clips)
    assert (cfg.steps, cfg.every)==(420, 15) and replace(cfg, steps=5000, every=250, drops=r.training.drops)==r.training
    cfg = R.training_config(replace(r, epoch_steps=7, validate=0), clips)
    assert (cfg.steps, cfg.every)==(980, 250)
    assert R.training_config(Recipe(), clips)==TrainConfig()
    assert R.training_config(replace(Recipe(), validate=3), clips)==TrainConfig()

@pytest.mark.parametrize('epoch', [1, 2, 3, 5, 7, 11, 49, 100, 273, 1471, 2046])
def test_drops_are_at_whole_epochs(epoch):
    cfg = R.training_config(replace(official(J), epoch_steps=epoch), [noise_clip()])
    lr = [learning_rate(s, cfg) for e in (90, 120) for s in (e*epoch-1, e*epoch)]
    assert lr==pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])

def test_other_joints_are_said():
    bbc = official(J, 'DATASET.DATASET', 'bbcpose', 'MODEL.NUM_JOINTS', 7)
    for r in (bbc, changed(Recipe(), {'model.skeleton': COCO17})):
        with pytest.raises(TTPError, match='model.skeleton to penn13'): R.training_config(r, [noise_clip()])

def by_hand(n, data, lengths):
    "Numbers, starts and lengths of what is kept, as the rule says."
    rs = np.random.RandomState(0)
    chosen = rs.choice(np.arange(n), int(data.videos*n), replace=False)
    labelled = rs.choice(chosen, int(data.labelled*len(chosen)), replace=False)
    res = []
    for i in sorted(chosen): # a beginning is drawn for each, labelled or not
        k = int(lengths[i]*data.frames)
        start = rs.randint(0, lengths[i]-k+1) if data.frames<1 else 0
        if i in labelled: res.append((i, start, k))
    return res

@pytest.mark.parametrize('kw', [{}, {'videos': .5}, {'labelled': .3}, {'frames': .5}, {'videos': .29, 'frames': .4},
                                {'videos': .7, 'labelled': .5, 'frames': .9}, {'videos': 1/3}], ids=str)
def test_the_published_draw(kw):
    data,lengths = DataConfig(**kw),[3+i%5 for i in range(23)]
    clips = [noise_clip(f'{i:03d}', T) for i,T in enumerate(lengths)]
    was,kept = global_state(),[(i, s, k) for i,s,k in by_hand(23, data, lengths) if k]
    got = R.fraction(clips, data)
    assert global_state()==was and len(kept)==len(got)>1
    for (i, s, k),c in zip(kept, got):
        assert np.array_equal(c.joints, clips[i].joints[s:s+k], equal_nan=True) and c.name.startswith(clips[i].name)
    assert {'videos': .5}!=kw or len(got)==11

def test_actions_are_chosen_after_the_draw():
    clips = [replace(noise_clip(f'{i:03d}', 10), action='squat' if i%2 else 'bowl') for i in range(20)]
    data = DataConfig(videos=.5)
    both = [c.name for c in R.fraction(clips, data)]
    some = [c.name for c in R.fraction(clips, replace(data, actions=('squat',)))]
    assert some==[n for n in both if int(n)%2] and 0<len(some)<10
    with pytest.raises(TTPError, match="'run'; there are bowl, squat"):
        R.fraction(clips, DataConfig(actions=('squat', 'run')))
    starts = np.random.RandomState(0)
    starts.choice(20, 20, replace=False); starts.choice(20, 20, replace=False)
    cut = R.fraction(clips, DataConfig(frames=.3, actions=('bowl',))) # only these draw their beginnings
    assert [c.name.split('_')[1] for c in cut]==[f'{s}-{s+3}' for s in (starts.randint(0, 8) for _ in range(10))]

@pytest.fixture(scope='module')
def penn(tmp_path_factory):
    "Twelve training people of 5 frames and two test people of 5, in Penn Action's layout."
    root = tmp_path_factory.mktemp('penn')
    clips = [noise_clip(f'{i}', 5, i) for i in range(14)]
    return write_penn(clips, root, [i<12 for i in range(14)])

def test_people_on_disk(penn, tmp_path):
    for kind in ('penn', 'synthetic'):
        said = []
        train,valid = R.training_clips(DataConfig(kind, str(penn)), said.append)
        assert [c.name for c in valid]==['0001', '0011']
        assert [c.name for c in train]==[f'{i:04d}' for i in range(1, 13) if i not in (1, 11)]
        clips,absent = R.evaluation_clips(DataConfig(kind, str(penn)))
        assert [c.name for c in clips]==['0013', '0014'] and not absent
    assert said and all('joints not visible' in s for s in said)
    train,valid = R.training_clips(DataConfig('penn', str(penn), videos=.5, first=2), said.append)
    assert len(train)+len(valid)==6 and all(len(c)==2 for c in train+valid)
    assert '6 of 12 training videos' in said[-1]

@pytest.mark.parametrize('kind,asked', [*((k, k) for k in R.KINDS[1:]), ('synthetic', 'penn')])
def test_each_kind_has_its_reader(kind, asked, monkeypatch):
    calls = []
    def read(*args):
        calls.append(args)
        return [noise_clip(f'{i}', 3) for i in range(3)],['x']
    monkeypatch.setattr(R, 'read_clips', read)
    monkeypatch.setattr(R, 'labelled_frames', lambda clips, hold_out: (clips, clips))
    R.training_clips(DataConfig(kind, 'there')); R.evaluation_clips(DataConfig(kind, 'there'))
    assert calls==[(asked, 'there', 'train'), (asked, 'there', 'test')]

def test_videos_that_are_not_there(penn, tmp_path):
    root = tmp_path/'penn'
    shutil.copytree(penn, root)
    names = lambda r: {c.name for half in R.training_clips(DataConfig('penn', str(r), videos=.5)) for c in half}
    lost = sorted(names(penn))[2]
    shutil.rmtree(root/'frames'/lost)
    assert names(root)==names(penn)-{lost}, 'a missing video changes which others are drawn'
    said = []
    R.training_clips(DataConfig('penn', str(root)), said.append)
    assert said[0]==f'1 of 12 train videos have no complete frames: {lost}'
    shutil.rmtree(root/'frames'/'0013')
    assert R.evaluation_clips(DataConfig('penn', str(root)))[1]==['0013']

def test_every_nth_frame_within_the_clip(penn):
    whole,_ = R.evaluation_clips(DataConfig('penn', str(penn)))
    for every,kept in ((1, [0,1,2,3,4]), (2, [1,3]), (3, [2]), (5, [4])):
        clips,absent = R.evaluation_clips(DataConfig('penn', str(penn), every=every))
        assert not absent
        for c,w in zip(clips, whole, strict=True): assert np.array_equal(c.joints, w.joints[kept], equal_nan=True)
    clips,_ = R.evaluation_clips(DataConfig('penn', str(penn), every=2, first=1))
    assert [np.array_equal(c.joints, w.joints[1:2], equal_nan=True) for c,w in zip(clips, whole)]==[True, True]
    with pytest.raises(TTPError, match='data.every is 6'): R.evaluation_clips(DataConfig('penn', str(penn), every=6))

def test_evaluation_clips_that_are_too_short_are_named(tmp_path):
    write_penn([noise_clip('a', 3), noise_clip('b', 6)], tmp_path, [False, False])
    said = []
    clips,absent = R.evaluation_clips(DataConfig('penn', str(tmp_path), every=4), say=said.append)
    assert [len(c) for c in clips]==[1] and absent==['0001']
    assert any('1 of 2 test clips have fewer than 4 frames' in s for s in said)

def test_too_few_people(penn, tmp_path):
    write_penn([noise_clip('a', 3)], tmp_path/'one', [True])
    few = [DataConfig('penn', str(penn), videos=v) for v in (.1, .01)]
    for data in (DataConfig('penn', str(tmp_path/'one')), *few):
        with pytest.raises(TTPError, match='at least two videos'): R.training_clips(data)
    for kind in R.KINDS[1:]:
        with pytest.raises(TTPError, match='data.root is empty'): R.training_clips(DataConfig(kind))
        with pytest.raises(TTPError, match='data.root is empty'): R.evaluation_clips(DataConfig(kind))
    with pytest.raises(TTPError, match='nobody to train on'): R.training_clips(DataConfig(people=3, videos=.1))
    with pytest.raises(TTPError): R.training_clips(DataConfig('penn', str(tmp_path/'none')))

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "Forty labelled frames of one animal and seven of another, as DeepLabCut writes them, without a skeleton."
    root,g,parts = tmp_path_factory.mktemp('lab'),np.random.default_rng(0),['nose', 'paw1', 'paw2', 'tail']
    xy = lambda word, values: ','.join([word, *values])
    rows = [xy('scorer', ['me']*8), xy('bodyparts', [p for p in parts for _ in 'xy']), xy('coords', ['x', 'y']*4)]
    for day,n in (('mon', 40), ('tue', 7)):
        for t in range(n):
            (root/day).mkdir(exist_ok=True)
            cv2.imwrite(str(root/day/f'{t}.png'), g.integers(0, 255, (40,48,3), dtype=np.uint8))
            rows.append(xy(f'{day}/{t}.png', [f'{v:.1f}' for v in g.uniform(4, 36, 8)]))
    (root/'CollectedData.csv').write_text('\n'.join(rows))
    return root

def test_labelled_frames_are_parted_not_videos(lab):
    data = DataConfig('dlc', str(lab))
    train,valid = R.training_clips(data)
    named = lambda clips: [(c.name, len(c)) for c in clips]
    assert named(train)==[('mon', 29), ('tue', 6)] and named(valid)==[('mon', 3)]
    assert all(isinstance(c.frames, list) and c.torso[0]>0 for c in train+valid)
    where = lambda clips: {k.tobytes() for c in clips for k in c.joints}
    test,_ = R.evaluation_clips(data)
    parts = [where(c) for c in (train, valid, test)]
    assert [len(p) for p in parts]==[35, 3, 9] and len(set().union(*parts))==47
    whole,same = R.training_clips(data, hold_out=False)
    assert where(whole)==parts[0]|parts[1] and where(same)==parts[1]
    clips = R.filed_people(data, 'train')[0]
    assert not isinstance(R.labelled_frames(clips, limit=100)[0][0].frames, list), 'more than may be held in memory'
    assert [len(c) for c in R.training_clips(DataConfig('dlc', str(lab), first=12))[0]]==[11, 6]
    for few in (DataConfig('dlc', str(lab), first=9), DataConfig('dlc', str(lab), videos=.1)):
        with pytest.raises(TTPError, match='ten labelled frames'): R.training_clips(few)

def test_any_skeleton_trains_is_saved_and_personalised(lab, tmp_path):
    "A table of names is enough: no pairs, no limbs, no torso; with pairs frames are mirrored."
    recipe = replace(Recipe(data=DataConfig('dlc', str(lab)), model=TINY, training=replace(TINY_RUN, steps=2, every=2)),
                     out=str(tmp_path/'run'))
    said = []
    run = R.train_recipe(recipe, say=said.append, progress=False)
    assert not run.cfg.pairs.flip and sum('nothing is mirrored' in s for s in said)==1 and run.best>=0
    _,model = R.load_weights(replace(recipe, weights=str(run.out/'best.safetensors')))
    assert model.cfg.skeleton==Skeleton('labels', ['nose', 'paw1', 'paw2', 'tail'])
    film = no_joints(R.evaluation_clips(recipe.data)[0][0])
    done = offline(model, replace(film, skel=PENN13), TTPConfig(batch=2))
    assert done.kp.shape==(len(film), 4, 2) and np.isfinite(done.kp).all()
    clips,_ = R.evaluation_clips(recipe.data)
    rows = evaluate(model, clips, tmp_path/'eval', cfg=TTPConfig(batch=2), progress=False)['rows']
    assert [r['scenario'] for r in rows]==['before', 'online', 'offline'] and all(r['pck'] is not None for r in rows)
    write_skeleton(Skeleton('lab', model.cfg.skeleton.joints, [(1,2)]), lab/'skeleton.yaml')
    try: run = R.train_recipe(replace(recipe, out=str(tmp_path/'pairs')), say=said.append, progress=False)
    finally: (lab/'skeleton.yaml').unlink()
    assert run.cfg.pairs.flip and run.model.cfg.skeleton.name=='lab'
    assert sum('nothing is mirrored' in s for s in said)==1

def test_drawn_people(monkeypatch):
    "What the command has always drawn: every fifth frame, sixty to choose on."
    monkeypatch.setattr(R, 'in_memory', lambda c: c) # drawing takes long
    train,valid = R.training_clips(DataConfig(people=7), progress=False)
    for clips,n,split in ((train, 7, 'train'), (valid, 60, 'valid')):
        assert len(clips)==n
        for c,d in zip(clips, synthetic_clips(n, split), strict=True):
            assert np.array_equal(c.joints, d.joints[::5], equal_nan=True)
    train,_ = R.training_clips(DataConfig(people=8, videos=.5, frames=.5, first=3), progress=False)
    assert [len(c) for c in train]==[3]*4
    clips,absent = R.evaluation_clips(DataConfig(), 4, 9)
    assert [c.name for c in clips]==[c.name for c in synthetic_clips(4, 'test', 9)] and absent==[]
    action = clips[1].action
    some,_ = R.evaluation_clips(DataConfig(actions=(action,)), 4, 9)
    assert {c.action for c in some}=={action}

def test_drawn_people_are_in_memory(monkeypatch):
    two = lambda n, split: [noise_clip(f'{split}{i}', 10) for i in range(2)]
    monkeypatch.setattr(R, 'synthetic_clips', two)
    train,valid = R.training_clips(DataConfig(people=2), progress=False)
    assert all(isinstance(c.frames, np.ndarray) and len(c)==2 for c in train+valid)


# --- no side effects

def test_reading_changes_nothing(file):
    was = global_state()
    changes = ['training.steps', '2', 'TRAIN.LR', '1']
    entries = yaml.safe_load(FILES[J])
    copy = yaml.safe_load(FILES[J])
    assert from_official(entries, J)==from_official(entries, J) and entries==copy
    read_recipe(file(FILES[J], J), changes)
    assert changes==['training.steps', '2', 'TRAIN.LR', '1'] and global_state()==was
    assert math.isclose(Recipe().training.lr, 2e-3) # defaults are shared and stay
