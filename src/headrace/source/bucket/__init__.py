"""Object storage: what is in a bucket, and its content. One module for each protocol behind one border (`storage`)."""
