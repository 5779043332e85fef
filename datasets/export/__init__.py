"""What leaves with a data set: the rows known at a time, a manifest, a description in Croissant."""
