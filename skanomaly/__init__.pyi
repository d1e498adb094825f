"""What can be imported, as python -m skanomaly.utils.stubs has written it."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from joblib import Memory
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin

from ._image_detector import ImageDetector
from .base import BaseImageDetector
from .synthesis import DefectGenerator
from .compose.ensemble_detector import make_ensemble as make_ensemble
from .deployment.files import load as load
from .deployment.files import save as save
from .deployment.onnx_detector import OnnxDetector as OnnxDetector
from .deployment.onnx_export import export_onnx as export_onnx
from .exceptions import InvalidImageError as InvalidImageError
from .growing import merge_detectors as merge_detectors
from .images._files import ImageFiles as ImageFiles
from .preprocessing.audit import audit_images as audit_images
from .regions import find_regions as find_regions

__version__: str = ...

class ARAE(BaseImageDetector):
    """Detect anomalies as what an auto-encoder, trained against an adversary, does not give back."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    channels: tuple[int, ...]
    latent_dim: int
    error: str
    epsilon: float
    n_steps: int
    latent_weight: float
    min_image_size_: Any
    residual_distance_: Any
    required_size_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 32,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 'auto',
        score_reduction: str | float = 'mean',
        standardize: str | None = None,
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 64,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 100,
        lr: float = 0.005,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 16,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        channels: tuple[int, ...] = (16, 32),
        latent_dim: int = 32,
        error: str = 'squared',
        epsilon: float = 0.05,
        n_steps: int = 1,
        latent_weight: float = 0.1,
    ) -> None: ...
    def reconstruct(
        self,
        X,
    ): ...

class CAVGA(BaseImageDetector):
    """Detect defects as what the attention of an auto-encoder of good images leaves out."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    latent_dim: int
    width: int
    patch_size: int | None
    stride: int
    weight_decay: float
    decoder_std: float
    adversarial_weight: float
    attention_weight: float
    two_sided: bool
    patch_size_: Any
    min_image_size_: Any
    required_size_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 200,
        lr: float = 0.001,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 4,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        latent_dim: int = 32,
        width: int = 32,
        patch_size: int | None = 128,
        stride: int = 64,
        weight_decay: float = 1e-05,
        decoder_std: float = 0.1,
        adversarial_weight: float = 0.01,
        attention_weight: float = 1.0,
        two_sided: bool = True,
    ) -> None: ...

class ConvAE(BaseImageDetector):
    """Detect defects as what an auto-encoder with a narrow latent fails to reconstruct."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    latent_dim: int
    width: int
    patch_size: int | None
    stride: int
    weight_decay: float
    loss: str
    patch_size_: Any
    min_image_size_: Any
    required_size_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 200,
        lr: float = 0.001,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 4,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        latent_dim: int = 100,
        width: int = 32,
        patch_size: int | None = 128,
        stride: int = 64,
        weight_decay: float = 1e-05,
        loss: str = 'ssim',
    ) -> None: ...
    def reconstruct(
        self,
        X,
    ): ...

class DeepSVDD(BaseImageDetector):
    """Detect anomalies as images that a network does not bring near to a centre."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    channels: tuple[int, ...]
    latent_dim: int
    nu: float | None
    normalize_contrast: bool
    pretrain_epochs: int
    weight_decay: float
    center_: Any
    mean_features_: Any
    required_size_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 32,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 'auto',
        score_reduction: str | float = 'mean',
        standardize: str | None = None,
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 64,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 50,
        lr: float = 0.001,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 16,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        channels: tuple[int, ...] = (16, 32),
        latent_dim: int = 32,
        nu: float | None = None,
        normalize_contrast: bool = True,
        pretrain_epochs: int = 50,
        weight_decay: float = 5e-07,
    ) -> None: ...

class FastFlow(BaseImageDetector):
    """Detect defects as features that are unlikely under a normalising flow."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    n_steps: int
    hidden_ratio: float
    kernel_sizes: tuple[int, ...]
    weight_decay: float
    net_: Any
    encoder_: Any
    min_image_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        max_epochs: int = 20,
        lr: float = 0.001,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 8,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        n_steps: int = 4,
        hidden_ratio: float = 0.25,
        kernel_sizes: tuple[int, ...] = (3, 1),
        weight_decay: float = 1e-05,
    ) -> None: ...

