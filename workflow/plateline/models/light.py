"""What a network sees of an image: intensities between percentiles, on two curves."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Of one stained channel the network sees the intensity and its root: dim nuclei beside bright ones keep their contrast.
CURVES = 2
_PERCENTILES = (1.0, 99.8)


def unit(image: npt.NDArray) -> npt.NDArray[np.float32]:
    """Image (Y, X) with its 1st percentile at 0 and its 99.8th at 1, float32; 0 everywhere where these are equal."""
    low, high = np.percentile(image, _PERCENTILES)
    if not high > low:
        return np.zeros(image.shape, np.float32)
    return ((image - low) / (high - low)).astype(np.float32)


def curves(image: Tensor) -> Tensor:
    """Input (N, 2, Y, X) of the network for images (N, Y, X) as `unit` gives them."""
    image = image.clamp(-1, 4)
    return torch.stack([image, image.clamp(min=0).sqrt()], 1)
