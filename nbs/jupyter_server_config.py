"""For `make lab`: a page that is saved as it was opened stays as it was, byte for byte."""
import json
from pathlib import Path

from nbdev.clean import clean_nb


def like_the_file(path, model, contents_manager, **_):
    """Takes away what running leaves behind, as `make export` does; what is said of the notebook stays as in its file.

    JupyterLab notes its own Python and the name of its kernel in every notebook that it opens.
    """
    if model["type"] != "notebook" or not model.get("content"):
        return
    notebook = model["content"]
    clean_nb(notebook)
    file = Path(contents_manager.root_dir, path.lstrip("/"))
    if file.is_file():
        notebook["metadata"] = json.loads(file.read_text(encoding="utf-8"))["metadata"]


c = get_config()  # noqa: F821 - jupyter's own word in such files
c.ContentsManager.pre_save_hook = like_the_file
