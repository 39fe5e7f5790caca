"""Labels of one's own: which frames, the page's server, what is saved, and training on from a network with them."""
import http.client, json, threading
from dataclasses import replace
from urllib.error import HTTPError
from urllib.request import Request, urlopen
import numpy as np, pytest, torch
from PIL import Image
from tiny import TINY, briefly_trained, leftovers, noise_clip, person, tiny_model
from ttp_nb import cli, own_labels as L, recipe_runs as R
from ttp_nb.basics import TTPError
from ttp_nb.checkpoints import load_model, read_card, save_model
from ttp_nb.coco import coco_clips
from ttp_nb.evidence import Lab
from ttp_nb.exports import read_keypoints
from ttp_nb.recipes import GENTLE, Recipe, with_values
from ttp_nb.skeleton_files import write_skeleton
from ttp_nb.skeletons import PENN13, Skeleton
from ttp_nb.video import write_mp4

FILM = 24
quiet = lambda line: None


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    "A tiny network that has learned a little."
    path = tmp_path_factory.mktemp('weights')/'tiny.safetensors'
    save_model(briefly_trained(), path, sources=[{'data': 'drawn'}])
    return path

@pytest.fixture(scope='module')
def dancer(): return person(3, frames=FILM)

@pytest.fixture(scope='module')
def film(tmp_path_factory, dancer):
    path = tmp_path_factory.mktemp('film')/'my.mp4'
    write_mp4(path, dancer.frames, 12)
    return path

def box_of(clip): return ','.join(f'{v:.0f}' for v in [*clip.boxes[:, :2].min(0).clip(0), *clip.boxes[:, 2:].max(0)])

def prepared(film, out, weights, dancer, n=10, **how):
    return L.prepare_labels(film, out, n, box_of(dancer), weights, say=quiet, progress=False, **how)

def confirm(labels, clip, n=None, joints=None):
    "Says of the first n frames where the joints really are."
    last = np.array(labels.size)-1
    for i,number in list(enumerate(labels.numbers))[:n]:
        at = [clip.skel.index(j) for j in labels.skeleton.joints]
        points = [[x, y, 2 if joints is None or clip.skel.joints[j] in joints else 0]
                  for j,(x,y) in zip(at, clip.joints[number][at].clip(0, last).tolist())]
        labels.change(i, points, 'done')
    return labels

@pytest.fixture(scope='module')
def ten(film, weights, dancer, tmp_path_factory):
    "A folder with ten labelled frames."
    return confirm(prepared(film, tmp_path_factory.mktemp('ten')/'my_labels', weights, dancer), dancer)

class Served:
    "A server of two frames, and how it is asked."
    def __init__(self, out):
        skel = Skeleton('two', ('left_hand', 'right_hand'), ((1, 0),), ((0, 1),))
        self.labels = L.LabelFolder(out, skel, (64, 48), [3, 9], [[4, 4, 40, 40]]*2, [[[10, 10, 2], [30, 10, 2]]]*2,
                                    ['open']*2, {'video': 'my.mp4', 'sha256': ''})
        self.labels.save()
        (out/'images').mkdir()
        for i in range(2): Image.new('RGB', (64, 48), (90*i, 0, 0)).save(self.labels.image(i))
        self.server = L.LabelServer(self.labels).start()

    def __call__(self, where, body=None, **headers):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            request = Request(self.server.address+where, data, {'Content-Type': 'application/json'} | headers)
            with urlopen(request, timeout=60) as r: return r.status, r.read()
        except HTTPError as e: return e.code, e.read()

    def raw(self, method, path, body=None, **headers):
        "A request as no library would send it."
        c = http.client.HTTPConnection(*self.server.server_address, timeout=60)
        c.putrequest(method, path, skip_host='Host' in headers)
        for k,v in headers.items(): c.putheader(k.replace('_', '-'), v)
        c.endheaders(body)
        r = c.getresponse()
        return r.status, r.read()

    def session(self): return json.loads((self.labels.out/'work'/'session.json').read_text())
    def done(self):
        content = json.loads((self.labels.out/'labels.json').read_text())
        return [a['image_id'] for a in content['annotations']]

