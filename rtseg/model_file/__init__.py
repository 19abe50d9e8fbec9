"""The model file: its metadata, its ONNX graph, and the edits that rtseg makes to that graph."""
