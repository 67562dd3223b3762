"""The parts of a GPU's measurement; each appends rows to the session."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simdeep.calibrate.attention import CoreSize, attention_calls, backends
from simdeep.calibrate.gemm import FP8_RECIPES, gemm_bytes, gemm_call, grouped_call
from simdeep.calibrate.held import Holder, copy_call, nothing_call
from simdeep.calibrate.memory import MemorySize, memory_call, works
from simdeep.calibrate.rows import Row
from simdeep.calibrate.shapes import LINEARS, TOKENS, TRAIN_TOKENS, Product, products, uneven
from simdeep.calibrate.timing import Call, CudaClock, Timing, rotation

_DEVICE = "cuda"
_MOST_NOTES = 60


@dataclass
class Session:
    """Rows measured so far; `smoke` asks for few sizes, `linears` are the layers timed."""

    smoke: bool = False
    linears: Mapping[str, tuple[int, int]] = field(default_factory=lambda: LINEARS)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        import torch

        self.clock = CudaClock(0.03, 0.003) if self.smoke else CudaClock()
        # Graphs cannot be captured on the default stream, and a backward pass runs where its
        # forward pass ran.
        torch.cuda.set_stream(torch.cuda.Stream())
        properties = torch.cuda.get_device_properties(0)
        self.sms, self.l2 = properties.multi_processor_count, properties.L2_cache_size

    def note(self, what: str, error: Exception) -> None:
        """Keep what could not be measured, and why."""
        text = f"{what}: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(text)
            print(text, flush=True)

    def some(self, values: Sequence[Any], few: int = 2) -> Sequence[Any]:
        """All values, or in a smoke test a few of them."""
        return values[:: max(1, len(values) // few)] if self.smoke else values

    def add(self, timing: Timing, **facts: Any) -> None:
        """Append a row."""
        self.rows.append(
            Row(
                us=timing.us,
                low_us=timing.low_us,
                high_us=timing.high_us,
                repeats=timing.repeats,
                mhz=timing.mhz,
                watts=timing.watts,
                **{"sms": self.sms, **facts},
            )
        )

    def calls(self, make: Callable[[int], Call], nbytes: float) -> list[Call]:
        """The same work on as many sets of operands as the L2 cannot hold."""
        return [make(seed) for seed in range(rotation(nbytes, self.l2))]


def gaps(session: Session) -> None:
    """A chain of kernels that do nothing: what a launch costs in a graph."""
    timing = session.clock.time([nothing_call()])
    session.add(timing, group="gap", name="nothing", dtype="", variant="")


IDLE_READINGS, IDLE_EVERY_S = 30, 0.05


def idle(session: Session) -> None:
    """Clock and power while nothing runs and the clock is still up; `us` is the time watched."""
    session.clock.time([nothing_call()])
    read = []
    for _ in range(IDLE_READINGS):
        time.sleep(IDLE_EVERY_S)
        read.append(session.clock.meter.read())
    highest = max(mhz for mhz, _ in read)
    watts = [w for mhz, w in read if mhz == highest]
    span = IDLE_READINGS * IDLE_EVERY_S * 1e6
    middle = int(statistics.median(watts))
    timing = Timing(span, span, span, len(watts), highest, middle)
    session.add(timing, group="idle", name="nothing", dtype="", variant="")


def gemms(session: Session) -> None:
    """BF16 products, then each FP8 recipe."""
    for dtype in ("bf16", *(f"fp8_{recipe}" for recipe in FP8_RECIPES)):
        for name in session.some([*session.linears], 3):
            _linear(session, dtype, name)


def _wanted(dtype: str, name: str, n: int, k: int) -> list[Product]:
    both = products([(name, (n, k))], TOKENS, TRAIN_TOKENS)
    if dtype == "bf16":
        return both
    if n % 128 or k % 128 or name == "v3.router":
        return []
    if dtype == "fp8_block_wgrad":
        return [p for p in both if p[1] == "wgrad"]
    if dtype == "fp8_tensor":  # a coarse series of its own
        return [p for p in both if p[1] == "fwd" and p[2] in (16, 128, 1024, 4096, 16384)]
    rows = (TOKENS if dtype == "fp8_row" else [t for t in TOKENS if t >= 16], TRAIN_TOKENS[1::2])
    kept = [p for p in both if p[1] == "fwd" and p[2] in rows[0]]
    return kept + [p for p in both if p[1] == "dgrad" and p[2] in rows[1]]


def _linear(session: Session, dtype: str, name: str) -> None:
    """All products of one linear layer; the library's kernels are named in one profile."""
    done: list[tuple[dict[str, Any], Timing, Call]] = []
    for label, variant, m, n, k in session.some(_wanted(dtype, name, *session.linears[name]), 4):
        nbytes = gemm_bytes(dtype, variant, m, n, k)
        try:
            calls = session.calls(_gemm_maker(dtype, variant, m, n, k), nbytes)
            timing = session.clock.time(calls)
        except Exception as error:
            session.note(f"{dtype} {label} {variant} {m}x{n}x{k}", error)
            continue
        facts = {
            "group": "gemm",
            "name": label,
            "dtype": dtype,
            "variant": variant,
            "m": m,
            "n": n,
            "k": k,
            "flops": 2.0 * m * n * k,
            "bytes": nbytes,
        }
        done.append((facts, timing, calls[0]))
        del calls
    for (facts, timing, _), kernel in zip(done, _names([c for *_, c in done]), strict=True):
        session.add(timing, kernel=kernel, **facts)


