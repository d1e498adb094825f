"""The pictures of docs/methods: an image, what each method sees of it, its map and the mask."""

import argparse
from pathlib import Path

import _pictures_on_features
import _pictures_on_pixels
from _panels import draw_rows

IMAGES = Path(__file__).parents[1] / "docs" / "images" / "methods"
PICTURES = {
    make.__name__: make for make in (*_pictures_on_features.PICTURES, *_pictures_on_pixels.PICTURES)
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", choices=sorted(PICTURES), default=sorted(PICTURES))
    for name in parser.parse_args().pictures:
        draw_rows(list(PICTURES[name]()), IMAGES / f"{name}.png")
        print(name, flush=True)


if __name__ == "__main__":
    main()
