"""Running recipes: epochs, the authors' draw of people, every reader, and training on anybody's joints."""
import shutil
from dataclasses import replace
import cv2, numpy as np, pytest
from safetensors.torch import load_file
from test_coco import person as coco_person, photos, write_coco
from test_real_data import write_video
from test_recipe_files import FILES, J, official
from tiny import RECIPE as TINY_RUN, TINY, global_state, no_joints, noise_clip, people, same_weights
from ttp_nb import recipe_runs as R, training
from ttp_nb.basics import TTPError
from ttp_nb.drawn_people import synthetic_clips
from ttp_nb.checkpoints import load_model, read_card
from ttp_nb.experiments import evaluate
from ttp_nb.joint_model import people_config
from ttp_nb.pairs import training_pairs
from ttp_nb.penn import write_penn
from ttp_nb.personalization import TTPConfig, offline
from ttp_nb.recipe_files import read_recipe
from ttp_nb.recipes import DATA_KINDS, DataConfig, Recipe, changed
from ttp_nb.skeleton_files import write_skeleton
from ttp_nb.skeletons import COCO17, JHMDB15, PENN13, PEOPLE18, Skeleton
from ttp_nb.training import TrainConfig, learning_rate


# --- epochs

def test_epochs_to_steps():
    r = official(J, 'TRAIN.BATCH_SIZE_PER_GPU', 4)
    clips = [noise_clip('a', 5), noise_clip('b', 6)] # 11 frames: 3 batches
    cfg = R.training_config(r, clips)
    assert (cfg.steps, cfg.every)==(420, 15) and replace(cfg, steps=5000, every=250, drops=r.training.drops)==r.training
    cfg = R.training_config(replace(r, epoch_steps=7, validate=0), clips)
    assert (cfg.steps, cfg.every)==(980, 250)
    assert R.training_config(Recipe(), clips)==TrainConfig()
    assert R.training_config(replace(Recipe(), validate=3), clips)==TrainConfig()

def test_steps_instead_of_epochs(tmp_path):
    f = tmp_path/'joint.yaml'
    f.write_text(FILES[J])
    r,_ = read_recipe(f, ['training.steps', '2'])
    assert R.training_config(r, people(2)).steps==2
    r,_ = read_recipe(f, ['training.steps', '2', 'epochs', '3'])
    assert r.epochs==3
    r,_ = read_recipe(f, ['training.every', '2'])
    assert r.epochs==140 and R.training_config(r, people(2)).every==2

@pytest.mark.parametrize('epoch', [1, 2, 3, 5, 7, 11, 49, 100, 273, 1471, 2046])
def test_drops_are_at_whole_epochs(epoch):
    cfg = R.training_config(replace(official(J), epoch_steps=epoch), [noise_clip()])
    lr = [learning_rate(s, cfg) for e in (90, 120) for s in (e*epoch-1, e*epoch)]
    assert lr==pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])

def test_other_joints_are_said():
    bbc = official(J, 'DATASET.DATASET', 'bbcpose', 'MODEL.NUM_JOINTS', 7)
    for r in (bbc, changed(Recipe(), {'model.skeleton': COCO17})):
        with pytest.raises(TTPError, match='model.skeleton to penn13'): R.training_config(r, [noise_clip()])


# --- people

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

@pytest.mark.parametrize('kind,asked', [*((k, k) for k in DATA_KINDS[1:]), ('synthetic', 'penn')])
def test_each_kind_has_its_reader(kind, asked, monkeypatch):
    calls = []
    def read(*args):
        calls.append(args)
        return [noise_clip(f'{i}', 3) for i in range(3)],['x']
    monkeypatch.setattr(R, 'read_clips', read)
    monkeypatch.setattr(R, 'labelled_frames', lambda clips, hold_out: (clips, clips))
    R.training_clips(DataConfig(kind, 'there')); R.evaluation_clips(DataConfig(kind, 'there'))
    own = ['valid'] if kind=='jhmdb' else [] # people to choose on, of other sources
    assert calls==[(asked, 'there', split) for split in ('train', *own, 'test')]

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
    for kind in DATA_KINDS[1:]:
        with pytest.raises(TTPError, match='data.root is empty'): R.training_clips(DataConfig(kind))
        with pytest.raises(TTPError, match='data.root is empty'): R.evaluation_clips(DataConfig(kind))
    with pytest.raises(TTPError, match='nobody to train on'): R.training_clips(DataConfig(people=3, videos=.1))
    with pytest.raises(TTPError): R.training_clips(DataConfig('penn', str(tmp_path/'none')))


