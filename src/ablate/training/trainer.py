"""Ultralytics' detection trainer with grafts in the network, and errors where it would change the recipe silently.

Nothing of Ultralytics is patched: everything here is an override of a documented method, or of an attribute that the
trainer itself assigns. At the end the recipe that was really trained is written to `realised.json` in its folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from ultralytics import utils
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.optim import muon
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.events import events
from ultralytics.utils.torch_utils import unwrap_model

from ablate.checkpoints.stored_network import StoredNetwork, read_checkpoint
from ablate.data.cache import cache_dir
from ablate.data.data_use import used_of
from ablate.data.groups import ImageGroups, read_groups
from ablate.grafting.imported import allow_code
from ablate.grafting.module_import import imported_source
from ablate.grafting.transfer import Coverage
from ablate.measuring.energy import EnergyMeter, gpu_uuids
from ablate.measuring.memory import PeakMemory
from ablate.records.code_version import code_hash
from ablate.records.graft_report import GraftReport
from ablate.records.json_struct import from_json, to_json
from ablate.records.metrics import Metrics
from ablate.records.predictions import Predictions, save_predictions
from ablate.records.realised import ParameterGroup, TrainingReport, Weights
from ablate.settings.environment import cpu_threads
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import TrainingFolder, TrialFolder, predictions_name
from ablate.storage.plain_values import Plain
from ablate.training.checkpoint import TrainingState
from ablate.training.criterion import ReplacedLosses
from ablate.training.freezing import Frozen, freeze_exactly, trainable
from ablate.training.history import accuracy
from ablate.training.integrations import is_integration, without_integrations
from ablate.training.musgd import BF16, MuSGD, fast_arithmetic
from ablate.training.network import NetworkSettings, build_network
from ablate.training.optimizer import describe_groups, exempt, exempt_parameters
from ablate.training.resuming import ResumableTrainer
from ablate.training.threads import EpochThreads
from ablate.training.training_errors import Diverged, OutOfMemory, TrainingError
from ablate.training.training_report import evaluation, halves_of, sample_images
from ablate.training.validator import PredictionsValidator

events.enabled = False  # Ultralytics' usage reports; the validator would hang them onto our trainer's callbacks


class AblateTrainer(ResumableTrainer):
    """Train one trial's network.

    `args.model` is the path of the trial's network yaml (with the graft in it), `args.pretrained` a checkpoint or
    False. With `resume` it resumes from a `last.pt`; see `ResumableTrainer`.

    Raises:
        OutOfMemory: During `train`, instead of Ultralytics' halving of the batch (policy ``fail``).
        Diverged: During `train`, once the loss, the fitness or the average of the weights is not finite.
    """

    model: Any
    graft_report: GraftReport
    covered: Coverage
    _frozen_names: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._retries = 0
        self._halvings = 0
        self._settings = NetworkSettings()
        self._losses = ReplacedLosses(self._settings.losses)
        self._arithmetic = "auto"  # of the orthogonalisation, as requested; see `_settle_arithmetic`
        self._groups: tuple[ParameterGroup, ...] = ()
        self._peak: float | None = None  # GB, of the parts before this one
        self._energy: float | None = 0.0  # kWh, of the parts before this one; None where it is not known
        self._evaluations: dict[str, tuple[Metrics, Predictions | None]] = {}
        self._threads = EpochThreads.of_this_process()
        with without_integrations():
            super().__init__(*args, **kwargs)

    def run_callbacks(self, event: str) -> None:
        """Run the callbacks of an event; before the first one, take Ultralytics' integrations off this trainer."""
        if event == "on_pretrain_routine_start":
            for name, functions in self.callbacks.items():
                self.callbacks[name] = [f for f in functions if not is_integration(f)]
            self._memory = PeakMemory(cuda=self.device.type == "cuda")
            self._meter = EnergyMeter(gpu_uuids(self.device, self.world_size))
            self._meter.start()
        super().run_callbacks(event)

    def train(self) -> None:
        """Train; in a distributed training raise the error of the worker process that failed."""
        note = TrainingFolder(Path(self.save_dir)).failure
        if RANK == -1:
            note.unlink(missing_ok=True)  # of an earlier try
        try:
            super().train()
        except TrainingError as error:
            if RANK != -1:  # a worker: the launching process sees an exit code only
                note.write_text(json.dumps([error.kind, str(error)]), encoding="utf-8")
            raise
        except subprocess.CalledProcessError:
            if note.is_file():
                kind, message = json.loads(note.read_text(encoding="utf-8"))
                raise {e.kind: e for e in (OutOfMemory, Diverged)}[kind](message) from None
            raise

    # -- network and optimizer --------------------------------------------------------------------------------------

    def _setup_train(self) -> None:
        """Set up, and replace the losses that are not stock.

        The checkpoint by which Ultralytics checks mixed precision is taken from our cache: it would load one from
        `weights/` in the working folder or its repository, with all that it names.
        """
        before = utils.WEIGHTS_DIR
        utils.WEIGHTS_DIR = cache_dir() / "weights"
        try:
            super()._setup_train()
        finally:
            utils.WEIGHTS_DIR = before
        for network in (unwrap_model(self.model), getattr(self.ema, "ema", None)):
            if network is not None:
                self._losses.install(network)
        if self.interrupted is not None:
            self._losses.load_state(self.interrupted.losses)

    def setup_model(self) -> Plain | None:
        """Build the network; return the entries of the checkpoint to resume from, or None."""
        if isinstance(self.model, nn.Module):
            return None
        if self.resumed_from is not None:
            network = self.resumed_from.network
            self.model = self.get_model(network.yaml, network)
            return self.resumed_from.entries
        content, weights = yaml_model_load(self.model), None
        if self.args.pretrained:
            trust = NetworkSettings.from_yaml(content).trust_weights
            weights = read_checkpoint(Path(self.args.pretrained), trust=trust).network
        self.model = self.get_model(content, weights)
        return None

    def get_model(
        self, cfg: str | Plain | None = None, weights: StoredNetwork | None = None, verbose: bool = True
    ) -> DetectionModel:
        """Return the network with its weights and its graft."""
        content = dict(cfg) if isinstance(cfg, dict) else yaml_model_load(cfg)
        self._settings = NetworkSettings.from_yaml(content)
        allow_code(self._settings.grafts)
        self._losses = ReplacedLosses(self._settings.losses)
        if self._settings.orthogonalise != "auto":
            self._arithmetic = self._settings.orthogonalise
        network, self.graft_report, self.covered = build_network(
            content,
            classes=self.data["nc"],
            channels=self.data["channels"],
            names=self.data["names"],
            remap=self.args.cls_remap,
            weights=weights,
            source=str(self.args.pretrained),
            seed=self.args.seed,
            resume=bool(self.resume),
        )
        if verbose and RANK in {-1, 0}:
            network.info()
        return network

    @property
    def freeze_layer_names(self) -> list[str]:
        """Names of what is frozen; Ultralytics looks for them in the names of parameters."""
        return self._frozen_names

    @freeze_layer_names.setter
    def freeze_layer_names(self, parts: list[str]) -> None:
        """Take what Ultralytics is about to freeze by parts of names, and leave it the whole names of what we freeze.

        It goes through this very list right after, and before it shares the network among processes.
        """
        self._frozen = Frozen.of(unwrap_model(self.model), parts, grafts=self._settings.freeze_grafts)
        parts[:] = self._frozen.parameters(unwrap_model(self.model))
        self._frozen_names = parts

    def _model_train(self) -> None:
        """Go to training mode; norms of frozen layers keep their statistics, those of grafts that learn do not."""
        self.model.train()
        for path, module in unwrap_model(self.model).named_modules():
            if isinstance(module, nn.BatchNorm2d) and self._frozen.covers(path):
                module.eval()

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> optim.Optimizer:
        """Build Ultralytics' optimizer, MuSGD in a fast arithmetic; then exempt what is not a weight matrix."""
        optimizer: optim.Optimizer = super().build_optimizer(model, *args, **kwargs)
        if isinstance(optimizer, muon.MuSGD):
            self._settle_arithmetic()
            optimizer = MuSGD.like(optimizer, self._arithmetic)
        network = unwrap_model(model)
        freeze_exactly(network, self._frozen)  # a graft's parameter may end in the whole name of a frozen one
        exempt(optimizer, exempt_parameters(network))
        self._groups = describe_groups(optimizer, network)
        return optimizer

    def _settle_arithmetic(self) -> None:
        """Take the arithmetic of the checkpoint; else the requested one, or with "auto" the fast one."""
        if self.interrupted is not None:
            self._arithmetic = self.interrupted.orthogonalise or BF16  # an older one: Ultralytics' own
        elif self._arithmetic == "auto":
            self._arithmetic = fast_arithmetic(self.device)

    def get_validator(self) -> PredictionsValidator:
        """Return a validator that stores the detections on every image."""
        stock = super().get_validator()
        validator = PredictionsValidator(
            stock.dataloader, save_dir=stock.save_dir, args=stock.args, _callbacks=self.callbacks
        )
        validator.groups = self._groups_of_images()
        return validator

    def _groups_of_images(self) -> ImageGroups | None:
        """Return which images belong together, as it was when the trial began; None where that was not known."""
        path = TrialFolder(Path(str(self.args.project))).groups
        return read_groups(path) if self.signature and path.is_file() else None

    # -- errors in place of silent changes -----------------------------------------------------------------------------

    @property
    def _oom_retries(self) -> int:
        return self._retries

    @_oom_retries.setter
    def _oom_retries(self, retries: int) -> None:
        """Ultralytics counts here just before it halves the batch."""
        if retries > 0 and self._settings.on_oom == "fail":
            reason = sys.exc_info()[1]
            raise OutOfMemory(f"out of memory with batch={self.batch_size}, imgsz={self.args.imgsz}: {reason}")
        if retries > 0:
            self.forget_gradients()
        self._retries = retries
        self._halvings = max(self._halvings, retries)  # Ultralytics forgets its own count after the first epoch

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """End a diverged training; Ultralytics would continue from an earlier average, which is another recipe."""
        if self.loss is not None and not torch.isfinite(self.loss).all():
            raise Diverged(f"the loss is {float(self.loss.detach())} in epoch {epoch + 1}")
        if self.fitness is not None and self.fitness != self.fitness:
            raise Diverged(f"the fitness is {self.fitness} in epoch {epoch + 1}")
        if not all(torch.isfinite(tensor).all() for tensor in self.ema.ema.state_dict().values()):
            raise Diverged(f"the average of the weights is not finite in epoch {epoch + 1}")
        return False

    # -- state and results ---------------------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """On a CPU set the number of threads; Ultralytics would leave a core idle."""
        if self.device.type == "cpu":
            change = self._threads.begin(self.epoch + 1)
            if change:
                LOGGER.warning(f"threads: {change}")
        super().begin_epoch()

    def progress_details(self) -> dict[str, int]:
        """Return the threads of an epoch that has fewer, because other processes use the cores."""
        reduced = self.device.type == "cpu" and self._threads.now < self._threads.usual
        return {"threads": self._threads.now, "threads_usual": self._threads.usual} if reduced else {}

    def exact_state(self) -> TrainingState:
        """Return the state that Ultralytics' checkpoint lacks."""
        return replace(
            super().exact_state(),
            halvings=self._halvings,
            coverage=self.covered,
            peak_memory_gb=self._peak_memory(),
            energy_kwh=self._energy_kwh(),
            threads=self._threads.state(),
            orthogonalise=getattr(self.optimizer, "arithmetic", None),
            losses=self._losses.state(),
        )

    def resume_training(self, ckpt: Plain | None) -> None:
        """Restore the state of the checkpoint."""
        super().resume_training(ckpt)
        if self.interrupted is not None:
            self._halvings = self.interrupted.halvings
            self.covered = self.interrupted.coverage or self.covered
            self._peak = self.interrupted.peak_memory_gb
            self._energy = self.interrupted.energy_kwh
            self._threads.resume(self.interrupted.threads, self.start_epoch)

    def _peak_memory(self) -> float | None:
        peaks = [peak for peak in (self._peak, self._memory.gigabytes()) if peak is not None]
        return max(peaks, default=None)

    def _energy_kwh(self) -> float | None:
        now = self._meter.kwh()
        return None if now is None or self._energy is None else self._energy + now

    def keep_evaluation(self, which: str, figures: dict[str, float]) -> None:
        """Store a checkpoint's metrics and the detections that they are computed from."""
        self._evaluations[which] = (from_json(accuracy(figures), Metrics), self.validator.predictions)

    def write_results(self) -> None:
        """Write the stored predictions, then the report of this training."""
        files = TrainingFolder(Path(self.save_dir))
        for which, (_, predictions) in self._evaluations.items():
            if predictions is not None and self._predictions_of(which) == which:
                save_predictions(files.predictions(which), predictions, self.signature)
        atomic_write_json(files.report, to_json(self._report()))

    def _predictions_of(self, which: str) -> str:
        """Return the checkpoint whose file holds the predictions: the last epoch may be the best one, too."""
        predictions = self._evaluations[which][1]
        return next(other for other, (_, stored) in self._evaluations.items() if stored is predictions)

    def _report(self) -> TrainingReport:
        names = list(self.data["names"].values())
        shared = {which: self._predictions_of(which) for which in self._evaluations}
        evaluations = {
            which: evaluation(*self._evaluations[which], names, predictions_name(which))
            for which in set(shared.values())
        }
        on_cpu = self.device.type == "cpu"
        epochs, stopped_by = self.epoch + 1, self._stopped_by()
        used = used_of({"train": self.train_loader.dataset, "val": self.test_loader.dataset})
        return TrainingReport(
            signature=self.signature,
            code=code_hash(),
            sources={
                target: imported_source(target)
                for target in (*self._settings.built_classes, *self._settings.losses.targets)
            },
            evaluations={which: evaluations[source] for which, source in shared.items()},
            batch=self.batch_size,
            amp=bool(self.amp),
            # Without a compiler Ultralytics trains the uncompiled network.
            compiled=hasattr(getattr(self.model, "module", self.model), "_orig_mod"),
            epochs=epochs,
            epochs_asked=None if self.args.time else self.epochs,
            stopped_by=stopped_by,
            early_stop=stopped_by == "patience",
            hours_asked=self.args.time or None,
            last_epoch_batches=(self.journal.rows[-1].batches, len(self.train_loader)) if self.args.time else None,
            oom_retries=self._halvings,
            optimizer=type(self.optimizer).__name__,
            orthogonalise=getattr(self.optimizer, "arithmetic", None),
            lr0=self.args.lr0,
            imgsz=self.args.imgsz,
            accumulate=self._nominal,
            gpus=self.world_size,
            device=str(self.device),
            threads=self._threads.most_used if on_cpu else cpu_threads(),
            threads_by_epoch=tuple((first, count) for first, count in self._threads.by_epoch) if on_cpu else None,
            workers=self.train_loader.num_workers,
            resumed=self.resumed,
            resume_exact=self.resumed_exactly,
            peak_memory_gb=self._peak_memory(),
            energy_kwh=self._energy_kwh(),
            split=self.args.split,
            weights=Weights(
                source=self.covered.source,
                expected=self.covered.expected,
                transferred=self.covered.transferred,
                missing=self.covered.missing,
            ),
            graft=self.graft_report,
            trainable=trainable(unwrap_model(self.model)),
            losses=self._losses.report(),
            parameter_groups=self._groups,
            images=used.images,
            instances=used.instances,
            **halves_of(self._evaluations["last"][1], self._groups_of_images()),
            samples=sample_images(self.test_loader.dataset.labels),
        )

    def _stopped_by(self) -> str:
        """Return what ended the training; with `time` Ultralytics recomputes its number of epochs."""
        done = self.epoch + 1
        worse = done - self.stopper.best_epoch  # epochs since the best one
        if self.args.time:
            return "patience" if self.stopper.best_epoch and worse >= self.stopper.patience else "time"
        return "patience" if done < self.epochs else "epochs"
