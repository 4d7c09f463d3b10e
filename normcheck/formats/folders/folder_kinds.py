"""Folders that are one checkpoint: which kind of program wrote them, told by their names."""

from collections.abc import Iterable
from enum import StrEnum

from normcheck.lazy_pattern import lazy_pattern

_DEEPSPEED = lazy_pattern(r"(zero_pp_rank_\d+_)?mp_rank_\d+_model_states\.pt")
_DEEPSPEED_LAYER = lazy_pattern(r"layer_\d+-model_\d+-model_states\.pt")
_DEEPSPEED_OWN = lazy_pattern(r"(\w*mp_rank|layer|\w*zero_pp_rank)_\d+.*_(model|optim)_states\.pt")
_MEGATRON = lazy_pattern(r"mp_rank_\d{2,}(_\d{3})*")
_DISTRIBUTED_SUFFIX = ".distcp"
METADATA = ".metadata"
FSDP_MODEL = lazy_pattern(r"model_world_size_(?P<world>\d{1,6})_rank_(?P<rank>\d{1,6})\.pt")
_FSDP_OWN = lazy_pattern(r"\w+_world_size_\d+_rank_\d+\.pt")

HF_SHARD = lazy_pattern(r"shard-(?P<rank>\d{5})-.{1,200}\.safetensors")


class FolderKind(StrEnum):
    """What wrote the folder."""

    DISTRIBUTED = "torch.distributed checkpoint"
    DEEPSPEED = "DeepSpeed checkpoint"
    MEGATRON = "Megatron checkpoint"
    FSDP = "FSDP checkpoint"
    HF_SHARDS = "safetensors of several ranks"

    def owns_file(self, name: str) -> bool:
        """Whether a file is read through the folder, and not by itself."""
        match self:
            case FolderKind.DISTRIBUTED:
                return name == METADATA or name.endswith(_DISTRIBUTED_SUFFIX)
            case FolderKind.DEEPSPEED:
                return _DEEPSPEED_OWN.fullmatch(name) is not None
            case FolderKind.FSDP:
                return _FSDP_OWN.fullmatch(name) is not None
            case FolderKind.HF_SHARDS:
                return HF_SHARD.fullmatch(name) is not None
            case FolderKind.MEGATRON:
                return False

    def owns_folder(self, name: str) -> bool:
        """Whether a folder below is read through this one."""
        return self is FolderKind.MEGATRON and _MEGATRON.fullmatch(name) is not None


def kind_of_folder(folders: Iterable[str], files: Iterable[str]) -> FolderKind | None:
    """Which kind of checkpoint a folder with these names is; None for a folder of files."""
    names = set(files)
    if METADATA in names and any(name.endswith(_DISTRIBUTED_SUFFIX) for name in names):
        return FolderKind.DISTRIBUTED
    if any(_DEEPSPEED.fullmatch(name) or _DEEPSPEED_LAYER.fullmatch(name) for name in names):
        return FolderKind.DEEPSPEED
    if any(FSDP_MODEL.fullmatch(name) for name in names):
        return FolderKind.FSDP
    if any(HF_SHARD.fullmatch(name) for name in names):
        return FolderKind.HF_SHARDS
    if any(_MEGATRON.fullmatch(name) for name in folders):
        return FolderKind.MEGATRON
    return None
