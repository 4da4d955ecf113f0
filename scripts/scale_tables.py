"""The tables of the scale study, for the docs."""

from __future__ import annotations

from study import DIGITS, UNITS, against, spread


def scale_study(report: dict) -> str:
    """All networks in distribution, then what the equivariant one has more than the others in groups of tests."""
    rows = {(r["network"], r["augmented"], r["volumes"]): r for r in report["rows"]}
    networks, volumes = (list(dict.fromkeys(key[i] for key in rows)) for i in (0, 2))
    kinds = [(network, augmented) for network in networks for augmented in (False, True)]
    names = [f"{network}{', augmented' if augmented else ''}" for network, augmented in kinds]
    lines = [f"| in distribution, PSNR and SSIM | {' | '.join(names)} |", "|---" * (len(kinds) + 1) + "|"]
    cells = [f"{report['weights'][network]:,}, {report['saved_MB'][network]:.0f} MB" for network, _ in kinds]
    lines.append(f"| weights, activations | {' | '.join(cells)} |")
    for n in volumes:
        cells = []
        for kind in kinds:
            psnr, ssim = (
                spread(rows[*kind, n]["scores"]["in distribution"][score], n_) for score, n_ in DIGITS.items()
            )
            cells.append(f"{psnr} dB, {ssim}")
        lines.append(f"| {n} volume{'s' * (n > 1)} | {' | '.join(cells)} |")
    for other, score in (("ordinary", "psnr"), ("ordinary", "ssim"), ("one scale", "psnr")):
        for augmented in (False, True):
            found = [r for r in report[f"equivariant_minus_{other.replace(' ', '_')}"] if r["augmented"] == augmented]
            title = f"scale-equivariant minus {other}{', both augmented' if augmented else ''}: {UNITS[score]} [95 %]"
            heads = [f"{r['volumes']} volume{'s' * (r['volumes'] > 1)}" for r in found]
            lines += ["", f"| {title} | {' | '.join(heads)} |", "|---" * (len(found) + 1) + "|"]
            for group in found[0]["groups"]:
                lines.append(f"| {group} | {' | '.join(against(r['groups'][group][score], score) for r in found)} |")
    return "\n".join([*lines, "", *augmentation(report), "", *changed_networks(report)])


def augmentation(report: dict) -> list[str]:
    """What scale augmentation gives each network, in distribution and on the measured slice."""
    rows = {(r["network"], r["volumes"]): r["groups"] for r in report["augmented_minus_plain"]}
    networks, volumes = (list(dict.fromkeys(key[i] for key in rows)) for i in (0, 1))
    heads = [f"{n} volume{'s' * (n > 1)}" for n in volumes]
    lines = [
        f"| augmented minus plain: {UNITS['psnr']} [95 %] | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for network in networks:
        for group in ("in distribution", "measured"):
            cells = [against(rows[network, n][group]["psnr"]) for n in volumes]
            lines.append(f"| {network}, {group} | {' | '.join(cells)} |")
    return lines


def changed_networks(report: dict) -> list[str]:
    """The scale-equivariant network with one thing changed, beside it and the ordinary one."""
    groups, others = ("in distribution", "measured, larger pixels"), ("equivariant", "ordinary")
    columns = [(other, group) for other in others for group in groups]
    heads = [
        f"minus {'scale-' * (other == 'equivariant')}{other}, {group}: {UNITS['psnr']} [95 %]"
        for other, group in columns
    ]
    title = f"one thing changed, {report['changed'][0]['volumes']} volumes"
    lines = [f"| {title} | weights | activations | {' | '.join(heads)} |", "|---" * (len(heads) + 3) + "|"]
    for row in report["changed"]:
        name = row["network"]
        found = [against(row[f"minus_{other}"]["groups"][group]["psnr"]) for other, group in columns]
        cells = [name, f"{report['weights'][name]:,}", f"{report['saved_MB'][name]:.0f} MB", *found]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
