"""Files from outside that are damaged or mean harm: budgets, bombs, names that lead elsewhere, and hundreds of mutated
labels, skeletons, recipes, boxes and results. Each is read as what it says, or refused in one line."""
import copy, io, json, os, pickle, struct, zipfile
from pathlib import Path
import cv2, numpy as np, pytest, yaml
from scipy.io import savemat
from ttp_nb.basics import TTPError
from ttp_nb.clips import Clip
from ttp_nb.coco import coco_clips
from ttp_nb.datasets import dlc_clips, read_hm36_labels
from ttp_nb.experiments import read_predictions, save_clip
from ttp_nb.exports import Result, read_keypoints, read_npz, to_npz, write_keypoints
from ttp_nb.outside_files import (
    DEEPEST, MOST_BYTES, check_file, check_nested, file_arrays, file_bytes, file_json, file_mat, file_name, file_text,
    parse_json, safe_load)
from ttp_nb.penn import penn_clips, write_penn
from ttp_nb.person import read_boxes
from ttp_nb.real_data import read_clips
from ttp_nb.recipe_files import read_recipe, write_recipe
from ttp_nb.recipes import Recipe
from ttp_nb.skeleton_files import read_skeleton, write_skeleton
from ttp_nb.skeletons import COCO17, Skeleton

CASES = Path(os.environ.get('TTP_CASES', Path(__file__).parents[2]/'shared'/'cases'))/'hostile'
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason='the handed cases are not here')


def refused(f, *args, **kw):
    "The one short line with which this call is refused."
    with pytest.raises(TTPError) as e: f(*args, **kw)
    text = str(e.value)
    assert '\n' not in text and len(text)<1000, text[:2000]
    return text


def tried(f, *args, **kw):
    "What this call gives, or None where it is refused in one line."
    try: return f(*args, **kw)
    except TTPError as e:
        assert '\n' not in str(e) and len(str(e))<1500, str(e)[:2000]


# --- the budget

def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path/'pipe') if hasattr(os, 'mkfifo') else (tmp_path/'pipe').mkdir()
    for path in (tmp_path/'pipe', tmp_path, tmp_path/'none', tmp_path/'a\0b',
        '/dev/zero' if os.path.exists('/dev/zero') else tmp_path):
        for read in (file_bytes, file_text, file_json, file_arrays, read_skeleton, read_recipe, read_hm36_labels,
                     lambda p: file_mat(p, ['x']), lambda p: read_boxes(p, 3, (9,9)), read_keypoints):
            refused(read, path)
    for read in (coco_clips, dlc_clips, penn_clips, lambda p: read_clips('lsp', p)): refused(read, tmp_path/'pipe')


def test_what_is_too_large(tmp_path):
    for kind in ('yaml','small'):
        with open(tmp_path/kind, 'wb') as f: f.truncate(MOST_BYTES[kind]+1)
        assert 'at most' in refused(file_bytes, tmp_path/kind, kind)
        with open(tmp_path/kind, 'wb') as f: f.truncate(MOST_BYTES[kind])
        assert check_file(tmp_path/kind, kind)==tmp_path/kind
    refused(read_skeleton, tmp_path/'small')
    refused(read_recipe, tmp_path/'small')


def test_nested_data():
    box = []
    for _ in range(DEEPEST-1): box = [box]
    check_nested(box)
    assert 'deep' in refused(check_nested, [box])
    assert 'deep' in refused(check_nested, {'a': {'b': [box]}})
    ring = {}; ring['a'] = [ring]
    assert 'deep' in refused(check_nested, ring)
    check_nested([1]*100, 100)
    assert 'more than 100' in refused(check_nested, [1]*101, 100)
    shared = ['x']
    for _ in range(30): shared = [shared]*10
    assert 'entries' in refused(check_nested, shared)


@pytest.mark.parametrize('text', [
    '['*100000, '[' * 1000 + ']' * 1000, '{"a":'*100000, '{"a":'*500+'1'+'}'*500, '1'*5000, '[1'+'0'*400+']', '',
        '{', '\x00',
    '[1,]', '{"a" 1}', "{'a': 1}", '[' * 60 + ']' * 60, '"\\ud800', 'nul', '[1e', '\ufeff', '{"a": -}',
        '[' + '1'*301 + ']'])
