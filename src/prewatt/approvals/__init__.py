"""What one administrator proposes and another approves: see README.md."""
