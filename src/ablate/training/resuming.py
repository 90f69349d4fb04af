"""A trainer that can be killed at any moment and resumes exactly from its last checkpoint.

Nothing of Ultralytics is patched: everything here is an override of a documented method, or of an attribute that the
trainer itself assigns.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.torch_utils import unwrap_model

from ablate.checkpoints.file_check import CheckpointError
from ablate.checkpoints.stored_network import ANY, Checkpoint, plain_values, read_checkpoint
from ablate.data.plain_paths import plain_path
from ablate.grafting.surgery import grafts_in
from ablate.records.checkpoint_origin import SIGNATURE, folder_signature
from ablate.records.metrics import EpochRow
from ablate.storage.files import atomic_write_text
from ablate.storage.plain_values import Plain
from ablate.training import checkpoint
from ablate.training.checkpoint import Environment, TrainingState, TrainingTensors
from ablate.training.finish import FIRST, ConcludingTrainer
from ablate.training.history import Journal, accuracy
from ablate.training.network import losses_in
from ablate.training.training_errors import TrainingError

WHERE = ("data", "device", "workers")  # what a resumed training takes from its caller: where it runs, never what it is
LOADED = ("distill_model", "pretrained")  # arguments that name further checkpoints; a resumed training needs none


class ResumableTrainer(ConcludingTrainer):
    """Ultralytics' detection trainer, continued exactly.

    To resume from the `last.pt` of an interrupted training, for which `checkpoint.read_state` is not None, give it as
    ``overrides={"resume": str(last), ...}``. It resumes in its own folder with its own arguments; of the other
    overrides only `data`, `device` and `workers` are used.

    The result equals that of an uninterrupted training, bit for bit, where the images are loaded in this process
    (`workers` 0, as always on a CPU), by one process, on the same kind of machine. The random states of loader
    processes cannot be carried over, nor those of Albumentations or of the other processes of a distributed training,
    and one that the clock stops (`time`), or that is not `deterministic`, cannot be repeated:
    such a training resumes too, and `resumed_exactly` is False.

    Attributes:
        resumed_from: The checkpoint to resume from, until the first epoch has begun.
        resumed: How often this training was resumed from a checkpoint.
        resumed_exactly: Whether all of its state could be restored each time; None if it was never resumed.
        journal: The epochs so far.
        interrupted: The state to resume from, until the first epoch has begun.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.resumed = 0
        self.resumed_exactly: bool | None = None
        self.interrupted: TrainingState | None = None
        self.resumed_from: Checkpoint | None = None
        self._nominal = 1  # batches in a step of the optimizer
        self._shift = 0  # see `accumulate`
        self._waiting = 0  # batches whose gradients wait for the next step of the optimizer
        self._batch = 0  # within the epoch, from 1
        self._epoch_started = 0.0
        self._evaluated: int | None = None  # the last epoch that was validated, from 0
        self._gradients: dict[str, Tensor] = {}  # that waited when the training was interrupted
        super().__init__(*args, **kwargs)
        place = plain_path(self.save_dir)  # Ultralytics has followed all links in it
        if place != self.save_dir:
            self.save_dir, self.wdir = place, place / "weights"
            self.last, self.best = self.wdir / "last.pt", self.wdir / "best.pt"
            self.args.save_dir = str(place)

    # -- how it starts ----------------------------------------------------------------------------------------------

    def check_resume(self, overrides: Plain) -> None:
        """Take all arguments from the interrupted training, but those that say where it runs.

        Raises:
            TrainingError: A training cannot be resumed from the checkpoint.
        """
        self.resume = bool(self.args.resume)
        if not self.resume:
            return
        last = Path(str(self.args.resume)).absolute()
        try:
            self.resumed_from = read_checkpoint(last, parts=ANY)
            self.interrupted = checkpoint.state_in(self.resumed_from.entries)
            _check_components(self.resumed_from, overrides.get("model"))
        except (CheckpointError, OSError) as error:
            raise TrainingError(f"{last} carries no state that a training could go on from: {error}") from error
        if self.interrupted is None:
            raise TrainingError(f"{last} carries no state that a training could go on from")
        where = {name: overrides[name] for name in WHERE if name in overrides}
        saved = {name: value for name, value in self.resumed_from.entries["train_args"].items() if name not in LOADED}
        self.args = get_cfg({**DEFAULT_CFG_DICT, **plain_values(saved)}, where)
        self.args.model = self.args.resume = str(last)
        self.args.save_dir = str(last.parent.parent)  # it may have been moved since

    def train(self) -> None:
        """Train, unless all has been done and written already."""
        if self.interrupted is None or self.interrupted.stage != "over":
            super().train()

    def _do_train(self) -> None:
        """Run the epochs that are missing, then the evaluation of the best checkpoint."""
        if self.interrupted is None or self.interrupted.stage == "epochs":
            super()._do_train()
            return
        if self.world_size > 1:
            self._setup_ddp()
        self._setup_train()
        self.epoch = self.start_epoch - 1
        self.resumed_exactly = self.resumed_exactly is not False
        self.validator.args.quantize = 16 if self.device.type != "cpu" and self.amp else None  # as after an epoch
        self.final_eval()
        if FIRST:
            if self.args.plots:
                self.plot_metrics()
            self.run_callbacks("on_train_end")
        for loader in (self.train_loader, self.test_loader):
            loader.close()

    def resume_training(self, ckpt: Plain | None) -> None:
        """Restore the state of the checkpoint, except what Ultralytics' loop would undo before its first epoch."""
        state = self.interrupted
        if ckpt is None or state is None:
            return
        if state.stage == "epochs":
            assert state.tensors is not None
            optimizer = checkpoint.split(state.tensors.optimizer)
            super().resume_training({**ckpt, "optimizer": optimizer, "ema": None})
            self.ema.updates = ckpt["updates"]
            unwrap_model(self.model).load_state_dict(checkpoint.split(state.tensors.model))
            self.ema.ema.load_state_dict(checkpoint.split(state.tensors.ema))
            self._gradients = checkpoint.split(state.tensors.gradients)
        self.stopper.__dict__.update(ckpt["stopper"])
        self.start_epoch = state.epoch
        self.metrics, self.fitness = state.metrics, state.fitness
        self.resumed = state.resumed + 1
        self.resumed_exactly = state.resumed_exactly
        if FIRST:
            self._tidy(state)

    def _tidy(self, state: TrainingState) -> None:
        """Restore the folder's files to the moment when the checkpoint was written."""
        for leftover in Path(self.save_dir).rglob(".*.tmp"):
            leftover.unlink()
        if state.best and self.resumed_from is not None:  # it may have been killed between last.pt and best.pt
            entries = {name: value for name, value in self.resumed_from.entries.items() if name != checkpoint.KEY}
            checkpoint.write(self.best, {**entries, "ema": self.network_of(self.resumed_from.network.state)})
        atomic_write_text(self.csv, state.results)

    # -- epochs -----------------------------------------------------------------------------------------------------

    def run_callbacks(self, event: str) -> None:
        """Call the method of an event, in every process of a training; then run its callbacks."""
        methods = {
            "on_pretrain_routine_end": self.begin_training,
            "on_train_epoch_start": self.begin_epoch,
            "on_train_batch_start": self.begin_batch,
            "on_fit_epoch_end": self.end_epoch,
        }
        if event in methods:
            methods[event]()
        super().run_callbacks(event)

    def begin_training(self) -> None:
        """Start the journal; close mosaic if it was closed before."""
        self.journal = Journal(self.save_dir)
        if FIRST:
            self.journal.settle(self.interrupted.history if self.interrupted else ())
            if not self.resume:
                self.last.unlink(missing_ok=True)  # of another training in this folder; nothing may resume from it
        self._close_mosaic = self.args.close_mosaic
        if self.resume and self.start_epoch > self.epochs - self.args.close_mosaic:
            # Ultralytics' loop would close it in the first epoch and restart the loader. It checks this first.
            self._close_dataloader_mosaic()
            self.args.close_mosaic = 0

    def begin_epoch(self) -> None:
        """Start the epoch's clock; in the first epoch of a resumed training restore the rest of its state."""
        self._epoch_started = time.time()
        self._batch = 0
        self.args.close_mosaic = self._close_mosaic
        if self.interrupted is not None:
            self._restore(self.interrupted)
            self.interrupted = self.resumed_from = None

    def _restore(self, state: TrainingState) -> None:
        """Restore the state between two epochs; the random states last, because all else may draw random numbers."""
        for name, parameter in unwrap_model(self.model).named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter.device)
        self._gradients = {}
        self._waiting = state.waiting
        self._shift = len(self.train_loader) * self.start_epoch - self._waiting
        exact = state.surroundings == self._environment() and self._carries_all()
        self.resumed_exactly = exact and self.resumed_exactly is not False
        if FIRST and state.loader is not None and state.random is not None:
            checkpoint.set_loader_state(self.train_loader, state.loader)
            checkpoint.set_random_states(state.random, self.device)

    def _environment(self) -> Environment:
        cuda = self.device.type == "cuda"
        return Environment(
            torch=str(torch.__version__),
            device=torch.cuda.get_device_name(self.device) if cuda else self.device.type,
            threads=None if cuda else torch.get_num_threads(),
            workers=self.train_loader.num_workers,
        )

    def _carries_all(self) -> bool:
        """Tell whether the training is repeatable, and a checkpoint holds every random generator."""
        transforms = self.train_loader.dataset.transforms.transforms
        own_generator = any(type(t).__name__ == "Albumentations" and t.transform is not None for t in transforms)
        repeats = self.args.deterministic and not self.args.time  # a clock stops no two trainings in the same place
        return repeats and self.train_loader.num_workers == 0 and self.world_size <= 1 and not own_generator

    def begin_batch(self) -> None:
        """Count the batch, and write progress.json."""
        self._batch += 1
        self._waiting += 1
        if FIRST:
            batches = len(self.train_loader)
            place = {"epoch": self.epoch + 1, "epochs": self.epochs, "batch": self._batch, "batches": batches}
            self.journal.tell(**place, **self.progress_details())

    def progress_details(self) -> dict[str, int]:
        """Return further entries of progress.json."""
        return {}

    @property
    def accumulate(self) -> int:
        """Batches in a step of the optimizer.

        Ultralytics' loop compares this with the batches since its last step, which it forgets when it is interrupted:
        it then counts from the very first batch. Until its next step the difference is added here.
        """
        return self._nominal + self._shift

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._nominal = batches

    def optimizer_step(self) -> None:
        """Step; from here on the loop's own count is correct."""
        super().optimizer_step()
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Restart the count, because no gradients wait any more."""
        self._waiting = 0
        self._shift = 0

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Validate, and note that this epoch was validated; with `val=false` only the last one is."""
        self._evaluated = self.epoch
        result: tuple[dict[str, float] | None, float | None] = super().validate()
        return result

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Append a row to results.csv, without metrics of a validation that did not take place."""
        if self._evaluated != self.epoch:
            nothing = float("nan")
            metrics = {k: nothing if k.startswith(("val/", "metrics/")) else v for k, v in metrics.items()}
        super().save_metrics(metrics)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def save_model(self) -> bool:
        """Write last.pt with the state for resuming; after the best epoch so far write best.pt, without it.

        Each is written whole or not at all. Raises OSError when the disk refuses.
        """
        content = self._checkpoint()
        best = self.best_fitness == self.fitness
        checkpoint.write(self.last, {**content, checkpoint.KEY: replace(self.exact_state(), best=best).to_plain()})
        if best:
            checkpoint.write(self.best, content)
        if self.save_period > 0 and self.epoch % self.save_period == 0:
            checkpoint.write(self.wdir / f"epoch{self.epoch}.pt", content)
        return True

    @property
    def signature(self) -> str | None:
        """The signature of the trial that is trained, which its folder is named by; None outside of a trial."""
        return folder_signature(self.args.project)

    def _checkpoint(self) -> Plain:
        """Return a checkpoint as Ultralytics reads it, without its optimizer: in half precision it is of no use."""
        return {
            SIGNATURE: self.signature,
            "epoch": self.epoch,
            "best_fitness": self.best_fitness,
            "stopper": dict(vars(self.stopper)),
            "model": None,
            "ema": self._rounded(),
            "updates": self.ema.updates,
            "optimizer": None,
            "scaler": self.scaler.state_dict(),
            "train_args": vars(self.args),
            "train_metrics": {**self.metrics, "fitness": self.fitness},
            "date": datetime.now().astimezone().isoformat(),
            "version": ultralytics.__version__,
        }

    def _rounded(self) -> nn.Module:
        """Return the average of the weights in half precision, on the CPU."""
        network = self.network_of(self.ema.ema.state_dict())
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                torch.nan_to_num_(tensor)  # what half precision cannot hold
        return network

    def exact_state(self) -> TrainingState:
        """Return the state that Ultralytics' checkpoint lacks."""
        self._note_row()
        network: nn.Module = unwrap_model(self.model)
        gradients = {name: p.grad for name, p in network.named_parameters() if self._waiting and p.grad is not None}
        return TrainingState(
            epoch=self.epoch + 1,
            epochs=self.epochs,
            resumed=self.resumed,
            stage="evaluation" if self.stop else "epochs",
            tensors=TrainingTensors(
                model=checkpoint.join(network.state_dict()),
                ema=checkpoint.join(self.ema.ema.state_dict()),
                optimizer=checkpoint.join(self.optimizer.state_dict()),
                gradients=checkpoint.join(gradients),
            ),
            waiting=self._waiting,
            loader=checkpoint.loader_state(self.train_loader),
            random=checkpoint.random_states(self.device),
            surroundings=self._environment(),
            metrics=self.metrics,
            fitness=self.fitness,
            history=tuple(self.journal.rows),
            results=self.csv.read_text(encoding="utf-8"),
            resumed_exactly=self.resumed_exactly,
        )

    def end_epoch(self) -> None:
        """Append this epoch to history.jsonl after its checkpoint; the evaluation of the best one is no epoch."""
        if FIRST and self.tloss is not None and not self.concluding:
            self._note_row()
            self.journal.write_last()

    def _note_row(self) -> None:
        """Add this epoch to the journal, once."""
        rows = self.journal.rows
        if rows and rows[-1].epoch == self.epoch + 1:
            return
        now = time.time()
        numbers = {
            "epoch": self.epoch + 1,
            "epochs": self.epochs,
            "time": now,
            "seconds": now - self._epoch_started,
            **self.label_loss_items(self.tloss),
            **self._validated(),
            **({"batches": self._batch} if self.args.time else {}),
            **{name: float(rate) for name, rate in self.lr.items()},
        }
        rows.append(EpochRow(numbers))

    def _validated(self) -> dict[str, float | None]:
        """Return the metrics of this epoch's validation; none where it was not validated."""
        if self._evaluated != self.epoch:
            return {"fitness": None}
        numbers = {key: float(value) for key, value in self.metrics.items() if key.startswith("val/")}
        numbers |= {**accuracy(self.metrics), **getattr(self.validator, "halves", {})}  # see `PredictionsValidator`
        return {**numbers, "fitness": None if self.fitness is None else float(self.fitness)}


def _check_components(last: Checkpoint, model: str | None) -> None:
    """Compare the grafts and losses of a checkpoint with those of the trial, where its network's yaml is known.

    Raises:
        CheckpointError: It names others, whose files would be imported.
    """
    if not str(model).endswith(".yaml"):
        return
    trial = yaml_model_load(model)
    if grafts_in(trial) != grafts_in(last.network.yaml):
        raise CheckpointError("its network has other grafts")
    if losses_in(trial) != losses_in(last.network.yaml):
        raise CheckpointError("it was trained with other losses")
