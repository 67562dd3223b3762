"""What is asked of a deployment: latencies, and a rate or a number of GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simdeep.errors import InputError, Problem
from simdeep.spec.resources import nearest
from simdeep.units import UnitError, parse_quantity

if TYPE_CHECKING:
    from simdeep.spec.serve import ServeScenario

KEYS = ("ttft", "tpot", "share")


@dataclass(frozen=True)
class Goal:
    """The goal: `share` of requests within `ttft_s` and `tpot_s` (None: any).

    `rate` requests a second on as few dollars as possible; or, with `gpus`, as many requests a
    second as so many GPUs serve.
    """

    ttft_s: float | None
    tpot_s: float | None
    share: float
    rate: float | None
    gpus: int | None


def read_goal(scenario: ServeScenario, slo: str | None, rate: str | None, gpus: str | None) -> Goal:
    """The goal that flags name; what they leave out of the SLO is the scenario's.

    Raises:
        InputError: every wrong flag, each with the rule.
    """
    problems: list[Problem] = []
    given = scenario.slo
    found: dict[str, float | None] = {
        "ttft": given.ttft,
        "tpot": given.tpot,
        "share": given.share,
    }
    found |= _read_slo(slo, problems)
    if found["ttft"] is None and found["tpot"] is None and not problems:
        text = "no latency is promised: write it as in --slo ttft=2s,tpot=50ms, or set slo.ttft"
        problems.append(Problem("--slo", "", text))
    if (rate is None) == (gpus is None):
        which = "neither is" if rate is None else "both are"
        text = f"{which} given; give the traffic (--rate 100/s) or the GPUs (--gpus 256)"
        problems.append(Problem("--rate, --gpus", "", text))
    a_second = _read_rate(rate, problems) if rate is not None else None
    number = _read_gpus(gpus, problems) if gpus is not None else None
    if scenario.traffic is None:
        text = "the scenario has no traffic: sizing needs the lengths of prompts and answers"
        problems.append(Problem("", "traffic", text))
    elif scenario.traffic.arrival == "trace":
        text = "is trace; sizing draws its own traffic: set traffic.arrival=poisson or bursty"
        problems.append(Problem("", "traffic.arrival", text))
    if problems:
        raise InputError(problems)
    return Goal(found["ttft"], found["tpot"], float(found["share"] or 0.9), a_second, number)


def _read_slo(text: str | None, problems: list[Problem]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(",") if text is not None else ():
        key, equals, value = (word.strip() for word in part.partition("="))
        if key not in KEYS:
            near = nearest(key, KEYS)
            hint = f"; did you mean {near!r}?" if near else ""
            message = f"{key!r} is no latency; there are ttft, tpot and share{hint}"
            problems.append(Problem("--slo", "", message))
        elif not equals:
            problems.append(Problem("--slo", "", f"{key} has no value; write {key}=2s"))
        elif key in found:
            problems.append(Problem("--slo", "", f"{key} is given twice"))
        else:
            _read_part(key, value, found, problems)
    return found


def _read_part(key: str, value: str, found: dict[str, float], problems: list[Problem]) -> None:
    if key != "share":
        try:
            found[key] = parse_quantity(value, "time", positive=True)
        except UnitError as error:
            problems.append(Problem("--slo", key, str(error)))
        return
    try:
        share = float(value)
    except ValueError:
        share = float("nan")
    if 0 < share < 1:
        found[key] = share
    else:
        message = f"is {value!r}; must be a share of requests between 0 and 1, as 0.9"
        problems.append(Problem("--slo", key, message))


def _read_rate(text: str, problems: list[Problem]) -> float | None:
    from simdeep.spec.serve_schema import read_rate

    try:
        return read_rate(text)
    except ValueError as error:
        problems.append(Problem("--rate", "", str(error)))
        return None


def _read_gpus(text: str, problems: list[Problem]) -> int | None:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    problems.append(Problem("--gpus", "", f"{text!r} is not a number of GPUs (1 or more)"))
    return None
