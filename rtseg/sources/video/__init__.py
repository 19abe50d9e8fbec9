"""Video files, URLs and network cameras, through PyAV."""
