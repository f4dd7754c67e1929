"""A lean decode step for the common decoders, on the weights that train.

One token a row goes through rotary attention with grouped heads, RMSNorm and a gated MLP: Llama (and SmolLM),
Mistral, Qwen 2 and 3, Gemma 1 and 2, Phi 3. Keys and values lie in places made once, so that a step writes
one column and copies nothing; rows leave and join. Prompts pass transformers' own forward. Weights, adapters
too, are looked up at each call of the engine and never copied: training and deep copies of the model need no
care. ``lm.hasten`` checks it and puts it to use.

States stand as columns: the weights are then the left factor of each product, which is never rearranged.

Left out: pages, CUDA graphs, one copy of a prompt's keys for all its samples.

Legend: B rows alive, P places computed (B rounded up), R places there are, C columns of a place, S prompt
tokens, H heads, K heads of keys, G heads that a head of keys serves, W width of a head, D width, N = P * K.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache

from accord.lm import bags, blocks
from accord.lm.adjacent import GATES, QKV, joint
from accord.lm.bags import Bags
from accord.lm.engine import Ids, State
from accord.lm.linear import AVAILABLE, Linear
from accord.lm.model import Kind, LanguageModel
from accord.lm.tokens import pad

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3")
PLACES = 8
"""Places are computed in multiples of it: each new number of rows costs the product's set-up once."""
PIECES = {torch.bfloat16: 32}
"""Columns are read in multiples of it: on a CPU a bfloat16 product of a new size is first compiled, which
takes milliseconds."""
PREFILL_TOKENS = {"cpu": 1024}  # more are not faster there; elsewhere 16,384
"""Most tokens, padding included, that pass the model at once when rows join."""

Turn = Callable[[Tensor], Tensor]
"""From (inputs, P) to (outputs, P)."""


def reason_against(model: LanguageModel) -> str | None:
    """Why the lean step is not for ``model``, in words; ``None`` where it is."""
    config = model.net.config
    if model.kind is Kind.ENCODER_DECODER or config.model_type not in FAMILIES:
        return f"{config.model_type} is none of {', '.join(FAMILIES)}"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        return f"its rotary angles change with the length ({rope})"
    if getattr(config, "use_bidirectional_attention", False):
        return "its attention looks ahead"
    if torch.is_autocast_enabled(model.device.type):
        return "products are cast around it (autocast)"
    if any(m._forward_hooks or m._forward_pre_hooks for m in model.net.get_decoder().modules()):
        return "hooks stand on its layers"
    return None


# -- what the step needs of a layer ------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """One layer, its weights where they lie; ``window`` is how far back it sees, ``None``: to the start."""

    before: Turn
    qkv: Sequence[Turn]
    q_norm: Turn | None
    k_norm: Turn | None
    out: Turn
    after: Turn | None
    mlp_before: Turn
    mlp: Turn
    mlp_after: Turn | None
    scale: float
    cap: float | None
    window: int | None


def _layers(model: LanguageModel) -> list[_Layer]:
    stack, config = model.net.get_decoder(), model.net.config
    windowed = config.model_type in ("mistral", "phi3") and config.sliding_window is not None
    default = ["sliding_attention" if windowed else "full_attention"] * len(stack.layers)
    kinds = getattr(config, "layer_types", None) or default
    return [_layer(*each, config) for each in zip(stack.layers, kinds, strict=True)]


