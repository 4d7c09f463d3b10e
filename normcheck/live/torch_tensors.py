"""Tensors of a file as tensors of torch; ties and strides stay as they were saved."""

import torch
from torch import Tensor

from normcheck.errors import UnreadableError
from normcheck.saved.tensors import Storage, TensorRef


class TensorLoader:
    """Turns references into tensors, each storage once."""

    def __init__(self) -> None:
        """Nothing read yet."""
        self._storages: dict[int, tuple[Storage, torch.UntypedStorage]] = {}

    def tensor(self, ref: TensorRef) -> Tensor:
        """The tensor of ``ref``, on the CPU.

        Raises:
            UnreadableError: The file holds no values for it.
        """
        dtype = getattr(torch, ref.dtype.name, None)
        if ref.storage is None or not ref.readable or not isinstance(dtype, torch.dtype):
            raise UnreadableError(
                f"a tensor without values: {ref.note or ref.dtype.name}",
                "save the model with its values, as plain tensors; or build it with --model",
            )
        if ref.storage.big_endian:
            # Rare enough for a copy: the bytes of such a file lie the other way round.
            tensor = torch.from_numpy(ref.values().astype(ref.values().dtype.newbyteorder("=")))
            return tensor.to(dtype)
        storage = self._storage(ref.storage)
        tensor = torch.empty(0, dtype=dtype).set_(storage, ref.offset, ref.shape, ref.strides)
        if ref.conjugated:
            tensor = torch.conj(tensor)
        return -tensor if ref.negated else tensor

    def _storage(self, storage: Storage) -> torch.UntypedStorage:
        known = self._storages.get(id(storage))
        if known is None:
            if storage.root is not None:
                raw = storage.root.read(storage.start, storage.nbytes)
            else:
                raw = storage.read(0, storage.nbytes)
            # A bytearray: torch warns of memory that cannot be written.
            copied = torch.frombuffer(bytearray(raw) or bytearray(1), dtype=torch.uint8)
            known = (storage, copied.untyped_storage())
            self._storages[id(storage)] = known
        return known[1]
