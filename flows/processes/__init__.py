"""Child processes: kept alive, ended when their parent dies, and stopped together with all that they have started."""
