from dataclasses import dataclass, field
import torch, torch.nn.functional as F
@dataclass
class Augmentation:
    size: int = 32
    crop_scale: list[float] = field(default_factory=lambda: [0.2, 1.0])
    crop_ratio: list[float] = field(default_factory=lambda: [0.75, 4/3])
    flip: bool = False
    jitter: list[float] = field(default_factory=lambda: [0., 0., 0., 0.])
    jitter_probability: float = 0.0
    grayscale: float = 0.0
    blur_sigma: list[float] = field(default_factory=lambda: [0.1, 2.0])
    blur_probability: float = 0.0
    mean: list[float] = field(default_factory=lambda: [0.5,0.5,0.5])
    std: list[float] = field(default_factory=lambda: [0.25,0.25,0.25])
class Augment:
    def __init__(self, o): self.o=o
    def __call__(self, x, key, rows=None, global_batch=None):
        o=self.o; B=len(x); n=global_batch or B
        g=torch.Generator().manual_seed(hash(key) & 0x7fffffffffff)
        H,W=x.shape[-2:]
        area=torch.empty(n).uniform_(*o.crop_scale,generator=g); import math
        r=torch.exp(torch.empty(n).uniform_(math.log(o.crop_ratio[0]),math.log(o.crop_ratio[1]),generator=g))
        w=(area*r).sqrt().clamp(max=1); h=(area/r).sqrt().clamp(max=1)
        cx=(torch.rand(n,generator=g)*2-1)*(1-w); cy=(torch.rand(n,generator=g)*2-1)*(1-h)
        t=torch.zeros(n,2,3); t[:,0,0]=w;t[:,1,1]=h;t[:,0,2]=cx;t[:,1,2]=cy
        if rows is not None: t=t[rows]
        x=x.float()/255
        x=F.grid_sample(x,F.affine_grid(t,(B,x.shape[1],o.size,o.size),align_corners=False),mode='bilinear',padding_mode='reflection',align_corners=False)
        if x.shape[1]==1: x=x.expand(-1,3,-1,-1)
        m=torch.tensor(o.mean)[:,None,None]; s=torch.tensor(o.std)[:,None,None]
        return (x-m)/s