def test_json_that_is_none(text, tmp_path):
    assert 'not a readable json' in refused(parse_json, text)
    (tmp_path/'a.json').write_text(text)
    assert str(tmp_path/'a.json') in refused(file_json, tmp_path/'a.json')


def test_json_that_is_fine():
    assert parse_json('[1, 2.5, "a", null, true, NaN]')[:5]==[1, 2.5, 'a', None, True]
    assert parse_json('['+'1'*300+']')==[int('1'*300)]
    for word in ('NaN', 'Infinity', '-Infinity'): assert word in refused(parse_json, f'[{word}]', strict=True)


def alias_bomb(levels, key='a'):
    "Some hundred bytes that stand for 9 to the power of `levels` words."
    lines = [f'{key}0: &a0 ['+'x,'*9+']']+[f'{key}{i}: &a{i} ['+f'*a{i-1},'*9+']' for i in range(1, levels)]
    return '\n'.join(lines)

def nested_bomb(levels):
    text = '&b0 ['+'x,'*8+'x]'
    for i in range(1, levels): text = f'&b{i} [{text}'+f',*b{i-1}'*8+']'
    return text

MERGES = 'm0: &m0 {k: 1}\n'+''.join(f'm{i}: &m{i} {{<<: ['+f'*m{i-1},'*9+']}\n' for i in range(1, 12))
LONG = 'a: &a '+'x'*100000+'\nb: ['+'*a,'*1000+']'
BOMBS = [alias_bomb(12), f'joints: {nested_bomb(10)}', f'joints: [a]\nname: {nested_bomb(10)}',
    f'joints: [a]\n? {nested_bomb(9)}\n: 1',
         f'joints: [a, b]\nlimbs: {nested_bomb(10)}', f'joints: [a, b]\nlimbs: [{nested_bomb(10)}]',
             f'model:\n  skeleton: {nested_bomb(10)}',
         f'model: {{skeleton: {{name: x, joints: {nested_bomb(10)}}}}}', f'task: {nested_bomb(10)}',
             f'data: {nested_bomb(10)}',
         f'{nested_bomb(10)}', MERGES, LONG, 'a: &a [*a]', 'a: &a {b: *a}', '&a [*a, *a]', '- '*600, '['*600,
             '{a: '*600, '? '*600,
         'a: '+'1:'*4000+'1', 'a: '+'1:'*60000+'1', 'a: '+'9'*5000, 'a: 0x'+'f'*100000,
             '!!python/object/apply:os.getcwd []', '&a '*1000, '*a']


@pytest.mark.parametrize('k', range(len(BOMBS)))
def test_yaml_bombs(k, tmp_path):
    (tmp_path/'b.yaml').write_text(BOMBS[k])
    value = tried(safe_load, BOMBS[k])
    if value is not None: check_nested(value, 1_000_000)
    refused(read_skeleton, tmp_path/'b.yaml')
    refused(read_recipe, tmp_path/'b.yaml')
    (tmp_path/'r.yaml').write_text('task: joint')
    for key in ('model.skeleton', 'data.actions'): tried(read_recipe, tmp_path/'r.yaml', [key, BOMBS[k]])


def test_a_skeleton_of_too_many_joints(tmp_path):
    names = ','.join(f'j{i}' for i in range(3000))
    (tmp_path/'s.yaml').write_text(f'joints: [{names}]\nlimbs: ['+'[j1,j2999],'*1000+']')
    assert 'at most 1000' in refused(read_skeleton, tmp_path/'s.yaml')


def npy(shape, descr='<f8', data=bytes(8)):
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, dict(shape=shape, fortran_order=False, descr=descr))
    return made.getvalue()+data


