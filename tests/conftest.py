"What more than one file of tests asks for."
from urllib.error import URLError
import pytest, torch

LONG = 'test_fidelity', 'test_your_video', 'test_reproduction', 'test_runs'

def pytest_collection_modifyitems(items):
    "The files that take longest come first, so that two processes end at about the same time."
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    "No weights on disk and no way to the net."
    def refuse(*args, **kw): raise URLError('Name or service not known')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    monkeypatch.setattr('torch.hub.urlopen', refuse)
    return tmp_path

@pytest.fixture
def served(monkeypatch):
    "Makes torchvision's download give what a test wants."
    def serve(answer):
        def load(*args, **kw):
            if isinstance(answer, Exception): raise answer
            return answer
        monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', load)
    return serve
