"""For all tests."""

# Its pytest plugin would else import it in the summary of a run without any of its tests, deep in the stack, where Python 3.11.7
# sometimes fails to parse it (SystemError: AST constructor recursion depth mismatch, python/cpython#106905).
import hypothesis  # noqa: F401
