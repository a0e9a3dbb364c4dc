"""The bank sharded over ranks against the whole bank in one process: real process groups."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import torch, torch.distributed as dist
from torch import nn
from invp.core.neighbours import knn_graph, top_k
from invp.core.selection import selected_similarities, weighted_rows
from invp.objectives._sharded_bank import BankRows

dist.init_process_group("gloo")
world_size = dist.get_world_size()
for size in (5, 17, 3000):
    torch.manual_seed(size)
    bank = torch.randn(size, 8, dtype=torch.float64)
    queries = torch.randn(6, 8, dtype=torch.float64)
    holder = nn.Module()
    holder.register_buffer("bank", bank.clone())
    rows = BankRows(size, "sharded")
    rows.shard(holder)
    assert len(holder.bank) in (size // world_size, size // world_size + 1), len(holder.bank)
    for k in (1, 4, size):
        values, index = rows.top_k(queries, holder.bank, k)
        expected = top_k(queries, bank, k)
        torch.testing.assert_close(values, expected[0])
        assert torch.equal(index, expected[1])
    assert torch.equal(rows.knn_graph(holder.bank, 4), knn_graph(bank, 4)[1])
    lists = torch.randint(size, (6, 9))
    weights = torch.randn(6, 9, dtype=torch.float64)
    similarity = selected_similarities(queries, holder.bank, lists, row_range=rows.row_range)
    torch.testing.assert_close(similarity, selected_similarities(queries, bank, lists))
    sums = weighted_rows(weights, holder.bank, lists, row_range=rows.row_range)
    torch.testing.assert_close(sums, weighted_rows(weights, bank, lists))
    state = holder.state_dict()
    assert torch.equal(state["bank"], bank)
    holder.bank.zero_()
    holder.load_state_dict(state)
    assert torch.equal(holder.state_dict()["bank"], bank)
dist.destroy_process_group()
"""


@pytest.mark.parametrize("processes", [2, 3])
def test_a_sharded_bank_gives_what_a_replicated_one_gives(processes, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{PROGRAM}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
