"""Makes model files of segmentation networks that other programs exported to ONNX."""
