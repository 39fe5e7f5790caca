"""Pages in a reader's hands: opened, looked at, saved, run to their end, wherever the reader is."""
import json, os, re, runpy, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [p for folder in ('nbs', 'nbs/library') for p in sorted((ROOT/folder).glob('*.ipynb')) if p.name[0] not in '._']
name = lambda p: p.relative_to(ROOT/'nbs').as_posix()
cells = lambda p: [c for c in json.loads(p.read_text(encoding='utf-8'))['cells'] if c['cell_type']=='code']
source = lambda c: ''.join(c['source'])


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_metadata_are_those_that_jupyter_writes(page):
    said = json.loads(page.read_text(encoding='utf-8'))
    assert said['metadata']['kernelspec']=={'display_name': 'python3', 'language': 'python', 'name': 'python3'}
    info = said['metadata']['language_info']
    assert info['name']=='python' and {'codemirror_mode', 'file_extension', 'mimetype', 'nbconvert_exporter',
                                       'pygments_lexer', 'version'}<=info.keys()
    assert (said['nbformat'], said['nbformat_minor'])==(4, 5) and all(not c['metadata'] for c in said['cells'])


@pytest.fixture
def server(tmp_path, monkeypatch):
    "What JupyterLab opens and saves through, as `make lab` sets it up, on a copy of the pages."
    manager = pytest.importorskip('jupyter_server.services.contents.filemanager')
    monkeypatch.setenv('JUPYTER_DATA_DIR', str(tmp_path/'jupyter'))
    class Settings: pass
    c = Settings(); c.ContentsManager = Settings()
    runpy.run_path(str(ROOT/'nbs'/'jupyter_server_config.py'), {'get_config': lambda: c})
    (tmp_path/'nbs'/'library').mkdir(parents=True)
    for page in PAGES: (tmp_path/'nbs'/name(page)).write_bytes(page.read_bytes())
    return manager.FileContentsManager(root_dir=str(tmp_path), pre_save_hook=c.ContentsManager.pre_save_hook)

def looked_at(server, page):
    "Opened, noted by a kernel of another version, saved."
    model = server.get(f'nbs/{page}', content=True)
    said = model['content']['metadata']
    said['kernelspec'] = dict(display_name='Python 3 (ipykernel)', language='python', name='python3')
    said['language_info']['version'] = '3.13.99'
    for cell in model['content']['cells']: cell['metadata']['trusted'] = True
    return model

def test_looking_at_a_page_does_not_change_it(server):
    for page in map(name, PAGES):
        server.save(looked_at(server, page), f'nbs/{page}')
        assert Path(server.root_dir, 'nbs', page).read_bytes()==(ROOT/'nbs'/page).read_bytes(), page

def test_what_is_written_into_a_page_is_kept(server):
    model = looked_at(server, 'index.ipynb')
    model['content']['cells'][0]['source'] = '# Mine'
    code = next(c for c in model['content']['cells'] if c['cell_type']=='code')
    code['execution_count'], code['metadata']['tags'] = 7, ['mine']
    server.save(model, 'nbs/index.ipynb')
    server.save(looked_at(server, 'index.ipynb'), 'nbs/mine.ipynb')           # a page that is not there yet
    said = json.loads(Path(server.root_dir, 'nbs', 'index.ipynb').read_text(encoding='utf-8'))
    assert said['cells'][0]['source']==['# Mine'] and said['metadata']['language_info']['version']!='3.13.99'
    assert all(c.get('execution_count') is None and not c['metadata'] for c in said['cells'])
    assert Path(server.root_dir, 'nbs', 'mine.ipynb').is_file()
    server.save(dict(type='file', format='text', content='a'), 'nbs/notes.txt')
    assert Path(server.root_dir, 'nbs', 'notes.txt').read_text()=='a'


# cells that tests leave out, being slow, a download or a widget, and that run anywhere
ANYWHERE = {'05_trunk.ipynb': 1, 'library/48_fidelity.ipynb': 3, 'library/55_explore.ipynb': 1,
            'library/60_toy_world.ipynb': 1}

@pytest.mark.parametrize('page', PAGES, ids=name)
def test_run_all_needs_nothing_that_is_not_there(page):
    "Cells that the tests leave out say what they need, so that they are left out where it is absent."
    skipped = [source(c) for c in cells(page) if 'NBVAL_SKIP' in source(c)]
    free = [s for s in skipped if not re.search(r'^# needs \S', s, re.M)]
    assert len(free)==ANYWHERE.get(name(page), 0), f'{name(page)}: does this run everywhere? {free}'
    asked = {n for s in skipped for n in re.findall(r"os\.environ\['(\w+)'\]", s)}
    assert asked <= {n for s in skipped for line in re.findall(r'^# needs (.*)', s, re.M) for n in line.split()}

def test_cells_whose_data_are_absent_are_left_out_with_a_word(tmp_path):
    "In IPython itself, where `setup_page` puts it."
    code = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
from ttp_nb.basics import leave_out
shell.input_transformers_cleanup.append(leave_out)
cells = '# needs TTP_NOT_HERE\\nraise OSError', '#| eval: false\\n# NBVAL_SKIP\\n# needs there TTP_HERE\\nprint(6*7)'
for cell in cells:
    assert shell.run_cell(cell).success"""
    (tmp_path/'there').mkdir()
    env = os.environ | {'TTP_HERE': '1', 'PYTHONPATH': str(ROOT), 'IPYTHONDIR': str(tmp_path), 'MPLBACKEND': 'Agg'}
    r = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert r.returncode==0, r.stderr
    assert r.stdout.splitlines()==['Left out: this cell needs TTP_NOT_HERE (data/README.md).', '42']


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_the_site_shows_pages_without_machinery(page):
    "What `make site` reads: no directives, no set-up; every figure, every text, the code that is exported."
    readable = runpy.run_path(str(ROOT/'nbs'/'conf.py'))['readable']
    was = json.loads(page.read_text(encoding='utf-8'))
    now = json.loads(readable(page.read_text(encoding='utf-8')))
    lines = [line for c in now['cells'] for line in source(c).splitlines()]
    assert not [line for line in lines if line.startswith(('#| ', '# NBVAL_'))]
    gone = {c['id'] for c in was['cells']}-{c['id'] for c in now['cells']}
    assert all(source(c).startswith(('#| hide', '#| default_exp')) for c in was['cells'] if c['id'] in gone)
    assert [c['outputs'] for c in now['cells'] if 'outputs' in c]==[
        c['outputs'] for c in was['cells'] if 'outputs' in c and c['id'] not in gone]
    links = re.findall(r'\]\(([^)#]+)', ''.join(source(c) for c in now['cells'] if c['cell_type']=='markdown'))
    assert all((page.parent/link).exists() and (ROOT/'nbs') in (page.parent/link).resolve().parents
               for link in links if '://' not in link)
