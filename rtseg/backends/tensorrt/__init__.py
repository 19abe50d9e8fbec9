"""TensorRT and TensorRT-RTX: the libraries, engine files, and running engines on a GPU."""
