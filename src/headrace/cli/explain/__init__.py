"""`headrace explain`: why an object is not Ready, down to the one thing that has to change.

`verdict` judges single objects (pure), `walk` follows what they wait for, `text` prints the chain.
"""
