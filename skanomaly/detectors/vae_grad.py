"""Gradient descent on a variational auto-encoder's energy: Dehaene et al., arXiv 2002.03734."""

from __future__ import annotations

import copy
from numbers import Integral, Real

import torch

from .._parameters import parameter
from .._sklearn import Interval
from ._convolutional_autoencoder import (
    AutoencoderDetector,
    ConvAutoencoder,
    EvidenceLoss,
    drawn,
    moments_of,
)
from ._differentiable import differentiable


class VariationalAutoencoder(ConvAutoencoder):
    """An auto-encoder whose latents are normally distributed, given the image.

    Parameters
    ----------
    n_channels, size, width, latent_dim
        As for `ConvAutoencoder`.
    """

    def __init__(self, n_channels, size, width, latent_dim):
        super().__init__(n_channels, size, width, latent_dim, 2 * latent_dim)

    def forward(self, x):
        """The reconstruction, and the latents' mean and logarithm of the variance, (n, d) each.

        Of a latent that is drawn, in training; else of the mean.
        """
        mean, log_var = moments_of(self.encode(x))
        return self.decode(drawn(mean, log_var, self.training), x.shape[2:]), mean, log_var


class VAEGrad(AutoencoderDetector):
    r"""Detect defects as what changes when an image is moved to where it is likely.

    A variational auto-encoder is trained on images of good parts. A new image goes down
    the gradient of an energy, that is low where the auto-encoder reconstructs well and near
    the image itself, mostly in the pixels that were badly reconstructed. How far they
    have moved is the map [1]_; and the image at the end is one without its defects.

    Parameters
    ----------
    latent_dim : int
        Numbers in the latent.
    n_steps : int
        T, steps of the descent. Each takes as long as a step of training.
    step_size : float
        :math:`\alpha`. A pixel is at once at its reconstruction whose squared error is
        :math:`\sigma^2 / \alpha`; where it is more than twice that the descent does not settle.
    l1_weight : float
        :math:`\lambda`, what it costs to differ from the image. A pixel stays as it is whose
        derivative of the reconstruction loss is below it.
    decoder_std : float
        :math:`\sigma`, standard deviation of a pixel about its reconstruction, in units of the
        value range. The smaller, the more the reconstruction counts beside the latents' prior.

    See Also
    --------
    ConvAE : Its map is the difference from the reconstruction.

    Notes
    -----
    With the encoder's mean :math:`\mu(x)` and the decoder d the loss is

    .. math:: L(x) = \frac{1}{2 \sigma^2} \lVert x - d(\mu(x)) \rVert^2

    and of the energy :math:`E(x) = L(x) + \lambda \lVert x - x_0 \rVert_1` a step is

    .. math:: x_{t+1} = x_0 + S_{\lambda w} (x_t - w \nabla L(x_t) - x_0), \quad
              w = \alpha (x_0 - d(\mu(x_0)))^2

    pixel by pixel, within [0, 1], with the soft threshold :math:`S_b(v) = \operatorname{sign}(v)
    \max(|v| - b, 0)`. The map is :math:`|x_T - x_0|`, mean over channels.

    The paper's text was not at hand: energy, weights and map are as remembered, and settings are
    ours, chosen on the development categories. The step is a proximal one: with the derivative of
    the absolute value, as the paper has it, unmoved pixels would tremble about :math:`x_0` by
    :math:`w \lambda`.

    Steps are computed in double precision, as the gradient jumps where a leaky ReLU bends.

    References
    ----------
    .. [1] D. Dehaene, O. Frigo, S. Combrexelle, P. Eline, "Iterative energy-based
           projection on a normal data manifold for anomaly localization", ICLR 2020,
           arXiv:2002.03734.

    Examples
    --------
    >>> from skanomaly import VAEGrad
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("brick", n_normal=20, image_size=64, random_state=0)
    >>> detector = VAEGrad(image_size=64, width=8, n_steps=3, max_epochs=2, random_state=0)
    >>> detector.fit(train.images).restore(train.images[:2]).shape
    (2, 64, 64)
    """

    n_steps: int = parameter(10, Interval(Integral, 1, None, closed="left"))
    step_size: float = parameter(0.04, Interval(Real, 0, None, closed="neither"))
    l1_weight: float = parameter(1.0, Interval(Real, 0, None, closed="left"))
    decoder_std: float = parameter(0.1, Interval(Real, 0, None, closed="neither"))

    _small_parameters = {"n_steps": 3}
    _not_exportable = "its maps are made by descending a gradient"

    def restore(self, X):
        """The images, moved to where they are likely.

        Parameters
        ----------
        X : batch of images
            As for `fit`.

        Returns
        -------
        ndarray, shape (n, H, W, C), or (n, H, W) for one channel, float32
            In [0, 1], of each image's own size; of patches that overlap, the mean. If the
            images differ in size, an object array (n,) of such images.
        """
        return self._made_of(X, self._version)

    def _version(self, pixels):
        return self._over_patches(lambda x: self._restored(x).to(x.dtype), pixels)

    def _module(self, n_channels, size):
        return VariationalAutoencoder(n_channels, size, self.width, self.latent_dim)

    def _criterion(self):
        return EvidenceLoss(self.decoder_std)

    def _patch_maps(self, x):
        return (self._restored(x) - x).abs().mean(dim=1).to(x.dtype)

    def _restored(self, x_0):
        """x_T of images x_0, in the precision of the steps."""
        precise = precision_of(x_0.device)
        with differentiable(x_0.to(precise)) as x:
            module = copy.deepcopy(self.net_.module_).to(precise)  # other threads have the own one
            x_0 = x.detach()
            weights = self.step_size * (x_0 - module(x_0)[0]).detach().square()
            for _ in range(self.n_steps):
                loss = (x - module(x)[0]).square().sum() / (2 * self.decoder_std**2)
                (gradient,) = torch.autograd.grad(loss, x)
                change = x.detach() - weights * gradient - x_0
                x = (x_0 + shrunk(change, weights * self.l1_weight)).clamp(0, 1).requires_grad_()
        return x.detach()


def shrunk(values, by):
    """Values nearer to zero by some amount each, and zero where they would pass it."""
    return values.sign() * (values.abs() - by).clamp(min=0)


def precision_of(device):
    """The type of numbers that steps down a gradient are computed in.

    A gradient jumps where a leaky ReLU bends. In single precision it would depend on the batch,
    and on the number of threads, to which side of the bend a sum is rounded. Apple's devices have
    no other.
    """
    return torch.float32 if device.type == "mps" else torch.float64
