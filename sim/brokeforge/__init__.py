"""The application of the pattern: models that broadcast, channels, resources, jobs, routes."""
