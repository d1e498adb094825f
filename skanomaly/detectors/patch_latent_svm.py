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
from torch import nn

from .._parameters import parameter
from .._process import is_exporting
from .._sklearn import Interval, Numbers, StrOptions
from ._patch_detector import PatchDetector, PatchLoss
from ._patches import continued, interpolate_places, patch_places


class KernelMachines(nn.Module):
    r"""Mean of the decision functions of several machines with RBF kernels, on latents of patches.

    .. math:: \frac1K \sum_k \Bigl( \sum_j \alpha_{kj}
              \exp(-\gamma_k \lVert z - s_{kj} \rVert^2) - \rho_k \Bigr)

    The products of all patches of an image with a support vector are one
    convolution, whose kernel the support vector is.

    Parameters
    ----------
    machines : iterable of (s, alpha, gamma, rho)
        Support vectors (m, d), their coefficients (m,), and two numbers.
    shape : (int, int, int)
        Channels, height and width of a patch's latent, of which vectors are made.
    """

    def __init__(self, machines, shape):
        super().__init__()
        machines = list(machines)
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

    An auto-encoder is trained on patches of images of good parts; one-class SVMs are
    fitted to latents of some of them; minus their mean decision value for a patch is
    the map at the patch's central pixel [1]_.

    Parameters
    ----------
    svm_patch_sizes : sequence of int
        Sides, in pixels, of the patches that are judged, each size by machines of its own,
        whose decision values are averaged: of large ones a small defect changes little,
        and of small ones a large defect does not show as such. The paper's is (63,).
    svm : {"exact", "nystroem"}
        `sklearn.svm.OneClassSVM`, or `sklearn.linear_model.SGDOneClassSVM` on
        `sklearn.kernel_approximation.Nystroem`'s features, which takes many more
        vectors.
    n_estimators : int
        Machines of each size, whose decision values are averaged; the authors', as are
        the next and `nu` and `gamma`.
    n_support : int
        Latents that each machine is fitted to.
    n_components : int
        Of Nystroem's features; at most `n_support`.
    nu : float in (0, 1]
        Share of the latents that may lie outside.
    gamma : "scale" or float
        Of the kernel ``exp(-gamma |z - z'|^2)``. "scale" is one over the number of
        elements of a latent times their variance.
    stride : int
        Pixels between the patches that are looked at; the map is interpolated
        between their centres.

    Attributes
    ----------
    estimators_ : list
        The machines, size by size, as scikit-learn fitted them, to latents (channels,
        height, width) as vectors. `skanomaly.save` leaves them out, as scoring does without.
    machines_ : ModuleList of KernelMachines
        The same of each size, as PyTorch scores them.

    See Also
    --------
    PatchReconstruction, PatchRestoration : The paper's other two methods.

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

    svm_patch_sizes: tuple[int, ...] = parameter((27, 63), Numbers(Integral, 1))
    svm: str = parameter("exact", StrOptions({"exact", "nystroem"}))
    n_estimators: int = parameter(5, Interval(Integral, 1, None, closed="left"))
    n_support: int = parameter(500, Interval(Integral, 2, None, closed="left"))
    n_components: int = parameter(500, Interval(Integral, 1, None, closed="left"))
    nu: float = parameter(0.03, Interval(Real, 0, 1, closed="right"))
    gamma: float | str = parameter(
        "scale", StrOptions({"scale"}), Interval(Real, 0, None, closed="neither")
    )
    stride: int = parameter(4, Interval(Integral, 1, None, closed="left"), affects="scores")

    _not_saved = ("estimators_",)  # `machines_` has of them what scores
    _small_parameters = {"n_estimators": 2, "n_support": 50, "svm_patch_sizes": (27, 33)}

    def _fit_images(self, images, validation):
        module = self._make_autoencoder(images.n_channels)
        for size in self.svm_patch_sizes:
            module.latent_size_of(size)
        self._check_coverage()
        patches = self._open_patches(images, validation)
        self.net_ = self._fit_autoencoder(patches, module, module, PatchLoss)
        self.estimators_, self.machines_ = [], nn.ModuleList()
        for size in self.svm_patch_sizes:
            z = self._latents(patches[0].of_size(size), self.n_estimators * self.n_support)
            fitted = [self._fit_machine(part) for part in np.array_split(z, self.n_estimators)]
            self.estimators_ += fitted
            shape = (self.channels[-1], *2 * [module.latent_size_of(size)])
            self.machines_.append(KernelMachines(map(_kernel_expansion, fitted), shape))

    def _check_coverage(self):
        smallest = min(self.svm_patch_sizes)
        if self.stride > smallest:
            raise ValueError(
                f"stride={self.stride} leaves pixels that no patch of {smallest} covers; choose a "
                f"stride of at most {smallest}"
            )

    @property
    def _largest_patch(self):
        return max(self.patch_size, *self.svm_patch_sizes)

    def _compute_maps(self, pixels):
        self._check_coverage()
        network = self.net_.module_.folded()
        places = [patch_places(size, self.stride) for size in pixels.shape[2:]]
        maps = [
            self._decisions(network, machines, size, pixels, places)
            for size, machines in zip(self.svm_patch_sizes, self.machines_, strict=True)
        ]
        return interpolate_places(-sum(maps) / len(maps), places, pixels.shape[2:])

    def _decisions(self, network, machines, patch_size, pixels, places):
        """Of the patches of a size at all places, (n, number of rows, number of columns)."""
        found = pixels.new_zeros(pixels.shape[0], *map(len, places))
        for phase in network.phases(continued(pixels, patch_size), *places):
            z, strides = phase.of_patches(network.latent_size_of(patch_size))
            # One by one, to save memory; a loop's length is not to depend on an export's example.
            parts = [z] if is_exporting() else z.split(1)
            found = phase.put(found, torch.cat([machines(part, strides) for part in parts]))
        return found

    def _latents(self, patches, n):
        """Latents of n random patches, drawn evenly from the images, (n, d) in random order."""
        network, patches = self.net_.module_, patches.drawing(-(-n // len(patches)))
        self._place(self._device)
        d = network.latent_size_of(patches.patch_size) ** 2 * self.channels[-1]
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
