import hashlib
from pathlib import Path
import pyarrow as pa
from invp.config import instance
from invp.files import sha256_of, write_json, write_table
from invp.plugins import load_plugin
def run(dataset, options, split, root, out, workers):
    m=load_plugin("datasets",dataset); c=instance(m.Config,options); s=m.load(c,root,split)
    rows=[s.read(i) for i in range(s.num_samples)]
    import math
    t=pa.table({"index":pa.array(range(s.num_samples),pa.int64()),"image":pa.array([r.image.tobytes() for r in rows],pa.binary(math.prod(s.shape))),"label":pa.array([r.label for r in rows],pa.int32()),"source":[r.source for r in rows]})
    write_table(out/"shard-00000.arrow",t)
    counts={}
    for r in rows: counts[s.classes[r.label]]=counts.get(s.classes[r.label],0)+1
    write_json(out/"manifest.json",dict(dataset=dataset,split=split,num_samples=s.num_samples,format=s.format,shape=s.shape,classes=s.classes,counts=counts,shards=[dict(file="shard-00000.arrow",rows=s.num_samples,sha256=sha256_of(out/"shard-00000.arrow"))],source_sha256=hashlib.sha256(s.listing).hexdigest(),split_rule=s.split_rule,skipped=[],section=options,versions={},record={}))
