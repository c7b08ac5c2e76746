"""Formats of submissions: each module has a `SUFFIX` and `open_writer(path, *, options)`, a context manager.

What it yields is called once for each image, in order: `write(instances, image=..., categories=..., size_hw=...)`, and
returns how many instances it wrote. The file appears when the context ends without an error.
"""
