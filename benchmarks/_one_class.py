"""One class of a classification data set as normal, the others as anomalous."""

from functools import cache, partial

import numpy as np
from _common import (
    NO_BACKBONE,
    Results,
    backbones,
    fit,
    grouped,
    made,
    spread,
    untrained,
)
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM
from tqdm import tqdm

from skanomaly import (
    ARAE,
    CAVGA,
    LSA,
    MKD,
    ConvAE,
    DeepSVDD,
    FeatureOutlierDetector,
    HierarchicalFeatureAE,
    PatchSVDD,
    VAEGrad,
)
from skanomaly.datasets import load_one_class

DATA_SETS = ("mnist", "fashion_mnist", "cifar10")
# Mean image AUROC over the classes that arXiv 2405.09148 prints (table 2; official test split).
PRINTED = {
    "ARAE": (".975", ".936", ".602"),
    "OC-SVM on pixels": (".960", ".928", ".586"),
    "DeepSVDD": (".948", ".928", ".648"),
    "LSA": (".975", ".922", ".641"),
    "MKD": (".987", ".945", ".872"),
    "HFR-AE": (".985", ".939", ".577"),
}
# Not searched: the mean error is what an image that is looked at as a whole is judged by.
AUTOENCODER = {
    **{"image_size": None, "batch_size": 64, "patch_size": None, "latent_dim": 16, "width": 16},
    **{"train_batch_size": 32, "max_epochs": 20, "lr": 2e-3},
    **{"score_reduction": "mean", "standardize": None, "smoothing": 0.0},
}
# Found on training images of a few classes, other classes' training images being anomalous;
# no test image was looked at.
OWN_SIZE = {"image_size": None, "batch_size": 64}
SMALL_NETS = {**OWN_SIZE, "channels": (8, 16)}
TRAINED = {
    "ARAE": partial(ARAE, **SMALL_NETS, latent_dim=16, train_batch_size=32, max_epochs=30, lr=5e-3),
    "DeepSVDD": partial(
        DeepSVDD, **SMALL_NETS, train_batch_size=64, pretrain_epochs=15, max_epochs=15
    ),
    "LSA": partial(
        LSA,
        **SMALL_NETS,
        latent_dim=16,
        density_weight=0.1,
        train_batch_size=32,
        max_epochs=30,
        lr=5e-3,
    ),
    "ConvAE(loss='l2')": partial(ConvAE, loss="l2", **AUTOENCODER),
    "VAEGrad": partial(VAEGrad, **AUTOENCODER),
    "CAVGA": partial(CAVGA, **AUTOENCODER),
    "PatchSVDD": partial(PatchSVDD, **OWN_SIZE, patch_size=16, train_batch_size=32, max_epochs=10),
    "MKD": partial(MKD, image_size=32, max_epochs=20, train_batch_size=32, batch_size=64),
    # At the data's own resolution but for the network's stride.
    "HFR-AE": partial(
        HierarchicalFeatureAE, image_size=32, max_epochs=5, train_batch_size=16, batch_size=64
    ),
}
METHODS = {
    "OC-SVM on pixels": partial(
        FeatureOutlierDetector,
        OneClassSVM(nu=0.1, gamma=0.1),
        level="image",
        backbone=None,
        standardize=None,
        **OWN_SIZE,
    ),
    **TRAINED,
    "DeepSVDD(normalize_contrast=False)": partial(
        made, TRAINED["DeepSVDD"], normalize_contrast=False
    ),
    **{
        f"{name} untrained": partial(untrained, partial(made, make, pretrain_epochs=1))
        for name, make in TRAINED.items()
    },
}
NOTES = """One class is normal: trained on images of that class of the official training split,
tested on images of the official test split, where all other classes are anomalous. Both are drawn
with the seed, at most as many as the column "images" says, the same test images for every class.
"all" are all of both splits. Mean ± standard deviation over seeds.

Images are of their own size, but for HFR-AE's and MKD's, which are resized to 32x32. Settings
that are not the detector's defaults are in benchmarks/_one_class.py. They are the same for all
three data sets. Those of ARAE, DeepSVDD, LSA, OC-SVM and HFR-AE were chosen on training images:
those of other classes in the training split stood for anomalies, and no test image was looked at;
those of the other methods were not searched. "Untrained" is the same detector after one epoch at
a rate at which no weight moves: what the network's random weights, its norms' statistics, centres
and units give. MKD's printed figures are of a VGG-16, whose weights could not be had; ours is of
the network that is named. What is printed is arXiv 2405.09148's table 2, the mean over the
classes, from all images.

CIFAR-10's files were written from JPEG copies of its images, so that pixels differ a little from
the official ones."""


