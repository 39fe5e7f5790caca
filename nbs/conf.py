"""The pages as a static site: `make site` builds it with Sphinx and MyST-NB, from the outputs that are in the notebooks."""
import json
import re

project = 'ttp_nb'
extensions = ['myst_nb', 'sphinx_external_toc']
external_toc_path = '_toc.yml'
exclude_patterns = ['.ipynb_checkpoints', '**/.ipynb_checkpoints']
nb_execution_mode = 'off'
myst_enable_extensions = ['amsmath', 'dollarmath']
myst_heading_anchors = 3
html_theme = 'sphinx_book_theme'
html_title = 'ttp_nb'
html_theme_options = {'show_navbar_depth': 1, 'use_download_button': False}


def readable(
    text:str, # a notebook's json
)->str: # likewise, without what only nbdev, nbval and the page's set-up need
    "A page as it is read."
    notebook = json.loads(text)
    for cell in notebook['cells']:
        lines = ''.join(cell['source']).splitlines(keepends=True)
        if cell['cell_type'] != 'code':   # a link that leads out of the site is its words
            cell['source'] = [re.sub(r'\[([^]]*)\]\((?:\.\./)+(?:data|experiments|models|README)[^)]*\)', r'\1', line)
                              for line in lines]
            continue
        cell['machinery'] = lines[:1] != [] and lines[0].startswith(('#| hide', '#| default_exp'))
        cell['source'] = [line for line in lines if not line.startswith(('#| ', '# NBVAL_'))]
    notebook['cells'] = [cell for cell in notebook['cells'] if not cell.pop('machinery', False)]
    return json.dumps(notebook)


def setup(app):
    "Sphinx calls this."
    def read(app, page, source): source[0] = readable(source[0])
    app.connect('source-read', read)
