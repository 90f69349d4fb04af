"""Prepare a trained network for inference as it is deployed: head, precision, memory format and backend.

What Ultralytics' exporter and AutoBackend do to a network is done here with the network in memory: batch norms are
folded and one of the head's branches is kept, weights and input have the precision, PyTorch on an x86 processor gets
channels-last weights, exported graphs have the decoded output only and a fixed input size. Every result is compared
with the network in fp32 and eager mode on an image that it was not traced with, so that an export that computes
something else is not measured.
"""

from __future__ import annotations

import copy
import platform
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ablate.errors import AblateError
from ablate.grafting.folding import fold_norms
from ablate.latency.timing import one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

Forward = Callable[["Tensor"], Any]
"""Maps (B, C, H, W) to predictions, as the network does."""

OPSET = 18  # of ONNX; that of Ultralytics' exporter
# The largest share by which an output may differ from fp32 in eager mode (see `deviation`).
TOLERANCE = {"fp32": 0.01, "fp16": 0.05, "bf16": 0.2}
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Unusable(AblateError, RuntimeError):
    """A backend cannot run this network, or its output is wrong; the message gives the reason in one line."""


def deploy(network: nn.Module, head: str) -> nn.Module:
    """Fuse a detector for inference, in place, keeping one branch of an end-to-end head.

    Args:
        network: An Ultralytics detector (any other network is only put in evaluation mode).
        head: "one_to_one" (no non-maximum suppression) or "one_to_many"; networks with one branch keep that.
    """
    network.float().eval()
    fuse: Any = getattr(network, "fuse", None)
    layers: Any = getattr(network, "model", None)
    if fuse is not None and layers is not None:
        if getattr(layers[-1], "one2one_cv2", None) is not None:
            layers[-1].end2end = head == "one_to_one"
        fuse(verbose=False)
        fold_norms(network)
    return network.requires_grad_(False)


def channels_of(network: nn.Module) -> int:
    """Return how many channels the images of a detector have; 3 where it does not define them."""
    content = getattr(network, "yaml", None)
    return int(content.get("channels", 3)) if isinstance(content, dict) else 3


def head_of(network: nn.Module) -> str:
    """Return a description of the branch that a fused network's head has."""
    if getattr(network, "end2end", False):
        return "one-to-one: no non-maximum suppression"
    return "one-to-many: non-maximum suppression is post-processing"


def prepare(
    network: nn.Module, backend: str, precision: str, example: Tensor, *, threads: int, folder: Path | None = None
) -> Forward:
    """Make a deployed network ready to run.

    Args:
        network: As `deploy` leaves it; not changed.
        backend: eager, compile, torchscript or onnx.
        precision: fp32, fp16 or bf16.
        example: Input (B, C, H, W) in fp32 on the device; graphs are traced with it.
        threads: Of ONNX Runtime on the processor; PyTorch's are set for the whole process.
        folder: Where an exported file may lie until it is loaded; a temporary one if None.

    Raises:
        Unusable: The backend is not installed, or refuses the network.
    """
    kind = TYPES[precision]
    ready = copy.deepcopy(network).to(device=example.device, dtype=kind)
    example = example.to(kind)
    try:
        if backend == "eager":
            return _with_layout(ready)
        if backend == "compile":
            return _compiled(_with_layout(ready), example)
        _for_export(ready, backend, example)
        if backend == "torchscript":
            return _traced(ready, example)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            return _onnx(ready, example, Path(place) / "network.onnx", threads)
    except Unusable:
        raise
    except Exception as error:  # any part of an exporter may raise anything
        raise Unusable(f"{backend} cannot take this network: {one_line(error)}") from error


def reference(network: nn.Module, image: Tensor) -> Tensor:
    """Return the output of a deployed network in fp32 and eager mode, as a tensor on the processor."""
    with torch.inference_mode():
        return tensor_of(network.to(image.device)(image)).float().cpu()


def verify(forward: Forward, expected: Tensor, image: Tensor, precision: str) -> float:
    """Return by how much an output differs from the reference.

    Raises:
        Unusable: It differs by more than the precision explains, or cannot be computed.
    """
    try:
        with torch.inference_mode():
            output = tensor_of(forward(image.to(TYPES[precision]))).float().cpu()
    except Exception as error:
        raise Unusable(f"does not run: {one_line(error)}") from error
    if output.shape != expected.shape:
        raise Unusable(f"gives another output: shape {tuple(output.shape)} instead of {tuple(expected.shape)}")
    difference = deviation(output, expected)
    if not difference <= TOLERANCE[precision]:
        raise Unusable(
            f"gives another output than fp32 in eager mode: it differs by {difference:.2g} of its size; "
            f"{TOLERANCE[precision]:g} is allowed in {precision}"
        )
    return difference


def deviation(output: Tensor, expected: Tensor) -> float:
    """Return the relative difference of two outputs; infinite where one is not finite.

    For predictions (B, 4 + classes, anchors): of the boxes or of the scores (Euclidean norms), whichever is larger.
    For the rows (B, detections, 6) of an end-to-end head, whose order is arbitrary among equal scores: of the ranked
    scores; or, should that be larger, the distance within which nine of ten rows have a partner of the same class, in
    units of the largest coordinate.
    """
    if not bool(torch.isfinite(output).all()):
        return float("inf")
    if expected.ndim == 3 and expected.shape[-1] == 6:
        scores = _relative(output[..., 4].sort(dim=1)[0], expected[..., 4].sort(dim=1)[0])
        size = float(expected[..., :4].abs().max().clamp(min=1e-9))
        near = [_to_partner(a, b) for a, b in zip(output, expected, strict=True)]
        return max(scores, float(torch.cat(near).quantile(0.9)) / size)
    if expected.ndim == 3 and expected.shape[1] > 4:
        return max(_relative(output[:, :4], expected[:, :4]), _relative(output[:, 4:], expected[:, 4:]))
    return _relative(output, expected)


