"""What programs of others ask and do, as JSON under ``/api/v1``: documented by its own OpenAPI document."""
