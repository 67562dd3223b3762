"""Memory of a unit's GPUs: weights by where they are, buffers, activations, and what KV gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from simdeep.errors import SimdeepError
from simdeep.serving.deployment import BYTES, GIB, Unit
from simdeep.serving.iteration.stages import FP8_TILED
from simdeep.spec.model import Layer, Mla, MoeFfn, layer_params, params

WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0 + 4.0 / 128**2, "fp4": 0.5 + 1.0 / 16}
"""Of a weight with its scales: FP8 in blocks of 128 x 128, FP4 a byte for 16 (NVFP4)."""

DEFAULT_ROWS = 512
"""Most decoding sequences of a DP rank where the deployment names none."""

NORMAL_BUFFER_BYTES = 3e9
"""NVLink (2e9) and RDMA (1e9) buffers of the normal kernels, as in DeepEP's internode test."""

MESSAGE_HEADER_BYTES = 16


class DoesNotFitError(SimdeepError):
    """A deployment whose GPUs cannot hold its weights: the answer is no."""

    exit_code = 3


@dataclass(frozen=True, slots=True, eq=False)
class UnitMemory:
    """Bytes of one GPU of a unit.

    `weights` by kind: attention, dense, experts (each one once), redundant (replicas), shared,
    embedding (with the head), mtp. `kv_bytes_per_token` is what a token of context takes on a GPU.
    `kv_capacity_tokens` is that of a DP rank (every GPU of its tp group holds its part), 0 where
    the weights do not fit; `max_rows` the most sequences it decodes at once.
    """

    capacity: float
    reserved: float
    weights: Mapping[str, float]
    buffers: float
    activations: float
    kv_bytes_per_token: float
    kv_capacity_tokens: int
    max_rows: int

    @property
    def weights_total(self) -> float:
        """All weights."""
        return sum(self.weights.values())

    @property
    def used(self) -> float:
        """All but the KV cache."""
        return self.reserved + self.weights_total + self.buffers + self.activations

    @property
    def kv_bytes(self) -> float:
        """What is left for the KV cache."""
        return max(0.0, self.capacity - self.used)

    @property
    def fits(self) -> bool:
        """Whether all is held, and KV for at least one token."""
        return self.kv_capacity_tokens > 0

    def rows_that_fit(self, context: float) -> int:
        """Sequences of `context` tokens that a DP rank decodes at once, `max_rows` at most."""
        return min(self.max_rows, int(self.kv_capacity_tokens // max(1.0, context)))


@lru_cache(maxsize=256)
def memory_of(unit: Unit) -> UnitMemory:
    """Memory of a GPU of a unit; see `require_fit` for who needs it to fit."""
    weights = _weights(unit)
    capacity = unit.topology.gpu.hbm_bytes
    rows = unit.max_rows or DEFAULT_ROWS
    if unit.role == "prefill":
        rows = 0
    buffers, activations = _buffers(unit, rows), _activations(unit, rows)
    each = kv_bytes_per_token(unit)
    left = capacity - unit.reserved_bytes - sum(weights.values()) - buffers - activations
    tokens = max(0, int(left // each))
    return UnitMemory(
        capacity=capacity,
        reserved=unit.reserved_bytes,
        weights=weights,
        buffers=buffers,
        activations=activations,
        kv_bytes_per_token=each,
        kv_capacity_tokens=tokens,
        max_rows=min(rows, tokens),
    )


def require_fit(unit: Unit) -> UnitMemory:
    """`memory_of`, refused with the numbers (exit code 3) where the GPUs cannot hold the unit."""
    memory = memory_of(unit)
    if memory.fits:
        return memory
    parts = [("weights", memory.weights_total), ("buffers", memory.buffers)]
    parts += [("activations", memory.activations), ("reserved", memory.reserved)]
    said = " + ".join(f"{size / GIB:.1f} {name}" for name, size in parts)
    gpu = unit.topology.gpu
    way_out = "more GPUs (tp, ep), " if unit.tp * unit.ep < 8 * unit.topology.gpus_per_node else ""
    raise DoesNotFitError(
        f"the {unit.role} unit does not fit: {said} = {memory.used / GIB:.1f} GiB a GPU, "
        f"{gpu.name} has {memory.capacity / GIB:.1f} GiB; {way_out}fewer replicas, smaller "
        "chunk_tokens or max_rows, or a shorter weight format leave room"
    )


def kv_bytes_per_token(unit: Unit) -> float:
    """KV bytes of a token on one GPU over all layers, those of draft modules included.

    The latent of MLA is whole on every GPU of a tp group, heads of the others are split. In FP8 and
    FP4 the latent has scales and the rotary key stays BF16 (656 B a layer in FP8, as FlashMLA).
    """
    model = unit.model
    layers = model.n_layers + (len(model.mtp) if unit.mtp_tokens else 0)
    attention = model.attention
    if isinstance(attention, Mla):
        if unit.kv == "bf16":
            return layers * attention.kv_values * 2.0
        scales = attention.kv_lora_rank * (4.0 / 128 if unit.kv == "fp8" else 1.0 / 16)
        latent = attention.kv_lora_rank * BYTES[unit.kv] + scales
        return layers * (latent + attention.rope_dim * 2.0)
    split = min(unit.tp, attention.kv_heads)
    return layers * attention.kv_values / split * BYTES[unit.kv]


def _weights(unit: Unit) -> dict[str, float]:
    model = unit.model
    count = params(model)
    layers = list(model.layers)
    drafted = list(model.mtp) if unit.mtp_tokens else []
    found = dict.fromkeys(
        ("attention", "dense", "experts", "redundant", "shared", "embedding", "mtp"), 0.0
    )
    for layer in layers:
        for name, size in _layer(unit, layer).items():
            found[name] += size
    for layer in drafted:
        found["mtp"] += sum(_layer(unit, layer).values())
    if drafted:
        found["mtp"] += count.mtp_projection * WEIGHT_BYTES[unit.weights]
    found["embedding"] = 2.0 * (count.embedding + count.head) / unit.tp
    return {name: size for name, size in found.items() if size}


def _layer(unit: Unit, layer: Layer) -> dict[str, float]:
    """Bytes of one layer on one GPU, by kind."""
    model, size = unit.model, WEIGHT_BYTES[unit.weights]
    one = layer_params(model, layer)
    found = {"attention": _attention(unit, one.attn) + 2.0 * one.norm}
    ffn = layer.ffn
    if not isinstance(ffn, MoeFfn):
        split = unit.tp if unit.moe is None else 1
        return found | {"dense": one.dense / split * size}
    slots = unit.slots_per_gpu * unit.ep - unit.shared_replicas
    found["experts"] = one.routed / unit.ep * size + 4.0 * one.router
    found["redundant"] = (slots - ffn.experts) / unit.ep * one.routed_per_expert * size
    shared = unit.shared_replicas / unit.ep if unit.shared_replicas else 1.0
    found["shared"] = shared * one.shared * size
    if unit.shared_replicas:
        # A GPU has one or the other in each slot: the fullest has the larger of both.
        largest = max(one.routed_per_expert, one.shared) * unit.slots_per_gpu * size
        mean = found["experts"] - 4.0 * one.router + found["redundant"] + found["shared"]
        found["redundant"] += max(0.0, largest - mean)
    return found


def _attention(unit: Unit, parameters: int) -> float:
    """Projections of one layer: heads split over tp, down projections whole.

    Decoding with absorbed weights keeps the up projection of the latent in BF16; a unit that also
    takes prompts has it both ways.
    """
    size, attention, hidden = WEIGHT_BYTES[unit.weights], unit.model.attention, unit.model.hidden
    if not isinstance(attention, Mla):
        return parameters / unit.tp * size
    rank = attention.q_lora_rank or 0
    down = hidden * (rank + attention.kv_values)
    up = attention.kv_lora_rank * attention.heads * (attention.nope_dim + attention.v_dim)
    bytes_up = {"prefill": size, "decode": 2.0, "mixed": size + 2.0}[unit.role]
    return (parameters - down - up) / unit.tp * size + down * size + up / unit.tp * bytes_up


def _buffers(unit: Unit, rows: int) -> float:
    """Buffers of the all-to-all kernels.

    Low-latency ones have room for every expert's messages from every GPU, sending and receiving,
    for two kernels at a time (DeepEP's size hint); normal ones fixed rings.
    """
    moe = unit.moe
    if moe is None or unit.ep == 1:
        return 0.0
    if unit.mode == "normal":
        return NORMAL_BUFFER_BYTES
    tokens = rows * unit.rows_per_sequence / unit.microbatches / unit.tp
    message = 2.0 * unit.model.hidden + MESSAGE_HEADER_BYTES
    return 2 * 2 * unit.slots_per_gpu * unit.ep * tokens * message


def _activations(unit: Unit, rows: int) -> float:
    """The largest tensors alive at once, for all micro-batches (the other's wait in memory)."""
    model = unit.model
    prompt = unit.chunk_tokens if unit.role != "decode" else 0
    tokens = prompt + rows * unit.rows_per_sequence
    attention = model.attention
    heads = model.n_heads / unit.tp
    residual = tokens * model.hidden * 2.0 * 2
    queries = tokens * heads * (attention.qk_dim + attention.v_dim) * 2.0
    keys = 0.0
    if isinstance(attention, Mla) and prompt:
        with_prefix = prompt / (1.0 - unit.cached_share)
        keys = with_prefix * heads * (attention.qk_dim + attention.v_dim) * 2.0
    logits = (rows * unit.rows_per_sequence + 16) * model.vocab / unit.tp * 6.0
    feed = _experts_alive(unit, tokens) if unit.moe is not None else _dense_alive(unit, tokens)
    return residual + max((queries + keys) / unit.microbatches, feed, logits)


def _dense_alive(unit: Unit, tokens: float) -> float:
    widest = max(layer.ffn.width for layer in unit.model.layers)
    return tokens / unit.microbatches * 3 * widest / unit.tp * 2.0


def _experts_alive(unit: Unit, tokens: float) -> float:
    """Received rows, the experts' inner activations and their results, of one micro-batch."""
    moe = unit.moe
    assert moe is not None
    each = tokens / unit.microbatches / unit.tp
    if unit.mode == "low-latency" and unit.ep > 1:
        # The masked layout has room for every GPU's tokens at each expert.
        rows = unit.slots_per_gpu * unit.ep * each
    else:
        rows = each * moe.topk
    wide = FP8_TILED if unit.dispatch == "fp8" else 2.0
    return rows * (unit.model.hidden * (wide + 2.0) + moe.width * (4.0 + wide))
