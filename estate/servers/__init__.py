"""One module a server: how it is started, how its state is changed, how a fault is put into it."""
