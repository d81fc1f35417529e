"""What makes reconciles happen: every read is a subscription, waiting holds no worker, every run leaves a trace.

`Engine` watches the kinds of its controllers, queues their objects, runs them through `Runner` with a `RunScope`
each, and wakes them when what they read has moved. It knows nothing about sources, renderers or conditions.
"""
