"""Vision transformers: loading them, and one small adapter per family that exposes blocks and neurons."""
