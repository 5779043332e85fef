"""Copies of DICOM slides by the Basic Application Confidentiality Profile of PS3.15."""