# --- anybody's joints

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
    clip = no_joints(R.evaluation_clips(recipe.data)[0][0])
    done = offline(model, replace(clip, skel=PENN13), TTPConfig(batch=2))
    assert done.kp.shape==(len(clip), 4, 2) and np.isfinite(done.kp).all()
    clips,_ = R.evaluation_clips(recipe.data)
    rows = evaluate(model, clips, tmp_path/'eval', cfg=TTPConfig(batch=2), progress=False)['rows']
    assert [r['scenario'] for r in rows]==['before', 'online', 'offline'] and all(r['pck'] is not None for r in rows)
    write_skeleton(Skeleton('lab', model.cfg.skeleton.joints, [(1,2)]), lab/'skeleton.yaml')
    try: run = R.train_recipe(replace(recipe, out=str(tmp_path/'pairs')), say=said.append, progress=False)
    finally: (lab/'skeleton.yaml').unlink()
    assert run.cfg.pairs.flip and run.model.cfg.skeleton.name=='lab'
    assert sum('nothing is mirrored' in s for s in said)==1


# --- drawn people

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
    assert all(isinstance(c.frames, list) and isinstance(c.frames[0], np.ndarray) and len(c)==2 for c in train+valid)


# --- several data sets

def drawn(n, split): # as `synthetic_clips`, but at once; every fifth of ten frames is used
    return [noise_clip(f'{split}{i}', 10, i, hidden=0.) for i in range(n if split=='train' else 2)]

@pytest.fixture
def mix(tmp_path, monkeypatch):
    "Three JHMDB videos to train on and one to choose on, one without joints; eleven photographs; drawn people."
    monkeypatch.setattr(R, 'synthetic_clips', drawn)
    root = tmp_path/'JHMDB'
    for i in (0,1,7): write_video(root, f'Show{i}_run_f_0', 'run', frames='png')
    write_video(root, 'Show2_run_f_0', 'run', frames='png') # of a source that is held out
    write_video(root, 'Show1_run_f_1', 'run', frames='png', joints=0)
    write_video(root, 'Other_run_f_0', 'run', part=2, frames='png')
    file = write_coco(tmp_path/'coco.json', photos([coco_person(i, 1+i%2, seed=i) for i in range(11)]), tmp_path)
    return DataConfig('jhmdb,coco,synthetic', f'{root},{file},', people=3)

def names(clips): return [c.name for c in clips]

def frames_of(clips, name): return sum(len(c) for c in clips if c.name.startswith(name))

def test_the_mix_is_what_it_says(mix):
    said = []
    clips,valid = R.training_clips(mix, said.append, progress=False)
    one = {c.name: c for c in clips}
    shows,photos = [n for n in one if n.startswith('Show')],[n for n in one if n.startswith('0000')]
    assert len(shows)==3 and 'Show2_run_f_0' not in one and len(photos)==9 and len(one)==15
    assert all(c.skel==PEOPLE18 and c.joints.shape==(len(c),18,2) for c in clips+valid)
    assert {len(one[n]) for n in shows}=={4} and {len(one[n]) for n in photos}=={1}
    assert any(s.startswith('jhmdb: 3 clips, 12 frames, each 3 times') for s in said)
    assert sum(' frames, each ' in s for s in said)==3

def test_to_choose_on_there_are_real_people_only(mix):
    _,valid = R.training_clips(mix, progress=False)
    assert names(valid)[0]=='Show2_run_f_0' and len(valid)==3 and all(n.startswith('0000') for n in names(valid)[1:])
    trained = {c.name for c in R.training_clips(mix, progress=False)[0]}
    assert not trained & set(names(valid))
    _,all_drawn = R.training_clips(DataConfig('synthetic,synthetic', ',', people=2), progress=False)
    assert len(all_drawn)==4 and frames_of(all_drawn, 'valid')==8, 'nobody real: the drawn ones'
    clips,valid = R.training_clips(mix, progress=False, hold_out=False)
    assert len({c.name for c in clips if c.name.startswith('0000')})==11
    assert set(names(valid)[1:]) <= set(names(clips)), "the authors' way: also trained on"

def test_joints_that_a_set_does_not_know_weigh_nothing(mix):
    clips = {c.name: c for c in R.training_clips(mix, progress=False)[0]}
    unknown,known = slice(0, 5),slice(5, 18) # neither has ears, eyes and a nose
    for name in ('Show0_run_f_0', next(n for n in clips if n.startswith('train0'))):
        c = clips[name]
        assert not c.vis[:,unknown].any() and np.isnan(c.joints[:,unknown]).all() and c.vis[:,known].all()
        p = training_pairs([c], 0, 0, 8, (32,32), (16,16))
        assert not p.weight[:,unknown].any() and p.weight[:,known].any() and p.heatmaps.isfinite().all()
    photo = next(c for n,c in clips.items() if n.startswith('0000'))
    assert photo.vis[0].all() and np.allclose(photo.joints[0,17], photo.joints[0,3:5].mean(0)), 'between the ears'

