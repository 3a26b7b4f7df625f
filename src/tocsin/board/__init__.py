"""What is known now and what happened: entries, history, transitions, the SQLite store."""
