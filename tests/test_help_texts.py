"""What help() says: every public function's parameters, at little cost; the package's front door is light."""
import inspect, json, os, subprocess, sys
import pytest
from ttp_nb import help_texts
from ttp_nb.help_texts import documented_lines, with_parameters

def fresh(code):
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                       env=os.environ | {'COLUMNS': '100'})
    assert r.returncode==0, r.stderr[-2000:]
    return r.stdout

def test_help_of_every_public_function_says_its_parameters_once():
    code = """
import importlib, inspect, json, pkgutil, re, ttp_nb
names = [m.name for m in pkgutil.iter_modules(ttp_nb.__path__) if m.name[0] != '_']
modules = [importlib.import_module('ttp_nb.'+n) for n in names]
things = [(m.__name__+'.'+n, getattr(m, n)) for m in modules for n in m.__all__]
wrong = []
for name, f in things:
    doc = f.__doc__ or '' if callable(f) else ''
    if not inspect.isfunction(f):
        if doc.count('Parameters:') > 1: wrong.append(name+' twice')
        continue
    for p in inspect.signature(f).parameters.values():
        said = re.search(rf'^    [*]*{p.name}: ', doc, re.M)
        if doc.count('Parameters:') != 1 or not said: wrong.append(f'{name}({p.name})')
print(json.dumps([len(things), wrong]))"""
    n,wrong = json.loads(fresh(code))
    assert n>700 and not wrong, f'{len(wrong)}: {wrong[:20]}'

def test_the_front_door_is_light_and_opens():
    said = fresh("""
import sys, ttp_nb
print('torch' in sys.modules, 'numpy' in sys.modules, 'personalize' in dir(ttp_nb))
from ttp_nb import personalize
help(personalize)
try: ttp_nb.personalise
except AttributeError as e: print(e)
try: from ttp_nb import nothing
except ImportError as e: print('ImportError')""")
    assert said.startswith('False False True\n') and "has no attribute 'personalise'" in said and 'ImportError' in said
    for name in ('source', 'box', 'model', 'mode', 'start', 'slowmo', 'fps'): assert f'\n        {name}: ' in said, name
    for word in ('RGB', '(T,H,W,3) uint8', 'Returns: .keypoints (T,J,2)', '.save(folder)'): assert word in said, word

def test_a_command_says_one_line():
    said = fresh("from ttp_nb.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    assert 'Parameters' not in said

@pytest.mark.parametrize('line,want', [
    ('    a, # one', {'a': 'one'}), ('    a:int=3, # one # two', {'a': 'one # two'}),
    ('    **more, # x', {'**more': 'x'}), ('    a, *b, # both', {'a': 'both', '*b': 'both'}),
    ("    a:str = '#', # a mark", {'a': 'a mark'}), ('    *, # the rest by name', {}), ('    a,', {}),
    ('    # a remark', {})])
def test_lines(line, want): assert documented_lines([line, '): # b'], lambda line: False)==(want, 'b')

def test_docstrings_that_need_nothing():
    assert with_parameters('x', {}, '')=='x' and with_parameters(None, {}, '') is None
    assert with_parameters(None, {'a': 'b'}, '')=='Parameters:\n    a: b'

def test_classes_and_methods():
    from ttp_nb.motion import OneEuro
    from ttp_nb.video import Probe
    from ttp_nb.your_video import Ledger, Task, VideoJob
    assert 'source: a video' in VideoJob.__doc__ and 'fps: ' in VideoJob.__doc__ and 'codec: ' in Probe.__doc__
    assert 'key: of the job' in Ledger.__doc__ and 'kp: (n,J,2)' in Ledger.add.__doc__
    assert 'min_cutoff: ' in OneEuro.__doc__ and 'ledger: ' in Task.all_frames.__doc__, 'a method that was added later'
    assert inspect.getdoc(Ledger.read).startswith('The frames that are there whole')

def test_a_module_without_source(monkeypatch):
    "As an application that is frozen has it: nothing is added, nothing breaks."
    import types
    module = types.ModuleType('ttp_nb.frozen')
    def f(): "Says nothing."
    f.__module__ = module.__name__
    module.f = f
    help_texts.document(module)
    assert f.__doc__=='Says nothing.'
