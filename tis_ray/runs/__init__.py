"""The folder of a batch run: what was found in each image, in Parquet shards that are there whole or not at all.

Its shards are the only record of what is done: a run goes on with the shards that are missing. Fusing anew, writing
formats, tuning and error analysis read them, without a model and without Ray.
"""
