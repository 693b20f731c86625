"""The object store: a verified, parallel and resumable client, its settings, and leases."""
