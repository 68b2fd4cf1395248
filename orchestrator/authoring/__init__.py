"""What users write: jobs, commands, workflows, and how a graph of them is collected."""