@pytest.mark.parametrize('member', [
    npy((10**9,)), npy((2**62,)), npy((2**31,2**31)), npy((0,), data=bytes(64)), npy((1,), '<U2000000000'), npy((-1,
        )), b'', b'half',
    npy((1,))[:20], npy((1,), data=b''), b'\x93NUMPY\x03\x00'+bytes(50), b'\x93NUMPY\x01\x00\xff\xff'+b'('*65535])
def test_arrays_that_promise_too_much(member, tmp_path):
    with zipfile.ZipFile(tmp_path/'a.npz', 'w') as z: z.writestr('kp.npy', member)
    refused(file_arrays, tmp_path/'a.npz')
    refused(read_npz, tmp_path/'a.npz')


def test_archives_that_unpack_to_too_much(tmp_path):
    with zipfile.ZipFile(tmp_path/'a.npz', 'w', zipfile.ZIP_DEFLATED) as z:
        for k in range(8): z.writestr(f'{k}.npy', npy((2**20,), data=bytes(2**23)))
    assert 'too much' in refused(file_arrays, tmp_path/'a.npz')
    np.savez(tmp_path/'o.npz', a=np.array([{}]))
    assert 'objects' in refused(file_arrays, tmp_path/'o.npz')
    (tmp_path/'x.npz').write_bytes(pickle.dumps([1]))
    refused(file_arrays, tmp_path/'x.npz')


def test_matlab_files_that_promise_too_much(tmp_path):
    savemat(tmp_path/'a.mat', dict(x=np.eye(3), s=dict(a=1), c=np.array([[1],['a']], object)))
    assert list(file_mat(tmp_path/'a.mat', ['x']))==['x'] and list(file_mat(tmp_path/'a.mat', ['x','s'],
        records=True))==['x','s']
    for name in 'sc': assert 'not of numbers' in refused(file_mat, tmp_path/'a.mat', [name])
    big = (tmp_path/'a.mat').read_bytes().replace(struct.pack('<ii', 3, 3), struct.pack('<ii', 2**30, 2**30))
    (tmp_path/'b.mat').write_bytes(big)
    assert 'promises' in refused(file_mat, tmp_path/'b.mat', ['x'])


# --- names

NAMES = ['../../../evil', '/somewhere/x', '..', '.', '', ' ', 'a/../b', 'a/./b', 'a//b', '/', '../', 'x'*300,
    '/'.join('abcdefghij'), 'é'*120]
ODD = ['12:30', 'C:\\x\\y', '..\\..\\evil', 'con', 'aux.txt', 'NUL', 'com1', '.hidden', 'end.', 'end ', 'a\0b',
    'a\nb', 'a<b>|c?*"', '%2F', 'a%', '视频',
       'nul .x', '...', '~', '-rf', '$HOME', 'a\x7fb', '\ud800']


@pytest.mark.parametrize('name', NAMES)
def test_names_that_lead_elsewhere(name, tmp_path):
    refused(file_name, name)
    c = Clip(name, np.zeros((1,8,8,3), np.uint8), [[0,0,7,7]], np.zeros((1,13,2)))
    refused(save_clip, tmp_path/'out', c, {'before': (c.joints, c.vis)}, {})
    refused(read_predictions, tmp_path/'out', c)
    assert not any(p.is_file() for p in tmp_path.rglob('*'))


def test_odd_names_stay_below_and_apart(tmp_path):
    g = np.random.default_rng(0)
    letters = list('ab./\\:%~ <>|?*"')+['\n','\0','é','..','con']
    names = {''.join(g.choice(letters, g.integers(1, 9))) for _ in range(500)}|{*ODD}
    made = {name:tried(file_name, name) for name in names}
    kept = {name:m for name,m in made.items() if m}
    assert len(kept)>100 and len({*kept.values()})==len(kept)
    for m in kept.values():
        path = os.path.normpath(tmp_path/m)
        assert os.path.commonpath([path, tmp_path])==str(tmp_path) and path!=str(tmp_path)
        assert not set(m)&set('<>:"\\|?*\0\n') and not any(part[-1] in '. ' or part[0]=='.' for part in m.split('/'))


