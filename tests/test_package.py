"""The package as a whole: light imports, notebooks in reading order, clean pages, pinned requirements."""
import ast, configparser, json, os, re, shutil, subprocess, sys, tarfile, zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PAPER = sorted(p for p in (ROOT/'nbs').glob('*.ipynb') if p.name[0] not in '._') # wing one
LIBRARY = sorted(p for p in (ROOT/'nbs'/'library').glob('*.ipynb') if p.name[0] not in '._')
NBS = PAPER+LIBRARY
MODULES = sorted(p for p in (ROOT/'ttp_nb').glob('*.py') if p.name not in ('__init__.py', '__main__.py', '_modidx.py'))
stem = lambda p: p.stem


def cells(nb, kind='code'):
    return [c for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if c['cell_type']==kind]

def source(cell): return ''.join(cell['source'])

def number(nb): # its place in the order of imports; the front page may use all
    m = re.match(r'(\d\d)_', nb.stem)
    return int(m[1]) if m else 100

def exported_name(nb):
    found = [m for c in cells(nb) for m in re.findall(r'^#\|\s*default_exp\s+(\S+)', source(c), re.M)]
    assert len(found)<=1, f'{nb.name} exports to {found}; one notebook, one module'
    return found[0] if found else None

EXPORTED = {exported_name(nb): nb for nb in NBS if exported_name(nb)} # module name -> its notebook
BY_NUMBER = sorted(EXPORTED, key=lambda m: number(EXPORTED[m]))


def parse_cell(src):
    "A cell's syntax tree, without IPython's magics and shell lines."
    if src.lstrip().startswith('%%'): return ast.parse('')
    return ast.parse(re.sub(r'^([ \t]*)(?:[%!?].*|.*\?)$', r'\1pass', src, flags=re.M))

def imported_modules(tree):
    "Names X of every `ttp_nb.X` that a syntax tree imports, at the top or inside functions."
    names = set()
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): names |= {a.name for a in n.names}
        elif isinstance(n, ast.ImportFrom):
            base = ('ttp_nb.' if n.level else '')+(n.module or '')
            names |= {base} | {f'{base.rstrip(".")}.{a.name}' for a in n.names}
    names = {n.split('.')[1] for n in names if n.startswith('ttp_nb.')}
    return names & {p.stem for p in MODULES}


def in_fresh_python(code):
    r = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert r.returncode==0, r.stderr
    return json.loads(r.stdout)

@pytest.mark.parametrize('name', ['ttp_nb', 'ttp_nb.cli'])
def test_import_is_light(name):
    if name=='ttp_nb.cli' and 'cli' not in EXPORTED: pytest.skip('no notebook exports the command line yet')
    loaded = in_fresh_python(f'import json, sys, {name}; print(json.dumps(list(sys.modules)))')
    assert name in loaded
    assert not {'torch', 'torchvision', 'matplotlib'} & set(loaded), f'import {name} is not light'

def test_modules_import_and_hold_what_they_promise():
    code = f'''
import importlib, json, sys
new = {{}}
for name in {BY_NUMBER}:
    before = set(sys.modules)
    m = importlib.import_module('ttp_nb.'+name)
    absent = [n for n in m.__all__ if not hasattr(m, n)]
    new[name] = [sorted({{'torchvision', 'matplotlib'}} & (set(sys.modules)-before)), absent]
print(json.dumps(new))'''
    found = in_fresh_python(code)
    assert list(found)==BY_NUMBER and found
    for name,(heavy,absent) in found.items():
        assert not absent, f'ttp_nb.{name}.__all__ names {absent}, which are not there'
        allowed = {'torchvision'} if name in ('trunk', 'perceptual') else set()
        assert set(heavy) <= allowed, f'ttp_nb.{name} loads {heavy} on import; import it where it is used'


HEAVY = ('scipy.interpolate', 'scipy.io', 'scipy.ndimage', 'scipy.optimize', 'scipy.signal', 'scipy.sparse',
         'scipy.stats', 'matplotlib.pyplot', 'IPython', 'ipywidgets', 'pandas', 'sympy', 'sklearn')

