"""Links lead somewhere: those of README, of every page's text, and of the READMEs of folders."""
import json, re
from pathlib import Path
from urllib.parse import unquote
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [p for folder in ('nbs', 'nbs/library') for p in sorted((ROOT/folder).glob('*.ipynb')) if p.name[0] not in '._']
TEXTS = [ROOT/'README.md', *(ROOT/folder/'README.md' for folder in ('data', 'models', 'experiments')), *PAGES]
STEMS = {p.stem for p in PAGES}
name = lambda p: p.relative_to(ROOT).as_posix()


def markdown(path):
    "All that is text: a page's markdown cells, or the whole file."
    text = path.read_text(encoding='utf-8')
    if path.suffix!='.ipynb': return text
    return '\n\n'.join(''.join(c['source']) for c in json.loads(text)['cells'] if c['cell_type']=='markdown')

def prose(text):
    "Without blocks of code, where brackets mean something else."
    text = re.sub(r'^(```|~~~).*?^\1', '', text, flags=re.M|re.S)
    return '\n'.join(line for line in text.splitlines() if not line.startswith('    '))

def links(text):
    "Where `[words](target)`, `[words]: target`, href= and src= point."
    text = prose(text)
    found = re.findall(r'\]\(\s*<?([^)\s>]+)>?[^)]*\)', re.sub(r'`[^`\n]*`', 'code', text))
    found += re.findall(r'^\[[^\]]+\]:\s*(\S+)', text, re.M)
    return found + re.findall(r'(?:href|src)\s*=\s*["\']([^"\']+)', text)

def anchors(path):
    "What a heading is called in an address, as GitHub and as JupyterLab call it."
    if path.suffix not in ('.md', '.ipynb'): return set()
    titles = [t.strip() for t in re.findall(r'^#+ +(.*)', prose(markdown(path)), re.M)]
    plain = [re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', t).replace('`', '') for t in titles]
    return {re.sub(r'[^\w\- ]', '', t.lower()).replace(' ', '-') for t in plain} | {t.replace(' ', '-') for t in plain}

def fault(path, target):
    "Why a link leads nowhere; '' where it leads somewhere."
    if re.match(r'https://[\w.-]+\.\w+(/|$)', target): return ''
    if re.match(r'\w+:', target): return 'neither a file nor https'
    file, _, anchor = unquote(target).partition('#')
    there = (path.parent/file).resolve() if file else path
    if ROOT.resolve() not in (there, *there.parents): return 'outside of the project'
    if not there.exists(): return 'no such file'
    if file and there != ROOT.resolve() and there.name not in {p.name for p in there.parent.iterdir()}:
        return "no such file: letters of another case"
    return '' if not anchor or anchor in anchors(there) else 'no such heading'

@pytest.mark.parametrize('path', TEXTS, ids=name)
def test_every_link_leads_somewhere(path):
    bad = {target: why for target in links(markdown(path)) if (why := fault(path, target))}
    assert not bad, f'{name(path)}: {bad}'


def unlinked(path):
    "Pages and other texts that are named in code font, where a reader would click."
    text = re.sub(r'\[[^\]]*\]\([^)]*\)', '', prose(markdown(path)))
    said = [word.removeprefix('./') for word in re.findall(r'`([^`\n]+)`', text)]
    pages = [w for w in said if re.sub(r'^(nbs/)?(library/)?|\.ipynb$', '', w) in STEMS-{'index', path.stem}]
    return pages + [w for w in said if w.endswith(('.md', '.ipynb')) and '/' in w and (ROOT/w).is_file()]

@pytest.mark.parametrize('path', TEXTS, ids=name)
def test_every_page_that_is_named_is_a_link(path):
    assert not unlinked(path), f'{name(path)} names {unlinked(path)} without a link'

def test_the_front_page_and_readme_lead_to_every_page():
    reached = {(ROOT/t.partition('#')[0]).resolve() for t in links(markdown(ROOT/'README.md'))}
    assert {p.resolve() for p in PAGES} <= reached


def test_faults_are_seen(tmp_path):
    "The tests above rest on this."
    text = 'a [b](c.md) [`d`](e.ipynb#f) <img src="g.png"> `[h](i)`\n\n```\n[j](k)\n```\n\n    [l](m)\n\n[n]: o'
    assert links(text)==['c.md', 'e.ipynb#f', 'o', 'g.png']
    page = ROOT/'README.md'
    fine = 'https://arxiv.org/abs/1', 'nbs/index.ipynb', 'models', '#see-it', 'nbs/../README.md#See-it'
    assert not [t for t in fine if fault(page, t)]
    wrong = 'http://a.org', 'nbs/00_no.ipynb', '#no-such', '../x', '/work/x', 'readme.md', 'file:///x'
    assert not [t for t in wrong if not fault(page, t)]
