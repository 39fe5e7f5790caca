"""Recipe files: the authors' four field by field, every value that is refused, and yaml that means harm."""
import math
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest, yaml
from test_recipes import odd_value
from tiny import global_state, leftovers
from ttp_nb.basics import TTPError
from ttp_nb.joint_model import ModelConfig, paper_config
from ttp_nb.pairs import PairConfig
from ttp_nb.personalization import TTPConfig
from ttp_nb.recipe_files import (
    ACCEPTED, IGNORED, OFFICIAL, THEIRS, flatten, from_official, read_recipe, write_recipe)
from ttp_nb.recipes import KEYS, DataConfig, Recipe, changed, rule_values, settings, with_authors_rules
from ttp_nb.skeletons import BBC7, H36M16, PENN13
from ttp_nb.training import TrainConfig

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
    entries = flatten(yaml.safe_load(FILES[name]), [*THEIRS, *IGNORED])
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
        personalization=TTPConfig(batch=32, authors_rules=True, anchor_weight=0.), epochs=140, epoch_steps=0,
        validate=10, imagenet=IMAGENET, weights='', out=f'output/penn/pose_resnet/{B}', workers=24, resume=True)
    assert set(ignored)==ALL_ALIKE | {'TEST.BATCH_SIZE_PER_GPU'} and len(ignored)==len(set(ignored))

def test_joint(file):
    r,ignored = read_recipe(file(FILES[J], J))
    assert r.model==ModelConfig(
        size=(128,128), skeleton=PENN13, keypoints=30, depth=50, width=64, stages=4, filters=(256,256,256),
        lateral=False, layers=1, heads=4, dropout=.1, sigma=2., enlarge=4, appearance=(32,64,128,256),
        appearance_stride=1, pose=(32,64,128,256), renderer=(256,128,64,32), convs=2, vgg=True, shared=False,
        bgr=True, origin=1)
    assert r==replace(official(B), task='joint', validate=5, out=f'output/penn/imm_joint_model/{J}')
    assert r.training.weight==.001 and set(ignored)==ALL_ALIKE | {'TEST.BATCH_SIZE_PER_GPU'}

def test_online(file):
    r,ignored = read_recipe(file(FILES[N], N))
    assert r==Recipe(
        task='online', authors_rules=True, data=DataConfig('penn', 'data/Penn_Action/', every=1),
        model=paper_config(50, bgr=True, origin=1),
        training=TrainConfig(lr=.001, weight=.001, self_supervised_pairs=0, color_jitter=0.,
                             pairs=PairConfig(authors_edges=True)),
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
    assert set(OFFICIAL)-{m[1] for m in MEANT}=={
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
    assert with_authors_rules(replace(r, authors_rules=True))==official(J)
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
    (['model.skeleton', '{name: x}'], ['model.skeleton']), (['training.lr', '[1'], ["training.lr '[1'", 'no yaml']),
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
    assert value!=THEIRS[key] and official(J, key, THEIRS[key]) # what works, works

def test_every_refusal_is_tested():
    assert set(ACCEPTED)<={r[0] for r in REFUSED}

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
    b'training: {steps: 0x' + b'f' * 5000 + b'}',
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
        says(e, f'{p}: cannot be read')

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
    keys = flatten(yaml.safe_load(text), KEYS)
    assert 'skeleton: penn13 ' in text and not {'model.bgr', 'model.origin'} & keys.keys()
    round_trip(changed(official(name), {'authors_rules': False}), tmp_path) # conventions that do not follow are written

@pytest.mark.parametrize('seed', range(30))
def test_any_recipe_comes_back(seed, tmp_path):
    g = np.random.default_rng(seed)
    keys = g.permutation(list(KEYS))[:g.integers(1, 60)]
    start = Recipe() if seed%5==4 else official(list(FILES)[seed%5])
    round_trip(changed(start, {k: odd_value(g, k, KEYS[k]) for k in keys}), tmp_path)

def test_every_value_is_in_the_file(tmp_path):
    text = round_trip(Recipe(), tmp_path)
    entries = flatten(yaml.safe_load(text), KEYS)
    assert set(entries)==KEYS.keys()-rule_values(Recipe()).keys() and rule_values(Recipe()).keys()<KEYS.keys()
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
    assert {p.stem for p in EXPERIMENTS.glob('*.yaml')}=={*OURS, 'small', 'people'}


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
