"""The only package that talks to API servers: configuration, client, discovery, list + watch + cache, leader
election.

Bytes go in and bytes come out; of an object only the metadata is decoded here.
"""
