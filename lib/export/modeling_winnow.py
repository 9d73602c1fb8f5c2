"""Models that Winnow made smaller, for transformers 5: layers have different numbers of experts, which may have low rank, share weights, be constant or
have lost channels, and may have lost heads.

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

config.json's "winnow" says what is left: {"experts": experts of a layer at first, "layers": [{"layer": index, "experts": ids of those that
stayed, "ranks": the rank of each, null where it is dense, or those of its three matrices; absent where all are dense}, ...]}. A layer may also have
"channels": the intermediate size of each expert; "biases": for each expert which of "gate", "up" and "down" have one; "merged": for each expert the position
of the first one with the same weights; "constants": ids of experts that give the same vector whatever their input, last in the router; "based": true
where low rank is that of the difference from weights that all experts of the layer share; "skip": the share of a token's weights that is left out,
least first. What else of a layer is not as the rest of the config says is listed in "parts": [{"layer": index, "heads", "keyHeads": heads that are
left, "channels": the intermediate size of the dense network or shared expert, "ranks": of attention projections that are products of two factors, by
name, "biases": names of attention projections that have got one}, ...]. Everything else is the architecture's own class.
"""

import copy
from collections import OrderedDict

import torch
from torch import nn
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.activations import ACT2FN


class Product(nn.Sequential):
    """The product of left [outputs, rank] and right [rank, inputs], with a bias or without."""

    def __init__(self, inputs, outputs, rank, bias):
        super().__init__(OrderedDict(right=nn.Linear(inputs, rank, bias=False), left=nn.Linear(rank, outputs, bias=False)))
        self.register_parameter("bias", nn.Parameter(torch.zeros(outputs)) if bias else None)

    def forward(self, x):
        y = super().forward(x)
        return y if self.bias is None else y + self.bias


def projection(inputs, outputs, rank, bias=False):
    """A matrix [outputs, inputs], or the product of two."""
    return nn.Linear(inputs, outputs, bias=bias) if rank is None else Product(inputs, outputs, rank, bias)


class Expert(nn.Module):
    """With `base`, whose weights come on top, the matrices are differences."""

    def __init__(self, config, ranks=None, channels=None, biases=()):
        super().__init__()
        hidden, usual = config.hidden_size, getattr(config, "moe_intermediate_size", config.intermediate_size)
        intermediate, (gate, up, down) = channels or usual, ranks if isinstance(ranks, list) else [ranks] * 3
        self.gate_proj = projection(hidden, intermediate, gate, "gate" in biases)
        self.up_proj = projection(hidden, intermediate, up, "up" in biases)
        self.down_proj = projection(intermediate, hidden, down, "down" in biases)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states, base=None):
        def apply(name, x):
            y = getattr(self, name)(x)
            return y if base is None else y + getattr(base, name)(x)

        return apply("down_proj", self.act_fn(apply("gate_proj", hidden_states)) * apply("up_proj", hidden_states))


def skipped(weights, share):
    """Weights [tokens, top-k], falling: 0 for the last ones of a token that together hold at most this share, the others scaled to the sum of all."""
    total, tails = weights.sum(-1, keepdim=True), weights.flip(-1).cumsum(-1).flip(-1)
    stay = tails > share * total
    stay[..., 0] = True
    left = weights * stay
    return torch.where(stay.all(-1, keepdim=True), weights, left * (total / left.sum(-1, keepdim=True)))


class Experts(nn.ModuleList):
    """The experts of a layer one by one, in place of the stacked tensors of transformers, which must all have one shape."""

    def __init__(self, config, kept):
        count, merged = len(kept["experts"]), kept.get("merged")
        owners = [i for i in range(count) if merged is None or merged[i] == i]
        ranks, channels = (kept.get(key) or [None] * count for key in ("ranks", "channels"))
        biases = kept.get("biases") or [()] * count
        super().__init__(Expert(config, ranks[i], channels[i], biases[i]) for i in owners)
        # Which of the modules each position of the router stands for.
        self.module_of = [owners.index(i if merged is None else merged[i]) for i in range(count)]
        if kept.get("based"):
            self.base = Expert(config, None, channels[0])
        if kept.get("constants"):
            self.constants = nn.Parameter(torch.zeros(len(kept["constants"]), config.hidden_size))
        self.skip = kept.get("skip")

    def forward(self, hidden_states, top_k_index, top_k_weights):
        """hidden_states [tokens, hidden]; top_k_index and top_k_weights [tokens, top-k]."""
        output = torch.zeros_like(hidden_states)
        if self.skip is not None:
            top_k_weights, order = top_k_weights.sort(-1, descending=True)  # not every router of transformers sorts them
            top_k_weights, top_k_index = skipped(top_k_weights, self.skip), top_k_index.gather(-1, order)
        used = top_k_weights != 0
        for index in top_k_index[used].unique().tolist():
            token, place = torch.where((top_k_index == index) & used)
            if index < len(self.module_of):
                found = self._modules[str(self.module_of[index])](hidden_states[token], getattr(self, "base", None))
            else:
                found = self.constants[index - len(self.module_of)]
            weighted = found * top_k_weights[token, place, None]
            output.index_add_(0, token, weighted.to(output.dtype))
        return output


