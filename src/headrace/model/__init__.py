"""The values that cross the stages of the engine, and the two protocols that connect them.

Nothing in here does any input or output; every other package may import it.
"""
