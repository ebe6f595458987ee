"""Search for the nearest rows of a memory bank, exact to rounding: through faiss, or in PyTorch on a GPU that faiss
cannot use, and in exported models.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from reconpatch.errors import ReconpatchError
from reconpatch.method.feature_files import PAIRS
from reconpatch.runtime import forked, visible_devices

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Engine = Literal["faiss on a GPU", "PyTorch on a GPU", "faiss on the CPU"]


def load_faiss() -> Any:
    """The faiss module. Its OpenBLAS may be years older than the processor, which it then treats as one of 2004.

    numpy's knows better, so its answer is given to the other while that is loaded: four times the speed of a search on
    a processor of 2023.
    """
    known = {"SapphireRapids": "SkylakeX", "Cooperlake": "SkylakeX"}  # as older versions call what these run
    found = [str(b["architecture"]) for b in threadpool_info() if b["internal_api"] == "openblas"]
    given = os.environ.get("OPENBLAS_CORETYPE")
    if found and given is None:
        os.environ["OPENBLAS_CORETYPE"] = known.get(found[0], found[0])
    try:
        import faiss
    finally:
        if given is None:
            os.environ.pop("OPENBLAS_CORETYPE", None)
    return faiss


faiss = load_faiss()


class Search(Protocol):
    """Finds the rows of the memory bank it was made of that are nearest to queries."""

    engine: Engine

    def __call__(self, queries: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """(N, D) -> ((N, k) Euclidean distances, nearest first, (N, k) rows of the bank).

        Where a query is not finite, the distance is not finite or the row is -1.
        """


def choose_engine(device: str) -> Engine:
    """auto, cpu or cuda -> what searches here. Raises ReconpatchError for cuda where neither library finds a GPU.

    faiss comes first. Its builds for GPUs want one version of CUDA, so on newer machines PyTorch finds a GPU and faiss
    does not.
    """
    if device == "cuda" or (device == "auto" and visible_devices()):  # PyTorch takes seconds to load
        if faiss.get_num_gpus():
            return "faiss on a GPU"
        import torch

        if torch.cuda.is_available():
            return "PyTorch on a GPU"
    if device == "cuda":
        raise ReconpatchError(
            "neither faiss nor PyTorch finds a GPU here", where="device: cuda", fix="set device: auto or device: cpu"
        )
    return "faiss on the CPU"


def search_in(patches: Floats, threads: int = 1, device: str = "cpu") -> Search:
    """(M, D) memory bank, threads of a search on the CPU, auto, cpu or cuda -> a search in it. Raises as
    `choose_engine` does.
    """
    engine = choose_engine(device)
    return TorchSearch(patches) if engine == "PyTorch on a GPU" else FaissSearch(patches, threads, engine)


@contextmanager
def faiss_threads(count: int) -> Iterator[None]:
    """Have faiss use this number of threads for what the calling thread searches inside the block; one in a forked
    process, where OpenMP would wait for threads that are not there.
    """
    before = faiss.omp_get_max_threads()  # of the calling thread
    faiss.omp_set_num_threads(1 if forked() else count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class FaissSearch:
    """A search through faiss."""

    def __init__(self, patches: Floats, threads: int = 1, engine: Engine = "faiss on the CPU") -> None:
        self.engine: Engine = engine
        self.threads = threads
        self.index = faiss.IndexFlatL2(patches.shape[1])
        if engine == "faiss on a GPU":
            self.resources = faiss.StandardGpuResources()  # must live as long as the index
            self.index = faiss.index_cpu_to_gpu(self.resources, 0, self.index)
        # Threads may search one index at once on the CPU, but not on a GPU.
        self.turn: AbstractContextManager[object] = threading.Lock() if engine == "faiss on a GPU" else nullcontext()
        self.index.add(np.ascontiguousarray(patches, np.float32))

    def __call__(self, queries: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """As `Search`."""
        with self.turn, faiss_threads(self.threads):
            squared, rows = self.index.search(np.ascontiguousarray(queries, np.float32), k)
        return np.sqrt(np.maximum(squared, 0)), rows


class TorchSearch:
    """A search in PyTorch: blocks of the bank, one matrix product each, and the least k so far.

    Bank and queries are centred first. That does not change distances, and makes the rounding errors smaller.

    The products find the rows: |b|^2 - 2qb, less the |q|^2 that all rows have in common. The distances to the rows that
    are found are then computed from differences, so they are not subject to the cancellation in the products.
    """

    engine: Engine = "PyTorch on a GPU"

    def __init__(self, patches: Floats, device: str = "cuda", pairs: int = PAIRS) -> None:
        import torch

        self.device, self.pairs = device, pairs
        bank = torch.from_numpy(np.ascontiguousarray(patches, np.float32)).to(device)
        self.mean = bank.mean(0)
        self.bank = bank - self.mean
        self.norms = torch.einsum("md,md->m", self.bank, self.bank)

    def __call__(self, queries: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """As `Search`."""
        import torch

        q = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).to(self.device)
        distances, rows = self.nearest(q, k, max(k, self.pairs // max(1, len(q))))
        distances, order = distances.sort(dim=1, stable=True)
        return distances.cpu().numpy(), rows.gather(1, order).cpu().numpy()

    def nearest(self, queries: "Tensor", k: int, size: int) -> "tuple[Tensor, Tensor]":
        """(N, D), k, rows of the bank in a block -> ((N, k) distances, (N, k) rows of the bank), not quite in order."""
        import torch

        q = queries - self.mean
        doubled = q * -2
        least: Any = None
        for start in range(0, len(self.bank), size):
            block = slice(start, start + size)
            products = torch.addmm(self.norms[block], doubled, self.bank[block].T)
            values, rows = products.topk(min(k, products.shape[1]), dim=1, largest=False)
            rows += start
            if least is not None:
                values, rows = torch.cat([least[0], values], 1), torch.cat([least[1], rows], 1)
                values, chosen = values.topk(min(k, values.shape[1]), dim=1, largest=False)
                rows = rows.gather(1, chosen)
            least = values, rows
        found: Tensor = least[1]
        return torch.stack([(q - self.bank[column]).square_().sum(1) for column in found.T], 1).sqrt_(), found