def _gemm_maker(dtype: str, variant: str, m: int, n: int, k: int) -> Callable[[int], Call]:
    return lambda seed: gemm_call(dtype, variant, m, n, k, _DEVICE, seed)


def _names(calls: Sequence[Call]) -> list[str]:
    """The library's kernels of each call; empty where the profiler tells none."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    mark = nothing_call()
    try:
        with profile(activities=[ProfilerActivity.CUDA]) as prof:
            for call in calls:
                mark()
                call()
            torch.cuda.current_stream().synchronize()
        events = [e for e in prof.events() if str(e.device_type).endswith("CUDA")]
    except Exception:
        return [""] * len(calls)
    found: list[list[str]] = []
    for event in sorted(events, key=lambda e: e.time_range.start):
        if event.name == "nothing":
            found.append([])
        elif found:
            found[-1].append(_short(event.name))
    names = ["+".join(parts) for parts in found]
    return names if len(names) == len(calls) else [""] * len(calls)


def _short(name: str) -> str:
    """A kernel's name, of CUTLASS's the tile alone."""
    tile = re.search(r"Shape<cute::C<(\d+)>, cute::C<(\d+)>, cute::C<(\d+)> ?>", name)
    if "cutlass" in name and tile:
        schedule = re.search(r"Kernel\w*(Cooperative|Pingpong)\w*", name)
        return "cutlass_" + "x".join(tile.groups()) + (f"_{schedule[1]}" if schedule else "")
    return re.sub(r"[,\s\"]+", " ", name)[:90]


GROUPED = ((4, 7168, 4096, "v3.gateup"), (4, 2048, 7168, "v3.down"), (8, 4096, 28672, "mixtral.up"))
"""Groups, k, n and name of grouped products."""


def grouped(session: Session) -> None:
    """Grouped products over uneven groups."""
    for groups, k, n, name in session.some(GROUPED, 1):
        for total in session.some((1024, 2048, 4096, 8192, 16384, 24576, 32768, 40960), 2):
            for dtype in ("bf16", "fp8_row"):
                for variant in ("fwd", "dgrad", "wgrad"):
                    _grouped(session, dtype, variant, name, uneven(total, groups), n, k)


def _grouped(
    session: Session, dtype: str, variant: str, name: str, rows: list[int], n: int, k: int
) -> None:
    total, groups = sum(rows), len(rows)
    if dtype != "bf16" and variant == "dgrad":
        return  # the same call as a forward product with n and k exchanged
    outer, inner = (n, k) if variant != "dgrad" else (k, n)
    sizes = (total, outer, inner) if variant != "wgrad" else (n, k, total // groups)
    width = 2 if dtype == "bf16" else 1
    weights = groups * n * k * (width if variant != "wgrad" else 2)
    nbytes = float(total * (n + k) * width + weights)
    try:
        calls = session.calls(
            lambda seed: grouped_call(dtype, variant, rows, outer, inner, _DEVICE, seed), nbytes
        )
        timing = session.clock.time(calls)
    except Exception as error:
        session.note(f"grouped {dtype} {variant} {name} {total}", error)
        return
    session.add(
        timing,
        group="grouped_gemm",
        name=name,
        dtype=dtype,
        variant=variant,
        m=sizes[0],
        n=sizes[1],
        k=sizes[2],
        groups=groups,
        flops=2.0 * total * n * k,
        bytes=nbytes,
        kernel=_names(calls[:1])[0],
    )


CORES = [
    CoreSize(batch, seq, heads, kv, qk, v)
    for heads, kv, qk, v in (
        (128, 128, 192, 128),
        (128, 128, 192, 192),
        (64, 8, 128, 128),
        (32, 8, 128, 128),
        (32, 32, 128, 128),
        (32, 32, 64, 64),
        (16, 16, 192, 128),
    )
    for batch, seq in ((1, 1024), (4, 1024), (1, 2048), (2, 2048), (1, 4096), (1, 8192), (1, 16384))
    if heads * seq * seq * batch <= 128 * 8192**2
]


def attention(session: Session) -> None:
    """Attention cores by each backend that takes them."""
    import torch

    for size in session.some(CORES, 5):
        for backend in backends():
            try:
                calls = attention_calls(size, torch.bfloat16, _DEVICE, 0, backend)
                for variant, call in calls.items():
                    timing = session.clock.time([call])
                    session.add(
                        timing,
                        group="attention",
                        name=backend,
                        dtype="bf16",
                        variant=variant,
                        m=size.batch * size.seq,
                        n=size.seq,
                        k=size.qk_dim,
                        groups=size.heads,
                        kv_heads=size.kv_heads,
                        qk_dim=size.qk_dim,
                        v_dim=size.v_dim,
                        flops=size.flops(variant),
                        bytes=size.bytes(variant),
                        kernel=_names([call])[0],
                    )
            except Exception as error:
                session.note(f"attention {backend} {size}", error)


MEMORY_TOKENS = (256, 1024, 3072, 8192, 32768)


def memory(session: Session) -> None:
    """Memory-bound kernels."""
    for work in works(_DEVICE):
        for width in session.some(work.widths, 1):
            for tokens in session.some(MEMORY_TOKENS, 2):
                _memory(session, work, MemorySize(tokens, width))


def _memory(session: Session, work: Any, size: MemorySize) -> None:
    nbytes = work.bytes(size)
    if nbytes > 8e9:
        return
    try:
        calls = session.calls(lambda seed: memory_call(work, size, _DEVICE, seed), nbytes)
        timing = session.clock.time(calls)
    except Exception as error:
        session.note(f"memory {work.name} {size}", error)
        return
    session.add(
        timing,
        group="memory",
        name=work.name,
        dtype=work.dtype,
        variant=work.variant,
        m=size.tokens,
        n=size.width,
        bytes=nbytes,
        kernel=str(_launches(calls[0])),
    )


def _launches(call: Call) -> int:
    """Kernels in one call."""
    name = _names([call])[0]
    return name.count("+") + 1 if name else 0


def ctas(session: Session) -> None:
    """Bandwidth of copies by a given number of CTAs, each on an SM of its own; torch's own copy."""
    import torch

    source = torch.ones(1 << 28, dtype=torch.int32, device=_DEVICE)
    target = torch.empty_like(source)
    moved = 2.0 * source.numel() * 4
    for count in session.some((1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 132), 3):
        timing = session.clock.time([copy_call(count, source, target)])
        session.add(timing, group="ctas", name="copy", dtype="", variant="", bytes=moved, sms=count)
    timing = session.clock.time([lambda: target.copy_(source)])
    session.add(timing, group="ctas", name="copy_", dtype="", variant="", bytes=moved)


