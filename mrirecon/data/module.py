"""A folder of fastMRI files as Lightning's data module: which files, which masks, in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from mrirecon.data.batches import Batches
from mrirecon.data.fastmri import list_volumes, read_volume
from mrirecon.data.loader import loader
from mrirecon.data.maps import MapCache, cache_folder
from mrirecon.data.scaling import check_scales
from mrirecon.data.simulated import Simulation, Split
from mrirecon.data.slices import Slice, Slices
from mrirecon.errors import InputError
from mrirecon.physics.calibration import Calibration
from mrirecon.physics.sampling import Sampling
from mrirecon.progress import bar

Stage = Split | Literal["predict"]


class FastMRIData(LightningDataModule):
    """Training, validation and test slices from fastMRI files.

    The order and the masks of training depend on the seed and the epoch alone; a checkpoint in the middle of an epoch
    resumes with the batch that came next. The trainer needs ``use_distributed_sampler: false``.

    Args:
        path: Folder that holds ``multicoil_train``, ``multicoil_val`` and ``multicoil_test`` (or ``singlecoil_...``).
        challenge: Which of fastMRI's folders are meant: ``multicoil`` or ``singlecoil``.
        train: File or folder to train on, instead of the one in ``path``.
        val: File or folder to validate on, instead of the one in ``path``.
        test: File or folder to test on, instead of the one in ``path``.
        predict: File or folder to reconstruct; the test files unless given.
        simulated: Simulate the files on first use, into a folder in ``path``, or in the user's cache folder.
        sampling: How fully sampled files are undersampled; in training anew for each slice and epoch.
        scales: Scale augmentation: in every epoch a training slice is enlarged by one of these factors, such as [0.7,
            0.85, 1, 1.2, 1.4]; its maps are estimated, and kept, once for each. As measured unless given.
        test_sampling: The same for validation, test and prediction, one mask per volume by fastMRI's file-name rule;
            as in training unless given.
        calibration: How sensitivity maps are estimated.
        maps: Folder to keep estimated maps in; beside the data unless given.
        batch_size: Slices per training batch, all of one shape.
        num_workers: Processes that read ahead; 0 reads in the training process.
        seed: Of order and masks in training, and of the choice of volumes.
        volume_sample_rate: Part of the training volumes to use, 0 to 1.
        val_volume_sample_rate: Part of the validation volumes to use, 0 to 1.
    """

    def __init__(
        self,
        path: str | None = None,
        challenge: Literal["multicoil", "singlecoil"] = "multicoil",
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        predict: str | None = None,
        simulated: Simulation | None = None,
        sampling: Sampling = Sampling(),
        scales: list[float] | None = None,
        test_sampling: Sampling | None = None,
        calibration: Calibration = Calibration(),
        maps: str | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        volume_sample_rate: float = 1.0,
        val_volume_sample_rate: float = 1.0,
    ) -> None:
        super().__init__()
        for name, rate in (("volume", volume_sample_rate), ("val_volume", val_volume_sample_rate)):
            if not 0 < rate <= 1:
                raise InputError(f"{name}_sample_rate={rate}; expected more than 0 and at most 1")
        if batch_size < 1 or num_workers < 0 or seed < 0:
            raise InputError(
                f"batch_size={batch_size}, num_workers={num_workers}, seed={seed}; expected at least 1, 0 and 0"
            )
        self.simulated = simulated
        if simulated is not None:
            path = str((cache_folder() if path is None else Path(path)) / f"simulated-{simulated.digest}")
        given: dict[Split, str | None] = {"train": train, "val": val, "test": test}
        self.made = [split for split, folder in given.items() if simulated is not None and folder is None]
        self.folders: dict[str, Path | None] = {
            stage: _folder(path, f"{challenge}_{stage}", folder) for stage, folder in given.items()
        }
        self.folders["predict"] = self.folders["test"] if predict is None else Path(predict)
        self.sampling = sampling
        self.scales = check_scales(scales)
        self.test_sampling = sampling if test_sampling is None else test_sampling
        self.calibration = calibration
        self.maps = MapCache(maps, calibration)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.rates = {"train": volume_sample_rate, "val": val_volume_sample_rate}
        self.keep_full = True  # give the k-space before undersampling too; unset for losses on the magnitude
        self._position = {"epoch": 0, "batches": 0, "replicas": 1}

    def prepare_data(self) -> None:
        """Simulate the files that are still missing; Lightning calls this in one process."""
        if self.simulated is None:
            return
        for split in self.made:
            paths = self.simulated.paths(self.folder(split), split)
            if not all(path.exists() for path in paths):
                with bar(f"simulating {split}", len(paths)) as advance:
                    self.simulated.fill(paths, split, advance)

    def train_dataloader(self) -> DataLoader[Slice]:
        slices = self._slices("train", self.sampling, self.seed, self.keep_full)
        batches = self._batches(slices, self.batch_size, self.seed)
        position, self._position = self._position, {"epoch": 0, "batches": 0, "replicas": batches.world}
        if position["batches"] and position["replicas"] != batches.world:
            raise InputError(
                f"the checkpoint lies inside an epoch that {position['replicas']} replicas share, so {batches.world} "
                "cannot go on from it; use as many, or a checkpoint from the end of an epoch"
            )
        batches.resume(position["epoch"], position["batches"])
        return loader(slices, batches, self.num_workers)

    def val_dataloader(self) -> DataLoader[Slice]:
        return self._in_order("val", self.keep_full)

    def test_dataloader(self) -> DataLoader[Slice]:
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[Slice]:
        return self._in_order("predict")

    def on_after_batch_transfer(self, batch: Slice, dataloader_idx: int) -> Slice:
        """Maps are estimated, or fetched, for the batch on the training device, not by the reading workers."""
        return self.maps.attach(batch)

    def state_dict(self) -> dict[str, Any]:
        """The epoch and how many of its batches are done, for a checkpoint."""
        if self.trainer is None:
            return dict(self._position)
        loop = self.trainer.fit_loop
        epoch = max(loop.epoch_progress.current.ready - 1, 0)
        # "processed" counts a batch whose step was taken; "completed" still lacks it while callbacks save.
        batches = loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]  # its declared type is the base class
        if batches >= loop.max_batches:
            epoch, batches = epoch + 1, 0
        return {"epoch": epoch, "batches": batches, "replicas": self._replica()[1]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Where the next ``train_dataloader`` begins."""
        position = {key: int(state_dict[key]) for key in ("epoch", "batches")}
        self._position = {**position, "replicas": int(state_dict.get("replicas", 1))}

    def _in_order(self, stage: Stage, keep_full: bool = False) -> DataLoader[Slice]:
        # One slice at a time: volumes differ in shape, and scores are of volumes, whatever the batch.
        slices = self._slices(stage, self.test_sampling, None, keep_full, whole_volumes=True)
        return loader(slices, self._batches(slices, 1, None), self.num_workers)

    def folder(self, stage: Stage) -> Path:
        """File or folder of ``train``, ``val``, ``test`` or ``predict``; InputError where none was given."""
        folder = self.folders[stage]
        if folder is None:
            raise InputError(f"no files for {stage}; give --data.path or --data.{stage}")
        return folder

    def paths(self, stage: Stage) -> list[Path]:
        """The files of a stage; InputError where there are none."""
        split: Split = "test" if stage == "predict" else stage
        if self.simulated is not None and split in self.made and self.folder(stage) == self.folder(split):
            return self.simulated.paths(self.folder(split), split)
        return list_volumes(self.folder(stage))

    def used(self, stage: Stage) -> list[Path]:
        """Those of the stage's files that its rate chooses."""
        paths = self.paths(stage)
        n = max(round(len(paths) * self.rates.get(stage, 1.0)), 1)
        if n == len(paths):
            return paths
        return [paths[i] for i in sorted(np.random.default_rng((self.seed, len(paths))).permutation(len(paths))[:n])]

    def _slices(
        self, stage: Stage, sampling: Sampling, seed: int | None, keep_full: bool = False, whole_volumes: bool = False
    ) -> Slices:
        """whole_volumes: deal volumes out to the processes, at least one to each, which then counts once."""
        paths = self.used(stage)
        if whole_volumes and self.trainer is not None:
            paths = paths[self.trainer.global_rank :: self.trainer.world_size] or paths[:1]
        volumes = [read_volume(path) for path in paths]
        for volume in volumes:
            if volume.target is None and (stage in ("val", "test") or (stage == "train" and not keep_full)):
                raise InputError(
                    f"{volume.path} has no target image to compare with; give fully sampled files for {stage}, "
                    "or use `mrirecon reconstruct`, which needs none"
                )
        return Slices(volumes, sampling, seed, keep_full, self.scales if stage == "train" else ())

    def _batches(self, slices: Slices, batch_size: int, seed: int | None) -> Batches:
        rank, world = (0, 1) if seed is None else self._replica()  # in order, whole volumes are dealt out before
        return Batches([slices.shape_of(i) for i in range(len(slices))], batch_size, seed, rank, world)

    def _replica(self) -> tuple[int, int]:
        """This process's replica, and how many there are: all stages of a pipeline read the same batches."""
        found = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        return (0, 1) if found is None else (found["rank"], found["num_replicas"])


def _folder(path: str | None, name: str, given: str | None) -> Path | None:
    if given is not None:
        return Path(given)
    return None if path is None else Path(path) / name
