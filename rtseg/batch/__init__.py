"""Labels a library of videos: segments of all of them, on any number of processes and machines, resumable."""