def test_odd_names_are_written_and_read(tmp_path):
    for name in ODD[:-1]:
        c = Clip(name, np.zeros((1,8,8,3), np.uint8), [[0,0,7,7]], np.zeros((1,13,2)))
        save_clip(tmp_path, c, {'before': (c.joints, c.vis)}, {})
        assert list(read_predictions(tmp_path/'predictions', c))==['before']
    assert len(list((tmp_path/'predictions').glob('*.npz')))==len(ODD)-1


@needs_cases
def test_handed_cases():
    refused(read_clips, 'coco', CASES/'01-coco-name-escapes')
    for f in (CASES/'02-yaml-alias-bomb').glob('*.yaml'): refused(read_recipe if f.name[0]=='r' else read_skeleton, f)
    for f in (CASES/'07-npz-and-json').glob('*.json'): refused(read_boxes, f, 1, (99,99))
    refused(read_hm36_labels, CASES/'11-hm36-tuple-bomb'/'h2.pkl')


# --- mutated files

def mutated_bytes(data, g):
    "The same with a few bytes changed, lost, doubled or moved."
    data = bytearray(data)
    for _ in range(g.integers(1, 5)):
        if not data: break
        at, n = g.integers(len(data)), int(g.integers(1, 40))
        match g.integers(6):
            case 0: data[at] = g.integers(256)
            case 1: data[at] ^= 1<<g.integers(8)
            case 2: del data[at:at+n]
            case 3: data[at:at] = data[at:at+n]
            case 4: data[at:at] = bytes(g.choice(list(b'[]{}:,;&*-"\'0123456789eE.\n \xff\x00'), n).tolist())
            case 5: del data[at:]
    return bytes(data)


VALUES = [None, True, -1, 0, 3, 2.5, 1e308, -1e308, float('nan'), float('inf'), 10**299, '', 'x', '1', '../../x',
    '/x/y', 'a'*5000, [], {}, [[]],
          [1,2,3], ['a','b'], {'a':1}, [None]*3, '\u0000', 'é', 2**63, -2**40, [[1,2],[2,3]], '\\', 'left_eye']

def mutated_tree(tree, g):
    "The same with a few entries changed, lost, doubled or wrapped."
    tree = copy.deepcopy(tree)
    for _ in range(g.integers(1, 4)):
        box = tree
        while True:
            keys = list(box) if isinstance(box, dict) else list(range(len(box)))
            if not keys: break
            key = keys[g.integers(len(keys))]
            inner = box[key]
            if isinstance(inner, (dict, list)) and inner and g.random()<.8: box = inner; continue
            match g.integers(5):
                case 0: del box[key]
                case 1 if isinstance(box, list): box.insert(key, copy.deepcopy(inner))
                case 2: box[key] = [inner]
                case 3 if isinstance(inner, (int, float)): box[key] = str(inner)
                case _: box[key] = copy.deepcopy(VALUES[g.integers(len(VALUES))])
            break
    return tree


def visible(doc):
    "How many joints with v > 0 a json holds, in annotations that are no crowds."
    def v(a):
        try: return sum(float(x)>0 for x in a['keypoints'][2::3])
        except (KeyError, TypeError, ValueError, IndexError): return 0
    return sum(v(a) for a in doc['annotations'] if isinstance(a, dict) and not a.get('iscrowd'))


def label_doc(tracks):
    g = np.random.default_rng(5)
    images = [dict(id=i, file_name=f'v{i%2}/{i}.png', width=40, height=30, frame_id=i) for i in range(8)]
    people = [dict(id=10*i+k, image_id=i, category_id=1, iscrowd=0, bbox=[2,3,20,20], keypoints=np.c_[g.uniform(1,
        29, (4,2)).round(1), [2,1,2,2]].ravel().tolist(),
                   **({'track_id':k} if tracks else {})) for i in range(8) for k in range(1+(i<6)*tracks)]
    return dict(images=images, annotations=people, videos=[], categories=[dict(id=1, name='imp',
        keypoints=['left_eye','right_eye','hip','tail'], skeleton=[[1,2],[3,4]])])


