"""The quickstart in small: every command of it runs, and its last line is the path of a picture."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_quickstart_runs_and_ends_with_the_path_of_its_picture(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.chdir(tmp_path)  # which is also where the working directory returns to
    quickstart = importlib.import_module("quickstart")
    size = quickstart.Size(train=2, val=1, test=2, pixels=96, epochs=1)
    assert quickstart.main(size, tmp_path / "quickstart") == 0
    lines = capfd.readouterr().out.strip().splitlines()
    assert Path(lines[-1]) == tmp_path / "quickstart" / "comparison.png"
    assert Path(lines[-1]).stat().st_size > 10_000
    scores = json.loads((tmp_path / "quickstart" / "scores.json").read_text())["volumes"]
    psnr = {(v["file"], v["reconstruction"]): v["psnr"] for v in scores}
    assert len(psnr) == 2 * 3
    gains = [psnr[file, "network"] - psnr[file, "cg-sense"] for file, name in psnr if name == "cg-sense"]
    assert f"{sum(gains) / 2:+.2f} dB on average" in lines[-3], lines


def test_held_out_volumes_share_no_seed_with_training() -> None:
    # A volume's random numbers come from (seed, split, volume), and each split has a number of its own.
    splits = importlib.import_module("mrirecon.data.simulated").SPLITS
    assert sorted(splits) == ["test", "train", "val"] and len(set(splits.values())) == 3


@pytest.mark.parametrize(("better", "words"), [(2, "2 of 2"), (1, "1 of 2")])
def test_the_margin_is_counted_volume_by_volume(tmp_path, monkeypatch, better, words) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    volumes = [
        {"file": f"v{i}", "reconstruction": name, "psnr": psnr}
        for i in range(2)
        for name, psnr in (("cg-sense", 30.0), ("network", 31.5 if i < better else 30.5))
    ]
    (tmp_path / "scores.json").write_text(json.dumps({"volumes": volumes}))
    text = importlib.import_module("quickstart").margin(tmp_path / "scores.json")
    assert f"at least +1 dB on {words} held-out volumes" in text
