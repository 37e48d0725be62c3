"""Whether a model fits into the pod's memory, asked before its weights are fetched.

The bound is a lower one: what it refuses could not run. It is parameters times the bytes that the
stage holds for each at once, and leaves out what depends on the work: activations, caches, buffers,
adapters and their moments, other models beside it, the program itself. So a model that passes may
still run out of memory. On a processor, weights in the file's own type are mapped, and where they
do not fit a kernel would read nearly all of them from the disk again for every token: that is hours
for an answer, and counts as not running.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from palimpsest.api.shortage import Shortage
from palimpsest.api.task import (
    AlignParameters,
    Parameters,
    RewardModelParameters,
    TrainParameters,
)

from palimpsest_stage.errors import ModelTooLarge

CGROUPS = Path("/sys/fs/cgroup")
MEMORY = Path("/proc/meminfo")
_BFLOAT16, _FLOAT32 = 2, 4
# float32 weights, their gradients and AdamW's two moments; all four are there in an update.
_TUNED = 4 * _FLOAT32


@dataclass(frozen=True)
class Use:
    """How a stage holds a model: as which kind, with so many bytes for each parameter."""

    kind: Literal["causal", "classifier", "encoder"]
    bytes_each: int


def use(parameters: Parameters, name: str) -> Use:
    """Of the model input called so.

    Sampling, answering and LoRA hold frozen weights in bfloat16; a private training in its own
    precision; full tuning as above; classifiers, what becomes one included, and embedders are
    float32.
    """
    if name in ("reward", "judge") or isinstance(parameters, RewardModelParameters):
        return Use("classifier", _FLOAT32)
    if name == "embedder":
        return Use("encoder", _FLOAT32)
    if isinstance(parameters, AlignParameters) and parameters.lora_rank is None:
        return Use("causal", _TUNED)
    if isinstance(parameters, TrainParameters) and parameters.precision == "float32":
        return Use("causal", _FLOAT32)
    return Use("causal", _BFLOAT16)


def check(parameters: Parameters, name: str, folder: Path, weights: int) -> None:
    """Raises ModelTooLarge if the model whose config.json the folder holds does not fit.

    `weights` are the bytes of its files. Of a config.json that transformers make nothing of nothing
    is said: loading says it. Nor of a pool's embedder: it is small, and the libraries that count
    would stay in the memory of a stage that has it run by a process of its own.
    """
    if parameters.stage == "cluster":
        return
    held = use(parameters, name)
    counted = count(folder, held.kind)
    if counted is None:
        return
    needs = needed(counted.parameters, held.bytes_each, weights if counted.quantized else None)
    what, has = available()
    if has is not None and needs > has:
        told = {"model": name, "parameters": counted.parameters, "needs": needs, "has": has}
        raise ModelTooLarge(Shortage.model_validate({"what": what, **told}))


def needed(parameters: int, bytes_each: int, quantized: int | None = None) -> int:
    """Bytes at least; of a quantised model, whose files have so many bytes, no more than those."""
    whole = parameters * bytes_each
    return whole if quantized is None else min(whole, quantized)


@dataclass(frozen=True)
class Counted:
    """How many parameters a model has, tied ones once, and whether they lie packed in its files."""

    parameters: int
    quantized: bool


def count(folder: Path, kind: str) -> Counted | None:
    """What the library builds of config.json, without storage; None where it builds nothing."""
    import torch  # noqa: PLC0415 - 4 s, and a pod that asks an endpoint has no model
    from transformers import (  # noqa: PLC0415
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
    )

    classes = {
        "causal": AutoModelForCausalLM,
        "classifier": AutoModelForSequenceClassification,
        "encoder": AutoModel,
    }
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = classes[kind].from_config(config, trust_remote_code=False)
    # Whatever a foreign file can make a library raise.
    except Exception:
        return None
    quantized = getattr(config, "quantization_config", None) is not None
    return Counted(sum(each.numel() for each in model.parameters()), quantized)


def available() -> tuple[Literal["Memory", "GPUMemory"], int | None]:
    """What models are loaded into, and its bytes in all; None where that is unknown.

    With a CUDA device only its own memory counts: on the way there weights are mapped.
    """
    import torch  # noqa: PLC0415 - 4 s

    if torch.cuda.is_available():
        return "GPUMemory", int(torch.cuda.get_device_properties(0).total_memory)
    return "Memory", memory(CGROUPS, MEMORY)


def memory(cgroups: Path, machine: Path) -> int | None:
    """The container's limit (cgroup v2, or v1), or the machine's memory if less; and all swap.

    Swap is memory too, and how much of it a container may use cannot be told everywhere.
    """
    limits = (
        _number(cgroups / "memory.max"),
        _number(cgroups / "memory" / "memory.limit_in_bytes"),
        _kibibytes(machine, "MemTotal"),
    )
    known = [limit for limit in limits if limit is not None]
    return min(known) + (_kibibytes(machine, "SwapTotal") or 0) if known else None


def _number(path: Path) -> int | None:
    """A file's number; None where it is not there, or says `max`."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _kibibytes(path: Path, name: str) -> int | None:
    """A line of /proc/meminfo, in bytes."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        found = next(line for line in lines if line.startswith(f"{name}:"))
        return 1024 * int(found.split()[1])
    except (OSError, ValueError, IndexError, StopIteration):
        return None
