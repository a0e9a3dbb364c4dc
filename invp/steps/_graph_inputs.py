"""The inputs of an evaluation that NEEDS the graph: the tables of both splits, and the neighbours of the training images."""

from invp.data.tables import matrix
from invp.evals._graph_inputs import GraphInputs
from invp.plumbing.files import read_table
from invp.plumbing.jobs import Job
from invp.steps import _features_inputs


def read(job: Job, takes_multi_label: bool) -> GraphInputs:
    """Both tables, as for an evaluation of features, and the neighbours."""
    inputs = _features_inputs.read(job, takes_multi_label)
    neighbours = matrix(read_table(job.input("graph")), "neighbours")
    assert len(neighbours) == len(inputs.train.labels), "graph and features are of the same images"
    return GraphInputs(inputs.train, inputs.test, inputs.classes, neighbours)
