"""What every example of the gallery starts with, so that its pictures look alike."""

import warnings


def reset(gallery_conf, filename):
    """Set matplotlib's figures and silence what short fits on few images warn of."""
    import matplotlib

    from skanomaly.exceptions import ThresholdWarning

    matplotlib.rcParams.update(
        {
            "figure.figsize": (8, 4),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 100,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 10,
        }
    )
    warnings.simplefilter("ignore", ThresholdWarning)
