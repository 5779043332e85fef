"""The console: pages for people, built from serving/console/web."""
