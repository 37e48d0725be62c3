"""A real Kubernetes and a real object store on one Linux machine, for the demo and the tests."""
