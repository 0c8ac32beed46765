"""What a load process writes down. Imported by the client and by the Locust events.

recorder    counts and rows of a process            writer      its parts on disk
rows        rows packed while messages arrive       statistics  batches into Locust's table
listeners   others on Locust's `events.request`     clocks      a worker's clock against its master's
shipping    parts of workers on other machines
"""
