"""Real servers for tests, drills and benchmarks: installed once, started on loopback, thrown away afterwards."""
