"""The routes: what each request does. Imported by `brokeforge.application` only."""
