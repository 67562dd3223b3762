"""The small model: its parts against formulas, counts and simdeep's own gate; and it learns."""

import math
import statistics

import numpy as np
import pytest
import torch

from simdeep.errors import InputError
from simdeep.program.routing.gate import canonical, select_experts
from simdeep.spec.model import params
from simdeep.validate.transformer import Batches, build, load_text, read_config, train
from simdeep.validate.transformer.attention import rotate
from tests.validate.test_transformer import shipped

QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 2,
    "norm_topk_prob": True,
    "vocab_size": 256,
    "tie_word_embeddings": True,
}
SMALL = {"num_hidden_layers": 3}


@pytest.mark.parametrize(
    "config",
    [
        shipped(),
        shipped(num_nextn_predict_layers=2, n_shared_experts=2, first_k_dense_replace=0),
        shipped(q_lora_rank=None, attention_bias=True),
        QWEN3_MOE,
    ],
)
def test_as_many_parameters_as_the_closed_form_counts(config):
    model = build(config)
    found = sum(p.numel() for p in model.parameters())
    found += sum(gate.bias.numel() for gate in model.gates if gate.ffn.has_bias)
    counted = params(model.config.model)
    assert found == counted.total + counted.mtp


def test_equal_seeds_give_equal_models():
    one, two, other = (build(shipped(**SMALL), seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_the_loss_falls_on_the_shipped_text():
    share = torch.bincount(load_text()).float() / len(load_text())
    by_frequency = -(share * share.clamp(min=1e-9).log()).sum().item()
    losses = train(build(read_config("tiny-moe", SMALL)), 70)
    assert losses[0] == pytest.approx(math.log(256), abs=0.15)  # every byte equally likely
    # Better than knowing how often each byte occurs: it reads what came before.
    assert statistics.mean(losses[-10:]) < by_frequency - 0.2


def test_mtp_modules_and_gqa_learn_too():
    mtp = build(read_config("tiny-moe", {"num_hidden_layers": 1, "num_nextn_predict_layers": 1}))
    losses = train(mtp, 25)
    assert losses[0] == pytest.approx(1.3 * math.log(256), abs=0.2)
    assert losses[-1] < losses[0] - 1.5
    gqa = train(build(QWEN3_MOE), 25)
    assert gqa[-1] < gqa[0] - 1.5


def test_the_gate_chooses_what_simdeeps_own_gate_does():
    model = build("tiny-moe")
    gate = model.gates[0]
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(200, 128, generator=generator)
    gate.bias.copy_(0.02 * torch.randn(16, generator=generator))
    chosen, weights = gate(x)
    logits = (x @ gate.weight.T).detach()
    ours = select_experts(canonical(gate.ffn), logits.numpy(), gate.bias.numpy())
    assert np.array_equal(np.sort(chosen.numpy(), 1), np.sort(ours, 1))
    groups = chosen // 4
    assert max(len(row.unique()) for row in groups) == 2
    # The bias steers the choice and leaves the weights alone: affinities over their sum.
    affinity = logits.sigmoid().gather(1, chosen)
    wanted = 2.5 * affinity / affinity.sum(1, keepdim=True)
    torch.testing.assert_close(weights, wanted)


def test_the_bias_moves_towards_balance():
    gate = build("tiny-moe").gates[0]
    gate.load.copy_(torch.arange(16.0))
    gate.update_bias(0.01)
    assert gate.bias.tolist() == pytest.approx([0.01] * 8 + [-0.01] * 8)
    assert gate.load.sum() == 0


def test_bias_updates_even_out_a_skewed_load():
    gate = build("tiny-moe").gates[0].train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        gate.weight.mul_(20.0)
        gate.weight[0] += 0.3  # liked by tokens, which are 0.3 on average
    unevenness = []
    for _ in range(150):
        gate(0.3 + torch.randn(512, 128, generator=generator))
        unevenness.append((gate.load.max() / gate.load.mean()).item())
        gate.update_bias(0.02)
    assert unevenness[0] > 3.0
    assert statistics.mean(unevenness[-10:]) < 1.6


def test_experts_add_up_token_by_token():
    moe = build("tiny-moe").layers[1].mlp
    x = torch.randn(7, 128, generator=torch.Generator().manual_seed(1))
    chosen, weights = moe.gate(x)
    wanted = torch.stack(
        [
            moe.shared(token)
            + sum(w * moe.experts[int(e)](token) for e, w in zip(of, by, strict=True))
            for token, of, by in zip(x, chosen, weights, strict=True)
        ]
    )
    torch.testing.assert_close(moe(x), wanted)
    moe(x).sum().backward()
    unused = set(range(16)) - set(chosen.flatten().tolist())
    assert unused
    assert all(moe.experts[i].up.weight.grad.abs().max() == 0 for i in unused)


@pytest.mark.parametrize("config", [shipped(**SMALL), QWEN3_MOE])
def test_no_token_sees_a_later_one(config):
    model = build(config).eval()
    tokens = Batches(model.config.model, 16).draw(2)
    before = model(tokens)
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 256
    after = model(changed)
    torch.testing.assert_close(after[:, :9], before[:, :9])
    assert (after[:, 9:] - before[:, 9:]).abs().amax((0, 2)).min() > 0


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))
    turned_q, turned_k = (rotate(v.expand(12, 8), 100.0) for v in (q, k))
    scores = turned_q @ turned_k.T
    for distance in range(6):
        torch.testing.assert_close(
            scores.diagonal(-distance), scores[distance, 0].expand(12 - distance)
        )
    assert (scores[0, 0] - scores[5, 0]).abs() > 1e-3


def test_stages_in_a_row_are_the_model():
    model = build("tiny-moe").eval()
    tokens = Batches(model.config.model, 16).draw(2)
    for n in (1, 2, 8):
        x = tokens
        for index in range(n):
            x = model.stage(index, n)(x)
        assert torch.equal(x, model(tokens))
    with pytest.raises(InputError, match="do not split into 3"):
        model.stage(0, 3)


def test_batches_are_pieces_of_the_text():
    model = read_config("tiny-moe").model
    text = bytes(load_text().tolist())
    assert text.startswith(b"\tAS YOU LIKE IT")
    one, two = (Batches(model, 20, seed=4).draw(3) for _ in range(2))
    assert one.shape == (3, 21)
    assert torch.equal(one, two)
    assert all(bytes(row.tolist()) in text for row in one)
    with pytest.raises(InputError, match="vocab_size 100, must be 256 or more"):
        Batches(read_config(shipped(vocab_size=100)).model, 20)
