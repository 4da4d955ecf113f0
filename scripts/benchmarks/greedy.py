"""What greedy training costs beside end-to-end, checkpointed and inverted: time, memory, and a pipeline of two.

All regimes train the same network on the same batch with the package's own `stage_losses`, one thread each. A step is
forward, backward and Adam; the data are there before. Images are noise, which costs what anatomy costs.

*Depth* is time and memory by the number of unrolls. ``cpu_s`` is the median of 15 steps in processor time, with its
quartiles; the regimes alternate in random order. ``saved_MB`` is what autograd keeps at the worst moment, counted by
hooks, without parameters, gradients and Adam's moments, which stand apart. ``grown_MB`` is the growth of a fresh
process in its first step (on a GPU, of what torch allocates there), which also holds passing buffers.

*Ratios* stand beside a prediction. With forward costs f of the denoiser and n of A^H A, and a backward pass of 2 f and
n, a step costs 3 f + 2 n an unroll end to end, 4 f + 3 n checkpointed and 3 f + n greedily: a detached hand-off needs
no way back through A^H A. f and n are measured in the same run. The prediction leaves out the sums and products
between the two and Adam. The goals take the worst of all depths. With 32 coils and 16 channels A^H A is no longer
negligible, and the same formula predicts more than 1.4.

*Graph* shows that autograd builds no backward transform in a greedy stage, by counting the nodes behind the losses. End
to end it builds two in every unroll but the first. The backward pass into the first convolution's input is not spared
while the step size is learned, since the step size's own gradient comes from there; with a fixed one it is.

*Invertible* has all four regimes, on networks that can be undone: MoDL with weight 4 and ten conjugate gradients, and
proximal gradient with t = 0.5, both with a contractive CNN, which finds the norms of its kernels anew for every batch.
That takes as long for a small image as for a large one, and brings the ratios of times nearer to one.
``inverse_error`` is that of the first image, ``gradient_error`` that of all weights together against end to end. Greedy
training has other losses and hence another gradient. With t = 1 a step cannot be undone; the refusal stands under
``missing``.

*Pipeline* is two processes with one thread each, half of the stages in each, against the ceiling of this machine: two
processes that train one half each and know nothing of each other. Filling and draining the pipeline is included, in
blocks of 40 batches (`benchmarks.greedy_pipeline`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from benchmarks.greedy_memory import backward_nodes
from benchmarks.greedy_pipeline import PIPELINE, Blocks, batches_per_second, ratio
from benchmarks.greedy_rows import Row, compared, described, number, quartiles, say
from benchmarks.greedy_training import REGIMES, Case, Training
from benchmarks.measure import Goal, Report, in_turn
from mrirecon.errors import InputError
from mrirecon.inversion import inverse_errors
from mrirecon.unrolled import ProximalGradient

THREE = ("end-to-end", "checkpointed", "greedy")
INVERTIBLE = ("MoDL 4, Contractive", "PGD t=0.5, Contractive")
REFUSED = "PGD t=1, Contractive"
CALLS = 10  # of f and of n, on the clock at a time


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often a step is repeated."""

    case: Case
    depths: tuple[int, ...]
    many_coils: Case
    invertible: Case
    pipeline: Blocks
    repeats: int = 15


FULL = Plan(  # about 20 minutes, on two cores that have nothing else to do
    case=Case(size=128),
    depths=(4, 8, 16, 32),
    many_coils=Case(size=128, n_coils=32, channels=16),
    invertible=Case(size=192, channels=48),
    pipeline=Blocks(Case(size=96), n_batches=40, n_rounds=17),
)


def measure(plan: Plan = FULL) -> Report:
    torch.set_num_threads(1)
    cases = [replace(plan.case, n_steps=n) for n in plan.depths]
    depth = [compared("depth", case, THREE, plan.repeats) for case in cases]
    coils = compared("many coils", plan.many_coils, THREE, plan.repeats)
    compared_cases = [*zip(cases, depth, strict=True), (plan.many_coils, coils)]
    *ratios, many_coils = [ratios_of(case, rows, plan.repeats) for case, rows in compared_cases]
    deeper = growth_by_depth(plan.depths, depth[0], depth[-1])
    missing: dict[str, str] = {}
    invertible = invertible_rows(plan, missing)
    pipeline = pipeline_rows(plan.pipeline)
    rows = [row for table in (*depth, coils) for row in table.values()]
    rows += [*ratios, many_coils, *deeper.values(), *graph_rows(plan.case), *invertible, *pipeline.values()]
    goals = {
        "greedy_memory_32_vs_4": Goal(number(deeper["greedy"], "saved"), 1.05, "lower"),
        "checkpoint_time_vs_greedy": Goal(min(number(r, "checkpointed/greedy") for r in ratios), 1.25, "higher"),
        "greedy_time_vs_end_to_end": Goal(max(number(r, "greedy/end-to-end") for r in ratios), 1.03, "lower"),
        "pipeline_vs_ceiling": Goal(number(pipeline[PIPELINE], "of_ceiling"), 0.95, "higher"),
    }
    return Report(rows, goals, ("torch", "numpy", "mrirecon"), missing)


