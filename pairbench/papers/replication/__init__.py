"""A paper's tables beside ours: orders, paired verdicts, rank correlation, and what noise costs.

The paper's numbers are data (`paper.toml`); ours are whatever records there are.
"""

from pairbench.papers.replication.paper import Paper, load_paper
from pairbench.papers.replication.report import render, write_site
from pairbench.papers.replication.study import Replication, replicate

__all__ = ["Paper", "Replication", "load_paper", "render", "replicate", "write_site"]