def pictures(root):
    for i in range(8):
        (root/f'v{i%2}').mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root/f'v{i%2}'/f'{i}.png'), np.full((30,40,3), 20*i, np.uint8))


def everything(root): return {str(p.relative_to(root)):p.read_bytes() for p in root.rglob('*') if p.is_file()}


def check_coco(root, doc):
    found = tried(read_clips, 'coco', root, 'test')
    if found is None: return 0
    clips, absent = found
    seen = sum(int(c.vis.sum()) for c in clips)
    notes = [n for c in clips for n in c.notes]
    if doc is not None:
        assert seen<=visible(doc)
        if not absent and not any('left out:' in n for n in notes) and all(isinstance(a,
            dict) for a in doc['annotations']): assert seen==visible(doc)
    for c in clips: assert c.frames[0].ndim==3 and (c.vis.sum()==0 or np.isfinite(c.joints[c.vis]).all())
    return 1


@pytest.mark.parametrize('tracks', [0, 1])
def test_mutated_coco_labels(tmp_path, tracks):
    "120 changed trees and 40 changed files: read with every joint that they have, or refused."
    root, g, doc = tmp_path/'deep'/'in', np.random.default_rng(10+tracks), label_doc(tracks)
    pictures(root)
    (root/'test.json').write_text(json.dumps(doc))
    assert check_coco(root, doc)
    before, read = everything(tmp_path), 0
    for k in range(80):
        changed = mutated_tree(doc, g) if k<60 else None
        data = json.dumps(changed).encode() if k<60 else mutated_bytes(json.dumps(doc).encode(), g)
        if changed is not None and not isinstance(changed.get('annotations'), list): changed = None
        (root/'test.json').write_bytes(data)
        read += check_coco(root, changed)
    (root/'test.json').write_text(json.dumps(doc))
    assert everything(tmp_path)==before and 5<read<80


def test_mutated_tables(tmp_path):
    "60 tables of labelled frames: as many frames as rows, or refused."
    root, g, kps = tmp_path/'in', np.random.default_rng(3), np.random.default_rng(4).uniform(1, 29, (8,3,2)).round(2)
    pictures(root)
    parts = ('nose','paw','tail')
    rows = [['scorer', *['me']*9], ['bodyparts', *np.repeat(parts, 3)], ['coords', *('x','y','visible')*3],
            *([f'v{i%2}/{i}.png', *np.c_[kp, [2,2,1]].ravel()] for i,kp in enumerate(kps))]
    read = 0
    for sep in ',;\t':
        text = '\n'.join(sep.join(map(str, row)) for row in rows)
        for k in range(20):
            (root/'CollectedData.csv').write_bytes(mutated_bytes(text.encode(), g) if k else text.encode())
            found = tried(dlc_clips, root, 'all')
            if found is None: continue
            notes = [n for c in found[0] for n in c.notes if 'labelled images are not there' in n]
            lost = sum(int(n.split(' of ')[0]) for n in notes)
            data = (root/'CollectedData.csv').read_bytes().decode('utf-8-sig')
            lines = [line for line in data.splitlines()[3:] if line.strip(f'{sep} ')]
            assert found[1] or sum(map(len, found[0]))+lost==len(lines), data
            read += 1
    assert 3<=read<60


def test_mutated_skeletons(tmp_path):
    "80 skeletons: the joints that the file says, or refused."
    g, read = np.random.default_rng(6), 0
    write_skeleton(COCO17, tmp_path/'s.yaml')
    text = (tmp_path/'s.yaml').read_bytes()
    for k in range(80):
        data = mutated_bytes(text, g) if k<50 else yaml.safe_dump(mutated_tree(yaml.safe_load(text), g)).encode()
        (tmp_path/'s.yaml').write_bytes(data)
        skel = tried(read_skeleton, tmp_path/'s.yaml')
        if skel is None: continue
        assert list(skel.joints)==yaml.safe_load(data)['joints']
        write_skeleton(skel, tmp_path/'t.yaml')
        assert read_skeleton(tmp_path/'t.yaml')==skel
        read += 1
    assert 5<read<80


