"""From the Hub and to it: repos as sources, and pushes of what has passed. `huggingface_hub` is loaded when it is asked
for something, never before.
"""