class HierarchicalFeatureAE(BaseImageDetector):
    """Detect defects where a pyramid of pretrained features cannot be reconstructed."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    hidden_ratio: float
    negative_slope: float
    level_weights: str
    momentum: float
    weight_decay: float
    level_areas_: Any
    level_similarities_: Any
    net_: Any
    encoder_: Any
    min_image_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        max_epochs: int = 30,
        lr: float = 0.4,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 2,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        hidden_ratio: float = 1.0,
        negative_slope: float = 0.1,
        level_weights: str = 'similarity',
        momentum: float = 0.9,
        weight_decay: float = 0.0001,
    ) -> None: ...
    def residual_maps(
        self,
        X,
    ): ...

class LocalContrast(BaseImageDetector):
    """Detect defects as pixels that differ from their surroundings: no learning at all."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    scales: tuple[float, ...]
    n_images_: Any
    n_before_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 2.0,
        score_reduction: str | float = 'max',
        standardize: str | None = None,
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.9,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        scales: tuple[float, ...] = (8.0, 25.0),
    ) -> None: ...
    def partial_fit(
        self,
        X,
        y=None,
        *,
        roi=None,
    ): ...

class LSA(BaseImageDetector):
    """Detect anomalies as images that are given back badly, or whose latents are unlikely."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    channels: tuple[int, ...]
    latent_dim: int
    n_bins: int
    density_weight: float
    density_width: int
    density_depth: int
    units_: Any
    required_size_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 32,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 'auto',
        score_reduction: str | float = 'mean',
        standardize: str | None = None,
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 64,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 100,
        lr: float = 0.005,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 16,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        channels: tuple[int, ...] = (16, 32),
        latent_dim: int = 32,
        n_bins: int = 100,
        density_weight: float = 1.0,
        density_width: int = 8,
        density_depth: int = 2,
    ) -> None: ...
    def reconstruct(
        self,
        X,
    ): ...

class MedianDifference(BaseImageDetector):
    """Detect defects as pixels that no good image has there: distance from the median image."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    spread: str | None
    min_spread: float
    max_images: int
    median_: Any
    spread_: Any
    required_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 2.0,
        score_reduction: str | float = 'max',
        standardize: str | None = None,
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        spread: str | None = 'range',
        min_spread: float = 0.01,
        max_images: int = 200,
    ) -> None: ...

class MKD(BaseImageDetector):
    """Detect defects as images that a small student sees otherwise than its pretrained teacher."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    mixed_precision: bool | str
    direction_weight: float
    hidden_ratio: float
    n_noisy: int
    noise: float
    mean_squares_: Any
    net_: Any
    encoder_: Any
    min_image_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'mean',
        standardize: str | None = None,
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        max_epochs: int = 50,
        lr: float = 0.005,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 8,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        mixed_precision: bool | str = 'auto',
        direction_weight: float = 1.0,
        hidden_ratio: float = 1.0,
        n_noisy: int = 4,
        noise: float = 0.02,
    ) -> None: ...

class PaDiM(BaseImageDetector):
    """Detect defects as features that are unlikely where they are: a Gaussian for each position."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    n_features: int | None
    regularization: float
    shrinkage: float | str
    channels_: Any
    gaussian_: Any
    required_size_: Any
    encoder_: Any
    min_image_size_: Any
    n_images_: Any
    n_before_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = None,
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 16,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        n_features: int | None = 100,
        regularization: float = 0.01,
        shrinkage: float | str = 'auto',
    ) -> None: ...
    def partial_fit(
        self,
        X,
        y=None,
        *,
        roi=None,
    ): ...