def test_modules_load_little_beyond_torch():
    "What takes long to import is imported where it is used: seconds are not measured, their causes are."
    code = f'''
import importlib, json, sys
import torch, numpy, cv2, av
known, new = set(sys.modules), {{}}
for name in {BY_NUMBER}:
    importlib.import_module('ttp_nb.'+name)
    new[name] = [h for h in {HEAVY} if h in sys.modules and h not in known]
    known |= set(sys.modules)
print(json.dumps(new))'''
    found = {name: heavy for name,heavy in in_fresh_python(code).items() if heavy}
    assert not found, f'modules that load much on import: {found}'


def test_every_module_has_its_notebook():
    assert sorted(EXPORTED)==[p.stem for p in MODULES]
    for name,nb in EXPORTED.items():
        assert nb.stem.partition('_')[2]==name, f'{nb.name} exports {name}'
        text = (ROOT/'ttp_nb'/f'{name}.py').read_text(encoding='utf-8')
        assert f'File to edit: ../{nb.relative_to(ROOT).as_posix()}' in text
    numbers = [number(nb) for nb in NBS]
    assert len(set(numbers))==len(numbers), 'two notebooks have the same number'

WING_ONE = {m for m,nb in EXPORTED.items() if nb in PAPER}
DRAWN = {'drawn_bodies', 'drawn_scenes', 'drawn_people'} # examples need somebody to look at

@pytest.mark.parametrize('nb', NBS, ids=stem)
def test_no_notebook_imports_a_later_one(nb):
    used = {m for c in cells(nb) for m in imported_modules(parse_cell(source(c)))}
    if nb in PAPER or number(nb)<21: used -= DRAWN
    later = {m for m in used if m in EXPORTED and number(EXPORTED[m])>number(nb)}
    assert not later, f'{nb.name} imports {sorted(later)}, which the reader has not met'

@pytest.mark.parametrize('name', sorted(WING_ONE))
def test_no_module_of_wing_one_imports_the_library(name):
    used = imported_modules(ast.parse((ROOT/'ttp_nb'/f'{name}.py').read_text(encoding='utf-8')))
    assert used <= WING_ONE, f'{name} imports {sorted(used-WING_ONE)}: the paper does not need the library'

@pytest.mark.parametrize('nb', PAPER, ids=stem)
def test_no_page_of_wing_one_needs_the_library(nb):
    used = {m for c in cells(nb) for m in imported_modules(parse_cell(source(c)))}
    assert used <= WING_ONE|DRAWN, f'{nb.name} imports {sorted(used-WING_ONE-DRAWN)}'

def test_wing_one_is_short():
    assert len(PAPER) <= 18 and len(WING_ONE) <= 16 # with the front page and basics

def test_a_public_name_has_one_meaning():
    where = {}
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding='utf-8'))
        promised = next(n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id=='__all__')
        for name in ast.literal_eval(promised): where.setdefault(name, []).append(path.stem)
    twice = {n: m for n,m in where.items() if len(m)>1}
    assert not twice, f'defined in several modules: {twice}'

@pytest.mark.parametrize('path', MODULES, ids=stem)
def test_no_module_imports_a_later_one(path):
    used = imported_modules(ast.parse(path.read_text(encoding='utf-8')))
    not_before = [m for m in used if number(EXPORTED[m])>=number(EXPORTED[path.stem])]
    assert not not_before, f'{path.name} imports {not_before}'

IMPORTERS = {'import_module', '__import__', 'spec_from_file_location'}

@pytest.mark.parametrize('path', [p for p in MODULES if p.stem!='help_texts'], ids=stem)
def test_no_module_is_imported_by_its_name(path):
    "The order above is that of import statements; only the package's front door looks modules up by name."
    tree = ast.parse(path.read_text(encoding='utf-8'))
    words = {getattr(n, 'id', None) or getattr(n, 'attr', None) for n in ast.walk(tree)}
    assert not words & IMPORTERS, f'{path.name} uses {words & IMPORTERS}: put it on a page after what it needs'

