"""What runs user code: planner, template, workers."""
