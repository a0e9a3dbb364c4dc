import numpy as np, pyarrow as pa, torch
from invp.data import Shards, eval_batches
from invp.files import write_table
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
def run(section, seed, stage, checkpoint, dataset, out, record, device=None):
    sh=Shards(dataset); a=section["augmentation"]
    e=build_encoder(section["encoder"],a["size"]); h=build_head(section["head"],e.num_features)
    st=torch.load(checkpoint,weights_only=True)["objective"]
    e.load_state_dict({k[8:]:v for k,v in st.items() if k.startswith("encoder.")}); h.load_state_dict({k[5:]:v for k,v in st.items() if k.startswith("head.")})
    e.eval(); fs=[];zs=[]
    with torch.no_grad():
        for i,x in eval_batches(sh,size=a["size"],batch_size=256,device="cpu",mean=a["mean"],std=a["std"]):
            f=e(x); fs.append(f); zs.append(torch.nn.functional.normalize(h(f),dim=1))
    f=torch.cat(fs).numpy(); z=torch.cat(zs).numpy()
    l=lambda q: pa.FixedSizeListArray.from_arrays(pa.array(q.ravel()),q.shape[1])
    write_table(out,pa.table({"index":np.arange(len(f)),"label":sh.labels.numpy().astype("int32"),"feature":l(f),"embedding":l(z)}),record)
