"""A reading and what a pathologist made of it, as others take it: PDF for people, FHIR for records, QuPath GeoJSON."""