@pytest.mark.parametrize('shares', [(1.,), (1,1,1), (5,3,2), (.5,.3,.2), (1,10,1), (8,1,1)])
def test_shares_by_repetition(mix, shares):
    "Whole repetitions, three at least: each share is met to a sixth."
    clips,_ = R.training_clips(replace(mix, shares=shares), progress=False)
    part = np.array([frames_of(clips, name) for name in ('Show', '0000', 'train')])
    wanted = np.array(shares*3 if len(shares)==1 else shares)
    off = part/part.sum()/(wanted/wanted.sum())
    assert abs(off-1).max()<1/3 and (part/[12,9,6]>=3).all() and (part%[12,9,6]==0).all()
    by_name = {n: names(clips).count(n) for n in set(names(clips))}
    assert len({v for n,v in by_name.items() if n.startswith('Show')})==1, 'each clip of a set as often as the others'

def test_repetitions_by_hand():
    lists = [[np.zeros(n) for n in sizes] for sizes in ([10,20], [5], [1,1,1])]
    assert R.repetitions(lists, (1.,))==[3,18,30] and R.repetitions(lists, (10,1,1))==[5,3,5]
    assert R.repetitions(lists[:1], (1.,))==[3] and R.repetitions(lists, (30,5,3))==[3,3,3]
    g = np.random.default_rng(0)
    for _ in range(200):
        k = g.integers(2, 5)
        sizes,shares = g.integers(1, 500, k),g.uniform(.05, 1, k)
        times = R.repetitions([[np.zeros(n)] for n in sizes], tuple(shares))
        exact = shares/sizes
        off = times/(3*exact/exact.min())
        assert min(times)==3 and abs(off-1).max()<=1/6+1e-9

@pytest.mark.parametrize('change,said', [
    (dict(root=''), 'names 3 data sets, data.root 1 folders'), (dict(root='a,b'), 'data.root 2 folders'),
    (dict(root='a,b,c,d'), 'data.root 4 folders'), (dict(kind='jhmdb,coco'), 'names 2 data sets, data.root 3'),
    (dict(shares=(1.,2.)), r'data.shares is \[1.0, 2.0\]: a number above 0 .* each of jhmdb,coco,synthetic'),
    (dict(shares=()), r'data.shares is \[\]'), (dict(shares=(1.,0.,1.)), 'data.shares'),
    (dict(shares=(-1.,)), 'above 0'), (dict(shares=(1.,1.,1.,1.)), 'data.shares'),
    (dict(root=',,'), 'data.root is empty.*jhmdb'),
    (dict(root='nowhere,nowhere,'), 'nowhere: has neither Rename_Images')], ids=str)
def test_roots_and_shares_that_do_not_fit(mix, change, said):
    with pytest.raises(TTPError, match=said) as e: R.training_clips(replace(mix, **change), progress=False)
    assert '\n' not in str(e.value)

def test_kinds_that_do_not_exist(mix):
    for kind in ('jhmdb,mpii,synthetic', 'jhmdb,coco,', ',,'):
        with pytest.raises(TTPError, match='data.kind is'): changed(Recipe(), {'data.kind': kind})
    with pytest.raises(TTPError, match='no joint of'): # a set that shares no joint with the network's
        R.training_clips(mix, progress=False, skeleton=Skeleton('mouse', ('tail',)))

def test_drawn_people_may_lie_on_disk(mix, penn):
    clips,valid = R.training_clips(replace(mix, root=mix.root+str(penn)), progress=False)
    assert {'0002','0003'} <= set(names(clips)) and not frames_of(clips, 'train')
    assert not {'0001','0011'} & set(names(valid)), 'written by `ttp synth`, so still drawn'

def test_pseudo_labels_join_the_videos_without_joints(mix, monkeypatch):
    asked = []
    def labelled(root, skel, progress):
        asked.append((root, skel, progress))
        c = noise_clip('Show1_run_f_1', 4)
        joints = np.full((4,18,2), 30.)
        return [replace(c, joints=joints, vis=np.ones((4,18), bool), weight=np.full((4,18), .5), skel=PEOPLE18)]
    monkeypatch.setattr(R, 'pseudo_labelled_clips', labelled)
    without,_ = R.training_clips(mix, progress=False)
    assert asked==[] and 'Show1_run_f_1' not in names(without)
    clips,valid = R.training_clips(replace(mix, pseudo_labels=True), progress=False)
    assert asked==[(mix.root.split(',')[0], PEOPLE18, False)] and 'Show1_run_f_1' not in names(valid)
    c = next(c for c in clips if c.name=='Show1_run_f_1')
    assert (c.weight==.5).all() and isinstance(c.frames, list)
    assert frames_of(clips, 'Show')==16*names(clips).count(c.name), 'one of four videos'
    p = training_pairs([c], 0, 0, 6, (32,32), (16,16))
    assert set(p.weight.unique().tolist()) <= {0.,.5} and (p.weight==.5).any()

