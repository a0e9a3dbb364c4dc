"""What an evaluation that NEEDS the graph is given. N training images, k neighbours."""

from dataclasses import dataclass

import numpy as np

from invp.evals._inputs import FeatureInputs


@dataclass
class GraphInputs(FeatureInputs):
    """Features, and `neighbours` Nxk (int64): of each training image the rows of the nearest in the graph of its stage, without itself."""

    neighbours: np.ndarray
