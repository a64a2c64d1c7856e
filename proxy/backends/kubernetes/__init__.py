"""The backend for a cluster: one Deployment and one Service for each workspace."""
