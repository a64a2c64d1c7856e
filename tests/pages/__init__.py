"""What people and programs are told: pages, their script, problems."""
