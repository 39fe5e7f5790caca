"""People and networks so small that a test may train, adapt and evaluate them within a second."""
import hashlib
from dataclasses import replace
from functools import lru_cache
import numpy as np, torch
from ttp_nb.clips import Clip, in_memory
from ttp_nb.drawn_people import synthetic_clip
from ttp_nb.geometry import to_image
from ttp_nb.joint_model import JointModel, ModelConfig, new_model
from ttp_nb.pairs import offline_pairs
from ttp_nb.training import TrainConfig

torch.set_num_threads(1) # the same numbers on any machine, and room for the other test process

TINY = ModelConfig(size=(32,32), keypoints=5, width=8, filters=(8,8,8), heads=2, appearance=(4,8), pose=(4,8),
                   renderer=(8,6,4))
RECIPE = TrainConfig(steps=52, every=9, batch=3)


@lru_cache
def person(i=0, split='train', frames=5): # its frames are one array
    clip = in_memory(synthetic_clip(0, i, split, frames))
    return replace(clip, frames=np.stack(clip.frames))

def people(n=3, split='train', frames=5): return [person(i, split, frames) for i in range(n)]

def tiny_model(kind='joint', seed=0, **changes): return new_model(kind, replace(TINY, **changes), seed)

IN_USE = dict(joint={}, shared=dict(shared=True), baseline={})

def used_model(kind='joint', **changes):
    "A model that has learned a little, so that nothing in it has its first value."
    m = tiny_model('baseline' if kind=='baseline' else 'joint', **IN_USE[kind], **changes)
    g = torch.Generator().manual_seed(0)
    x,y = torch.randn(2, 3, 3, 32, 32, generator=g)
    m.train()
    opt = torch.optim.Adam(m.parameters(), 1e-2)
    for _ in range(3):
        loss = m(x).square().mean() + (m.self_supervised_loss(x, y) if isinstance(m, JointModel) else 0)
        opt.zero_grad(); loss.backward(); opt.step()
    return m.eval()

def briefly_trained():
    "A tiny joint model, trained a little, so that its running statistics are not those of the start."
    m = tiny_model().train()
    opt = torch.optim.Adam(m.parameters(), 1e-2)
    for s in range(5):
        p = offline_pairs(person(7), s, 0, 4, (32,32))
        loss = m(p.target).square().mean() + m.self_supervised_loss(p.target, p.reference)
        opt.zero_grad(); loss.backward(); opt.step()
    return m.eval()

def noise_clip(name='a', T=4, seed=0, size=(64,48), hidden=.2):
    "Coarse noise with made-up joints: reads at once."
    g = np.random.default_rng(seed)
    frames = np.repeat(np.repeat(g.integers(0, 255, (T,size[1]//8,size[0]//8,3), dtype=np.uint8), 8, 1), 8, 2)
    joints,vis = g.uniform(8, 40, (T,13,2)),g.random((T,13))>=hidden
    return Clip(name, frames, np.concatenate([joints.min(1)-1, joints.max(1)+1], 1), joints, vis, action='squat')

class Numbered:
    "Frames of one colour that says which clip and which frame; notes what is read, refuses what has not come yet."
    def __init__(self, clip, n, last=None, size=(64,48)):
        self.clip,self.n,self.last,self.size,self.reads = clip,n,last,size,[]
    def __len__(self): return self.n
    def __getitem__(self, i):
        assert 0<=i<self.n and (self.last is None or i<=self.last), f'frame {i} was read'
        self.reads.append(i)
        return np.full((self.size[1],self.size[0],3), (10*self.clip,10*i,200), np.uint8)

def numbered(clip=0, n=5, name=None, last=None, size=(64,48)):
    joints = np.random.default_rng(clip).uniform(20, 30, (n,13,2))
    return Clip(name or f'c{clip}', Numbered(clip, n, last, size), np.tile([12.,8,50,38], (n,1)), joints)

def read_back(crops):
    "(B,2) clip and frame of each crop, from the colour in its middle."
    x = to_image(crops)
    return x[:,x.shape[1]//2,x.shape[2]//2,:2]//10

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

def rand(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

def close(a, b, tol=1e-5): torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), atol=tol, rtol=tol)

def untouched(model, x):
    "Names of parameters that get no gradient, or a gradient of nothing but zeros or not finite."
    model.zero_grad()
    model(x).square().mean().backward()
    return [n for n,p in model.named_parameters()
            if p.grad is None or not p.grad.isfinite().all() or not p.grad.abs().sum()]

def named(folder, what, stem):
    "Saves what torch can, under a name that ends in the beginning of its own SHA-256."
    torch.save(what, folder/'x.pth')
    digits = hashlib.sha256((folder/'x.pth').read_bytes()).hexdigest()[:8]
    return (folder/'x.pth').rename(folder/f'{stem}-{digits}.pth')
