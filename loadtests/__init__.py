"""The load test: pages of real subscribers as Locust users.

    locustfile   which pages of the scenario, in which shape        alone   Locust without configuration files
    settings     what the environment says about a run              shapes  how many subscribers, and when
    users        EchoUser, the base class of a page                 attributes  what its attributes must be
    pages        the pages of the pattern, from a scenario          events  what happens when a run begins and ends
    client/      one page as a browser has it, on gevent: connection, HTTP, WebSocket, and the loop that all pages share
    recording/   what is written down: parts, histograms, Locust's statistics, clock offsets
    screen/      what is shown meanwhile: a tab of Locust's web interface, Prometheus, OpenTelemetry

`import locust` patches the whole process, so nothing that a notebook or `sim` imports may import this package.
"""