@pytest.fixture
def served(tmp_path):
    s = Served(tmp_path/'my_labels')
    yield s
    s.server.stop()


# --- which frames

def spread_poses(T=90, groups=3, seed=0):
    g = np.random.default_rng(seed)
    poses = np.repeat(g.normal(0, 1, (groups, 5, 2)), T//groups, 0)+g.normal(0, .01, (T, 5, 2))
    return poses, g.random(T), g.uniform(0, 255, (T, 6, 6))

@pytest.mark.parametrize('seed', range(5))
def test_of_each_pose_the_frame_that_is_doubted_most(seed):
    poses,apart,pictures = spread_poses(seed=seed)
    chosen = L.worth_labelling(poses, apart, pictures, 3)
    assert chosen==[k*30+int(apart[k*30:k*30+30].argmax()) for k in range(3)]

@pytest.mark.parametrize('n', [1, 2, 7, 20, 89, 90, 200])
def test_chosen_frames(n):
    poses,apart,pictures = spread_poses()
    chosen = L.worth_labelling(poses, apart, pictures, n)
    assert chosen==sorted(set(chosen))==L.worth_labelling(poses, apart, pictures, n) and len(chosen)==min(n, 90)
    if 2<n<30: assert min(np.diff(chosen))>=90//(3*n) and {c//30 for c in chosen}=={0, 1, 2}

def test_neighbours_that_look_alike_are_not_chosen_twice():
    poses,apart,pictures = spread_poses()
    still = pictures[::30].repeat(30, 0)                      # the picture changes twice only
    assert len(L.worth_labelling(poses, apart, still, 20))==3
    assert len(L.worth_labelling(poses, apart, still[:1].repeat(90, 0), 20))==1

def test_frames_come_from_all_over_a_video_of_one_pose():
    _,apart,pictures = spread_poses()
    chosen = L.worth_labelling(np.zeros((90, 5, 2)), apart, pictures, 9)
    assert len(chosen)==9 and np.diff([0, *chosen, 90]).max()<=25

def test_where_views_are_one_there_is_no_doubt(dancer):
    class Certain(torch.nn.Module):                          # answers the middle of any crop
        def __init__(self):
            super().__init__()
            self.cfg,self.p = TINY,torch.nn.Parameter(torch.zeros(1))
        def forward(self, x):
            hm = torch.zeros(len(x), 13, 16, 16)
            hm[:, :, 7:9, 7:9] = 1
            return hm
    part = replace(dancer[:4], skel=PENN13)
    poses,apart,pictures = L.doubts(Certain(), part)
    assert poses.shape==(4, 13, 2) and pictures.shape==(4, 24, 24)
    assert apart.max()<.05, 'half a cell, as the highest of four equal cells is the first'
    class Guessing(Certain):
        def forward(self, x): return torch.rand(len(x), 13, 16, 16,
            generator=torch.Generator().manual_seed(int(1e6*x.std())))
    assert L.doubts(Guessing(), part)[1].min()>2*apart.max()


# --- the server

def test_page_picture_and_labels(served):
    code,page = served('')
    assert code==200 and page.decode()==L.PAGE and b'http://' not in page.replace(b'http://www.w3.org/2000/svg', b'')
    assert served('image/1')==(200, served.labels.image(1).read_bytes())
    state = json.loads(served('state')[1])
    assert state['joints']==['left_hand', 'right_hand'] and [f['state'] for f in state['frames']]==['open', 'open']
    assert served('frame/1', {'points': [[1.5, 2, 2], [0, 0, 0]], 'state': 'done'})==(200, b'saved')
    assert served.done()==[9] and served.session()['points'][1]==[[1.5, 2, 2], [0, 0, 0]]
    assert served('frame/0', {'points': [[5, 5, 1], [6, 6, 2]], 'state': 'open'})[0]==200
    assert served.done()==[9] and served.session()['points'][0][0]==[5, 5, 1], 'kept, but no truth'
    assert served('frame/1', {'points': [[1, 1, 2], [2, 2, 2]], 'state': 'left out'})[0]==200
    assert served.done()==[] and not leftovers(served.labels.out)
    assert served('finish', {})[0]==200 and served.server.finished.wait(60)

def test_only_this_machine_can_ask(served): assert served.server.server_address[0]=='127.0.0.1'

POINTS = [[1, 1, 2], [2, 2, 2]]
HOSTILE = [b'', b'{', b'null', b'[]', b'3', b'"x"', b'['*60000, b'{"points": 1}', b'\xff\xfe{}',
    b'{"points": [[1,1,NaN],[1,1,2]]}',
           *({'points': p, 'state': 'done'} for p in (None, [], [[1, 1, 2]], POINTS*2, [[1, 1], [1, 1]], [[1, 1, True],
               [1, 1, 2]],
             [['1', 1, 2], [1, 1, 2]], [[-1, 1, 2], [1, 1, 2]], [[1, 48, 2], [1, 1, 2]], [[64, 1, 2], [1, 1, 2]],
             [[1, 1, 3], [1, 1, 2]], [[1, 1, 1.5], [1, 1, 2]], [[10**400, 1, 2], [1, 1, 2]], [[1e999, 1, 2], [1, 1, 2]],
             [{'x': 1}, {}], 'ab')),
           {'points': POINTS, 'state': 'true'}, {'points': POINTS, 'state': None}, {'points': POINTS,
               'state': ['done']},
           {'points': POINTS}, {'state': 'done'}]

@pytest.mark.parametrize('i', range(len(HOSTILE)))
def test_what_is_no_label_changes_nothing(served, i):
    before = served.session(), served.labels.states[:]
    assert served('frame/0', HOSTILE[i])[0]==400
    assert (served.session(), served.labels.states)==before and served.done()==[]
    assert served('state')[0]==200, 'it answers on'

def test_paths_lead_nowhere_else(served, tmp_path):
    (tmp_path/'secret').write_text('secret')
    for where in ('image/2', 'image/-1', 'image/', 'image/0/', 'image/0/../../work/session.json', 'image/%30',
                  'images/frame_000003.jpg', '../secret', '%2e%2e/secret', 'labels.json', 'work/session.json',
                  'state/', 'state?x',
                  'image/9999999999999999999999', '/etc/passwd', 'frame/0', 'finish'):
        assert served(where)[0]==404, where
    for where in ('frame/2', 'frame/-1', 'frame/0/', 'image/0', '', 'state', 'finish/'):
        assert served(where, {'points': POINTS, 'state': 'done'})[0]==404, where
    served.labels.image(0).unlink()
    try: served.labels.image(0).symlink_to(tmp_path/'secret')
    except OSError: return                                   # no links here
    assert served('image/0')[0]==404, 'a link out of the folder'

def test_who_does_not_know_the_address_is_told_nothing(served):
    token = served.server.token
    for path in ('/', '/state', f'/{token}', f'/{token[:-1]}/state', f'/{token}x/state', '/../state', '/%e9/'):
        assert served.raw('GET', path)[0] in (400, 404), path
    assert token not in served.raw('GET', '/')[1].decode()

def test_other_hosts_and_other_sites_are_refused(served):
    port,path = served.server.server_address[1],f'/{served.server.token}/'
    for host in ('evil.example', f'evil.example:{port}', '127.0.0.1', f'127.0.0.1:{port+1}',
        f'127.0.0.1.evil.example:{port}', ''):
        assert served.raw('GET', path+'state', Host=host)[0]==403, host
    assert served.raw('GET', path+'state', Host=f'localhost:{port}')[0]==200
    assert served('frame/0', {'points': POINTS, 'state': 'done'}, Origin='http://evil.example')[0]==403
    assert served('frame/0', {'points': POINTS, 'state': 'done'}, Origin='null')[0]==403
    assert served('frame/0', {'points': POINTS, 'state': 'done'}, **{'Content-Type': 'text/plain'})[0]==415
    assert served.done()==[]
    own = f'http://127.0.0.1:{port}'
    assert served('frame/0', {'points': POINTS, 'state': 'done'}, Origin=own)[0]==200 and served.done()==[3]

def test_odd_requests(served):
    path = f'/{served.server.token}/frame/0'
    assert served.raw('POST', path, Content_Type='application/json')[0]==411
    for n in ('-1', '1e3', 'x', '+5', '99999999999'): assert served.raw('POST', path, Content_Length=n)[0]==411, n
    assert served.raw('POST', path, Content_Length=str(L.MOST_SENT+1), Content_Type='application/json')[0]==413
    for method in ('PUT', 'DELETE', 'OPTIONS', 'HEAD'): assert served.raw(method, path)[0]==501
    c = http.client.HTTPConnection(*served.server.server_address, timeout=60)
    c.connect()
    c.sock.sendall(b'GET')                                    # and never ends
    assert served('state')[0]==200
    c.close()

def test_a_full_disk_is_said_and_nothing_is_lost(served, monkeypatch):
    assert served('frame/0', {'points': POINTS, 'state': 'done'})[0]==200
    def full(path): raise TTPError(f'{path} cannot be written (No space left on device)')
    with monkeypatch.context() as m:
        m.setattr(L, 'atomic_path', full)
        code,said = served('frame/1', {'points': POINTS, 'state': 'done'})
    assert code==507 and b'No space left' in said and served.done()==[3]
    assert served('frame/1', {'points': POINTS, 'state': 'done'})[0]==200 and served.done()==[3, 9]

def test_many_at_once_end_whole(served):
    def send(k): served(f'frame/{k%2}', {'points': [[k, k, 2], [2, 2, 2]], 'state': 'done'})
    threads = [threading.Thread(target=send, args=(k,)) for k in range(12)]
    for t in threads: t.start()
    for t in threads: t.join(60)
    assert served.done()==[3, 9] and L.opened_labels(served.labels.out)==served.labels


# --- from a video, interrupted and gone on with

def test_a_folder_of_labels(ten, film, dancer):
    assert len(ten)==10 and ten.about['video']==str(film) and len(ten.about['sha256'])==64
    assert ten.about['box']==box_of(dancer) and ten.about['frames']==[0, FILM-1]
    assert sorted(p.name for p in ten.out.iterdir())==['boxes.csv', 'images', 'labels.json', 'skeleton.yaml', 'work']
    assert len((ten.out/'boxes.csv').read_text().splitlines())==FILM+1 and not leftovers(ten.out)
    content = json.loads((ten.out/'labels.json').read_text())
    assert content['info']['ttp_label']==ten.about and content['categories'][0]['keypoints']==list(PENN13.joints)
    assert content['categories'][0]['skeleton']==[[a+1, b+1] for a,b in PENN13.limbs]
    (clip,),absent = coco_clips(ten.out/'labels.json')
    assert (clip.name,absent)==('my', []) and clip.skel.joints==PENN13.joints and clip.skel.pairs==PENN13.pairs
    last = np.array(ten.size)-1
    np.testing.assert_allclose(clip.joints, dancer.joints[ten.numbers].clip(0, last), atol=.01)
    np.testing.assert_allclose(clip.boxes, ten.boxes, atol=.01)

def test_pycocotools_reads_it(ten):
    COCO = pytest.importorskip('pycocotools.coco', reason='pycocotools is not installed').COCO
    coco = COCO(str(ten.out/'labels.json'))
    assert len(coco.getImgIds())==10 and all(a['num_keypoints'] for a in coco.loadAnns(coco.getAnnIds()))

def test_unconfirmed_frames_are_not_truth(film, weights, dancer, tmp_path):
    labels = confirm(prepared(film, tmp_path/'l', weights, dancer), dancer, 4)
    labels.change(5, labels.points[5], 'open')
    labels.change(6, labels.points[6], 'left out')
    labels.change(7, [[0, 0, 0]]*13, 'done')                 # nobody to be seen
    (clip,),_ = coco_clips(tmp_path/'l'/'labels.json')
    assert len(clip)==4

def test_interrupted_and_gone_on_with(film, weights, dancer, tmp_path):
    "Ctrl-C after three changes; what was there is there again."
    said = []
    def ctrl_c(address):
        for k in range(3):
            body = json.dumps({'points': [[k+1, 2, 2]]*13, 'state': 'done'}).encode()
            urlopen(Request(f'{address}frame/{k}', body, {'Content-Type': 'application/json'}), timeout=60).read()
        raise KeyboardInterrupt
    how = dict(n=6, box=box_of(dancer), model=weights, progress=False)
    with pytest.raises(KeyboardInterrupt): L.label_video(film, tmp_path/'l', said.append, ctrl_c, **how)
    assert '3 of 6 done' in said[-1] and '--init WEIGHTS --data coco --root' in said[-1]
    def finish(address):
        state = json.loads(urlopen(f'{address}state', timeout=60).read())
        assert [f['state'] for f in state['frames']]==['done']*3+['open']*3 and state['frames'][2]['points'][0]==[3, 2,
            2]
        urlopen(Request(f'{address}finish', b'{}', {'Content-Type': 'application/json'}), timeout=60).read()
    labels = L.label_video(film, tmp_path/'l', said.append, finish, **how)
    assert labels.states.count('done')==3 and not (tmp_path/'l'/'.lock').exists()

@pytest.mark.parametrize('k', (0, 3, 7, 8)) # boxes, a picture, session, labels
def test_killed_while_preparing(film, weights, dancer, tmp_path, monkeypatch, k):
    "The k-th file is never written: beginning anew works, and ends as if nothing had been."
    whole,n = L.atomic_path,[0]
    def dies(path):
        n[0] += 1
        if n[0]==k+1: raise KeyboardInterrupt
        return whole(path)
    monkeypatch.setattr(L, 'frames_worth_labelling', lambda model, clip, n: np.arange(0, 24, 4)[:n])
    with monkeypatch.context() as m:
        m.setattr(L, 'atomic_path', dies)
        with pytest.raises(KeyboardInterrupt): prepared(film, tmp_path/'l', weights, dancer, 8)
    labels = prepared(film, tmp_path/'l', weights, dancer, 8)
    assert len(labels)==6 and not leftovers(tmp_path/'l') and len(list((tmp_path/'l'/'images').iterdir()))==6

def test_what_is_refused(ten, film, weights, dancer, tmp_path):
    with pytest.raises(TTPError, match='at least one'): prepared(film, tmp_path/'a', weights, dancer, 0)
    with pytest.raises(TTPError, match='no such'): L.prepare_labels(tmp_path/'none.mp4', tmp_path/'a')
    other = tmp_path/'other.mp4'
    write_mp4(other, person(4, frames=6).frames, 12)
    with pytest.raises(TTPError, match='another video'): prepared(other, ten.out, weights, dancer)
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'labels.json').write_text('{}')
    with pytest.raises(TTPError, match='other labels'): prepared(film, tmp_path/'mine', weights, dancer)
    with pytest.raises(TTPError, match='not all of coco17'): prepared(film, tmp_path/'a', weights, dancer,
        joints='coco17')
    labels = prepared(film, tmp_path/'b', weights, dancer, 3)
    session = labels.out/'work'/'session.json'
    session.write_text(session.read_text().replace('"open"', '"done"', 1))
    with pytest.raises(TTPError, match='damaged or changed'): L.opened_labels(labels.out)

