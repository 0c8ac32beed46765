"""What a load test shows while it runs: a tab in Locust's web interface, and an endpoint for Prometheus."""
