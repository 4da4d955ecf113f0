"""Write the tables of README and docs from the measurements in benchmarks/; never edit them by hand."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from statistics import fmean

from convex_tables import convex_study
from measured_scan import markdown
from scale_tables import scale_study
from study import against

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def filled(text: str) -> str:
    """The text with the table of each marker made anew."""

    def table(match: re.Match[str]) -> str:
        name = OTHER_FILES.get(match[1], match[1])
        report = json.loads((ROOT / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]](report)}\n\n{machine(report)}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def operators(report: dict) -> str:
    rows = {(r["scan"], r["side"]): r["fft_pairs"] for r in report["rows"] if r["operation"] == "normal"}
    scans = {
        "knee_1d": "15x640x368, lines",
        "knee_2d": "2-D mask",
        "brain_1d": "16x384x384, lines",
        "brain_2d": "2-D mask",
    }
    sides = [side for scan, side in rows if scan == "knee_1d" and side != "fft pair"]
    lines = [f"| AᴴA | {' | '.join(scans.values())} |", "|---" * (len(scans) + 1) + "|"]
    return "\n".join(lines + [f"| {s} | {' | '.join(f'{rows[scan, s]:.2f}' for scan in scans)} |" for s in sides])


def loader(report: dict) -> str:
    lines = ["| 15x640x368, page cache warm, one process | slices/s |", "|---|---|"]
    return "\n".join(lines + [f"| {r['side']} | {r['slices_per_s']:.0f} |" for r in report["rows"]])


def greedy(report: dict) -> str:
    rows = [r for r in report["rows"] if r["table"] == "depth"]
    cells = {(r["unrolls"], r["regime"]): f"{r['cpu_s']:.2f} s, {r['saved_MB']:.0f} MB" for r in rows}
    depths, regimes = (list(dict.fromkeys(keys)) for keys in zip(*cells, strict=True))
    ratios = {r["unrolls"]: r for r in report["rows"] if r["table"] == "ratios" and r["coils"] == rows[0]["coils"]}
    lines = [
        f"| unrolls | {' | '.join(regimes)} | checkpointed / greedy (predicted) |",
        "|---" * (len(regimes) + 2) + "|",
    ]
    for n in depths:
        ratio = f"{ratios[n]['checkpointed/greedy']:.2f} ({ratios[n]['predicted']:.2f})"
        lines.append(f"| {n} | {' | '.join(cells[n, regime] for regime in regimes)} | {ratio} |")
    lines += ["", "| on two cores, one thread each | batches/s | of the ceiling |", "|---|---|---|"]
    ways = [r for r in report["rows"] if r["table"] == "pipeline"]
    return "\n".join(lines + [f"| {r['way']} | {r['batches_per_s']:.2f} | {r['of_ceiling']:.2f} |" for r in ways])


def greedy_more(report: dict) -> str:
    """Where A^H A is not negligible, and networks that can be undone."""
    lines = [
        "| network | regime | CPU time of a step | saved | error of the inverse | of the gradient |",
        "|---" * 6 + "|",
    ]
    for r in report["rows"]:
        if r["table"] in ("many coils", "invertible"):
            coils = f", {r['coils']} coils x {r['channels']} channels" if r["table"] == "many coils" else ""
            errors = [r.get(key, "") for key in ("inverse_error", "gradient_error")]
            shown = [e if isinstance(e, str) else f"{e:.1e}" if e else "0" for e in errors]
            cells = [r["network"] + coils, r["regime"], f"{r['cpu_s']:.2f} s", f"{r['saved_MB']:.0f} MB", *shown]
            lines.append(f"| {' | '.join(cells)} |")
    (many,) = (r for r in report["rows"] if r["table"] == "ratios" and r["coils"] == 32)
    ratio = (
        f"{many['checkpointed/greedy']:.2f} times as long as greedy training, by the formula {many['predicted']:.2f}"
    )
    return "\n".join([*lines, "", f"With 32 coils checkpointing takes {ratio}."])


def greedy_study(report: dict) -> str:
    lines = [
        "| equal | network | activations | weights | updates | simulated: PSNR (dB) | against the first | SSIM | "
        "measured slice: PSNR (dB) | against the first | SSIM |",
        "|---" * 11 + "|",
    ]
    for r in report["rows"]:
        cells = [r["budget"], r["network"], f"{report['saved_MB'][r['network']]:.1f} MB"]
        patience = f" ({n} of {r['seeds']} by patience)" if (n := sum(r["by_patience"])) else ""
        cells += [f"{report['weights'][r['network']]:,}", f"{fmean(r['trained']):.0f}{patience}"]
        for data in ("simulated", "measured"):
            cells += [f"{r[f'{data}_psnr']:.2f}", against(r.get(f"{data}_psnr_difference")), f"{r[f'{data}_ssim']:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    (updates, time) = (r for r in report["rows"] if r["network"] == "greedy, 24 steps in 3 stages")
    key = "psnr_against_checkpointed"
    found = [against(row[f"{data}_{key}"]) for data in ("simulated", "measured") for row in (updates, time)]
    lines += [
        "",
        "PSNR in dB of the 24 steps in 3 stages against the 24 steps end to end, with checkpointing: simulated "
        f"{found[0]} at equal updates, {found[1]} at equal time; measured slice {found[2]}, and {found[3]}.",
    ]
    return "\n".join(lines)


def kills(report: dict) -> str:
    killed = [kill for row in report["rows"] for kill in row["kills"]]
    cells = {
        "killed trainings": len(report["rows"]),
        "kills": len(killed),
        "of them in one process": sum(kill["processes"] == 1 for kill in killed),
        "gone on from inside an epoch": report["resumed_inside_an_epoch"],
        "same bits in the end": report["equal"],
    }
    return "\n".join(
        [f"| {' | '.join(cells)} |", "|---" * len(cells) + "|", f"| {' | '.join(map(str, cells.values()))} |"]
    )


def denoisers(report: dict) -> str:
    columns = {
        "denoiser": "denoiser",
        "kernels": "kernels",
        "weights": "weights",
        "kept_MB": "activations",
        "arithmetic": "arithmetic",
        "uncropped": "the same, uncropped",
        "train": "training step",
        "infer": "inference",
        "train per arithmetic": "training step per arithmetic",
        "infer per arithmetic": "inference per arithmetic",
        "layer error": "error of a layer",
    }
    forms = {"weights": "{:,}", "kept_MB": "{:.0f} MB", "layer error": "{:.4f}"}
    lines = [f"| {' | '.join(columns.values())} |", "|---" * len(columns) + "|"]
    for r in report["rows"]:
        if r["table"] == "cost":
            cells = [v if isinstance(v := r[c], str) else forms.get(c, "{:.2f}").format(v) for c in columns]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def equivariance(report: dict) -> str:
    """Ratios of errors, and the PSNR at which trained weights are compared."""
    rows = [r for r in report["rows"] if r["table"] == "equivariance"]
    scales = list(dict.fromkeys(r["scale"] for r in rows))
    lines = [f"| weights | error | {' | '.join(f'x {s:g}' for s in scales)} |", "|---" * (len(scales) + 2) + "|"]
    for weights, name in dict.fromkeys((r["weights"], r["denoiser"]) for r in rows):
        of = [r for r in rows if (r["weights"], r["denoiser"]) == (weights, name)]
        for first, who, key in ((weights, "ResNet", "ResNet"), ("", name, "equivariant")):
            line = f"| {first} | {who} | {' | '.join(f'{r[key]:.4f}' for r in of)} |"
            lines += [line] * (line not in lines)  # with random weights the ResNet is the same beside all others
        spread = [f"{r['ratio']:.2f} ({r['least']:.2f} to {r['most']:.2f})" for r in of]
        lines.append(f"| | {name} / ResNet (95 %) | {' | '.join(spread)} |")
    own = [f"{r['of resampling']:.4f}" for r in of]
    lines.append(f"| | of resampling alone | {' | '.join(own)} |")
    return "\n".join(lines)


def convex(report: dict) -> str:
    """Seconds to within 1e-4 of the minimum, and what became of those who did not come there."""
    rows = [r for r in report["rows"] if r["table"] == "solvers"]
    sides = [side for side in dict.fromkeys(r["side"] for r in rows) if side != "mrirecon"]
    of = {(r["patches"], r["kernel"], r["gates"], r["fraction"], r["side"]): r for r in rows}
    lines = [
        f"| patches | gates | strength | active | mrirecon | its certificate | rounds | passes | {' | '.join(sides)} |",
        "|---" * (8 + len(sides)) + "|",
    ]
    for r in rows:
        if r["side"] == "mrirecon":
            size = r["patches"], r["kernel"], r["gates"], r["fraction"]
            cells = [f"{size[0]:,} of {size[1]}x{size[1]}", f"{size[2]:,}", f"{size[3]:g}", r["active"], taken(r)]
            cells += [proved(r), r["iterations"], f"{r['passes']:.0f}" if r["passes"] else ""]
            cells += [taken(of[*size, side]) if (*size, side) in of else "" for side in sides]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def proved(row: dict) -> str:
    """The time to our solver's own certificate; or the gap at which it ended, if it came so far."""
    if row["certified_s"]:
        return seconds(row["certified_s"])
    return f"{row['certified_gap']:.1e} after {row['after_s']:.0f} s" if row["certified_gap"] else ""


def seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 100 else f"{value:.0f} s"


def taken(row: dict) -> str:
    """The time a solver took; or its limit and how near it came."""
    if row["seconds"]:
        return seconds(row["seconds"])
    if row["reached"] == "" or row["reason"] == "memory":
        return row["reason"]
    return f"{row['reached']:.1e} after {row['after_s']:.0f} s"


def convex_growth(report: dict) -> str:
    keys = ("K_s", "K^T_s", "gram_s")
    lines = ["| patches | gates | K | its transpose | Gram matrix of a working set |", "|---|---|---|---|---|"]
    for r in report["rows"]:
        if r["table"] == "growth":
            size = f"{r['patches']:,} of {r['kernel']}x{r['kernel']} | {r['gates']:,}"
            lines.append(f"| {size} | {' | '.join(f'{r[key]:.2f} s' for key in keys)} |")
        elif r["table"] == "exponents":
            lines.append(f"| exponent of {r['of']} | | {' | '.join(f'{r[key]:.2f}' for key in keys)} |")
    return "\n".join(lines)


def machine(report: dict) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in report["versions"].items() if v != "not installed")
    computer = report["machine"]
    return f"<sub>{report['date']}, {computer['cpu']}, {computer['cores']} cores, no GPU; {versions}</sub>"


TABLES = {
    "measured_brain": markdown,
    "operators": operators,
    "loader": loader,
    "greedy": greedy,
    "greedy_more": greedy_more,
    "greedy_study": greedy_study,
    "kills": kills,
    "denoisers": denoisers,
    "equivariance": equivariance,
    "scale_study": scale_study,
    "convex": convex,
    "convex_growth": convex_growth,
    "convex_study": convex_study,
}

OTHER_FILES = {"greedy_more": "greedy", "equivariance": "denoisers", "convex_growth": "convex"}

if __name__ == "__main__":
    sys.exit(main())
