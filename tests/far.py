"""A second device that holds real numbers, for machines without a GPU: what mixes it with the first fails, as there.

Its tensors say that they are on `FAR` and keep a tensor of this CPU, on which everything is computed. The device "lazy"
has no kernels in an ordinary build, so nothing else can answer for it, and autograd needs no thread of its own for it.
What a GPU's kernels would do, and how fast, this does not show.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from gr2.lm import checkpoint, item_head
from gr2.stages import s03_midtrain, s13_evaluate

AT_HOME = (checkpoint, s03_midtrain, s13_evaluate)
"""Modules that put a language model where language models live."""
FAR, NEAR = torch.device("lazy", 0), torch.device("cpu")
CARRIES = ("aten::_to_copy", "aten::to", "aten::copy_")
"""What may read one device and write the other."""
PICKS = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
"""What a GPU does with numbers of places that lie on the CPU."""


class FarTensor(torch.Tensor):
    """Of FAR; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "FarTensor":
        far = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=FAR,
        )
        far.inner = inner
        return far

    def __repr__(self) -> str:
        return f"FarTensor({self.inner!r})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert a far tensor to numpy; use Tensor.cpu() first")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return answer(op, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Catches what makes a tensor on FAR, which no argument tells."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return answer(op, args, kwargs or {})


class _FromData(TorchFunctionMode):
    """Catches what makes a tensor of Python's numbers, of which the dispatcher does not hear."""

    def __torch_function__(self, made: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if made is torch.Tensor.new_tensor and isinstance(args[0], FarTensor):
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(FAR)
        if made in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or NEAR).type == FAR.type:
            kwargs.pop("device")
            return made(*args, **kwargs).to(FAR)
        if made in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(args[0], FarTensor):
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            listed = tuple(torch.tensor(place) if isinstance(place, list) else place for place in places)
            return made(args[0], listed, *args[2:])
        return made(*args, **kwargs)


def answer(op: Any, args: Any, kwargs: Any) -> Any:
    """What the CPU computes of the numbers inside, on the device on which a GPU's answer would be."""
    name, tensors = op._schema.name, [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    far = any(isinstance(x, FarTensor) for x in tensors)
    wanted = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.device)]
    there = wanted[0].type == FAR.type if wanted else far
    if far and name not in CARRIES:
        picked = tree_flatten(args[1])[0] if name in PICKS and isinstance(args[0], FarTensor) else ()
        near = [x for x in tensors if not isinstance(x, FarTensor) and x.ndim and not any(x is p for p in picked)]
        if near:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, found {FAR} and {NEAR}")
    if there and isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError(f"{name}: expected a generator of {FAR}, found {NEAR}")
    found = op(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    written = op._schema.arguments[0].alias_info if args else None
    if written and written.is_write and isinstance(args[0], torch.Tensor):  # in place: what was given is what changed
        return args[0]
    if not there:
        return found
    views = any(result.alias_info for result in op._schema.returns)
    with torch.inference_mode(args[0].is_inference() if views else torch.is_inference_mode_enabled()):
        return tree_map(lambda x: FarTensor(x) if isinstance(x, torch.Tensor) else x, found)


def _inner(x: Any) -> Any:
    if isinstance(x, FarTensor):
        return x.inner
    return NEAR if isinstance(x, torch.device) and x.type == FAR.type else x


@contextmanager
def a_far_device() -> Iterator[torch.device]:
    """FAR is there inside the block, and language models live on it, as they do on a GPU."""
    autocast, save, ties = torch.autocast, item_head.save, torch.__future__.get_swap_module_params_on_conversion()

    def near_autocast(device: str, *args: Any, **kwargs: Any) -> Any:
        return autocast(NEAR.type if device == FAR.type else device, *args, **kwargs)

    def save_from_near(model: Any, folder: Path) -> None:
        """safetensors reads the memory of a GPU, and of nothing that it does not know."""
        save(model.to(NEAR), folder)
        model.to(FAR)

    with pytest.MonkeyPatch.context() as patch, _FromData(), _Everywhere():
        for module in AT_HOME:
            patch.setattr(module, "home", lambda: FAR)
        patch.setattr(torch, "autocast", near_autocast)
        patch.setattr(item_head, "save", save_from_near)
        torch.__future__.set_swap_module_params_on_conversion(True)  # or `to` would untie tied weights
        try:
            yield FAR
        finally:
            torch.__future__.set_swap_module_params_on_conversion(ties)
