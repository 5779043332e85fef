"""DICOMweb: scanners store their slides by STOW-RS."""