HELD = (0, 4, 8, 12, 16, 20, 24, 32, 48, 68)
COMM_BYTES_PER_S = 350e9
"""HBM traffic of the stand-in that also copies: an all-to-all's port bytes written and read."""


def held(session: Session) -> None:
    """Kernels while another holds SMs, launched for all SMs and (where torch can) for the rest."""
    for facts, calls in _pieces(session):
        captured = session.clock.capture(calls)
        for count in session.some(HELD, 3):
            _beside(session, facts, captured, count, 0.0)
        _beside(session, facts, captured, 20, COMM_BYTES_PER_S)
        for count in session.some((12, 20, 32, 68), 1):
            if facts["group"] == "memory" or facts["group"] == "attention":
                continue
            _carved(session, facts, calls, count)


def _beside(session: Session, facts: Any, captured: Any, count: int, traffic: float) -> None:
    holder = Holder(count, traffic)
    with holder():
        timing = session.clock.replay(captured)
    beside = f"copy {holder.moved / 1e9:.0f} GB/s" if traffic else "hold" if count else ""
    session.add(timing, **{**facts, "group": "held"}, held=count, beside=beside)


def _carved(session: Session, facts: Any, calls: Sequence[Call], count: int) -> None:
    """The same, the library told to launch for the SMs that are left."""
    import torch

    try:
        torch._C._set_sm_carveout_experimental(count)
        captured = session.clock.capture(calls)
    except Exception as error:
        session.note(f"carve-out {count}", error)
        return
    finally:
        torch._C._set_sm_carveout_experimental(None)
    with Holder(count)():
        timing = session.clock.replay(captured)
    told = {**facts, "group": "held", "sms": session.sms - count}
    session.add(timing, **told, held=count, beside="hold")


