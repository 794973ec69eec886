"""A smaller network from a larger one: the strongest channels, in their places."""

import numpy as np
import pytest
import torch

from plateline.errors import ModelError
from plateline.models.light import CURVES
from plateline.models.narrow import _ends, narrowed
from plateline.models.unet import DOWN, UP, WIDTHS, UNet, from_arrays, shape_of, to_arrays

WIDE = {"widths": [32, 50, 72, 130], "down": [1, 2, 2, 3], "up": [2, 1, 1]}


def network(**shape):
    """A network with statistics that are not those of its start."""
    torch.manual_seed(0)
    made = UNet(CURVES, 3, **shape)
    made(torch.rand(2, CURVES, 32, 48))
    return made.eval()


def hidden(arrays, seed):
    """A larger network whose further channels and blocks do nothing, with the given one's at drawn places."""
    rng, places = np.random.default_rng(seed), {}
    wide = {name: np.zeros_like(array) for name, array in to_arrays(UNet(CURVES, 3, **WIDE)).items()}
    for name, array in arrays.items():
        size, where = wide[name].shape, []
        for axis, end in enumerate(_ends(name)[: 2 if array.ndim == 4 else 1]):
            own, most = array.shape[axis], size[axis]
            if not end:
                where.append(np.arange(own))
                continue
            twice = 2 if name.startswith("head") else 1
            found = places.setdefault(end, np.sort(rng.permutation(most // twice)[: own // twice]))
            where.append(np.concatenate([found + n * most // twice for n in range(twice)]))
        wide[name][np.ix_(*where)] = array
    return wide


def test_the_shape_of_a_network_is_read_from_its_weights():
    assert shape_of(to_arrays(UNet(CURVES, 3, **WIDE))) == WIDE
    assert shape_of(to_arrays(UNet(CURVES, 3))) == {"widths": [*WIDTHS], "down": [*DOWN], "up": [*UP]}
    assert from_arrays(to_arrays(UNet(CURVES, 3, **WIDE)), channels=CURVES, maps=3, step=1).head.in_channels == 64


@pytest.mark.parametrize("seed", range(3))
def test_channels_that_do_nothing_are_left_out(seed):
    arrays = to_arrays(network())
    found = narrowed(hidden(arrays, seed))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_network_of_the_shape_wanted_stays_as_it_is():
    arrays = to_arrays(network())
    for name, array in narrowed(arrays).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_a_narrower_network_is_refused():
    arrays = to_arrays(network(widths=(24, 48, 72, 95)))
    with pytest.raises(ModelError, match=r"its network has .*95\].*; expected at least .*leave segment\.fit\.begin"):
        narrowed(arrays)
    with pytest.raises(ModelError, match="a training cannot begin from this model"):
        narrowed(to_arrays(network(down=(1, 1, 2, 1))))