def test_imports_are_seen():
    "The two tests above rest on this parser."
    for src in ('%matplotlib inline\nfrom ttp_nb.skeletons import *',
                'def f():\n    !ls\n    import ttp_nb.skeletons as s'):
        assert imported_modules(parse_cell(src+'\nlen?'))=={'skeletons'}, src
    for src in ('from .skeletons import PENN13', 'from . import skeletons', 'from ttp_nb import skeletons'):
        assert imported_modules(ast.parse(src))=={'skeletons'}, src
    assert imported_modules(ast.parse('import torch, os\nfrom skeletons import x'))==set()


PATH = re.compile(r'(?<![\w.:/<])/[\w.-]+/[\w.-]+|\b[A-Z]:\\\w') # absolute: /folder/..., C:\...

def shown_text(outputs):
    "All that the outputs say in words: streams, reprs and tables, without pictures that HTML embeds."
    said = [''.join(o.get('text', '')) for o in outputs]
    said += [''.join(v) for o in outputs for k,v in o.get('data', {}).items() if k.startswith('text/')]
    return re.sub(r'base64,[\w+/=\s]+', '', '\n'.join(said))

@pytest.mark.parametrize('nb', NBS, ids=stem)
def test_page_is_executed_and_clean(nb):
    outputs = [o for c in cells(nb) for o in c['outputs']]
    assert outputs or not cells(nb), f'{nb.name} carries no outputs: execute it before committing'
    assert not [o for o in outputs if o['output_type']=='error'], f'{nb.name} carries a traceback'
    left = json.loads(nb.read_text(encoding='utf-8'))['metadata'].keys()-{'kernelspec', 'language_info'}
    assert not left, f'{nb.name} carries {left} in its metadata'
    text = shown_text(outputs)
    assert 'Traceback (most recent call last)' not in text, f'{nb.name} prints a traceback'
    assert not PATH.search(text), f'{nb.name} prints a path of one machine: {PATH.search(text)[0]}'
    assert not re.search(r'\bat 0x[0-9a-f]{6,}', text), f'{nb.name} prints a memory address'

@pytest.mark.parametrize('nb', NBS, ids=stem)
def test_page_is_small(nb):
    limit = 200 if exported_name(nb) else 400 # KB; pages that only teach or experiment may be larger
    assert nb.stat().st_size <= limit*1024, f'{nb.name}: {nb.stat().st_size//1024} KB, {limit} at most'

def test_page_checks_can_see():
    said = lambda s: shown_text([dict(text=[s])]) + shown_text([dict(data={'text/html': s, 'image/png': s})])
    for bad in ('saved /tmp/x.mp4', "'/home/me/v.png'", r'C:\Users\me'): assert PATH.search(said(bad)), bad
    fine = ('output/demo/x.mp4', 'https://a.org/home/x', '1/2', '../tmp/x', '<b>a</b>', 'base64,/9j/4A+/Q=')
    for good in fine:
        assert not PATH.search(said(good)), good


def definitions(path):
    "Top-level functions and classes of a module, in order."
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]

def is_patch(node):
    return any(ast.unparse(d).split('(')[0] in ('patch', 'patch_to') for d in node.decorator_list)

@pytest.mark.parametrize('path', MODULES, ids=stem)
def test_public_names_have_docstrings(path):
    bare = [n.name for n in definitions(path) if not n.name.startswith('_') and not ast.get_docstring(n)]
    assert not bare, f'{path.name}: {bare} say nothing of what they do'
    tree = ast.parse(path.read_text(encoding='utf-8'))
    assert ast.get_docstring(tree), f'{path.name}: its notebook does not begin with a title and "> one line"'

@pytest.mark.parametrize('path', MODULES, ids=stem)
def test_nothing_is_defined_twice(path):
    names = [n.name for n in definitions(path) if not is_patch(n)]
    assert len(set(names))==len(names), f'{path.name}: {sorted({n for n in names if names.count(n)>1})} twice'

