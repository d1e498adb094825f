"""Settings of the site: ``python -m sphinx -W --keep-going docs docs/_build/html``."""

import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import skanomaly
from skanomaly._site import SITE

project = "skanomaly"
author = "the skanomaly developers"
copyright = author
version = release = skanomaly.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
    "generated_pages",
    "linked_names",
]
exclude_patterns = ["_build", "_ext", "_templates", "examples", "README.md"]
templates_path = ["_templates"]
default_role = "obj"
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(numpy|torch|sklearn|skorch|matplotlib|PIL|pandas|scipy|timm)\..*"),
]

# Guides are Markdown that a code host shows as well: links are relative, to files and headings.
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_inline"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4

autosummary_generate = False  # generated_pages writes them
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "reference/used_in",
    "doc_module": ("skanomaly",),
    "reference_url": {"skanomaly": None},
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "image_scrapers": ("matplotlib",),
    "remove_config_comments": True,
    "capture_repr": ("_repr_html_",),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1,
    "plot_gallery": True,
    "reset_modules": ("matplotlib", "gallery_setup.reset"),
}
warnings.filterwarnings("ignore", category=UserWarning, module="matplotlib")

html_theme = "pydata_sphinx_theme"
html_title = f"skanomaly {release}"
html_baseurl = SITE
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "get-started": []}
html_theme_options = {
    "logo": {"text": "skanomaly"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_nav_level": 1,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_exclude = ".linenos, .gp, .go"
