"""The processes that share one training, one a device: who computes what, and what they tell one another.

An update is cut into the same micro-batches whatever the number of ranks. Each rank computes some of them, the
gradients are summed over all, and every rank takes the same step; the first one alone validates, reports and writes.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.nn.parallel import DistributedDataParallel

from transformer.errors import DataError
from transformer.training.gradients import Term, Weights
from transformer.training.resume import TrainingState

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)  # for a rank that hangs; torchrun notices within a second when one has died


def shares(costs: Sequence[int], ranks: int) -> list[list[int]]:
    """Which micro-batches each rank computes, ascending; the costliest go first, each to the least loaded rank."""
    loads, mine = [0] * ranks, [list[int]() for _ in range(ranks)]
    for piece in sorted(range(len(costs)), key=lambda index: -costs[index]):
        rank = loads.index(min(loads))
        loads[rank] += costs[piece]
        mine[rank].append(piece)
    return [sorted(pieces) for pieces in mine]


class Alone:
    """A training in one process: there is no other rank to share or agree with.

    On a CPU it computes micro-batches in parallel: matrix products of a small model are too short to be split between
    cores without waiting, whole micro-batches are not. On a GPU it computes one after the other.
    """

    rank = 0
    world = 1
    on_this_machine = 1

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def use_threads(self, device: torch.device, threads: int | None, micro_batches: int) -> None:
        """Divide this machine's CPU threads: `threads` in all (None: one a core).

        `micro_batches` is how many of them an update usually has.
        """
        threads = threads or torch.get_num_threads()
        at_once = min(threads, micro_batches) if device.type == "cpu" else 1
        torch.set_num_threads(threads)
        if at_once > 1:
            each = threads // at_once
            self._pool = ThreadPoolExecutor(at_once, initializer=lambda: torch.set_num_threads(each))

    def mine(self, costs: Sequence[int]) -> Sequence[int]:
        """The numbers of the micro-batches that this rank computes, given the costs of all of an update."""
        return range(len(costs))

    def check_same(self, fingerprint: str) -> None:
        """Check that every rank is about to do the same training.

        Raises:
            DataError: params, tokens, code or torch differ.
        """

    def begin(
        self, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer, probe: Callable[[], Tensor]
    ) -> TrainingState:
        """Give every rank the weights, Adam's moments and the state of the first; `probe` computes some loss."""
        return state

    def backward(self, weights: Weights, loss: Callable[[int], Tensor], count: int, tokens: int) -> Tensor:
        """Put the gradient of an update's mean loss into every parameter's `grad`, the same on all ranks.

        Args:
            weights: all that are trained.
            loss: computes the summed loss of this rank's micro-batch number 0, 1, …
            count: how many micro-batches this rank has.
            tokens: target tokens of the update; the loss is divided by them.

        Returns:
            The loss summed over all micro-batches, a device scalar.
        """

        def gradients(place: int) -> Term:
            term = loss(place)
            return term.detach(), *torch.autograd.grad(term / tokens, weights.leaves)

        self._in_a_thread(weights.refresh)
        each = self._pool.map if self._pool else map
        return weights.collect(each(gradients, range(count)), self._pool)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimizer take its step."""
        self._in_a_thread(optimizer.step)

    def _in_a_thread(self, task: Callable[[], object]) -> None:
        """Do it in a thread of the micro-batches, if there are any.

        It would be done sooner by all threads together, if no other process kept one of them waiting: then each
        weight tensor takes as long as the slowest of them.
        """
        if self._pool:
            self._pool.submit(task).result()
        else:
            task()

    def known_to_all(self, find: Callable[[], T]) -> T:
        """What `find` returns on the first rank; the others wait for it."""
        return find()

    def agreed(self, asked: str | None) -> str | None:
        """The signal by which any rank was asked to stop, the same on all ranks; to be called once an update."""
        return asked


class Ranks(Alone):
    """One of several processes in torch's process group."""

    def __init__(self, on_this_machine: int) -> None:
        super().__init__()
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.on_this_machine = on_this_machine
        # Decisions travel over gloo, separately from the gradients, and never make a GPU wait.
        self.control = dist.new_group(backend="gloo", timeout=TIMEOUT)
        self._vote: tuple[Tensor, dist.Work] | None = None
        self._warned = self.rank > 0

    def use_threads(self, device: torch.device, threads: int | None, micro_batches: int) -> None:
        """See `Alone.use_threads`; the ranks on this machine get equal shares."""
        torch.set_num_threads(max(1, (threads or torch.get_num_threads()) // self.on_this_machine))

    def mine(self, costs: Sequence[int]) -> Sequence[int]:
        """See `Alone.mine`."""
        if len(costs) < self.world and not self._warned:
            self._warned = True
            log.warning(
                "an update has %d micro-batches for %d ranks: lower training.micro_batch_tokens, and none is idle",
                len(costs),
                self.world,
            )
        return shares(costs, self.world)[self.rank]

    def check_same(self, fingerprint: str) -> None:
        """See `Alone.check_same`."""
        found: list[str] = [""] * self.world
        dist.all_gather_object(found, fingerprint, group=self.control)
        if len(set(found)) > 1:
            raise DataError("the machines have different params.yaml, data/tokens, code or torch versions")

    def begin(
        self, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer, probe: Callable[[], Tensor]
    ) -> TrainingState:
        """See `Alone.begin`."""
        state = self.known_to_all(lambda: state)
        # This sends the weights of the first rank to the others.
        self._parallel = DistributedDataParallel(_Watched(model), gradient_as_bucket_view=True)
        if state.update:
            for parameter in model.parameters():
                moments = optimizer.state[parameter]
                if self.rank:
                    moments["step"] = torch.tensor(float(state.steps_before + state.update), device=parameter.device)
                    moments["exp_avg"], moments["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
                for name in ("exp_avg", "exp_avg_sq"):
                    dist.broadcast(moments[name], 0)
        # After its first backward pass DDP rearranges its buckets in the order in which gradients came. Let it do so
        # before the first update, so that a resumed run adds up in the same order as an uninterrupted one.
        for _ in range(2):
            self._parallel(probe).backward()
            optimizer.zero_grad()
        return state

    def known_to_all(self, find: Callable[[], T]) -> T:
        """See `Alone.known_to_all`."""
        content = [find() if self.rank == 0 else None]
        dist.broadcast_object_list(content, 0, group=self.control)
        return cast(T, content[0])

    def agreed(self, asked: str | None) -> str | None:
        """See `Alone.agreed`; the answer is one update late, so that votes travel during the next update."""
        before = self._settled_vote()
        number = torch.tensor(signal.Signals[asked].value if asked else 0)
        work = dist.all_reduce(number, dist.ReduceOp.MAX, group=self.control, async_op=True)
        assert work is not None
        self._vote = number, work
        return signal.Signals(before).name if before else None

    def _settled_vote(self) -> int:
        if self._vote is None:
            return 0
        number, work = self._vote
        work.wait()
        return int(number)

    def backward(self, weights: Weights, loss: Callable[[int], Tensor], count: int, tokens: int) -> Tensor:
        """See `Alone.backward`."""
        terms = []

        def compute(term: Callable[[], Tensor]) -> None:
            found = self._parallel(term)
            terms.append(found.detach())
            (found * (self.world / tokens)).backward()  # DDP takes the mean over the ranks, we need the sum

        with self._parallel.no_sync():
            for place in range(count - 1):
                compute(partial(loss, place))
        # The gradients of the last one are sent bucket by bucket while its backward pass still runs.
        compute(partial(loss, count - 1) if count else partial(_nothing, weights.parameters))
        total = torch.stack(terms).sum()
        dist.all_reduce(total)
        return total

    def leave(self) -> None:
        """Leave the group, after the last vote, for which the others may still be waiting."""
        self._settled_vote()
        dist.destroy_process_group()


def _nothing(parameters: list[nn.Parameter]) -> Tensor:
    """A loss of zero from all parameters: a rank without micro-batches has to take part in the sum, too."""
    return torch.stack([parameter.sum() for parameter in parameters]).sum() * 0.0


class _Watched(nn.Module):
    """Computes any loss inside a forward pass, which is where DistributedDataParallel sees the weights used."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.weights = nn.ParameterList(model.parameters())  # not the buffers, which never change

    def forward(self, loss: Callable[[], Tensor]) -> Tensor:
        return loss()


@contextmanager
def joined(device: torch.device, leads: bool) -> Iterator[Ranks]:
    """Membership in the group that torchrun's environment variables describe: over NCCL on GPUs, else gloo.

    Torchrun numbers machines by their names; here rank 0 is on the machine that `leads`, where the train stage runs.
    After an error in the body nothing is said to the other ranks, which may no longer be able to answer.
    """
    number, world, on_this_machine = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, world, is_master=number == 0, timeout=TIMEOUT)
    if leads and number % on_this_machine == 0:
        store.set("first", str(number))
    rank = (number - int(store.get("first"))) % world
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore("group", store),
        rank=rank,
        world_size=world,
        timeout=TIMEOUT,
    )
    ranks = Ranks(on_this_machine)
    yield ranks
    ranks.leave()
