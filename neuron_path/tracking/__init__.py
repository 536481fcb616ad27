"""Where a run's numbers are streamed to, beside the store, which is the record.

- `tracker`   what every tracker does, and the guard that keeps a broken one from breaking a run
- `csv_file`  a CSV file in the run directory
- `wandb_run` a Weights & Biases run
- `server`    whether W&B's server can be used, asked without a prompt and without a wait
- `choice`    from the options of `conf/logger` to a tracker
"""

from neuron_path.tracking.choice import LOGGERS, MODES, check_options, make_tracker
from neuron_path.tracking.tracker import GuardedTracker, NullTracker, Tracker

__all__ = ["LOGGERS", "MODES", "GuardedTracker", "NullTracker", "Tracker", "check_options", "make_tracker"]
