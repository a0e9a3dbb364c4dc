from types import SimpleNamespace
import numpy as np
from invp.config import instance
from invp.files import read_json, read_table, write_json
from invp.plugins import load_plugin
def _t(p):
    t=read_table(p); g=lambda c: t[c].combine_chunks().flatten().to_numpy().reshape(len(t),-1)
    return SimpleNamespace(feature=g("feature"),embedding=g("embedding"),labels=t["label"].to_numpy(),index=t["index"].to_numpy())
def run(section, inputs, out, record):
    m=load_plugin("evals",section["evaluation"]["name"])
    r=m.evaluate(instance(m.Config,section["evaluation"]),SimpleNamespace(train=_t(inputs["train"]),test=_t(inputs["test"]),classes=read_json(inputs["train_data"])["classes"]),seed=section["seed"],device="cpu")
    write_json(out,{"experiment":section["experiment"],"seed":section["seed"],"stage":section["stage"],"eval":section["evaluation_name"],**r,"record":record})
