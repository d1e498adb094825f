"""More images than one machine looks at: scored, learnt from and measured on a Dask cluster."""

try:
    import distributed  # noqa: F401
except ImportError as error:
    raise ImportError(
        'skanomaly.distributed needs Dask: pip install "skanomaly[distributed]"'
    ) from error

from ._evaluation import evaluate_files
from ._fitting import fit_partitions
from ._scores import read_scores, score_files

__all__ = ["evaluate_files", "fit_partitions", "read_scores", "score_files"]
