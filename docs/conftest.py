"""What pytest leaves alone below docs/: the site's own code, its examples, what a build writes."""

collect_ignore_glob = [
    "conf.py",
    "_*",
    "examples",
    "gallery",
    "measurements",
    "project",
    "reference",
]
