"""A function that goes on where the memory of a GPU is too small: with smaller batches, at last on the CPU.

Refuses nothing else: any other error of the function is the caller's.
"""

import os
import sys
from collections.abc import Callable

# Whether this process was told already that torch sees no device.
_TOLD: list[bool] = []


def within_memory(function: Callable, well: str) -> tuple[object, list[str]]:
    """What a function returns for a well, and what the log must be told of the device.

    Parameters
    ----------
    function : callable
        Called with the well; again from its start, with smaller batches, each time that it runs out of the memory of a
        GPU. Nothing of the well has been committed then.
    well : str
        Name of the well.

    Returns
    -------
    result : object
        Of the function.
    notes : list of str
        One for every time that memory ran out, and one where the GPU of this process is not to be seen.

    Notes
    -----
    Batches stay small for the wells that follow; from the CPU the next well comes back to the GPU, since its memory may
    be full only for a while.
    """
    notes: list[str] = []
    while True:
        try:
            result = function(well)
        except Exception as error:
            if not _out_of_memory(error) or not (smaller := _room().make_smaller()):
                raise
            notes.append(f"{_device()}: {str(error).splitlines()[0]}; going on with {smaller}")
        else:
            break
    if "torch" in sys.modules:
        _room().come_back()
        notes += _unseen()
    return result, notes


def _out_of_memory(error: Exception) -> bool:
    """Whether a GPU had too little memory: torch's own error, or CUDA's where not even a context found room."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(error, torch.cuda.OutOfMemoryError) or "CUDA error: out of memory" in str(error)


def _room():
    """The module that knows how much goes through a network at once; it imports torch."""
    from plateline.models import room

    return room


def _device() -> str:
    return f"GPU {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"


def _unseen() -> list[str]:
    """What to tell, once, of a GPU that this process was given and that torch does not see."""
    if _TOLD or not os.environ.get("CUDA_VISIBLE_DEVICES") or sys.modules["torch"].cuda.is_available():
        return []
    _TOLD.append(True)
    return [f"{_device()} was given to this job, but torch sees none; networks run on the CPU"]
