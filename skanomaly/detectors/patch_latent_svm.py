"""One-class SVM on patch latents: Pinon, Trombetta, Lartizien, arXiv 2307.02495."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ..patches import PatchDataset, continued, patch_places
from ._patch_detector import PatchDetector, PatchLoss

# Latents gathered at a time, in elements; more is slower on a CPU, for want of cache.
MAX_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}


class KernelMachines(nn.Module):
    r"""Mean of the decision functions of several machines with RBF kernels.

    .. math:: \frac1K \sum_k \Bigl( \sum_j \alpha_{kj}
              \exp(-\gamma_k \lVert z - s_{kj} \rVert^2) - \rho_k \Bigr)

    Parameters
    ----------
    machines : sequence of (s, alpha, gamma, rho)
        Support vectors (m, d), their coefficients (m,), and two numbers.
    """

    def __init__(self, machines):
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
        # A squared distance is taken apart into squares; about their common mean they are
        # smaller, and so is what rounding takes from their difference.
        origin = s.mean(dim=0).float()
        s = s - origin.double()
        gamma = gamma.double()
        self.register_buffer("origin", origin)
        self.register_buffer("weights", (2 * gamma[:, None] * s).float())
        self.register_buffer("bias", (-gamma * s.square().sum(dim=1)).float())
        self.register_buffer("gamma", gamma.float())
        self.register_buffer("alpha", (alpha / len(machines)).float())
        self.rho = sum(float(rho) for *_, rho in machines) / len(machines)

    def forward(self, z):
        """Decision values of latents.

        Parameters
        ----------
        z : tensor, shape (n, d), float32

        Returns
        -------
        tensor, shape (n,), float32
            Higher = more normal.
        """
        z = z - self.origin
        exponents = torch.addmm(self.bias, z, self.weights.T)
        exponents.addcmul_(z.square().sum(dim=1, keepdim=True), self.gamma, value=-1)
        return exponents.exp_() @ self.alpha - self.rho


class PatchLatentSVM(PatchDetector):
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
        self.net_ = self._fit_on_patches(images, validation, module, PatchLoss)
        z = self._latents(images, self.n_estimators * self.n_support)
        self.estimators_ = [
            self._fit_machine(part) for part in np.array_split(z, self.n_estimators)
        ]
        self.machines_ = KernelMachines([_kernel_expansion(svm) for svm in self.estimators_])

    def _compute_maps(self, pixels):
        places = [patch_places(size, self.stride) for size in pixels.shape[2:]]
        maps = pixels.new_empty(len(pixels), *map(len, places))
        for phase in self.net_.module_.phases(continued(pixels, self.patch_size), *places):
            phase.put(maps, -self._decisions(phase))
        return maps

    def _decisions(self, phase):
        """Decision values of a phase's patches, (n, rows, columns)."""
        size, d = self.net_.module_.latent_size, len(self.machines_.origin)
        n, n_columns = len(phase.z), len(phase.columns.which)
        n_rows = max(1, MAX_ELEMENTS.get(phase.z.device.type, 2**20) // (n * n_columns * d))
        values = []
        for start in range(0, len(phase.rows.which), n_rows):
            windows = phase.windows(size, slice(start, start + n_rows))
            values.append(self.machines_(windows.reshape(-1, d)).view(n, -1, n_columns))
        return torch.cat(values, dim=1)

    def _latents(self, images, n):
        """Latents of n random patches, drawn evenly from the images, (n, d)."""
        patches = PatchDataset(images, self.patch_size, -(-n // len(images)), n_jobs=self.n_jobs)
        self._place(self._device)
        z = []
        for i in range(len(patches)):
            with torch.inference_mode():
                x = patches.__getitems__([i]).to(self._device)
                z.append(self.net_.module_.encode(x).permute(0, 2, 3, 1).flatten(1).cpu())
        z = torch.cat(z)
        return z[torch.randperm(len(z))[:n]].double().numpy()

    def _fit_machine(self, z):
        gamma = self.gamma
        if gamma == "scale":
            gamma = 1 / (z.shape[1] * z.var())
        if self.svm == "exact":
            return OneClassSVM(nu=self.nu, gamma=gamma).fit(z)
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
