"""Training of a segmenter: from images and label masks to the weights of its network.

Owns the loop: crops, steps, moving average, the held-out loss that chooses the weights, and the state from which a
killed run goes on. It opens no file: what it yields is for the caller to keep.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from plateline.errors import ConfigError
from plateline.models import boundary, distance, flow, room, stardist
from plateline.models.crops import Dice, Pool, draw, pool, roll
from plateline.models.depth import importance
from plateline.models.light import CURVES, curves, unit
from plateline.models.loss import Foreground
from plateline.models.narrow import narrowed
from plateline.models.target import Target
from plateline.models.unet import STRIDE, UNet, from_arrays, placed, to_arrays

TARGETS: dict[str, Target] = {
    "boundary": boundary.TARGET,
    "distance": distance.TARGET,
    "flow": flow.TARGET,
    "stardist": stardist.TARGET,
}
# How much of the moving average of the weights stays at a step, once it is no longer young.
_KEPT = 0.999
# Batches of held-out crops by whose loss the weights are chosen.
_HELD_OUT_BATCHES = 8
# Share of the steps in which the learning rate rises; then it falls as a cosine.
_RISE = 0.1

Arrays = dict[str, npt.NDArray]


class Recipe(NamedTuple):
    """How a network is trained.

    ``steps``: of the whole training; ``batch``: crops a step; ``crop_px``: their side; ``diameter_px``: of most nuclei
    in a crop, the network's own scale; ``learning_rate``: the highest; ``check_steps``: steps between looks at the
    held-out loss; ``patience``: looks without a better one after which training ends; ``seed``: of all that is drawn;
    ``foreground``: how errors of the foreground are judged.
    """

    steps: int
    batch: int
    crop_px: int
    diameter_px: float
    learning_rate: float
    check_steps: int
    patience: int
    seed: int
    foreground: Foreground


class Check(NamedTuple):
    """Where a training stands after a step.

    ``loss``: mean since the last check; ``held_out``: loss on held-out crops; ``weights``: the best so far, float32
    arrays by name; ``curve``: step, loss and held-out loss (N, 3) of all checks; ``state``: all that `fit` needs to go
    on from here.
    """

    step: int
    loss: float
    held_out: float
    weights: Arrays
    curve: npt.NDArray[np.float64]
    state: Arrays


class _Run(NamedTuple):
    """What changes during a training: the network, the moving average of its weights, the optimizer, the dice."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.AdamW
    dice: Dice


class _Task(NamedTuple):
    """What a network is trained for, and how."""

    target: Target
    recipe: Recipe


def fit(
    images: Sequence[npt.NDArray],
    labels: Sequence[npt.NDArray[np.int32]],
    held_out: npt.NDArray[np.bool_],
    *,
    source: npt.NDArray[np.int64],
    method: str,
    recipe: Recipe,
    begin: Arrays,
) -> Iterator[Check]:
    """Train on the images that are not held out, and say every so often where it stands.

    Parameters
    ----------
    images : sequence of (Y, X)
        Images of one channel, any sizes and units.
    labels : sequence of (Y, X) int32
        Their nuclei, 0 background; at least one nucleus each.
    held_out : (N,) bool
        Images by whose loss the weights are chosen; whole sources.
    source : (N,) int64
        Which images are of one source, as `training.sources` gives them: a source of many images is drawn less often
        than its images say, so that it is not the only thing that is learned.
    method : str
        A key of `TARGETS`.
    recipe : Recipe
        How long and on what.
    begin : dict of str to arrays
        ``state`` of a `Check` to go on from; weights of a network to start from, which is `narrowed` if it is wider
        than those of today; or empty.

    Yields
    ------
    Check
        Every `check_steps` steps and at the end; the last one has the weights to keep. A state from the end gives the
        last one again.

    Raises
    ------
    ConfigError
        If the crops do not fit the network, or there is nothing to train on or to judge by.
    ModelError
        If the network to start from is narrower.

    Notes
    -----
    A run that goes on from a state takes the steps that the undisturbed run would have taken. Results are the same on
    one machine and device, not between devices: each draws its own random numbers.
    """
    judging = np.count_nonzero(held_out)
    if recipe.crop_px % STRIDE or not 0 < judging < len(images):
        msg = (
            f"segment.fit: crops of {recipe.crop_px} px, {judging} of {len(images)} images held out; "
            f"expected a multiple of {STRIDE} px, and images on both sides"
        )
        raise ConfigError(msg)
    device = room.device()
    task = _Task(TARGETS[method], recipe)
    used, judge = (pool_of(images, labels, rows, source, device) for rows in (~held_out, held_out))
    run = _begin(task, device)
    progress = _go_on(run, begin)
    if _is_over(progress, recipe):
        yield _check(run, progress)
    while not _is_over(progress, recipe):
        count = min(recipe.check_steps, recipe.steps - progress["step"])
        costs = [_step(run, used, task, progress["step"] + number) for number in range(count)]
        error = _held_out_loss(run.average, judge, task)
        _judge(progress, count, float(torch.stack(costs).mean()), error, run.average)
        yield _check(run, progress)


