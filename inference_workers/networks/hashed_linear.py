"""The network of the text classifier: a linear model over two hashed, weighted bags (words and characters).

TF-IDF is inside the network: the weight of an n-gram is (1 + log count) * idf, each bag is scaled to length one, and a
linear layer over the buckets follows. Tables are float16, sums float32. Uses torch: only the trainer and the exporter import it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

INPUTS = ("word_buckets", "word_counts", "char_buckets", "char_counts")


class HashedLinear(nn.Module):
    """buckets: int64 (n, width). counts: float32 (n, width), 0 for padding. Returns logits, float32 (n, classes)."""

    word_weights: Tensor
    word_idf: Tensor
    char_weights: Tensor
    char_idf: Tensor
    bias: Tensor

    def __init__(self, word_buckets: int, char_buckets: int, classes: int) -> None:
        super().__init__()
        for bag, buckets in (("word", word_buckets), ("char", char_buckets)):
            self.register_buffer(f"{bag}_weights", torch.zeros(buckets, classes, dtype=torch.float16))
            self.register_buffer(f"{bag}_idf", torch.zeros(buckets, dtype=torch.float16))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, word_buckets: Tensor, word_counts: Tensor, char_buckets: Tensor, char_counts: Tensor) -> Tensor:
        words = _bag(word_buckets, word_counts, self.word_idf, self.word_weights)
        chars = _bag(char_buckets, char_counts, self.char_idf, self.char_weights)
        return words + chars + self.bias


def _bag(buckets: Tensor, counts: Tensor, idf: Tensor, weights: Tensor) -> Tensor:
    there = counts > 0
    tf = torch.where(there, 1.0 + torch.log(torch.clamp(counts, min=1.0)), torch.zeros_like(counts))
    values = tf * idf[buckets].float()
    length = torch.sqrt((values * values).sum(dim=1, keepdim=True)).clamp(min=1e-6)
    return ((values / length).unsqueeze(1) @ weights[buckets].float()).squeeze(1)
