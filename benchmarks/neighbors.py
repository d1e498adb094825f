"""The patch memory: what finds nearest patches, and what k-centre greedy costs.

Patches are ResNet-18's second and third stage on the training images of a category, the third
resized to the second's grid: 384 dimensions. For other dimensions they are projected at random.
"""

import argparse
import time
from unittest import mock

import numpy as np
import torch
from _common import Results, data_arguments
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from skanomaly.datasets import load_mvtec_ad
from skanomaly.features import FeaturePyramid, PatchBank, k_center_greedy
from skanomaly.features._k_center import _LazyGreedy
from skanomaly.images import ImageDataset

MEMORY = 20_000


def extract_patches(arguments):
    images = load_mvtec_ad(arguments.data, arguments.category, split="train").images
    pyramid = FeaturePyramid("resnet18", (2, 3), arguments.resnet18_weights)
    batches = []
    for pixels, _ in ImageDataset(images, image_size=(256, 256)).batches(16):
        fine, coarse = pyramid(pixels)
        coarse = torch.nn.functional.interpolate(coarse, fine.shape[2:], mode="bilinear")
        batches.append(torch.cat([fine, coarse], dim=1).permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat(batches).numpy()


def projected(patches, d, seed=0):
    """Of d dimensions, fewer or more than the patches have."""
    if d == patches.shape[1]:
        return patches
    random_state = np.random.RandomState(seed)
    matrix = random_state.standard_normal((patches.shape[1], d)) / np.sqrt(d)
    return patches @ matrix.astype(np.float32)


def searches(memory, k, few):
    """What is compared; all but the trees compute every distance."""
    bank = PatchBank(len(memory), n_neighbors=k).fit([torch.from_numpy(memory)])
    roads = {
        "PatchBank (PyTorch)": lambda q: bank.kneighbors(torch.from_numpy(q))[0].numpy(),
        "scikit-learn brute": neighbors_of(memory, k, "brute"),
    }
    if k == 1:
        roads["scikit-learn argmin_min"] = lambda q: pairwise_distances_argmin_min(q, memory)[1]
    if few and memory.shape[1] <= 128:
        roads["scikit-learn kd_tree"] = neighbors_of(memory, k, "kd_tree")
        roads["scikit-learn ball_tree"] = neighbors_of(memory, k, "ball_tree")
    try:
        import faiss
    except ImportError:
        return roads
    index = faiss.IndexFlatL2(memory.shape[1])
    index.add(memory)
    roads["faiss IndexFlatL2"] = lambda q: np.sqrt(index.search(q, k)[0])
    return roads


def neighbors_of(memory, k, algorithm):
    search = NearestNeighbors(n_neighbors=k, algorithm=algorithm).fit(memory)
    return lambda queries: search.kneighbors(queries)[0]


def exact_distances(queries, memory, k):
    """To the k nearest, in float64."""
    queries, memory = torch.from_numpy(queries).double(), torch.from_numpy(memory).double()
    parts = [torch.cdist(q, memory).topk(k, largest=False)[0] for q in queries.split(500)]
    return torch.cat(parts).numpy()


def measure_search(patches, n_queries, d, k, rounds):
    order = np.random.default_rng(0).permutation(len(patches))[: MEMORY + n_queries]
    features = projected(patches[order], d)
    memory, queries = features[:MEMORY], features[MEMORY:]
    queries[:100] = memory[:100]  # whose distance is 0
    roads = searches(memory, k, n_queries <= 1000)
    times, found = {name: [] for name in roads}, {}
    for _ in range(rounds + 1):
        for name, road in roads.items():
            start = time.perf_counter()
            found[name] = road(queries)
            times[name].append(time.perf_counter() - start)
    exact = exact_distances(queries, memory, k)
    errors = {name: np.abs(found[name].reshape(exact.shape) - exact).max() for name in roads}
    return {
        name: {
            "median s": float(np.median(times[name][1:])),  # the first round warms up
            "fastest s": float(np.min(times[name][1:])),
            "largest error": float(errors[name]),
        }
        for name in roads
    }


def plain_k_center(X, n_centers, squared_from):
    """All distances to each new centre."""
    squared, centers = np.full(len(X), np.inf), [0]
    while len(centers) <= n_centers:
        squared = np.minimum(squared, squared_from(centers[-1]))
        squared[centers] = -np.inf
        centers.append(int(squared.argmax()))
    return np.array(centers[:n_centers])


def plain_loops(X):
    """Squared distances from a point: exact, and as most code in the field has them."""
    X64 = X.astype(np.float64)
    norms = np.einsum("ij,ij->i", X, X)
    return {
        "float64": lambda i: np.square(X64 - X64[i]).sum(axis=1),
        "float32": lambda i: norms - 2 * (X @ X[i]) + norms[i],
    }


def measure_k_center(X, n_centers, n_plain, rounds):
    loops = plain_loops(X)
    expected, float64 = timed(plain_k_center, X, n_plain, loops["float64"])
    float32, ours = [], []
    for _ in range(rounds):
        float32.append(timed(plain_k_center, X, n_plain, loops["float32"])[1])
        ((indices, radius), n_computed), times = timed(counted_k_center, X, n_centers)
        ours.append(times)
    extrapolate = n_centers / n_plain
    return {
        "float64": (extrapolate * np.array([float64])).tolist(),
        "float32": (extrapolate * np.array(float32)).tolist(),
        "ours": ours,
        "share": n_computed / (len(X) * n_centers),
        "same centres": bool((indices[:n_plain] == expected).all()),
        "radius": radius,
    }, indices


def timed(function, *arguments):
    """Its result, and the (wall-clock, CPU) seconds it took."""
    start, start_cpu = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return result, (time.perf_counter() - start, time.process_time() - start_cpu)


def counted_k_center(X, n_centers):
    n_computed, lower_bounds = 0, _LazyGreedy._lower_bounds

    def counted(self, rows, columns):
        nonlocal n_computed
        n_computed += len(rows) * len(columns)
        return lower_bounds(self, rows, columns)

    with mock.patch.object(_LazyGreedy, "_lower_bounds", counted):
        found = k_center_greedy(X, n_centers)
    return found, n_computed


def farthest(patches, chosen):
    """The largest distance of a patch from its nearest chosen one, in all dimensions."""
    bank = PatchBank(len(chosen)).fit([torch.from_numpy(patches[chosen])])
    return max(float(bank.distances(part).max()) for part in torch.from_numpy(patches).split(2000))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--queries", nargs="+", type=int, default=[1000, 8000])
    parser.add_argument("--dimensions", nargs="+", type=int, default=[128, 256, 384, 512])
    parser.add_argument("--share", type=float, default=0.1, help="of the patches to choose")
    parser.add_argument("--plain-centers", type=int, default=20, help="that the plain loop does")
    parser.add_argument("--k-center-rounds", type=int, default=3)
    parser.add_argument("--k-center-dimensions", nargs="+", type=int, default=[128, 384])
    parser.add_argument("--threads", type=int, default=1, help="one is steady beside other work")
    parser.add_argument("--parts", nargs="+", default=["search", "k_center"])
    arguments = parser.parse_args()
    patches = extract_patches(arguments)
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        if "search" in arguments.parts:
            search_table(patches, arguments)
        if "k_center" in arguments.parts:
            k_center_table(patches, arguments)


def search_table(patches, arguments):
    results = Results("neighbors_search")
    for n_queries in arguments.queries:
        for d in arguments.dimensions:
            for k in (1, 5):
                key = f"{n_queries} queries, {d} dimensions, k={k}, {arguments.threads} threads"
                if key not in results:
                    results[key] = measure_search(patches, n_queries, d, k, arguments.rounds)
                    print(key, results.rows[key], flush=True)
    results.write_table(
        "Nearest patches",
        "python benchmarks/neighbors.py --parts search",
        f"Among {MEMORY} patches of ResNet-18, float32. Median and fastest of several rounds in "
        "turn, without building the index; relative to the PatchBank's median. Other programs ran "
        "on the machine, which costs waits wherever threads meet. Largest error of a distance "
        "against float64; 100 of the queries are in the memory, so that their distance is 0.",
        ["queries", "road", "median", "fastest", "relative", "largest error"],
        [
            [
                key,
                road,
                f"{row['median s']:.3f} s",
                f"{row['fastest s']:.3f} s",
                f"{row['median s'] / rows['PatchBank (PyTorch)']['median s']:.2f}",
                f"{row['largest error']:.0e}",
            ]
            for key, rows in results.rows.items()
            for road, row in rows.items()
        ],
    )


def k_center_table(patches, arguments):
    results = Results("neighbors_k_center")
    n_centers = int(arguments.share * len(patches))
    for d in arguments.k_center_dimensions:
        key = f"{n_centers} of {len(patches)} patches, {d} dimensions, {arguments.threads} threads"
        if key not in results:
            row, indices = measure_k_center(
                projected(patches, d), n_centers, arguments.plain_centers, arguments.k_center_rounds
            )
            row["radius in all dimensions"] = farthest(patches, indices)
            results[key] = row
            print(key, row, flush=True)
    key = f"{n_centers} of {len(patches)} patches, at random"
    if key not in results:
        chosen = np.random.default_rng(0).choice(len(patches), n_centers, replace=False)
        results[key] = {"radius in all dimensions": farthest(patches, chosen)}
    results.write_table(
        "k-centre greedy",
        "python benchmarks/neighbors.py --parts k_center",
        "Patches of ResNet-18 on the training images, projected at random to fewer dimensions or "
        "as they are. The plain loop computes all distances to each new centre: as differences in "
        "float64, which defines what is exact, or by matrix multiplication in float32, as most "
        f"code does. It was timed for its first {arguments.plain_centers} centres and "
        "extrapolated, as each takes it the same time; that ours are the same is checked for "
        "those. Medians of the rounds, in turn, wall-clock and, in brackets, CPU time; other "
        "programs ran on the machine. Share is of the distances that the plain loop computes, "
        "here by matrix multiplication in float32. Radius is the largest distance of a patch from "
        "the nearest that is kept, in all dimensions.",
        ["choice", "plain, float64", "plain, float32", "ours", "share", "same", "radius"],
        [
            [
                key,
                *(seconds(row, road) for road in ("float64", "float32", "ours")),
                f"{100 * row['share']:.0f} %" if "share" in row else "",
                row.get("same centres", ""),
                f"{row['radius in all dimensions']:.2f}",
            ]
            for key, row in results.rows.items()
        ],
    )


def seconds(row, road):
    if road not in row:
        return ""
    wall, cpu = np.median(row[road], axis=0)
    return f"{wall:.0f} s ({cpu:.0f} s)"


if __name__ == "__main__":
    main()