def pool_of(
    images: Sequence, labels: Sequence, rows: npt.NDArray[np.bool_], source: npt.NDArray[np.int64], device: torch.device
) -> Pool:
    """The chosen images on a device; the more nuclei, and the fewer images of its source, the likelier one is drawn.

    Within a source an image counts by the root of the number of its nuclei, and a source by the root of what these sum
    to.
    """
    chosen = np.flatnonzero(rows).tolist()
    masks = [np.asarray(labels[row]) for row in chosen]
    areas = [area[area > 0] for area in (np.bincount(mask.ravel())[1:] for mask in masks)]
    diameter = np.array([np.sqrt(4 / np.pi * np.median(area)) for area in areas])
    weight = np.array([np.sqrt(area.size) for area in areas])
    weight /= np.sqrt(np.bincount(source[chosen], weight)[source[chosen]])
    return pool([unit(images[row]) for row in chosen], masks, diameter_px=diameter, weight=weight, device=device)


def _begin(task: _Task, device: torch.device) -> _Run:
    """A new network, its average, and what trains it."""
    torch.manual_seed(task.recipe.seed)
    first = to_arrays(UNet(CURVES, task.target.outputs, step=task.target.step))
    network, average = (
        placed(from_arrays(first, channels=CURVES, maps=task.target.outputs, step=task.target.step), device)
        for _ in range(2)
    )
    # One kernel for all tensors, on both kinds of device.
    optimizer = torch.optim.AdamW(network.parameters(), task.recipe.learning_rate, weight_decay=0.01, fused=True)
    return _Run(network, average, optimizer, roll(task.recipe.seed, device))


def _step(run: _Run, pool: Pool, task: _Task, number: int) -> Tensor:
    """One step of the optimizer; its loss, still on the device."""
    for group in run.optimizer.param_groups:
        group["lr"] = task.recipe.learning_rate * _share_of_rate(number / task.recipe.steps)
    run.network.train()
    cost = _cost(run.network, pool, run.dice, task)
    run.optimizer.zero_grad(set_to_none=True)
    cost.backward()
    nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
    run.optimizer.step()
    _follow(run.average, run.network, number)
    return cost.detach()


def _share_of_rate(done: float) -> float:
    """Share of the highest learning rate, 0 to 1, at a share of the training."""
    if done < _RISE:
        return max(done / _RISE, 0.04)
    return 0.5 * (1 + math.cos(math.pi * (done - _RISE) / (1 - _RISE)))


def _cost(network: nn.Module, pool: Pool, dice: Dice, task: _Task) -> Tensor:
    """Loss of the network on a new batch of crops."""
    recipe = task.recipe
    image, labels = draw(pool, dice, count=recipe.batch, side=recipe.crop_px, diameter_px=recipe.diameter_px)
    wanted, weight = task.target.encode(labels), importance(labels, diameter_px=recipe.diameter_px)
    # Half the memory traffic; only where the hardware has it.
    with torch.autocast(image.device.type, torch.bfloat16, enabled=image.is_cuda):
        raw = network(curves(image).contiguous(memory_format=torch.channels_last))
    return task.target.loss(raw.float(), wanted, weight, recipe.foreground)


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, number: int) -> None:
    """Move the average towards the network; a young average forgets its first steps sooner."""
    kept = min(_KEPT, (1 + number) / (10 + number))
    ours, theirs = (list(part.state_dict().values()) for part in (average, network))
    floats = [tensor.is_floating_point() for tensor in ours]
    torch._foreach_lerp_(_where(ours, floats), _where(theirs, floats), 1 - kept)


