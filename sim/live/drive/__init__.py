"""The open-loop publisher: updates become requests at their intended times.

Imported by `live.measure`, `live.doctor` and the commands.
"""