def _layer(layer: Any, kind: str, config: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    after, mlp_before, mlp_after = None, norm(layer.post_attention_layernorm), None
    if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2 has a norm on either side
        after, mlp_before = mlp_before, norm(layer.pre_feedforward_layernorm)
        mlp_after = norm(layer.post_feedforward_layernorm)
    qkv = ("qkv_proj",) if hasattr(attention, "qkv_proj") else QKV
    return _Layer(
        before=norm(layer.input_layernorm),
        qkv=products([getattr(attention, name) for name in qkv]),
        q_norm=norm(attention.q_norm) if hasattr(attention, "q_norm") else None,
        k_norm=norm(attention.k_norm) if hasattr(attention, "k_norm") else None,
        out=product(attention.o_proj),
        after=after,
        mlp_before=mlp_before,
        mlp=_gated(mlp),
        mlp_after=mlp_after,
        scale=attention.scaling,
        cap=getattr(attention, "attn_logit_softcapping", None),
        window=config.sliding_window if kind == "sliding_attention" else None,
    )


def norm(module: Any) -> Turn:
    """RMSNorm over the last dimension but one, in float32; Gemma's weights are the distance from one."""
    gemma = hasattr(module, "eps")
    weight_D1 = module.weight[:, None]
    weight_D1, eps = (1.0 + weight_D1.float(), module.eps) if gemma else (weight_D1, module.variance_epsilon)
    mean_1D = torch.full((1, len(weight_D1)), 1 / len(weight_D1), device=weight_D1.device)

    def normed(x: Tensor) -> Tensor:
        wide = x.float()
        # A mean over columns is twice as slow as the product that gives it.
        wide = wide * (mean_1D @ wide.square()).add_(eps).rsqrt_()
        return wide.mul_(weight_D1).to(x.dtype) if gemma else wide.to(x.dtype).mul_(weight_D1)

    return normed


def products(layers: Sequence[Any]) -> list[Turn]:
    """What linear layers of one input do: one product where their weights lie together, or else one each."""
    plain = len(layers) > 1 and all(type(layer) is Linear for layer in layers)
    whole_OI = joint([layer.weight for layer in layers]) if plain else None
    biases = [layer.bias for layer in layers if layer.bias is not None] if plain else []
    if whole_OI is None or len(biases) not in (0, len(layers)):
        return [product(layer) for layer in layers]
    return [_times(whole_OI, torch.cat(biases) if biases else None)]


def product(module: nn.Module) -> Turn:
    """What a linear layer does, plain or with LoRA (arXiv:2106.09685); another module is called as it is."""
    if type(module) is Linear:
        return _times(module.weight, module.bias)
    if type(module) is not LoraLinear or any(module.use_dora.values()) or module.lora_variant:
        return lambda x: module(x.t()).t()
    if module.disable_adapters and module.merged:  # its own forward takes them out of the weights first
        return lambda x: module(x.t()).t()
    base = product(module.get_base_layer())
    on = [] if module.disable_adapters or module.merged else module.active_adapters
    pairs: list[Any] = [
        (module.lora_A[k], module.lora_B[k], module.scaling[k]) for k in on if k in module.lora_A
    ]
    parts = [(_times(a.weight, a.bias), _times(b.weight, b.bias), a.weight.dtype, s) for a, b, s in pairs]

    def adapted(x: Tensor) -> Tensor:
        y = base(x)
        for low, high, dtype, scale in parts:
            y = y.add(high(low(x.to(dtype))), alpha=scale)
        return y.to(x.dtype)

    return adapted


def _gated(mlp: Any) -> Turn:
    """The gated MLP: down(act(gate) * up)."""
    act, down = mlp.activation_fn if hasattr(mlp, "activation_fn") else mlp.act_fn, product(mlp.down_proj)
    names = ("gate_up_proj",) if hasattr(mlp, "gate_up_proj") else GATES
    gates = products([getattr(mlp, name) for name in names])

    def gated(x: Tensor) -> Tensor:
        gate, up = (give(x) for give in gates) if len(gates) == 2 else gates[0](x).chunk(2)
        return down(act(gate) * up)

    return gated


def _times(weight_OI: Tensor, bias_O: Tensor | None) -> Turn:
    """The product with inputs that stand as columns."""
    bias_O1 = None if bias_O is None else bias_O[:, None]
    onednn = AVAILABLE and weight_OI.is_cpu and weight_OI.dtype is torch.float32

    def times(x_IP: Tensor) -> Tensor:
        if onednn:
            out_OP = torch.ops.mkldnn._linear_pointwise.default(weight_OI, x_IP.t(), None, "none", [], "")
        else:
            out_OP = weight_OI @ x_IP
        return out_OP if bias_O1 is None else out_OP.add_(bias_O1)

    return times


# -- the rows ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """What the layers of a step share: the rotation, where keys are written, the masks by window, and the
    parts of N that read as many columns as their longest row has; or ``bags``, by which all are read."""

    cos_WP: Tensor
    sin_WP: Tensor
    write: tuple[Tensor, Tensor]
    masks: dict[int | None, Tensor]
    parts: list[tuple[slice, int]]
    bags: Bags | None


class Lean(State):
    """Rows by the lean step; they may join and leave at any time."""

    joins, draw = True, staticmethod(blocks.draw)

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model)
        config, self.stack = model.net.config, model.net.get_decoder()
        self.layers, self.norm = _layers(model), norm(self.stack.norm)
        self.windows = {layer.window for layer in self.layers}
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.dtype = model.net.dtype
        self.keys_RKWC: list[Tensor] = []
        self.values_RKCW: list[Tensor] = []
        self.lengths: list[int] = []
        self.places = self.columns = 0

    def join(self, prompts: Ids, begun: Ids, at_B: Tensor) -> None:
        """Prefill ``prompts`` once each, a bounded number of tokens at a time, and add rows at the end."""
        first, at, device = len(self.lengths), at_B.tolist(), self.model.device
        self.lengths = [*self.lengths, *(len(prompts[i]) for i in at)]
        self._make_room(len(self.lengths), max(self.lengths) + 1)
        new_BD = torch.empty(len(at), self.model.width, device=device, dtype=self.dtype)
        self.hidden_BD = torch.cat([self.hidden_BD, new_BD]) if first else new_BD
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        starts, most = [0], PREFILL_TOKENS.get(device.type, 16384)
        for number, i in enumerate(order):
            if number > starts[-1] and len(prompts[i]) * (number + 1 - starts[-1]) > most:
                starts.append(number)
        for start, end in pairwise([*starts, len(order)]):
            part = {i: number for number, i in enumerate(order[start:end])}
            rows = [b for b, i in enumerate(at) if i in part]
            from_n = torch.tensor([part[at[b]] for b in rows], device=device)
            to_n = torch.tensor([first + b for b in rows], device=device)
            self._prefill([prompts[i] for i in part], from_n, to_n)

    def _prefill(self, prompts: Ids, from_n: Tensor, to_n: Tensor) -> None:
        """Pass ``prompts``; states, keys and values of the prompts ``from_n`` go to the rows ``to_n``."""
        model, cache = self.model, DynamicCache()
        # Padded on the right they need no mask: no token sees what comes after it.
        ids_NS = pad(prompts, model.pad_id).to(model.device)
        states_NSD = model.trunk(input_ids=ids_NS, past_key_values=cache, use_cache=True)[0]
        last_N = torch.tensor([len(prompt) - 1 for prompt in prompts], device=model.device)
        self.hidden_BD[to_n] = states_NSD[from_n, last_N[from_n]]
        width = ids_NS.shape[1]
        layers: list[Any] = cache.layers
        for at, layer in enumerate(layers):
            self.keys_RKWC[at][to_n, :, :, :width] = layer.keys[from_n].transpose(2, 3)
            self.values_RKCW[at][to_n, :, :width] = layer.values[from_n]
            layer.keys = layer.values = None

    def _make_room(self, rows: int, length: int) -> None:
        """Places and columns for so many; what is there is kept."""
        if rows <= self.places and length <= self.columns:
            return
        old, places = (self.places, self.columns), max(self.places, -(-rows // PLACES) * PLACES)
        if length > self.columns:
            self.columns = length + max(64, length // 2)
        options: dict[str, Any] = {"device": self.model.device, "dtype": self.dtype}
        for at in range(len(self.layers)):
            keys_RKWC = torch.zeros(places, self.key_heads, self.width, self.columns, **options)
            values_RKCW = torch.zeros(places, self.key_heads, self.columns, self.width, **options)
            if old[0]:
                keys_RKWC[: old[0], :, :, : old[1]] = self.keys_RKWC[at]
                values_RKCW[: old[0], :, : old[1]] = self.values_RKCW[at]
                self.keys_RKWC[at], self.values_RKCW[at] = keys_RKWC, values_RKCW
            else:
                self.keys_RKWC.append(keys_RKWC)
                self.values_RKCW.append(values_RKCW)
        self.places, self.column_C = places, torch.arange(self.columns, device=self.model.device)
        self.cos_CW, self.sin_CW = self._angles()

    def _angles(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the rotation by column; a sine has the sign of the half it stands in."""
        example = torch.empty(1, device=self.model.device, dtype=self.dtype)
        cos_1CW, sin_1CW = self.stack.rotary_emb(example, self.column_C[None])
        low_CW, high_CW = sin_1CW[0].chunk(2, dim=-1)
        return cos_1CW[0], torch.cat([-low_CW, high_CW], dim=-1)

    def select(self, index_B: Tensor) -> None:
        """Keep rows; only those that change their place are moved."""
        index = index_B.tolist()
        moved = [(to, at) for to, at in enumerate(index) if to != at]
        if moved:
            to_n, at_n = (torch.tensor(side, device=self.model.device) for side in zip(*moved, strict=True))
            span = max(self.lengths)
            for keys_RKWC, values_RKCW in zip(self.keys_RKWC, self.values_RKCW, strict=True):
                keys_RKWC[to_n, :, :, :span] = keys_RKWC[at_n, :, :, :span]
                values_RKCW[to_n, :, :span] = values_RKCW[at_n, :, :span]
        self.lengths = [self.lengths[at] for at in index]
        self.hidden_BD = self.hidden_BD[index_B.to(self.model.device)]

    def step(self, tokens_B: Tensor) -> None:
        """Feed one token a row."""
        rows, device = len(self.lengths), self.model.device
        self._make_room(rows, max(self.lengths) + 1)
        spare = -rows % PLACES
        at_P = torch.tensor([*self.lengths, *[0] * spare], device=device)
        self.lengths = [length + 1 for length in self.lengths]
        x_DP = self.stack.embed_tokens(F.pad(tokens_B, (0, spare)).to(device)).t().contiguous()
        at_N = at_P[:, None].expand(-1, self.key_heads).reshape(-1)
        step = _Step(
            self.cos_CW[at_P].t().contiguous(),
            self.sin_CW[at_P].t().contiguous(),
            (torch.arange(len(at_N), device=device), at_N),
            {window: self._mask(at_N[:, None, None], window) for window in self.windows},
            parts := self._parts(),
            self._bags(len(at_P), parts),
        )
        for at, layer in enumerate(self.layers):
            read_DP = layer.out(self._attend(at, layer, layer.before(x_DP), step))
            x_DP = x_DP + (read_DP if layer.after is None else layer.after(read_DP))
            inner_DP = layer.mlp(layer.mlp_before(x_DP))
            x_DP = x_DP + (inner_DP if layer.mlp_after is None else layer.mlp_after(inner_DP))
        # Contiguous, for oneDNN is slowest with rows that lie apart.
        self.hidden_BD = self.norm(x_DP).t()[:rows].contiguous()

    def _parts(self) -> list[tuple[slice, int]]:
        """Places by PLACES where that leaves out a fifth of the columns to be read, else all at once."""
        parts = [
            (slice(at * self.key_heads, (at + PLACES) * self.key_heads), self._used(at, at + PLACES))
            for at in range(0, len(self.lengths), PLACES)
        ]
        longest = self._used()
        if sum(used for _, used in parts) < 0.8 * len(parts) * longest:
            return parts
        return [(slice(None), longest)]

    def _used(self, start: int = 0, end: int | None = None) -> int:
        """Columns that hold all the rows from ``start`` to ``end``."""
        pieces = PIECES.get(self.dtype, 1)
        return min(-(-max(self.lengths[start:end]) // pieces) * pieces, self.columns)

    def _bags(self, places: int, parts: list[tuple[slice, int]]) -> Bags | None:
        """How all places are read at once, where that is faster than products."""
        count, heads = places * self.key_heads, self.heads // self.key_heads
        fit = self.dtype in bags.AVAILABLE and self.model.device.type == "cpu"
        if not fit or len(parts) > 1 or heads > bags.MOST_HEADS:
            return None
        return Bags(count, heads, self.width, self.columns, parts[0][1])

    def _mask(self, at_N11: Tensor, window: int | None) -> Tensor:
        """(N, 1, columns in use) added to the scores: -inf where a row has no token or cannot see it."""
        column_C = self.column_C[: self._used()]
        unseen_N1C = column_C > at_N11
        if window is not None:
            unseen_N1C |= column_C <= at_N11 - window
        return torch.where(unseen_N1C, -torch.inf, 0.0).to(self.dtype)

    def _attend(self, at: int, layer: _Layer, h_DP: Tensor, step: _Step) -> Tensor:
        """(H * W, P) what each row's newest token reads from its columns."""
        places, width, split = h_DP.shape[1], self.width, self.heads * self.width
        parts = [give(h_DP) for give in layer.qkv]
        if len(parts) == 1:
            parts = list(parts[0].split([split + self.key_heads * width, self.key_heads * width]))
        *qk, v_OP = parts
        qk_HWP = (qk[0] if len(qk) == 1 else torch.cat(qk)).view(-1, width, places)
        if layer.q_norm is not None and layer.k_norm is not None:
            q_HWP, k_HWP = qk_HWP.split([self.heads, self.key_heads])
            qk_HWP = torch.cat([layer.q_norm(q_HWP), layer.k_norm(k_HWP)])
        turned_OP = _rotate(qk_HWP, step).view(-1, places)
        keys_NWC = self.keys_RKWC[at][:places].view(-1, width, self.columns)
        values_NCW = self.values_RKCW[at][:places].view(-1, self.columns, width)
        # What is put is contiguous: index_put_ takes ten times as long with what is not.
        keys_NWC.transpose(1, 2).index_put_(step.write, turned_OP[split:].t().reshape(-1, width))
        values_NCW.index_put_(step.write, v_OP.t().reshape(-1, width))
        mask_N1C = step.masks[layer.window]
        q_NGW = turned_OP[:split].t().reshape(len(keys_NWC), -1, width)
        if step.bags is not None:
            read_NGW = step.bags.read(q_NGW, keys_NWC, values_NCW, mask_N1C, layer.scale, layer.cap)
            return read_NGW.view(places, -1).t()
        read = [
            _read(layer, q_NGW[n], keys_NWC[n, :, :used], values_NCW[n, :used], mask_N1C[n, :, :used])
            for n, used in step.parts
        ]
        return (read[0] if len(read) == 1 else torch.cat(read)).view(places, -1).t()


def _read(layer: _Layer, q_NGW: Tensor, keys_NWC: Tensor, values_NCW: Tensor, mask_N1C: Tensor) -> Tensor:
    """(N, G, W) softmax(q k * scale + mask) v, the scores kept below Gemma 2's cap."""
    if layer.cap is None:
        scores_NGC = torch.baddbmm(mask_N1C, q_NGW, keys_NWC, alpha=layer.scale)
    else:
        raw_NGC = torch.bmm(q_NGW, keys_NWC).mul_(layer.scale / layer.cap)
        scores_NGC = raw_NGC.tanh_().mul_(layer.cap).add_(mask_N1C)
    return torch.bmm(scores_NGC.softmax(-1, dtype=torch.float32).to(q_NGW.dtype), values_NCW)


def _rotate(x_HWP: Tensor, step: _Step) -> Tensor:
    """Rotary embedding (arXiv:2104.09864) of as much of each head as has angles."""
    angles = len(step.cos_WP)
    part = x_HWP[:, :angles]
    turned = (part * step.cos_WP).addcmul_(part.roll(angles // 2, 1), step.sin_WP)
    return turned if angles == x_HWP.shape[1] else torch.cat([turned, x_HWP[:, angles:]], dim=1)
