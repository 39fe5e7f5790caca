"""People and networks so small that a test may train, adapt and evaluate them within a second."""
from dataclasses import replace
from functools import lru_cache
import numpy as np, torch
from ttp_nb.clips import Clip
from ttp_nb.joint_model import ModelConfig
from ttp_nb.clips import in_memory
from ttp_nb.drawn_people import synthetic_clip
from ttp_nb.training import TrainConfig
from ttp_nb.joint_model import new_model

torch.set_num_threads(1) # the same numbers on any machine, and room for the other test process

TINY = ModelConfig(size=(32,32), keypoints=5, width=8, filters=(8,8,8), heads=2, appearance=(4,8), pose=(4,8),
                   renderer=(8,6,4))
RECIPE = TrainConfig(steps=52, every=9, batch=3)


@lru_cache
def person(i=0, split='train', frames=5): return in_memory(synthetic_clip(0, i, split, frames))

def people(n=3, split='train', frames=5): return [person(i, split, frames) for i in range(n)]

def tiny_model(kind='joint', seed=0, **changes): return new_model(kind, replace(TINY, **changes), seed)

def noise_clip(name='a', T=4, seed=0, size=(64,48), hidden=.2):
    "Coarse noise with made-up joints: reads at once."
    g = np.random.default_rng(seed)
    frames = np.repeat(np.repeat(g.integers(0, 255, (T,size[1]//8,size[0]//8,3), dtype=np.uint8), 8, 1), 8, 2)
    joints,vis = g.uniform(8, 40, (T,13,2)),g.random((T,13))>=hidden
    return Clip(name, frames, np.concatenate([joints.min(1)-1, joints.max(1)+1], 1), joints, vis, action='squat')

def no_joints(clip): return replace(clip, joints=None, vis=None)

def first(clip, n): # unlike clip[:n] it keeps the name, which decides the draws
    return replace(clip[:n], name=clip.name)

def weights(model): return {k: v.detach().clone() for k,v in model.state_dict().items()}

def same_weights(a, b): return a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def global_state():
    "All that a function could leave changed behind its caller's back."
    import random
    return (torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(), np.random.get_state()[2],
            random.getstate(),
            torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads())

def leftovers(folder):
    "Half-written and temporary files below a folder."
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.name.startswith('.') or p.suffix=='.part')
