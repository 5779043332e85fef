"""Slides as clinics sent them: archives, folders of several files, DICOM series."""