def ratios_of(case: Case, rows: Mapping[str, Row], repeats: int) -> Row:
    """Measured beside predicted; in processor time, and on a GPU in time by the clock."""
    f, n = costs(case, repeats)
    end_to_end, checkpointed, greedy = (rows[regime] for regime in THREE)
    clock = "wall_s" if case.device == "cuda" else "cpu_s"
    predicted = (4 * f + 3 * n) / (3 * f + n)
    measured = number(checkpointed, clock) / number(greedy, clock)
    return {
        "table": "ratios",
        **described(case),
        "f_ms": 1e3 * f,
        "n_ms": 1e3 * n,
        "checkpointed/greedy": measured,
        "predicted": predicted,
        "above 1.4": f"{'yes' if measured > 1.4 else 'no'}, predicted {'yes' if predicted > 1.4 else 'no'}",
        "greedy/end-to-end": number(greedy, clock) / number(end_to_end, clock),
        "predicted too": (3 * f + n) / (3 * f + 2 * n),
        "saved: greedy/checkpointed": number(greedy, "saved_MB") / number(checkpointed, "saved_MB"),
    }


@torch.no_grad()
def costs(case: Case, repeats: int) -> tuple[float, float]:
    """Seconds of one forward pass of the denoiser and of one A^H A, without a graph."""
    training = Training.of(replace(case, n_steps=1), "greedy")
    (problem, _), step = training.batch, training.net.sequence[0]
    assert isinstance(step, ProximalGradient)

    def often(function: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def call() -> None:
            for _ in range(CALLS):
                function(problem.AHy)
            if case.device == "cuda":
                torch.cuda.synchronize()

        return call

    taken = in_turn({"f": often(step.denoiser), "n": often(problem.A.normal)}, repeats)
    f, n = (median(t.wall if case.device == "cuda" else t.cpu for t in taken[name]) / CALLS for name in ("f", "n"))
    return f, n


def growth_by_depth(depths: Sequence[int], first: Mapping[str, Row], last: Mapping[str, Row]) -> dict[str, Row]:
    """Memory of the deepest network over that of the shallowest."""
    return {
        regime: {
            "table": "memory by depth",
            "regime": regime,
            "unrolls": f"{depths[-1]} over {depths[0]}",
            "saved": number(last[regime], "saved_MB") / number(first[regime], "saved_MB"),
            "grown": number(last[regime], "grown_MB") / number(first[regime], "grown_MB"),
        }
        for regime in THREE
    }


def graph_rows(case: Case) -> list[Row]:
    rows: list[Row] = []
    for regime in ("end-to-end", "greedy"):
        for learned in (True, False):
            training = Training.of(case, regime)
            for step in training.net.sequence:
                assert isinstance(step, ProximalGradient)
                step.step_size.requires_grad_(learned)
            step_size = "learned" if learned else "fixed"
            rows.append(
                {"table": "graph", **described(case), "regime": regime, "step_size": step_size}
                | backward_nodes(training)
            )
    return rows


def invertible_rows(plan: Plan, missing: dict[str, str]) -> list[Row]:
    rows = []
    for network in INVERTIBLE:
        case = replace(plan.invertible, network=network)
        reference = Training.of(case, "end-to-end").gradient()
        for regime, row in compared("invertible", case, tuple(REGIMES), plan.repeats).items():
            training = Training.of(case, regime)
            row |= {"inverse_error": "", "gradient_error": "other losses"}
            if regime != "greedy":
                row["gradient_error"] = float((training.gradient() - reference).norm() / reference.norm())
            if regime == "inverted":
                problem, _ = training.batch
                row["inverse_error"] = inverse_errors(training.net.sequence, problem.AHy, problem)[0]
            rows.append(row)
    refused = replace(plan.invertible, network=REFUSED)
    try:
        Training.of(refused, "inverted").step()
    except InputError as error:
        missing[f"inverted, {REFUSED}"] = str(error).split(". ")[0]
    return rows


def pipeline_rows(blocks: Blocks) -> dict[str, Row]:
    # With two GPUs it is they that are measured, else two processors.
    device = "cuda" if torch.cuda.device_count() >= 2 else "cpu"
    blocks = replace(blocks, case=replace(blocks.case, device=device))
    say(f"pipeline: {blocks}")
    found = batches_per_second(blocks)
    rows = {}
    for way, rates in found.items():
        low, middle, high = quartiles(rates)
        rows[way] = {
            "table": "pipeline",
            **described(blocks.case),
            "way": way,
            "batches_per_s": middle,
            "batches_per_s_25%": low,
            "batches_per_s_75%": high,
            "of_ceiling": ratio(found, way),
        }
    return rows
