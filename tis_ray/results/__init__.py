"""Results files of any framework: fused into one, or read image by image, without a model.

`fuse_files(files, data, out)` is what `tis-ray fuse` runs; `per_image(files, data)` gives what each file holds of each
image; `open_files` reads the YAML that says which files there are.
"""

from tis_ray.results.opening import open_files
from tis_ray.results.reading import per_image
from tis_ray.results.run import Summary, fuse_files

__all__ = ["Summary", "fuse_files", "open_files", "per_image"]