def test_jhmdb_alone_keeps_its_joints(mix):
    root = mix.root.split(',')[0]
    train,valid = R.training_clips(DataConfig('jhmdb', root), progress=False)
    assert names(train)==[f'Show{i}_run_f_0' for i in (0,1,7)] and names(valid)==['Show2_run_f_0']
    assert all(c.skel==JHMDB15 and isinstance(c.frames, list) for c in train+valid)
    test,absent = R.evaluation_clips(DataConfig('jhmdb', root), skeleton=PEOPLE18)
    assert names(test)==['Other_run_f_0'] and test[0].skel==PEOPLE18 and absent==[]
    with pytest.raises(TTPError, match='no joint of'):
        R.evaluation_clips(DataConfig('jhmdb', root), skeleton=Skeleton('mouse', ('tail',)))

@pytest.fixture
def small_people(mix, tmp_path):
    "A recipe for a network that is like the people's, but for its size."
    model = people_config(size=(64,64), keypoints=17, heads=2, appearance=(4,8), pose=(4,8), renderer=(8,6,4))
    cfg = TrainConfig(steps=2, batch=6, lr=1e-4, warmup=2, every=1, self_supervised_pairs=3)
    return Recipe(data=replace(mix, shares=(2.,1.,1.)), model=model, training=cfg, out=str(tmp_path/'whole'))

@pytest.mark.parametrize('task', ['joint', 'baseline'])
def test_a_mix_trains_and_resumes_to_the_same_bytes(small_people, task, tmp_path, monkeypatch):
    recipe,was = replace(small_people, task=task),global_state()
    whole = R.train_recipe(recipe, progress=False, command='ttp train')
    assert global_state()==was and whole.step==2 and whole.best>=0 and whole.model.cfg==recipe.model
    card = read_card(whole.out/'last.safetensors')
    assert card['data']=='jhmdb,coco,synthetic' and card['validation_people']==3 and card['training']['warmup']==2
    step = training.train_step
    def stopped(*args):
        if args[-1]==1: raise KeyboardInterrupt
        return step(*args)
    monkeypatch.setattr(training, 'train_step', stopped)
    parted = replace(recipe, out=str(tmp_path/'parted'))
    with pytest.raises(KeyboardInterrupt): R.train_recipe(parted, progress=False, command='ttp train')
    monkeypatch.setattr(training, 'train_step', step)
    again = R.train_recipe(replace(parted, resume=True), progress=False, command='ttp train')
    for name in ('last.safetensors', 'best.safetensors', 'last.json', 'best.json', 'log.jsonl'):
        assert (whole.out/name).read_bytes()==(again.out/name).read_bytes(), name
    loaded = load_model(whole.out/'last.safetensors', PEOPLE18)
    assert same_weights(loaded.state_dict(), whole.model.state_dict())
    assert not [k for k in load_file(whole.out/'last.safetensors') if 'features' in k]

def test_a_run_is_not_resumed_on_another_mix(small_people):
    R.train_recipe(replace(small_people, task='baseline'), progress=False)
    other = replace(small_people, task='baseline', resume=True, data=replace(small_people.data, shares=(1.,4.,4.)))
    with pytest.raises(TTPError): R.train_recipe(other, progress=False)

def test_shapes_are_checked_in_silence(small_people, recwarn):
    for task in ('joint', 'baseline'): R.check_shape(replace(small_people, task=task))
    assert not recwarn.list, 'a warning for each tensor that is not there'

def test_shapes_are_checked_before_anybody_is_read(small_people, monkeypatch):
    def never(*args): raise AssertionError('read')
    monkeypatch.setattr(R, 'training_clips', never)
    for change,said in ((dict(size=(72,64)), 'multiples of 32'), (dict(trunk='hourglass'), "no trunk 'hourglass'")):
        wrong = replace(small_people, model=replace(small_people.model, **change))
        with pytest.raises(TTPError, match=said): R.train_recipe(wrong, progress=False)
    with pytest.raises(AssertionError, match='read'): R.train_recipe(small_people, progress=False)
