"""Where runs happen: this machine, or a cluster through Ray or Slurm."""

BACKENDS = ("local", "ray", "slurm")
