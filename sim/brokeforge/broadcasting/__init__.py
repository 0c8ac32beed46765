"""Events, channels and the way from a change to the broadcaster. Imported by the application and its handlers."""
