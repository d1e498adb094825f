"""Patch reconstruction error: Pinon, Trombetta, Lartizien, arXiv 2307.02495."""

from __future__ import annotations

from sklearn.utils._param_validation import StrOptions

from ..maps import SSIM_WINDOW, structural_similarity
from ..patches import PatchMean, continued, interpolate_places, patch_places
from ._patch_detector import PatchDetector, PatchLoss


class PatchReconstruction(PatchDetector):
    """Detect defects as what an auto-encoder of small patches fails to reconstruct.

    A convolutional auto-encoder of a few thousand parameters is trained on random
    patches of images of good parts; the error between an image's patches and
    their reconstructions is the map [1]_. From scratch, at the images' own
    resolution, for textures.

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
    error : {"squared", "ssim"}, default="squared"
        Squared difference, mean over channels, or one minus the structural
        similarity around a pixel (Gaussian window of 11 pixels).
    aggregation : {"mean", "center"}, default="mean"
        A pixel's error is the mean over the patches that cover it, or that of the
        patch whose centre it is.
    stride : int, default=1
        Pixels between the patches that are looked at. 3, the step of the network,
        takes about a sixth of the time of 1.
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
    PatchLatentSVM, PatchRestoration : The paper's other two methods.
    skanomaly.patches.ConvAutoEncoder : The network.

    Notes
    -----
    The decoder gives back a patch without a rim of 12 pixels, which a patch's own
    latents do not determine. So a pixel is covered by the patches whose inner 39
    x 39 pixels hold it; with SSIM the inner 29 x 29, whose windows lie inside.

    The network has no padding, so an image is encoded once for every phase of its
    strides, not once for every patch, with the same result.

    Stated in the paper are patch size, latent size and number of patches; kernels,
    strides, filters, GELU, batch norm, Adam and 20 epochs are those of the
    authors' network of the same year. The rest is ours.

    References
    ----------
    .. [1] N. Pinon, R. Trombetta, C. Lartizien, "Anomaly detection in image or
           latent space of patch-based auto-encoders for industrial image
           analysis", arXiv:2307.02495, GRETSI 2023.

    Examples
    --------
    >>> from skanomaly import PatchReconstruction
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("brick", n_normal=10, random_state=0)
    >>> detector = PatchReconstruction(n_patches=40, max_epochs=2, random_state=0)
    >>> detector.fit(train.images).transform(train.images[:2]).shape
    (2, 128, 128)
    """

    _parameter_constraints: dict = {
        **PatchDetector._parameter_constraints,
        "error": [StrOptions({"squared", "ssim"})],
        "aggregation": [StrOptions({"mean", "center"})],
    }

    def __init__(
        self,
        *,
        patch_size=63,
        channels=(3, 4, 12, 16),
        kernel_sizes=(5, 3, 3, 3),
        strides=(1, 1, 3, 1),
        error="squared",
        aggregation="mean",
        stride=1,
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
        self.error = error
        self.aggregation = aggregation
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
        self._check_coverage(module)
        patches = self._open_patches(images, validation)
        self.net_ = self._fit_on_patches(patches, module, PatchLoss)

    def _check_coverage(self, module):
        side = self.patch_size - 2 * self._rim(module)
        if side < 1:
            raise ValueError(
                f"patch_size={self.patch_size} is too small for error={self.error!r}: its window "
                f"exceeds the {module.patch_size - 2 * module.margin} pixels of a patch that are "
                "reconstructed; choose a larger one"
            )
        if self.aggregation == "mean" and self.stride > side:
            raise ValueError(
                f"stride={self.stride} leaves pixels that no patch covers: a patch gives the error "
                f"of its {side} inner pixels; choose a stride of at most {side}"
            )

    def _compute_maps(self, pixels):
        network = self.net_.module_.folded()
        self._check_coverage(network)
        places = [patch_places(size, self.stride) for size in pixels.shape[2:]]
        x = continued(pixels, self.patch_size)
        rim = self._rim(network)
        if self.aggregation == "mean":
            mean = PatchMean(pixels[:, 0], self.patch_size, rim)
            for phase in network.phases(x, *places):
                mean.add_phase(self._errors(network, x, phase), phase)
            return mean.result()
        maps = pixels.new_zeros(pixels.shape[0], *map(len, places))
        for phase in network.phases(x, *places):
            maps = phase.put(
                maps, phase.at(self._errors(network, x, phase), self.patch_size // 2 - rim)
            )
        return interpolate_places(maps, places, pixels.shape[2:])

    def _rim(self, network):
        """Pixels at each border of a patch for which it gives no error."""
        return network.margin + (SSIM_WINDOW // 2 if self.error == "ssim" else 0)

    def _errors(self, network, x, phase):
        """Errors (n, h, w) of all patches of a phase, which agree where they overlap."""
        y = network.decode(phase.z)
        top, left = (axis.start + network.margin for axis in (phase.rows, phase.columns))
        x = x[:, :, top : top + y.shape[2], left : left + y.shape[3]]
        if self.error == "ssim":
            return 1 - structural_similarity(x, y, SSIM_WINDOW)
        # Channels first, for a mean over so few channels is slow where they lie together.
        return y.sub_(x).contiguous().square_().mean(dim=1)
