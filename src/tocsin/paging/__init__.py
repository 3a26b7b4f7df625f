"""From a bad probe to the right page: rules, runbook links, lint, inhibition, drills."""
