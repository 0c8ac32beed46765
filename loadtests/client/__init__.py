"""The Echo client on gevent: sockets, HTTP, frames, pages. Imported by the Locust users."""
