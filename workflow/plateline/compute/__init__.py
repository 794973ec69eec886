"""The inside of one job: a function over wells on the job's cores and GPUs.

`cluster` owns the worker processes, `gpus` which GPUs a job may use, `leases` how jobs share those of a host without
a scheduler, `memory` what happens where a GPU has too little of it, `heap` what a process does with memory that it has
freed.
"""

from plateline.compute.cluster import map_wells
from plateline.compute.gpus import devices

__all__ = ["devices", "map_wells"]