def test_a_part_and_joints_of_ones_own(film, weights, dancer, tmp_path):
    tail = Skeleton('tailed', ('left_wrist', 'tail', 'head'), (), ((0, 1),))
    write_skeleton(tail, tmp_path/'skeleton.yaml')
    labels = prepared(film, tmp_path/'l', weights, dancer, 4, joints=str(tmp_path/'skeleton.yaml'), start='6f',
        end='14f')
    assert min(labels.numbers)>=6 and max(labels.numbers)<14 and labels.about['frames']==[6, 13]
    assert {tuple(v for *_,v in points) for points in labels.points}=={(2, 0, 2)}

def test_the_command(film, weights, dancer, tmp_path, monkeypatch, capsys):
    def finish(address): urlopen(Request(f'{address}finish', b'{}', {'Content-Type': 'application/json'}),
        timeout=60).read()
    monkeypatch.setattr(L, 'show_in_browser', finish)
    words = ['label', film, '--out', tmp_path/'l', '--frames', 3, '--box', box_of(dancer), '--model', weights]
    assert cli.main([str(w) for w in words])==0
    out = capsys.readouterr().out
    assert 'http://127.0.0.1:' in out and '0 of 3 done' in out and (tmp_path/'l'/'labels.json').is_file()
    assert cli.main(['label', str(tmp_path/'none.mp4'), '--out', str(tmp_path/'m')])==3


