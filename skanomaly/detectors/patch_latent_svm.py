"""One-class SVM on patch latents: Pinon, Trombetta, Lartizien, arXiv 2307.02495."""

from __future__ import annotations

from contextlib import nullcontext
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ..patches import continued, interpolate_places, patch_places
from ._patch_detector import PatchDetector, PatchLoss


class KernelMachines(nn.Module):
    r"""Mean of the decision functions of several machines with RBF kernels, on latents of patches.

    .. math:: \frac1K \sum_k \Bigl( \sum_j \alpha_{kj}
              \exp(-\gamma_k \lVert z - s_{kj} \rVert^2) - \rho_k \Bigr)

    The products of all patches of an image with a support vector are one
    convolution, whose kernel the support vector is.

    Parameters
    ----------
    machines : sequence of (s, alpha, gamma, rho)
        Support vectors (m, d), their coefficients (m,), and two numbers.
    shape : (int, int, int)
        Channels, height and width of a patch's latent, of which vectors are made.
    """

    def __init__(self, machines, shape):
        super().__init__()
        s, alpha, gamma = (
            torch.cat(parts)
            for parts in zip(
                *(
                    (torch.as_tensor(s), torch.as_tensor(a), torch.full((len(s),), float(g)))
                    for s, a, g, _ in machines
                )
            )
        )
        s, gamma = s.view(-1, *shape), gamma.double()
        # A squared distance is taken apart into squares; about the mean they are smaller, and
        # so is what rounding takes from their difference.
        origin = s.mean(dim=(0, 2, 3), keepdim=True).float()
        s = s - origin.double()
        self.register_buffer("origin", origin)
        self.register_buffer("weights", (2 * gamma.view(-1, 1, 1, 1) * s).float())
        self.register_buffer("bias", (-gamma * s.square().sum(dim=(1, 2, 3))).float())
        self.register_buffer("gamma", gamma.float().view(-1, 1, 1))
        self.register_buffer("alpha", (alpha / len(machines)).float())
        self.rho = sum(float(rho) for *_, rho in machines) / len(machines)

    def forward(self, z, stride=1):
        """Decision values of all patches in latents, or of every so many.

        Parameters
        ----------
        z : tensor, shape (n, c, h, w), float32
        stride : int or (int, int), default=1
            Positions from a patch to the next.

        Returns
        -------
        tensor, shape (n, number of rows, number of columns), float32
            Higher = more normal.
        """
        z = z - self.origin
        height, width = self.weights.shape[2:]
        with _full_precision(z.device):
            exponents = F.conv2d(z, self.weights, self.bias, stride)
        squares = z.square().sum(dim=1, keepdim=True)
        squares = height * width * F.avg_pool2d(squares, (height, width), stride)
        exponents.addcmul_(squares, self.gamma, value=-1)
        return torch.einsum("nmij,m->nij", exponents.exp_(), self.alpha) - self.rho


def _full_precision(device):
    """Context in which convolutions on a GPU do not round to 10 bits."""
    if device.type != "cuda":
        return nullcontext()
    cudnn = torch.backends.cudnn
    return cudnn.flags(cudnn.enabled, cudnn.benchmark, allow_tf32=False)


