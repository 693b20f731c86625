"""Where a dataset comes from: addresses, logins, downloads, archives."""