def test_mutated_recipes(tmp_path):
    "120 recipes, ours and the authors': read and written back as they are, or refused."
    g, read = np.random.default_rng(7), 0
    write_recipe(Recipe(), tmp_path/'r.yaml')
    ours = yaml.safe_load((tmp_path/'r.yaml').read_bytes())
    theirs = {'DATASET':{'DATASET':'penn','ROOT':'x','FLIP':True}, 'MODEL':{'IS_IMM':True,'NUM_MAPS':30,
        'EXTRA':{'COMBATTN':True}}, 'TRAIN':{'LR':.001,'LR_STEP':[90,120]}}
    for k in range(120):
        tree = mutated_tree(ours if k%2 else theirs, g)
        text = yaml.safe_dump(tree).encode()
        (tmp_path/'r.yaml').write_bytes(text if k<80 else mutated_bytes(text, g))
        recipe = tried(read_recipe, tmp_path/'r.yaml')
        if recipe is None: continue
        write_recipe(recipe[0], tmp_path/'t.yaml')
        assert read_recipe(tmp_path/'t.yaml')==(recipe[0], [])
        read += 1
    assert 5<read<120 and sorted(p.name for p in tmp_path.iterdir())==['r.yaml','t.yaml']


def test_mutated_key_values(tmp_path):
    "60 values on a command line."
    g, keys = np.random.default_rng(8), ['training.steps','model.skeleton','data.shares','out','TRAIN.LR_STEP',
        'task','epochs','nothing']
    (tmp_path/'r.yaml').write_text('task: joint')
    for k in range(60):
        value = mutated_bytes(b'[1, {a: 2}, "x"]', g).decode('latin1')
        tried(read_recipe, tmp_path/'r.yaml', [keys[k%len(keys)], value])


def test_mutated_boxes(tmp_path):
    "60 files of boxes: a box for every frame, or refused."
    g, read = np.random.default_rng(9), 0
    rows = [[1+t,2,20+t,25] for t in range(6)]
    texts = {'b.json':json.dumps(rows), 'b.csv':'frame,x0,y0,x1,y1\n'+'\n'.join(f'{t},'+','.join(map(str, r)) for t,
        r in enumerate(rows))}
    for name,text in texts.items():
        for k in range(30):
            (tmp_path/name).write_bytes(mutated_bytes(text.encode(), g) if k else text.encode())
            found = tried(read_boxes, tmp_path/name, 6, (40,30))
            if found is not None: assert found[0].shape==(6,4) and np.isfinite(found[0]).all(); read += 1
    assert 2<=read<60


def test_mutated_results(tmp_path):
    "60 files of keypoints."
    g, T = np.random.default_rng(11), 5
    r = Result(Skeleton('s', ('a','b')), np.arange(T), np.arange(T)/9, g.random((T,2,2)), g.random((T,2)),
        g.random((T,2,2)), g.random((T,2)), np.tile([0.,0,9,9], (T,1)), (9,9), {})
    to_npz(r, tmp_path/'k.npz')
    write_keypoints(r, tmp_path/'k.json')
    for read,name in ((read_npz,'k.npz'), (read_keypoints,'k.json')):
        data = (tmp_path/name).read_bytes()
        for k in range(30):
            (tmp_path/name).write_bytes(mutated_bytes(data, g))
            found = tried(read, tmp_path/name)
            if found is not None: assert len(found.kp)==len(found.conf)==len(found.index)


def test_mutated_matlab_labels(tmp_path):
    "60 labels of Penn Action: clips, or refused."
    g, kp = np.random.default_rng(12), np.random.default_rng(0).uniform(2, 27, (3,13,2))
    write_penn([Clip('a', np.zeros((3,30,40,3), np.uint8), [[0,0,29,29]]*3, kp)], tmp_path, [False])
    label = tmp_path/'labels'/'0001.mat'
    data = label.read_bytes()
    for k in range(60):
        label.write_bytes(mutated_bytes(data, g))
        found = tried(penn_clips, tmp_path)
        if found is not None: assert [len(c) for c in found[0]]==[3]
