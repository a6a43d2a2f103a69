"""Workers: tasks, the versions that answer, media, backends, model folders. See README.md."""