class PatchAE(BaseImageDetector):
    """Detect defects by patch features that were learned by reconstructing defects too."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    mixed_precision: bool | str
    defects: DefectGenerator | None
    patch_size: int
    neighborhood: int
    tune_backbone: bool
    latent_dim: int
    target: str
    max_patches: int
    subsampling: str
    n_neighbors: int
    encoder_lr: float
    backbone_lr: float
    bank_: Any
    joined_: Any
    net_: Any
    encoder_: Any
    min_image_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        max_epochs: int = 5,
        lr: float = 0.001,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 8,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        mixed_precision: bool | str = 'auto',
        defects: DefectGenerator | None = None,
        patch_size: int = 8,
        neighborhood: int = 3,
        tune_backbone: bool = False,
        latent_dim: int = 256,
        target: str = 'defective',
        max_patches: int = 5000,
        subsampling: str = 'k_center',
        n_neighbors: int = 1,
        encoder_lr: float = 0.0001,
        backbone_lr: float = 1e-05,
    ) -> None: ...

class PatchCore(BaseImageDetector):
    """Detect defects as pretrained patch features that are far from all those of good parts."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    coreset: float | int
    n_neighbors: int
    reweight: bool
    metric: str
    scale_levels: bool
    neighborhood: int
    pool_levels: bool
    n_rotations: int
    robust: bool
    max_candidates: int
    bank_: Any
    scale_: Any
    encoder_: Any
    min_image_size_: Any
    n_images_: Any
    n_before_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 16,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        coreset: float | int = 0.1,
        n_neighbors: int = 1,
        reweight: bool = False,
        metric: str = 'euclidean',
        scale_levels: bool = True,
        neighborhood: int = 3,
        pool_levels: bool = False,
        n_rotations: int = 1,
        robust: bool = False,
        max_candidates: int = 250000,
    ) -> None: ...
    def partial_fit(
        self,
        X,
        y=None,
        *,
        roi=None,
    ): ...

class PatchLatentSVM(BaseImageDetector):
    """Detect defects as patches whose latents lie outside the support of normal ones."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    patch_size: int
    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    strides: tuple[int, ...]
    n_patches: int
    two_sided: bool
    svm_patch_sizes: tuple[int, ...]
    svm: str
    n_estimators: int
    n_support: int
    n_components: int
    nu: float
    gamma: float | str
    stride: int
    estimators_: Any
    machines_: Any
    min_image_size_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = None,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 'auto',
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 4,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 20,
        lr: float = 0.003,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 1,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        patch_size: int = 63,
        channels: tuple[int, ...] = (3, 4, 12, 16),
        kernel_sizes: tuple[int, ...] = (5, 3, 3, 3),
        strides: tuple[int, ...] = (1, 1, 3, 1),
        n_patches: int = 1000,
        two_sided: bool = True,
        svm_patch_sizes: tuple[int, ...] = (27, 63),
        svm: str = 'exact',
        n_estimators: int = 5,
        n_support: int = 500,
        n_components: int = 500,
        nu: float = 0.03,
        gamma: float | str = 'scale',
        stride: int = 4,
    ) -> None: ...

class PatchReconstruction(BaseImageDetector):
    """Detect defects as what an auto-encoder of small patches fails to reconstruct."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    patch_size: int
    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    strides: tuple[int, ...]
    n_patches: int
    two_sided: bool
    error: str
    aggregation: str
    stride: int
    residual_distance_: Any
    min_image_size_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = None,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 'auto',
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 4,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 20,
        lr: float = 0.003,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 1,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        patch_size: int = 63,
        channels: tuple[int, ...] = (3, 4, 12, 16),
        kernel_sizes: tuple[int, ...] = (5, 3, 3, 3),
        strides: tuple[int, ...] = (1, 1, 3, 1),
        n_patches: int = 1000,
        two_sided: bool = True,
        error: str = 'mahalanobis',
        aggregation: str = 'mean',
        stride: int = 3,
    ) -> None: ...
    def reconstruct(
        self,
        X,
    ): ...

class PatchRestoration(BaseImageDetector):
    """Detect defects as what changes when unlikely codes of a patch are replaced by likely ones."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    patch_size: int
    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    strides: tuple[int, ...]
    n_patches: int
    two_sided: bool
    error: str
    n_codes: int
    commitment_weight: float
    prior_width: int
    prior_depth: int
    n_prior_patches: int
    prior_lr: float
    likelihood_quantile: float
    n_restorations: int
    stride: int
    net_: Any
    prior_net_: Any
    log_likelihood_threshold_: Any
    noise_seed_: Any
    residual_distance_: Any
    min_image_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = None,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 'auto',
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 4,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 20,
        lr: float = 0.003,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 1,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        patch_size: int = 63,
        channels: tuple[int, ...] = (3, 4, 12, 16),
        kernel_sizes: tuple[int, ...] = (5, 3, 3, 3),
        strides: tuple[int, ...] = (1, 1, 3, 1),
        n_patches: int = 1000,
        two_sided: bool = True,
        error: str = 'mahalanobis',
        n_codes: int = 64,
        commitment_weight: float = 0.25,
        prior_width: int = 32,
        prior_depth: int = 4,
        n_prior_patches: int = 250,
        prior_lr: float = 0.003,
        likelihood_quantile: float = 0.02,
        n_restorations: int = 4,
        stride: int = 18,
    ) -> None: ...
    def restore(
        self,
        X,
    ): ...

class PatchSVDD(BaseImageDetector):
    """Detect defects as patches whose learnt codes are far from those of all good ones."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    patch_size: int
    latent_dim: int
    stride: int
    svdd_weight: float
    n_pairs: int
    max_patches: int
    large_bank_: Any
    small_bank_: Any
    min_image_size_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 40,
        lr: float = 0.001,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 4,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        patch_size: int = 64,
        latent_dim: int = 64,
        stride: int = 4,
        svdd_weight: float = 0.001,
        n_pairs: int = 64,
        max_patches: int = 10000,
    ) -> None: ...