@pytest.mark.parametrize('path', MODULES, ids=stem)
def test_lines_fit(path):
    "As ruff's E501, but for `__all__`, which nbdev writes wider, and stricter where the paper is read."
    limit = int(re.search(r'^line-length = (\d+)', (ROOT/'ruff.toml').read_text(encoding='utf-8'), re.M)[1])
    if path.stem in WING_ONE: limit = 100
    text = re.sub(r'^__all__ = \[.*?\]$', '', path.read_text(encoding='utf-8'), flags=re.M|re.S)
    long = [line for line in text.splitlines() if len(line)>limit]
    assert not long, f'{path.name} has {len(long)} lines over {limit}, the first: {long[0]}'


@pytest.mark.parametrize('nb', PAPER, ids=stem)
def test_examples_of_wing_one_fit(nb):
    long = [line for c in cells(nb) for line in source(c).splitlines() if len(line)>100]
    assert not long, f'{nb.name} has {len(long)} code lines over 100, the first: {long[0]}'

def test_ruff_knows_wing_one():
    "The modules whose style is stricter are those of the paper's wing, all of them."
    named = re.search(r'"!ttp_nb/\{(.*?)\}\.py"', (ROOT/'ruff.toml').read_text(encoding='utf-8'))[1]
    assert set(named.split(','))==WING_ONE


def requirements():
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    named = settings['DEFAULT']['requirements']+' '+settings['DEFAULT']['many_requirements']
    return {re.sub(r'[-_.]+', '-', Requirement(r).name).lower() for r in named.split()}

def test_everything_that_is_imported_is_required():
    used = set()
    for path in ROOT.glob('ttp_nb/*.py'):
        for n in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(n, ast.Import): used |= {a.name.split('.')[0] for a in n.names}
            elif isinstance(n, ast.ImportFrom) and not n.level: used.add(n.module.split('.')[0])
    used -= {*sys.stdlib_module_names, 'ttp_nb'}
    owners = packages_distributions()
    names = {m: {re.sub(r'[-_.]+', '-', d).lower() for d in owners.get(m, [m])} for m in used}
    absent = {m: d for m,d in names.items() if not d & requirements()}
    assert {'torch', 'PIL'} <= used and not absent, f'imported, but not in settings.ini: {absent}'


# --- what is handed over

@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "A source distribution of what git would commit, and a wheel built from it: without a network, without a clone."
    pytest.importorskip('setuptools')
    d = tmp_path_factory.mktemp('built')
    ignore = shutil.ignore_patterns('__pycache__', '*.egg-info', 'build', 'dist', 'output', '.*', 'pytorch')
    shutil.copytree(ROOT, d/'clone', ignore=lambda folder, names: {*ignore(folder, names), 'data'} & {*names}
                    if Path(folder)==ROOT else ignore(folder, names))
    for extra in ('data/README.md', '.ci/run'):
        (d/'clone'/extra).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT/extra, d/'clone'/extra)
    (d/'clone'/'models'/'pytorch').mkdir()
    (d/'clone'/'models'/'pytorch'/'mine.pth').write_text('placed there by a user')
    def build(kind, where):
        code = f"from setuptools.build_meta import __legacy__ as b; print(b.build_{kind}({str(d)!r}))"
        r = subprocess.run([sys.executable, '-c', code], cwd=where, capture_output=True, text=True,
                           env={k: v for k,v in os.environ.items() if k!='PYTHONPATH'})
        assert r.returncode==0, r.stderr[-2000:]
        return d/r.stdout.splitlines()[-1]
    sdist = build('sdist', d/'clone')
    with tarfile.open(sdist) as t: t.extractall(d/'source', filter='data')
    (source,) = (d/'source').iterdir()
    return source, build('wheel', source), d

def test_a_source_distribution_holds_what_is_needed(built):
    source,*_ = built
    for name in ('settings.ini', 'setup.py', 'constraints.txt', 'LICENSE', 'NOTICE', 'README.md', 'MANIFEST.in',
                 'Makefile', 'conftest.py', 'pytest.ini', 'ruff.toml', 'data/README.md', '.ci/run',
                 'ttp_nb/__main__.py'):
        assert (source/name).is_file(), name
    for folder in ('models', 'experiments', 'nbs', 'tests'):
        here = {p.relative_to(ROOT) for p in (ROOT/folder).rglob('*') if p.is_file() and p.suffix!='.pyc'}
        here = {p for p in here if not {*p.parts} & {'__pycache__', 'pytorch', '.ipynb_checkpoints'}}
        assert here=={p.relative_to(source) for p in (source/folder).rglob('*') if p.is_file()}, folder

