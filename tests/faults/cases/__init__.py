"""The cases, a file for each thing that fails."""