class ReverseDistillation(BaseImageDetector):
    """Detect defects as pretrained features that a student cannot give back from a code."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    level_reduction: str
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    mixed_precision: bool | str
    n_blocks: int
    hidden_ratio: float
    net_: Any
    encoder_: Any
    min_image_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        level_reduction: str = 'product',
        max_epochs: int = 30,
        lr: float = 0.005,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 8,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        mixed_precision: bool | str = 'auto',
        n_blocks: int = 2,
        hidden_ratio: float = 1.0,
    ) -> None: ...

class SelfSupervisedAE(BaseImageDetector):
    """Detect defects as what a filter, trained on artificial ones, takes out of an image."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    mixed_precision: bool | str
    defects: DefectGenerator | None
    error: str
    width: int
    depth: int
    dilations: tuple[int, ...]
    downsampling: int
    skip: bool
    mask_weight: float
    crop_size: int | None
    min_image_size_: Any
    residual_distance_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = None,
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 50,
        lr: float = 0.001,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 1,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        mixed_precision: bool | str = 'auto',
        defects: DefectGenerator | None = None,
        error: str = 'mahalanobis',
        width: int = 64,
        depth: int = 4,
        dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
        downsampling: int = 4,
        skip: bool = True,
        mask_weight: float = 0.05,
        crop_size: int | None = None,
    ) -> None: ...
    def reconstruct(
        self,
        X,
    ): ...

class SPADE(BaseImageDetector):
    """Detect defects as features that are in none of the most similar good images."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    n_images: int
    n_neighbors: int
    window: int | None
    max_positions: int
    max_images: int
    galleries_: Any
    global_features_: Any
    required_size_: Any
    encoder_: Any
    min_image_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        n_images: int = 50,
        n_neighbors: int = 1,
        window: int | None = None,
        max_positions: int = 1024,
        max_images: int = 300,
    ) -> None: ...

class STFPM(BaseImageDetector):
    """Detect defects where a student's features are not those of its pretrained teacher."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    level_reduction: str
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    mixed_precision: bool | str
    momentum: float
    weight_decay: float
    net_: Any
    encoder_: Any
    min_image_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        level_reduction: str = 'product',
        max_epochs: int = 20,
        lr: float = 0.4,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 8,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        mixed_precision: bool | str = 'auto',
        momentum: float = 0.9,
        weight_decay: float = 0.0001,
    ) -> None: ...

class SubspaceAD(BaseImageDetector):
    """Detect defects as pretrained features far from the principal subspace of good parts'."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    explained_variance: float
    scale_levels: bool
    neighborhood: int
    subspace_: Any
    encoder_: Any
    min_image_size_: Any
    n_images_: Any
    n_before_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 16,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        explained_variance: float = 0.95,
        scale_levels: bool = True,
        neighborhood: int = 3,
    ) -> None: ...
    def partial_fit(
        self,
        X,
        y=None,
        *,
        roi=None,
    ): ...

class SuperSimpleNet(BaseImageDetector):
    """Detect defects as features that a network tells from good ones, to which noise was added."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    upsampling: int
    head_channels: int
    noise_std: float
    noise_threshold: float
    truncation: float
    focal_gamma: float
    weight_decay: float
    classification_weight: float
    n_defects_: Any
    net_: Any
    encoder_: Any
    min_image_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 2.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        max_epochs: int = 6,
        lr: float = 0.001,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 8,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        upsampling: int = 1,
        head_channels: int = 32,
        noise_std: float = 0.5,
        noise_threshold: float = 0.2,
        truncation: float = 0.5,
        focal_gamma: float = 4.0,
        weight_decay: float = 1e-05,
        classification_weight: float = 0.3,
    ) -> None: ...

