"""The first ten minutes: how README comes to the command, what make says, an installation that can be watched."""
import os, re, shutil, subprocess
from dataclasses import replace
from pathlib import Path
import pytest
from ttp_nb.basics import TTPError
from ttp_nb.run_folders import run_lock

ROOT = Path(__file__).parents[1]
README = (ROOT/'README.md').read_text(encoding='utf-8')
needs_make = pytest.mark.skipif(not shutil.which('make'), reason='needs make')


def make(*args, cwd=ROOT, **env):
    env = {k: v for k,v in os.environ.items() if k not in ('PIP_EXTRA_INDEX_URL', 'MAKEFLAGS', 'MAKELEVEL')} | env
    r = subprocess.run(['make', '--no-print-directory', *args], cwd=cwd, capture_output=True, text=True, env=env)
    return r.returncode, r.stdout, r.stderr

@pytest.fixture
def clone(tmp_path):
    "What make reads, in a folder whose name has a space, with an environment that only says what it is asked."
    d = tmp_path/'my clone'
    (d/'nbs').mkdir(parents=True); (d/'.venv'/'bin').mkdir(parents=True)
    for name in ('Makefile', 'settings.ini', 'setup.py', 'constraints.txt'): shutil.copy(ROOT/name, d/name)
    for name in ('jupyter', 'ttp'):
        (d/'.venv'/'bin'/name).write_text('#!/bin/sh\necho "$0 $JUPYTER_CONFIG_PATH"\nfor a; do echo "<$a>"; done\n')
        (d/'.venv'/'bin'/name).chmod(0o755)
    (d/'.venv'/'.installed').write_text('')
    return d


def test_readme_says_how_to_get_the_command_before_it_uses_it():
    used = re.search(r'^    ttp ', README, re.M).start()
    for way in ('`.venv/bin/ttp`', '    pip install .'): assert README.index(way)<used, way

def test_readme_says_how_to_do_without_cuda():
    assert 'make demo TORCH=cpu' in README
    assert 'pip install . --extra-index-url https://download.pytorch.org/whl/cpu' in README

@needs_make
def test_lab_opens_the_clone_and_takes_arguments(clone):
    code,out,err = make('lab', 'ARGS=--no-browser --port 8890', cwd=clone)
    assert code==0 and f'{clone}/nbs:' in out.splitlines()[0], err
    given = re.findall('^<(.*)>$', out, re.M)
    assert given[:3]==['lab', f'--ServerApp.root_dir={clone}', '--LabApp.default_url=/lab/tree/nbs/index.ipynb']
    assert given[-3:]==['--no-browser', '--port', '8890']
    root = hasattr(os, 'geteuid') and os.geteuid()==0
    assert ('--allow-root' in given)==root and len(err.splitlines())==root

@needs_make
@pytest.mark.parametrize('user,warned', [('0', True), ('1000', False)])
def test_root_is_let_in_with_one_line(clone, user, warned):
    (clone/'bin').mkdir(); (clone/'bin'/'id').write_text(f'#!/bin/sh\necho {user}\n'); (clone/'bin'/'id').chmod(0o755)
    code,out,err = make('lab', cwd=clone, PATH=f"{clone/'bin'}:{os.environ['PATH']}")
    assert code==0 and ('<--allow-root>' in out)==warned
    assert [line.startswith('Warning: JupyterLab runs as root') for line in err.splitlines()]==[True]*warned

@needs_make
def test_installing_says_what_it_does(clone):
    (clone/'.venv'/'.installed').unlink()
    said = make('-n', 'demo', cwd=clone)[1]
    steps = [said.index(f'{k} of 3: ') for k in (1, 2, 3)]
    assert steps==sorted(steps) and '-q' not in said[:said.index('3 of 3')] and 'TORCH=cpu' in said
    assert said.index('pip install')<said.index('touch .venv/.installed')<said.index('ttp demo')

@needs_make
@pytest.mark.parametrize('given,there,want', [
    ((), None, ''), (('TORCH=cpu',), None, 'https://download.pytorch.org/whl/cpu'),
    (('TORCH=cpu',), 'https://a.org/b', 'https://a.org/b https://download.pytorch.org/whl/cpu'),
    (('TORCH=cu126', 'TORCH_INDEX=file:///x'), None, 'file:///x/cu126')])
