"""The disk tier of the prefix cache: what it saves, what it costs, and what a full one costs."""
