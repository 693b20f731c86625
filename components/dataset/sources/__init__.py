"""The sources of a dataset: addresses, credentials, downloads and archives."""
