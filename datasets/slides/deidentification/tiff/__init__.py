"""Copies of slides in TIFF containers of every vendor: written anew from a closed list of tags, nothing else."""
