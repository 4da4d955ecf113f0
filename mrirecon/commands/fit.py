"""Train a network, and use it on the files of a data card: `fit`, `validate`, `test`, `predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from mrirecon import checkpoint
from mrirecon.commands.call import joined
from mrirecon.commands.convex import HELP as CONVEX_HELP
from mrirecon.commands.convex import ConvexCli
from mrirecon.commands.lightning import Cli, quieten, raised_by_lightning
from mrirecon.commands.runs import checkpoints, default_run, read_card, resume_from, saved_config
from mrirecon.data.module import FastMRIData
from mrirecon.errors import InputError
from mrirecon.training.curve import StageCurve
from mrirecon.training.module import Reconstruction
from mrirecon.training.panels import ImagePanels

LISTS = {f"--data.{a}sampling.{b}" for a in ("", "test_") for b in ("accelerations", "center_fractions")}

FIT_HELP = """\
usage: mrirecon fit -c CARD [-c CARD ...] [--run FOLDER] [--resume] [--KEY VALUE ...]

Train a network. Three kinds of cards are put together; a later one, and then the command line, wins:

  datasets/...   the files, the sampling, the calibration           sets data.*
  models/...     the network                                        sets model.net
  train/...      where gradients stop, optimiser, length            sets model.*, trainer.*

  -c, --config CARD   path of a YAML card, or the name of a shipped one (`mrirecon cards` lists them)
  --run FOLDER        where config.yaml, checkpoints/ and the TensorBoard log go (default: runs/ and the cards' names)
  --resume            go on from FOLDER/checkpoints/last.ckpt as if training had never stopped
  --resume auto       the same if there is a run to go on from, else begin it: for jobs that are queued again
  --KEY VALUE         any setting of the cards, for example --data.path /data/knee --trainer.max_epochs 50
  --print_config      print the composed settings and stop
  --help_all          every setting with its meaning

Example:
  mrirecon fit -c datasets/knee_multicoil -c models/pgd_resnet -c train/greedy --data.path /data/knee --run runs/knee
"""

USE_HELP = """\
usage: mrirecon {name} --run FOLDER [-c CARD ...] [--KEY VALUE ...]

{what} The settings are those of the run; cards and the command line override them.

  --run FOLDER        a run folder of `mrirecon fit`
  --ckpt_path FILE    another checkpoint than FOLDER/checkpoints/best.ckpt
  -c, --config CARD   path of a YAML card, or the name of a shipped one
  --KEY VALUE         any setting of the cards, for example --data.path /data/knee{more}
  --help_all          every setting with its meaning
"""

USES = {
    "validate": ("Score a trained network on the validation files, by volume.", ""),
    "test": ("Score a trained network on the test files, by volume.", ""),
    "predict": (
        "Reconstruct the prediction files of a data card, as `mrirecon reconstruct` does for any files.",
        "\n  --output FOLDER     where the h5 files go (default: FOLDER/reconstructions of the run)"
        "\n  --overwrite         replace existing output files",
    ),
}


def main(name: str, argv: Sequence[str]) -> int:
    """Run `mrirecon fit`, `convex-fit`, `validate`, `test` or `predict`."""
    asked, name = name, "fit" if name == "convex-fit" else name
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("-c", "--config", action="append", default=[])
    own.add_argument("-h", "--help", action="store_true")
    own.add_argument("--help_all", action="store_true")
    own.add_argument("--run", type=Path)
    own.add_argument("--resume", nargs="?", const="yes", choices=("yes", "auto"))
    own.add_argument("--output", type=Path)
    own.add_argument("--overwrite", action="store_true")
    own.add_argument("--ckpt_path", type=Path)
    own.add_argument("--seed_everything", type=int, default=0)
    options, settings = own.parse_known_args(list(argv))
    if options.help or not argv:
        what, more = USES.get(name, ("", ""))
        helps = {"fit": FIT_HELP, "convex-fit": CONVEX_HELP}
        print(helps[asked] if asked in helps else USE_HELP.format(name=name, what=what, more=more))
        return 0
    if not 0 <= options.seed_everything < 2**32:
        raise InputError(f"--seed_everything {options.seed_everything}; expected a whole number from 0 to 4294967295")
    configs = [read_card(card) for card in options.config]
    if asked == "convex-fit" and options.ckpt_path is not None:
        raise InputError("convex-fit goes on from a run folder alone: use --run FOLDER --resume")
    if asked == "fit" and any("convex" in yaml.safe_load(config) for config in configs):
        raise InputError("these cards set convex.*, which is for `mrirecon convex-fit`; leave train/convex out for fit")
    # One device: several need a strategy that greedy training can use, and Lightning would take all it finds.
    defaults: dict[str, Any] = {"use_distributed_sampler": False, "devices": 1, "logger": False, "callbacks": []}
    defaults["plugins"] = [{"class_path": "mrirecon.training.checkpoints.WholeCheckpoints"}]
    run = options.run or default_run(options.config)
    start: Path | None = None
    if options.help_all:
        settings = ["--help"]
    elif name == "fit":
        last = run / "checkpoints" / checkpoint.LAST
        if options.resume == "yes" or (options.resume == "auto" and last.is_file()):
            configs = [saved_config(run), *configs]
            if asked == "fit" and "convex" in yaml.safe_load(configs[0]):
                raise InputError(f"{run} is of `mrirecon convex-fit`; go on with `mrirecon convex-fit --resume`")
        if not any(word.startswith("--print_config") for word in settings):
            goes_on = options.resume == "auto" and last.is_file()
            start = last if goes_on else options.ckpt_path or resume_from(run, options.resume)
        defaults["logger"] = {
            "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
            "init_args": {"save_dir": str(run), "name": "", "version": ""},
        }
        defaults["callbacks"] = [*checkpoints(run), ImagePanels(), StageCurve(run)]
    else:
        if options.run is None and options.ckpt_path is None:
            raise InputError("name a run folder with --run, or cards with -c and a checkpoint with --ckpt_path")
        if options.run is not None:
            configs = [saved_config(options.run, for_use=True), *configs]
        defaults["enable_checkpointing"] = False
        start = options.ckpt_path or options.run
        options.output = options.output or (options.run or options.ckpt_path.parent) / "reconstructions"
    state = None
    if asked == "convex-fit":
        start, state = None, start  # of a form of its own
    if start is not None:
        start = checkpoint.locate(start)
        settings += ["--ckpt_path", str(start), "--weights_only", "true"]
    if "--seed_everything" in argv or any(word.startswith("--seed_everything=") for word in argv):
        settings += ["--seed_everything", str(options.seed_everything)]
    settings = joined(settings, LISTS)
    words = [name, *(word for config in configs for word in ("--config", config)), *settings]
    quieten()
    sys.argv = ["mrirecon"]  # Lightning warns if arguments are passed beside those of the process
    try:
        make = partial(ConvexCli, run=run, state=state) if asked == "convex-fit" else Cli
        cli = make(
            Reconstruction,
            FastMRIData,
            args=words,
            words=[name, *argv],
            start=start,
            output=options.output,
            overwrite=options.overwrite,
            trainer_defaults=defaults,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            # Only training decides what a run is.
            save_config_callback=SaveConfigCallback if name == "fit" else None,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={
                key: {"usage": f"mrirecon {asked if key == name else key} [options]"} for key in ("fit", *USES)
            },
        )
    except MisconfigurationException as error:
        raise InputError(str(error)) from None
    except ValueError as error:
        if isinstance(error, InputError) or not raised_by_lightning(error):
            raise
        raise InputError(f"these settings cannot be used: {error}") from None
    except SIGTERMException:
        saved = ""
        if name == "fit":
            last = run / "checkpoints" / checkpoint.LAST
            saved = f"; add --resume to go on from {last}" if last.exists() else ", before anything was saved"
        if getattr(rank_zero_only, "rank", 0) == 0:
            print(f"mrirecon {asked}: stopped by a signal{saved}", file=sys.stderr)
        return 143
    except SystemExit as stop:
        if stop.code == 1:  # how Lightning ends after Ctrl-C; unusable words end with 2
            raise KeyboardInterrupt from None
        raise
    return cli.exit_code
