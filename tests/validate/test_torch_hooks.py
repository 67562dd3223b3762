"""Hooks on modules: components, bytes that can be worked out, routing, and gradients in parts."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from simdeep.cli.app import app
from simdeep.errors import InputError
from simdeep.program.routing import contiguous, expert_loads, read_trace, replay, write_trace
from simdeep.validate.hooks import current_device, measure, write_measurement
from simdeep.validate.hooks.components import called_parts
from simdeep.validate.hooks.record import called_paths, default_loss
from simdeep.validate.transformer import build

TINY = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "first_k_dense_replace": 1,
    "hidden_size": 16,
    "intermediate_size": 32,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "max_position_embeddings": 64,
    "moe_intermediate_size": 8,
    "n_group": 1,
    "topk_group": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "tie_word_embeddings": False,
    "vocab_size": 256,
    "hidden_act": "silu",
}


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x):
        return x + self.mlp(self.norm(x))


class Model(nn.Module):
    """`spare` is never used; `scale` is used without a module around it."""

    def __init__(self, width=8):
        super().__init__()
        self.embed = nn.Embedding(10, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(2))
        self.spare = nn.ModuleList([nn.Linear(width, width)])
        self.head = nn.Linear(width, 5)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def test_components_and_their_bytes():
    model, tokens = Model(), torch.arange(6).reshape(2, 3)
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = measure(model, tokens, repeats=2)
    parts = {part.label: part for part in found.components}
    assert list(parts) == ["embed", "0 norm", "0 mlp", "1 norm", "1 mlp", "head"]
    mlp = parts["1 mlp"]
    assert (mlp.calls, mlp.rows) == (1, 6)
    assert mlp.parameter_bytes == 2 * 4 * 8 * 8 * 4
    # relu keeps its output, which `down` keeps too; `up` keeps the norm's output: in floats,
    # of 6 rows, 32 + 8.
    assert mlp.saved_bytes == 6 * (32 + 8) * 4
    # the norm keeps its input, and mean and reciprocal deviation of each row
    assert parts["1 norm"].saved_bytes == 6 * (8 + 2) * 4
    assert found.parameter_bytes == sum(p.numel() * 4 for p in model.parameters())
    assert parts["embed"].i.median_s < parts["embed"].b.median_s
    assert found.routing is None
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_a_module_that_uses_weights_itself_is_one_component():
    class Direct(Layer):
        def forward(self, x):
            return x + nn.functional.linear(self.norm(x), self.mlp.up.weight[:8])

    model = nn.Sequential(Direct(8), nn.Linear(8, 3))
    found = measure(model, torch.randn(4, 8), repeats=1)
    assert [part.label for part in found.components] == ["0 Direct", "1 Linear"]
    chosen = measure(Model(), torch.arange(3)[None], repeats=1, components=["layers.*.mlp"])
    assert [part.label for part in chosen.components] == ["0 mlp", "1 mlp"]


def test_parts_cover_every_parameter_that_is_used():
    model = build(TINY, seed=1)
    tokens = torch.randint(0, 256, (2, 8))
    called = called_paths(model, lambda: model(tokens), default_loss)
    parts = called_parts(model, called)
    covered = [id(p) for part in parts for p in part.module.parameters()]
    assert len(covered) == len(set(covered))
    assert set(covered) == {id(p) for p in model.parameters()}
    assert {part.layer for part in parts} == {None, 0, 1, 2}


def test_i_and_w_together_are_the_gradients_of_b():
    from simdeep.validate.hooks.clock import CpuClock
    from simdeep.validate.hooks.record import record
    from simdeep.validate.hooks.replay import replay

    torch.manual_seed(0)
    model = Model()
    tokens = torch.arange(6)[None]
    called = called_paths(model, lambda: model(tokens), default_loss)
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    parts = called_parts(model, called)
    calls = record(model, parts, lambda: model(tokens), default_loss).calls
    seen = {}
    for part in parts:
        for name, p in part.module.named_parameters():
            p.register_hook(lambda g, key=f"{part.path}.{name}": seen.__setitem__(key, g.clone()))
    for kind in ("w", "b"):
        seen.clear()
        taken = replay([part.module for part in parts], calls, kind, CpuClock())
        assert len(taken.forward) == len(taken.backward) == len(calls)
        assert set(seen) == set(wanted)
        for name, gradient in seen.items():
            torch.testing.assert_close(gradient, wanted[name])


def test_the_written_trace_replays_with_the_gates_own_counts(tmp_path):
    model = build(TINY, seed=2)
    counts = []
    for gate in model.gates:
        gate.register_forward_hook(
            lambda m, a, out: counts.append(torch.bincount(out[0].flatten(), minlength=8))
        )
    loads = [gate.load.clone() for gate in model.gates]
    found = measure(model, torch.randint(0, 256, (2, 16)), repeats=1)
    assert all(map(torch.equal, loads, (gate.load for gate in model.gates)))
    path = tmp_path / "routing.npz"
    write_trace(path, found.routing)
    trace = read_trace(path)
    own = np.stack([c.numpy() for c in counts[: len(loads)]])
    assert trace.n_experts == 8
    assert sorted(set(trace.layer.tolist())) == [1, 2]
    np.testing.assert_array_equal(expert_loads(trace), own)
    rows = replay(trace, contiguous(8, 2, 2)).slot_tokens
    np.testing.assert_array_equal(rows, own)


def test_what_does_not_run_is_refused():
    with pytest.raises(InputError, match="Model does not run on this batch: IndexError"):
        measure(Model(), torch.tensor([[11]]))


def run(*args, code=0):
    result = CliRunner().invoke(app, ["measure", *map(str, args)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


@pytest.fixture
def factories(monkeypatch):
    made = types.ModuleType("my_models")
    made.small = lambda: (Model(), torch.arange(6)[None])
    made.wrong = lambda: 3

    def broken():
        raise RuntimeError("no such luck")

    made.broken = broken
    monkeypatch.setitem(sys.modules, "my_models", made)


def test_the_command(factories, tmp_path):
    out = tmp_path / "out"
    shown = run("--module", "my_models:small", "--repeats", 1, "--out", out)
    assert "0  mlp" in shown.stdout
    assert "components.yaml" in shown.stderr
    again = run("--module", "my_models:small", "--repeats", 1, "--baseline", out / FILE)
    assert "F change" in again.stdout
    (out / FILE).write_text((out / FILE).read_text().replace("threads: 1", "threads: 3"))
    refused = run("--module", "my_models:small", "--baseline", out / FILE, code=2)
    assert "threads 3, not 1" in refused.stderr


FILE = "components.yaml"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--module", "my_models"], "write a module and a function"),
        (["--module", "my_models:other"], "cannot be imported"),
        (["--module", "no.such.package:make"], "cannot be imported"),
        (["--module", "my_models:wrong"], "returned int"),
        (["--module", "my_models:broken"], "RuntimeError: no such luck"),
        (["--model", "tiny-mo"], "did you mean 'tiny-moe'"),
        (["--device", "tpu"], "must be cpu or cuda"),
        (["--baseline", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_wrong_requests(factories, args, words):
    assert words in run(*args, code=2).stderr


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("simdeep.validate.torch_extra.find_spec", lambda name: None)
    assert "simdeep[torch]" in run(code=2).stderr


def test_the_device_is_written(tmp_path):
    found = measure(nn.Linear(3, 2), torch.randn(4, 3), repeats=1)
    write_measurement(tmp_path / "x.yaml", found)
    assert found.device == current_device()
    assert found.device.torch == torch.__version__


def test_a_hugging_face_model():
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=32,
    )
    model = transformers.MixtralForCausalLM(config)
    batch = {"input_ids": torch.randint(0, 64, (2, 8)), "use_cache": False}
    found = measure(model, batch, repeats=1)
    names = {part.name for part in found.components if part.layer == 1}
    assert {"self_attn", "mlp.gate", "mlp.experts"} <= names
    assert found.routing.n_experts == 4
    assert found.routing.experts.shape == (2 * 2 * 8, 2)