class VAEGrad(BaseImageDetector):
    """Detect defects as what changes when an image is moved to where it is likely."""

    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    max_epochs: int
    lr: float
    lr_schedule: str
    train_batch_size: int
    callbacks: list[Callable] | None
    checkpoint: str | os.PathLike | None
    verbose: int
    latent_dim: int
    width: int
    patch_size: int | None
    stride: int
    weight_decay: float
    n_steps: int
    step_size: float
    l1_weight: float
    decoder_std: float
    patch_size_: Any
    min_image_size_: Any
    required_size_: Any
    net_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        max_epochs: int = 200,
        lr: float = 0.001,
        lr_schedule: str = 'cosine',
        train_batch_size: int = 4,
        callbacks: list[Callable] | None = None,
        checkpoint: str | os.PathLike | None = None,
        verbose: int = 0,
        latent_dim: int = 100,
        width: int = 32,
        patch_size: int | None = 128,
        stride: int = 64,
        weight_decay: float = 1e-05,
        n_steps: int = 10,
        step_size: float = 0.04,
        l1_weight: float = 1.0,
        decoder_std: float = 0.1,
    ) -> None: ...
    def restore(
        self,
        X,
    ): ...

class EnsembleDetector(BaseImageDetector):
    """Let several detectors judge together: their maps are brought to one scale and summed."""

    detectors: list
    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    combination: str
    detector_weights: tuple[float, ...] | None
    detectors_: Any
    member_means_: Any
    member_deviations_: Any
    knots_: Any
    min_image_size_: Any
    required_size_: Any
    n_images_: Any
    n_before_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        detectors: list,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 16,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        combination: str = 'sum',
        detector_weights: tuple[float, ...] | None = None,
    ) -> None: ...
    def get_params(
        self,
        deep=True,
    ): ...
    def partial_fit(
        self,
        X,
        y=None,
        *,
        roi=None,
    ): ...
    def set_params(
        self,
        **params,
    ): ...

class FeatureOutlierDetector(BaseImageDetector):
    """Detect defects by any outlier detector of scikit-learn or PyOD, on pretrained features."""

    estimator: object
    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    smoothing: float | str
    score_reduction: str | float
    standardize: str | None
    false_alarm_rate: float
    validation_fraction: float
    cv: int | None
    batch_size: int
    device: str | torch.device
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    backbone: str | None
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    engine: str
    memory: Memory | str | os.PathLike | None
    level: str
    neighborhood: int
    max_patches: int
    estimator_: Any
    encoder_: Any
    min_image_size_: Any
    required_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    map_mean_: Any
    map_deviation_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        estimator: object,
        *,
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        smoothing: float | str = 4.0,
        score_reduction: str | float = 'max',
        standardize: str | None = 'position',
        false_alarm_rate: float = 0.05,
        validation_fraction: float = 0.2,
        cv: int | None = None,
        batch_size: int = 8,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        backbone: str | None = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (2, 3),
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        level: str = 'patch',
        neighborhood: int = 3,
        max_patches: int = 10000,
    ) -> None: ...

class FlattenedImages(OutlierMixin, TransformerMixin, BaseEstimator):
    """Let a detector of images work on rows that are flattened images."""

    detector: object
    image_shape: str | tuple[int, ...]
    value_range: tuple[float, float] | None
    min_side: int
    detector_: Any
    image_shape_: Any
    stated_range_: Any
    value_range_: Any
    offset_: Any
    n_features_in_: Any
    feature_names_in_: Any

    def __init__(
        self,
        detector: object,
        *,
        image_shape: str | tuple[int, ...] = 'auto',
        value_range: tuple[float, float] | None = None,
        min_side: int = 64,
    ) -> None: ...
    def decision_function(
        self,
        X,
    ): ...
    def fit(
        self,
        X,
        y=None,
    ): ...
    @property
    def offset_(self): ...
    def predict(
        self,
        X,
    ): ...
    def score_samples(
        self,
        X,
    ): ...
    def transform(
        self,
        X,
    ): ...