def test_a_wheel_brings_code_weights_and_recipes(built):
    with zipfile.ZipFile(built[1]) as z:
        names = {n for n in z.namelist() if '.dist-info' not in n}
        said = [n for n in z.namelist() if re.search(r'licenses/(LICENSE|NOTICE)$', n)]
        for name in ('small_joint.safetensors', 'people_joint.json'):
            assert z.read(f'ttp_nb/models/{name}')==(ROOT/'models'/name).read_bytes()
    code = {f'ttp_nb/{p.name}' for p in (ROOT/'ttp_nb').glob('*.py')}
    models = {f'ttp_nb/models/{p.name}' for p in (ROOT/'models').iterdir() if p.is_file()}
    recipes = {f'ttp_nb/experiments/{p.name}' for p in (ROOT/'experiments').glob('*.yaml')}
    assert names==code|models|recipes and len(said)==2

def test_what_the_wheel_holds_works_where_there_is_no_clone(built):
    d = built[2]
    with zipfile.ZipFile(built[1]) as z: z.extractall(d/'site')
    code = """
import argparse, json, sys, ttp_nb
from ttp_nb.basics import shipped
from ttp_nb.checkpoints import load_model
from ttp_nb.cli import recipe_of
args = argparse.Namespace(cfg='experiments/people.yaml', what=[])
print(json.dumps([ttp_nb.__file__, str(shipped('small_joint')), len(load_model(shipped('people_joint')).cfg.skeleton),
                  recipe_of(args).task]))"""
    (d/'elsewhere').mkdir()
    r = subprocess.run([sys.executable, '-c', code], cwd=d/'elsewhere', capture_output=True, text=True,
                       env=os.environ | {'PYTHONPATH': str(d/'site')})
    assert r.returncode==0, r.stderr
    file,weights,joints,task = json.loads(r.stdout.splitlines()[-1])
    assert Path(file).parent==d/'site'/'ttp_nb' and Path(weights).parent==d/'site'/'ttp_nb'/'models'
    assert joints==18 and task=='joint'

def test_a_script_beside_a_clone_of_this_name(tmp_path):
    "As an editable install has it: the clone's folder is on the path, and is not mistaken for the package."
    clone = tmp_path/'ttp_nb'
    shutil.copytree(ROOT/'ttp_nb', clone/'ttp_nb', ignore=shutil.ignore_patterns('__pycache__'))
    (tmp_path/'script.py').write_text('import ttp_nb.cli; print(ttp_nb.__file__)')
    r = subprocess.run([sys.executable, tmp_path/'script.py'], cwd=tmp_path, capture_output=True, text=True,
                       env=os.environ | {'PYTHONPATH': str(clone)})
    assert r.stdout.strip()==str(clone/'ttp_nb'/'__init__.py'), r.stderr
    assert 'package_dir={"": "."}' in (ROOT/'setup.py').read_text(encoding='utf-8'), 'setuptools then needs no finder'


def test_constraints_pin_every_requirement_once():
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    cfg = settings['DEFAULT']
    need = [Requirement(r) for r in (cfg['requirements']+' '+cfg['dev_requirements']).split()]
    lines = (ROOT/'constraints.txt').read_text(encoding='utf-8').splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith('#')]
    key = lambda r: re.sub(r'[-_.]+', '-', r.name).lower()
    assert not [p for p in pins if re.match('nvidia|cuda|triton|ttp-nb', key(p))], 'not for every platform'
    for python in ('3.10', '3.11', '3.12', '3.13'):
        here = [p for p in pins if not p.marker or p.marker.evaluate({'python_version': python})]
        versions = {key(p): str(p.specifier).removeprefix('==') for p in here}
        assert len(versions)==len(here), f'constraints.txt pins a package twice for Python {python}'
        wrong = [str(r) for r in need if not r.specifier.contains(versions.get(key(r), '0'))]
        assert not wrong, f'Python {python}: no pin that fits {wrong}'
