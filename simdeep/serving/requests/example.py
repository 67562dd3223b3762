"""Makes the shipped example trace: `python -m simdeep.serving.requests.example [FILE]`.

Conversations begin as a Poisson process. A turn's prompt is everything said before and some new
text; the next turn comes when the answer is read. All of a prompt is the prefix that the next turn
shares, under the conversation's name. Nothing in it was measured: rates and laws are made up.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import simdeep

EXAMPLE = Path(simdeep.__file__).parent / "data" / "serving" / "example-trace.csv"

SEED = 20260101
CONVERSATIONS = 110
CONVERSATIONS_PER_S = 2.0
TURNS = 3.0
"""Mean turns of a conversation (geometric)."""
READING_S = 6.0
"""Mean pause before the next turn (exponential)."""
TEXT_TOKENS = (500.0, 1.0)
"""Mean and coefficient of variation of what a turn adds (log-normal)."""
ANSWER_TOKENS = (200.0, 0.9)
"""The same of an answer."""


def example_rows() -> list[tuple[float, int, int, str, int]]:
    """Requests by time: seconds, input and output tokens, prefix and its tokens."""
    rng = np.random.default_rng(SEED)
    starts = np.cumsum(rng.exponential(1 / CONVERSATIONS_PER_S, CONVERSATIONS))
    rows = []
    for number, start in enumerate(starts):
        at, said = float(start), 0
        for _ in range(rng.geometric(1 / TURNS)):
            prompt, answer = said + _tokens(rng, *TEXT_TOKENS), _tokens(rng, *ANSWER_TOKENS)
            rows.append((round(at, 3), prompt, answer, f"c{number:03d}", prompt))
            said = prompt + answer
            at += float(rng.exponential(READING_S)) + 0.02 * answer
    return sorted(rows)


def _tokens(rng: np.random.Generator, mean: float, cv: float) -> int:
    sigma = np.sqrt(np.log1p(cv**2))
    return max(1, round(float(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma))))


def example_text() -> str:
    """The file's text."""
    lines = ["time_s,input_tokens,output_tokens,prefix_hash,prefix_tokens"]
    lines += [f"{at:.3f},{new},{out},{name},{size}" for at, new, out, name, size in example_rows()]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the trace."""
    parser = argparse.ArgumentParser(prog="python -m simdeep.serving.requests.example")
    parser.add_argument("file", type=Path, nargs="?", default=EXAMPLE, help="where to write")
    parser.parse_args(arguments).file.write_text(example_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