def test_which_torch(clone, given, there, want):
    "pip takes further indexes from the environment, and of two builds of one version the one with a name."
    (clone/'Makefile').write_text((clone/'Makefile').read_text()+'\nsay: ; @echo "<$$PIP_EXTRA_INDEX_URL>"\n')
    code,out,err = make('say', *given, cwd=clone, **({'PIP_EXTRA_INDEX_URL': there} if there else {}))
    assert (code, out.strip())==(0, f'<{want}>'), err
    (clone/'.venv'/'.installed').unlink()
    said = make('-n', 'demo', *given, cwd=clone)[1]
    assert (f"{given[0].partition('=')[2]} from " in said) if given else ('as PyPI has it' in said)

def test_pip_prefers_the_named_build():
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version
    pin = re.search(r'^torch==(\S+)', (ROOT/'constraints.txt').read_text(), re.M)[1]
    both = [Version(pin), Version(pin+'+cpu')]
    assert max(SpecifierSet(f'=={pin}').filter(both))==both[1]

@needs_make
def test_help_lists_every_target():
    said = make('help')[1]
    for word in ('demo', 'test', 'lab', 'train', 'export', 'clean', 'TORCH=cpu', 'ARGS='): assert word in said, word

@needs_make
def test_an_old_python_is_told_so(clone):
    (clone/'.venv'/'.installed').unlink()
    (clone/'python3.8').write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.1"\n[ "$1" = --version ]\n')
    (clone/'python3.8').chmod(0o755)
    code,out,err = make('lab', 'PYTHON=./python3.8', cwd=clone)
    assert code!=0 and 'needs Python 3.10 or newer' in err and 'Python 3.8.1' in err and '1 of 3' not in out


# --- what is refused leaves nothing; what is said of a file is said once

def test_a_refused_run_leaves_no_empty_folder(tmp_path):
    def refused(folder, write=None):
        with pytest.raises((TTPError, KeyboardInterrupt)):
            with run_lock(folder):
                if write: (folder/write).write_text('x')
                raise KeyboardInterrupt if write else TTPError('refused')
    refused(tmp_path/'a'/'b')
    assert not (tmp_path/'a').exists()
    (tmp_path/'mine').mkdir(); refused(tmp_path/'mine'/'c')
    assert (tmp_path/'mine').is_dir() and not list((tmp_path/'mine').iterdir())
    refused(tmp_path/'mine'); refused(tmp_path/'d', 'part')
    assert (tmp_path/'mine').is_dir() and (tmp_path/'d'/'part').is_file()   # what was there or begun

@pytest.mark.parametrize('asked', [('--box', '900,900,950,950'), ('--profile', 'none.safetensors')], ids=' '.join)
def test_a_refused_command_leaves_no_empty_folder(tmp_path, monkeypatch, asked, capsys):
    from tiny import noise_clip
    from ttp_nb.cli import main
    from ttp_nb.video import write_mp4
    monkeypatch.chdir(tmp_path)
    write_mp4(tmp_path/'a.mp4', noise_clip(T=4, size=(80,64)).frames, 25)
    try: code = main(['personalize', 'a.mp4', '--model', 'small', '--out', 'new/out', *asked])
    except SystemExit as e: code = e.code
    assert code in (2, 3) and not (tmp_path/'new').exists(), capsys.readouterr().err

def test_what_is_said_of_a_whole_file_is_said_once():
    from tiny import noise_clip
    from ttp_nb.recipe_runs import notes_said
    def clip(name, *notes): return replace(noise_clip(name, 2), name=name, notes=notes)
    of_all = 'test.json: 1 annotation left out: a crowd'
    assert notes_said([clip('a', 'own', of_all), clip('b', of_all)])==[of_all, 'video a: own']
    assert notes_said([clip('a', 'own'), clip('b')])==['video a: own'] and notes_said([])==[]
    assert notes_said([clip('a', of_all)])==[f'video a: {of_all}']
