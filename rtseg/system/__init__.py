"""What rtseg asks of the machine: files, displays, the NVIDIA driver, OpenCV."""