# --- going on from a trained network

def recipe_for(weights, root, out, **values):
    given = {'init': str(weights), 'data.kind': 'coco', 'data.root': str(root), 'out': str(out), 'training.steps': 3,
             'training.batch': 2, 'training.self_supervised_pairs': 1}
    return with_values(Recipe(), given | {k.replace('__', '.'): v for k,v in values.items()})

def trained_on(weights, root, out, **values):
    said = []
    return R.train_recipe(recipe_for(weights, root, out, **values), say=said.append, progress=False), said

def test_gentle_unless_said_otherwise():
    recipe = with_values(Recipe(), {'init': 'people'})
    assert recipe.training.steps==GENTLE['training.steps'] and recipe.training.trunk_rate==GENTLE['training.trunk_rate']
    recipe = with_values(with_values(Recipe(), {'training.lr': 5e-4}), {'init': 'people', 'training.steps': 7})
    assert (recipe.training.lr, recipe.training.steps, recipe.training.batch)==(5e-4, 7, GENTLE['training.batch'])
    assert with_values(Recipe(), {'init': ''})==Recipe()

def test_from_ten_labels(ten, film, weights, dancer, tmp_path):
    run,said = trained_on(weights, ten.out/'labels.json', tmp_path/'run')
    assert f'Frames to train on: 8 labelled, {FILM-10} without labels; held out: 2 labelled.' in said
    assert said[0]=='Starting from tiny.safetensors: all of it.'
    assert 'before: PCK@0.2' in said[-1] and 'torsos' in said[-1]
    card = read_card(run.out/'best.safetensors')
    assert card['start']['init']=='tiny.safetensors' and card['start']['joints_new']==[]
    assert card['sources']==[{'data': 'drawn'}]
    assert (card['labelled_frames'], card['held_out_frames'], card['frames_without_labels'])==(8, 2, FILM-10)
    a,b = load_model(weights).state_dict(),load_model(run.out/'best.safetensors').state_dict()
    moved = max((a[k]-b[k]).abs().max() for k in a if k.startswith('trunk') and k.endswith('weight'))
    assert 0<moved<.01
    words = ['personalize', film, '--out', tmp_path/'video', '--model', run.out/'best.safetensors', '--box',
        box_of(dancer)]
    assert cli.main([str(w) for w in words]) in (0, 4) and len(read_keypoints(tmp_path/'video'/'keypoints.json'))==FILM

