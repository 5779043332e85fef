"""DICOM whole slide microscopy images: elements, instances, series, frames and their pixels."""
