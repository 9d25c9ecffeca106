"""The poll loop: a thread and a task per bus, and what becomes of each sample."""
