import numpy as np, torch, pyarrow as pa
import torch.nn.functional as F
from pathlib import Path
from invp.files import read_json, read_table
class Shards:
    def __init__(self, folder):
        self.manifest=read_json(Path(folder)/"manifest.json"); m=self.manifest
        self.num_samples=m["num_samples"]; self.classes=m["classes"]; self.shape=m["shape"]; self.format=m["format"]
        ts=[read_table(Path(folder)/s["file"]) for s in m["shards"]]
        t=pa.concat_tables(ts)
        self.labels=torch.tensor(t["label"].to_numpy().astype("int64"))
        self._x=torch.tensor(np.stack([np.frombuffer(b,np.uint8) for b in t["image"].to_pylist()]).reshape(-1,*self.shape))
    def images(self,i): return self._x[i]
def epoch_order(n,seed,epoch): return torch.randperm(n,generator=torch.Generator().manual_seed(seed*1000003+epoch))
def train_batches(shards,*,order,batch_size,start_step,rank,world,device,augmentation,seed,epoch,views,workers=1):
    local=batch_size//world
    for step in range(start_step,len(order)//batch_size):
        rows=slice(rank*local,(rank+1)*local)
        i=order[step*batch_size:(step+1)*batch_size][rows]
        x=shards.images(i)
        yield step,i,[augmentation(x,(seed,epoch,step,v),rows,batch_size) for v in range(views)]
def eval_batches(shards,*,size,batch_size,device,mean,std,workers=1,crop=None):
    for a in range(0,shards.num_samples,batch_size):
        i=torch.arange(a,min(a+batch_size,shards.num_samples)); x=shards.images(i).float()/255
        x=F.interpolate(x,(size,size),mode="bilinear")
        if x.shape[1]==1: x=x.expand(-1,3,-1,-1)
        yield i,(x-torch.tensor(mean)[:,None,None])/torch.tensor(std)[:,None,None]