@pytest.mark.parametrize('n,held', [(4, 0), (5, 1), (9, 1), (10, 2)])
def test_how_many_are_held_out(film, weights, dancer, tmp_path, n, held):
    labels = confirm(prepared(film, tmp_path/'l', weights, dancer), dancer, n)
    run,said = trained_on(weights, labels.out, tmp_path/'run', training__steps=1)
    rest = FILM-n
    assert f'Frames to train on: {n-held} labelled, {rest} without labels; held out: {held} labelled.' in said
    assert ('before' in said[-1])==(held>0) and read_card(run.out/'last.safetensors')['held_out']==(held>0)

def test_the_held_out_frames_are_seen_by_nobody(ten, weights):
    recipe,source = recipe_for(weights, ten.out, 'x'),load_model(weights)
    labelled,held,others = R.own_parts(recipe, source, progress=False)
    (clip,),_ = coco_clips(ten.out/'labels.json')
    pixels = lambda c: {np.asarray(f).astype(int).mean().round(3) for f in c.frames}
    assert len(clip)==10 and [len(c) for c in (*labelled, *held, *others)]==[8, 2, FILM-10]
    assert not pixels(labelled[0])&pixels(held[0])

def test_resumed_to_the_bit(ten, weights, tmp_path, monkeypatch):
    whole,_ = trained_on(weights, ten.out, tmp_path/'whole', training__steps=4, training__every=2)
    step,n = R.train_run.__globals__['train'],[0]
    def dies(*a, **k):
        for losses in step(*a, **k):
            n[0] += 1
            if n[0]==4: raise KeyboardInterrupt
            yield losses
    with monkeypatch.context() as m:
        m.setitem(R.train_run.__globals__, 'train', dies)
        with pytest.raises(KeyboardInterrupt): trained_on(weights, ten.out, tmp_path/'cut', training__steps=4,
            training__every=2)
    cut,_ = trained_on(weights, ten.out, tmp_path/'cut', training__steps=4, training__every=2, resume=True)
    a,b = ((tmp_path/w/'last.safetensors').read_bytes() for w in ('whole', 'cut'))
    assert a==b

