"""Draws by name, files that appear whole, weights that are no programs, and a package that is light to import."""
import os
import pickle
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file

from tiny import global_state, leftovers, named
from ttp_nb.basics import TTPError, atomic_path, read_tensors, read_weights, rng_for, setup_page, shipped


def python(code, **env):
    "What a fresh Python prints when it runs this."
    return subprocess.check_output([sys.executable, '-c', code], env=os.environ | env, text=True)


# --- draws

WORDS = st.sampled_from(['epoch', 'training', 'online', 'offline', 'walk_0001'])
KEYS = st.lists(st.one_of(WORDS, st.integers(0, 300)),
                min_size=2, max_size=2)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 50), KEYS.map(tuple)), min_size=2, max_size=6, unique=True))
def test_draws_are_a_function_of_seed_and_keys(asked):
    draws = {k: rng_for(k[0], *k[1]).integers(2**60, size=3).tolist() for k in asked}
    for k in reversed(asked): # in another order, with other draws in between
        np.random.random(); rng_for(99, 'other').random(7)
        assert rng_for(k[0], *k[1]).integers(2**60, size=3).tolist() == draws[k]
    for a, b in combinations(asked, 2): assert draws[a] != draws[b], f'{a} and {b} draw the same'


def test_draws_do_not_depend_on_the_process_or_the_type_of_number():
    "Python's own hash of a word is another one in each process."
    code = "from ttp_nb.basics import rng_for; print(rng_for(3, 'online', 'walk', 5).bit_generator.random_raw())"
    here = rng_for(3, 'online', 'walk', 5).bit_generator.random_raw()
    assert int(python(code, PYTHONHASHSEED='17')) == here
    assert rng_for(np.int64(3), 'online', 'walk', np.int32(5)).bit_generator.random_raw() == here


def test_draws_stay_what_they_are():
    "The strings and the way they become seeds decide every number of the project."
    assert rng_for(0, 'film').integers(0, 1000, 4).tolist() == [983, 312, 926, 418]
    assert rng_for(7, 'offline', '0050', 3).integers(0, 1000, 4).tolist() == [513, 729, 530, 173]


def test_drawing_leaves_the_world_as_it_was():
    before = global_state()
    rng_for(0, 'training', 1).random(10)
    assert global_state() == before


# --- written whole or not at all

@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt, OSError])
def test_a_writer_that_fails_leaves_what_was(tmp_path, error):
    path = tmp_path/'deep'/'f.txt'
    for old in (None, 'old'):
        if old: path.write_text(old)
        with pytest.raises(TTPError if error is OSError else error):
            with atomic_path(path) as tmp:
                tmp.write_text('half')
                raise error('stop')
        assert (path.read_text() if path.exists() else None) == old and not leftovers(tmp_path)
    with atomic_path(path) as tmp: tmp.write_text('new')
    assert path.read_text() == 'new' and [p.name for p in path.parent.iterdir()] == ['f.txt']


# --- files of weights

class Harm:
    def __init__(self, marker): self.marker = marker
    def __reduce__(self): return open, (str(self.marker), 'w')


def test_weights_that_mean_harm_are_not_executed(tmp_path):
    for what in (Harm(tmp_path/'marker'), {'conv1.weight': Harm(tmp_path/'marker')}):
        file = named(tmp_path, what, 'resnet18')
        with pytest.raises(TTPError, match='read safely'): read_weights(file)
    assert not (tmp_path/'marker').exists()


@pytest.mark.parametrize('data', [b'', b'a text', b'PK\x03\x04 half a zip'])
def test_files_that_are_no_weights(data, tmp_path):
    (tmp_path/'w.pth').write_bytes(data)
    with pytest.raises(TTPError, match='w.pth'): read_weights(tmp_path/'w.pth')
    with pytest.raises(TTPError, match='none.pth'): read_weights(tmp_path/'none.pth')
    torch.save([torch.zeros(1)], tmp_path/'list.pth')
    with pytest.raises(TTPError, match='holds a list'): read_weights(tmp_path/'list.pth')


def test_tensors_come_in_single_precision_under_their_names(tmp_path):
    file = tmp_path/'w.safetensors'
    third = torch.tensor([1/3])
    held = {'half': third.half(), 'brain': third.bfloat16(), 'double': third.double(), 'count': torch.tensor(7),
            'none': torch.zeros(0, 4)}
    save_file(held, file)
    was, got = file.read_bytes(), read_tensors(file)
    assert got.keys()==held.keys() and {t.dtype for t in got.values()}=={torch.float32}
    for k, t in held.items(): assert torch.equal(got[k], t.float()), k
    got['half'] += 1
    assert file.read_bytes()==was and torch.equal(read_tensors(str(file))['half'], held['half'].float())

POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n'

@pytest.mark.parametrize('data', [b'', b'a text', POINTER, b'\xff'*64, b'{"a": 1}', pickle.dumps({'a': 1})],
                         ids=['empty', 'text', 'pointer', 'ones', 'json', 'pickle'])
def test_files_that_hold_no_tensors(data, tmp_path):
    file = tmp_path/'w.safetensors'
    file.write_bytes(data)
    with pytest.raises(TTPError, match='w.safetensors cannot be read') as e: read_tensors(file)
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('share', [.01, .5, .99])
def test_tensors_of_a_file_cut_short(share, tmp_path):
    file = tmp_path/'w.safetensors'
    save_file({'a': torch.zeros(1000)}, file)
    data = file.read_bytes()
    file.write_bytes(data[:int(share*len(data))])
    with pytest.raises(TTPError, match='w.safetensors cannot be read'): read_tensors(file)

def test_tensors_that_are_not_there_or_mean_harm(tmp_path):
    (tmp_path/'folder.safetensors').mkdir()
    torch.save(Harm(tmp_path/'marker'), tmp_path/'harm.safetensors')
    for name in ('none.safetensors', 'folder.safetensors', 'harm.safetensors'):
        with pytest.raises(TTPError, match=f'{name} cannot be read'): read_tensors(tmp_path/name)
    assert not (tmp_path/'marker').exists()

def test_what_comes_along_is_found_from_anywhere(tmp_path, monkeypatch):
    here = shipped('small_joint')
    monkeypatch.chdir(tmp_path)
    assert shipped('small_joint')==here and here.is_absolute() and here.is_file()
    with pytest.raises(TTPError, match='no_such_model.*--model'): shipped('no_such_model')

def test_starting_weights_come_along_and_are_small():
    file = shipped('movenet_lightning')
    assert file.stat().st_size<4.8e6
    assert all(t.isfinite().all() for t in read_tensors(file).values())

def test_outside_of_a_clone_nothing_comes_along(tmp_path, monkeypatch):
    import ttp_nb
    monkeypatch.setattr(ttp_nb, '__file__', str(tmp_path/'site-packages'/'ttp_nb'/'__init__.py'))
    with pytest.raises(TTPError, match='small_joint.safetensors is not there: run from a clone'): shipped('small_joint')


# --- pages

def test_outside_a_notebook_setup_does_nothing():
    before = global_state()
    setup_page()
    assert global_state() == before
    code = ("import sys, ttp_nb.basics as b; b.setup_page(photos=True); "
            "print({'matplotlib', 'torch', 'torchvision'} & {*sys.modules})")
    assert python(code).strip() == 'set()'
