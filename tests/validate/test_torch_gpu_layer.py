"""The layer that is timed on a GPU computes what autograd says, on a CPU in float32."""

import pytest
import torch

from simdeep.calibrate import tensor_ops as ops
from simdeep.validate.gpu import layer_kernel_table
from simdeep.validate.gpu_layer import COMPONENTS, GpuLayer, LayerSize, _attend

SMALL = LayerSize(
    tokens=32,
    rows=(8, 16, 24),
    unique=30,
    hidden=48,
    heads=4,
    nope=8,
    rope=4,
    v_dim=8,
    q_rank=24,
    kv_rank=16,
    width=12,
    shared_width=20,
    experts=16,
    groups=4,
    kept_groups=2,
    topk=4,
)


@pytest.fixture(scope="module")
def layer():
    torch.set_num_threads(1)
    made = GpuLayer(SMALL, "cpu", torch.float32)
    made.prepare()
    return made


def close(found, wanted):
    error = float((found - wanted).abs().max() / wanted.abs().max())
    assert error < 1e-5, error


def attention(layer, x):
    """The attention half in plain torch, differentiable."""
    s, w, state = SMALL, layer.weights, layer.state
    stream0 = x + state["residual"]
    y = ops.rms_norm(stream0, w["input_norm"])
    q = ops.rms_norm(y @ w["q_down"].t(), w["q_norm"]) @ w["q_up"].t()
    both = y @ w["kv_down"].t()
    kv = ops.rms_norm(both[:, : s.kv_rank], w["kv_norm"]) @ w["kv_up"].t()
    q = q.view(-1, s.heads, s.nope + s.rope)
    kv = kv.view(-1, s.heads, s.nope + s.v_dim)
    turn = state["cos"], state["sin"]
    q = torch.cat([q[..., : s.nope], ops.rotate(q[..., s.nope :], *turn)], -1)
    k_rope = ops.rotate(both[:, None, s.kv_rank :], *turn).expand(-1, s.heads, -1)
    k = torch.cat([kv[..., : s.nope], k_rope], -1)
    out = _attend(q, k, kv[..., s.nope :], "cpu").flatten(1) @ w["o_proj"].t()
    stream1 = out * 0.5 + stream0
    normed = ops.rms_norm(stream1, w["post_norm"])
    logits = normed @ w["router"].t()
    chosen = torch.sigmoid(logits).gather(1, state["chosen"])
    return stream1, normed, chosen / chosen.sum(-1, keepdim=True) * 2.5


def test_attention_forward_and_gradients(layer):
    state, w = layer.state, layer.weights
    x = state["x"].clone().requires_grad_()
    names = ["q_down", "kv_down", "q_up", "kv_up", "o_proj", "router"]
    for name in names:
        w[name].requires_grad_()
    outs = attention(layer, x)
    given = state["d_stream"], state["d_normed"], state["d_gate_weights"]
    grads = torch.autograd.grad(outs, [x, *(w[n] for n in names)], given)
    for name in names:
        w[name].requires_grad_(False)
    for out, name in zip(outs, ("stream1", "normed", "gate_weights"), strict=True):
        close(state[name], out.detach())
    close(state["d_x"], grads[0])
    for name, grad in zip(names, grads[1:], strict=True):
        close(layer.grads[name], grad)


def experts(layer, received, normed):
    w, state = layer.weights, layer.state
    shared = ops.swiglu(normed @ w["shared_gateup"].t()) @ w["shared_down"].t()
    rows, parts = received[state["token"]].split(list(SMALL.rows)), []
    for part, up, down in zip(rows, w["routed_gateup"], w["routed_down"], strict=True):
        parts.append(ops.swiglu(part @ up.t()) @ down.t())
    summed = torch.zeros_like(received).index_add(0, state["token"], torch.cat(parts))
    return shared, summed


def test_experts_forward_and_gradients(layer):
    state, w = layer.state, layer.weights
    received = state["received"].clone().requires_grad_()
    normed = state["normed"].clone().requires_grad_()
    names = ["shared_gateup", "shared_down", "routed_gateup", "routed_down"]
    for name in names:
        w[name].requires_grad_()
    outs = experts(layer, received, normed)
    given = state["d_shared_out"], state["d_routed_out"]
    grads = torch.autograd.grad(outs, [normed, received, *(w[n] for n in names)], given)
    for name in names:
        w[name].requires_grad_(False)
    close(state["shared_out"], outs[0].detach())
    close(state["routed_out"], outs[1].detach())
    close(state["d_shared_in"], grads[0])
    close(state["d_received"], grads[1])
    for name, grad in zip(names, grads[2:], strict=True):
        close(layer.grads[name], grad)


def test_steps_are_the_kernel_records(layer):
    table = layer_kernel_table()
    for component, action in COMPONENTS:
        names = [n for step, _ in layer.steps(component, action) for n in step.split("+")]
        assert sorted(names) == sorted(k.name for k in table[component, action])


def test_fp8_tiles_keep_values():
    x = torch.randn(128, 256)
    values, scale = ops.to_tiles(x)
    back = values.float().reshape(128, 2, 128) * scale[..., None]
    assert float((back.reshape(x.shape) - x).norm() / x.norm()) < 0.04
    turned, turned_scale = ops.to_turned_tiles(x)
    again = turned.float().reshape(256, 1, 128) * turned_scale[..., None]
    assert float((again.reshape(256, 128).t() - x).norm() / x.norm()) < 0.04
