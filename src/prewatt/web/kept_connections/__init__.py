"""The database backend of a web process: connections that outlive the threads of requests."""
