"""PRM (Pei et al. 2019): a transformer over the candidates of a slate, so that each is scored in sight of the others.

A candidate is its features (they stand for the paper's pre-trained personal vector too) plus an embedding of its
incoming position. The loss is the paper's, softmax cross-entropy over the slate (`network.list_loss`). Layers are
normed before, not after as in the paper.

Shapes: B slates, K candidates, F features.
"""

import torch
from torch import Tensor, nn

WIDTH, HEADS, DROPOUT = 32, 2, 0.1


class Prm(nn.Module):
    """`positions`: the longest slate of training; in a longer one all places behind it count as the last."""

    def __init__(self, n_features: int, positions: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Linear(n_features, WIDTH)
        self.position = nn.Embedding(positions, WIDTH)
        nn.init.normal_(self.position.weight, std=0.02)
        block = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, DROPOUT, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(block, blocks, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, x_BKF: Tensor, real_BK: Tensor) -> Tensor:
        """(B, K) scores; no candidate sees what is padded."""
        return self.over(self.entered(x_BKF), real_BK)

    def entered(self, x_BKF: Tensor) -> Tensor:
        """(B, K, WIDTH) what the first block reads."""
        places = torch.arange(x_BKF.shape[1]).clamp(max=self.position.num_embeddings - 1)
        return self.enter(x_BKF) + self.position(places)

    def over(self, entered_BKW: Tensor, real_BK: Tensor) -> Tensor:
        """(B, K) scores of the list."""
        return self.out(self.encoder(entered_BKW, src_key_padding_mask=~real_BK))[..., 0]
