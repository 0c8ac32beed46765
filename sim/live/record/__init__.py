"""A real provisioning command run and recorded as a trace. Imported by the commands only."""
