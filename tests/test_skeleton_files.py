"Joint sets in files: what comes back, what is refused and how it is said."
import pytest
from ttp_nb.basics import TTPError
from ttp_nb.outside_files import safe_load
from ttp_nb.skeleton_files import read_skeleton, write_skeleton
from ttp_nb.skeletons import BBC7, COCO17, H36M16, PENN13, Skeleton

ALL = [PENN13, BBC7, H36M16, COCO17]
MOUSE = Skeleton('mouse', ['nose', 'paw_r', 'paw_l', 'tail'], [[1,2]], [[0,3], [1,3]], [[1,2], [3]])


def read(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_skeleton(path)


ODD = [Skeleton('one', ['a']), Skeleton('1', ['no', '2', '~', 'a: [b', 'ß', '1e3']),
       Skeleton('long', [f'joint number {i}, left' for i in range(200)])]


@pytest.mark.parametrize('skel', [*ALL, MOUSE, *ODD], ids=lambda s: s.name)
def test_files_come_back(skel, tmp_path):
    write_skeleton(skel, tmp_path/'deep'/'s.yaml')
    assert read_skeleton(str(tmp_path/'deep'/'s.yaml'))==skel
    assert [p.name for p in (tmp_path/'deep').iterdir()]==['s.yaml']


def test_a_file_may_say_it_by_number_and_leave_things_out(tmp_path):
    f = tmp_path/'mouse.yaml'
    assert read(f, 'joints: [nose, paw_r, paw_l, tail]\npairs: [[1, paw_l]]\nlimbs: [[nose, 3], [1, tail]]\n'
                   'torso: [[paw_r, 2], tail]')==MOUSE
    bare = read(f, 'joints: [a, b]\npairs:\nlimbs: []\ntorso: null')
    assert bare==Skeleton('mouse', ['a', 'b'])
    assert read(f, '\ufeffname: x y\njoints: ["1", "2"]\npairs: [["2", "1"]]').pairs==((1,0),)
    assert read(f, '{"name": "j", "joints": ["a"]}').name=='j'                         # json is yaml


@pytest.mark.parametrize('text,says', [
    ('', 'names no joints'), ('[a, b]', 'names no joints'), ('name: x', 'names no joints'),
    ('joints: a', 'list of names'),
    ('joints: []', 'at least one'), ('joints: {a: 1}', 'list of names'), ('joints: [a, 3]', 'quotes'),
    ('joints: [a, on]', 'quotes'), ('joints: [a, ~]', 'quotes'), ('joints: [a, " "]', 'quotes'),
    ('joints: [a, [b]]', 'quotes'), ('name: 3\njoints: [a]', 'quotes'), ('name: [a]\njoints: [a]', 'quotes'),
    ('joints: [a, b, a]', "'a' occurs twice"), ('joints: [a, b]\nlimb: [[a, b]]', "no key 'limb'"),
    ('joints: [a, b]\n3: 4', "no key '3'"),
    ('joints: [paw_r, paw_l]\npairs: [[paw_r, paw_left]]', "pairs: there is no joint 'paw_left'; did you mean 'paw_l'"),
    ('joints: [a, b]\nlimbs: [[a, zzzz]]', "limbs: there is no joint 'zzzz'"),
    ('joints: [a, b]\ntorso: [a, c]', "torso: there is no joint 'c'"),
    ('joints: [a, b, c]\npairs: [[a, b], [b, c]]', "'b' is in more than one"),
    ('joints: [a, b]\npairs: [[a, a]]', 'two different'), ('joints: [a, b, c]\npairs: [[a, b, c]]', 'two different'),
    ('joints: [a, b]\npairs: [a, b]', 'not a list of joint names'), ('joints: [a, b]\npairs: {a: b}', 'list of groups'),
    ('joints: [a, b]\nlimbs: a', 'list of groups'), ('joints: [a, b]\nlimbs: [[a, 1.5]]', 'not a list of joint names'),
    ('joints: [a, b]\nlimbs: [[a, true]]', 'no joint True'), ('joints: [a, b]\nlimbs: [[a, [b]]]', 'not a list'),
    ('joints: [a, b]\nlimbs: [[0, 2]]', 'joint number 2'), ('joints: [a, b]\nlimbs: [[0, -1]]', 'joint number -1'),
    ('joints: [a, b]\ntorso: [a]', 'two non-empty'), ('joints: [a, b]\ntorso: [a, []]', 'two non-empty'),
    ('joints: [a, b]\nlimbs: &x [*x]', 'contains itself'), ('joints: &x [*x]', 'contains itself'),
    ('joints: [a,\nb: c', 'line 2'), ('joints: [\xff]'.encode('latin1'), 'no yaml'),
    (b'\x00\x01', 'no yaml'),
    ('joints: !!python/object/apply:os.getcwd []', 'no yaml'), ('['*5000, 'no yaml'),
    ('joints: [2021-13-45]', 'no yaml'),
    ('joints: [a, b]\npairs: [[a, 2021-01-01]]', 'not a list'),
])
def test_wrong_files_are_named(text, says, tmp_path):
    with pytest.raises(TTPError, match=says) as e: read(tmp_path/'s.yaml', text)
    assert str(e.value).startswith(str(tmp_path/'s.yaml')) and len(str(e.value))<500


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(TTPError, match='none.yaml: cannot be read'): read_skeleton(tmp_path/'none.yaml')
    with pytest.raises(TTPError, match='cannot be read'): read_skeleton(tmp_path)
    (tmp_path/'file').write_text('')
    with pytest.raises(TTPError, match='cannot be written'): write_skeleton(MOUSE, tmp_path/'file'/'s.yaml')
    (tmp_path/'folder').mkdir()
    with pytest.raises(TTPError, match='cannot be written'): write_skeleton(MOUSE, tmp_path/'folder')
    assert sorted(p.name for p in tmp_path.iterdir())==['file', 'folder']


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    f = tmp_path/'s.yaml'
    write_skeleton(MOUSE, f)
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('os.replace', full)
    with pytest.raises(TTPError, match='No space'): write_skeleton(PENN13, f)
    assert read_skeleton(f)==MOUSE and [p.name for p in tmp_path.iterdir()]==['s.yaml']


def test_safe_load_runs_nothing(tmp_path):
    with pytest.raises(TTPError, match='no yaml'): safe_load(f'!!python/object/apply:os.mkdir [{tmp_path}/made]')
    assert not (tmp_path/'made').exists() and safe_load('a: [1, b]')=={'a': [1, 'b']}