class PatchLatentSVM(PatchDetector):
    """Detect defects as patches whose latents lie outside the support of normal ones.

    An auto-encoder is trained on random patches of images of good parts; one-class
    SVMs are fitted to latents of some of them; minus their mean decision value for
    a patch is the map at the patch's central pixel [1]_.

    Parameters
    ----------
    patch_size : int, default=63
        Side of a patch in pixels; the paper's. The next three are those of the
        authors' network of the same year, which gives the paper's latent.
    channels : sequence of int, default=(3, 4, 12, 16)
        Of each convolution of the encoder; the last are those of the latent. The
        decoder mirrors them.
    kernel_sizes : sequence of int, default=(5, 3, 3, 3)
        Of each convolution.
    strides : sequence of int, default=(1, 1, 3, 1)
        Of each convolution. They and the patch's size must come out even.
    svm : {"exact", "nystroem"}, default="exact"
        `sklearn.svm.OneClassSVM`, or `sklearn.linear_model.SGDOneClassSVM` on
        `sklearn.kernel_approximation.Nystroem`'s features, which takes many more
        vectors.
    n_estimators : int, default=5
        Machines whose decision values are averaged; the authors', as are the next
        and `nu` and `gamma`.
    n_support : int, default=500
        Latents that each machine is fitted to.
    n_components : int, default=500
        Of Nystroem's features; at most `n_support`.
    nu : float in (0, 1], default=0.03
        Share of the latents that may lie outside.
    gamma : "scale" or float, default="scale"
        Of the kernel exp(-gamma |z - z'|^2). "scale" is one over the number of
        elements of a latent times their variance.
    stride : int, default=4
        Pixels between the patches that are looked at; the map is interpolated
        between their centres.
    n_patches : int, default=1000
        Random patches drawn of each training image, over all epochs; the paper
        draws about as many, and goes over them repeatedly.
    image_size : int, (int, int) or None, default=None
        Height and width that the network sees; None keeps each image's own.
    value_range : (float, float) or None, default=None
        Pixel values that mean black and white. None: by dtype for uint8 and
        uint16, (0, 1) for floats.
    smoothing : float, default=4.0
        Standard deviation of the map's Gaussian, in pixels of the network's
        input.
    score_reduction : {"max", "mean", "sum"}, default="max"
        From map to score.
    contamination : float in (0, 0.5), default=0.05
        Share of new normal images that may be called anomalous; sets `offset_`.
    validation_fraction : float in (0, 1), default=0.2
        Share of the images that is kept out of training, for the threshold and
        to choose the epoch whose state is kept.
    max_epochs : int, default=20
        The authors', for that network.
    lr : float, default=3e-3
        Learning rate of Adam at the start.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        "cosine" lets the rate fall to zero over the epochs.
    train_batch_size : int, default=1
        Images whose patches make a step of training:
        ``n_patches / max_epochs`` of each.
    batch_size : int, default=4
        Images that are scored at once.
    callbacks : list of skorch callbacks or None, default=None
        Further ones, such as `skorch.callbacks.EarlyStopping`.
    checkpoint : path or None, default=None
        File that keeps the state of the training after each epoch. A fit that
        finds it there goes on from it, to the same result as without the
        interruption, and removes it at the end. Needs an int as `random_state`.
    device : str or torch.device, default="auto"
        "auto" is CUDA or MPS where there is one, else the CPU.
    n_jobs : int or None, default=None
        Threads that read images.
    random_state : int, RandomState or None, default=None
        Decides the validation images, the start of what is trained, the patches
        and everything else that is drawn.
    verbose : int, default=0
        1 shows a progress bar, 2 prints the losses of each epoch.

    Attributes
    ----------
    net_ : AnomalyNet
        The trained auto-encoder (`net_.module_`) and its history (`net_.history`).
    estimators_ : list
        The machines as scikit-learn fitted them, to latents (channels, height,
        width) as vectors. `skanomaly.save` leaves them out, as scoring does without.
    machines_ : KernelMachines
        The same, as PyTorch scores them.
    offset_ : float
        Threshold on `score_samples`: what lies below is anomalous.
    validation_scores_ : ndarray, shape (n_validation,), float64
        Scores of the images kept out of training, from which `offset_` comes.
    validation_maxima_ : ndarray, shape (n_validation,), float64
        Their maps' largest values.
    map_threshold_ : float
        Map value that `contamination` of new normal images exceed somewhere;
        ``-offset_`` if the score is the map's maximum.
    n_channels_in_ : int
        Channels of the images seen in `fit`.
    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored: an image is
        continued by reflection by half a patch.

    See Also
    --------
    PatchReconstruction, PatchRestoration : The paper's other two methods.

    Notes
    -----
    The network has no padding, so an image is encoded once for every phase of its
    strides, not once for every patch, with the same result.

    References
    ----------
    .. [1] N. Pinon, R. Trombetta, C. Lartizien, "Anomaly detection in image or
           latent space of patch-based auto-encoders for industrial image
           analysis", arXiv:2307.02495, GRETSI 2023.

    Examples
    --------
    >>> from skanomaly import PatchLatentSVM
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("brick", n_normal=10, random_state=0)
    >>> detector = PatchLatentSVM(n_patches=40, max_epochs=2, n_support=50, random_state=0)
    >>> detector.fit(train.images).transform(train.images[:2]).shape
    (2, 128, 128)
    """

    _not_saved = ("estimators_",)  # `machines_` has of them what scores

    _parameter_constraints: dict = {
        **PatchDetector._parameter_constraints,
        "svm": [StrOptions({"exact", "nystroem"})],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "n_support": [Interval(Integral, 2, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "nu": [Interval(Real, 0, 1, closed="right")],
        "gamma": [StrOptions({"scale"}), Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        patch_size=63,
        channels=(3, 4, 12, 16),
        kernel_sizes=(5, 3, 3, 3),
        strides=(1, 1, 3, 1),
        svm="exact",
        n_estimators=5,
        n_support=500,
        n_components=500,
        nu=0.03,
        gamma="scale",
        stride=4,
        n_patches=1000,
        image_size=None,
        value_range=None,
        smoothing=4.0,
        score_reduction="max",
        contamination=0.05,
        validation_fraction=0.2,
        max_epochs=20,
        lr=3e-3,
        lr_schedule="cosine",
        train_batch_size=1,
        batch_size=4,
        callbacks=None,
        checkpoint=None,
        device="auto",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.patch_size = patch_size
        self.channels = channels
        self.kernel_sizes = kernel_sizes
        self.strides = strides
        self.svm = svm
        self.n_estimators = n_estimators
        self.n_support = n_support
        self.n_components = n_components
        self.nu = nu
        self.gamma = gamma
        self.stride = stride
        self.n_patches = n_patches
        self.image_size = image_size
        self.value_range = value_range
        self.smoothing = smoothing
        self.score_reduction = score_reduction
        self.contamination = contamination
        self.validation_fraction = validation_fraction
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.train_batch_size = train_batch_size
        self.batch_size = batch_size
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _fit_images(self, images, validation):
        module = self._make_autoencoder(images.n_channels)
        patches = self._open_patches(images, validation)
        self.net_ = self._fit_on_patches(patches, module, PatchLoss)
        z = self._latents(patches[0], self.n_estimators * self.n_support)
        self.estimators_ = [
            self._fit_machine(part) for part in np.array_split(z, self.n_estimators)
        ]
        shape = (self.channels[-1], module.latent_size, module.latent_size)
        machines = [_kernel_expansion(svm) for svm in self.estimators_]
        self.machines_ = KernelMachines(machines, shape)

    def _compute_maps(self, pixels):
        network = self.net_.module_.folded()
        places = [patch_places(size, self.stride) for size in pixels.shape[2:]]
        maps = pixels.new_zeros(pixels.shape[0], *map(len, places))
        for phase in network.phases(continued(pixels, self.patch_size), *places):
            z, strides = phase.of_patches(network.latent_size)
            # One by one, to save memory; a loop's length is not to depend on an export's example.
            parts = [z] if torch.onnx.is_in_onnx_export() else z.split(1)
            decisions = torch.cat([self.machines_(part, strides) for part in parts])
            maps = phase.put(maps, -decisions)
        return interpolate_places(maps, places, pixels.shape[2:])

    def _latents(self, patches, n):
        """Latents of n random patches, drawn evenly from the images, (n, d) in random order."""
        network, patches = self.net_.module_, patches.drawing(-(-n // len(patches)))
        self._place(self._device)
        d = network.latent_size**2 * self.channels[-1]
        order = torch.randperm(len(patches) * patches.n_patches)
        z = torch.empty(n, d)
        for i, rows in enumerate(order.split(patches.n_patches)):
            with torch.inference_mode():
                latents = network.encode(patches.__getitems__([i]).to(self._device))
            kept = rows < n
            z[rows[kept]] = latents.flatten(1).cpu()[kept]
        return z.numpy()

    def _fit_machine(self, z):
        z = z.astype(np.float64)
        gamma = self.gamma
        if gamma == "scale":
            gamma = 1 / (z.shape[1] * (z.var() or 1.0))
        if self.svm == "exact":
            svm = OneClassSVM(nu=self.nu, gamma=gamma)
            svm.random_state = 0  # changes no result, but None moves NumPy's global generator
            return svm.fit(z)
        seed = int(torch.randint(2**31, ()))
        return make_pipeline(
            Nystroem(gamma=gamma, n_components=min(self.n_components, len(z)), random_state=seed),
            SGDOneClassSVM(nu=self.nu, random_state=seed),
        ).fit(z)


def _kernel_expansion(svm):
    """Support vectors, coefficients, gamma and rho of a fitted machine."""
    if isinstance(svm, OneClassSVM):
        return svm.support_vectors_, svm.dual_coef_[0], svm.gamma, -svm.intercept_[0]
    nystroem, linear = svm[0], svm[1]
    alpha = linear.coef_ @ nystroem.normalization_
    return nystroem.components_, alpha, nystroem.gamma, linear.offset_[0]
