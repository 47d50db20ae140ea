"""A language model by its shape: how many weights it has, and what of them a token needs.

Counts are of the usual decoder: per layer, attention (grouped-query or latent) and a
feed-forward block (dense, or a choice of experts), between an embedding and a head.

Sources: grouped-query attention, arXiv:2305.13245; latent attention, arXiv:2405.04434,
section 2.1; mixtures of experts with shared ones, arXiv:2401.06066; the expected number of
distinct experts that a batch wakes is that of coupons drawn without regard to each other
(each token draws `experts_used` of `experts` evenly).
"""

from __future__ import annotations

import msgspec

from atoll.domain.errors import BadRequest

LAYERS_MAX = 1000
WIDTH_MAX = 1 << 20
PARAMS_MAX = 1e15


class Latent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latent attention: ranks of the compressed queries (0: they are not) and of keys and
    values, and widths of a head's parts.
    """

    q_rank: int
    kv_rank: int
    rope_dim: int
    nope_dim: int
    v_dim: int


class ModelShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's shape; widths are in values.

    `ffn` is the width of a dense layer's feed-forward block, `expert_ffn` of one expert's;
    the first `dense_layers` have no experts. `gated` blocks have three matrices, others two.
    Where there is a `window`, of every `window_every` layers all but one see only so many
    positions (1: all of them do). `attn_params`, where given, are a layer's weights outside the
    feed-forward block on average, for kinds of attention that the widths do not tell. `params` and
    `active` are published totals, 0: unknown.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    gated: bool = True
    tied: bool = False
    experts: int = 0
    experts_used: int = 0
    shared_experts: int = 0
    expert_ffn: int = 0
    dense_layers: int = 0
    latent: Latent | None = None
    window: int = 0
    window_every: int = 1
    attn_params: float = 0.0
    params: float = 0.0
    active: float = 0.0
    aliases: tuple[str, ...] = ()
    source: str = ""
    note: str = ""

    # Weights

    @property
    def attention_params(self) -> float:
        """Weights of one layer's attention."""
        if self.attn_params:
            return self.attn_params
        if self.latent is None:
            wide = self.heads * self.head_dim
            return self.hidden * (2 * wide + 2 * self.kv_heads * self.head_dim)
        latent = self.latent
        head = latent.nope_dim + latent.rope_dim
        if latent.q_rank:
            queries = latent.q_rank * (self.hidden + self.heads * head)
        else:
            queries = self.hidden * self.heads * head
        down = self.hidden * (latent.kv_rank + latent.rope_dim)
        up = latent.kv_rank * self.heads * (latent.nope_dim + latent.v_dim)
        return queries + down + up + self.heads * latent.v_dim * self.hidden

    @property
    def n_moe_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def expert_params(self) -> int:
        """Weights of one expert."""
        return self._block(self.expert_ffn)

    @property
    def head_params(self) -> int:
        """Weights of the head, which every token needs; of the embedding it needs a row."""
        return self.vocab * self.hidden

    def _block(self, width: int) -> int:
        return (3 if self.gated else 2) * self.hidden * width

    @property
    def counted_params(self) -> float:
        """All weights, as far as the shape tells."""
        moe = self.n_moe_layers
        each = (self.experts + self.shared_experts) * self.expert_params
        router = self.hidden * self.experts
        return (
            self.layers * self.attention_params
            + (self.layers - moe) * self._block(self.ffn)
            + moe * (each + router)
            + self.head_params * (1 if self.tied else 2)
        )

    def woken_params(self, tokens: float = 1.0) -> float:
        """Weights that a step of so many tokens, of sessions that are not alike, reads once.

        One token's are those it is computed with. The embedding is not counted: of it each
        token needs one row.
        """
        moe = self.n_moe_layers
        share = 1.0
        if moe:
            share = 1.0 - (1.0 - self.experts_used / self.experts) ** tokens
        each = (self.experts * share + self.shared_experts) * self.expert_params
        return (
            self.layers * self.attention_params
            + (self.layers - moe) * self._block(self.ffn)
            + moe * (each + self.hidden * self.experts)
            + self.head_params
        )

    @property
    def total_params(self) -> float:
        """All weights: the published figure where there is one."""
        return self.params or self.counted_params

    @property
    def active_params(self) -> float:
        """Weights that one token is computed with."""
        return self.woken_params(1.0)

    # Caches and operations

    @property
    def kv_values(self) -> int:
        """Values that one position keeps in one layer's cache."""
        if self.latent is not None:
            return self.latent.kv_rank + self.latent.rope_dim
        return 2 * self.kv_heads * self.head_dim

    @property
    def attention_width(self) -> int:
        """Of a head: values of a query that meet a key's while a prompt is computed."""
        if self.latent is not None:
            return self.latent.nope_dim + self.latent.rope_dim
        return self.head_dim

    def cached_positions(self, context: float) -> float:
        """Positions that all layers together look back at, with windows: layers x context."""
        if not self.window:
            return self.layers * context
        full = self.layers / self.window_every if self.window_every > 1 else 0.0
        return full * context + (self.layers - full) * min(context, float(self.window))

    def token_flops(self, context: float = 0.0) -> float:
        """Floating point operations of one token at a position: two for each weight, and the
        products with keys and values.
        """
        width = self.heads * self.head_dim
        if self.latent is not None:
            # Computed in the latent space, as decoding does: arXiv:2405.04434, section 2.1.2.
            width = self.heads * (self.latent.kv_rank + self.latent.rope_dim)
        return 2.0 * self.active_params + 4.0 * width * self.cached_positions(context)


def check_shape(shape: ModelShape) -> None:
    """Refuse what no model can be.

    Raises:
        BadRequest: A count or width is out of range, or parts do not go together.
    """
    widths = (shape.hidden, shape.heads, shape.head_dim, shape.vocab, shape.kv_heads)
    if not 1 <= shape.layers <= LAYERS_MAX or not all(1 <= w <= WIDTH_MAX for w in widths):
        raise BadRequest(f"{shape.name}: layers or a width out of range")
    if shape.heads % shape.kv_heads:
        raise BadRequest(f"{shape.name}: {shape.heads} heads share {shape.kv_heads} unevenly")
    if bool(shape.experts) != bool(shape.experts_used and shape.expert_ffn):
        raise BadRequest(
            f"{shape.name}: experts need their number, how many are used, and their width"
        )
    if shape.experts_used > shape.experts or shape.dense_layers > shape.layers:
        raise BadRequest(f"{shape.name}: more experts or dense layers used than there are")
    if shape.n_moe_layers < shape.layers and not 1 <= shape.ffn <= WIDTH_MAX:
        raise BadRequest(f"{shape.name}: the feed-forward block has no width")
    if shape.window < 0 or shape.window_every < 1:
        raise BadRequest(f"{shape.name}: a window out of range")
    counts = (shape.experts, shape.experts_used, shape.shared_experts, shape.dense_layers)
    if not all(0 <= count <= WIDTH_MAX for count in (*counts, shape.expert_ffn)):
        raise BadRequest(f"{shape.name}: a number of experts or layers out of range")
    if not all(0 <= n <= PARAMS_MAX for n in (shape.params, shape.active, shape.attn_params)):
        raise BadRequest(f"{shape.name}: a number of weights out of range")
    if shape.latent and not all(0 <= n <= WIDTH_MAX for n in msgspec.structs.astuple(shape.latent)):
        raise BadRequest(f"{shape.name}: a part of its latent attention out of range")
