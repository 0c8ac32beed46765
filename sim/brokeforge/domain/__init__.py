"""Models, statuses, database and sample data. Imports nothing of the application."""