def _pieces(session: Session) -> list[tuple[dict[str, Any], list[Call]]]:
    """Work whose time is looked at beside something else."""
    import torch

    found: list[tuple[dict[str, Any], list[Call]]] = []
    for dtype, name, variant, m, n, k in (
        ("bf16", "v3.gateup", "fwd", 4096, 4096, 7168),
        ("bf16", "v3.q_down", "fwd", 4096, 1536, 7168),
        ("bf16", "v3.o_proj", "fwd", 4096, 7168, 16384),
        ("bf16", "v3.o_proj", "wgrad", 7168, 16384, 4096),
        ("bf16", "v3.kv_up", "dgrad", 4096, 512, 32768),
        ("bf16", "llama8b.qkv", "fwd", 8192, 6144, 4096),
        ("fp8_row", "v3.gateup", "fwd", 4096, 4096, 7168),
        ("fp8_block", "v3.gateup", "fwd", 4096, 4096, 7168),
        ("fp8_block", "v3.o_proj", "fwd", 4096, 7168, 16384),
    ):
        facts: dict[str, Any] = {"group": "gemm", "name": name, "dtype": dtype, "variant": variant}
        facts |= {"m": m, "n": n, "k": k, "flops": 2.0 * m * n * k}
        maker = _gemm_maker(dtype, variant, m, n, k)
        found.append((facts, session.calls(maker, gemm_bytes(dtype, variant, m, n, k))))
    rows = uneven(32768, 4)
    facts = {"group": "grouped_gemm", "name": "v3.gateup", "dtype": "bf16", "variant": "fwd"}
    facts |= {"m": 32768, "n": 4096, "k": 7168, "groups": 4, "flops": 2.0 * 32768 * 4096 * 7168}
    found.append((facts, [grouped_call("bf16", "fwd", rows, 4096, 7168, _DEVICE, 0)]))
    for size in (CoreSize(1, 4096, 128, 128, 192, 128), CoreSize(1, 4096, 64, 8, 128, 128)):
        for backend in backends():
            try:
                calls = attention_calls(size, torch.bfloat16, _DEVICE, 0, backend)
                for variant, call in calls.items():
                    call()
                    facts = {"group": "attention", "name": backend, "dtype": "bf16"}
                    facts |= {"variant": variant, "m": size.seq, "n": size.seq, "k": size.qk_dim}
                    facts |= {"groups": size.heads, "kv_heads": size.kv_heads}
                    facts |= {"qk_dim": size.qk_dim, "v_dim": size.v_dim}
                    facts |= {"flops": size.flops(variant)}
                    found.append((facts, [call]))
            except Exception as error:
                session.note(f"held attention {backend}", error)
    for work in works(_DEVICE):
        if work.name in ("add_norm", "swiglu", "expand", "copy"):
            flat = MemorySize(4096, work.widths[-1])
            facts = {"group": "memory", "name": work.name, "dtype": "bf16"}
            facts |= {"variant": work.variant, "m": flat.tokens, "n": flat.width}
            facts |= {"bytes": work.bytes(flat)}
            made = [memory_call(work, flat, _DEVICE, seed) for seed in range(2)]
            found.append((facts, made))
    return found[::4] if session.smoke else found