@cache
def images_of(data_set, normal_class, root, split, n_most, seed):
    """At most so many images of a split, drawn by a seed, and their targets."""
    bunch = load_one_class(data_set, normal_class, root, split=split)
    n = len(bunch.images)
    if n_most is not None and n > n_most:
        chosen = np.sort(np.random.RandomState(seed).permutation(n)[:n_most])
        return bunch.images[chosen], bunch.target[chosen]
    return bunch.images, bunch.target


def has_network(make):
    """Whether a detector runs a pretrained network, which one on pixels does not."""
    return make().get_params().get("backbone") is not None


def run_one_class(arguments):
    """Measure what is not yet in the results, and write the table."""
    results = Results("one_class")
    most = arguments.max_train, arguments.max_test
    images = "all" if most == (None, None) else " / ".join(str(n or "all") for n in most)
    jobs = [
        (name, data_set, backbone, images, normal_class, seed)
        for seed in arguments.seeds
        for data_set in arguments.one_class
        for name in arguments.detectors
        for backbone in (arguments.backbones if has_network(METHODS[name]) else [NO_BACKBONE])
        for normal_class in range(10)
    ]
    for name, data_set, backbone, images, normal_class, seed in tqdm(jobs):
        key = f"{name}, {data_set}, {backbone}, {images}, {normal_class}, seed {seed}"
        if key in results:
            continue
        root = arguments.one_class_data / data_set
        (train, _), (test, target) = (
            images_of(data_set, normal_class, root, split, n_most, seed)
            for split, n_most in zip(("train", "test"), most)
        )
        chosen = backbones(arguments).get(backbone, {})
        detector = made(METHODS[name], **chosen, random_state=seed)
        fit_s = fit(detector, train)
        auc = roc_auc_score(target, detector.score_samples(test))
        results[key] = {"image AUROC": auc, "fit_s": fit_s}
    write_one_class(results)


def write_one_class(results):
    """The means over the classes, beside what is printed, and each class."""
    means, classes = [], []
    for key, rows in grouped(results.rows, 4):
        name, data_set, backbone, _ = key
        of_classes = {
            k[4]: [row["image AUROC"] for row in of_class]
            for k, of_class in grouped(results.rows, 5)
            if k[:4] == key
        }
        classes += [[*key, c, len(auc), spread(auc)] for c, auc in of_classes.items()]
        n_seeds = {len(auc) for auc in of_classes.values()}
        if len(of_classes) < 10 or len(n_seeds) > 1:  # no mean is comparable
            continue
        auc = spread(np.mean(list(of_classes.values()), axis=0))
        fit_s = f"{np.median([row['fit_s'] for row in rows]):.0f} s"
        printed = dict(zip(DATA_SETS, PRINTED.get(name.partition("(")[0], ())))
        if name == "HFR-AE" and backbone != "resnet18":
            printed = {}
        means.append([*key, *n_seeds, auc, printed.get(data_set, ""), fit_s])
    header = ["detector", "data", "backbone", "images", "seeds", "image AUROC"]
    results.write_tables(
        "One class against the others",
        "python benchmarks/accuracy.py --one-class mnist fashion_mnist cifar10 "
        "--max-train 2000 --max-test 2000 --backbones resnet18 --seeds 0",
        NOTES,
        {
            "Means over the ten classes": ([*header, "printed", "median fit"], means),
            "Each class": ([*header[:4], "normal", *header[4:]], classes),
        },
    )