def test_only_some_joints_are_labelled(film, weights, dancer, tmp_path):
    labels = confirm(prepared(film, tmp_path/'l', weights, dancer), dancer, joints=('left_wrist', 'head'))
    run,said = trained_on(weights, labels.out, tmp_path/'run')
    assert run.model.cfg.skeleton==load_model(weights).cfg.skeleton and 'PCK@0.2' in said[-1]

def test_other_joints(film, weights, dancer, tmp_path):
    "What is known by name is taken, the rest is new; no consensus of joints that nobody knows."
    tail = Skeleton('tailed', ('left_wrist', 'tail', 'head'), (), ((0, 1),))
    write_skeleton(tail, tmp_path/'s.yaml')
    labels = prepared(film, tmp_path/'l', weights, dancer, joints=str(tmp_path/'s.yaml'))
    for i in range(10): labels.change(i, [[10, 10, 2], [20, 20, 2], [30, 30, 2]], 'done')
    run,said = trained_on(weights, labels.out, tmp_path/'run')
    assert 'the joints left_wrist, head. New: tail.' in said[0] and run.model.cfg.skeleton.joints==tail.joints
    assert any('left out: of new joints' in s for s in said) and 'these joints were not known' in said[-1]
    assert read_card(run.out/'best.safetensors')['start']['joints_new']==['tail']

