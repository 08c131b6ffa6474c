"""The service's HTTP interface: validates requests, queues jobs, returns their state. Depends on no Ray."""
