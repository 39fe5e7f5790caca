"""Profiles: what an adaptation changed comes back within a rounding, and nothing else is taken for one."""
from dataclasses import replace
import numpy as np, pytest, torch
from safetensors.torch import load_file, save_file
from tiny import leftovers, person, same_weights, tiny_model, weights
from ttp_nb.checkpoints import checksum, save_model
from ttp_nb.clips import predict
from ttp_nb.personalization import TTPConfig, offline
from ttp_nb.checkpoints import apply_profile, read_profile, save_profile, weight_changes
from ttp_nb.basics import TTPError

@pytest.fixture(scope='module')
def model(): return tiny_model().eval()

@pytest.fixture(scope='module')
def adapted(model): return offline(model, person(0), TTPConfig(batch=3, lr=1e-2)).model

@pytest.fixture
def profile(model, adapted, tmp_path):
    save_profile(tmp_path/'p.safetensors', model, adapted, model='tiny', frames=5)
    return tmp_path/'p.safetensors'


def test_applied_it_is_the_adapted_network_within_a_rounding(model, adapted, profile, tmp_path):
    was, again = weights(model), apply_profile(model, profile)
    assert same_weights(weights(model), was) and not again.training and checksum(again)!=checksum(model)
    for k, v in weights(adapted).items():
        change = (v-was[k]).abs().max().item()
        assert (weights(again)[k]-v).abs().max().item()<=change*2**-10+1e-7, k
    assert torch.equal(again.perceptual.mean, adapted.perceptual.mean) and not torch.equal(adapted.perceptual.mean,
                                                                                           model.perceptual.mean)
    (a, ca), (b, cb), (c, cc) = (predict(m, person(0)) for m in (adapted, again, model))
    assert np.abs(ca-cb).max()<2e-2<np.abs(ca-cc).max() and np.median(np.abs(a-b))<.1
    assert not leftovers(tmp_path) and sorted(p.name for p in tmp_path.iterdir())==['p.json', 'p.safetensors']

def test_it_holds_what_changed_and_the_card_says_of_what(model, adapted, profile):
    changes, card = read_profile(profile)
    assert changes.keys()==weight_changes(model, adapted).keys()<weights(model).keys()
    assert not any(k.startswith(('affinity', 'joints')) for k in changes)
    assert {k for k, v in changes.items() if v.dtype!=torch.float16}=={'perceptual.mean'}
    assert card=={'kind': 'profile', 'base': checksum(model), 'model': 'tiny', 'frames': 5}

def test_one_is_gone_on_from(model, profile):
    "A step of no length: the frozen copy starts where the profile ends; a real one goes elsewhere."
    start = apply_profile(model, profile)
    still = offline(start, person(1), TTPConfig(batch=3, lr=0.))
    assert same_weights({k: v for k, v in weights(still.model).items() if k!='perceptual.mean'},
                        {k: v for k, v in weights(start).items() if k!='perceptual.mean'})
    on = offline(start, person(1), TTPConfig(batch=3, lr=1e-2)).model
    changes = weight_changes(model, on)   # from the trained network, through both
    assert not torch.equal(changes['head.weight'], weight_changes(start, on)['head.weight'])

def test_nothing_changed(model, tmp_path):
    save_profile(tmp_path/'p.safetensors', model, model)
    assert read_profile(tmp_path/'p.safetensors')[0]=={}
    assert same_weights(weights(apply_profile(model, tmp_path/'p.safetensors')), weights(model))

def test_another_network_refuses_it(model, profile):
    for other in (tiny_model(seed=1), tiny_model(keypoints=6), tiny_model(shared=True)):
        with pytest.raises(TTPError, match=r'p.safetensors was made on another network \(tiny\).*--model'):
            apply_profile(other, profile)

@pytest.mark.parametrize('share', [0., .01, .5, .99])
def test_a_truncated_one(model, profile, share):
    data = profile.read_bytes()
    profile.write_bytes(data[:int(share*len(data))])
    with pytest.raises(TTPError, match='p.safetensors or the card beside it cannot be read.*copy both again'):
        apply_profile(model, profile)

def test_a_missing_one(model, tmp_path):
    for p in (tmp_path/'none.safetensors', tmp_path):
        with pytest.raises(TTPError, match='no such profile.*ttp personalize'): apply_profile(model, p)

def test_a_missing_card(model, profile):
    profile.with_suffix('.json').unlink()
    with pytest.raises(TTPError, match='the card beside it cannot be read'): apply_profile(model, profile)

@pytest.mark.parametrize('text', ['', '{', 'null', '[]', '{}', '{"kind": "joint", "base": 1}', '{"kind": "profile"}'])
def test_other_cards(model, profile, text):
    profile.with_suffix('.json').write_text(text)
    with pytest.raises(TTPError, match='card'): apply_profile(model, profile)

def test_a_model_is_no_profile(model, tmp_path):
    p = tmp_path/'m.safetensors'
    save_model(model, p)
    with pytest.raises(TTPError, match='m.json is not the card of a profile'): apply_profile(model, p)

@pytest.mark.parametrize('how', ['another name', 'another shape'])
def test_weights_that_do_not_fit(model, profile, how):
    changes = load_file(profile)
    v = changes.pop('head.weight')
    changes |= {'tail.weight': v} if how=='another name' else {'head.weight': v[1:].contiguous()}
    save_file(changes, profile)
    with pytest.raises(TTPError, match='does not fit the network it names'): apply_profile(model, profile)

@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e6])
def test_weights_that_ran_away_are_not_kept(model, adapted, tmp_path, value):
    wild = apply_copy(adapted)
    with torch.no_grad(): wild.head.weight[0,0] = value
    with pytest.raises(TTPError, match='head.weight'): save_profile(tmp_path/'p.safetensors', model, wild)
    assert not list(tmp_path.iterdir())

def apply_copy(m):
    other = tiny_model().eval()
    other.load_state_dict(m.state_dict())
    return other

def test_where_nothing_can_be_written(model, adapted, tmp_path):
    (tmp_path/'file').write_text('x')
    with pytest.raises(TTPError, match='cannot be written'):
        save_profile(tmp_path/'file'/'p.safetensors', model, adapted)

def test_a_profile_of_the_shared_design(tmp_path):
    m = tiny_model(shared=True).eval()
    a = offline(m, person(0), replace(TTPConfig(batch=3), lr=1e-2)).model
    save_profile(tmp_path/'p.safetensors', m, a)
    there, again = (predict(n, person(0))[0] for n in (a, apply_profile(m, tmp_path/'p.safetensors')))
    assert np.median(np.abs(there-again))<.1
