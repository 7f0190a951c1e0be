"""TensorDictModule without an import search for pandas in every call.

tensordict 0.14 converts each output with ``TensorDict.from_any``, which searches the import path
for pandas: 0.15 ms per call where pandas is not installed, as much as a small network takes. Remove
this module when ``test_tensordict_module_searches_for_pandas`` fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from tensordict.utils import NestedKey
from torch import Tensor


class FastTensorDictModule(TensorDictModule):
    """Drop-in replacement of ``TensorDictModule`` for networks that return tensors."""

    def _write_to_tensordict(
        self,
        tensordict: TensorDictBase,
        tensors: Sequence[Tensor],
        tensordict_out: TensorDictBase | None = None,
        out_keys: Iterable[NestedKey] | None = None,
    ) -> TensorDictBase:
        if tensordict_out is not None or out_keys is not None or self.inplace is not True:
            return super()._write_to_tensordict(tensordict, tensors, tensordict_out, out_keys)
        for key, tensor in zip(self.out_keys_source, tensors, strict=True):
            tensordict.set(key, tensor)
        return tensordict
