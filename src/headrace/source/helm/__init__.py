"""Helm repositories and charts: indexes fetched and normalised, versions chosen, charts pulled and packaged."""
