"""Claims about the data module under Lightning: order and resume exact, errors readable."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from mrirecon.data.module import FastMRIData
from mrirecon.errors import InputError
from mrirecon.physics.calibration import Calibration
from mrirecon.physics.sampling import Sampling

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


class Recorder(pl.LightningModule):
    """A module that learns nothing and notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple] = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch.index, batch.volume, batch.mask.sum().item()))
        assert batch.maps.shape == (len(batch.kspace), 1, *batch.kspace.shape[1:])
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        assert batch.full is not None and batch.maps is not None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def data_of(tmp_path, make_volume):
    for i in range(2):
        make_volume(f"set/multicoil_train/file{i}.h5", seed=i)
    make_volume("set/multicoil_val/file2.h5", shape=(1, 4, 32, 24))

    def make(**given) -> FastMRIData:
        arguments = {
            "path": str(tmp_path / "set"),
            "sampling": Sampling("random", (2,), (1 / 3,)),
            "calibration": Calibration(kernel=3, iterations=2),
            "maps": str(tmp_path / "maps"),
            "seed": 4,
        }
        return FastMRIData(**arguments | given)

    return make


def fit(data, folder, max_epochs, ckpt_path=None, **every):
    module = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[ModelCheckpoint(folder, filename="{epoch}-{step}", save_top_k=-1, **every)],
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return module.seen


@pytest.mark.parametrize("at", [1, 4, 6, 8, 12])
def test_a_run_resumed_anywhere_sees_what_an_uninterrupted_one_sees(data_of, tmp_path, at):
    whole = fit(data_of(), tmp_path / "whole", 3, every_n_train_steps=at)
    assert len(whole) == 18 and len({entry[2:] for entry in whole[:6]}) == 6
    (kept,) = (tmp_path / "whole").glob(f"*-step={at}.ckpt")
    resumed = fit(data_of(), tmp_path / "resumed", 3, ckpt_path=kept, every_n_train_steps=at)
    assert resumed == whole[at:]


def test_a_run_resumed_from_the_end_of_an_epoch_starts_the_next(data_of, tmp_path):
    whole = fit(data_of(batch_size=2), tmp_path / "whole", 3, every_n_epochs=1)
    (kept,) = (tmp_path / "whole").glob("epoch=1-*.ckpt")
    assert fit(data_of(batch_size=2), tmp_path / "resumed", 3, ckpt_path=kept, every_n_epochs=1) == whole[6:]


def test_folders_follow_fastmris_names_and_may_be_given(data_of, make_volume):
    mask = np.ones(24)
    test = make_volume("elsewhere/file9.h5", with_target=False, datasets={"mask": mask})
    data = data_of(test=str(test))
    with pytest.raises(InputError, match="has no target image to compare with"):
        data.test_dataloader()
    assert [batch.volume for batch in data.predict_dataloader()] == [(str(test),)] * 3
    assert [batch.index for batch in data.predict_dataloader()] == [(0,), (1,), (2,)]
    with pytest.raises(InputError, match="singlecoil_val does not exist"):
        data_of(challenge="singlecoil").val_dataloader()
    with pytest.raises(InputError, match="no files for train"):
        FastMRIData().train_dataloader()


def test_part_of_the_volumes_is_the_same_part_again(data_of):
    parts = [{batch.volume for batch in data_of(volume_sample_rate=0.5).train_dataloader()} for _ in range(2)]
    assert parts[0] == parts[1] and len(parts[0]) == 1


def test_wrong_numbers_are_refused_with_their_value(data_of):
    for wrong in ({"batch_size": 0}, {"num_workers": -1}, {"volume_sample_rate": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            data_of(**wrong)
