"""The pipeline, one file a stage, in order: `sNN_name.py` writes the run's folder `NN_name`."""