class ImageFeatures(OutlierMixin, TransformerMixin, BaseEstimator):
    """Turn images into a table of pretrained features, one row for each image."""

    backbone: str
    weights: str | os.PathLike | None
    layers: tuple[int, ...]
    pooling: str
    image_size: int | tuple[int, int] | None
    value_range: tuple[float, float] | None
    batch_size: int
    engine: str
    memory: Memory | str | os.PathLike | None
    device: str | torch.device
    n_jobs: int | None
    encoder_: Any
    n_channels_in_: Any

    def __init__(
        self,
        *,
        backbone: str = 'tf_efficientnet_lite0',
        weights: str | os.PathLike | None = 'imagenet',
        layers: tuple[int, ...] = (1, 2, 3),
        pooling: str = 'mean',
        image_size: int | tuple[int, int] | None = 256,
        value_range: tuple[float, float] | None = None,
        batch_size: int = 8,
        engine: str = 'auto',
        memory: Memory | str | os.PathLike | None = None,
        device: str | torch.device = 'auto',
        n_jobs: int | None = None,
    ) -> None: ...
    def fit(
        self,
        X,
        y=None,
    ): ...
    def get_feature_names_out(
        self,
        input_features=None,
    ): ...
    def transform(
        self,
        X,
    ): ...

class MultiProductDetector(OutlierMixin, TransformerMixin, BaseEstimator):
    """Fit a detector for each product among images of several, and judge each image by its own."""

    detector: object
    products_: Any
    fitted_detectors_: Any
    detectors_: Any
    offsets_: Any
    map_thresholds_: Any

    def __init__(
        self,
        detector: object,
    ) -> None: ...
    def calibrate(
        self,
        X=None,
        *,
        product=None,
        roi=None,
    ): ...
    def decision_function(
        self,
        X,
        *,
        product=None,
        roi=None,
    ): ...
    def detect(
        self,
        X,
        *,
        product=None,
        roi=None,
    ): ...
    @property
    def detectors_(self): ...
    def fit(
        self,
        X,
        y=None,
        *,
        product=None,
        roi=None,
        groups=None,
        X_val=None,
        product_val=None,
    ): ...
    def fit_predict(
        self,
        X,
        y=None,
        *,
        product=None,
        roi=None,
        groups=None,
        X_val=None,
        product_val=None,
    ): ...
    def fit_transform(
        self,
        X,
        y=None,
        *,
        product=None,
        roi=None,
        groups=None,
        X_val=None,
        product_val=None,
    ): ...
    @property
    def map_thresholds_(self): ...
    @property
    def offsets_(self): ...
    def p_values(
        self,
        X,
        *,
        product=None,
        roi=None,
    ): ...
    def partial_fit(
        self,
        X,
        y=None,
        *,
        product=None,
        roi=None,
    ): ...
    def predict(
        self,
        X,
        *,
        product=None,
        roi=None,
    ): ...
    def score_samples(
        self,
        X,
        *,
        product=None,
        roi=None,
    ): ...
    def stream(
        self,
        frames,
        *,
        product=None,
        roi=None,
    ): ...
    def transform(
        self,
        X,
        *,
        product=None,
        roi=None,
    ): ...

class TiledDetector(ImageDetector):
    """Let a detector see large images in tiles, so that small defects are not shrunk away."""

    detector: object
    tile_size: int | tuple[int, int]
    overlap: float
    position: str
    coarse: object
    detectors_: Any
    coarse_: Any
    branch_means_: Any
    branch_deviations_: Any
    tiled_size_: Any
    offset_: Any
    validation_scores_: Any
    validation_maxima_: Any
    map_threshold_: Any
    is_provisional_: Any
    n_channels_in_: Any
    n_left_out_: Any
    n_defects_: Any
    fitted_parameters_: Any

    def __init__(
        self,
        detector: object,
        *,
        tile_size: int | tuple[int, int] = 512,
        overlap: float = 0.25,
        position: str = 'shared',
        coarse: object = None,
    ) -> None: ...

class TransformedImageDetector(ImageDetector):
    """Let a detector see transformed images, and give its maps on the original ones."""

    transformer: object
    detector: object
    transformer_: Any
    detector_: Any
    offset_: Any

    def __init__(
        self,
        transformer: object,
        detector: object,
    ) -> None: ...
    def partial_fit(
        self,
        X,
        y=None,
        *,
        roi=None,
    ): ...
