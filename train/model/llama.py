"""A Llama whose fp32 logits equal those of Hugging Face's `LlamaForCausalLM` bit for bit.

The same operations in the same order as transformers 5.23 with `sdpa` attention: RMSNorm with float32 statistics,
half-split rotary positions, SwiGLU, grouped-query attention. The parameter names are the same too, so the weights of
one load into the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.arguments import LlamaArguments

INIT_STD = 0.02


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang and Sennrich 2019) with its statistics in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021) in the half-split layout: pairs are (i, i + head_dim / 2)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, positions: int, theta: float) -> None:
        super().__init__()
        frequencies = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim))
        angles = torch.arange(positions)[:, None].float() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn `x` of shape [B, heads, T, head_dim] by its positions 0..T-1."""
        length = x.shape[-2]
        first, second = x.chunk(2, dim=-1)
        return (x * self.cos[:length]) + (torch.cat((-second, first), dim=-1) * self.sin[:length])


class Attention(nn.Module):
    """Causal self-attention; with fewer key and value heads than query heads it is grouped-query attention."""

    def __init__(self, shape: LlamaArguments) -> None:
        super().__init__()
        self.head_dim = shape.head_dim
        self.grouped = shape.key_value_heads != shape.num_attention_heads
        self.dropout = shape.dropout
        key_value_size = shape.key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, key_value_size, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, key_value_size, bias=False)
        self.o_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        """Attend over `x` of shape [B, T, hidden_size]."""
        query, key, value = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        mixed = F.scaled_dot_product_attention(
            rotary(query),
            rotary(key),
            value,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=True,
            enable_gqa=self.grouped,
        )
        return F.dropout(self.o_proj(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.head_dim).transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): the feed-forward half of a layer."""

    def __init__(self, shape: LlamaArguments) -> None:
        super().__init__()
        self.dropout = shape.dropout
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map each position of `x` of shape [B, T, hidden_size] on its own."""
        return F.dropout(self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)), self.dropout, self.training)


class Layer(nn.Module):
    """One pre-normalised transformer layer."""

    def __init__(self, shape: LlamaArguments) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        """Add attention, then the feed-forward, to the residual stream `x` of shape [B, T, hidden_size]."""
        x = x + self.self_attn(self.input_layernorm(x), rotary)
        y: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return y


class Decoder(nn.Module):
    """Embedding, layers and final normalisation."""

    def __init__(self, shape: LlamaArguments, vocab_size: int, positions: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.rotary_emb = Rotary(shape.head_dim, positions, shape.rope_theta)

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states [B, T, hidden_size] of `tokens` [B, T]."""
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, self.rotary_emb)
        normalised: Tensor = self.norm(x)
        return normalised


class Llama(nn.Module):
    """A Llama language model; `max_position_embeddings` is the longest sequence it takes.

    The keywords are those of Hugging Face's `LlamaConfig`, plus one `dropout` for attention weights and residual
    branches. The weights are drawn from torch's default CPU generator: after `torch.manual_seed` they are the same
    bits wherever they are built. Raises pydantic's ValidationError (a ValueError) for a shape that is impossible.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        max_position_embeddings: int,
        hidden_size: int,
        intermediate_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        num_key_value_heads: int | None = None,
        tie_word_embeddings: bool = False,
        rope_theta: float = 10000.0,
        rms_norm_eps: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        shape = LlamaArguments(
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            num_key_value_heads=num_key_value_heads,
            tie_word_embeddings=tie_word_embeddings,
            rope_theta=rope_theta,
            rms_norm_eps=rms_norm_eps,
            dropout=dropout,
        )
        self.model = Decoder(shape, vocab_size, max_position_embeddings)
        self.lm_head = nn.Linear(hidden_size, vocab_size, bias=False)
        if tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._draw_weights(residual_std=INIT_STD / (2 * num_hidden_layers) ** 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, vocab_size] of the token that follows each of `tokens`, int64 [B, T]."""
        logits: Tensor = self.lm_head(self.model(tokens))
        return logits

    @torch.no_grad()
    def _draw_weights(self, residual_std: float) -> None:
        """Normal weights; those that write to the residual stream are smaller the deeper the model (GPT-2)."""
        for name, weight in self.named_parameters():
            if weight.ndim >= 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                weight.normal_(0.0, residual_std if residual else INIT_STD)
