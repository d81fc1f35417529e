"""What headrace says about an object: conditions, status fields, events. The only place that writes any of them.

`summary` decides what a run means, `conditions` how conditions change, `writer` sends one patch, `events` one event;
`redaction` takes secrets out of all of it.
"""
