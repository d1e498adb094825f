"""Folders of good parts, as commands take them."""

from __future__ import annotations

import os

import click

from ._output import CommandError

all_good_option = click.option(
    "--all-good",
    is_flag=True,
    help="All images below FOLDER are of good parts, whatever its folders are called.",
)


def good_images(folder, all_good):
    """The images of good parts in a folder, lazily.

    Parameters
    ----------
    folder : str
    all_good : bool
        Whatever names of folders say.

    Returns
    -------
    ImageFiles

    Raises
    ------
    CommandError
        If names say that some are not good, or nothing.
    """
    from ..datasets import load_image_folder
    from ..exceptions import InvalidImageError
    from ..images import ImageFiles

    files = ImageFiles.from_folder(folder, recursive=True)  # its error is about the folder itself
    if all_good:
        return files
    try:
        return load_image_folder(folder, split="train").images
    except InvalidImageError as error:
        what_to_say = "; say which folders are good", "; pass good_folders"
        reason = error.reason
        for of_python in what_to_say:
            reason = reason.partition(of_python)[0]
        raise CommandError(
            f"{error.path or folder}: {reason}; name the folder of the good ones, or add "
            "--all-good if all images below are good"
        ) from None


def check_not_below(folder, inside, option):
    """Refuse to write pictures where images are read from."""
    folder, inside = os.path.realpath(folder), os.path.realpath(inside)
    if os.path.commonpath([folder, inside]) == folder:
        raise CommandError(
            f"{option} {inside} lies in {folder}, whose images are scored: pictures would be taken "
            "for such; name a folder outside it"
        )
