"""What an update differentiates, and how the gradients of its micro-batches become those of the weights."""

import copy
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from transformer.model.layers import Linear
from transformer.model.transformer import Transformer

Term = tuple[Tensor, ...]  # of a micro-batch: its summed loss, then the gradient at each leaf


class Weights:
    """The weights themselves."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = list(model.parameters())
        self.leaves = self.parameters

    def refresh(self) -> None:
        """To be called before the first micro-batch of an update."""

    def collect(self, terms: Iterable[Term], pool: ThreadPoolExecutor | None) -> Tensor:
        """Put the sum of the gradients into every parameter's `grad`; returns the sum of the losses."""
        total, *sums = summed(terms)
        for parameter, gradient in zip(self.parameters, sums, strict=True):
            parameter.grad = gradient
        return total


class Copies(Weights):
    """A network with copies of the weights for a CPU, which the micro-batches of an update share.

    The products' weights are cast to `precision` once an update instead of once a micro-batch; all that stays float32
    shares the memory of the original. Gradients are summed in float32, in the order of the micro-batches. The rows of
    the embedding that were looked up have a gradient of their own, which is added to that of the projection.
    """

    def __init__(self, original: Transformer, precision: torch.dtype) -> None:
        super().__init__(original)
        self.network = copy.deepcopy(original).train()
        self.network.embedding.sparse_gradient = True
        self._cast: list[tuple[nn.Parameter, Tensor]] = []
        for copied, module in zip(self.network.modules(), original.modules(), strict=True):
            for name, parameter in module.named_parameters(recurse=False):
                dtype = precision if isinstance(module, Linear) else torch.float32
                setattr(copied, name, self._copy(parameter, dtype))
        self.projection = self._copy(original.embedding.weight, precision)
        self.leaves = [*self.network.parameters(), self.projection]
        self._embedding = [parameter is original.embedding.weight for parameter in self.parameters].index(True)

    def _copy(self, parameter: Tensor, dtype: torch.dtype) -> nn.Parameter:
        copied = nn.Parameter(parameter.detach().to(dtype))
        if dtype != parameter.dtype:
            self._cast.append((copied, parameter))
        return copied

    def refresh(self) -> None:
        """Cast the weights as they are now."""
        for copied, parameter in self._cast:
            copied.data.copy_(parameter.data)

    def collect(self, terms: Iterable[Term], pool: ThreadPoolExecutor | None) -> Tensor:
        """See `Weights.collect`; each thread of the pool adds up some of the parameters."""
        losses, *gradients, of_projection = zip(*terms, strict=True)
        looked_up = gradients[self._embedding]
        gradients[self._embedding] = of_projection

        def put(index: int) -> None:
            gradient = gradients[index][0].float()
            for more in gradients[index][1:]:
                gradient.add_(more)
            if index == self._embedding:
                for rows in looked_up:
                    gradient.index_add_(0, rows._indices()[0], rows._values())
            self.parameters[index].grad = gradient

        largest_first = sorted(range(len(gradients)), key=lambda index: -self.parameters[index].numel())
        each: Callable[..., Iterable[None]] = pool.map if pool else map
        list(each(put, largest_first))
        return torch.stack(losses).sum()


def summed(terms: Iterable[Term]) -> list[Tensor]:
    """The sum of each tensor over the terms, in their order, in the memory of the first term."""
    iterator = iter(terms)
    sums = list(next(iterator))
    for term in iterator:
        torch._foreach_add_(sums, list(term))
    return sums