def overlap(session: Session) -> None:
    """Two graphs on two streams at once beside each of them alone."""
    pieces = {
        f"{f['group']}.{f['name']}.{f['variant']}.{f['dtype']}": c for f, c in _pieces(session)
    }
    names = [*pieces]
    import torch

    side: Any = torch.cuda.Stream()
    captured = {name: session.clock.capture(calls) for name, calls in pieces.items()}
    alone = {name: session.clock.replay(done) for name, done in captured.items()}
    first = names[: 3 if session.smoke else 4]
    # The library's workspace is a stream's: two graphs of one stream would share it.
    with torch.cuda.stream(side):
        beside = {name: session.clock.capture(pieces[name]) for name in first}
    pairs = [(a, b) for a in first for b in names if a != b]
    for a, b in pairs:
        timing, calls_a, calls_b = _together(beside[a], captured[b], side)
        expected = (alone[a].us * calls_a, alone[b].us * calls_b)
        session.add(
            timing,
            group="overlap",
            name=a,
            dtype="",
            variant="",
            beside=b,
            m=int(expected[0]),
            n=int(expected[1]),
        )


def _together(a: Any, b: Any, side: Any) -> tuple[Timing, int, int]:
    """Time of both from the start of the first to the end of the last; calls of each.

    `a` runs on the stream `side`, `b` on the current one, each captured where it runs.
    """
    import torch

    main = torch.cuda.current_stream()
    counts = max(1, round(b.seconds / a.seconds)), max(1, round(a.seconds / b.seconds))
    took = []
    for _ in range(9):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            for _ in range(counts[0]):
                a.graph.replay()
        for _ in range(counts[1]):
            b.graph.replay()
        main.wait_stream(side)
        end.record()
        end.synchronize()
        took.append(start.elapsed_time(end) * 1e3)
    took = sorted(took[2:])
    timing = Timing(took[len(took) // 2], took[0], took[-1], len(took))
    return timing, counts[0] * a.calls, counts[1] * b.calls


PARTS: dict[str, Callable[[Session], None]] = {
    "gaps": gaps,
    "idle": idle,
    "ctas": ctas,
    "gemms": gemms,
    "grouped": grouped,
    "attention": attention,
    "memory": memory,
    "held": held,
    "overlap": overlap,
}
