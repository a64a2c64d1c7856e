"""What goes wrong, and what must come of it: nothing lost, nobody else hurt, healed by itself, visible in a metric."""
