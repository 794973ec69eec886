"""For tests alone, on PYTHONPATH: the Slurm executor asks after its jobs every second, without growing pauses.

On a cluster those pauses are right, since they spare the controller.
"""

import contextlib
import os

PAUSE_S = 1.0

if "SLURM_JOB_ID" not in os.environ:  # a job asks after none
    with contextlib.suppress(ImportError):
        from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

        pauses = RemoteExecutor.next_seconds_between_status_checks
        RemoteExecutor.next_seconds_between_status_checks = property(
            pauses.fget, lambda self, seconds: pauses.fset(self, min(seconds, PAUSE_S))
        )