def tensor_of(output: Any) -> Tensor:
    """Return the predictions of a backend's output, which may be nested or an array."""
    while isinstance(output, tuple | list):
        output = output[0]
    predictions: Tensor = output if isinstance(output, torch.Tensor) else torch.from_numpy(output)
    return predictions


def uses_events(backend: str) -> bool:
    """Tell whether a backend works on PyTorch's own CUDA stream, which events can time."""
    return backend != "onnx"


def memory_format(backend: str, device: str) -> str:
    """Return the memory format of the weights, as Ultralytics chooses it."""
    return "channels last" if backend in ("eager", "compile") and _prefers_channels_last(device) else "contiguous"


def _prefers_channels_last(device: str) -> bool:
    """Return what AutoBackend does by itself: channels last on x86 processors with oneDNN, not on GPUs."""
    x86 = platform.machine() in ("x86_64", "AMD64") and platform.system() in ("Linux", "Windows")
    return device == "cpu" and x86 and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _with_layout(network: nn.Module) -> nn.Module:
    device = next(iter(network.parameters()), torch.empty(0)).device.type
    return network.to(memory_format=torch.channels_last) if _prefers_channels_last(device) else network


def _compiled(network: nn.Module, example: Tensor) -> Forward:
    """Compile for the one shape that is measured, and do it now."""
    import torch._dynamo as dynamo

    # All variants share the code of their classes. Past the limit Dynamo would silently run the next variant
    # uncompiled.
    dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, 4096)
    dynamo.config.accumulated_recompile_limit = max(dynamo.config.accumulated_recompile_limit, 65536)
    forward: Forward = torch.compile(network, dynamic=False)
    with torch.inference_mode(), _quiet():
        forward(example)
    return forward


def _traced(network: nn.Module, example: Tensor) -> Forward:
    with torch.no_grad(), _quiet():
        forward: Forward = torch.jit.trace(network, example, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
    return forward


def _onnx(network: nn.Module, example: Tensor, path: Path, threads: int) -> Forward:
    """Export by way of a trace, as Ultralytics does."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise Unusable(f"{error.name} is not installed: pip install 'ablate-yolo[export]'") from error
    with torch.no_grad(), _quiet():
        torch.onnx.export(
            network,
            (example,),
            path,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output0"],
            dynamo=False,
        )
    return _Session(onnxruntime, path, example, threads)


class _Session:
    """A graph in ONNX Runtime."""

    def __init__(self, runtime: Any, path: Path, example: Tensor, threads: int) -> None:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A session's threads would spin on after its pass, and take the processor from the network that comes next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._cuda = example.is_cuda
        provider = "CUDAExecutionProvider" if self._cuda else "CPUExecutionProvider"
        if provider not in runtime.get_available_providers():
            raise Unusable(f"this ONNX Runtime has no {provider}: pip install onnxruntime-gpu")
        words = {"device_id": example.device.index or 0} if self._cuda else {}
        self._session = runtime.InferenceSession(str(path), options, providers=[(provider, words)])
        if self._session.get_providers()[0] != provider:  # it falls back to the processor by itself
            raise Unusable(f"ONNX Runtime could not use {provider}")
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()[:1]]

    def __call__(self, image: Tensor) -> Any:
        if not self._cuda:
            return self._session.run(self._outputs, {self._input: image.numpy()})[0]
        # The input stays on the GPU; the predictions are copied back, as they are in use.
        binding = self._session.io_binding()
        image = image.contiguous()
        kind = {torch.float32: 1, torch.float16: 10, torch.bfloat16: 16}[image.dtype]  # onnx.TensorProto.DataType
        place = {"device_type": "cuda", "device_id": image.device.index or 0, "element_type": kind}
        binding.bind_input(name=self._input, **place, shape=tuple(image.shape), buffer_ptr=image.data_ptr())
        binding.bind_output(self._outputs[0], "cpu")
        self._session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]


def _for_export(network: nn.Module, backend: str, example: Tensor) -> None:
    """Let a detector give its decoded predictions only, for one input size, as Ultralytics' exporter does."""
    from ultralytics.nn.modules.head import Detect

    for module in network.modules():
        if isinstance(module, Detect):
            module.export, module.dynamic, module.shape = True, False, None
            module.format = backend
            places = sum(int(example.shape[2] / s) * int(example.shape[3] / s) for s in module.stride.tolist())
            module.max_det = min(module.max_det, places)
    with torch.no_grad():
        for _ in range(2):  # anchors and masks that are kept by size are made now, not in the graph
            network(example)


def _to_partner(output: Tensor, expected: Tensor) -> Tensor:
    """Return for each expected row (5 numbers and a class) how far the nearest row of the output of its class is."""
    far = torch.cdist(expected[:, :4], output[:, :4], p=float("inf"))
    return far.masked_fill(expected[:, 5:6] != output[:, 5], float("inf")).min(dim=1)[0].clamp(max=1e9)


def _relative(output: Tensor, expected: Tensor) -> float:
    return float((output - expected).norm() / expected.norm().clamp(min=1e-9))


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress exporters' warnings about deprecations and traced constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