class GroupRouter(nn.Module):
    """DeepSeek-V2's choice among the best groups: groups of the original experts, whose dropped members have the logit -inf."""

    def __init__(self, config, ids):
        super().__init__()
        self.config, self.ids = config, ids
        self.weight = nn.Parameter(torch.zeros(len(ids), config.hidden_size))

    def forward(self, hidden_states):
        config, originals = self.config, self.config.winnow["experts"]
        hidden_states = hidden_states.view(-1, config.hidden_size)
        logits = nn.functional.linear(hidden_states.float(), self.weight.float())
        ids = torch.tensor(self.ids, device=logits.device)
        scores = logits.new_full((len(logits), originals), -torch.inf).index_copy(1, ids, logits).softmax(-1)
        best = scores.view(len(logits), config.n_group, -1).amax(-1)
        chosen = torch.zeros_like(best).scatter(1, best.topk(config.topk_group).indices, 1)
        scores = scores * chosen.repeat_interleave(originals // config.n_group, 1)
        weights, experts = scores.topk(config.num_experts_per_tok)
        # A dropped expert gets here only where the groups have too few others. Its weight is 0, so any position will do.
        position = torch.zeros_like(scores[0], dtype=torch.long).index_copy(0, ids, torch.arange(len(ids), device=ids.device))
        return logits, weights * config.routed_scaling_factor, position[experts]


def moe_block(block_class, config, kept):
    """The architecture's own block with as many experts as were kept: its router and shared experts stay as they are."""
    ids = kept["experts"] + kept.get("constants", [])
    layer_config = copy.copy(config)
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if hasattr(layer_config, key):
            setattr(layer_config, key, len(ids))
    layer_config.num_experts_per_tok = min(config.num_experts_per_tok, len(ids))
    block = block_class(layer_config)
    if getattr(config, "topk_method", None) == "group_limited_greedy":
        block.gate = GroupRouter(config, ids)
    block.experts = Experts(config, kept)
    return block


def resize(layer, config, part):
    """Gives a layer the heads, channels, factors and biases that are listed for it; every module keeps its name."""
    attention, ranks, biases = layer.self_attn, part.get("ranks", {}), part.get("biases", [])
    whole, key_whole = config.num_attention_heads, config.num_key_value_heads
    heads, key_heads = part.get("heads", whole), part.get("keyHeads", key_whole)
    outputs = {"q_proj": (heads, whole), "q_b_proj": (heads, whole), "kv_b_proj": (heads, whole)}
    outputs |= {"k_proj": (key_heads, key_whole), "v_proj": (key_heads, key_whole)}
    for name, linear in list(attention.named_children()):
        left, before = outputs.get(name, (1, 1))
        if isinstance(linear, nn.Linear):
            rows, columns = linear.out_features * left // before, linear.in_features
            if name == "o_proj":
                columns = columns * heads // whole
            setattr(attention, name, projection(columns, rows, ranks.get(name), linear.bias is not None or name in biases))
    if "kv_b_proj" not in attention._modules:
        attention.num_key_value_groups = heads // key_heads
    # Norms over all heads at once; those of each head by itself stay.
    for name, (left, before) in {"q_norm": (heads, whole), "k_norm": (key_heads, key_whole)}.items():
        norm = getattr(attention, name, None)
        if norm is not None and len(norm.weight) != getattr(attention, "head_dim", None):
            norm.weight = nn.Parameter(torch.ones(len(norm.weight) * left // before))
    if "channels" in part:
        network = layer.mlp
        for name in ("shared_expert", "shared_experts"):
            network = getattr(layer.mlp, name, network)
        network.gate_proj = nn.Linear(config.hidden_size, part["channels"], bias=False)
        network.up_proj = nn.Linear(config.hidden_size, part["channels"], bias=False)
        network.down_proj = nn.Linear(part["channels"], config.hidden_size, bias=False)


class WinnowConfig:
    # transformers' plans for several devices cut up stacked experts.
    base_model_tp_plan = None
    base_model_ep_plan = None


class WinnowForCausalLM:
    """The architecture's own model with other MoE blocks and attention. output_router_logits stays off: the loss that goes with it needs even layers."""

    def __init__(self, config):
        super().__init__(config)
        for kept in config.winnow["layers"]:
            layer = self.model.layers[kept["layer"]]
            layer.mlp = moe_block(type(layer.mlp), config, kept)
        for part in config.winnow.get("parts", []):
            resize(self.model.layers[part["layer"]], config, part)
        self.post_init()


class WinnowMixtralConfig(WinnowConfig, MixtralConfig):
    model_type = "winnow_mixtral"


class WinnowMixtralForCausalLM(WinnowForCausalLM, MixtralForCausalLM):
    config_class = WinnowMixtralConfig


class WinnowQwen2MoeConfig(WinnowConfig, Qwen2MoeConfig):
    model_type = "winnow_qwen2_moe"


class WinnowQwen2MoeForCausalLM(WinnowForCausalLM, Qwen2MoeForCausalLM):
    config_class = WinnowQwen2MoeConfig


class WinnowDeepseekV2Config(WinnowConfig, DeepseekV2Config):
    model_type = "winnow_deepseek_v2"


class WinnowDeepseekV2ForCausalLM(WinnowForCausalLM, DeepseekV2ForCausalLM):
    config_class = WinnowDeepseekV2Config


class WinnowOlmoeConfig(WinnowConfig, OlmoeConfig):
    model_type = "winnow_olmoe"


class WinnowOlmoeForCausalLM(WinnowForCausalLM, OlmoeForCausalLM):
    config_class = WinnowOlmoeConfig


class WinnowQwen3MoeConfig(WinnowConfig, Qwen3MoeConfig):
    model_type = "winnow_qwen3_moe"


class WinnowQwen3MoeForCausalLM(WinnowForCausalLM, Qwen3MoeForCausalLM):
    config_class = WinnowQwen3MoeConfig