def _where(tensors: list[Tensor], chosen: list[bool]) -> list[Tensor]:
    return [tensor for tensor, take in zip(tensors, chosen, strict=True) if take]


@torch.no_grad()
def _held_out_loss(network: nn.Module, pool: Pool, task: _Task) -> float:
    """Mean loss over the same held-out crops every time."""
    network.eval()
    dice = roll(task.recipe.seed + 1, pool.labels.device)
    return float(torch.stack([_cost(network, pool, dice, task) for _ in range(_HELD_OUT_BATCHES)]).mean())


def _is_over(progress: dict, recipe: Recipe) -> bool:
    """Whether all steps are done, or the held-out loss has long been no better."""
    return progress["step"] >= recipe.steps or progress["worse"] >= recipe.patience


def _check(run: _Run, progress: dict) -> Check:
    """Where a training stands, for the caller."""
    step, loss, held_out = progress["curve"][-1]
    return Check(int(step), loss, held_out, progress["weights"], progress["curve"], _state(run, progress))


def _judge(progress: dict, count: int, loss: float, error: float, average: nn.Module) -> None:
    """Take note of some more steps and their loss, and of the weights if they are the best so far."""
    progress["step"] += count
    progress["worse"] += 1
    progress["curve"] = np.vstack([progress["curve"], [progress["step"], loss, error]])
    if error < progress["best"]:
        progress |= {"best": error, "worse": 0, "weights": to_arrays(average)}


def _state(run: _Run, progress: dict) -> Arrays:
    """All that a training needs to go on: both networks, the optimizer's moments, the dice, the best so far."""
    state = {f"network.{name}": array for name, array in to_arrays(run.network).items()}
    state |= {f"average.{name}": array for name, array in to_arrays(run.average).items()}
    state |= {f"best.{name}": array for name, array in progress["weights"].items()}
    for number, moments in run.optimizer.state_dict()["state"].items():
        # A copy: on a CPU the array would follow the tensor.
        state |= {f"optimizer.{number}.{name}": value.cpu().numpy().copy() for name, value in moments.items()}
    state["dice"] = run.dice.generator.get_state().numpy()
    state["progress"] = np.array([progress["step"], progress["worse"], progress["best"]], np.float64)
    state["curve"] = progress["curve"]
    return state


def _go_on(run: _Run, begin: Arrays) -> dict:
    """Where a training stands at its beginning: at a state, at given weights, or nowhere yet."""
    if "progress" not in begin:
        for network in (run.network, run.average) if begin else ():
            _load(network, narrowed(begin))
        return {"step": 0, "worse": 0, "best": math.inf, "weights": {}, "curve": np.zeros((0, 3))}
    _load(run.network, _part(begin, "network."))
    _load(run.average, _part(begin, "average."))
    _load_moments(run.optimizer, _part(begin, "optimizer."))
    run.dice.generator.set_state(torch.from_numpy(np.array(begin["dice"])))
    step, worse, best = begin["progress"]
    where = {"step": int(step), "worse": int(worse), "best": float(best), "curve": np.array(begin["curve"])}
    return where | {"weights": _part(begin, "best.")}


def _load_moments(optimizer: torch.optim.AdamW, arrays: Arrays) -> None:
    """Set the moments of an optimizer, in the memory order of its weights, which the fused step takes for granted."""
    weights = optimizer.param_groups[0]["params"]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, array in arrays.items():
        number, _, name = key.partition(".")
        value, weight = torch.from_numpy(np.array(array)), weights[int(number)]
        ordered = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
        moments.setdefault(int(number), {})[name] = ordered
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


def _part(state: Arrays, prefix: str) -> Arrays:
    """Arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def _load(network: nn.Module, arrays: Arrays) -> None:
    """Set the weights and statistics of a network."""
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, strict=False)
