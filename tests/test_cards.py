"""Every shipped card works: networks and regimes train for two steps, data cards are read, names are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mrirecon import checkpoint
from mrirecon.cards import cards, locate
from mrirecon.cli import main
from mrirecon.errors import InputError

TINY = {"slices": 1, "coils": 2, "shapes": [[32, 32]], "train": 2, "val": 1, "test": 1}
GROUPS = {group: [name for name in cards() if name.startswith(group)] for group in ("datasets", "models", "train")}
PAIRS = [(model, "train/end_to_end") for model in GROUPS["models"]]
# A residual CNN has no inverse; test_refused_training.py has the refusal.
PARTNERS = {"train/inverted": "models/modl_contractive", "train/convex": "models/pgd_convex"}
PAIRS += [("models/pgd_convex", "train/greedy")]  # by gradients, as any network
PAIRS += [(PARTNERS.get(train, "models/pgd_resnet"), train) for train in GROUPS["train"] if train != "train/end_to_end"]


@pytest.mark.parametrize(("model", "train"), PAIRS)
def test_a_network_trains_two_steps_in_a_regime(model: str, train: str, tmp_path: Path) -> None:
    small = tmp_path / "small.yaml"
    sampling = {"accelerations": [3], "center_fractions": [0.2]}
    trainer = {"max_epochs": 1, "check_val_every_n_epoch": 1, "enable_progress_bar": False}
    data = {"path": str(tmp_path), "simulated": TINY, "sampling": sampling, "test_sampling": None}
    small.write_text(yaml.safe_dump({"data": data, "trainer": {**trainer, "enable_model_summary": False}}))
    run = tmp_path / "run"
    convex = train == "train/convex"
    command = "convex-fit" if convex else "fit"
    if convex:  # no epochs; and its card's size would take a minute
        denoiser = {"init_args": {"n_gates": 20, "kernel_size": 3}}
        small.write_text(yaml.safe_dump({"data": data, "model": {"net": {"init_args": {"denoiser": denoiser}}}}))
    words = [command, "-c", "datasets/phantom", "-c", model, "-c", train, "-c", str(small), "--run", str(run)]
    assert main(words) == 0
    assert checkpoint.load(run).net.sequence


@pytest.mark.parametrize("data", GROUPS["datasets"])
def test_a_data_card_is_read(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "-c", data, "-c", "models/pgd_resnet", "-c", "train/greedy", "--print_config"])
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["data"]["sampling"]["accelerations"]


def test_cards_begin_with_what_they_are_and_hold_only_their_group() -> None:
    allowed = {"datasets": {"data"}, "models": {"model"}, "train": {"model", "trainer", "convex"}}
    for name, path in cards().items():
        text = path.read_text(encoding="utf-8")
        group, settings = name.split("/")[0], yaml.safe_load(text)
        assert text.startswith("# ") and len(text.splitlines()[0]) <= 120
        assert set(settings) <= allowed[group]
        assert ("net" in settings.get("model", {})) == (group == "models")


def test_each_folder_lists_its_cards() -> None:
    for group, names in GROUPS.items():
        readme = (cards()[names[0]].parent / "README.md").read_text(encoding="utf-8")
        for name in names:
            first = cards()[name].read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
            assert f"| `{name}` | {first} |" in readme, f"{group}/README.md lacks the line of {name}"


def test_a_card_is_found_by_path_by_name_and_by_short_name(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("trainer: {}")
    assert locate(str(own)) == own
    names = ("models/pgd_resnet", "models/pgd_resnet.yaml", "pgd_resnet")
    assert len({locate(name).resolve() for name in names}) == 1


def test_an_unknown_card_lists_those_there_are() -> None:
    with pytest.raises(InputError, match=r"there is no card 'pgd'(.|\n)*models/pgd_resnet"):
        locate("pgd")
