"""The control loop's side effects: the API server, object stores, journals, the work queue."""