@pytest.mark.parametrize('kind', ['joint', 'shared', 'baseline'])
def test_what_is_taken_over(kind):
    task,changes = ('baseline', {}) if kind=='baseline' else ('joint', {'shared': kind=='shared'})
    source = tiny_model(task, 1, **changes)
    skel = Skeleton('three', ('tail', 'left_hip', 'head'))
    model,taken,new = R.begun(source, skel, replace(Recipe(), task=task))
    assert (taken,new)==(['left_hip', 'head'], ['tail'])
    own,old = model.state_dict(),source.state_dict()
    rows = [k for k in own if own[k].shape!=old[k].shape]
    assert rows and all(torch.equal(own[k], old[k]) for k in own if k not in rows)
    at = [PENN13.index(j) for j in taken]
    assert all(torch.equal(own[k][1:], old[k][at]) for k in rows)

def test_other_steps_for_new_joints():
    recipe = with_values(Recipe(), {'init': 'people'})
    assert R.for_new_joints(recipe, []) is recipe and R.for_new_joints(recipe,
        ['tail']).training.steps==R.THOROUGH['training.steps']
    own = with_values(Recipe(), {'init': 'people', 'training.steps': 70})
    assert R.for_new_joints(own, ['tail']) is own

@pytest.mark.parametrize('how', ['gone', 'another', 'moved'])
def test_the_video_of_the_labels(ten, film, weights, tmp_path, how):
    import shutil
    out = shutil.copytree(ten.out, tmp_path/'l')
    content = json.loads((out/'labels.json').read_text())
    content['info']['ttp_label']['video'] = str(tmp_path/'elsewhere'/'my.mp4')
    (out/'labels.json').write_text(json.dumps(content))
    if how=='another': (out/'my.mp4').write_bytes(b'another one')
    if how=='moved': shutil.copy(film, out/'my.mp4')
    said = []
    *_,others = R.own_parts(recipe_for(weights, out, 'x'), load_model(weights), said.append, False)
    assert bool(others)==(how=='moved')
    if how!='moved': assert len([s for s in said if 'only the labelled ones' in s])==1

