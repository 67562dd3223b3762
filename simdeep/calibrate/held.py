"""Kernels that hold SMs: a stand-in for communication, and copies by a given number of CTAs.

A CTA that takes all of an SM's shared memory has the SM to itself. Compiled by NVRTC through torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SHARED_BYTES = 226 * 1024
"""Dynamic shared memory of one CTA: with what the system takes (1 KiB a CTA) and the kernel's own
few bytes too much of the 228 KiB of an SM of compute capability 9.0 for any other CTA."""

THREADS = 1024
LONGEST_NS = 4_000_000_000
"""A held SM is let go after this long even if nobody says so."""

_SOURCE = r"""
__device__ __forceinline__ unsigned long long now() {
    unsigned long long t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
    return t;
}

// Holds one SM a CTA until *flag is set; copies `chunk` vectors a turn, at most one turn in
// `pause` nanoseconds. turns[blockIdx] counts them.
extern "C" __global__ void __launch_bounds__(1024, 1)
hold(volatile int* flag, const uint4* source, uint4* target, int chunk, int vectors, int pause,
     int longest_ms, int* turns) {
    const unsigned long long start = now();
    __shared__ int over;
    int turn = 0;
    int at = (int)(((long long)blockIdx.x * vectors) / gridDim.x);
    unsigned long long next = start;
    while (true) {
        if (threadIdx.x == 0)
            over = *flag != 0 || now() - start > (unsigned long long)longest_ms * 1000000ull;
        __syncthreads();
        if (over) break;
        if (chunk > 0) {
            for (int i = threadIdx.x; i < chunk; i += blockDim.x) {
                int j = at + i;
                if (j >= vectors) j -= vectors;
                target[j] = source[j];
            }
            at += chunk;
            if (at >= vectors) at -= vectors;
            ++turn;
        }
        next += pause;
        while (now() < next) __nanosleep(500);
        __syncthreads();
    }
    if (threadIdx.x == 0) turns[blockIdx.x] = turn;
}

// Copies all vectors with the CTAs there are, four loads in flight a thread.
extern "C" __global__ void __launch_bounds__(1024, 1)
copy(const uint4* __restrict__ source, uint4* __restrict__ target, int vectors) {
    const int step = gridDim.x * blockDim.x;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * step < vectors; i += 4 * step) {
        uint4 a = source[i], b = source[i + step];
        uint4 c = source[i + 2 * step], d = source[i + 3 * step];
        target[i] = a;
        target[i + step] = b;
        target[i + 2 * step] = c;
        target[i + 3 * step] = d;
    }
    for (; i < vectors; i += step) target[i] = source[i];
}

extern "C" __global__ void nothing() {}
"""


@cache
def kernel(name: str) -> Any:
    """A compiled kernel of this file; RuntimeError where this torch cannot compile one."""
    import torch

    compile_kernel = getattr(torch.cuda, "_compile_kernel", None)
    if compile_kernel is None:
        raise RuntimeError("this torch has no torch.cuda._compile_kernel")
    made = compile_kernel(_SOURCE, name)
    if name != "nothing":
        made.set_shared_memory_config(SHARED_BYTES)
    return made


class Holder:
    """Keeps SMs while a block runs; with `bytes_per_s` it copies through HBM at about that rate."""

    def __init__(self, sms: int, bytes_per_s: float = 0.0):
        import torch

        self.sms, self.bytes_per_s = sms, bytes_per_s
        self.stream = torch.cuda.Stream(priority=-1)
        # The kernel polls device memory: polling the host's would slow every launch beside it.
        self.flag = torch.zeros(1, dtype=torch.int32, device="cuda")
        self.one = torch.ones(1, dtype=torch.int32).pin_memory()
        self.signal = torch.cuda.Stream()
        self.turns = torch.zeros(max(sms, 1), dtype=torch.int32, device="cuda")
        self.vectors = 1 << 24  # 256 MiB: never in the L2
        moving = self.vectors if bytes_per_s else 1
        self.source = torch.ones(moving * 4, dtype=torch.int32, device="cuda")
        self.target = torch.empty_like(self.source)
        self.chunk = 4096 if bytes_per_s else 0  # 64 KiB a turn
        # A copy reads and writes: a turn of every CTA moves twice its chunk.
        turn_bytes = 2 * 16 * self.chunk * sms
        self.pause_ns = int(turn_bytes / bytes_per_s * 1e9) if bytes_per_s else 5000
        self.moved = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """SMs are held inside the block."""
        import time

        import torch

        if not self.sms:
            yield
            return
        self.flag.zero_()
        torch.cuda.current_stream().synchronize()
        start = time.perf_counter()
        kernel("hold")(
            (self.sms, 1, 1),
            (THREADS, 1, 1),
            [
                self.flag,
                self.source,
                self.target,
                self.chunk,
                self.vectors,
                self.pause_ns,
                LONGEST_NS // 1_000_000,
                self.turns,
            ],
            SHARED_BYTES,
            self.stream,
        )
        time.sleep(0.002)
        try:
            yield
        finally:
            torch.cuda.current_stream().synchronize()
            with torch.cuda.stream(self.signal):
                self.flag.copy_(self.one, non_blocking=True)
            self.stream.synchronize()
            seconds = time.perf_counter() - start
            self.moved = float(self.turns.sum()) * 2 * 16 * self.chunk / seconds


def copy_call(ctas: int, source: torch.Tensor, target: torch.Tensor) -> Any:
    """A copy of `source` by `ctas` CTAs, each on an SM of its own."""
    made = kernel("copy")
    arguments = [source, target, source.numel() * source.element_size() // 16]
    return lambda: made((ctas, 1, 1), (THREADS, 1, 1), arguments, SHARED_BYTES)


def nothing_call() -> Any:
    """A kernel that does nothing."""
    made = kernel("nothing")
    return lambda: made((1, 1, 1), (32, 1, 1), [])
