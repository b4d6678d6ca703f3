"""What must hold before step 1: gates, reference, certificate."""