def test_networks_that_cannot_be_started_from(ten, weights, tmp_path):
    with pytest.raises(TTPError, match='no such file of weights'): trained_on('nobody', ten.out, tmp_path/'a')
    save_model(tiny_model('baseline'), tmp_path/'base.safetensors')
    with pytest.raises(TTPError, match='it is a baseline model'): trained_on(tmp_path/'base.safetensors', ten.out,
        tmp_path/'a')
    assert not (tmp_path/'a').exists()

def test_the_command_trains(ten, weights, tmp_path, capsys):
    words = ['train', 'joint', '--init', weights, '--data', 'coco', '--root', ten.out/'labels.json', '--out',
        tmp_path/'run',
             '--steps', 1, 'training.batch', 2]
    assert cli.main([str(w) for w in words])==0
    out = capsys.readouterr().out
    assert 'held out: 2 labelled' in out and 'after: PCK@0.2' in out


# --- evidence

def test_what_labels_are_worth(weights, tmp_path, monkeypatch):
    tail = replace(noise_clip('beast', 12, 3), skel=Skeleton('beast', tuple(f'part{j}' for j in range(13))),
        torso=np.full(12, 9.))
    clips = [replace(person(3, frames=12), name='a'), replace(person(4, frames=12), name='b'), tail]
    monkeypatch.setattr(L, 'with_values', lambda recipe, v: with_values(recipe, v | {'training.steps': 2,
        'training.batch': 2}))
    lab = Lab(out=str(tmp_path/'out'), kept=str(tmp_path/'kept'), progress=False)
    found = L.own_labels_worth(lab, clips, str(weights), 4)
    assert json.loads((tmp_path/'kept'/'own_labels.json').read_text())==json.loads(json.dumps(found))
    one = found['clips']['a']
    assert {*one}=={'labelled', 'new joints', 'before', 'consensus',
        'labels'} and len(one['before']['frames'])==12-len(one['labelled'])
    assert {*found['clips']['beast']}=={'labelled', 'new joints', 'labels'}
    assert len(L.worth_rows(found).splitlines())==5 and 'mean of 2 clips' in L.worth_gains(found)
    monkeypatch.setattr(L, 'with_and_without', None)           # nothing is done twice
    assert L.own_labels_worth(lab, clips, str(weights), 4)==found
