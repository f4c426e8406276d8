"""DCN-v2 (Wang et al. 2021): each candidate scored on its own, by explicit feature crosses beside a small MLP.

A cross layer is x0 * (W x + b) + x with a full-rank W: every layer raises the degree of the feature products by one. A
score depends on its candidate alone; what the neighbours are is known only through features (as `score_below_first`).
The loss, though, is softmax cross-entropy over the slate (`network.list_loss`), which beat the paper's binary
cross-entropy by far on validation slates when it was built.

Shapes: B slates, K candidates, F features.
"""

import torch
from torch import Tensor, nn

HIDDEN, DROPOUT = 64, 0.2


class Cross(nn.Module):
    """x0 * (W x + b) + x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        return x0 * self.linear(x) + x


class Dcn(nn.Module):
    """Crosses and MLP in parallel, joined by one linear layer."""

    def __init__(self, n_features: int, crosses: int) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(Cross(n_features) for _ in range(crosses))
        self.deep = nn.Sequential(
            nn.Linear(n_features, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, HIDDEN // 2), nn.ReLU()
        )
        self.out = nn.Linear(n_features + HIDDEN // 2, 1)

    def forward(self, x_BKF: Tensor, real_BK: Tensor) -> Tensor:
        """(B, K) scores; what is padded is scored too, and changes nothing."""
        x = x_BKF
        for cross in self.crosses:
            x = cross(x_BKF, x)
        return self.out(torch.cat([x, self.deep(x_BKF)], dim=-1))[..., 0]
