"""A small neural network on profiles, with losses for rare classes and Monte-Carlo dropout.

Owns the method `mlp` of `classify`. Chance comes from generators of its own, never from torch's global state.
"""

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from plateline.errors import ConfigError

LOSSES = ("ce", "focal", "class-balanced", "logit-adjusted")
# Usual values of the papers.
FOCUS, BALANCE = 2.0, 0.999
BATCH_ROWS, WEIGHT_DECAY = 128, 1e-3
# Steps of a pass at least: a screen has a hundred treatments, and one step a pass learns little.
MIN_STEPS = 5
# At the start; falls to 0 along a cosine.
LEARNING_RATE = 3e-3

Floats = npt.NDArray[np.float64]


def mlp(*, hidden: int, dropout: float, epochs: int, loss: str, mc_samples: int, seed: int) -> Pipeline:
    """A network of one hidden layer on standardised features, unfitted; see `Network` for the keywords."""
    network = Network(
        hidden=hidden,
        dropout=dropout,
        epochs=epochs,
        loss=loss,
        mc_samples=mc_samples,
        seed=seed,
    )
    return make_pipeline(StandardScaler(), network)


class Layers(nn.Module):
    """Two linear layers with a ReLU and dropout between; dropout draws from the generator it is given."""

    def __init__(self, n_features: int, hidden: int, n_classes: int, generator: torch.Generator):
        super().__init__()
        # Without torch's own start, which would draw from its global state.
        self.first = nn.utils.skip_init(nn.Linear, n_features, hidden)
        self.last = nn.utils.skip_init(nn.Linear, hidden, n_classes)
        for layer in (self.first, self.last):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
        """Logits (N, K) of x (N, D)."""
        h = functional.relu(self.first(x))  # (N, H)
        if dropout:
            h = h * (torch.rand(h.shape, generator=generator) >= dropout) / (1 - dropout)
        return self.last(h)


class Network(ClassifierMixin, BaseEstimator):
    """A classifier of one hidden layer, trained by Adam.

    Parameters
    ----------
    hidden : int
        Units, at least 1.
    dropout : float
        Share of hidden units left out at a time, from 0 to below 1.
    epochs : int
        Passes over the rows, at least 1.
    loss : {'ce', 'focal', 'class-balanced', 'logit-adjusted'}
        Cross-entropy; with weight on rows that are not learnt yet; on rare classes; or with the classes' frequencies
        added to the logits while training.
    mc_samples : int
        Answers averaged with dropout on (Monte-Carlo dropout); 0 answers once, without dropout.
    seed : int

    Notes
    -----
    On one thread of the CPU, float32. The same seed gives the same network on the same machine.

    References
    ----------
    Lin et al. 2017, https://doi.org/10.1109/ICCV.2017.324; Cui et al. 2019, https://doi.org/10.1109/CVPR.2019.00949;
    Menon et al. 2021, https://doi.org/10.48550/arXiv.2007.07314; Gal & Ghahramani 2016,
    https://doi.org/10.48550/arXiv.1506.02142
    """

    def __init__(self, *, hidden: int, dropout: float, epochs: int, loss: str, mc_samples: int, seed: int):
        self.hidden = hidden
        self.dropout = dropout
        self.epochs = epochs
        self.loss = loss
        self.mc_samples = mc_samples
        self.seed = seed

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> "Network":
        """Train on X (N, D) float, y (N,) classes.

        Raises
        ------
        ConfigError
            If the loss is unknown.
        """
        if self.loss not in LOSSES:
            msg = f"classify.mlp.loss is {self.loss!r}; expected one of {', '.join(LOSSES)}"
            raise ConfigError(msg)
        x = torch.from_numpy(np.ascontiguousarray(X, np.float32))
        self.classes_, label = np.unique(np.asarray(y), return_inverse=True)
        target = torch.from_numpy(label.astype(np.int64))
        counts = torch.bincount(target).to(torch.float32)
        generator = torch.Generator().manual_seed(self.seed)
        self.layers_ = Layers(x.shape[1], self.hidden, len(counts), generator)
        optimiser = torch.optim.Adam(self.layers_.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs)
        n_rows = min(BATCH_ROWS, max(1, len(x) // MIN_STEPS))
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x), generator=generator).split(n_rows):
                optimiser.zero_grad()
                logits = self.layers_(x[rows], self.dropout, generator)
                loss_of(logits, target[rows], counts, self.loss).backward()
                optimiser.step()
            schedule.step()
        return self

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Probabilities (M, K) in the order of ``classes_``; X (M, D)."""
        x = torch.from_numpy(np.ascontiguousarray(X, np.float32))
        generator = torch.Generator().manual_seed(self.seed)
        dropout = self.dropout if self.mc_samples else 0.0
        with torch.inference_mode():
            drawn = [self.layers_(x, dropout, generator).double() for _ in range(max(1, self.mc_samples))]
            return torch.stack(drawn).softmax(dim=2).mean(dim=0).numpy()


def loss_of(logits: Tensor, target: Tensor, counts: Tensor, loss: str) -> Tensor:
    """Mean loss of logits (N, K) for classes target (N,); counts (K,) are the rows of each class in training."""
    if loss == "logit-adjusted":
        logits = logits + torch.log(counts / counts.sum())
    own = functional.log_softmax(logits, dim=1).gather(1, target[:, None]).squeeze(1)  # (N,)
    if loss == "focal":
        return -((1 - own.exp()) ** FOCUS * own).mean()
    if loss == "class-balanced":
        weight = (1 - BALANCE) / (1 - BALANCE**counts)
        return -(weight[target] * own).sum() / weight[target].sum()
    return -own.mean()
